"""Events for one subscriber: a bounded number of them, of which it loses the oldest, never the publisher's time."""

from __future__ import annotations

import collections
import contextlib
import functools
import inspect
import itertools
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

from actors.clock import Clock, monotonic, wall
from kithara_actors.messages.events import Envelope, Event, Lagged, Scope
from kithara_actors.stream.event_log import EventLog
from kithara_actors.stream.journal import Journal
from kithara_actors.stream.timeouts import checked_wait

__all__ = ["BURST", "FAILURES", "Subscribers", "Subscription", "check_callback", "deliver_to"]

logger = logging.getLogger(__name__)

FAILURES = 3
"""Calls in a row that a callback may fail before it is called no more."""
BURST = 256
"""So many events at most does a reader that iterates take at once."""


class Subscription:
    """Iterate over it, with `for` or with `async for`, or call `get` or `get_async`.

    Ends, after what it still holds, when it is closed or the system stops. Safe from any thread and from any event
    loop; each envelope goes to one of those who ask. Whoever iterates takes what is there in bursts, of which nothing
    is lost any more.
    """

    def __init__(
        self, subscriber: int, scope: Scope, capacity: int, journal: Journal, on_end: Callable[[int], object]
    ) -> None:
        self.id = subscriber
        self.scope = scope
        self.capacity = capacity
        self._journal = journal
        self._on_end = on_end
        self._log, self._at = journal.enter(scope, capacity)
        self._burst = min(capacity, BURST)
        self._ready: collections.deque[Envelope] = collections.deque()
        self._here: dict[object, Callable[[], object]] = {}
        """Who waits or pauses here, and what ends that."""
        self._rested_at = 0.0
        self._ended = False
        self._closed = False
        # Re-entrant: a finalizer that closes a subscription may run inside any of these methods.
        self._lock = threading.RLock()

    def get(self, timeout: float | None = None) -> Envelope | None:
        """The next envelope; None when there is none within `timeout` seconds, or no more will come. Blocks."""
        return self._wait_next(1, checked_wait(timeout))

    async def get_async(self, timeout: float | None = None) -> Envelope | None:
        """The same without blocking: for asyncio. Cancelled, it has taken nothing."""
        return await self._wait_next_async(1, checked_wait(timeout))

    def __iter__(self) -> Iterator[Envelope]:
        ready = self._ready
        while True:
            try:
                envelope = ready.popleft()
            except IndexError:
                found = self._wait_next(self._burst, None)
                if found is None:
                    return
                envelope = found
            yield envelope

    async def __aiter__(self) -> AsyncIterator[Envelope]:
        ready = self._ready
        while True:
            try:
                envelope = ready.popleft()
            except IndexError:
                found = await self._wait_next_async(self._burst, None)
                if found is None:
                    return
                envelope = found
            yield envelope

    async def __anext__(self) -> Envelope:
        envelope = await self.get_async()
        if envelope is None:
            raise StopAsyncIteration
        return envelope

    @property
    def ended(self) -> bool:
        """Whether nothing more will be added."""
        return self._ended

    @property
    def closed(self) -> bool:
        """Whether `close` was called: a callback is then called no more, whatever is unread."""
        return self._closed

    def finish(self) -> None:
        """End after what has been published up to now, and wake who waits. Idempotent; from any thread; does not
        block."""
        self._journal.collect()
        with self._lock:
            if self._ended:
                return
            self._ended = True
            log = self._log
        self._log = self._journal.leave(self, self.scope, self.capacity, log)
        self._on_end(self.id)
        for call in list(self._here.values()):
            call()

    def close(self) -> None:
        """The same, and have a callback called no more. Idempotent; from any thread; does not block."""
        self._closed = True
        self.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        stream, asset = self.scope.stream, self.scope.asset
        whose = f"stream {stream}" if stream is not None else "the system" if asset is None else f"asset {asset}"
        return f"<Subscription {self.id} to {whose}, {'ended' if self._ended else 'open'}>"

    def _next(self, most: int) -> Envelope | None:
        """The next envelope, if there is one; up to `most` - 1 behind it are made ready."""
        ready = self._ready
        try:
            return ready.popleft()
        except IndexError:
            pass
        if not self._ended:
            self._journal.collect()
        with self._lock:
            try:
                return ready.popleft()  # another thread was faster
            except IndexError:
                pass
            while self._at < self._log.count:
                log = self._log
                oldest = log.count - self.capacity
                if self._at < oldest:
                    last = log.items.get(oldest - 1)
                    if last is None:
                        continue  # more has come meanwhile
                    lost, self._at = oldest - self._at, oldest
                    return Envelope(Lagged(lost), self.scope, last.seq, last.timestamp)
                found = log.take(self._at, most)
                if found is not None:
                    self._at += len(found)
                    ready.extend(found[1:])
                    return found[0]
        return None

    def _wait_next(self, most: int, timeout: float | None) -> Envelope | None:
        deadline = None if timeout is None else monotonic() + timeout
        rests = False
        while True:
            ended = self._ended  # before the look: what came before the end is found by it
            found = self._next(most)
            if found is not None:
                if rests:
                    self._rested_at = monotonic() + self._journal.pause
                return found
            now = monotonic()
            left = None if deadline is None else deadline - now
            if ended or (left is not None and left <= 0):
                return None
            gate = threading.Lock()
            gate.acquire()
            call = functools.partial(_open, gate)
            self._here[gate] = call
            log, pause, rests = self._log, self._rested_at - now, True
            try:
                if pause > 0:
                    left = pause if left is None else min(pause, left)
                else:
                    self._journal.wait(self, log, gate, call)
                    found = self._next(most)
                    if found is not None:
                        return found
                if not self._ended:
                    gate.acquire(timeout=-1 if left is None else left)
            finally:
                self._here.pop(gate, None)
                self._journal.forget(log, gate)

    async def _wait_next_async(self, most: int, timeout: float | None) -> Envelope | None:
        found = self._next(most)
        if found is not None:
            return found
        import asyncio

        from kithara_actors.stream.loop_waiting import LoopBell

        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        rests = False
        while True:
            ended = self._ended
            found = self._next(most)
            if found is not None:
                if rests:
                    self._rested_at = monotonic() + self._journal.pause
                return found
            if ended or (deadline is not None and deadline <= loop.time()):
                return None
            future: asyncio.Future[None] = loop.create_future()
            bell = LoopBell.enter(loop)
            call = functools.partial(bell.wake, future)
            self._here[future] = call
            log, pause, rests = self._log, self._rested_at - monotonic(), True
            try:
                if pause > 0:
                    bell.pause(future, pause)
                else:
                    self._journal.wait(self, log, future, call)
                    found = self._next(most)
                    if found is not None:
                        return found
                if not self._ended:
                    if deadline is None:
                        await future
                    else:
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout_at(deadline):
                                await future
            finally:
                self._here.pop(future, None)
                self._journal.forget(log, future)
                bell.leave()

    def forked(self) -> None:
        """In the child of a fork: it has ended, with nothing more to give. Takes no lock."""
        self._lock = threading.RLock()
        self._log, self._at, self._ended = EventLog(), 0, True
        self._ready.clear()


def _open(gate: threading.Lock) -> None:
    with contextlib.suppress(RuntimeError):  # it is open
        gate.release()


class Subscribers:
    """The table of those who listen, and what was published for them; outlives the EventBus. Safe from any thread."""

    def __init__(self, clock: Clock = wall) -> None:
        self.journal = Journal(clock)
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._known: dict[int, Subscription] = {}
        self._closed = False

    def create(self, scope: Scope, capacity: int) -> Subscription:
        """A subscription to what is published after this call; one that has ended, once all have."""
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            hint = "; give a callback as callback=..." if callable(capacity) else ""
            raise ValueError(f"capacity must be a whole number of at least 1, not {capacity!r}{hint}")
        subscriber = next(self._ids)
        subscription = Subscription(subscriber, scope, capacity, self.journal, self._forget)
        with self._lock:
            closed = self._closed
            if not closed:
                self._known[subscriber] = subscription
        if closed:
            subscription.finish()
        return subscription

    def add(self, event: Event, scope: Scope) -> bool:
        """Publish, waiting for nobody. True if the bus is to be told."""
        return bool(self._known) and self.journal.add(event, scope)

    def deliver(self) -> None:
        """Put what was published before all whose event it is. The bus calls this, and it waits for nobody."""
        self.journal.deliver()

    def finish(self, scope: Scope) -> None:
        """Nothing more will come of the scope: its subscriptions end after what has been published."""
        for each in [each for each in list(self._known.values()) if each.scope == scope]:
            each.finish()

    def end_all(self) -> None:
        """The system has stopped: every subscription ends after what it holds."""
        with self._lock:
            self._closed = True
            left = list(self._known.values())
        for subscription in left:
            subscription.finish()

    def forked(self) -> None:
        """In the child of a fork: end all, without a lock, for its holder may not be here."""
        self._lock = threading.RLock()
        self.journal.forked()
        for subscription in list(self._known.values()):
            subscription.forked()
        self._known, self._closed = {}, True

    @property
    def listening(self) -> bool:
        """Whether there is anybody to publish for."""
        return bool(self._known)

    def _forget(self, subscriber: int) -> None:
        self._known.pop(subscriber, None)


def check_callback(callback: object) -> None:
    """Raise TypeError for what could not be called with an envelope, or would do nothing when it is."""
    if callback is None:
        return
    if not callable(callback):
        raise TypeError(f"callback must be a function of one envelope, not {callback!r:.60}")
    if inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(type(callback).__call__):
        raise TypeError("callback is a coroutine function: use `async for envelope in subscription` instead")


def deliver_to(subscription: Subscription, callback: Callable[[Envelope], Any]) -> threading.Thread:
    """Call `callback` with each envelope on a thread of its own, until the subscription ends or is closed.

    What it raises is logged with the class of the event, of several failures in a row the first; `FAILURES` in a row
    close the subscription, which is logged too. SystemExit closes it without a word. Raises RuntimeError, and closes
    it, if no thread can be started.
    """

    def run() -> None:
        try:
            with contextlib.suppress(SystemExit):
                deliver()
        finally:
            if not subscription.ended:
                subscription.close()

    def deliver() -> None:
        failures = 0
        for envelope in subscription:
            if subscription.closed:
                return
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
                    return

    thread = threading.Thread(target=run, name=f"kithara-subscriber-{subscription.id}", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        subscription.close()
        raise
    return thread
