"""`kithara play` as its users run it: in a terminal of its own, or without one."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from actors.clock import monotonic

__all__ = ["COMMAND", "HANG", "TerminalSession", "environment", "play"]

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "kithara_actors"]
HANG = 60.0
"""Seconds after which a test calls it a hang."""
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def environment(temporary: Path) -> dict[str, str]:
    """Temporary files go to `temporary`; there is no sound device, whatever this machine has."""
    temporary.mkdir(exist_ok=True)
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(temporary),
        "TERM": "xterm",
        "ALSA_CONFIG_PATH": os.devnull,
        "PULSE_SERVER": "unix:/nowhere",
        "JACK_NO_START_SERVER": "1",
    }


def play(folder: Path, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[bytes]:
    """Run it in `folder` to its end, without a terminal; it leaves no temporary file."""
    temporary = folder.parent / "temporary"
    done = subprocess.run(
        [*COMMAND, "play", *arguments],
        cwd=folder,
        env=environment(temporary),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        timeout=HANG,
        **{"stdout": subprocess.PIPE, **settings},
    )
    assert list(temporary.iterdir()) == []
    return done


# What a shell does: puts its job into the foreground, is told when it stops, and has it go on there or behind.
_SHELL = """
import os, signal, subprocess, sys

def foreground(group):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    os.tcsetpgrp(0, group)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)

place, *command = sys.argv[1:]
job = subprocess.Popen(command, process_group=0)
if place == "fg":
    foreground(job.pid)
while True:
    if place == "fg":
        _, status = os.waitpid(job.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        foreground(os.getpgrp())
        print("[stopped]", flush=True)
    place = sys.stdin.readline().strip()
    if place == "end":
        _, status = os.waitpid(job.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            print("[stopped behind]", flush=True)
            os.killpg(job.pid, signal.SIGKILL)
            _, status = os.waitpid(job.pid, 0)
        break
    if place == "fg":
        foreground(job.pid)
    os.killpg(job.pid, signal.SIGCONT)
    print("[" + place + "]", flush=True)
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)
"""


class TerminalSession:
    """A command that has a terminal; what it writes there is read while a test waits for something.

    With `shell` it is a job of a small shell, in the foreground ("fg") or behind ("bg"), and `press` reaches that shell
    when the job is stopped or behind: lines "fg" and "bg", or "end", which waits for the job.
    """

    def __init__(
        self,
        command: list[str],
        folder: Path,
        *,
        columns: int = 80,
        shell: str | None = None,
        stdout: int | None = None,
        adapt: Callable[[int], None] = lambda terminal: None,
    ) -> None:
        self._master, self._slave = os.openpty()
        self.resize(columns)
        adapt(self._slave)
        self.before = self.attributes
        self.written = ""
        """All it wrote, without controls."""
        self.raw = ""
        outer = [] if shell is None else [sys.executable, "-c", _SHELL, shell]
        self._process = subprocess.Popen(
            ["setsid", "-c", *outer, *command],
            cwd=folder,
            env=environment(folder.parent / "temporary"),
            stdin=self._slave,
            stdout=self._slave if stdout is None else stdout,
            stderr=self._slave,
        )
        self._ended = os.pidfd_open(self._process.pid)

    @property
    def attributes(self) -> list[Any]:
        """What stty shows."""
        return termios.tcgetattr(self._slave)

    @property
    def keys_come_singly(self) -> bool:
        return not self.attributes[3] & (termios.ICANON | termios.ECHO)

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def press(self, data: bytes) -> None:
        os.write(self._master, data)

    def signal(self, number: int) -> None:
        """To the command itself, which is the leader of its session unless there is a `shell`."""
        os.kill(self._process.pid, number)

    def until_stopped(self) -> None:
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def set_back(self) -> None:
        """Give the terminal the attributes that it had in the beginning."""
        termios.tcsetattr(self._slave, termios.TCSANOW, self.before)

    def until(self, pattern: str) -> str:
        """Wait until what is written from here on matches; returns that."""
        start = len(self.written)
        end = monotonic() + HANG
        while not re.search(pattern, self.written[start:]):
            assert self._read(end), f"{pattern!r} does not come; there is: {self.written[start:]!r}"
        return self.written[start:]

    def wait(self) -> int:
        """The exit status; blocks until it has ended, and reads what it has written."""
        end = monotonic() + HANG
        while self._read(end):
            pass
        return self._process.wait(1)

    def _read(self, end: float) -> bool:
        """Read what there is, or wait for it; False when the command has ended and all is read."""
        left = max(0.0, end - monotonic())
        ready, _, _ = select.select([self._master, self._ended], [], [], left)
        assert ready, f"hangs; it has written: {self.written[-2000:]!r}"
        if self._master not in ready:
            return False
        text = os.read(self._master, 65536).decode(errors="replace")
        self.raw += text
        self.written += _CONTROLS.sub("", text)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for fd in (self._master, self._slave, self._ended):
            os.close(fd)
