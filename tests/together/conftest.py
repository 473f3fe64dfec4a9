"""Servers and real processes for the tests that need the whole system."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from nginx_server import NginxServer
from recordings import Recordings


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that asks for nginx needs it, whether or not its author remembered the marker."""
    for item in items:
        if "nginx" in getattr(item, "fixturenames", ()):
            item.add_marker("nginx")


@pytest.fixture(scope="session")
def nginx() -> Iterator[NginxServer]:
    """One nginx for the whole run; what is put under its root stays, so each test uses names of its own."""
    with NginxServer() as server:
        yield server


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    """Made once for the whole run."""
    return Recordings(tmp_path_factory.mktemp("recordings"))
