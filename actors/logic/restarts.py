"""When something that failed is started again: the arithmetic of supervision, without a clock or a thread.

Sources: restart types and strategies are those of Erlang/OTP's `supervisor`; the intensity is a sliding window; the
delay is exponential with its jitter below the cap, so that it is never above the cap and still spread at it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Backoff", "Exit", "Intensity", "RestartType", "Strategy", "Window", "comes_back", "never_trips"]

RESOURCE_DELAY = 1.0
"""Seconds; the least delay after a failure for want of memory, descriptors or room: starting at once makes it worse."""


class RestartType(StrEnum):
    """Which ends of a child are followed by a new incarnation."""

    PERMANENT = "permanent"
    """All but a stop from outside."""
    TRANSIENT = "transient"
    """Failures."""
    TEMPORARY = "temporary"
    """None."""


class Strategy(StrEnum):
    """Who is restarted with a child that failed."""

    ONE_FOR_ONE = "one_for_one"
    """Nobody."""
    ONE_FOR_ALL = "one_for_all"
    """All its siblings."""
    REST_FOR_ONE = "rest_for_one"
    """Those that were started after it."""


class Exit(StrEnum):
    """How an incarnation ended."""

    NORMAL = "normal"
    """By `SystemExit`."""
    SELF_STOP = "self_stop"
    """By its own wish."""
    HOST_STOP = "host_stop"
    """Stopped from outside, by whoever waits for it."""
    CRASH = "crash"
    """By an exception; in `on_start` too."""
    WORKER_LOST = "worker_lost"
    """With the process that it stood for."""

    @property
    def failed(self) -> bool:
        """Whether it counts against the limit."""
        return self in (Exit.CRASH, Exit.WORKER_LOST)


def comes_back(restart: RestartType, exit: Exit) -> bool:  # noqa: A002 - the field's own word
    """Whether a child of this type is started again after that end."""
    if exit is Exit.HOST_STOP or restart is RestartType.TEMPORARY:
        return False
    return restart is RestartType.PERMANENT or exit.failed


@dataclass(frozen=True, slots=True)
class Intensity:
    """At most `restarts` within any `period` seconds; one more is too many. ValueError names a wrong field.

    `lifetime` is the most restarts ever, however far apart; None for any number.
    """

    restarts: int = 5
    period: float = 60.0
    lifetime: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.restarts, bool) or not isinstance(self.restarts, int) or self.restarts < 0:
            raise ValueError(f"restarts must be a whole number that is not negative, not {self.restarts!r}")
        # Written so that a NaN fails as well.
        if isinstance(self.period, bool) or not isinstance(self.period, int | float) or not 0 < self.period < 1e9:
            raise ValueError(f"period must be a positive number of seconds, not {self.period!r}")
        most = self.lifetime
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 0):
            raise ValueError(f"lifetime must be a whole number that is not negative, or None, not {most!r}")


@dataclass(slots=True)
class Window:
    """The restarts of the last `period` seconds, on a clock that never goes back."""

    intensity: Intensity
    _times: deque[float] = field(default_factory=deque)
    _ever: int = 0

    def spend(self, now: float) -> bool:
        """Note one more restart at `now`; False if it is one too many."""
        self._forget(now)
        self._ever += 1
        self._times.append(now)
        if len(self._times) > self.intensity.restarts + 1:
            # Who is past the limit learns nothing from how far, and no more is kept than the limit.
            self._times.popleft()
        lifetime = self.intensity.lifetime
        return len(self._times) <= self.intensity.restarts and (lifetime is None or self._ever <= lifetime)

    def spent(self, now: float) -> int:
        """How many restarts count at `now`."""
        self._forget(now)
        return len(self._times)

    def _forget(self, now: float) -> None:
        while self._times and now - self._times[0] >= self.intensity.period:
            self._times.popleft()


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between restarts, in seconds. ValueError names a wrong field.

    After the n-th failure in a row (n from 1) b = min(`base` * 2**(n - 1), `cap`), and the delay is drawn from
    [(1 - `jitter`) * b, b]. Failures are in a row unless an incarnation was up for `healthy` seconds between them.
    """

    base: float = 0.1
    cap: float = 10.0
    jitter: float = 0.2
    healthy: float = 10.0

    def __post_init__(self) -> None:
        for name, least in (("base", 0.0), ("cap", 0.0), ("jitter", 0.0), ("healthy", 0.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 1e9:
                raise ValueError(f"{name} must be a number of at least {least:g}, not {value!r}")
        if self.jitter > 1:
            raise ValueError(f"jitter must be at most 1, not {self.jitter!r}")

    def delay(self, failures: int, draw: float, *, resource: bool = False) -> float:
        """The delay after `failures` in a row, `draw` in [0, 1] being random; longer for want of a `resource`."""
        bound = min(self.base * 2.0 ** min(max(failures, 1) - 1, 62), self.cap)
        drawn = bound * (1.0 - self.jitter * (1.0 - draw))
        return max(drawn, RESOURCE_DELAY) if resource else drawn


def never_trips(intensity: Intensity, shutdown: float, start: float) -> bool:
    """Whether children that take so many seconds to stop and to start could fail for ever below the limit."""
    return intensity.restarts * (shutdown + start) >= intensity.period
