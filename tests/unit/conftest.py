"""Fixtures: a stand-in for the bucket, for whoever needs no more than that."""

from collections.abc import Iterator

import pytest

from tests.unit.standins import BucketStandIn


@pytest.fixture
def bucket() -> Iterator[BucketStandIn]:
    with BucketStandIn() as server:
        yield server
