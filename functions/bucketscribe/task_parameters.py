"""The older service's parameters, as options of ours.

Its clients send what its documentation listed, and often all of it. So no parameter is refused for being
there: what is an option of ours becomes that, a model we do not have becomes our own, and what has no effect
is named in `Record.ignored`, which the transcription tells as a warning. A bad value of an option is refused:
a transcript in the wrong language helps nobody.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from .options import CALLBACK, OPTION_NAMES, ignored_names
from .settings import Settings

USED: Final = {
    "language": "Language code, or `auto`.",
    "task": "`transcribe` or `translate`.",
    "model": "Where it is one of this server's; any other becomes the server's own.",
    "min_speakers": "Fewest speakers.",
    "max_speakers": "Most speakers.",
    "initial_prompt": "Text that sets style and names.",
    "hotwords": "Words to expect.",
    CALLBACK: "Told of the end by the older service's document, signed.",
}
"""Parameters that do what they did, and what that is."""

IGNORED: Final = {
    "device": "The worker knows its devices.",
    "device_index": "The worker knows its devices.",
    "threads": "The worker knows its processors.",
    "batch_size": "The worker chooses what fits into its memory.",
    "chunk_size": "Windows are cut where nobody speaks.",
    "compute_type": "The worker chooses what its device can.",
    "align_model": "One for each language, chosen by who runs the worker.",
    "interpolate_method": "Words without a time of their own get one from their neighbours.",
    "return_char_alignments": "Times are those of words.",
    "beam_size": "Decoding is the same for all.",
    "best_of": "Decoding is the same for all.",
    "patience": "Decoding is the same for all.",
    "length_penalty": "Decoding is the same for all.",
    "temperatures": "Decoding is the same for all.",
    "compression_ratio_threshold": "Decoding is the same for all.",
    "log_prob_threshold": "Decoding is the same for all.",
    "no_speech_threshold": "Decoding is the same for all.",
    "suppress_tokens": "Decoding is the same for all.",
    "suppress_numerals": "Decoding is the same for all.",
    "vad_onset": "Speech is found by one setting for all.",
    "vad_offset": "Speech is found by one setting for all.",
}
"""Parameters that have no effect, and why."""

_OURS = frozenset({*OPTION_NAMES, CALLBACK})


class Understood(NamedTuple):
    """What `read_metadata` takes, and the names of what has no effect."""

    metadata: dict[str, str]
    ignored: tuple[str, ...]


def understand(given: Mapping[str, str], settings: Settings) -> Understood:
    """Take a client's parameters apart. Empty ones are absent ones; names that begin with `x-` are kept."""
    metadata: dict[str, str] = {}
    ignored: list[str] = []
    for name, value in given.items():
        if value == "":
            continue
        if name == "model" and value not in settings.allowed_models:
            ignored.append(name)
        elif name in _OURS or name.startswith("x-"):
            metadata[name] = value
        else:
            ignored.append(name)
    return Understood(metadata, ignored_names(ignored))


def as_there(metadata: dict[str, str]) -> dict[str, str]:
    """With what was meant there where nothing was said: English, and speakers told apart."""
    return {"language": "en", "diarize": "true"} | metadata
