"""Whisper's encoder, which does not compute twice in a row what it has just computed.

A short recording is one clip, which is listened to for its language first, and then transcribed; and its
words' times are found from what was encoded to transcribe it.
"""

from typing import Any

import numpy as np


class EncodesOnce:
    """Mixed into a `faster_whisper.WhisperModel`."""

    _last: tuple[np.ndarray, Any] | None = None

    def encode(self, features: np.ndarray) -> Any:
        """What the encoder makes of features of shape (clips, mels, frames), or of one clip's."""
        clips = features.reshape(-1, *features.shape[-2:])
        if self._last is None or not np.array_equal(self._last[0], clips):
            self._last = None  # its memory is free before the new one needs it
            self._last = clips, super().encode(clips)  # type: ignore[misc]
        return self._last[1]

    def forget(self) -> None:
        """Free what is kept: no other recording needs it."""
        self._last = None
