"""Fixtures: the package of the functions, built once."""

from pathlib import Path

import pytest

from tests.deploy import runtime


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built package of the functions, for this machine."""
    return runtime.build(tmp_path_factory.mktemp("package"))
