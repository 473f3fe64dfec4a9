"""What was published, in order, until it is put before its subscribers; who waits for more is known here."""

from __future__ import annotations

import collections
import itertools
import threading
import weakref
from collections.abc import Callable

from actors.clock import Clock, wall
from kithara_actors.messages.events import Envelope, Event, Scope
from kithara_actors.stream.event_log import EventLog

__all__ = ["EACH", "LONGEST", "PILE", "SHORTEST", "Journal"]

PILE = 256
"""So many events wait at most, or a few more, until the bus delivers them though nobody waits."""
SHORTEST, EACH, LONGEST = 0.002, 0.001, 0.1
"""Seconds: how far apart the wake-ups of one reader are at least, how much each reader adds, and the most it may be."""


class Journal:
    """Safe from any thread. Who publishes takes no lock and wakes at most the bus.

    Events wait here until somebody looks for them, the bus is told to deliver them, or `PILE` of them have come:
    so publishing costs the same however many listen, and a burst is delivered at once. Nobody asks for any other lock
    while holding `lock`.
    """

    def __init__(self, clock: Clock = wall) -> None:
        self._clock = clock
        self._lock = threading.RLock()  # re-entrant: a finalizer that closes a subscription may run anywhere
        self._entries: collections.deque[tuple[Event, Scope, float]] = collections.deque()
        self._added = itertools.count(1)
        self._numbered: tuple[object, int] = (None, 0)
        self._last = 0.0
        self._delivering = False
        self._logs: dict[tuple[int | None, int | None], EventLog] = {}
        self._users: dict[tuple[int | None, int | None], int] = {}
        self._all: tuple[EventLog, ...] = ()
        """That of the system, if there is one."""
        self._narrow = False
        """Whether there are others."""
        self._streams: dict[int, tuple[EventLog, ...]] = {}
        """Of the streams of each asset, whose subscribers get the asset's events too."""
        self._awaited = False
        self._waited: set[EventLog] = set()
        self._news: set[EventLog] = set()
        """Where somebody waits for what has come."""
        self._readers: weakref.WeakSet[object] = weakref.WeakSet()
        """Who has waited, and goes on reading."""

    # --- For publishers

    def add(self, event: Event, scope: Scope) -> bool:
        """Never waits. True if the bus is to be told to deliver: somebody waits, or many have come."""
        self._entries.append((event, scope, self._clock()))
        if self._awaited:
            self._awaited = False  # once is enough, until it has delivered
            return True
        return not next(self._added) % PILE

    # --- For the bus, and for readers that find nothing more

    def collect(self) -> None:
        """Have all that was published before this call in the logs. No effect if nothing is new."""
        if self._entries or self._news:
            self.deliver()

    def deliver(self) -> None:
        """Number what was published, put it before all whose event it is, and wake those of them who wait.

        May be interrupted anywhere, and begun again by anybody.
        """
        with self._lock:
            if self._delivering:
                return  # a finalizer, in the middle of it
            self._delivering = True
            try:
                self._spread()
                self._awaited = bool(self._waited)
                if self._awaited and self._entries:
                    # Published since the look above, when nobody told the bus; who publishes from here on does.
                    self._spread()
            finally:
                self._delivering = False
                self._awaited = bool(self._waited)

    def _spread(self) -> None:
        self._put_all()
        for log in list(self._news):
            log.wake()
            self._news.discard(log)
            self._waited.discard(log)

    def _put_all(self) -> None:
        entries, news = self._entries, self._news
        for _ in range(len(entries)):
            entry = entries[0]
            if self._numbered[0] is not entry:
                self._numbered = (entry, self._numbered[1] + 1)
            event, scope, self._last = entry[0], entry[1], max(self._last, entry[2])
            envelope = Envelope(event, scope, self._numbered[1], self._last)
            for log in self._logs_of(scope):
                log.add(envelope)
                if log.waiters:
                    news.add(log)
            # Last: until here it can be done again, by whoever finds it still there.
            entries.popleft()

    def _logs_of(self, scope: Scope) -> tuple[EventLog, ...]:
        """Where its event belongs: to its scope, to its asset, to the system; one of an asset also to its streams."""
        asset = scope.asset
        if asset is None or not self._narrow:
            return self._all
        found = [self._logs.get((asset, None))]
        if scope.stream is not None:
            found.append(self._logs.get((asset, scope.stream)))
        return (*self._all, *filter(None, found), *(self._streams.get(asset, ()) if scope.stream is None else ()))

    # --- For subscriptions

    def enter(self, scope: Scope, capacity: int) -> tuple[EventLog, int]:
        """The log of this scope, and the number of the first event that is published after this call."""
        place = scope.asset, scope.stream
        with self._lock:
            self.deliver()
            log = self._logs.get(place)
            if log is None:
                log = self._logs[place] = EventLog()
                self._regroup()
                if scope.asset is not None and scope.stream is not None:
                    self._streams[scope.asset] = (*self._streams.get(scope.asset, ()), log)
            self._users[place] = self._users.get(place, 0) + 1
            return log, log.enter(capacity)

    def leave(self, reader: object, scope: Scope, capacity: int, log: EventLog) -> EventLog:
        """One reads there no more: what it may still read. Others go on there, and push out what it has not read."""
        place = scope.asset, scope.stream
        with self._lock:
            left = log.copy()
            log.leave(capacity)
            self._readers.discard(reader)
            if place in self._users:
                self._users[place] -= 1
                if not self._users[place]:
                    self._drop(scope)
            return left

    def _drop(self, scope: Scope) -> None:
        place = scope.asset, scope.stream
        del self._users[place]
        gone = self._logs.pop(place)
        self._regroup()
        self._waited.discard(gone)
        self._news.discard(gone)
        if scope.asset is not None and scope.stream is not None:
            rest = tuple(log for log in self._streams[scope.asset] if log is not gone)
            self._streams[scope.asset] = rest
            if not rest:
                del self._streams[scope.asset]

    def _regroup(self) -> None:
        everything = self._logs.get((None, None))
        self._all = () if everything is None else (everything,)
        self._narrow = len(self._logs) > len(self._all)

    def wait(self, reader: object, log: EventLog, key: object, call: Callable[[], object]) -> None:
        """Have `call` called once when there is more in this log than now; whoever waits has to look once again
        after this, for what came before has woken nobody."""
        with self._lock:
            log.waiters[key] = call
            self._readers.add(reader)
            self._waited.add(log)
            self._awaited = True

    def forget(self, log: EventLog, key: object) -> None:
        """It waits no more."""
        # Without the lock where it can be: a hundred that were just woken would queue for it.
        if log.waiters.pop(key, None) is None or log.waiters:
            return
        with self._lock:
            if not log.waiters:
                self._waited.discard(log)
                self._news.discard(log)

    @property
    def pause(self) -> float:
        """Seconds that a reader is to leave between two wake-ups: it takes what has come meanwhile at once."""
        return min(LONGEST, max(SHORTEST, EACH * len(self._readers)))

    def forked(self) -> None:
        """In the child of a fork: nobody publishes and nobody reads. Takes no lock, for its holder may not be here."""
        self.__init__(self._clock)  # type: ignore[misc]
