"""What is taken for a recording, by name, type and first bytes, and what it is called in the bucket."""

import io
import random
import unicodedata
import zipfile
from contextlib import suppress

import pytest
from bucketscribe.errors import Problem
from bucketscribe.media import EXTENSIONS, HEAD_BYTES, check_content, check_declared, object_name
from hypothesis import example, given
from hypothesis import strategies as st

from tests.media.make import JFK, KINDS, encode, speech

# Halves of surrogate pairs, which st.text() leaves out, come from file systems.
ANY_CHARACTERS = st.characters(exclude_categories=[])

# Declared: the name and the type


@pytest.mark.parametrize("extension", sorted(EXTENSIONS))
@pytest.mark.parametrize("nothing", [None, "", " ", "application/octet-stream", "binary/octet-stream"])
def test_the_extension_decides_where_the_type_says_nothing(extension: str, nothing: str | None) -> None:
    assert check_declared(f"talk.{extension.upper()}", nothing) == EXTENSIONS[extension]


@pytest.mark.parametrize(
    ("filename", "declared", "stored"),
    [
        ("talk.mp3", "audio/mpeg", "audio/mpeg"),
        ("talk.webm", "audio/webm;codecs=opus", "audio/webm"),
        ("talk.webm", "Video/WebM; codecs=\"vp8, opus\"", "video/webm"),
        ("talk.ogg", "application/ogg", "application/ogg"),
        ("talk.mp4", "application/mp4", "application/mp4"),
        ("talk.mkv", "application/x-matroska", "application/x-matroska"),
        ("talk.m4a", "audio/x-m4a", "audio/x-m4a"),
        ("talk.3gp", "audio/3gpp", "audio/3gpp"),
        ("talk.mp3", "video/mp4", "video/mp4"),
        ("talk.ts", "video/vnd.dlna.mpeg-tts", "video/vnd.dlna.mpeg-tts"),
        ("talk", "audio/wav", "audio/wav"),
        ("Talk of 3.11.2026", "audio/mp4", "audio/mp4"),
        ("Interview with Dr. Smith", "audio/mp4", "audio/mp4"),
        ("a.b.mp3 ", "audio/mpeg", "audio/mpeg"),
    ],
)  # fmt: skip
def test_audio_and_video_are_taken_as_declared(filename: str, declared: str, stored: str) -> None:
    assert check_declared(filename, declared) == stored


@pytest.mark.parametrize("extension", ["ts", "mts", "TS"])
@pytest.mark.parametrize(
    "mistaken", ["text/vnd.trolltech.linguist", "application/typescript", "model/vnd.mts"]
)
def test_a_camcorder_file_taken_for_source_code_is_let_through(extension: str, mistaken: str) -> None:
    assert check_declared(f"00001.{extension}", mistaken) == "video/mp2t"


@pytest.mark.parametrize(
    ("filename", "declared"),
    [
        ("talk.mp3", "text/html"),
        ("talk.mp3", "image/svg+xml"),
        ("talk.mp3", "text/typescript"),
        ("talk.mp3", "mp3"),
        ("talk.mp3", "audio/"),
        ("talk.mp3", "audio/mpeg\r\nx: y"),
        ("talk.mp3", "audio/\ud83c"),
        ("talk.mp3", "audio/x-mpegurl"),
        ("talk.mp3", "Audio/MpegURL; charset=utf-8"),
        ("talk.mp3", "audio/x-scpls"),
        ("talk.mp3", "application/vnd.apple.mpegurl"),
        ("talk.mp3", "application/x-mpegurl"),
        ("talk.m3u8", "audio/mpeg"),
        ("talk.pls", None),
        ("talk.exe", "audio/mpeg"),
        ("talk.html", None),
        ("talk.mp3.exe", "audio/mpeg"),
        ("talk.7z", "audio/mpeg"),
        ("talk", None),
        ("talk", "application/octet-stream"),
        ("", ""),
    ],
)
def test_what_is_not_declared_as_a_recording_is_refused(filename: str, declared: str | None) -> None:
    with pytest.raises(Problem) as refusal:
        check_declared(filename, declared)

    assert refusal.value.code == "unsupported_media"
    assert "wav" in refusal.value.detail
    assert refusal.value.detail.isprintable()


@given(st.text(ANY_CHARACTERS), st.none() | st.text(ANY_CHARACTERS))
def test_any_declaration_is_either_taken_or_refused(filename: str, declared: str | None) -> None:
    with suppress(Problem):
        stored = check_declared(filename, declared)
        assert stored.isascii()
        assert stored.isprintable()


# Names


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("talk.mp3", "talk.mp3"),
        ("An interview, part 1 (raw) 100% + ‘ok’.m4a", "An interview, part 1 (raw) 100% + ‘ok’.m4a"),
        ("Cafe\u0301.wav", "Café.wav"),
        ("語り🎙.opus", "語り🎙.opus"),
        ("C:\\fakepath\\talk.mp3", "C:_fakepath_talk.mp3"),
        ("../../etc/passwd", "_.._.._etc_passwd"),
        ("..", "_.."),
        (".mp3", "_.mp3"),
        ("a\x00b\nc\x7f\x85.mp3", "a_b_c__.mp3"),
        ("gpj.\u202e3pm.mp3", "gpj._3pm.mp3"),
        ("half\ud83c.mp3", "half_.mp3"),
        ("\u2028\ufffe.mp3", "__.mp3"),
        ("  talk.mp3\u3000", "talk.mp3"),
        ("", "recording"),
        (" ", "recording"),
    ],
)
def test_a_name_stays_readable_and_becomes_safe(filename: str, name: str) -> None:
    assert object_name(filename) == name


@pytest.mark.parametrize("letter", ["a", "é", "語", "🎙"])
def test_a_long_name_is_cut_between_characters_and_keeps_its_extension(letter: str) -> None:
    name = object_name(letter * 300 + ".m2ts")

    assert name.endswith(".m2ts")
    assert set(name.removesuffix(".m2ts")) == {letter}
    assert 200 - len(letter.encode()) < len(name.encode()) <= 200


def test_a_long_name_without_an_extension_is_cut_too() -> None:
    assert object_name("a" * 300) == "a" * 200
    assert object_name("." + "é " * 200) == "_." + "é " * 65 + "é"


@given(st.text(ANY_CHARACTERS, max_size=300) | st.text("./\\ \u0301é\u202e🎙\ud83c", max_size=300))
@example("a" * 195 + " \u0338.mp3")
@example("." + "\u0301" * 120)
def test_every_name_keeps_the_rules_and_is_its_own_name(filename: str) -> None:
    name = object_name(filename)

    assert object_name(name) == name
    assert 1 <= len(name.encode()) <= 200
    assert unicodedata.is_normalized("NFC", name)
    assert not name.startswith(".")
    assert name == name.strip()
    assert not any(c in "/\\" or unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in name)


# The first bytes


def test_there_is_a_sample_of_every_extension() -> None:
    assert set(EXTENSIONS) <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_taken(kind: str) -> None:
    check_content(encode(kind, *speech(1.0))[:HEAD_BYTES])


@pytest.mark.parametrize("kind", KINDS)
def test_a_format_is_also_known_from_far_less(kind: str) -> None:
    check_content(encode(kind, *speech(1.0))[:400])


def test_the_sample_itself_is_taken() -> None:
    check_content(JFK.read_bytes()[:HEAD_BYTES])


@pytest.mark.parametrize("brand", [b"isom", b"iso6", b"mp41", b"dash", b"M4A ", b"3gr6", b"qt  ", b"XAVC"])
@pytest.mark.parametrize("size", [0x14, 0x18, 0x1C, 0x20, 0x24])
def test_an_mp4_of_any_brand_is_taken(brand: bytes, size: int) -> None:
    check_content(size.to_bytes(4) + b"ftyp" + brand + bytes(4) + b"isom" * 4 + bytes(500))


@pytest.mark.parametrize("box", [b"moov", b"mdat", b"wide", b"free", b"skip"])
def test_a_quicktime_movie_from_before_brands_is_taken(box: bytes) -> None:
    check_content(bytes(3) + b"\x08" + box + bytes(500))


@pytest.mark.parametrize("header", ["fffb90", "fffa90", "fff340", "ffe318", "fffda0", "fff150", "fff950"])
def test_mpeg_audio_is_known_by_the_header_of_its_first_frame(header: str) -> None:
    check_content(bytes.fromhex(header) + bytes(500))


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "<xml/>" * 100)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "looks_like"),
    [
        (b"", "empty"),
        (bytes(HEAD_BYTES), "zeros"),
        (b"The freedom to say so.\n" * 10, "text"),
        ("Größe, 日本語\n".encode() * 100, "text"),
        (b"FORMULA 1, by car", "text"),
        (b"GGGGGGGGGG" * 400, "text"),
        ("Hello".encode("utf-16"), "first bytes"),
        (b"<!DOCTYPE html>\n<html><script>alert(1)</script></html>", "HTML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "Vector"),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", "playlist"),
        (b"#EXTM3U\n\0\1\2", "playlist"),
        (b"[playlist]\nFile1=http://169.254.169.254/\n", "playlist"),
        (b"[Reference]\nRef1=http://169.254.169.254/\n", "text"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "text"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n\0\1", "first bytes"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n", "text"),
        (b"MThd\0\0\0\6\0\1\0\2\1\xe0", "MIDI"),
        (b"RIFF\x24\0\0\0RMIDdata" + bytes(24), "MIDI"),
        (zipped("a.mp3"), "ZIP"),
        (zipped("word/document.xml"), "Office"),
        (b"\x7fELF\2\1\1" + bytes(57), "ELF"),
        (b"MZ\x90\0\3" + bytes(100), "Windows"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n\0", "Portable Document"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(20), "Portable Network Graphics"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(20), "JPEG"),
        (b"GIF89a\1\0\1\0" + bytes(20), "Graphics"),
        (b"RIFF\x24\0\0\0WEBPVP8 " + bytes(24), "WebP"),
        (b"\0\0\0\x1cftypheic" + bytes(24), "image"),
        (b"\0\0\0\x20ftypavif" + bytes(24), "image"),
        (b"\0\0\1\0\1\0\x20\x20" + bytes(24), "Icon"),
        (b"\x1f\x8b\x08\0\0\0\0\0" + bytes(24), "GZIP"),
        (b"SQLite format 3\0" + bytes(84), "SQLite"),
        (b"\0\0\0\1" + bytes(100), "first bytes"),
        (b"\xff\xff\x90\0" * 100, "first bytes"),
    ],
)
def test_what_is_clearly_not_a_recording_is_refused_by_its_name(content: bytes, looks_like: str) -> None:
    with pytest.raises(Problem) as refusal:
        check_content(content[:HEAD_BYTES])

    assert refusal.value.code == "unsupported_media"
    assert looks_like in refusal.value.detail


def test_random_bytes_are_refused_but_for_chance() -> None:
    source = random.Random(1)
    taken = [content for _ in range(300) if is_taken(content := source.randbytes(HEAD_BYTES))]

    assert len(taken) <= 3


def is_taken(content: bytes) -> bool:
    try:
        check_content(content)
    except Problem:
        return False
    return True


@given(
    st.sampled_from(
        [b"", b"ID3", b"RIFF", b"FORM", b"\xff\xfb", b"\xff\xf1", b"\0\0\0\x20ftyp", b"G", b"PK"]
    ),
    st.binary(max_size=400),
)
def test_any_bytes_are_either_taken_or_refused(signature: bytes, rest: bytes) -> None:
    with suppress(Problem):
        check_content(signature + rest)
