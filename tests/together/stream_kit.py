"""What the tests of streams share: calls in threads, events as they come, and what an origin was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from actors.clock import monotonic
from actors.memory.progress import Waiter
from kithara_actors.assets.content import Content, View
from kithara_actors.messages.events import Envelope, Event
from kithara_actors.stream.reader import Stream
from kithara_actors.stream.subscription import Subscription
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Origin, Seen

__all__ = [
    "HANG",
    "Call",
    "Watch",
    "answered",
    "asked",
    "blocking",
    "landed_of",
    "sent_in_all",
    "settle",
    "until_shown",
    "waiting",
    "watching",
]

HANG = 30.0
"""Seconds after which a test calls it a hang."""

T = TypeVar("T")


class Call(Generic[T]):
    """A call in a thread of its own; `result` waits for it and raises what it raised."""

    def __init__(self, call: Callable[..., T], *args: Any) -> None:
        self._call = call
        self._args = args
        self._value: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="call")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value.append(self._call(*self._args))
        except BaseException as error:
            self._error = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def result(self, timeout: float = HANG) -> T:
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the call hangs"
        if self._error is not None:
            raise self._error
        return self._value[0]

    def error(self, timeout: float = HANG) -> BaseException:
        """What it raised, which it has to."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the call hangs"
        assert self._error is not None, f"no error, but {self._value!r:.200}"
        return self._error


class Watch:
    """Every event so far of one subscription, and waiting for more."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self.seen: list[Envelope] = []

    def until(self, enough: Callable[[list[Event]], bool], timeout: float = HANG) -> list[Event]:
        """Block until `enough` holds for all events so far; returns them. AssertionError after `timeout`."""
        end = monotonic() + timeout
        while not enough(self.events):
            envelope = self._subscription.get(max(0.0, end - monotonic()))
            assert envelope is not None, f"waited in vain; there were: {self.events}"
            self.seen.append(envelope)
        return self.events

    def first(self, kind: type[T], where: Callable[[T], bool] = lambda _: True, timeout: float = HANG) -> T:
        """The first event of `kind` that fits, waiting for it."""
        found: list[T] = []

        def fits(events: list[Event]) -> bool:
            found[:] = [event for event in events if isinstance(event, kind) and where(event)]
            return bool(found)

        self.until(fits, timeout)
        return found[0]

    def drain(self) -> list[Event]:
        """All events that are there already, or come until the subscription ends."""
        while (envelope := self._subscription.get(HANG if self._subscription.ended else 0)) is not None:
            self.seen.append(envelope)
        return self.events

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def events(self) -> list[Event]:
        return [envelope.event for envelope in self.seen]


@contextmanager
def watching(source: ActorSystem | Stream, capacity: int = 100_000) -> Iterator[Watch]:
    """A watch on all events of a system or a stream from here on."""
    with source.subscribe(capacity) as subscription:
        yield Watch(subscription)


@contextmanager
def waiting(stream: Stream, call: Callable[..., T], *args: Any) -> Iterator[Call[T]]:
    """`call` in a thread; when the block ends early the stream is cancelled, so that the thread ends too."""
    running = Call(call, *args)
    try:
        yield running
    finally:
        if running.running:
            stream.cancel()
        running._thread.join(HANG)


def blocking(stream: Stream) -> threading.Event:
    """Set as soon as a call of `stream` begins to wait, from here on."""
    event = threading.Event()
    borrow = stream._bytes._borrow

    def spy(content: Content) -> Waiter:
        event.set()
        return borrow(content)

    stream._bytes._borrow = spy  # type: ignore[method-assign]
    return event


def until_shown(stream: Stream, enough: Callable[[View], bool], timeout: float = HANG) -> None:
    """Wait until what the Source shows of the asset satisfies `enough`."""
    content = stream._bytes.content
    waiter = Waiter(content.wake)
    try:
        while not enough(content.view):
            assert waiter.wait(timeout), f"waited in vain: {content.view}"
    finally:
        waiter.close()


def settle(timeout: float = HANG) -> None:
    """Wait until every Source has ended, and with it all that it had asked for."""
    for thread in threading.enumerate():
        if thread.name.startswith("kithara-source-"):
            thread.join(timeout)
            assert not thread.is_alive(), f"{thread.name} does not end"


def asked(origin: Origin, path: str) -> list[Seen]:
    """The requests for `path` so far."""
    return [seen for seen in origin.requests if seen.path == path]


def answered(origin: Origin, path: str, count: int, sent: int = 0, timeout: float = HANG) -> list[Seen]:
    """Wait until `path` was asked `count` times and the last of these answers has sent at least `sent` bytes."""

    def ready(seen: list[Seen]) -> bool:
        mine = [each for each in seen if each.path == path]
        return len(mine) >= count and (mine[count - 1].sent >= sent)

    assert origin.wait_for(ready, timeout), f"asked only {asked(origin, path)}"
    return asked(origin, path)


def sent_in_all(origin: Origin, count: int, timeout: float = HANG) -> int:
    """The body bytes of all answers together, once they are `count` at least: the last record may be late."""
    origin.wait_for(lambda seen: sum(each.sent for each in seen) >= count, timeout)
    return sum(each.sent for each in origin.requests)


def landed_of(seen: Seen, size: int) -> tuple[int, int]:
    """The interval that an answer has sent so far."""
    start = 0 if seen.range is None or seen.status != 206 else seen.range[0]
    return start, min(start + seen.sent, size)
