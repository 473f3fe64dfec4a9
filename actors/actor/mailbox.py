"""A mailbox of two lanes that can refuse: every envelope is either delivered or handed back by `close()`.

Pykka tests for life, then puts, then drains once; what is put after the drain is never seen, and an ask waits
for ever. Here `put` and `close` share a lock. SimpleQueue, so that a `put` from a finalizer cannot deadlock.

Orders of the supervisor have a lane of their own: they overtake what is queued, and are all that a cell listens to
while it has no behaviour. What is queued meanwhile stays queued.
"""

from __future__ import annotations

import collections
import functools
import queue
import threading
from collections.abc import Callable
from typing import Any

import pykka
from pykka import messages

from actors.actor.errors import ActorGoneError, MailboxFullError
from actors.actor.forking import FORKED
from actors.actor.replies import refuse

__all__ = ["EXPIRED", "LAST", "Mailbox", "Notice", "is_stop"]

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


class Notice:
    """An envelope of the runtime: a command that is handled only if it is still `wanted` when its turn comes.

    Never refused for want of room.
    """

    __slots__ = ("data", "wanted")

    message = None
    reply_to = None

    def __init__(self, data: Any, wanted: Callable[[], bool]) -> None:
        self.data = data
        self.wanted = wanted


EXPIRED = object()
"""The message of an envelope whose sender waits no longer: it is not handled."""


def is_stop(message: object) -> bool:
    """Whether this is the message by which Pykka stops an actor."""
    return type(message) is _STOP


def _ends(envelope: Any) -> bool:
    return envelope is LAST or is_stop(getattr(envelope, "message", None))


def _is_tell(envelope: Any) -> bool:
    return type(envelope) is not Notice and envelope is not LAST


class Mailbox:
    """Pykka's `ActorInbox`, closable; at most `bound` envelopes wait in it, or (None) any number."""

    def __init__(
        self,
        bound: int | None = None,
        *,
        drop: bool = False,
        lost: Callable[[str], object] | None = None,
        host_stops: Callable[[], object] | None = None,
        asked: Callable[[Any], object] | None = None,
    ) -> None:
        """`drop`: without room, what was told is dropped instead of refused. `lost` hears why each that was told is
        not delivered; `host_stops`, that somebody waits for a stop; `asked`, of each envelope whose sender waits for
        an answer. All are called on the sender's thread, without the lock."""
        self._bound = bound
        self._drop = drop
        self._lost = lost
        self._host_stops = host_stops
        self._asked = asked
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # Re-entrant: a finalizer may run, and send, while this thread is inside.
        self._lock = threading.RLock()
        self._closed = False
        self._why = "the actor has stopped"
        self._orders: collections.deque[Any] = collections.deque()
        self._held: collections.deque[Any] = collections.deque()
        self._called = threading.Event()
        self._stops = 0

    @property
    def stop_asked(self) -> bool:
        """A stop is queued. It has its turn like any envelope, but ends every wait for an order."""
        return self._stops > 0

    def put(self, envelope: Any, /) -> None:
        """Queue `envelope`; never blocks. A stop is never refused for want of room.

        ActorGoneError once closed, MailboxFullError at the bound: raised, or given to who waits for an answer.
        """
        ends = type(envelope) is not bytes and _ends(envelope)
        full = False
        with self._lock:
            closed = self._closed
            if not closed:
                bound = self._bound
                full = bound is not None and len(self) >= bound and not ends and type(envelope) is not Notice
                if not full:
                    self._queue.put(envelope)
                    if ends:
                        self._stops += 1
                        self._called.set()
                    elif type(envelope) is bytes or self._asked is None:
                        return
        if full:
            self._refuse(envelope, MailboxFullError(f"{self._bound} messages wait already; the message was not queued"))
        elif closed:
            self._refuse(envelope, ActorGoneError(f"{self._why}; the message was not queued"))
        elif envelope.reply_to is not None:
            heard = self._host_stops if ends else self._asked and functools.partial(self._asked, envelope)
            if heard is not None:
                heard()

    def _refuse(self, envelope: Any, error: pykka.ActorDeadError) -> None:
        reply_to = getattr(envelope, "reply_to", None)
        if reply_to is not None:
            # As Pykka does for a dead actor. Raised, it would end the host's `stop_all` in the middle.
            refuse(reply_to, error)
            return
        told = _is_tell(envelope)
        if told and self._lost is not None:
            self._lost(str(error))
        if not (told and self._drop and isinstance(error, MailboxFullError)):
            raise error

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
            if type(envelope) is not bytes and _ends(envelope):
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
            if type(envelope) is not bytes and _ends(envelope):
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
            self._host_stops = self._asked = None
            self._orders.clear()
            left = list(self._held)
            self._held.clear()
            while not self._queue.empty():
                item = self._queue.get()
                if item is not _WAKE:
                    left.append(item)
            return left

    def after_fork(self) -> None:
        """In a child of the process, which has no thread to read this: refuse everything, whoever held the lock."""
        self._lock = threading.RLock()
        self._closed = True
        self._why = FORKED
        self._host_stops = self._asked = None
        self._orders = collections.deque()
        self._held = collections.deque()
        # Should the thread that made the child be the actor's own, it finds its end.
        self._queue = queue.SimpleQueue()
        self._queue.put(LAST)
        self._called = threading.Event()
        self._called.set()
        self._stops = 1
