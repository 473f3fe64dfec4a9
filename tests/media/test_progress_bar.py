"""The bar of `kithara get` in terminals of any width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len
from terminal_kit import Terminal

from kithara_actors.testing.origin import Origin, Resource

ROOT = Path(__file__).resolve().parents[2]
NAME = "{曲名} of a long song.mp3"


@pytest.fixture
def url() -> Iterator[str]:
    with Origin() as origin:
        yield origin.add("/song.mp3", Resource(size=100_000_000, rate=10_000_000, content_type="audio/mpeg"))


def frames(url: str, folder: Path, columns: int) -> list[str]:
    """What the bar shows, until there is some of it; the terminal is looked at for lines that broke."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "kithara_actors", "get", "-o", NAME, url],
        cwd=folder,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    terminal, shown, text = Terminal(columns), [], b""
    try:
        while len(shown) < 8 or "━" not in shown[-1]:
            text += os.read(ours, 65536)
            whole, mark, rest = text.rpartition(b"\r")
            if mark and b"\x1b[2K" in whole:
                terminal.feed(whole.decode())
                text = mark + rest
                shown += [row for row in terminal.rows if "%" in row][:1]
                assert not terminal.wrapped
                assert len(terminal.rows) <= 1
        process.send_signal(signal.SIGINT)
        while _read(ours):
            pass
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return shown


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # EIO: the last who had the other end open has closed it
        return b""


PERCENT, SIZE, SPEED, TIME = r" +\d+%", r" +\d+\.\d/100\.0 MB", r" +\d+\.\d [kM]B/s", r" +\d+:\d\d"


@pytest.mark.parametrize(
    ("columns", "figures"),
    [
        (20, PERCENT),
        (25, PERCENT),
        (40, PERCENT + SIZE),
        (43, PERCENT + SIZE + SPEED),
        (50, PERCENT + SIZE + SPEED),
        (80, PERCENT + SIZE + SPEED + TIME),
    ],
)
def test_bar_drops_figures_instead_of_breaking_them(url: str, tmp_path: Path, columns: int, figures: str) -> None:
    last = frames(url, tmp_path, columns)[-1]
    assert cell_len(last) <= columns - 3
    found = re.fullmatch(rf"(.*?) ?[━╸╺ ]*━+[━╸╺ ]*{figures} *", last)
    assert found, last
    assert found[1].startswith("{曲") is (columns >= 50), last
    assert list(tmp_path.iterdir()) == []
