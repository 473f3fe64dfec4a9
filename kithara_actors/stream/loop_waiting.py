"""Tasks that wait for events: all of one event loop are woken by one call into it."""

from __future__ import annotations

import asyncio
import collections
import contextlib

__all__ = ["LoopBell"]


class LoopBell:
    """One for each loop in which somebody waits. `wake` is safe from any thread, all else belongs to the loop's."""

    _all: dict[asyncio.AbstractEventLoop, LoopBell] = {}  # noqa: RUF012 - shared on purpose

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._users = 0
        self._called = False
        self._woken: collections.deque[asyncio.Future[None]] = collections.deque()
        self._timer: asyncio.TimerHandle | None = None
        self._pausing: list[asyncio.Future[None]] = []

    @classmethod
    def enter(cls, loop: asyncio.AbstractEventLoop) -> LoopBell:
        """The one of this loop, until `leave`."""
        bell = cls._all.get(loop)
        if bell is None:
            bell = cls._all[loop] = LoopBell(loop)
        bell._users += 1
        return bell

    def leave(self) -> None:
        """One waits no more."""
        self._users -= 1
        if self._users == 0:
            LoopBell._all.pop(self._loop, None)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def wake(self, future: asyncio.Future[None]) -> None:
        """Settle it soon, in the loop. Never blocks; harmless more than once, and when the loop is closed."""
        self._woken.append(future)
        if not self._called:
            self._called = True
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._settle_woken)

    def pause(self, future: asyncio.Future[None], seconds: float) -> None:
        """Settle it about that much later, or earlier: with others that pause already."""
        self._pausing.append(future)
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._resume)

    def _settle_woken(self) -> None:
        # In this order: who is added from here on calls again, or is found below.
        self._called = False
        while self._woken:
            _settle(self._woken.popleft())

    def _resume(self) -> None:
        self._timer = None
        pausing, self._pausing = self._pausing, []
        for future in pausing:
            _settle(future)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
