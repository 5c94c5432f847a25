"""How long a presigned part URL takes: boto3 and ours, in one process, one after the other.

    .venv/bin/python benchmarks/presign.py [urls]

Prints the best of five rounds for each, in microseconds a URL. boto3, being slow, signs a twentieth as many.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import boto3
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from bucketscribe.presign import Presigner

BUCKET, REGION, ENDPOINT = "recordings", "us-east-1", "https://s3.example.com"
KEY = "uploads/someone-0123456789abcdef/0193b3f4-6d5e-7c3a-9f1e-2b4c6d8e0f12/An interview, part 1 – Zoë.m4a"
UPLOAD_ID = "VXBsb2FkIElEIGZvciA2aWWpbmcncyBteS1tb3ZpZS5tMnRzIHVwbG9hZA"
TOKEN = "IQoJb3JpZ2luX2VjE" * 50
PART_BYTES = 8 * 1024**2
ROUNDS = 5


def best(sign: Callable[[int], object], urls: int) -> float:
    """Return the microseconds a URL of the best round."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        sign(urls)
        seconds.append(time.perf_counter() - start)
    return min(seconds) / urls * 1e6


def main(urls: int) -> None:
    """Measure and print."""
    credentials = ReadOnlyCredentials("AKIDEXAMPLE", "secret", TOKEN)
    session = boto3.Session(*credentials[:3], region_name=REGION)
    s3 = session.client(
        "s3",
        endpoint_url=ENDPOINT,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
        ),
    )
    presigner = Presigner(ENDPOINT, BUCKET, REGION, True, lambda: credentials)
    now = datetime.now(UTC)

    def sdk(count: int) -> None:
        for number in range(1, count + 1):
            s3.generate_presigned_url(
                "upload_part",
                Params={"Bucket": BUCKET, "Key": KEY, "UploadId": UPLOAD_ID, "PartNumber": number},
            )

    def single(count: int) -> None:
        for number in range(1, count + 1):
            presigner.part(KEY, UPLOAD_ID, number, expires_seconds=3600, now=datetime.now(UTC))

    def batch(count: int) -> None:
        numbers = [(number, None) for number in range(1, count + 1)]
        presigner.parts(KEY, UPLOAD_ID, numbers, expires_seconds=3600, now=now)

    def sized(count: int) -> None:
        numbers = [(number, PART_BYTES) for number in range(1, count + 1)]
        presigner.parts(KEY, UPLOAD_ID, numbers, expires_seconds=3600, now=now)

    reference = best(sdk, max(urls // 20, 1))
    print(f"{'boto3 generate_presigned_url':40} {reference:8.1f} µs a URL")
    for name, sign in (("one at a time", single), ("batch", batch), ("batch, lengths signed", sized)):
        ours = best(sign, urls)
        print(f"{f'bucketscribe, {name}':40} {ours:8.1f} µs a URL   {reference / ours:5.0f} times as fast")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
