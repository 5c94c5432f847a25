"""tus checksums: bytes that arrive otherwise than they were sent never get into a recording."""

from base64 import b64encode
from zlib import crc32

import pytest
from bucketscribe.records import State
from bucketscribe.service import Service
from fastapi.testclient import TestClient

from tests.integration.test_tus_protocol import arrived, record_of
from tests.integration.test_uploading import refused
from tests.tus import MIB, ask, checksum, create, recording

BODY = recording(12 * MIB + 5)
SPANS = {"within a part": (0, MIB), "of parts": (MIB, 11 * MIB), "the last": (MIB, len(BODY))}


def of_crc32(body: bytes) -> dict[str, str]:
    return {"Upload-Checksum": f"crc32 {b64encode(crc32(body).to_bytes(4)).decode()}"}


def corrupt(body: bytes) -> bytes:
    """The same with bytes changed in every part it touches."""
    changed = bytearray(body)
    changed[::MIB] = bytes(255 - byte for byte in body[::MIB])
    return bytes(changed)


def test_right_checksums_are_accepted_and_wrong_ones_refused(api: TestClient, service: Service) -> None:
    cuts = {"sha256": MIB, "crc32": 7 * MIB, "md5": 8 * MIB, "sha1": len(BODY)}
    upload, start = create(api, len(BODY)), 0
    for algorithm, end in cuts.items():
        piece = BODY[start:end]
        told = of_crc32(piece) if algorithm == "crc32" else checksum(piece, algorithm)
        refused(upload.patch(start, corrupt(piece), **told), 460, "checksum_mismatch")
        assert upload.offset() == start
        answer = upload.patch(start, piece, **told)
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(end))
        start = end
    arrived(service, upload, BODY)


AGAIN = ("with a checksum", "without one", "in other pieces")
QUICK = {("of parts", "without one"), ("the last", "in other pieces")}


@pytest.mark.parametrize(
    ("span", "again"),
    [
        pytest.param(span, again, marks=[] if (span, again) in QUICK else pytest.mark.long)
        for span in SPANS
        for again in AGAIN
    ],
)
def test_corrupt_bytes_never_get_into_the_recording(
    api: TestClient, service: Service, span: str, again: str
) -> None:
    """Also where the bucket shows both versions of a part that was sent twice in one second."""
    start, end = SPANS[span]
    upload = create(api, len(BODY))
    if start:
        upload.append(BODY[:start])
    piece = BODY[start:end]
    for _ in range(2):
        refused(upload.patch(start, corrupt(piece), **checksum(piece)), 460, "checksum_mismatch")
        assert upload.offset() == start
        assert record_of(service, upload).state is State.UPLOADING
    match again:
        case "with a checksum":
            assert upload.patch(start, piece, **checksum(piece)).status_code == 204
        case "without one":
            assert upload.patch(start, piece).status_code == 204
        case _:
            half = len(piece) // 2
            assert upload.patch(start, piece[:half]).status_code == 204
            assert upload.offset() == start + half
            assert upload.patch(start + half, piece[half:]).status_code == 204
    if end < len(BODY):
        assert upload.offset() == end
        upload.append(BODY)
    arrived(service, upload, BODY)


def test_a_corrupt_last_piece_that_is_shorter_does_not_stay_behind(api: TestClient, service: Service) -> None:
    """What was sent as the last part is no longer it where the client then sends less at a time."""
    upload = create(api, None)
    upload.append(BODY[: 5 * MIB])
    wrong = corrupt(BODY[5 * MIB : 7 * MIB])
    right = checksum(BODY[5 * MIB : 7 * MIB])
    refused(upload.patch(5 * MIB, wrong, Upload_Length=str(7 * MIB), **right), 460, "checksum_mismatch")
    assert upload.offset() == 5 * MIB
    # The length that came with it was not taken either.
    assert "upload-length" not in upload.head().headers
    upload.append(BODY[: 6 * MIB], MIB // 2)
    last = BODY[6 * MIB : 7 * MIB]
    assert upload.patch(6 * MIB, last, Upload_Length=str(7 * MIB), **checksum(last)).status_code == 204
    arrived(service, upload, BODY[: 7 * MIB])


NO_CHECKSUMS = (
    *("sha512 AAAA", "SHA1", "sha1", "sha1 !!!", "sha1 AAAA", "", "sha1 AAAA AAAA", "crc32 AA=="),
    "md5 2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
)


def test_a_checksum_that_is_none_is_refused_before_a_byte_is_taken(api: TestClient) -> None:
    upload = create(api, len(BODY))
    for told in NO_CHECKSUMS:
        answer = upload.patch(0, BODY[:MIB], Upload_Checksum=told)
        assert (told, answer.status_code) == (told, 400), answer.text
        assert answer.json()["code"] in ("checksum_unsupported", "invalid_tus_request")
        assert upload.offset() == 0


def test_an_algorithm_that_is_not_known_is_refused_by_name(api: TestClient) -> None:
    upload = create(api, len(BODY))
    refused(upload.patch(0, b"x", Upload_Checksum="sha512 AAAA"), 400, "checksum_unsupported")


def test_what_comes_with_the_creation_may_have_a_checksum(api: TestClient, service: Service) -> None:
    before = {entry.key for entry in service.bucket.listing("tus/")}
    made = ask(api, len(BODY), BODY[:MIB], **checksum(BODY[:MIB]))
    assert (made.status_code, made.headers["upload-offset"]) == (201, str(MIB))
    refused(ask(api, len(BODY), corrupt(BODY[:MIB]), **checksum(BODY[:MIB])), 460, "checksum_mismatch")
    ids = {entry.key.split("/")[2] for entry in service.bucket.listing("tus/")} - before
    assert ids == {made.headers["location"].rpartition("/")[2]}
