"""File names made to do harm: whatever a file is called, its name never breaks anything nor leads elsewhere.

A name is taken, and then everything works with it, or it is refused with a code. What the object is called in
the bucket, and what a download is called, is harmless; the record tells the name as it was given.
"""

import json
import os
import random
import re
import unicodedata
from typing import Any
from urllib.parse import quote, unquote

import httpx2
import pytest
from bucketscribe.auth import owned_id
from bucketscribe.bucket import Bucket
from bucketscribe.errors import PROBLEMS, Problem
from bucketscribe.media import check_declared, object_name
from bucketscribe.presign import content_disposition
from bucketscribe.records import new_id
from fastapi.testclient import TestClient
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.integration.conftest import Upload
from tests.media.make import JFK

SEED = int(os.environ.get("BUCKETSCRIBE_TEST_SEED", "20261121"))
RANDOM_NAMES = 130
RECORDING = JFK.read_bytes()[:2000]
MOST_HEADER_BYTES = 8000
"""What S3 takes of a request's headers (8 KB), and many servers of an address."""

NAMES = [
    # Ways out of the folder
    "../../../etc/passwd.wav",
    "..\\..\\windows\\win.ini.wav",
    "/etc/passwd",
    "C:\\fakepath\\talk.wav",
    "..",
    ".",
    "./.wav",
    "....//....//talk.wav",
    "uploads/other/019aa5b2-7c1e-7d3a-9f00-0242ac120002/talk.wav",
    "../../other/019aa5b2-7c1e-7d3a-9f00-0242ac120002/talk.wav",
    "\u2215\u2044\uff0f\u29f8talk.wav",
    # Encoded once, twice, and wrongly
    "%2e%2e%2f%2e%2e%2ftalk.wav",
    "..%2F..%5Ctalk.wav",
    "%252e%252e%252ftalk.wav",
    "talk%00.wav",
    "100%.wav",
    "%zz%.wav",
    "a+b c&d=e?f#g;h.wav",
    "\\u002e\\u002e/talk.wav",
    # What ends strings and lines
    "talk\x00.exe.wav",
    "\x00.wav",
    "".join(map(chr, range(32))) + ".wav",
    "\x7f\x80\x85\x9f.wav",
    "a\r\nX-Injected: yes\r\n\r\n<html>.wav",
    "a\u2028b\u2029c\x0bd\x0c.wav",
    # What ends a header's parameter
    'a"; filename="evil.exe.wav',
    "a'; filename*=UTF-8''evil.exe; x='.wav",
    'a\\";\\.wav',
    "=?utf-8?B?ZXZpbC5leGU=?=.wav",
    "'\"`$(reboot)`|;&&.wav",
    "<script>alert(1)</script>.wav",
    "{{7*7}}${7*7}.wav",
    # What looks like something else, or like nothing
    "\u202egpj.wav",
    "\u202a\u202b\u202d\u2066\u2067\u2068\u2069\u202c\u200e\u200f\u061c.wav",
    "ta\u200blk\u200c\u200d\u2060\ufeff.wav",
    "\U000e0041\U000e0042\u180e\u00ad.wav",
    "\u200b",
    "\u3164\u115f\u2800.wav",
    "\u0430\u0440\u0440le.wav",
    # Letters made of several
    "Cafe\u0301 Gru\u0308\u00dfe.wav",
    "Caf\u00e9 Gr\u00fc\u00dfe.wav",
    "\u1112\u1161\u11ab\u1100\u1173\u11af.wav",
    "\ufb01\u212b\u2126\u00bd\u2460.wav",
    "Z" + "\u0351\u0327" * 300 + ".wav",
    "\u0301.wav",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467.wav",
    # No letters at all
    "half\ud800.wav",
    "\udfff\ud800.wav",
    "\udce4\udcf6.wav",
    "\ufdd0\ufffe\uffff\U0010ffff.wav",
    "\ue000\U000f0000.wav",
    "\ufffd.wav",
    # Names that some systems keep for themselves
    "CON",
    "NUL.wav",
    "aux.mp3.wav",
    "COM1.wav",
    "talk.wav:stream:$DATA",
    "~/talk.wav",
    "-rf.wav",
    # Dots, blanks, and nothing else
    ".wav",
    "...wav",
    "talk.wav.",
    "talk.wav...   ",
    "   talk.wav",
    " ",
    "\t\n",
    "\u00a0\u2003.wav\u3000",
    "wav",
    # Long ones
    "a" * 4092 + ".wav",
    "a" * 5000 + ".wav",
    "\U0001f399" * 63 + ".wav",
    "\U0001f399" * 4092 + ".wav",
    "\u8a9e" * 300,
    "a." * 2000 + "wav",
    "." * 300 + "wav",
    "a" * 195 + " \u0338.wav",
    "%" * 1000 + ".wav",
    '"' * 1000 + ".wav",
    "talk." + "wav" * 100,
]

ANY_CHARACTERS = st.characters(exclude_categories=[])
PIECES = st.sampled_from(
    (
        *("../", "..\\", "%2F", "%00", "%252e", "\x00", "\r\n", '"', "'", ";", "\u202e", "\u200b", "\ud800"),
        *("\u0301", "e\u0301", "CON", ".", " ", "\U0001f399" * 60, "uploads/other/", "filename*=UTF-8''"),
        *(".wav", ".mp3"),
    )
)
ANY_NAME = st.lists(PIECES | st.text(ANY_CHARACTERS, max_size=20), max_size=30).map("".join)


# Each rule by itself


@given(ANY_NAME, st.none() | st.sampled_from(["", "audio/wav", "text/html"]) | ANY_NAME)
@settings(max_examples=2000)
def test_any_name_is_taken_or_refused_with_a_code(name: str, declared: str | None) -> None:
    try:
        told = check_declared(name, declared)
    except Problem as refusal:
        told = json.dumps(refusal.document(), ensure_ascii=False)
        if refusal.code != "unsupported_media":
            raise
    assert told.encode().decode().isprintable()


@given(ANY_NAME)
@settings(max_examples=2000)
@example("\ud800")
def test_any_name_makes_a_key_below_its_owner_s_own_prefix(name: str) -> None:
    id = new_id()
    key = f"uploads/local/{id}/{object_name(name)}"
    assert owned_id("local", key) == id
    assert harmless(object_name(name))
    with pytest.raises(Problem, match="not_yours"):
        owned_id("other", key)


@given(ANY_NAME)
@settings(max_examples=2000)
def test_any_name_makes_a_header_with_nothing_of_it_outside_its_place(name: str) -> None:
    assert told_name(content_disposition(name)) == name.encode(errors="replace").decode()


DISPOSITION = re.compile(
    # RFC 6266, 4.1; of a quoted string's characters (RFC 9110, 5.6.4) none that need or look like an escape
    r'(?:attachment|inline); filename="[ !#$&-.0-\[\]-~]+"; '
    # RFC 8187, 3.2.1: attr-char and pct-encoded
    r"filename\*=UTF-8''((?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})*)"
)


def told_name(header: str) -> str:
    """The name in a Content-Disposition header, which has nothing else in it."""
    match = DISPOSITION.fullmatch(header)
    assert match is not None, header
    return unquote(match[1], errors="strict")


def harmless(name: str) -> bool:
    """Whether a name is short, shows all of what it is, and is no path."""
    return (
        0 < len(name.encode()) <= 200
        and unicodedata.is_normalized("NFC", name)
        and not name.startswith(".")
        and not any(c in "/\\" or unicodedata.category(c)[0] == "C" for c in name)
    )


# The whole way


def random_names() -> list[str]:
    """Pieces of the names above, put together by chance."""
    dice = random.Random(SEED)
    pieces = [name[at : at + 12] for name in NAMES for at in range(0, min(len(name), 48), 12)]
    return ["".join(dice.choices(pieces, k=dice.randrange(1, 12))) + ".wav" for _ in range(RANDOM_NAMES)]


def posted(api: TestClient, body: dict[str, Any]) -> httpx2.Response:
    """A begin as any client can send it: JSON has escapes for what UTF-8 has not."""
    return api.post("/s3/multipart", content=json.dumps(body), headers={"Content-Type": "application/json"})


def see_refused(answer: httpx2.Response, name: str) -> None:
    assert 400 <= answer.status_code < 500, (name, answer.text)
    problem = answer.json()
    assert PROBLEMS[problem["code"]][0] == answer.status_code, (name, problem)


@pytest.mark.long
def test_with_any_name_an_upload_is_refused_or_goes_its_whole_way(api: TestClient, bucket: Bucket) -> None:
    taken = 0
    names = NAMES + random_names()
    for number, name in enumerate(names):
        answer = posted(api, {"filename": name, "type": "audio/wav"})
        if answer.status_code != 200:
            see_refused(answer, name)
            continue
        taken += 1
        see_whole_way(api, bucket, Upload(api, answer.json()), name, given_up=number % 5 == 4)
    assert taken > len(names) * 0.7


def see_whole_way(api: TestClient, bucket: Bucket, upload: Upload, name: str, *, given_up: bool) -> None:
    prefix = f"uploads/local/{upload.id}/"
    assert owned_id("local", upload.key) == upload.id
    assert upload.key.startswith(prefix)
    assert harmless(upload.key.removeprefix(prefix)), upload.key
    assert api.get(f"/transcriptions/{upload.id}").json()["name"] == name
    part = upload.put(1, RECORDING)
    assert [listed["PartNumber"] for listed in upload.parts().json()] == [1]
    if given_up:
        assert upload.abort().json() == {}
        assert upload.state() == "canceled"
        assert list(bucket.listing(prefix)) == []
        return
    assert upload.complete([part]).json()["state"] == "queued"
    assert [entry.key for entry in bucket.listing(prefix)] == [upload.key]
    redirect = api.get(f"/transcriptions/{upload.id}/media")
    assert redirect.status_code == 307
    assert len(redirect.headers["location"]) < MOST_HEADER_BYTES, name
    download = httpx2.get(redirect.headers["location"])
    assert (download.status_code, download.content) == (200, RECORDING), name
    assert "x-injected" not in download.headers
    assert harmless(told_name(download.headers["content-disposition"])), name


@pytest.mark.long
def test_with_any_name_a_form_is_refused_or_takes_the_file(api: TestClient, bucket: Bucket) -> None:
    for name in NAMES:
        answer = api.get(f"/s3/params?type=audio/wav&filename={quote(name, errors='surrogatepass')}")
        if answer.status_code != 200:
            see_refused(answer, name)
            continue
        form = answer.json()
        sent = httpx2.post(form["url"], data=form["fields"], files={"file": RECORDING})
        assert sent.status_code == 201, (name, sent.text)
        assert [entry.key for entry in bucket.listing(f"uploads/local/{form['id']}/")] == [form["key"]]


@pytest.mark.long
def test_a_hostile_text_anywhere_else_in_a_begin_is_taken_or_refused(api: TestClient) -> None:
    for text in NAMES:
        for metadata in ({"name": text}, {"type": text}, {"x-note": text}, {f"x-{text}": 1}, {text: text}):
            answer = posted(api, {"filename": "talk.wav", "metadata": metadata})
            if answer.status_code != 200:
                see_refused(answer, text)
        answer = posted(api, {"filename": "talk.wav", "type": text})
        if answer.status_code != 200:
            see_refused(answer, text)
