"""A process of `test_whisperx_engine`: it hears minutes of speech in 700 MB, eight clips at once or fewer.

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

ROOM = 700 * 2**20
TIMES = 18
JFK = Path(__file__).parents[1] / "media" / "jfk.wav"

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
pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + ROOM
resource.setrlimit(resource.RLIMIT_AS, (most, most))
often = engine.transcribe(np.concatenate([speech] * TIMES), request, lambda done: None)


def plain(words: list[str]) -> list[str]:
    return [word.strip(" ,.").lower() for word in words]


expected = plain([word.word for word in once.words]) * TIMES
print(engine._batches.size(engine._key("base")), plain([word.word for word in often.words]) == expected)
