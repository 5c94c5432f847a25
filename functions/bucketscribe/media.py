"""What we take for a recording: by its name and declared type before the upload, by its first bytes after.

Both judge by family and not by exact type: they refuse what is clearly not audio or video
(`unsupported_media`) and let through what might be, for only decoding it, later and elsewhere, tells the
truth. Playlists are refused although their types begin with audio/: they name other files, and a decoder
would open those.

The types are IANA's and what browsers are seen to send; the signatures are puremagic's and, where that knows
too little, those of ISO/IEC 14496-12 (MP4), 13818-1 (transport streams) and 11172-3 and 13818-7 (MPEG audio).
"""

import re
import unicodedata
from typing import NoReturn

import puremagic

from .errors import Problem

EXTENSIONS: dict[str, str] = {
    "3g2": "video/3gpp2",
    "3gp": "video/3gpp",
    "aac": "audio/aac",
    "aif": "audio/aiff",
    "aifc": "audio/aiff",
    "aiff": "audio/aiff",
    "amr": "audio/amr",
    "asf": "video/x-ms-asf",
    "au": "audio/basic",
    "avi": "video/x-msvideo",
    "awb": "audio/amr-wb",
    "caf": "audio/x-caf",
    "flac": "audio/flac",
    "m2ts": "video/mp2t",
    "m4a": "audio/mp4",
    "m4b": "audio/mp4",
    "m4v": "video/x-m4v",
    "mka": "audio/x-matroska",
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "mp2": "audio/mpeg",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "mpeg": "video/mpeg",
    "mpg": "video/mpeg",
    "mts": "video/mp2t",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "ogv": "video/ogg",
    "opus": "audio/ogg",
    "ts": "video/mp2t",
    "wav": "audio/wav",
    "weba": "audio/webm",
    "webm": "video/webm",
    "wma": "audio/x-ms-wma",
    "wmv": "video/x-ms-wmv",
}
"""File name extensions we take, and the content type of each where none is declared."""

_USUAL_EXTENSIONS = {type: extension for extension, type in reversed(EXTENSIONS.items())} | {
    "audio/aiff": "aiff",
    "audio/mp3": "mp3",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/vnd.wave": "wav",
    "audio/wave": "wav",
    "audio/x-flac": "flac",
    "audio/x-m4a": "m4a",
    "audio/x-wav": "wav",
    "video/mp2t": "ts",
    "video/mpeg": "mpg",
    "video/x-matroska": "mkv",
}

HEAD_BYTES = 4096
"""How much of a recording `check_content` wants to see: more tells it nothing more."""

MAX_NAME_BYTES = 200

# Types of recordings that are registered outside audio/ and video/.
_APPLICATION_TYPES = frozenset(
    {
        "application/mp4",
        "application/ogg",
        "application/vnd.ms-asf",
        "application/x-matroska",
        "application/x-ogg",
    }
)
# Types that say nothing: the extension decides. The second is what S3 stores where none was given.
_UNKNOWN_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream"})
# Lists of addresses and notes of music: there is no sound in them.
_SOUNDLESS_TYPES = frozenset(
    {
        "application/vnd.apple.mpegurl",
        "audio/mid",
        "audio/midi",
        "audio/mpegurl",
        "audio/scpls",
        "audio/x-iriver-pla",
        "audio/x-midi",
        "audio/x-mpegurl",
        "audio/x-ms-asx",
        "audio/x-ms-wax",
        "audio/x-scpls",
        "video/vnd.mpegurl",
        "video/x-mpegurl",
        "video/x-ms-asx",
        "video/x-ms-wvx",
    }
)
# Desktops take camcorder files for sources of TypeScript, TeXmacs or Qt Linguist or for 3D models, and
# browsers pass that on. For these two extensions such a type says nothing: the first bytes will decide.
_MISTAKEN_EXTENSIONS = frozenset({"mts", "ts"})
_MISTAKEN_TYPES = frozenset(
    {
        "application/typescript",
        "application/x-typescript",
        "model/vnd.mts",
        "text/texmacs",
        "text/typescript",
        "text/vnd.qt.linguist",
        "text/vnd.trolltech.linguist",
        "text/x-typescript",
    }
)

# Everything but control characters; those that text has are the ones file(1) allows.
_TEXT_BYTES = bytes({7, 8, 9, 10, 11, 12, 13, 27} | set(range(0x20, 0x7F)) | set(range(0x80, 0x100)))
# Brands of still images, which use the container of MP4.
_IMAGE_BRANDS = frozenset(
    {
        b"avif", b"avis", b"crx ", b"heic", b"heim", b"heis", b"heix", b"hevc", b"hevm", b"hevs", b"hevx",
        b"jp2 ", b"jpm ", b"jpx ", b"miaf", b"mif1", b"msf1",
    }
)  # fmt: skip
# Where puremagic has many names for one signature and the first is seldom right.
_SPOKEN_NAMES = {b"MZ": "a Windows program", b"PK": "a ZIP archive or an Office document"}

_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
# A date ("Talk 3.11.2026") or the end of a sentence ("Interview with Dr. Smith") is no extension.
_EXTENSION = re.compile(r"\.(?=[0-9]*[a-z])([a-z0-9]{1,8})\Z", re.ASCII | re.IGNORECASE)


def check_declared(filename: str, content_type: str | None) -> str:
    """Return the content type to store for a recording announced with this name and type.

    A name without an extension needs a type; a type that says nothing needs an extension. Parameters of the
    type ("audio/webm;codecs=opus") are dropped.
    """
    match = _EXTENSION.search(filename.strip())
    extension = match[1].lower() if match else ""
    if extension and extension not in EXTENSIONS:
        _refuse_declared(f"A file named .{extension} is not a recording.")
    declared = (content_type or "").partition(";")[0].strip().lower()
    mistaken = extension in _MISTAKEN_EXTENSIONS and declared in _MISTAKEN_TYPES
    if mistaken or declared in _UNKNOWN_TYPES:
        if not extension:
            _refuse_declared("Neither the file's name nor its type says what it is.")
        return EXTENSIONS[extension]
    if not _TYPE.fullmatch(declared):
        _refuse_declared("The declared type is not a content type.")
    if not _is_recording_type(declared):
        _refuse_declared(f"A file of type {declared} is not a recording.")
    return declared


def object_name(filename: str) -> str:
    """Return the name a recording has in the bucket: safe in a key, a URL and a listing, and still readable.

    NFC; whatever is not a visible character (control and format characters, bidirectional marks, halves of
    surrogate pairs, unassigned) and path separators become "_"; at most 200 bytes with the extension kept.
    """
    normal = unicodedata.normalize("NFC", filename)
    name = "".join("_" if c in "/\\" or _is_invisible(c) else c for c in normal).strip()
    if name.startswith("."):
        name = f"_{name}"
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name or "recording"
    match = _EXTENSION.search(name)
    suffix = match[0] if match else ""
    # What a cut leaves of a character in the middle is dropped.
    stem = name.encode()[: MAX_NAME_BYTES - len(suffix)].decode(errors="ignore")
    return (stem + suffix).strip()


def without_extension(name: str) -> str:
    """A file's name without its extension, where that is one of a recording."""
    match = _EXTENSION.search(name)
    return name[: match.start()] if match is not None and match[1].lower() in EXTENSIONS else name


def extension_of(content_type: str) -> str | None:
    """The extension that files of a type of recordings usually have."""
    return _USUAL_EXTENSIONS.get(content_type)


def too_large(size: int, limit: int) -> Problem:
    """What to say of a recording that is larger than is accepted. Sizes in bytes."""
    return Problem(
        "too_large",
        f"The recording has {size} bytes; at most {limit} are accepted. Split it or compress it.",
        {"maxBytes": limit},
    )


def empty() -> Problem:
    """What to say of a recording of no bytes."""
    return Problem("unsupported_media", "The file is empty; choose one that holds a recording.")


def check_size(size: int, limit: int) -> None:
    """Raises Problem `too_large`. Sizes in bytes."""
    if size > limit:
        raise too_large(size, limit)


def check_content(head: bytes) -> None:
    """Refuse a recording whose first `HEAD_BYTES` bytes are clearly not audio or video."""
    if not head:
        _refuse_content("It is empty.")
    if not head.strip(b"\0"):
        _refuse_content("It begins with nothing but zeros.")
    found = _identify(head)
    looks = f"It looks like {_SPOKEN_NAMES.get(head[:2]) or found.name}." if found else ""
    if _is_text(head):
        # Signatures such as “free” and “FORM” are also words; no recording is all text.
        known = found and not _is_recording(found)
        _refuse_content(looks if known else "It looks like text.")
    if head[4:8] == b"ftyp":
        if head[8:12] in _IMAGE_BRANDS:
            _refuse_content("It looks like an image.")
        return
    if _is_mpeg_audio(head) or _is_transport_stream(head) or (found and _is_recording(found)):
        return
    _refuse_content(looks or "Its first bytes are not those of any audio or video format we know.")


def _is_recording_type(content_type: str) -> bool:
    if content_type in _SOUNDLESS_TYPES:
        return False
    return content_type.startswith(("audio/", "video/")) or content_type in _APPLICATION_TYPES


def _is_invisible(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in {"Zl", "Zp"}


def _identify(head: bytes) -> puremagic.PureMagicWithConfidence | None:
    """Return puremagic's best guess. Signatures of one or two bytes are left out: chance finds those."""
    guesses = (guess for guess in puremagic.magic_string(head) if len(guess.byte_match) > 2)
    return next(guesses, None)


def _is_recording(found: puremagic.PureMagicWithConfidence) -> bool:
    if found.mime_type in _UNKNOWN_TYPES:
        return found.extension.removeprefix(".") in EXTENSIONS
    return _is_recording_type(found.mime_type)


def _is_text(head: bytes) -> bool:
    """Tell whether there is no byte that text, in ASCII or an extension of it, has no use for."""
    return not head.translate(None, _TEXT_BYTES)


def _is_mpeg_audio(head: bytes) -> bool:
    """Tell whether a frame of MPEG audio (layer II or III) or of AAC (ADTS) begins here.

    puremagic knows the sync bytes only, and takes other things for them. What follows the first frame is left
    to the decoder: recordings of broadcasts are seldom clean.
    """
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return False
    version, layer = head[1] >> 3 & 0b11, head[1] >> 1 & 0b11
    if layer == 0:
        return head[1] >= 0xF0 and head[2] >> 2 & 0b1111 < 13
    bitrate, sample_rate = head[2] >> 4, head[2] >> 2 & 0b11
    # Layer I is as good as extinct, and its sync is also how UTF-16 text begins.
    return version != 1 and layer != 3 and bitrate != 15 and sample_rate != 3


def _is_transport_stream(head: bytes) -> bool:
    """Tell whether every packet begins with its sync byte; in m2ts a time code of 4 bytes precedes each."""
    packets = (head[::188], head[4::192])
    return any(len(starts) > 1 and set(starts) == {0x47} for starts in packets)


def _refuse_declared(reason: str) -> NoReturn:
    raise Problem("unsupported_media", f"{reason} Send audio or video: {', '.join(EXTENSIONS)}.")


def _refuse_content(reason: str) -> NoReturn:
    raise Problem("unsupported_media", f"{reason} Send a recording: audio, or video with sound.")
