"""What a caption may be, and where its text is broken into lines.

A caption, or cue, has at most two lines of 42 characters and stands for 5/6 s to 7 s: Netflix, Timed Text
Style Guide, General Requirements, "Duration" and "Line Treatment" (42 characters: its English guide). From
there, and from the BBC's Subtitle Guidelines, "Line breaks", also: break after punctuation, keep an article
or a preposition with what follows, and rather let the lower line be the longer one.

Characters are counted as columns: wide ones (Chinese, Japanese, Korean, emoji; Unicode Standard Annex 11) as
two, combining and invisible ones as none. Nothing here fails.
"""

import re
import unicodedata
from functools import cache

LINE_CHARACTERS = 42
LINES = 2
CUE_SECONDS = 7.0
CUE_SECONDS_MIN = 5 / 6

_SENTENCE_ENDS = tuple(".?!…。．？！؟।")
_CLAUSE_ENDS = tuple(",;:，、；：،؛—–")
_PLAIN = re.compile("[ -~¡-¬®-ʯΑ-ҁҊ-ԯא-תء-يḀ-ỿ‘’“”–—…]*").fullmatch
"""Finds texts of one column a sign that are broken only at spaces: Latin, Greek, Cyrillic, Hebrew, Arabic."""

_CLOSING = "\"'”’»)]}」』）"
_SHORT_LETTERS = 3
_NEVER_FIRST = "ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ"  # small kana belong to the one before


def lines(text: str) -> list[str]:
    """The text on one line, or on two as well balanced as good places to break allow.

    A text that fits on no two lines, which only one that was not cut by `worker.cues` can be, or one of a
    single endless word, gets as many as it needs. One without a sign has none.
    """
    text = " ".join(text.split())
    if width(text) <= LINE_CHARACTERS:
        return [text] if text else []
    pieces = _pieces(text)
    return _balanced(pieces) or _filled(pieces)


def fits(text: str) -> bool:
    """Whether the text can be shown at once, on `LINES` lines."""
    text = " ".join(text.split())
    columns = width(text)
    if columns <= LINE_CHARACTERS:
        return True
    if columns > LINES * LINE_CHARACTERS + LINES - 1:  # the space at a break is not shown
        return False
    if _PLAIN(text) and columns - (text.rfind(" ", 0, LINE_CHARACTERS + 1) + 1) <= LINE_CHARACTERS:
        return True  # what a full first line leaves fits on the second
    return len(_filled(_pieces(text))) <= LINES


def width(text: str) -> int:
    """Columns the text takes."""
    return len(text) if _PLAIN(text) else sum(map(_columns, text))


def roughness(before: str) -> float:
    """How bad it is to break right after this text: 0 after a sentence, 1 after a clause, up to 3.

    Worst is a short word: articles, prepositions and conjunctions are short in most languages that have them.
    """
    word = before.rstrip().rpartition(" ")[2]
    bare = word.rstrip(_CLOSING)
    if bare.endswith(_SENTENCE_ENDS):
        return 0
    if bare.endswith(_CLAUSE_ENDS):
        return 1
    return 3 if len(word) <= _SHORT_LETTERS and word.isalpha() and _PLAIN(word) else 2


def _balanced(pieces: list[str]) -> list[str]:
    """The best two lines; none if no two are enough."""
    best: list[str] = []
    least = float("inf")
    for cut in range(1, len(pieces)):
        upper, lower = "".join(pieces[:cut]).rstrip(), "".join(pieces[cut:]).rstrip()
        above, below = width(upper), width(lower)
        if max(above, below) > LINE_CHARACTERS:
            continue
        cost = abs(below - above) + max(0, above - below) / 2 + 7 * roughness(pieces[cut - 1])
        if cost < least:
            best, least = [upper, lower], cost
    return best


def _filled(pieces: list[str]) -> list[str]:
    """As few lines as there can be: each takes what it holds."""
    found = [""]
    room = LINE_CHARACTERS
    for piece in pieces:
        if width(piece.rstrip()) > room:
            found.append("")
            room = LINE_CHARACTERS
        found[-1] += piece
        room -= width(piece)
    return [line.rstrip() for line in found]


def _pieces(text: str) -> list[str]:
    """What may not be broken, with the space behind it; what no line could hold is broken anywhere."""
    pieces: list[str] = []
    if _PLAIN(text):
        for piece in text.split(" "):
            pieces += [piece + " "] if len(piece) <= LINE_CHARACTERS else _signs(piece + " ")
        return pieces
    begun = 0
    for at in range(1, len(text) + 1):
        if at == len(text) or _may_break(text[at - 1], text[at]):
            piece = text[begun:at]
            pieces += [piece] if width(piece.rstrip()) <= LINE_CHARACTERS else _signs(piece)
            begun = at
    return pieces


def _may_break(before: str, after: str) -> bool:
    """Behind a space; between ideographs or kana, but not before a closing nor behind an opening mark."""
    if before == " ":
        return True
    if after == " " or not (_ideographic(before) or _ideographic(after)):
        return False
    return not (
        unicodedata.category(after) in {"Pe", "Pf", "Po", "Lm", "Mn", "Mc", "Me", "Cf"}
        or after in _NEVER_FIRST
        or unicodedata.category(before) in {"Ps", "Pi", "Cf"}
    )


def _ideographic(sign: str) -> bool:
    # Korean is wide too, but has spaces.
    return not sign.isascii() and _columns(sign) == 2 and "HANGUL" not in unicodedata.name(sign, "")


def _signs(text: str) -> list[str]:
    """Each sign, with the combining ones behind it."""
    signs: list[str] = []
    for sign in text:
        if signs and (not _columns(sign) or sign == " "):
            signs[-1] += sign
        else:
            signs.append(sign)
    return signs


@cache
def _columns(sign: str) -> int:
    if unicodedata.category(sign) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(sign) in {"W", "F"} else 1
