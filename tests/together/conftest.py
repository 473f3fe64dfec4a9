"""Servers and real processes for the tests that need the whole system."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from nginx_server import NginxServer
from recordings import Recordings

if TYPE_CHECKING:
    from formats_run import Runs


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


@pytest.fixture(scope="session")
def formats() -> Iterator[dict[str, Path]]:
    """The recording in every format, by the format's name; made once for the whole run."""
    from formats import make_formats

    # Too much to be kept for a reader of the last runs, as `tmp_path_factory` does.
    with tempfile.TemporaryDirectory() as folder:
        yield make_formats(Path(folder))


@pytest.fixture(scope="session")
def format_runs(formats: dict[str, Path]) -> Runs:
    """Every format played in every way from a slow server, once for the whole run: that takes about a minute."""
    # Decoders are loaded by the tests that need them only.
    from formats_run import play_all

    with NginxServer() as server, tempfile.TemporaryDirectory() as cache:
        return play_all(server, formats, Path(cache))
