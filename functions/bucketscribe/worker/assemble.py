"""The transcript of a run, made from its plan, its windows and its speakers. Nothing here fails.

Windows come one at a time, so that only the transcript itself takes memory.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from ..records import Warning
from ..transcript import Segment, Transcript
from .cues import segments
from .diarize import Speakers
from .plan import Plan
from .speakers import Voices
from .window import Window

LOOPS_TOLD = 20
"""Warnings about repeated phrases in a transcript at most: one that has more is bad as a whole."""


def assemble(
    plan: Plan, windows: Iterable[Window], speakers: Speakers | None, *, with_words: bool
) -> Transcript:
    """The transcript. `speakers`: None where nobody asked for them."""
    text = ""
    said: list[Segment] = []
    timings = Counter(plan.timings)
    warnings = _Warnings()
    voices = Voices(speakers.turns) if speakers is not None and speakers.turns else None
    for window in windows:
        text += window.text
        captions = window.segments if voices is None else _by_speaker(window, voices)
        for caption in captions:
            words = caption.words if with_words else ()
            said.append(replace(caption, id=len(said), words=words))
        timings.update(window.timings)
        warnings.add(window)
    if speakers is not None:
        timings.update(speakers.timings)
    return Transcript(
        id=plan.id,
        text=text.strip(),
        language=plan.language,
        language_probability=plan.language_probability,
        duration=plan.duration,
        segments=tuple(said),
        engine=plan.engine,
        model=plan.model,
        options=plan.options,
        timings={stage: round(seconds, 3) for stage, seconds in timings.items()},
        warnings=(*plan.warnings, *warnings.told(), *(() if speakers is None else speakers.warnings)),
    )


def _by_speaker(window: Window, voices: Voices) -> tuple[Segment, ...]:
    """A window's captions, cut anew where the speaker changes."""
    return segments(voices.tell([word for caption in window.segments for word in caption.words]))


class _Warnings:
    """What is told of the windows: what they have in common once, of their loops the first ones."""

    def __init__(self) -> None:
        self._common: dict[str, Warning] = {}  # by code
        self._loops: list[Warning] = []
        self._passages = self._unaligned = 0

    def add(self, window: Window) -> None:
        for warning in window.warnings:
            if warning.code == "repetition":
                self._loops.append(warning)
            else:
                self._common.setdefault(warning.code, warning)
        self._passages += window.passages
        self._unaligned += window.unaligned

    def told(self) -> list[Warning]:
        told = list(self._common.values())
        if self._unaligned:
            text = (
                f"In {self._unaligned} of {self._passages} passages the words could not be aligned; "
                "there they have the times Whisper gave them."
            )
            told.append(Warning(code="alignment_partial", message=text))
        told += self._loops[:LOOPS_TOLD]
        left_out = len(self._loops) - LOOPS_TOLD
        if left_out > 0:
            more = f"{left_out} more passages were made of repeated phrases and cut."
            told.append(Warning(code="repetition", message=more))
        return told
