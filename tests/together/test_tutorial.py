"""The tutorial does what it says, block by block, and its gateway more than the page shows."""

from __future__ import annotations

import collections
import http.client
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tutorial_page import ROOT, Page, environment, free_port, parse, run_page

from kithara_actors.testing.origin import Fault, Origin, Resource

pytestmark = pytest.mark.long

BLOCKS = parse((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"))
NEEDED = {
    "Install": {"sh": 1},
    "The demo": {"sh": 1},
    "A recording, and a slow server": {"python": 2},
    "From the shell": {"sh": 5},
    "Read while it downloads": {"python": 2},
    "Decode with PyAV": {"python": 1},
    "Seek by time": {"python": 1},
    "miniaudio, mutagen, soundfile": {"python": 3},
    "Programs that need a path": {"python": 1},
    "Tags and duration": {"python": 1},
    "Errors": {"python": 2},
    "Events": {"python": 1, "sh": 2},
    "Small requests": {"python": 2},
    "Ahead of its use": {"python": 1},
    "What goes first": {"python": 1},
    "Cancelling": {"python": 1},
    "A cache directory": {"python": 1},
    "Settings": {"toml": 1, "sh": 2},
    "In a server": {"python": 3, "sh": 1},
    "The end": {"python": 1},
}
"""The fewest blocks of each section."""
GATEWAY = next(block.source for block in BLOCKS if block.file == "gateway.py")


# --- The page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The whole page, run once: its blocks build on each other."""
    return run_page(BLOCKS, tmp_path_factory.mktemp("tutorial"))


# For whichever comes first and has to wait for the whole page.
LONG = pytest.mark.timeout(400)


@LONG
@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=lambda number: BLOCKS[number].name)
def test_block(page: Page, number: int) -> None:
    result = page.results[number]
    assert result.failure is None, f"{result.block.name}\n{result.block.source}\n{result.failure}"


@LONG
def test_page_leaves_nothing(page: Page) -> None:
    assert page.left == []


def test_sections_have_their_blocks() -> None:
    found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for block in BLOCKS:
        found[block.section][block.language] += 1
    for section, languages in NEEDED.items():
        for language, count in languages.items():
            assert found[section][language] >= count, f"{section}: {language}"


def test_what_is_not_run_is_the_install_line_of_readme() -> None:
    (install,) = [block for block in BLOCKS if block.install]
    (line,) = install.source.splitlines()
    assert f"`{line}`" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_links_lead_somewhere() -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    targets = [piece.partition(")")[0] for piece in text.split("](")[1:]]
    headings = {line[3:].lower().replace(" ", "-") for line in text.splitlines() if line.startswith("## ")}
    assert len(targets) >= 4
    for target in targets:
        assert target[1:] in headings if target.startswith("#") else (ROOT / "docs" / target).is_file(), target


# --- Its gateway


@contextmanager
def gateway(tmp_path: Path, upstream: str, source: str = GATEWAY) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The page's program, listening, and its port."""
    (tmp_path / "gateway.py").write_text(source)
    port = free_port()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            ["python", "gateway.py", upstream, str(port)],
            cwd=tmp_path,
            env=(variables := environment(tmp_path)),
            executable=f"{variables['PATH'].partition(os.pathsep)[0]}/python",
            stderr=log,
            text=True,
        )
    ended = os.pidfd_open(process.pid)
    try:
        while not listens(port):
            assert not select.select([ended], [], [], 0.02)[0], (tmp_path / "log").read_text()
        yield process, port
    finally:
        os.close(ended)
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    try:
        ask(port, "/").close()
    except ConnectionRefusedError:
        return False
    return True


def ask(port: int, target: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", target)
    # HTTP/1.0: the answer has taken over the socket.
    return connection.getresponse()


def stop(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(30)


def test_gateway_streams_while_it_downloads(tmp_path: Path) -> None:
    album = Resource(size=500_000, script=[Fault(stall_after=100_000)], content_type="audio/flac")
    with Origin() as origin, gateway(tmp_path, origin.base) as (process, port):
        origin.add("/one%20album.flac", album)
        with ask(port, "/play?name=one%20album.flac") as answer:
            assert (answer.status, answer.headers["Content-Type"], answer.length) == (200, "audio/flac", 500_000)
            # No more has come: the server has stopped after these, and will not go on.
            assert answer.read(100_000) == album.read(0, 100_000)
            assert stop(process) == 0
            with pytest.raises(http.client.IncompleteRead):
                answer.read()
        log = (tmp_path / "log").read_text()
    assert "the system has been stopped" in log
    assert "Traceback" not in log


def test_gateway_lets_answers_end_if_told_to(tmp_path: Path) -> None:
    song = Resource(size=300_000, rate=200_000)
    patient = GATEWAY.replace("\nupstream, port =", "\nThreadingHTTPServer.daemon_threads = False\nupstream, port =")
    assert patient != GATEWAY
    with Origin() as origin, gateway(tmp_path, origin.base, patient) as (process, port):
        origin.add("/song.mp3", song)
        with ask(port, "/play?name=song.mp3") as answer:
            assert answer.read(1000) == song.read(0, 1000)
            process.send_signal(signal.SIGTERM)
            assert answer.read() == song.read(1000)
        assert process.wait(30) == 0


def test_gateway_says_what_upstream_says(tmp_path: Path) -> None:
    with Origin() as origin, gateway(tmp_path, origin.base) as (process, port):
        origin.add("/page.mp3", Resource(size=1000, always=Fault(html=True)))
        for target, status in (
            ("/play?name=missing.mp3", 404),
            ("/play?name=page.mp3", 502),
            ("/play?name=", 404),
            ("/play", 404),
            ("/other?name=page.mp3", 404),
            ("/play?name=//elsewhere.invalid/a.mp3", 404),
        ):
            with ask(port, target) as answer:
                assert answer.status == status, target
        assert stop(process) == 0
        assert {seen.path for seen in origin.requests} == {
            "/missing.mp3",
            "/page.mp3",
            "/%2F%2Felsewhere.invalid%2Fa.mp3",
        }
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_gateway_survives_clients_that_leave(tmp_path: Path) -> None:
    song = Resource(size=20_000_000)
    with Origin() as origin, gateway(tmp_path, origin.base) as (process, port):
        origin.add("/song.mp3", song)
        for _ in range(3):
            with ask(port, "/play?name=song.mp3") as answer:
                assert answer.read(1000) == song.read(0, 1000)
        with ask(port, "/play?name=song.mp3") as answer:
            assert answer.read() == song.read()
        assert stop(process) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_gateway_is_as_short_as_the_page_says() -> None:
    lines = [line for line in GATEWAY.splitlines() if line.strip() and not line.startswith(("#", "import", "from"))]
    assert len(lines) <= 32
