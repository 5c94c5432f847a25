"""The bucket's calls on the real server, where others do not come by."""

import httpx2
import pytest
from bucketscribe.presign import Presigner
from bucketscribe.s3 import sdk_credentials
from bucketscribe.settings import Settings

from tests.conftest import LaterBucket


@pytest.mark.parametrize("key", ["a b/c+d", "ü/日本.wav", "100%/a%2Fb", "q?u=1&v#w", "'\"(~)*!@:;,$"])
def test_any_key_can_be_written_found_read_and_removed(bucket: LaterBucket, key: str) -> None:
    written = bucket.create(key, b"0123456789")
    assert [entry.key for entry in bucket.listing("")] == [key]
    assert bucket.read(key, 2, 5, written.etag) == b"234"
    opened = bucket.open(key, 4)
    assert opened is not None
    assert (opened[0].size, opened[0].etag, opened[1]) == (10, written.etag, b"0123")
    bucket.delete(key)
    assert (bucket.find(key), bucket.get(key), bucket.open(key, 4)) == (None, None, None)


def test_an_empty_object_opens_with_no_bytes(bucket: LaterBucket) -> None:
    bucket.put("empty", b"")
    opened = bucket.open("empty", 4096)
    assert opened is not None
    assert (opened[0].size, opened[1]) == (0, b"")


def test_all_pages_of_a_long_list_of_parts_are_read(bucket: LaterBucket, settings: Settings) -> None:
    upload_id, _ = bucket.begin_upload("long", "audio/wav")
    presigner = Presigner(settings.public_endpoint, bucket.name, settings.region, True, sdk_credentials())
    urls = presigner.parts(
        "long", upload_id, [(n, None) for n in range(1, 1003)], expires_seconds=600, now=bucket.now()
    )
    with httpx2.Client() as client:
        for url in urls.values():
            assert client.put(url, content=b"x").status_code == 200
    listed = bucket.list_parts("long", upload_id)
    assert listed is not None
    assert [part.number for part in listed[0]] == list(range(1, 1003))
    assert {part.size for part in listed[0]} == {1}
