"""What runs now, looked at from time to time: is it slow, and what does it say of its host?"""

from __future__ import annotations

from collections.abc import Callable

from actors.actor.address import Address
from actors.actor.timers import Timers
from actors.clock import Clock
from kithara_actors.assets.hosts import HostTable
from kithara_actors.logic.fetch import Run
from kithara_actors.logic.slowness import Slowness
from kithara_actors.messages.commands import WatchLoads
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import RequestId

__all__ = ["Loads"]


class Loads:
    """Belongs to the Downloader and runs on its thread. One timer serves all requests, and only while some run."""

    def __init__(
        self,
        soft_timeout: float,
        hosts: HostTable,
        find: Callable[[str], Address | None],
        timers: Timers,
        clock: Clock,
        landed: Callable[[FetchSpec], int],
        slow: Callable[[FetchSpec, int, float], object],
    ) -> None:
        """`landed` says how far a request has come; `slow` takes what is slow, how far that is, and since when."""
        self._slowness = Slowness(soft_timeout)
        self._hosts = hosts
        self._find = find
        self._timers = timers
        self._clock = clock
        self._landed = landed
        self._slow = slow
        self._specs: dict[RequestId, FetchSpec] = {}
        self._due: float | None = None
        hosts.end_all(clock())  # what ran for an incarnation before is taken over one by one

    def begin(self, run: Run) -> None:
        """An attempt runs, in place of one before."""
        now = self._clock()
        request = run.spec.request
        self._specs[request] = run.spec
        self._slowness.begin(request, run.start, now)
        self._hosts.begin(request, run.spec.origin, run.start, now)
        if self._due is None:
            self._arm(now)

    def answered(self, request: RequestId, ttfb: float) -> None:
        """Its headers have come."""
        self._hosts.answered(request, ttfb, self._clock())

    def end(self, request: RequestId, landed: int | None) -> None:
        """No attempt of it runs any more; bytes up to `landed` are there. Idempotent."""
        if self._specs.pop(request, None) is not None:
            self._slowness.end(request)
            self._hosts.end(request, landed, self._clock())

    def look(self) -> None:
        """The timer's time has come."""
        now = self._clock()
        if self._due is None or now < self._due:
            return  # the timer of an incarnation before
        for request in self._slowness.running():
            spec = self._specs[request]
            landed = self._landed(spec)
            self._hosts.landed(request, landed, now)
            seconds = self._slowness.look(request, landed, now)
            if seconds is not None:
                self._slow(spec, landed, seconds)
        self._due = None
        if self._specs:
            self._arm(now)

    def _arm(self, now: float) -> None:
        me = self._find("downloader")
        if me is not None:
            self._due = now + self._slowness.pause
            self._timers.after(self._slowness.pause, me, WatchLoads())
