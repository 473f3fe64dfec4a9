"""A pool of processes that misbehave, and all that it told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack

from actors.actor.pool import PoolListener, PoolSettings, WorkerPool
from actors.clock import monotonic

HANG = 30.0


class Heard(PoolListener):
    """Everything a pool has told, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []
        self._changed = threading.Condition()

    def _add(self, *what: Any) -> None:
        with self._changed:
            self.all.append((*what, monotonic()))
            self._changed.notify_all()

    def worker_ready(self, worker: int, pid: int) -> None:
        self._add("ready", worker, pid)

    def frame(self, worker: int, data: bytes) -> None:
        _, kind, *rest = msgpack.unpackb(data)
        if kind != "drop":
            self._add(kind, worker, *rest)

    def worker_enlisted(self, worker: int) -> None:
        self._add("enlisted", worker)

    def worker_retiring(self, worker: int) -> None:
        self._add("retiring", worker)

    def worker_lost(self, worker: int, pid: int, reason: str, taken: int) -> None:
        self._add("lost", worker, pid, reason, taken)

    def lost_together(self, workers: tuple[int, ...]) -> None:
        self._add("together", workers)

    def workers_exhausted(self, reason: str) -> None:
        self._add("exhausted", reason)

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        with self._changed:
            return [event for event in self.all if event[0] == kind]

    def wait(self, kind: str, count: int = 1, limit: float = HANG) -> tuple[Any, ...]:
        """The `count`th event of that kind, without its name."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.of(kind)) >= count, limit), (kind, count, self.all)
        return self.of(kind)[count - 1][1:]


@contextmanager
def pool_of(
    handler: str = "Echo", size: int = 1, heard: Heard | None = None, **settings: Any
) -> Iterator[tuple[WorkerPool, Heard]]:
    heard = heard or Heard()
    pool = WorkerPool(PoolSettings(f"pool_handlers:{handler}", size=size, **settings), heard, draw=lambda: 0.0)
    try:
        pool.start(HANG)
        yield pool, heard
    finally:
        assert pool.stop(2.0) == []


def pid_is_gone(pid: int) -> bool:
    """Whether it has ended, be it reaped or not."""
    return state_of(pid) in ("Z", "")


def state_of(pid: int) -> str:
    """The kernel's letter for a process; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descriptors(process: int | str = "self") -> dict[str, str]:
    """The open descriptors of a process by number, with what they lead to."""
    found = {}
    for link in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor of this listing itself
            found[link.name] = str(link.readlink())
    return found


def until(condition: Callable[[], object], limit: float = HANG) -> bool:
    pause = threading.Event()
    end = monotonic() + limit
    while not condition():
        if monotonic() > end:
            return False
        pause.wait(0.005)
    return True
