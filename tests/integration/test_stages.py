"""A run's stages beside the words: alignment, speakers, and the turn at the engine.

The bucket and the recordings are real. The engines are stand-ins that hear what they are told to: what is
tested here is what a run makes of what an engine does, or does not do.
"""

import errno
import gc
import json
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError
from bucketscribe.queue import Job
from bucketscribe.records import Record
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.transcript import FORMATS, Transcript, Word
from bucketscribe.worker import run as running
from bucketscribe.worker.engines.base import (
    SAMPLE_RATE,
    EngineFailed,
    Heard,
    ModelUnavailable,
    OutOfMemory,
    Passage,
    Report,
    Request,
    Samples,
    StageSkipped,
    Turn,
)
from bucketscribe.worker.run import Run, RunFailed
from bucketscribe.worker.status import Status, Stopped
from bucketscribe.worker.turns import Turns

from tests.conftest import LaterBucket
from tests.integration.conftest import Uploader
from tests.integration.test_transcriptions import claimed
from tests.media.make import encode

SECONDS = 22
WINDOW_SECONDS = 5
A, B = "SPEAKER_00", "SPEAKER_01"
UNAVAILABLE = StageSkipped("alignment_unavailable", "There is no alignment model for English: set one.")


class Died(BaseException):
    """A stand-in for kill -9: nothing of ours catches it."""


def nothing() -> None:
    """What happens where nothing does."""


class StandInEngine:
    """Hears a word a second, numbered by where in the recording it is, and remembers what it was asked.

    It knows the place from the sound: second n of the recording is n thousandths loud.
    """

    name = "stand-in"

    def __init__(
        self,
        aligner: "StandInAligner | None" = None,
        diarizer: "StandInDiarizer | None" = None,
        die_at: Callable[[], None] = nothing,
    ) -> None:
        self.aligner = aligner
        self.diarizer = diarizer
        self.die_at = die_at
        self.calls: list[str] = []

    def load(self, model: str) -> None:
        self.calls.append("load")

    def works(self) -> bool:
        return True

    def speaks(self, model: str, language: str) -> bool:
        self.calls.append("speaks")
        return True

    def language(self, audio: Samples, model: str) -> tuple[str, float]:
        self.calls.append("language")
        return "en", 1.0

    def transcribe(self, audio: Samples, request: Request, report: Report) -> Heard:
        self.calls.append("transcribe")
        report(0.0)
        self.die_at()
        words: list[Word] = []
        step = SAMPLE_RATE // 2
        for at in range(0, len(audio) - step + 1, step):
            number = place(audio[at : at + step])
            if words and words[-1].word == number:
                continue
            start = at / SAMPLE_RATE
            words.append(Word(start=start, end=start + 0.4, word=number, probability=1))
            report(at / len(audio))
        report(1.0)
        seconds = len(audio) / SAMPLE_RATE
        half = len(words) // 2
        passages = [
            Passage(part[0].start, part[-1].end, part)
            for part in (tuple(words[:half]), tuple(words[half:]))
            if part
        ]
        return Heard(tuple(passages), ((0.0, seconds),))


def place(samples: Samples) -> str:
    """Which second of the recording it is, as a word."""
    return f" n{round(float(np.median(samples)) * 1000)}"


class StandInAligner:
    """Puts every word a tenth of a second later. What `does` raises comes instead; what it gives stays."""

    def __init__(self, does: Callable[[], object] = nothing) -> None:
        self.does = does
        self.calls = 0
        self.loads: Callable[[], None] = nothing

    def load(self, language: str) -> None:
        assert language == "en"
        self.loads()

    def align(self, audio: Samples, heard: Heard, language: str, report: Report) -> Heard:
        assert language == "en"
        self.calls += 1
        report(0.0)
        stay = self.does()
        passages = []
        for number, passage in enumerate(heard.passages):
            report((number + 1) / len(heard.passages))
            if number == stay:
                passages.append(passage)
                continue
            words = tuple(replace(word, start=word.start + 0.1) for word in passage.words)
            passages.append(Passage(passage.start, passage.end, words, aligned=True))
        return Heard(tuple(passages), heard.speech)


class StandInDiarizer:
    """Two speakers who change every ten seconds; what `does` raises or gives comes instead."""

    def __init__(self, does: Callable[[Report], object] = lambda _: None) -> None:
        self.does = does
        self.calls: list[tuple[int, int | None, int | None]] = []
        self.heard: list[str] = []

    def load(self) -> None:
        return

    def diarize(
        self, audio: Samples, fewest: int | None, most: int | None, report: Report
    ) -> tuple[Turn, ...]:
        self.calls.append((len(audio), fewest, most))
        self.heard = [place(audio[at : at + 8000]) for at in range(0, len(audio), SAMPLE_RATE)]
        report(0.0)
        given = self.does(report)
        report(1.0)
        if isinstance(given, tuple):
            return given
        return tuple(Turn(n * 10.0, (n + 1) * 10.0, A if n % 2 == 0 else B) for n in range(3))


def raising(error: BaseException) -> Callable[..., None]:
    def does(*_: object) -> None:
        raise error

    return does


@pytest.fixture(scope="module")
def recording() -> bytes:
    """A ramp of steps: each second tells its number by its level."""
    levels = (np.arange(SECONDS) / 1000).repeat(SAMPLE_RATE).astype(np.float32)
    return encode("wav", levels.reshape(1, -1), SAMPLE_RATE)


@pytest.fixture
def windowed(service: Service) -> Service:
    """The service with the shortest windows."""
    settings = service.settings.model_copy(update={"window_seconds": WINDOW_SECONDS})
    return Service.of(settings, service.bucket, service.queue)


type Begin = Callable[..., Run]


@pytest.fixture
def begin(uploader: Uploader, windowed: Service, recording: bytes) -> Begin:
    """A run of a new recording, or another attempt at one of `record`."""

    def begin(
        engine: StandInEngine,
        record: Record | None = None,
        status: Status | None = None,
        settings: Settings | None = None,
        turn: Any = None,
        **options: Any,
    ) -> Run:
        if record is None:
            record = claimed(windowed, uploader.send(recording, **options).id).record
        settings = settings or windowed.settings
        return Run(settings, windowed.bucket, engine, record, status or Status(), turn)

    return begin


def numbered(transcript: Transcript) -> list[str]:
    return [word.word for segment in transcript.segments for word in segment.words]


WORDS = [f" n{second}" for second in range(SECONDS)]


def codes(transcript: Transcript) -> list[str]:
    return [warning.code for warning in transcript.warnings]


def told(transcript: Transcript) -> object:
    return transcript.model_dump(exclude={"id", "timings"})


def files(service: Service, record: Record) -> dict[str, str]:
    """The run's files: name and ETag."""
    prefix = record.results_prefix
    return {entry.key.removeprefix(prefix): entry.etag for entry in service.bucket.listing(prefix)}


def document(service: Service, record: Record, name: str) -> Any:
    found = service.bucket.get(record.results_prefix + name)
    assert found is not None
    return json.loads(found.body)


def test_what_failed_holds_on_to_nothing(begin: Begin) -> None:
    """Such as a model, whose memory the next run needs while this one's end is written."""

    class Model:
        pass

    class Failing(StandInEngine):
        def transcribe(self, audio: Samples, request: Request, report: Report) -> Heard:
            model = Model()
            held.append(weakref.ref(model))
            try:
                raise RuntimeError("it broke")
            except RuntimeError as error:
                raise EngineFailed("it broke") from error

    held: list[weakref.ref[Model]] = []
    with pytest.raises(RunFailed) as failed:
        begin(Failing()).finish()
    gc.collect()
    assert failed.value.__cause__ is not None
    assert [model() for model in held] == [None]


# Alignment


def test_words_have_the_times_of_the_alignment(begin: Begin) -> None:
    plain = begin(StandInEngine()).finish().transcript
    aligned = begin(StandInEngine(StandInAligner())).finish().transcript
    assert numbered(plain) == numbered(aligned) == WORDS
    before, after = ([w.start for s in made.segments for w in s.words] for made in (plain, aligned))
    assert after == pytest.approx([start + 0.1 for start in before])
    assert codes(aligned) == []
    assert set(aligned.timings) == {"load", "decode", "language", "transcribe", "align"}


def test_a_translation_is_not_aligned(begin: Begin) -> None:
    aligner = StandInAligner()
    transcript = begin(StandInEngine(aligner), task="translate", model="base").finish().transcript
    assert (aligner.calls, numbered(transcript)) == (0, WORDS)


def test_a_language_without_an_alignment_model_is_told_once_and_asked_for_once(begin: Begin) -> None:
    aligner = StandInAligner(raising(UNAVAILABLE))
    transcript = begin(StandInEngine(aligner)).finish().transcript
    assert numbered(transcript) == WORDS
    (warning,) = transcript.warnings
    assert (warning.code, warning.message) == (UNAVAILABLE.code, str(UNAVAILABLE))
    assert aligner.calls == 1


@pytest.mark.parametrize(
    "error",
    [
        StageSkipped("alignment_failed", "Too little memory."),
        RuntimeError("shape"),
        MemoryError(),
        OutOfMemory("no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failing_alignment_leaves_the_words_and_is_told_once(begin: Begin, error: Exception) -> None:
    aligner = StandInAligner(raising(error))
    transcript = begin(StandInEngine(aligner)).finish().transcript
    assert numbered(transcript) == WORDS
    assert codes(transcript) == ["alignment_failed"]
    assert str(error) in transcript.warnings[0].message
    assert aligner.calls > 1


def test_each_window_s_own_failure_is_one_warning(begin: Begin) -> None:
    numbers = iter(range(100))

    def fail() -> None:
        raise RuntimeError(f"shape {next(numbers)}")

    assert codes(begin(StandInEngine(StandInAligner(fail))).finish().transcript) == ["alignment_failed"]


def test_an_alignment_that_changes_words_is_not_believed(begin: Begin) -> None:
    class Forgetful(StandInAligner):
        """Loses a passage."""

        def align(self, audio: Samples, heard: Heard, language: str, report: Report) -> Heard:
            return replace(heard, passages=heard.passages[1:])

    transcript = begin(StandInEngine(Forgetful())).finish().transcript
    assert numbered(transcript) == WORDS
    assert codes(transcript) == ["alignment_failed"]


def test_passages_that_could_not_be_aligned_are_counted(begin: Begin, windowed: Service) -> None:
    run = begin(StandInEngine(StandInAligner(lambda: 0)))
    transcript = run.finish().transcript
    assert codes(transcript) == ["alignment_partial"]
    windows = [
        document(windowed, run.record, name) for name in files(windowed, run.record) if "windows/" in name
    ]
    passages = sum(window["passages"] for window in windows)
    assert f"In {len(windows)} of {passages} passages" in transcript.warnings[0].message
    assert len(windows) < passages <= 2 * len(windows)
    assert numbered(transcript) == WORDS


def test_a_run_canceled_while_it_aligns_stops_and_saves_nothing_of_that_window(
    begin: Begin, windowed: Service
) -> None:
    status = Status()
    run = begin(StandInEngine(StandInAligner(lambda: status.stop.set())), status=status)
    with pytest.raises(Stopped):
        run.finish()
    assert files(windowed, run.record).keys() == {"peaks.json", "plan.json"}
    assert status.progress.stage == "aligning"


def test_progress_never_goes_back(begin: Begin) -> None:
    class Watched(Status):
        """Remembers all it told."""

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "progress":
                seen.append((value.stage, value.percent))
            super().__setattr__(name, value)

    seen: list[tuple[str, int]] = []
    begin(StandInEngine(StandInAligner(), StandInDiarizer()), status=Watched(), diarize=True).finish()
    hearing = [percent for stage, percent in seen if stage in ("transcribing", "aligning")]
    assert hearing == sorted(hearing)
    assert (hearing[0], hearing[-1]) == (0, 100)
    stages = [stage for stage, _ in seen if stage != "loading"]  # which is looked at again and again
    order = [stage for stage, after in pairwise([*stages, ""]) if stage != after]
    assert order[-4:] == ["aligning", "decoding", "diarizing", "saving"]
    assert all(one[1] <= other[1] for one, other in pairwise(seen) if one[0] == other[0] == "diarizing")


def test_killed_at_every_window_no_word_is_lost_or_doubled(begin: Begin, windowed: Service) -> None:
    engine = StandInEngine(StandInAligner(), StandInDiarizer())
    whole = begin(engine, diarize=True).finish().transcript
    windows = engine.calls.count("transcribe")
    assert windows >= 4

    deaths = iter(range(10 * windows))

    def die_every_second_time() -> None:
        if next(deaths) % 2:
            raise Died

    dying = StandInEngine(StandInAligner(), StandInDiarizer(), die_every_second_time)
    run = begin(dying, diarize=True)
    saved: dict[str, str] = {}
    for _ in range(windows - 1):
        with pytest.raises(Died):
            begin(dying, run.record).finish()
        now = files(windowed, run.record)
        assert saved.items() <= now.items()
        # Each attempt saves one window and dies in the next.
        assert len(now) == max(len(saved), 2) + 1
        saved = now
    transcript = begin(StandInEngine(StandInAligner(), StandInDiarizer()), run.record).finish().transcript
    assert saved.items() <= files(windowed, run.record).items()
    assert numbered(transcript) == WORDS
    assert told(transcript) == told(whole)


# Speakers


def test_speakers_are_in_every_format(begin: Begin, windowed: Service) -> None:
    diarizer = StandInDiarizer()
    run = begin(StandInEngine(diarizer=diarizer), diarize=True, min_speakers=2, max_speakers=4)
    transcript = run.finish().transcript
    assert diarizer.calls == [(SECONDS * SAMPLE_RATE, 2, 4)]
    assert diarizer.heard == WORDS
    assert codes(transcript) == []
    assert {"decode", "transcribe", "diarize"} < set(transcript.timings)
    assert numbered(transcript) == WORDS
    speakers = [A if second // 10 % 2 == 0 else B for second in range(SECONDS)]
    assert [word.speaker for segment in transcript.segments for word in segment.words] == speakers
    for segment in transcript.segments:
        assert {word.speaker for word in segment.words} == {segment.speaker}
    changes = [speaker for speaker, _ in groupby(segment.speaker for segment in transcript.segments)]
    assert changes == [A, B, A]

    made = {}
    for format in FORMATS:
        found = windowed.bucket.get(f"{run.record.results_prefix}transcript.{format}")
        assert found is not None
        made[format] = found.body.decode()
    shown = json.loads(made["json"])["segments"]
    assert [segment["speaker"] for segment in shown] == [s.speaker for s in transcript.segments]
    assert shown[0]["words"][0]["speaker"] == A
    for segment in transcript.segments:
        line = f"{segment.speaker}: {segment.text}"
        assert line in made["txt"].splitlines()
        assert any(row.endswith(f"\t{line}") for row in made["tsv"].splitlines())
        assert line in made["srt"].replace("\n", " ")
        assert line in made["ass"].replace(r"\N", " ")
        assert f"<v {segment.speaker}>{segment.text}" in made["vtt"].replace("\n", " ")


def test_speakers_need_no_times_of_words_in_the_transcript(begin: Begin) -> None:
    engine = StandInEngine(diarizer=StandInDiarizer())
    transcript = begin(engine, diarize=True, word_timestamps=False).finish().transcript
    assert numbered(transcript) == []
    assert {segment.speaker for segment in transcript.segments} == {A, B}
    assert (
        " ".join(segment.text for segment in transcript.segments) == transcript.text == "".join(WORDS).strip()
    )


def test_nobody_is_told_apart_who_was_not_to_be(begin: Begin, windowed: Service) -> None:
    diarizer = StandInDiarizer()
    run = begin(StandInEngine(diarizer=diarizer))
    assert {segment.speaker for segment in run.finish().transcript.segments} == {None}
    assert diarizer.calls == []
    assert "speakers.json" not in files(windowed, run.record)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (
            StageSkipped("diarization_unavailable", "Accept the licence, and set a token."),
            "diarization_unavailable",
        ),
        (StageSkipped("diarization_failed", "Too little memory."), "diarization_failed"),
        (RuntimeError("shape"), "diarization_failed"),
        (MemoryError("no"), "diarization_failed"),
        (OutOfMemory("no"), "diarization_failed"),
        (OSError(errno.EIO, "disk"), "diarization_failed"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_transcript_is_not_lost_for_want_of_speakers(
    begin: Begin, windowed: Service, error: Exception, code: str
) -> None:
    run = begin(StandInEngine(diarizer=StandInDiarizer(raising(error))), diarize=True)
    transcript = run.finish().transcript
    assert numbered(transcript) == WORDS
    assert codes(transcript) == [code]
    assert str(error) in transcript.warnings[0].message
    assert set(files(windowed, run.record)) >= {f"transcript.{format}" for format in FORMATS}


@pytest.mark.parametrize(
    ("turns", "code"), [((), "no_speakers"), ((Turn(0, float("nan"), A),), "diarization_failed")]
)
def test_turns_that_are_none_are_told(begin: Begin, turns: tuple[Turn, ...], code: str) -> None:
    engine = StandInEngine(diarizer=StandInDiarizer(lambda _: turns))
    run = begin(engine, diarize=True)
    transcript = run.finish().transcript
    assert (numbered(transcript), codes(transcript)) == (WORDS, [code])


def test_a_disk_too_small_for_the_sound_costs_the_speakers_only(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "bucketscribe.worker.soundtrack.shutil.disk_usage", lambda _: type("", (), {"free": 9})
    )
    diarizer = StandInDiarizer()
    transcript = begin(StandInEngine(diarizer=diarizer), diarize=True).finish().transcript
    assert (numbered(transcript), codes(transcript), diarizer.calls) == (WORDS, ["diarization_failed"], [])
    assert "No space left" in transcript.warnings[0].message


def test_a_recording_that_is_gone_before_speakers_are_told_apart_costs_the_speakers_only(
    begin: Begin, windowed: Service
) -> None:
    run = begin(StandInEngine(diarizer=StandInDiarizer(raising(Died()))), diarize=True)
    with pytest.raises(Died):
        run.finish()
    windowed.bucket.delete(run.record.key)
    transcript = begin(StandInEngine(diarizer=StandInDiarizer()), run.record).finish().transcript
    assert (numbered(transcript), codes(transcript)) == (WORDS, ["diarization_failed"])


def test_a_bucket_that_fails_while_speakers_are_told_apart_is_left_to_the_next_attempt(
    begin: Begin, windowed: Service, bucket: LaterBucket
) -> None:
    class Failing(LaterBucket):
        """The real bucket, but it does not give the recording."""

        def read(self, key: str, start: int, end: int, etag: str) -> bytes:
            raise ClientError({"Error": {"Code": "InternalError"}}, "GetObject")

    run = begin(StandInEngine(diarizer=StandInDiarizer(raising(Died()))), diarize=True)
    with pytest.raises(Died):
        run.finish()
    failing = Failing(bucket.client, bucket.name)
    engine = StandInEngine(diarizer=StandInDiarizer())
    with pytest.raises(ClientError):
        Run(windowed.settings, failing, engine, run.record, Status()).finish()
    assert "speakers.json" not in files(windowed, run.record)
    transcript = begin(engine, run.record).finish().transcript
    assert {segment.speaker for segment in transcript.segments} == {A, B}


@pytest.mark.parametrize("at_once", [True, False])
def test_a_run_told_to_stop_while_speakers_are_told_apart_goes_on_with_them(
    begin: Begin, windowed: Service, at_once: bool
) -> None:
    status = Status()
    event = status.stop if at_once else status.stop_after_window
    engine = StandInEngine(diarizer=StandInDiarizer(lambda _: event.set()))
    run = begin(engine, status=status, diarize=True)
    with pytest.raises(Stopped):
        run.finish()
    saved = files(windowed, run.record)
    assert ("speakers.json" in saved) is not at_once
    assert "transcript.json" not in saved
    again = StandInEngine(diarizer=StandInDiarizer())
    transcript = begin(again, run.record).finish().transcript
    assert saved.items() <= files(windowed, run.record).items()
    assert {segment.speaker for segment in transcript.segments} == {A, B}
    # The words were all there: no model was loaded for them.
    assert again.calls == []
    assert len(again.diarizer.calls if again.diarizer else []) == (1 if at_once else 0)


def test_speakers_that_stand_are_taken_as_they_are(begin: Begin, windowed: Service) -> None:
    def overtaken(_: Report) -> None:
        """Meanwhile, a rival finds other speakers."""
        body = b'{"turns": [{"start": 0, "end": 99, "speaker": "SPEAKER_07"}], "timings": {"diarize": 5.0}}'
        windowed.bucket.create(f"{run.record.results_prefix}speakers.json", body)

    run = begin(StandInEngine(diarizer=StandInDiarizer(overtaken)), diarize=True)
    transcript = run.finish().transcript
    assert {segment.speaker for segment in transcript.segments} == {"SPEAKER_07"}
    assert transcript.timings["diarize"] == 5.0


def outlived(
    begin: Begin, windowed: Service, bucket: LaterBucket, deadly: StandInEngine, **options: Any
) -> Transcript:
    """What comes of a recording on which one worker dies after the other."""
    transcriptions = windowed.transcriptions
    run = begin(deadly, **options)
    job = Job("local", run.record.id, 1)
    claim = None
    for _ in range(10):
        record, status = transcriptions.get("local", run.record.id).record, Status()
        assert record.lease is not None
        try:
            return begin(deadly, record, status).finish().transcript
        except Died:
            if claim is not None:
                transcriptions.renew(claim, status.progress, status.windows)
        bucket.later += timedelta(seconds=windowed.settings.lease_seconds + 2)
        claim = transcriptions.claim(job, "the next worker")
        assert claim is not None, "the run has failed"
    raise AssertionError("it is tried forever")


def test_speakers_that_kill_workers_do_not_cost_the_transcript(
    begin: Begin, windowed: Service, bucket: LaterBucket
) -> None:
    """Each attempt dies in the diarization, until the last one leaves it out."""
    diarizer = StandInDiarizer(raising(Died()))
    transcript = outlived(begin, windowed, bucket, StandInEngine(diarizer=diarizer), diarize=True)
    assert numbered(transcript) == WORDS
    assert codes(transcript) == ["diarization_failed"]
    assert "more memory" in transcript.warnings[0].message
    assert len(diarizer.calls) == windowed.settings.max_attempts - 1


def test_an_alignment_that_kills_workers_does_not_cost_the_transcript(
    begin: Begin, windowed: Service, bucket: LaterBucket
) -> None:
    aligner = StandInAligner(raising(Died()))
    transcript = outlived(begin, windowed, bucket, StandInEngine(aligner))
    assert numbered(transcript) == WORDS
    assert codes(transcript) == ["alignment_failed"]
    assert aligner.calls == windowed.settings.max_attempts - 1


def test_where_there_is_one_attempt_only_speakers_are_tried_once(begin: Begin, windowed: Service) -> None:
    settings = windowed.settings.model_copy(update={"max_attempts": 1})
    engine = StandInEngine(diarizer=StandInDiarizer(raising(Died())))
    run = begin(engine, settings=settings, diarize=True)
    with pytest.raises(Died):
        run.finish()
    transcript = begin(engine, run.record, settings=settings).finish().transcript
    assert (numbered(transcript), codes(transcript)) == (WORDS, ["diarization_failed"])


# The turn


def test_a_run_decodes_before_its_turn_and_computes_in_it(begin: Begin) -> None:
    turns = Turns()
    ahead, behind = turns.join(), turns.join()
    ahead.take(nothing)
    waits = threading.Semaphore(0)
    engine = StandInEngine(StandInAligner(), StandInDiarizer())

    class Waiting(Status):
        """Says when it waits."""

        def waiting(self) -> None:
            super().waiting()
            waits.release()

    status = Waiting()
    run = begin(engine, status=status, turn=behind, diarize=True)
    done: list[Transcript] = []
    thread = threading.Thread(target=lambda: done.append(run.finish().transcript))
    begun = time.monotonic()
    thread.start()
    try:
        assert waits.acquire(timeout=30)
        waited_since = time.monotonic()
        # It looks again every half second: so it has waited for one.
        assert all(waits.acquire(timeout=30) for _ in range(2))
        assert (status.progress.stage, engine.calls) == ("waiting", [])
    finally:
        waited = time.monotonic() - waited_since
        ahead.end()
        thread.join(60)
    worked = time.monotonic() - begun - waited
    assert engine.calls[0] == "load"
    (transcript,) = done
    assert numbered(transcript) == WORDS
    assert set(transcript.timings) == {"load", "decode", "language", "transcribe", "align", "diarize"}
    assert sum(transcript.timings.values()) <= worked + 0.01  # each is rounded


def test_the_turn_ends_before_anything_is_put_together(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    def assemble(*_: object, **__: object) -> None:
        following.take(raising(AssertionError("the engine is not free")))
        raise Died

    turns = Turns()
    own, following = turns.join(), turns.join()
    monkeypatch.setattr(running, "assemble", assemble)
    with pytest.raises(Died):
        begin(StandInEngine(diarizer=StandInDiarizer()), turn=own, diarize=True).finish()


@pytest.mark.parametrize("fails", ["load", "transcribe"])
def test_a_run_that_fails_ends_its_turn(begin: Begin, fails: str) -> None:
    class Broken(StandInEngine):
        """Cannot load its model, or has too little memory for it."""

        def load(self, model: str) -> None:
            if fails == "load":
                raise ModelUnavailable("No such model.")

        def transcribe(self, audio: Samples, request: Request, report: Report) -> Heard:
            raise OutOfMemory("Take a smaller model.")

    turns = Turns()
    own, following = turns.join(), turns.join()
    with pytest.raises(RunFailed) as failed:
        begin(Broken(), turn=own).finish()
    failure = failed.value.failure
    expected = {"load": ("model_unavailable", "loading"), "transcribe": ("out_of_memory", "transcribing")}
    assert (failure.code, failure.stage) == expected[fails]
    following.take(raising(AssertionError("the engine is not free")))


def test_a_run_canceled_while_it_waits_stops(begin: Begin) -> None:
    turns = Turns()
    turns.join().take(nothing)
    status = Status()
    engine = StandInEngine()
    run = begin(engine, status=status, turn=turns.join())

    class Cancel(Status):
        """Canceled by the time it waits."""

        def waiting(self) -> None:
            self.stop.set()
            super().waiting()

    run.status = Cancel()
    with pytest.raises(Stopped):
        run.finish()
    assert engine.calls == []


def test_a_finished_run_does_not_wait_for_the_engine(begin: Begin, windowed: Service) -> None:
    run = begin(StandInEngine(diarizer=StandInDiarizer()), diarize=True)
    whole = run.finish()
    for name in files(windowed, run.record):
        if name.startswith("transcript."):
            windowed.bucket.delete(run.record.results_prefix + name)
    turns = Turns()
    turns.join().take(nothing)
    status = Status()
    again = StandInEngine(diarizer=StandInDiarizer())
    assert begin(again, run.record, status, turn=turns.join()).finish() == whole
    assert again.calls == []
