"""Events for one subscriber: a bounded queue that loses the oldest, never the publisher's time."""

from __future__ import annotations

import collections
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Self

from kithara_actors.messages.events import Envelope, Lagged, Scope

__all__ = ["Subscribers", "Subscription", "deliver_to"]

logger = logging.getLogger(__name__)


class Subscription:
    """Iterate over it, or call `get`. Ends, after what it still holds, when it is closed or the system stops."""

    def __init__(self, subscriber: int, scope: Scope, capacity: int, on_close: Callable[[Subscription], None]) -> None:
        self.id = subscriber
        self.scope = scope
        self._capacity = capacity
        self._on_close = on_close
        self._queue: collections.deque[Envelope] = collections.deque()
        self._missed = 0
        self._last_seq = 0
        self._last_missed: Envelope | None = None
        self._ended = False
        # Re-entrant: a finalizer that closes a subscription may run inside any of these methods.
        self._ready = threading.Condition(threading.RLock())

    def get(self, timeout: float | None = None) -> Envelope | None:
        """The next envelope; None when there is none within `timeout` seconds, or no more will come. Blocks."""
        with self._ready:
            self._ready.wait_for(lambda: self._queue or self._missed or self._ended, timeout)
            if self._missed:
                assert self._last_missed is not None
                lost, self._missed = self._missed, 0
                return Envelope(Lagged(lost), self.scope, self._last_missed.seq, self._last_missed.timestamp)
            return self._queue.popleft() if self._queue else None

    def __iter__(self) -> Iterator[Envelope]:
        while True:
            envelope = self.get()
            if envelope is None:
                return
            yield envelope

    @property
    def ended(self) -> bool:
        """Whether nothing more will be added."""
        return self._ended

    def finish(self) -> None:
        """Take what has been published up to now, and end after it. Idempotent; from any thread; does not block."""
        self._on_close(self)

    def close(self) -> None:
        """Take no more events and wake who waits. Idempotent; from any thread; does not block."""
        self.end()
        self._on_close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wants(self, scope: Scope) -> bool:
        """Whether an event of `scope` is this subscriber's: its own scope's, its asset's, or all for the system."""
        mine = self.scope
        if mine.asset is None:
            return True
        return scope.asset == mine.asset and (scope.stream is None or mine.stream in (None, scope.stream))

    def add(self, envelope: Envelope) -> None:
        """Called by the EventBus. Never waits for the subscriber."""
        with self._ready:
            if self._ended or envelope.seq <= self._last_seq:
                return  # the second time: the bus has begun anew in the middle of it
            self._last_seq = envelope.seq
            if len(self._queue) >= self._capacity:
                self._last_missed = self._queue.popleft()
                self._missed += 1
            self._queue.append(envelope)
            self._ready.notify()

    def forked(self) -> None:
        """In the child of a fork: it has ended, with nothing more to give. Takes no lock."""
        self._ready = threading.Condition(threading.RLock())
        self._queue, self._missed, self._ended = collections.deque(), 0, True
        self._on_close = lambda _: None

    def end(self) -> None:
        """No more events will come."""
        with self._ready:
            self._ended = True
            self._ready.notify_all()


class Subscribers:
    """The table that the EventBus reads and that outlives it. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._known: dict[int, Subscription] = {}
        self._active: tuple[Subscription, ...] = ()
        self._closed = False
        self._numbers = itertools.count(1)
        self._numbered = (0, 0)

    def create(self, scope: Scope, capacity: int, on_close: Callable[[Subscription], None]) -> Subscription:
        """A subscription known here; it gets events once the bus has been told of it."""
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise ValueError(f"capacity must be a whole number of at least 1, not {capacity!r}")
        with self._lock:
            subscription = Subscription(next(self._ids), scope, capacity, on_close)
            if self._closed:
                subscription.end()
            else:
                self._known[subscription.id] = subscription
        return subscription

    def number(self, serial: int) -> int:
        """The number of the event that its publisher gave this serial; the same for the one asked about last.

        Only the bus calls this.
        """
        if self._numbered[0] != serial:
            self._numbered = (serial, next(self._numbers))
        return self._numbered[1]

    def activate(self, subscriber: int) -> None:
        """It gets events from now on. No effect once it was removed."""
        with self._lock:
            found = self._known.get(subscriber)
            if found is not None and found not in self._active:
                self._active = (*self._active, found)

    def active(self) -> tuple[Subscription, ...]:
        """Those that get events."""
        return self._active

    def remove(self, subscriber: int) -> None:
        """Forget the subscription, which ends after what it holds."""
        with self._lock:
            subscription = self._known.pop(subscriber, None)
            self._active = tuple(other for other in self._active if other is not subscription)
        if subscription is not None:
            subscription.end()

    def end_all(self) -> None:
        """The system has stopped: every subscription ends after what it holds."""
        with self._lock:
            self._closed = True
            left = list(self._known.values())
            self._known.clear()
            self._active = ()
        for subscription in left:
            subscription.end()

    def forked(self) -> None:
        """In the child of a fork: end all, without a lock, for its holder may not be here."""
        self._lock = threading.RLock()
        for subscription in list(self._known.values()):
            subscription.forked()
        self._known, self._closed = {}, True

    @property
    def listening(self) -> bool:
        """Whether there is anybody to publish for."""
        return bool(self._known)


def deliver_to(subscription: Subscription, callback: Callable[[Envelope], object]) -> threading.Thread:
    """Call `callback` with each envelope on a thread of its own, until the subscription ends."""

    def run() -> None:
        for envelope in subscription:
            try:
                callback(envelope)
            except Exception:
                logger.exception("an event callback failed")

    thread = threading.Thread(target=run, name=f"kithara-subscriber-{subscription.id}", daemon=True)
    thread.start()
    return thread
