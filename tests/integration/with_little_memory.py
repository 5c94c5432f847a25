"""A process of `test_whisperx_engine`: it hears minutes of speech, eight clips at once or fewer.

First with all the memory it likes, then with less and less of what that took: how much it is, and what else
needs some, differs from CPU to CPU.
Prints how many clips it came down to, and whether every word is right.
"""

import resource
import sys
import wave
from functools import partial
from pathlib import Path

import numpy as np
from bucketscribe.worker.engines.base import Request
from bucketscribe.worker.engines.whisperx import WhisperX
from bucketscribe.worker.models import resolve

SHARES = (0.85, 0.75, 0.65, 0.55)
TIMES = 18
JFK = Path(__file__).parents[1] / "media" / "jfk.wav"


def held(what: str) -> int:
    """Bytes of address space, after `VmSize` (now) or `VmPeak` (the most so far)."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(what))


folder = Path(sys.argv[1])
engine = WhisperX(
    partial(resolve, cache=folder / "whisper"),
    device="cpu",
    batch_size=8,
    models_dir=folder,
    align_models={},
    diarize_model="",
    hf_token=None,
)
with wave.open(str(JFK)) as file:
    speech = np.frombuffer(file.readframes(-1), np.int16).astype(np.float32) / np.float32(32768)
request = Request(model="base", language="en")
once = engine.transcribe(speech, request, lambda done: None)
spoken = np.concatenate([speech] * TIMES)
before = held("VmSize")
engine.transcribe(spoken, request, lambda done: None)
need = held("VmPeak") - before
for share in SHARES:
    most = before + int(need * share)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    often = engine.transcribe(spoken, request, lambda done: None)
    if engine._batches.size(engine._key("base")) < 8:
        break


def plain(words: list[str]) -> list[str]:
    return [word.strip(" ,.").lower() for word in words]


expected = plain([word.word for word in once.words]) * TIMES
print(engine._batches.size(engine._key("base")), plain([word.word for word in often.words]) == expected)
