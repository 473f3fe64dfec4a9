"""Which loads are slow. Sans-IO: what has landed and the time come in as arguments."""

from __future__ import annotations

from dataclasses import dataclass

from kithara_actors.values import RequestId

__all__ = ["PROGRESS", "Slowness"]

PROGRESS = 64 * 1024
"""Bytes that must land within the soft time-out: as many as renew the budget of retries."""

_LONGEST, _SHORTEST = 1.0, 0.01
"""Seconds between two looks."""


@dataclass(slots=True)
class _Load:
    since: float
    mark: int
    told: bool = False


class Slowness:
    """Watches attempts that run: one is slow when it has not ended, and fewer than `PROGRESS` bytes have landed,
    for `soft_timeout` seconds; be it that its head, or that its body does not come."""

    def __init__(self, soft_timeout: float) -> None:
        self._soft_timeout = soft_timeout
        self._loads: dict[RequestId, _Load] = {}

    @property
    def pause(self) -> float:
        """Seconds until the next look is due: half the time-out, so that what is slow is told before twice of it."""
        return max(_SHORTEST, min(_LONGEST, self._soft_timeout / 2))

    def begin(self, request: RequestId, landed: int, now: float) -> None:
        """An attempt of `request` begins, from the offset `landed` on; in place of one before."""
        self._loads[request] = _Load(now, landed)

    def end(self, request: RequestId) -> None:
        """No attempt of it runs any more. Idempotent."""
        self._loads.pop(request, None)

    def running(self) -> list[RequestId]:
        """What is to be looked at."""
        return list(self._loads)

    def look(self, request: RequestId, landed: int, now: float) -> float | None:
        """Bytes up to `landed` are there. The seconds that it has been slow for, when that is found, once for each
        attempt; else None."""
        load = self._loads.get(request)
        if load is None or load.told:
            return None
        # Less than before: that was still of the attempt before.
        if landed - load.mark >= PROGRESS or landed < load.mark:
            load.mark, load.since = landed, now
            return None
        if now - load.since < self._soft_timeout:
            return None
        load.told = True
        return now - load.since
