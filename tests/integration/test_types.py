"""Every type of recording we take, from its bytes to the words said in it, by a real model."""

import io
import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from bucketscribe.worker.decode import Decoder
from bucketscribe.worker.engines.base import Request, Samples
from bucketscribe.worker.engines.faster_whisper import FasterWhisper
from bucketscribe.worker.models import resolve

from tests.media.make import KINDS, encode, speech


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Samples], str]:
    """What the model hears. The same samples, which differ only in how they were packed, it hears once."""
    cache = tmp_path_factory.mktemp("models")
    engine = FasterWhisper(partial(resolve, cache=cache), device="cpu", batch_size=2)
    known: dict[bytes, str] = {}

    def hear(samples: Samples) -> str:
        key = samples.tobytes()
        if key not in known:
            request = Request(model="tiny.en", language="en")
            words = engine.transcribe(samples, request, lambda fraction: None).words
            text = " ".join(word.word.strip() for word in words)
            known[key] = re.sub(r"[^\w\s]", "", text.lower())
        return known[key]

    return hear


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_is_understood_in_every_type(heard: Callable[[Samples], str], kind: str) -> None:
    with Decoder(io.BytesIO(encode(kind, *speech()))) as decoder:
        samples = np.concatenate(list(decoder.blocks()))
    assert "ask what you can do for your country" in heard(samples)
