"""The media side of a worker without its process: orders in, reports out, its control thread played by the test; and
a server for it."""

from __future__ import annotations

import os
import queue
import select
import socket
import threading
from typing import Any

from transport_kit import HANG, full, read_head

from actors.clock import monotonic
from actors.messages.codec import Codec
from kithara_actors.messages.records import Collection, FetchSpec
from kithara_actors.messages.worker import WORKER_COMMANDS, CancelAttempt, RunAttempt
from kithara_actors.values import ContentId, FetchKind, RequestId
from kithara_actors.worker.http import Transport, TransportSettings
from kithara_actors.worker.main import FetchHandler

__all__ = ["CODEC", "SMALL", "Site", "Threads", "Worker", "warm"]

CODEC = Codec(WORKER_COMMANDS)
SMALL = b"Hello, World!"
_LOOK = 5
"""Milliseconds after which what threads have said is looked at."""


class Worker:
    """What it says comes by `next`, which meanwhile does what the control thread would."""

    def __init__(self, **settings: Any) -> None:
        self.said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.transport = Transport(TransportSettings(**{"trust_env": False, **settings}))
        self.handler = FetchHandler(
            self.transport, lambda frame: self.said.put(CODEC.decode(frame)), allow_downgrade=False
        )
        self._attempts = 0
        self._data: list[int] = []

    def ask(self, url: str, method: str = "GET", meter: int | None = None, **changes: Any) -> int:
        """Have a one-off request made; the number of its attempt. With the number of a meter its one descriptor is that
        of the meters."""
        self._attempts += 1
        fields: dict[str, Any] = {
            "request": RequestId(1), "asset": 0, "peer": "call:1", "kind": FetchKind.DEMAND, "url": url,
            "origin": url.rstrip("/"), "headers": (), "content": ContentId(1), "lane": 0, "generation": 0, "start": 0,
            "end": None, "ranged": False, "total": None, "validator": None, "limit": 1 << 20,
            "collection": Collection("collector", method, False),
        }  # fmt: skip
        spec = FetchSpec(**{**fields, **changes})
        self._data.append(os.memfd_create("test"))
        order = RunAttempt(self._attempts, spec.start, spec, meter)
        fds = [] if method == "HEAD" and meter is None else [os.dup(self._data[-1])]
        self.handler.handle(CODEC.encode(order), fds)
        return self._attempts

    def next(self) -> Any:
        poll = select.poll()
        poll.register(self.handler, select.POLLIN)
        end = monotonic() + HANG
        while monotonic() < end:
            try:
                return self.said.get_nowait()
            except queue.Empty:
                poll.poll(_LOOK)
                self.handler.look()
        raise AssertionError("it says nothing")

    def cancel(self, attempt: int) -> None:
        self.handler.handle(CODEC.encode(CancelAttempt(attempt)), [])

    def body(self) -> bytes:
        return os.pread(self._data[-1], 1 << 20, 0)

    def close(self) -> None:
        for thread in threading.enumerate():
            if thread.name == "fetch":
                thread.join(HANG)
        self.handler.close()
        self.transport.close()
        for fd in self._data:
            os.close(fd)


class Site:
    """A server that answers `first` to the first request and `answer` to the second, then as at first."""

    def __init__(self, *pieces: bytes, ends: bool = False) -> None:
        self.heads: list[bytes] = []
        self._pieces = pieces
        self._ends = ends
        self._served = 0

    def __call__(self, sock: socket.socket) -> None:
        while True:
            self.heads.append(read_head(sock))
            self._served += 1
            if self._served != 2:
                sock.sendall(full(SMALL))
                continue
            for piece in self._pieces:
                sock.sendall(piece)
            if self._ends:
                return


class Threads:
    """Counts the jobs that a worker gives to threads."""

    def __init__(self, worker: Worker) -> None:
        self.jobs = 0
        self._start = worker.handler._threads.start
        worker.handler._threads.start = self.start  # type: ignore[method-assign]

    def start(self, job: Any) -> None:
        self.jobs += 1
        self._start(job)


def warm(worker: Worker, url: str) -> None:
    """So that a connection is kept."""
    worker.ask(url)
    assert worker.next().complete
