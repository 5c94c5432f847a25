"""What is shown of uploads and of the work on them: bars on a terminal of a given size, lines elsewhere."""

import io

import pytest
from bucketscribe.cli.bars import Bars
from bucketscribe.cli.display import Lines
from bucketscribe.cli.output import clean, duration
from bucketscribe.client import Transcription, UploadProgress
from rich.console import Console

from tests.unit.standins import document

MIB = 1024**2


class Terminal(Console):
    """A terminal that remembers."""

    def __init__(self, height: int) -> None:
        super().__init__(file=io.StringIO(), force_terminal=True, width=150, height=height, no_color=True)

    def shown(self) -> str:
        assert isinstance(self.file, io.StringIO)
        return self.file.getvalue()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal(height=5)
    monkeypatch.setattr("bucketscribe.cli.bars.Console", lambda **_: terminal)
    return terminal


def drawn(bars: Bars) -> str:
    """The bars of the work as they are now."""
    paper = Terminal(height=50)
    paper.print(bars._work.get_renderable())
    return paper.shown()


def running(percent: float, seconds_left: float | None = None) -> Transcription:
    progress = {"stage": "transcribing", "percent": percent, "seconds_left": seconds_left}
    return Transcription.model_validate(document("running", progress=progress))


def test_an_upload_that_goes_on_says_where_it_began(terminal: Terminal) -> None:
    with Bars(["talk.mp3"]) as bars:
        bars.sent(0, UploadProgress(40 * MIB, 100 * MIB, resumed=40 * MIB))
    assert "talk.mp3" in terminal.shown()
    assert "resumed at 40 %" in terminal.shown()
    assert "41.9/104.9 MB" in terminal.shown()


def test_an_upload_that_has_to_wait_says_for_what(terminal: Terminal) -> None:
    with Bars(["talk.mp3"]) as bars:
        bars.sent(0, UploadProgress(0, None, waiting="no connection"))
    assert "waiting: no connection" in terminal.shown()


def test_the_work_is_shown_with_the_time_that_is_left(terminal: Terminal) -> None:
    with Bars(["talk.mp3"]) as bars:
        bars.changed(0, running(45, 754.2))
    assert "transcribing" in terminal.shown()
    assert "45%" in terminal.shown()
    assert "12:34 left" in terminal.shown()


def test_there_are_no_more_bars_than_lines(terminal: Terminal) -> None:
    with Bars([f"talk-{number}.mp3" for number in range(9)]) as bars:
        for number in range(9):
            bars.changed(number, running(10))
        assert drawn(bars).count("transcribing") == 2
        bars.changed(0, Transcription.model_validate(document("completed")))
        assert [task.description for task in bars._work.tasks if task.visible] == [
            f"talk-{number}.mp3: transcribing" for number in (1, 2)
        ]


def test_a_log_tells_each_trouble_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(["talk.mp3"])
    for waiting in (None, "no connection", "no connection", None):
        lines.sent(0, UploadProgress(60, 100, resumed=40, waiting=waiting))
    assert capsys.readouterr().err.splitlines() == [
        "uploading talk.mp3 (100 bytes)",
        "resumed at 40 %",
        "waiting: no connection",
    ]


def test_a_log_says_where_an_upload_went_on_once_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(["talk.mp3"])
    for sent, resumed in ((0, 0), (20, 20), (40, 40), (50, 40), (60, 40)):
        lines.sent(0, UploadProgress(sent, 100, resumed=resumed))
    assert capsys.readouterr().err.splitlines() == ["uploading talk.mp3 (100 bytes)", "resumed at 40 %"]


def test_news_of_another_do_not_take_the_place_of_an_uploads_bar(terminal: Terminal) -> None:
    with Bars(["a.mp3", "b.mp3"]) as bars:
        bars.sent(1, UploadProgress(40 * MIB, 100 * MIB))
        bars.changed(0, running(45))
        assert "transcribing" not in terminal.shown()
        bars.changed(1, running(10))
        assert "transcribing" in terminal.shown()


def test_a_lost_server_is_told_while_it_lasts(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    with Bars(["talk.mp3"]) as bars:
        bars.changed(0, running(10))
        bars.waiting("no connection")
        assert "waiting: no connection" in drawn(bars)
        bars.waiting(None)
        assert "waiting" not in drawn(bars)
    lines = Lines(["talk.mp3"])
    for words in ("no connection", "no connection", None, "no connection"):
        lines.waiting(words)
    assert capsys.readouterr().err.splitlines() == ["waiting: no connection"] * 2


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")]
)
def test_durations_look_like_a_clock(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_what_could_steer_a_terminal_is_taken_out() -> None:
    assert clean("a\x1b[2Jb\n\tc\u202e") == "a\ufffd[2Jb c\ufffd"
