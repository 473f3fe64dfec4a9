"""Events for one subscriber: a bounded number of them, of which it loses the oldest, never the publisher's time."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

from actors.clock import monotonic
from kithara_actors.messages.events import Envelope, Lagged, Scope
from kithara_actors.stream.event_log import EventLog

if TYPE_CHECKING:
    import asyncio

__all__ = ["FAILURES", "Subscribers", "Subscription", "deliver_to"]

logger = logging.getLogger(__name__)

FAILURES = 3
"""Calls in a row that a callback may fail before it is called no more."""


class Subscription:
    """Iterate over it, with `for` or with `async for`, or call `get` or `get_async`.

    Ends, after what it still holds, when it is closed or the system stops. Safe from any thread and from any event
    loop; each envelope goes to one of those who ask.
    """

    def __init__(
        self, subscriber: int, scope: Scope, capacity: int, on_close: Callable[[Subscription], None], log: EventLog
    ) -> None:
        self.id = subscriber
        self.scope = scope
        self.capacity = capacity
        self._on_close = on_close
        self._log = log
        self._at: int | None = None
        self._ended = False
        # Re-entrant: a finalizer that closes a subscription may run inside any of these methods.
        self._lock = threading.RLock()

    def get(self, timeout: float | None = None) -> Envelope | None:
        """The next envelope; None when there is none within `timeout` seconds, or no more will come. Blocks."""
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            gate = threading.Lock()
            gate.acquire()
            found, log = self._next(gate, gate.release)
            if log is None:
                return found
            try:
                woken = gate.acquire(timeout=-1 if deadline is None else max(0.0, deadline - monotonic()))
            finally:
                log.waiters.pop(gate, None)
            if not woken:
                return self._next()[0]

    async def get_async(self, timeout: float | None = None) -> Envelope | None:
        """The same without blocking: for asyncio. Cancelled, it has taken nothing."""
        import asyncio

        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            future: asyncio.Future[None] = loop.create_future()
            found, log = self._next(future, functools.partial(_wake, loop, future))
            if log is None:
                return found
            try:
                async with asyncio.timeout_at(deadline):
                    await future
            except TimeoutError:
                return self._next()[0]
            finally:
                log.waiters.pop(future, None)

    def __iter__(self) -> Iterator[Envelope]:
        while True:
            envelope = self.get()
            if envelope is None:
                return
            yield envelope

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Envelope:
        envelope = await self.get_async()
        if envelope is None:
            raise StopAsyncIteration
        return envelope

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

    def _next(
        self, key: object = None, call: Callable[[], object] | None = None
    ) -> tuple[Envelope | None, EventLog | None]:
        """The next envelope, if there is one; else the log in which `call` waits under `key`, if any is to come."""
        with self._lock:
            found = self._take()
            if found is not None or self._ended or call is None:
                return found, None
            log = self._log
            log.waiters[key] = call
            # Again: what was added before the line above has woken nobody.
            found = self._take()
            if found is not None:
                log.waiters.pop(key, None)
                return found, None
            return None, log

    def _take(self) -> Envelope | None:
        log = self._log
        while self._at is not None and self._at < log.count:
            oldest = log.count - self.capacity
            if self._at < oldest:
                last = log.items.get(oldest - 1)
                if last is not None:
                    lost, self._at = oldest - self._at, oldest
                    return Envelope(Lagged(lost), self.scope, last.seq, last.timestamp)
                continue  # more has come meanwhile
            found = log.items.get(self._at)
            if found is not None:
                self._at += 1
                log.done(self._at - 1)
                return found
        return None

    def begin(self) -> None:
        """Called by the EventBus: what is published from here on is this subscriber's."""
        with self._lock:
            if self._at is None and not self._ended:
                self._at = self._log.enter(self.capacity)

    def end(self) -> None:
        """No more events will come; what is unread stays."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            log = self._log
            if self._at is not None:
                # Others go on there, and would push out what this one has not read.
                self._log = log.copy(self._at - 1)
                log.leave(self.capacity)
        log.wake()

    def forked(self) -> None:
        """In the child of a fork: it has ended, with nothing more to give. Takes no lock."""
        self._lock = threading.RLock()
        self._log, self._at, self._ended = EventLog(), None, True
        self._on_close = lambda _: None


def _wake(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
        loop.call_soon_threadsafe(_settle, future)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Subscribers:
    """The table that the EventBus reads and that outlives it. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._known: dict[int, Subscription] = {}
        self._closed = False
        self._numbers = itertools.count(1)
        self._numbered = (0, 0)
        self._logs: dict[Scope, EventLog] = {}
        self._users: dict[Scope, int] = {}
        self._streams: dict[int, tuple[EventLog, ...]] = {}
        """Of the streams of each asset, whose subscribers get the asset's events too."""

    def create(self, scope: Scope, capacity: int, on_close: Callable[[Subscription], None]) -> Subscription:
        """A subscription known here; it gets events once the bus has been told of it."""
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise ValueError(f"capacity must be a whole number of at least 1, not {capacity!r}")
        with self._lock:
            closed = self._closed
            log = EventLog() if closed else self._open(scope)
            subscription = Subscription(next(self._ids), scope, capacity, on_close, log)
            if closed:
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

    def deliver(self, envelope: Envelope) -> None:
        """Put it before all whose event it is: those of its scope, those of its asset, those of the system; of an
        event of an asset, those of its streams. Only the bus calls this, and it waits for nobody."""
        scope = envelope.scope
        self._put(_SYSTEM, envelope)
        if scope.asset is None:
            return
        if scope.stream is None:
            self._put(scope, envelope)
            for log in self._streams.get(scope.asset, ()):
                log.add(envelope)
        else:
            self._put(Scope(scope.asset), envelope)
            self._put(scope, envelope)

    def _put(self, scope: Scope, envelope: Envelope) -> None:
        log = self._logs.get(scope)
        if log is not None:
            log.add(envelope)

    def activate(self, subscriber: int) -> None:
        """It gets events from now on. No effect once it was removed."""
        with self._lock:
            found = self._known.get(subscriber)
        if found is not None:
            found.begin()

    def remove(self, subscriber: int) -> None:
        """Forget the subscription, which ends after what it holds."""
        with self._lock:
            subscription = self._known.pop(subscriber, None)
            if subscription is not None:
                self._close(subscription.scope)
        if subscription is not None:
            subscription.end()

    def end_all(self) -> None:
        """The system has stopped: every subscription ends after what it holds."""
        with self._lock:
            self._closed = True
            left = list(self._known.values())
            self._known.clear()
            self._drop_all()
        for subscription in left:
            subscription.end()

    def forked(self) -> None:
        """In the child of a fork: end all, without a lock, for its holder may not be here."""
        self._lock = threading.RLock()
        for subscription in list(self._known.values()):
            subscription.forked()
        self._known, self._closed = {}, True
        self._drop_all()

    @property
    def listening(self) -> bool:
        """Whether there is anybody to publish for."""
        return bool(self._known)

    def _open(self, scope: Scope) -> EventLog:
        log = self._logs.get(scope)
        if log is None:
            log = self._logs[scope] = EventLog()
            if scope.asset is not None and scope.stream is not None:
                self._streams[scope.asset] = (*self._streams.get(scope.asset, ()), log)
        self._users[scope] = self._users.get(scope, 0) + 1
        return log

    def _close(self, scope: Scope) -> None:
        self._users[scope] -= 1
        if self._users[scope]:
            return
        del self._users[scope]
        gone = self._logs.pop(scope)
        if scope.asset is not None and scope.stream is not None:
            rest = tuple(log for log in self._streams[scope.asset] if log is not gone)
            self._streams[scope.asset] = rest
            if not rest:
                del self._streams[scope.asset]

    def _drop_all(self) -> None:
        self._logs, self._users, self._streams = {}, {}, {}


_SYSTEM = Scope()


def deliver_to(subscription: Subscription, callback: Callable[[Envelope], Any]) -> threading.Thread:
    """Call `callback` with each envelope on a thread of its own, until the subscription ends.

    What it raises is logged with the class of the event, of several failures in a row the first; `FAILURES` in a row
    close the subscription, which is logged too.
    """

    def run() -> None:
        failures = 0
        for envelope in subscription:
            try:
                callback(envelope)
                failures = 0
            except Exception:
                failures += 1
                kind = type(envelope.event).__name__
                if failures == 1:
                    logger.exception("an event callback failed at %s", kind)
                if failures == FAILURES:
                    logger.warning(
                        "an event callback failed %d times in a row, at last at %s: unsubscribed", failures, kind
                    )
                    subscription.close()
                    return

    thread = threading.Thread(target=run, name=f"kithara-subscriber-{subscription.id}", daemon=True)
    thread.start()
    return thread
