"""A LocalStack of its own, as its ready.d script has set it up: the other tests change what that set up."""

from collections.abc import Iterator

import pytest
from bucketscribe.up.ports import is_free

from tests.localstack.server import localstack
from tests.servers import Server, Servers

PAGE = "https://app.example"
"""The one origin whose pages may upload there."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = next(port for port in range(20100, 22000) if is_free("127.0.0.1", port))
    origin = {"BUCKETSCRIBE_ALLOWED_ORIGINS": PAGE}
    server = Server(localstack(tmp_path_factory.mktemp("localstack"), port, origin))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def endpoint(server: Server, servers: Servers) -> str:
    """Its URL. The shared servers' credentials, which are the same, are in the environment."""
    return f"http://{server.child.environment['GATEWAY_LISTEN']}"
