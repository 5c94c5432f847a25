"""Recordings that somebody has damaged, by a seed: cut, spliced, with false lengths, with bytes flipped.

    damaged(seed, 17, originals())

A recording and what is done to it first go by the number, so that 520 numbers in a row hold every kind that
`make` can encode with every sort of damage; where it is done, and what else, is the seed's.
"""

import random
import re
import struct
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

from tests.media.make import KINDS, encode, speech

SECONDS = 8.0
"""Length of the originals: two windows where windows are as short as they can be set."""

_HEAD_BYTES = 600
_TAIL_BYTES = 4096
_CHUNK_BYTES = 8192
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9 ]{3}")
"""A chunk's, box's or frame's name: most lengths stand right before or right behind one."""


class Mutant(NamedTuple):
    """A damaged recording. `filename` has the extension it had before, `done` tells what was done to it."""

    number: int
    filename: str
    done: str
    data: bytes


@cache
def originals() -> dict[str, bytes]:
    """A recording of every kind, whole."""
    return {kind: encode(kind, *speech(SECONDS)) for kind in KINDS}


def damaged(seed: int, number: int, whole: Mapping[str, bytes]) -> Mutant:
    """One damaged recording. The same seed, number and originals give the same."""
    dice = random.Random(f"{seed} {number}")
    kinds, ways = list(whole), list(_WAYS)
    kind = kinds[number % len(kinds)]
    chosen = [ways[number % len(ways)], *dice.choices(ways, k=dice.choice((0, 0, 1, 2)))]
    data = bytearray(whole[kind])
    for way in chosen:
        _WAYS[way](data, dice, whole)
    return Mutant(number, f"{number}.{kind.partition(' ')[0]}", f"{kind}: {', '.join(chosen)}", bytes(data))


type _Way = Callable[[bytearray, random.Random, Mapping[str, bytes]], None]


def _cut(data: bytearray, dice: random.Random, whole: Mapping[str, bytes]) -> None:
    del data[_place(data, dice) :]


def _behead(data: bytearray, dice: random.Random, whole: Mapping[str, bytes]) -> None:
    del data[: _place(data, dice)]


def _splice(data: bytearray, dice: random.Random, whole: Mapping[str, bytes]) -> None:
    """Its head on another's body."""
    other = whole[dice.choice(list(whole))]
    data[_place(data, dice) :] = other[dice.randrange(len(other)) :]


def _flip(data: bytearray, dice: random.Random, whole: Mapping[str, bytes]) -> None:
    for _ in range(dice.choice((1, 4, 32, 256)) if data else 0):
        data[_place(data, dice)] ^= 1 << dice.randrange(8)


def _false_lengths(data: bytearray, dice: random.Random, whole: Mapping[str, bytes]) -> None:
    """Numbers from the edges of what fits, most of them where chunks, boxes and frames have their lengths."""
    for _ in range(dice.choice((1, 1, 2, 4))):
        form = dice.choice((">I", ">I", "<I", "<I", ">H", "<H", ">Q", "<Q", "B"))
        size = struct.calcsize(form)
        at = _place(data, dice)
        if named := _NAME.search(data, at, at + _CHUNK_BYTES):
            at = dice.choice((named.start() - size, named.end(), named.end() + dice.randrange(32), at))
        most = (1 << 8 * size) - 1
        value = dice.choice((0, 1, 7, most, most >> 1, (most >> 1) + 1, most - 7, len(data), len(data) * 2))
        if 0 <= at <= len(data) - size:
            struct.pack_into(form, data, at, value & most)


def _repeat(data: bytearray, dice: random.Random, whole: Mapping[str, bytes]) -> None:
    at = _place(data, dice)
    data[at:at] = data[at : at + dice.randrange(1, _CHUNK_BYTES)] * dice.choice((1, 2, 8))


def _blank(data: bytearray, dice: random.Random, whole: Mapping[str, bytes]) -> None:
    at = _place(data, dice)
    end = min(at + dice.randrange(1, _CHUNK_BYTES), len(data))
    data[at:end] = bytes(end - at)


def _garbage(data: bytearray, dice: random.Random, whole: Mapping[str, bytes]) -> None:
    """Chance in place of a piece, between two, or behind all."""
    at = dice.choice((_place(data, dice), len(data)))
    data[at : at + dice.choice((0, 64, _CHUNK_BYTES))] = dice.randbytes(dice.randrange(1, _CHUNK_BYTES))


_WAYS: dict[str, _Way] = {
    "cut": _cut,
    "beheaded": _behead,
    "spliced": _splice,
    "bits flipped": _flip,
    "false lengths": _false_lengths,
    "a piece repeated": _repeat,
    "a piece blanked": _blank,
    "garbage": _garbage,
}


def _place(data: bytearray, dice: random.Random) -> int:
    """Somewhere: often in the head, sometimes at the end, where indexes are; 0 in nothing."""
    head, tail = (0, _HEAD_BYTES), (len(data) - _TAIL_BYTES, len(data))
    first, end = dice.choice((head, head, tail, (0, len(data))))
    first, end = max(first, 0), min(end, len(data))
    return dice.randrange(first, end) if first < end else 0
