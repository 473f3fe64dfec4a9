"""Programs that use the library, run as processes of their own, and what is left of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from actors.clock import monotonic

ROOT = Path(__file__).resolve().parents[2]
MARK = "KITHARA_HOST_MARK"
HANG = 60.0
GONE = 8.0
"""Seconds after which a process that is not gone yet is taken for one that stays."""

FETCH = """\
import sys
from kithara_actors import ActorSystem
system = ActorSystem.start(workers=1)
with system.open(sys.argv[1]) as stream:
    print(len(stream.read()))
print(system.stop())
"""
"""Reads the URL that is its argument; prints the length and the survivors."""


def until(condition: Callable[[], object], limit: float = HANG) -> bool:
    """Look until `condition` holds; False after `limit` seconds."""
    pause = threading.Event()
    end = monotonic() + limit
    while not condition():
        if monotonic() > end:
            return False
        pause.wait(0.005)
    return True


def state_of(pid: int) -> str:
    """The kernel's letter for a process; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def parent_of(pid: int) -> int:
    """0 if there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def descriptors(pid: int) -> dict[int, str]:
    """The open descriptors of a process, with what they lead to."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found[int(link.name)] = str(link.readlink())
    return found


class Host:
    """One program, with a temporary directory and a session of its own. Its processes carry its mark."""

    def __init__(
        self,
        code: str | Path | None,
        *arguments: str,
        python: str = sys.executable,
        flags: tuple[str, ...] = ("-W", "error", "-X", "dev"),
        env: dict[str, str | None] | None = None,
        interactive: bool = False,
        cwd: Path | None = None,
    ) -> None:
        self.mark = uuid.uuid4().hex
        self.scratch = Path(tempfile.mkdtemp(prefix="kithara-host-"))
        settings: dict[str, str | None] = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            MARK: self.mark,
            "TMPDIR": str(self.scratch),
            **(env or {}),
        }
        program = [] if code is None else [str(code)] if isinstance(code, Path) else ["-c", code]
        self.process = subprocess.Popen(
            [python, *flags, *program, *arguments],
            env={name: value for name, value in settings.items() if value is not None},
            stdin=subprocess.PIPE if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=cwd or self.scratch.parent,
        )

    def line(self) -> str:
        """The next line of its output; blocks."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def workers(self) -> list[int]:
        """Its worker processes that run now."""
        return [pid for pid in self.alive() if pid != self.process.pid]

    def alive(self) -> list[int]:
        """Processes with its mark."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if self.mark.encode() in environment and state_of(int(entry.name)) not in ("", "Z"):
                found.append(int(entry.name))
        return found

    def names(self) -> list[str]:
        """What it left in its temporary directory."""
        return sorted(entry.name for entry in self.scratch.iterdir())

    def end(self, typed: str | None = None) -> tuple[int, str, str]:
        """Wait for it: exit code, output, errors. A program that hangs fails the test."""
        output, errors = self.process.communicate(typed, timeout=HANG)
        return self.process.returncode, output, errors

    def kill(self, *, group: bool = False) -> None:
        if group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait(HANG)

    def close(self) -> None:
        for pid in self.alive():
            with suppress(ProcessLookupError):  # it was ending
                os.kill(pid, signal.SIGKILL)
        self.process.wait(HANG)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        shutil.rmtree(self.scratch)


@contextmanager
def running(code: str | Path | None, *arguments: str, **options: object) -> Iterator[Host]:
    """A program; what is left of it at the end is killed, after the test has had its say."""
    host = Host(code, *arguments, **options)  # type: ignore[arg-type]
    try:
        yield host
    finally:
        host.close()


def run(code: str | Path | None, *arguments: str, typed: str | None = None, **options: object) -> tuple[int, str, str]:
    """Run a program to its end; it must leave neither a process nor a file. Exit code, output, errors."""
    with running(code, *arguments, interactive=typed is not None, **options) as host:
        ended = host.end(typed)
        assert until(lambda: host.alive() == [], GONE), f"left running: {host.alive()}"
        assert host.names() == []
        return ended
