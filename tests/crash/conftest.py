"""The world of the crash tests: real servers behind a proxy that strikes."""

from collections.abc import Iterator

import pytest
from bucketscribe.settings import Settings

from tests.conftest import LaterBucket
from tests.crash.proxy import Proxy, proxying
from tests.crash.world import World
from tests.servers import Servers


@pytest.fixture(scope="session")
def proxy(servers: Servers) -> Iterator[Proxy]:
    with proxying(servers.settings) as running:
        yield running


@pytest.fixture
def world(settings: Settings, bucket: LaterBucket, proxy: Proxy) -> World:
    return World(settings, bucket, proxy)
