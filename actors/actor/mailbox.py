"""A mailbox that can refuse: every envelope is either delivered or handed back by `close()`.

Pykka tests for life, then puts, then drains once; what is put after the drain is never seen, and an ask waits
for ever. Here `put` and `close` share a lock. SimpleQueue, so that a `put` from a finalizer cannot deadlock.
"""

from __future__ import annotations

import queue
import threading
from typing import Any

import pykka

__all__ = ["Mailbox"]


class Mailbox:
    """Pykka's `ActorInbox`, closable."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # Re-entrant: a finalizer may run, and send, while this thread is inside.
        self._lock = threading.RLock()
        self._closed = False

    def put(self, envelope: Any, /) -> None:
        """Queue `envelope`; never blocks. Raises `pykka.ActorDeadError` once closed."""
        with self._lock:
            if self._closed:
                raise pykka.ActorDeadError("the actor has stopped; the message was not queued")
            self._queue.put(envelope)

    def get(self) -> Any:
        """The next envelope; blocks until there is one. Only the actor's own thread calls this."""
        return self._queue.get()

    def empty(self) -> bool:
        return self._queue.empty()

    def __len__(self) -> int:
        return self._queue.qsize()

    def close(self) -> list[Any]:
        """Refuse everything from now on and hand back what was queued. Idempotent."""
        with self._lock:
            self._closed = True
            left = []
            while not self._queue.empty():
                left.append(self._queue.get())
            return left
