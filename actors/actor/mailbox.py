"""A mailbox of two lanes that can refuse: every envelope is either delivered or handed back by `close()`.

Pykka tests for life, then puts, then drains once; what is put after the drain is never seen, and an ask waits
for ever. Here `put` and `close` share a lock. SimpleQueue, so that a `put` from a finalizer cannot deadlock.

Orders of the supervisor have a lane of their own: they overtake what is queued, and are all that a cell listens to
while it has no behaviour. What is queued meanwhile stays queued.
"""

from __future__ import annotations

import collections
import queue
import threading
from typing import Any

import pykka
from pykka import messages

from actors.actor.errors import MailboxFullError

__all__ = ["LAST", "Mailbox", "is_stop"]

_WAKE = object()
"""Queued behind an order, for who waits for an envelope."""
# Private to Pykka, without a public way to tell it; a test notices its loss.
_STOP: type = messages._ActorStop  # noqa: SLF001


class _Last:
    """An envelope of ours: end, once all that was queued before is handled."""

    message = None
    reply_to = None


LAST = _Last()
"""What a supervisor queues to have an actor end in its turn."""


def is_stop(message: object) -> bool:
    """Whether this is the message by which Pykka stops an actor."""
    return type(message) is _STOP


def _ends(envelope: Any) -> bool:
    return type(envelope) is not bytes and (envelope is LAST or is_stop(getattr(envelope, "message", None)))


class Mailbox:
    """Pykka's `ActorInbox`, closable; at most `bound` envelopes wait in it, or (None) any number."""

    def __init__(self, bound: int | None = None) -> None:
        self._bound = bound
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # Re-entrant: a finalizer may run, and send, while this thread is inside.
        self._lock = threading.RLock()
        self._closed = False
        self._orders: collections.deque[Any] = collections.deque()
        self._held: collections.deque[Any] = collections.deque()
        self._called = threading.Event()
        self._stops = 0

    @property
    def stop_asked(self) -> bool:
        """A stop is queued. It has its turn like any envelope, but ends every wait for an order."""
        return self._stops > 0

    def put(self, envelope: Any, /) -> None:
        """Queue `envelope`; never blocks. Raises `pykka.ActorDeadError` once closed, MailboxFullError at the bound.

        A stop is never refused for want of room.
        """
        ends = _ends(envelope)
        with self._lock:
            if self._closed:
                raise pykka.ActorDeadError("the actor has stopped; the message was not queued")
            if self._bound is not None and not ends and len(self) >= self._bound:
                raise MailboxFullError(f"{self._bound} messages wait already; the message was not queued")
            self._queue.put(envelope)
            if ends:
                self._stops += 1
                self._called.set()

    def order(self, order: Any) -> bool:
        """Queue `order` ahead of all envelopes; never blocks. False once closed."""
        with self._lock:
            if self._closed:
                return False
            self._orders.append(order)
            self._called.set()
            self._queue.put(_WAKE)
            return True

    def get(self) -> tuple[Any, Any]:
        """The next order, or else the next envelope, the other being None; blocks until there is one.

        Only the actor's own thread calls this, and the two below.
        """
        while True:
            if self._orders:
                return self._orders.popleft(), None
            envelope = self._held.popleft() if self._held else self._queue.get()
            if envelope is _WAKE:
                continue
            if self._orders:
                # One came while this one was on its way.
                self._held.append(envelope)
                continue
            if _ends(envelope):
                with self._lock:
                    self._stops -= 1
            return None, envelope

    def wait_order(self, timeout: float | None = None) -> Any:
        """The next order; None after `timeout` seconds, or when a stop is queued. Envelopes stay where they are."""
        while True:
            self._called.clear()
            if self._orders:
                return self._orders.popleft()
            if self.stop_asked or not self._called.wait(timeout):
                return None

    def take_to_stop(self) -> list[Any]:
        """The envelopes up to the first stop, that included; all of them without one. Does not block."""
        taken = []
        while self._held or not self._queue.empty():
            envelope = self._held.popleft() if self._held else self._queue.get()
            if envelope is _WAKE:
                continue
            taken.append(envelope)
            if _ends(envelope):
                with self._lock:
                    self._stops -= 1
                break
        return taken

    def empty(self) -> bool:
        return len(self) == 0

    def __len__(self) -> int:
        """About how many envelopes wait."""
        return len(self._held) + self._queue.qsize()

    def close(self) -> list[Any]:
        """Refuse everything from now on and hand back the envelopes that were queued. Idempotent."""
        with self._lock:
            self._closed = True
            self._orders.clear()
            left = list(self._held)
            self._held.clear()
            while not self._queue.empty():
                item = self._queue.get()
                if item is not _WAKE:
                    left.append(item)
            return left
