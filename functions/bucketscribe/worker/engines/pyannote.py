"""Who speaks when, by pyannote's pipeline as WhisperX runs it.

The pipeline is the folder `diarization` in the models folder if there is one, else it is fetched from the
Hugging Face hub, where a licence has to be accepted first, and kept in the hub's cache. Speakers are called
SPEAKER_00, SPEAKER_01 … in the order in which they are first heard; what two say at once is told of both.

Raises `StageSkipped`, and what `report` raises.
"""

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from whisperx.diarize import DiarizationPipeline

from .base import SAMPLE_RATE, Report, Samples, StageSkipped, Turn
from .batches import out_of_memory
from .hub import HubUnreachable, reach
from .memory import ROOM, Warm, free_on_cpu

_KEY = ("diarize",)
_VOICES_A_SECOND = 2  # embeddings that pyannote keeps where two people take turns of some seconds
_BYTES_A_PAIR = 8  # of scipy's `linkage`, measured
_TICK_SECONDS = 60.0
_TICKS = 60
_SIZE = 100_000_000  # of community-1: a segmentation and an embedding model, both small


class Pyannote:
    """`Diarizer` on pyannote."""

    def __init__(self, warm: Warm, device: str, models_dir: Path, model: str, token: str | None) -> None:
        self._warm = warm
        self._device = device
        self._folder = models_dir / "diarization"
        self._model = model
        self._token = token

    def load(self) -> None:
        """Have its models ready."""
        self._pipeline()

    def diarize(
        self, audio: Samples, fewest: int | None, most: int | None, report: Report
    ) -> tuple[Turn, ...]:
        """Who speaks when, in order of time."""
        report(0.0)
        if not len(audio):
            report(1.0)
            return ()
        _check_memory(len(audio) / SAMPLE_RATE)
        pipeline = self._pipeline()
        progress = _Progress(report)

        def tell() -> Any:
            return pipeline(audio, min_speakers=fewest, max_speakers=most, progress_callback=progress)

        try:
            with progress.ticking():
                found = _in_smaller_batches(pipeline.model, lambda: self._warm.alone_if_needed(_KEY, tell))
        except Exception as error:
            if error is progress.raised:
                raise
            if out_of_memory(error):
                raise _failed("the device's memory is too small for a recording of this length") from error
            raise _failed(f"{type(error).__name__}: {error}") from error
        self._warm.tidy()
        report(1.0)
        return _turns(
            zip(found["start"], found["end"], found["speaker"], strict=True), len(audio) / SAMPLE_RATE
        )

    def _pipeline(self) -> Any:
        def load() -> Any:
            with redirect_stdout(io.StringIO()):  # it prints what went wrong
                return DiarizationPipeline(self._source(), token=self._token, device=self._device)

        try:
            return self._warm.get(_KEY, load, _SIZE + ROOM)
        except Exception as error:
            if out_of_memory(error):
                raise _failed("the device's memory is too small for its models") from error
            raise StageSkipped("diarization_unavailable", self._unavailable(error)) from error

    def _source(self) -> str:
        """The folder or the hub's name to load from: where the hub is out of reach, what its cache has."""
        if (self._folder / "config.yaml").is_file():
            return str(self._folder)
        if Path(self._model).exists():
            return self._model
        try:
            reach()
        except HubUnreachable:
            with suppress(LocalEntryNotFoundError):
                return snapshot_download(self._model, local_files_only=True)
            raise
        return self._model

    def _unavailable(self, error: Exception) -> str:
        said = "Speakers are not told apart: "
        licence = f"accept its licence at https://huggingface.co/{self._model}"
        if _is_refused(error) and self._token is not None:
            return (
                f"{said}the hub does not give {self._model} to the account of BUCKETSCRIBE_HF_TOKEN. With "
                f"that account {licence}, or set another token."
            )
        if _is_refused(error):
            return (
                f"{said}the hub gives {self._model} to known accounts only: {licence}, "
                "and set BUCKETSCRIBE_HF_TOKEN to a token of that account."
            )
        if isinstance(error, (HfHubHTTPError, OSError)) and not Path(self._model).exists():
            token = "" if self._token is not None else f"; {licence}, and set BUCKETSCRIBE_HF_TOKEN"
            return (
                f"{said}{self._model} is not on this machine and cannot be fetched from the hub "
                f"({_first_line(error)}). Let the worker reach the hub{token}; or put the pipeline into the "
                "models folder as diarization/."
            )
        model = self._folder if (self._folder / "config.yaml").is_file() else self._model
        return (
            f"{said}{model} cannot be loaded ({type(error).__name__}: {_first_line(error)}). Put a "
            "pipeline that works into the models folder as diarization/, or name another in "
            "BUCKETSCRIBE_DIARIZE_MODEL."
        )


class _Progress:
    """Takes WhisperX's percent, and remembers what `report` raised, to tell it from a failure."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.raised: Exception | None = None
        self._done = 0.0

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Report now and then, for an hour: clustering the voices of some hours says nothing for minutes."""
        over = threading.Event()

        def tick() -> None:
            for _ in range(_TICKS):
                if over.wait(_TICK_SECONDS):
                    return
                with suppress(Exception):  # the work itself will be told at its next step
                    self._report(self._done)

        threading.Thread(target=tick, name="diarizing", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def __call__(self, percent: float) -> None:
        self._done = max(self._done, min(percent / 100, 1.0))  # a second attempt begins anew
        try:
            self._report(self._done)
        except Exception as error:
            self.raised = error
            raise


def _in_smaller_batches[Result](pipeline: Any, work: Callable[[], Result]) -> Result:
    """What `work` returns, with the pipeline's batches halved as long as memory runs out; they stay so."""
    while True:
        try:
            return work()
        except Exception as error:
            if not out_of_memory(error) or pipeline.embedding_batch_size <= 1:
                raise
        # Not in `except`: the traceback holds on to what the failed work had allocated.
        half = pipeline.embedding_batch_size // 2
        pipeline.embedding_batch_size = pipeline.segmentation_batch_size = half


def _check_memory(seconds: float) -> None:
    """Linux ends a process that takes too much, and with it whatever else it works on."""
    needs, free = round(_BYTES_A_PAIR * (_VOICES_A_SECOND * seconds) ** 2) + ROOM, free_on_cpu()
    if needs > free:
        raise _failed(
            f"that takes about {needs / 1e9:.0f} GB of memory for {seconds / 3600:.1f} hours, and the worker "
            f"has {free / 1e9:.0f} GB. Cut the recording into pieces, or use a worker with more memory"
        )


def _turns(found: Iterable[tuple[float, float, str]], seconds: float) -> tuple[Turn, ...]:
    """Turns within the recording, in order, with their speakers' names in the order of their appearance."""
    inside = [(max(0.0, float(start)), min(float(end), seconds), speaker) for start, end, speaker in found]
    inside = sorted((turn for turn in inside if turn[0] < turn[1]), key=lambda turn: turn[:2])
    names: dict[str, str] = {}
    for _, _, speaker in inside:
        names.setdefault(speaker, f"SPEAKER_{len(names):02d}")
    return tuple(Turn(start, end, names[speaker]) for start, end, speaker in inside)


def _is_refused(error: BaseException) -> bool:
    """Whether the hub wants to know who asks, or knows and does not give it."""
    if isinstance(error, RepositoryNotFoundError):  # also what is said of a gated one
        return True
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status in (401, 403) or (error.__cause__ is not None and _is_refused(error.__cause__))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _failed(reason: str) -> StageSkipped:
    return StageSkipped("diarization_failed", f"Speakers are not told apart: {reason}.")
