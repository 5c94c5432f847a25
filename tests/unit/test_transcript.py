"""The transcript's files: each is read back, and says what the transcript says."""

import html
import json
import re
import tracemalloc
from dataclasses import FrozenInstanceError, replace
from itertools import pairwise

import pysubs2
import pytest
from bucketscribe.records import Warning
from bucketscribe.transcript import FORMATS, Segment, Transcript, Word, render
from pydantic import ValidationError

NASTY = [
    "Tom & Jerry say 1 < 2 --> 3 > 2",
    "<i>not italic</i> </v> <script>",
    "{\\an8}braces {and} more",
    "C:\\New\\names\\here",
    "two\nlines\r\nand\ta tab\x00\x1b",
    "2024",
    "日本語 · Grüße · 🎙",
    "00:00:01,000 --> 00:00:02,000",
]


def transcript(*texts: str, speaker: str | None = None) -> Transcript:
    segments = tuple(
        Segment(id=n, start=n * 2.0, end=n * 2 + 1.5, text=text, speaker=speaker)
        for n, text in enumerate(texts, 1)
    )
    return Transcript(
        id="0199",
        text=" ".join(texts),
        language="en",
        language_probability=0.99,
        duration=len(texts) * 2 + 2,
        segments=segments,
        engine="faster-whisper",
        model="base",
    )


def plain(text: str) -> str:
    """A text as a reader sees it: one line, no control characters, no joiners."""
    return re.sub(r"[\x00-\x1f\u2060]", "", " ".join(text.split()))


def cues(written: str, mark: str) -> list[tuple[str, str, str]]:
    """A strict reader of SRT and WebVTT: number, times, lines of text, an empty line; nothing else."""
    blocks = written.removeprefix("WEBVTT\n\n").removesuffix("\n\n").split("\n\n")
    found = []
    for number, block in enumerate(filter(None, blocks), 1):
        counted, times, *shown = block.split("\n")
        assert shown
        assert all(shown)
        assert counted == str(number)
        match = re.fullmatch(rf"(\d\d:\d\d:\d\d\{mark}\d\d\d) --> (\d\d:\d\d:\d\d\{mark}\d\d\d)", times)
        assert match, times
        found.append((match[1], match[2], " ".join(shown)))
    return found


@pytest.mark.parametrize("format_", FORMATS)
def test_an_empty_transcript_gives_a_valid_empty_file(format_: str) -> None:
    written = render(transcript(), format_).decode()
    match format_:
        case "json":
            assert json.loads(written)["segments"] == []
        case "vtt":
            assert written.startswith("WEBVTT\n")
            assert written.strip() == "WEBVTT"
        case "tsv":
            assert written == "start\tend\ttext\n"
        case "ass":
            assert len(pysubs2.SSAFile.from_string(written, format_="ass")) == 0
        case _:
            assert written == ""


def test_srt_keeps_every_text_and_no_player_finds_a_tag_in_it() -> None:
    written = render(transcript(*NASTY), "srt").decode()
    found = cues(written, ",")
    assert [plain(text) for _, _, text in found] == [plain(t).replace("-->", "->") for t in NASTY]
    assert not re.search(r"< */? *[a-zA-Z]|\{\\", written)
    assert written.count("-->") == len(NASTY)


def test_vtt_escapes_what_the_format_reserves() -> None:
    written = render(transcript(*NASTY), "vtt").decode()
    found = cues(written, ".")
    assert [html.unescape(text) for _, _, text in found] == [plain(t) for t in NASTY]
    assert written.count("-->") == len(NASTY)
    assert not any(sign in text for _, _, text in found for sign in "<>")


def test_ass_keeps_braces_and_backslashes_from_being_commands() -> None:
    read = pysubs2.SSAFile.from_string(render(transcript(*NASTY), "ass").decode(), format_="ass")
    wanted = [plain(t).replace("{", "\uff5b").replace("}", "\uff5d") for t in NASTY]
    assert [plain(event.plaintext) for event in read] == wanted


@pytest.mark.parametrize("format_", ["srt", "vtt", "ass"])
def test_cues_come_in_order_and_end_after_they_start(format_: str) -> None:
    made = transcript("a", "b", "c")
    zero = Segment(id=9, start=3.0, end=3.0, text="no time at all")
    made = made.model_copy(update={"segments": (*reversed(made.segments), zero)})
    read = pysubs2.SSAFile.from_string(render(made, format_).decode(), format_=format_)
    assert [event.plaintext for event in read] == ["a", "no time at all", "b", "c"]
    assert all(event.end > event.start for event in read)
    assert [event.start for event in read] == sorted(event.start for event in read)


def test_cue_times_are_exact_to_the_millisecond() -> None:
    made = transcript("a").model_copy(
        update={"segments": (Segment(id=1, start=3661.0014, end=3662.9996, text="a"),)}
    )
    assert "01:01:01,001 --> 01:01:03,000" in render(made, "srt").decode()
    assert "01:01:01.001 --> 01:01:03.000" in render(made, "vtt").decode()
    assert render(made, "tsv").decode().splitlines()[1] == "3661001\t3663000\ta"


def test_tsv_has_three_columns_whatever_was_said() -> None:
    header, *rows = render(transcript(*NASTY), "tsv").decode().splitlines()
    assert header == "start\tend\ttext"
    assert [row.split("\t") for row in rows] == [
        [str(n * 2000), str(n * 2000 + 1500), plain(text)] for n, text in enumerate(NASTY, 1)
    ]


def test_txt_has_one_segment_a_line() -> None:
    assert render(transcript(*NASTY), "txt").decode().splitlines() == [plain(text) for text in NASTY]


def test_a_speaker_is_named() -> None:
    made = transcript("Hello.", speaker="SPEAKER_00")
    assert "\n<v SPEAKER_00>Hello.\n" in render(made, "vtt").decode()
    for format_ in ("srt", "txt", "tsv", "ass"):
        assert "SPEAKER_00: Hello." in render(made, format_).decode()


def test_a_speakers_name_cannot_break_out_of_its_voice_span() -> None:
    assert "<v A &amp; B &gt; C>Hi" in render(transcript("Hi", speaker="A & B > C\n"), "vtt").decode()


def test_an_empty_segment_makes_no_cue() -> None:
    assert cues(render(transcript("a", " \n", "b"), "srt").decode(), ",")[1][2] == "b"


def test_a_recording_longer_than_ass_can_tell_is_still_written() -> None:
    made = transcript("a").model_copy(
        update={"segments": (Segment(id=1, start=40000, end=40002, text="late"),)}
    )
    assert "late" in render(made, "ass").decode()


def test_json_comes_back_as_it_was() -> None:
    word = Word(start=2.0, end=2.4, word=" Grüße", probability=0.5, speaker="SPEAKER_00")
    made = transcript("Grüße").model_copy(
        update={
            "segments": (Segment(id=1, start=2.0, end=2.4, text="Grüße", words=(word,)),),
            "warnings": (Warning(code="diarization_failed", message="No."),),
            "timings": {"decode": 0.123},
        }
    )
    written = render(made, "json")
    assert Transcript.model_validate_json(written) == made
    assert json.loads(written)["schema"] == 1
    assert "Grüße".encode() in written


def test_seconds_are_rounded_to_milliseconds_and_never_negative_or_endless() -> None:
    assert Word(start=1.23456, end=2, word="a", probability=1).start == 1.235
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValidationError):
            Word(start=wrong, end=2, word="a", probability=1)


def test_a_transcript_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        transcript("a").text = "b"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        transcript("a").segments[0].text = "b"  # type: ignore[misc]


LONG = "And so my fellow Americans, ask not what your country can do for you"


@pytest.mark.parametrize("format_", ["srt", "vtt", "ass"])
def test_a_long_text_is_shown_on_two_lines(format_: str) -> None:
    read = pysubs2.SSAFile.from_string(render(transcript(LONG), format_).decode(), format_=format_)
    assert [event.plaintext for event in read] == [
        "And so my fellow Americans,\nask not what your country can do for you"
    ]


@pytest.mark.parametrize("format_", ["txt", "tsv"])
def test_a_long_text_stays_on_one_line_of_a_table(format_: str) -> None:
    assert LONG in render(transcript(LONG), format_).decode()


@pytest.mark.parametrize("format_", ["srt", "vtt", "ass"])
def test_a_cue_can_be_read_and_ends_before_the_next(format_: str) -> None:
    times = [(1.0, 1.2), (5.0, 5.2), (5.4, 5.4), (5.4, 5.4), (5.4, 9.0)]
    segments = tuple(Segment(id=n, start=s, end=e, text=str(n)) for n, (s, e) in enumerate(times))
    made = transcript().model_copy(update={"segments": segments})
    read = pysubs2.SSAFile.from_string(render(made, format_).decode(), format_=format_)
    assert [(event.start, event.end) for event in read][:2] == [
        (1000, 1830 if format_ == "ass" else 1833),
        (5000, 5400),
    ]
    assert all(one.start < one.end <= other.start for one, other in pairwise(read))


def test_speakers_who_talk_at_once_are_shown_at_once() -> None:
    both = tuple(Segment(id=n, start=1.0 + n, end=6.0 - n, text="Hm.", speaker=f"S{n}") for n in range(2))
    read = pysubs2.SSAFile.from_string(
        render(transcript().model_copy(update={"segments": both}), "srt").decode(), format_="srt"
    )
    assert [(event.start, event.end) for event in read] == [(1000, 6000), (2000, 5000)]


def two_hours() -> Transcript:
    def words(number: int) -> tuple[Word, ...]:
        return tuple(
            Word(start=number * 4 + n / 4, end=number * 4 + n / 4 + 0.2, word=f" word{n}", probability=0.5)
            for n in range(11)
        )

    segment = Segment(id=0, start=0, end=0, text=LONG)
    segments = tuple(
        replace(segment, id=n, start=n * 4.0, end=n * 4 + 3.5, words=words(n)) for n in range(1_800)
    )
    return transcript().model_copy(update={"segments": segments})


def test_an_hour_takes_a_few_megabytes() -> None:
    tracemalloc.start()
    try:
        made = two_hours()
        kept, _ = tracemalloc.get_traced_memory()
        assert kept < 300 * 1_800 * 11
        for format_ in FORMATS:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            render(made, format_)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 2 * 4e6
    finally:
        tracemalloc.stop()


def test_an_unknown_format_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        render(transcript(), "docx")


def test_what_is_wrong_with_a_transcript_is_told_without_its_words() -> None:
    with pytest.raises(ValueError, match="segments") as refused:
        Transcript.model_validate({"text": "not for a log", "segments": ["not for a log"]})
    assert "not for a log" not in str(refused.value)
