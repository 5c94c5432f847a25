"""What the crash tests share: operations run in children that can be killed, what the sweeps make of what is
left, and the invariants that hold then.

Whatever is left of a case is found by its id, and as long as that is not known, by its owner, who has no
other case.
"""

import io
import json
import traceback
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from bucketscribe.markers import Kind
from bucketscribe.queue import Job, Queue
from bucketscribe.records import Failure, Part, Record, State, Stored
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.sweep import Sweep
from bucketscribe.transcript import FORMATS, Word
from bucketscribe.transcriptions import Claim
from bucketscribe.worker.engines.base import Heard, Passage, Report, Request, Samples, Turn
from bucketscribe.worker.fetching import fetched
from bucketscribe.worker.run import Run, RunFailed
from bucketscribe.worker.status import Status

from tests.conftest import OWNER, LaterBucket
from tests.crash.proxy import FORK, Proxy, Seen, Trap

CHILD_SECONDS = 60.0
LOOKS = 12
JUMP = timedelta(minutes=20)
LONG_JUMP = timedelta(hours=2)
RUN_FILES = frozenset(
    {"peaks.json", "plan.json", "windows/0.json", *(f"transcript.{format}" for format in FORMATS)}
)

Act = Callable[[Service], object]


def _quarter_of_a_second() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(bytes(8_000))
    return file.getvalue()


RECORDING = _quarter_of_a_second()
TEXT = b"These are the minutes of a meeting, and nobody can listen to them.\n" * 20


class StandInAligner:
    """Finds the times as they are."""

    def load(self, language: str) -> None:
        """There is nothing to load."""

    def align(self, audio: Samples, heard: Heard, language: str, report: Report) -> Heard:
        """The same."""
        report(1)
        return heard


class StandInDiarizer:
    """Hears one speaker."""

    def load(self) -> None:
        """There is nothing to load."""

    def diarize(
        self, audio: Samples, fewest: int | None, most: int | None, report: Report
    ) -> tuple[Turn, ...]:
        """Always the same."""
        report(1)
        return (Turn(0, 0.25, "SPEAKER_00"),)


class StandInEngine:
    """Hears the same in every recording, at once: what is tested here is what lies round an engine."""

    name = "stand-in"
    aligner = StandInAligner()
    diarizer = StandInDiarizer()

    def load(self, model: str) -> None:
        """There is nothing to load."""

    def works(self) -> bool:
        """Always."""
        return True

    def speaks(self, model: str, language: str) -> bool:
        """Any."""
        return True

    def language(self, audio: Samples, model: str) -> tuple[str, float]:
        """Always the same."""
        return "en", 1.0

    def transcribe(self, audio: Samples, request: Request, report: Report) -> Heard:
        """The same word in every window."""
        report(1)
        word = Word(start=0, end=0.25, word=" Nothing.", probability=1)
        return Heard((Passage(0, 0.25, (word,)),), ((0, 0.25),))


@dataclass(slots=True)
class Case:
    """One transcription in the middle of something."""

    owner: str
    id: str = ""
    key: str = ""
    upload_id: str = ""
    parts: list[Part] = field(default_factory=list)
    run: int = 1
    claim: Claim | None = None

    @property
    def job(self) -> Job:
        """The run that is under way."""
        return Job(self.owner, self.id, self.run)

    @property
    def held(self) -> Claim:
        """The claim on it."""
        assert self.claim is not None
        return self.claim


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a child: the requests it made, and its traceback where it raised."""

    seen: Seen
    error: str | None


class ChildFailed(AssertionError):
    """A child raised; the message is its traceback."""


class World:
    """The real servers, a proxy before them, and a clock that can be put forward."""

    def __init__(self, settings: Settings, bucket: LaterBucket, proxy: Proxy) -> None:
        self.settings = settings
        self.bucket = bucket
        self.proxy = proxy
        self.service = Service.of(settings, bucket, Queue.connect(settings))
        self._owners = 0

    # Getting there

    def case(self) -> Case:
        """A case of which nothing exists yet."""
        self._owners += 1
        return Case(f"owner-{self._owners}")

    def forget(self, case: Case) -> None:
        """Remove all that is there of a case, so that listings stay short."""
        for key in self.keys(case):
            self.bucket.delete(key)

    def uploading(self, body: bytes = RECORDING, name: str = "talk.wav", *, diarize: bool = False) -> Case:
        """All parts are sent, and complete has not been called."""
        case = Case(OWNER)
        begun = self.service.intake.begin(case.owner, name, None, {"diarize": diarize})
        case.id, case.key, case.upload_id = begun.id, begun.key, begun.upload_id
        self.put_part(case, body)
        return case

    def put_part(self, case: Case, body: bytes) -> None:
        """Send one more part, as the client's presigned PUT would."""
        stored = self.read(case)
        assert stored is not None
        number = len(case.parts) + 1
        answer = self.bucket.client.upload_part(
            Bucket=self.bucket.name,
            Key=case.key,
            UploadId=stored.record.upload_id or "",
            PartNumber=number,
            Body=body,
        )
        case.parts.append(Part(number=number, etag=answer["ETag"]))

    def form(self, body: bytes | None = None) -> Case:
        """A form is handed out; with a body, it has been used."""
        case = Case(OWNER)
        form = self.service.intake.begin_form(case.owner, "talk.wav", None, {})
        case.id, case.key = form.id, form.key
        if body is not None:
            self.bucket.put(case.key, body, "audio/wav")
        return case

    def completing(self, body: bytes = RECORDING, name: str = "talk.wav") -> Case:
        """The parts are promised, and S3 has not been asked."""
        case = self.uploading(body, name)
        self.service.records.change(
            case.owner, case.id, lambda record, now: record.to(State.COMPLETING, parts=tuple(case.parts))
        )
        return case

    def queued(self, *, diarize: bool = False) -> Case:
        """The recording is accepted."""
        case = self.uploading(diarize=diarize)
        complete(self.service, case)
        return case

    def running(self, *, diarize: bool = False) -> Case:
        """A worker holds it."""
        case = self.queued(diarize=diarize)
        case.claim = self.service.transcriptions.claim(case.job, "a worker")
        assert case.claim is not None
        return case

    def completed(self, *, diarize: bool = False) -> Case:
        """Its transcript is there."""
        case = self.running(diarize=diarize)
        work(self.service, case.held)
        return case

    def read(self, case: Case) -> Stored | None:
        """Its record."""
        return self.service.records.read(case.owner, case.id)

    def state(self, case: Case) -> State | None:
        """Its state; None where there is no record."""
        stored = self.read(case)
        return None if stored is None else stored.record.state

    # Dying

    def start(self, act: Act, *, proxy: Proxy | None = None) -> "Child":
        """A child that will run `act` on a service behind the proxy once it is told to go on."""
        return Child((proxy or self.proxy).before(self.settings), self.bucket.later, act)

    def run(self, act: Act, trap: Trap | None = None) -> Outcome:
        """Run `act` in a child. With a trap, the child is killed at its request."""
        child = self.start(act)
        self.proxy.set(trap and Trap(trap.step, trap.moment, child.pid))
        child.go()
        error = child.end()
        return Outcome(self.proxy.seen(), error)

    # Getting over it

    def settle(self) -> None:
        """Let sweeps and a worker do what they do as time goes by, until there is nothing left to do."""
        for look in range(LOOKS):
            if not any(True for _ in self.service.markers.listing()):
                return
            self.bucket.later += JUMP if look < 3 else LONG_JUMP
            Sweep(self.service).run()
            drain(self.service)

    @contextmanager
    def later(self, time: timedelta = timedelta()) -> Iterator[None]:
        """Put the clock forward until the end of the block."""
        before = self.bucket.later
        self.bucket.later += time
        try:
            yield
        finally:
            self.bucket.later = before

    # What must be so

    def keys(self, case: Case) -> list[str]:
        """All keys in the bucket that belong to a case."""
        name = case.id or f"/{case.owner}/"
        return [entry.key for entry in self.bucket.listing("") if name in entry.key]

    def pending(self, case: Case) -> list[str]:
        """Keys of a case's multipart uploads that have not ended."""
        uploads = self.bucket.client.list_multipart_uploads(Bucket=self.bucket.name).get("Uploads", [])
        name = case.id or f"/{case.owner}/"
        return [upload["Key"] for upload in uploads if name in upload["Key"]]

    def wrongs(self, case: Case, ends: frozenset[State | None], run: int | None = None) -> list[str]:
        """What is wrong with a case that has come to its end, which should be one of `ends`.

        With a `run`, that one must be the record's, and the only one with results.
        """
        if not case.id:
            case.id = next((key[-41:-5] for key in self.keys(case) if key.startswith("records/")), "")
        stored = self.read(case)
        state = None if stored is None else stored.record.state
        wrongs = [] if state in ends else [f"it ended {state}, not {sorted(map(str, ends))}"]
        keys = self.keys(case)
        wrongs += [f"left over: {key}" for key in keys if key.startswith("open/")]
        wrongs += [f"left over: an upload of {key}" for key in self.pending(case)]
        recordings = [key for key in keys if key.startswith("uploads/")]
        results = {key for key in keys if key.startswith("results/")}
        if stored is None:
            # A begin that died has been counted, and is so until the day is over.
            wrongs += [f"left over: {key}" for key in keys if not key.startswith("quota/")]
            return wrongs
        record = stored.record
        if record.etag is None:
            wrongs += [f"left over: {key}" for key in recordings]
        else:
            found = self.bucket.find(record.key)
            if found is None or found.etag != record.etag:
                wrongs.append("the recording is lost")
            wrongs += [f"left over: {key}" for key in recordings if key != record.key]
        if state is State.COMPLETED:
            names = RUN_FILES | {"speakers.json"} if record.options.diarize else RUN_FILES
            expected = {f"{record.results_prefix}{name}" for name in names}
            expected |= {f"{record.transcript_prefix}transcript.{format}" for format in FORMATS}
            if not results >= expected or (run is not None and results != expected):
                wrongs.append(f"its results are {sorted(results)}")
            else:
                document = self.bucket.get(f"{record.transcript_prefix}transcript.json")
                named = None if document is None else json.loads(document.body)["speakers"]
                if named != record.speakers:
                    wrongs.append(f"its speakers are {record.speakers}, and in its transcript {named}")
        if run is not None and record.run != run:
            wrongs.append(f"it ended with run {record.run}, not {run}")
        return wrongs


class Child:
    """A forked process that does one thing, and may be killed while it does."""

    def __init__(self, settings: Settings, later: timedelta, act: Act) -> None:
        self._ours, theirs = FORK.Pipe()
        self._process: BaseProcess = FORK.Process(target=_live, args=(settings, later, act, theirs))
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    def go(self) -> None:
        """Let it begin."""
        self._ours.send("go")

    def end(self) -> str | None:
        """Wait until it has ended; its traceback if it raised."""
        assert self._ours.poll(CHILD_SECONDS), "a child neither ends nor dies"
        try:
            error: str | None = self._ours.recv()
        except (EOFError, ConnectionResetError):
            error = None
        self._process.join()
        self._ours.close()
        return error


def _live(settings: Settings, later: timedelta, act: Act, parent: Connection) -> None:
    error = None
    try:
        bucket = LaterBucket.connect(settings)
        bucket.later = later
        service = Service.of(settings, bucket, Queue.connect(settings))
        parent.recv()
        act(service)
    except BaseException:  # noqa: BLE001 -- told to the parent, which decides
        error = traceback.format_exc()
    parent.send(error)


def complete(service: Service, case: Case) -> Record:
    """What a client does when its parts are sent."""
    return service.uploads.complete(case.owner, case.key, case.upload_id, case.parts)


def work(service: Service, claim: Claim) -> None:
    """What a worker does with a claim, without an engine."""
    try:
        if claim.record.to_be_fetched:
            claim = fetched(service.online, claim, Status())
        finished = Run(service.settings, service.bucket, StandInEngine(), claim.record, Status()).finish()
    except RunFailed as failed:
        service.transcriptions.fail(claim, failed.failure)
        return
    service.transcriptions.complete(claim, finished.facts)


def drain(service: Service) -> None:
    """A worker's way through all jobs that can be taken, by their markers, as after a lost queue."""
    for marker in list(service.markers.listing(Kind.JOBS)):
        claim = service.transcriptions.claim(Job(marker.owner, marker.id, marker.run), "another worker")
        if claim is not None:
            work(service, claim)


def cancel(service: Service, case: Case) -> None:
    """What its owner may do."""
    service.transcriptions.cancel(case.owner, case.id)


def retry(service: Service, case: Case) -> None:
    """What its owner may do when it has failed."""
    service.transcriptions.retry(case.owner, case.id)


def rename(service: Service, case: Case) -> None:
    """What its owner may do when there is a transcript that tells speakers apart."""
    service.renaming.rename(case.owner, case.id, "Minutes", {"SPEAKER_00": "Ann"})


def delete(service: Service, case: Case) -> None:
    """What its owner may do at any time."""
    service.transcriptions.delete(case.owner, case.id)


def fail(service: Service, case: Case) -> None:
    """What a worker does with a recording it cannot decode."""
    service.transcriptions.fail(case.held, Failure(code="undecodable", message="It cannot be decoded."))


def failed(world: World) -> Case:
    """A case that has failed."""
    case = world.running()
    fail(world.service, case)
    return case
