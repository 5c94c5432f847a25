"""`transcribe`: send recordings one after another, wait for all, deliver each transcript in the order given.

Threads follow what has been sent, and put what they hear into one queue; everything else, the display
included, happens in the main thread. One recording that fails does not stop the others.
"""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import complete
from .arguments import DEFAULT_SERVER, As, Output, Server, Task
from .display import Display, display
from .output import FAILED, NO_TRANSCRIPT, clean, connected, explained, failure, note, say, senseless
from .places import NotWritten, Place, places
from .recordings import Recording, gather

if TYPE_CHECKING:
    from ..client import Client, ClientError, Transcription, UploadProgress

type News = Transcription | Exception | str | None
"""A new version; or the end of following it; or what has to be waited for, None when that is over."""

HEAR_SECONDS = 1
"""While a recording is uploaded, what has become of the others is heard this often."""

FOLLOWED = 16
"""So many are followed at once: they are transcribed in about the order in which they were sent."""


def transcribe(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="The recordings; - is standard input. A pattern in quotes, such as 'talks/**/*.mp3', is "
            "looked up by us.",
        ),
    ],
    language: Annotated[
        str | None,
        typer.Option(help="Language code such as en; found out if unset.", autocompletion=complete.languages),
    ] = None,
    model: Annotated[str | None, typer.Option(help="One of the server's models.")] = None,
    task: Annotated[Task | None, typer.Option(help="`translate` is into English.")] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Text that sets style and spelling of names.")
    ] = None,
    hotwords: Annotated[str | None, typer.Option(metavar="TEXT", help="Words to expect.")] = None,
    word_timestamps: Annotated[bool | None, typer.Option(help="Times for each word; the default.")] = None,
    diarize: Annotated[bool | None, typer.Option(help="Tell speakers apart, where the engine can.")] = None,
    min_speakers: Annotated[int | None, typer.Option(min=1, help="At least so many speakers.")] = None,
    max_speakers: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    webhook_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Told of the end by a signed request.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Call the recording so, such as talk.mp3; for standard input.")
    ] = None,
    format: As = None,
    output: Output = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Print the id as soon as a recording is uploaded.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print a line of JSON for each recording instead of its transcript."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show no progress, only what is wrong.")
    ] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Upload recordings; print or save their transcripts.

    Ctrl-C while uploading keeps what was sent: the same command goes on there, within 10 minutes unless the
    server is set otherwise. After the upload, the transcription goes on without you.
    """
    recordings = gather(files, name)
    if no_wait and (output is not None or format is not None):
        raise senseless("there is no transcript yet to write", "--no-wait")
    targets: list[Place | None] = [None] * len(recordings)
    if output is not None or not (no_wait or as_json):
        targets = [*places(output, format, [recording.name for recording in recordings])]
        _keep_recordings(recordings, targets)
    options = {
        "language": language,
        "model": model,
        "task": task,
        "initial_prompt": prompt,
        "hotwords": hotwords,
        "word_timestamps": word_timestamps,
        "diarize": diarize,
        "min_speakers": min_speakers,
        "max_speakers": max_speakers,
        "webhook_url": webhook_url,
    }
    jobs = [Job(number, *pair) for number, pair in enumerate(zip(recordings, targets, strict=True))]
    names = [clean(recording.name) for recording in recordings]
    with connected(server) as client, display(names, quiet) as shown:
        raise typer.Exit(Batch(client, server, shown, jobs, as_json, not no_wait).run(options))


@dataclass(slots=True)
class Job:
    """One recording's way. It has `ended` when nothing more will happen to it here."""

    number: int
    recording: Recording
    place: Place | None
    transcription: "Transcription | None" = None
    error: "ClientError | NotWritten | None" = None
    kept_seconds: float | None = None
    ended: bool = False


class Batch:
    """All recordings of one command."""

    def __init__(
        self, client: "Client", server: str, shown: Display, jobs: Sequence[Job], as_json: bool, wait: bool
    ) -> None:
        self._client = client
        self._server = server
        self._shown = shown
        self._jobs = jobs
        self._as_json = as_json
        self._wait = wait
        self._delivered = 0
        self._lost = self._failed = False
        self._sent: SimpleQueue[tuple[Job, str]] = SimpleQueue()
        self._news: SimpleQueue[tuple[Job, News]] = SimpleQueue()
        self._followers = 0
        self._heard = time.monotonic()

    def run(self, options: Mapping[str, Any]) -> int:
        """From the first byte to the last transcript; returns the exit status."""
        try:
            for job in self._jobs:
                self._upload(job, options)
                self._hear()
        except KeyboardInterrupt:
            self._shown.stop()
            self._tell_interrupted(job)
            raise
        try:
            while self._delivered < len(self._jobs):
                self._take(*self._news.get())
        except KeyboardInterrupt:
            self._shown.stop()
            self._tell_going_on()
            raise
        return FAILED if self._lost else NO_TRANSCRIPT if self._failed else 0

    def _upload(self, job: Job, options: Mapping[str, Any]) -> None:
        from ..client import ClientError, UploadStore

        recording = job.recording

        def tell(progress: "UploadProgress") -> None:
            job.kept_seconds = progress.kept_seconds
            self._shown.sent(job.number, progress)
            if time.monotonic() - self._heard >= HEAR_SECONDS:
                self._hear()

        try:
            job.transcription = self._client.upload(
                recording.source,
                options,
                tell,
                name=recording.name,
                resume=UploadStore.default() if recording.resumable else None,
            )
        except ClientError as error:
            self._lose(job, error)
        if job.transcription is None or not self._wait:
            job.ended = True
            self._deliver()
        else:
            self._follow(job, job.transcription.id)

    def _follow(self, job: Job, id: str) -> None:
        self._sent.put((job, id))
        if self._followers < FOLLOWED:
            self._followers += 1
            # Daemons: whoever presses Ctrl-C does not wait for a server's next word.
            threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            job, id = self._sent.get()

            def tell(news: News, job: Job = job) -> None:
                self._news.put((job, news))

            try:
                self._client.wait(id, tell, tell)
            except Exception as error:  # noqa: BLE001 -- raised again in the main thread, which waits for it
                self._news.put((job, error))

    def _hear(self) -> None:
        """What there is to hear already."""
        self._heard = time.monotonic()
        with suppress(Empty):
            while True:
                self._take(*self._news.get_nowait())

    def _take(self, job: Job, news: "News") -> None:
        from ..client import ClientError

        if news is None or isinstance(news, str):
            self._shown.waiting(news)
            return
        if isinstance(news, ClientError):
            self._lose(job, news)
            job.ended = True
        elif isinstance(news, Exception):
            raise news
        else:
            job.transcription = news
            job.ended = news.final
            self._shown.changed(job.number, news)
        self._deliver()

    def _deliver(self) -> None:
        """Whatever is next in the order given."""
        while self._delivered < len(self._jobs) and self._jobs[self._delivered].ended:
            self._shown.stop()
            self._conclude(self._jobs[self._delivered])
            self._delivered += 1

    def _conclude(self, job: Job) -> None:
        from ..client import ClientError

        found = job.transcription
        written = False
        if found is not None and self._wait and job.error is None:
            for warning in found.warnings:
                note(f"{self._of(job)}Warning: {warning.message} [{warning.code}]")
            try:
                if job.place is not None and (found.state == "completed" or found.partial):
                    job.place.deliver(found.id, self._client.transcript(found.id, job.place.format))
                    written = True
            except (ClientError, NotWritten) as error:
                self._lose(job, error)
        if job.error is None and found is not None and self._wait and found.state != "completed":
            self._failed = True
            note(f"Error: {self._of(job)}{failure(found)} See: bucketscribe show {found.id}")
        if self._as_json:
            say(json.dumps(self._line(job, written)))
        elif found is not None and not self._wait:
            say(clean(found.id))

    def _lose(self, job: Job, error: "ClientError | NotWritten") -> None:
        """What went wrong is told at once, not only when it is this one's turn."""
        job.error = error
        self._lost = True
        self._shown.stop()
        found = job.transcription
        # NotWritten says so itself.
        later = f" See: bucketscribe get {found.id}" if found and not isinstance(error, NotWritten) else ""
        note(f"Error: {self._of(job)}{explained(error, self._server)}{later}")

    def _line(self, job: Job, written: bool) -> dict[str, Any]:
        found, error = job.transcription, job.error
        reason = None
        if error is not None:
            reason = {"code": error.code, "message": error.detail}
        elif found is not None and found.error is not None:
            reason = {"code": found.error.code, "message": found.error.message}
        return {
            "id": found.id if found else None,
            "name": job.recording.name,
            "state": found.state if found else None,
            "output": str(job.place.file) if written and job.place else None,
            "error": reason,
        }

    def _of(self, job: Job) -> str:
        """Whose news this is, where it could be another's."""
        return f"{clean(job.recording.name)}: " if len(self._jobs) > 1 else ""

    def _tell_interrupted(self, job: Job) -> None:
        if job.kept_seconds is not None and job.transcription is None:
            minutes = f"{job.kept_seconds / 60:.3g} minutes"
            note(f"What was sent of {job.recording.name} is kept: run it again within {minutes} to go on.")
        self._tell_going_on()

    def _tell_going_on(self) -> None:
        going_on = [
            found.id
            for job in self._jobs[self._delivered :]
            if (found := job.transcription) and job.error is None
        ]
        if len(going_on) == 1:
            note(f"The transcription goes on: bucketscribe get {going_on[0]}")
        elif going_on:
            note(f"The transcriptions go on: bucketscribe get {' '.join(going_on)}")


def _keep_recordings(recordings: Sequence[Recording], targets: Sequence[Place | None]) -> None:
    """No transcript is written over a recording."""
    sources = {recording.source.resolve() for recording in recordings if isinstance(recording.source, Path)}
    for place in targets:
        if place is not None and place.file is not None and place.file.resolve() in sources:
            raise senseless(f"{place.file} is a recording", "--output")
