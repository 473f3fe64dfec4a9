"""Time that moves only when a test says so, and timers that obey it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from actors.actor.address import Address
from actors.actor.timers import Timers
from actors.messages.command import Command

__all__ = ["FakeClock", "FakeTimers"]


class FakeClock:
    """A `Clock` that stands still."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Go on by `seconds`."""
        self.now += seconds


class FakeTimers(Timers):
    """Timers without a thread: `advance` runs what comes due, on the caller's thread."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self._moment = clock
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def start(self) -> None:
        """Nothing to start."""

    def after(self, delay: float, address: Address, command: Command) -> None:
        heapq.heappush(self._due, (self._moment() + delay, next(self._order), lambda: address.tell(command)))

    def call(self, delay: float, call: Callable[[], object]) -> None:
        heapq.heappush(self._due, (self._moment() + delay, next(self._order), call))

    def soon(self, call: Callable[[], object]) -> None:
        heapq.heappush(self._due, (self._moment(), next(self._order), call))

    def stop(self, timeout: float) -> bool:  # noqa: ARG002
        self._due.clear()
        return True

    def advance(self, seconds: float) -> None:
        """Go on by `seconds`, stopping at each moment at which something is due to run it."""
        until = self._moment.now + seconds
        while self._due and self._due[0][0] <= until:
            at, _, call = heapq.heappop(self._due)
            self._moment.now = max(self._moment.now, at)
            call()
        self._moment.now = until

    @property
    def delays(self) -> list[float]:
        """Seconds until each pending call, soonest first."""
        return sorted(at - self._moment() for at, _, _ in self._due)
