"""How fast each host sends, as its transfers tell. Sans-IO: the time comes in as an argument.

Two means of the samples are kept, whose weights fall by half in 3 and in 9 seconds of receiving, and the lower of the
two is the estimate: it falls fast and rises slowly. So do hls.js (`EwmaBandWidthEstimator`, whose half-lives for
recordings these are) and Shaka Player, whose two limits for small samples these are.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

__all__ = ["ENOUGH", "FAST", "SAMPLE", "SLOW", "Bandwidth", "Host", "HostBook", "HostStats"]

FAST, SLOW = 3.0, 9.0
"""Half-lives, in seconds."""
SAMPLE = 16_000
"""Bytes of a sample; fewer wait for the next, since they say more of the latency than of the bandwidth."""
ENOUGH = 128_000
"""Bytes before which there is no estimate."""
_LONGEST = 1.0
"""Seconds after which a sample is taken, however small: a trickle is slow, not unknown."""
_SHORTEST = 0.001
"""Seconds that a sample lasts at least: a body that came with its head was sent before it was looked at."""
_GAIN = 0.125
"""Of the mean of first-byte times: that of RFC 6298 for round trips."""


@dataclass(frozen=True, slots=True)
class HostStats:
    """One origin. `running` attempts are sent to it; `bandwidth_bps`, in bits per second, is what all of its bodies
    together bring, None while too little has come; `ttfb` is the mean time to the headers, in seconds, the last
    weighing most; `bytes` have landed from it."""

    running: int
    bandwidth_bps: int | None
    ttfb: float | None
    bytes: int


class _Mean:
    def __init__(self, half_life: float) -> None:
        self._half_life = half_life
        self._value = 0.0
        self._kept = 1.0
        """The weight of the zero that it began with."""

    def add(self, value: float, seconds: float) -> None:
        kept = 0.5 ** (seconds / self._half_life)
        self._value = kept * self._value + (1 - kept) * value
        self._kept *= kept

    @property
    def value(self) -> float:
        return self._value / (1 - self._kept) if self._kept < 1 else 0.0


class Bandwidth:
    """The estimate from samples, each of so many bytes in so many seconds of receiving."""

    def __init__(self) -> None:
        self._fast, self._slow = _Mean(FAST), _Mean(SLOW)
        self._bytes = 0

    def add(self, count: int, seconds: float) -> None:
        """One more sample; the longer it lasted, the more it weighs."""
        self._fast.add(count * 8 / seconds, seconds)
        self._slow.add(count * 8 / seconds, seconds)
        self._bytes += count

    @property
    def bps(self) -> float | None:
        """Bits per second; None before `ENOUGH` bytes."""
        return None if self._bytes < ENOUGH else min(self._fast.value, self._slow.value)


@dataclass(slots=True)
class Host:
    """One origin: what runs there, and the time over which at least one body of it was being received."""

    running: int = 0
    bodies: int = 0
    ttfb: float | None = None
    bytes: int = 0
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    _since: float = 0.0
    _count: int = 0
    _seconds: float = 0.0

    def answered(self, ttfb: float, now: float) -> None:
        """Headers have come, and a body follows."""
        self.ttfb = ttfb if self.ttfb is None else self.ttfb + _GAIN * (ttfb - self.ttfb)
        self._pass(now)
        self.bodies += 1

    def landed(self, count: int, now: float) -> None:
        """So many bytes more, of whichever body."""
        self._pass(now)
        self.bytes += count
        self._count += count

    def over(self, now: float) -> None:
        """A body is over."""
        self._pass(now)
        self.bodies -= 1
        if not self.bodies:
            self._sample()

    def _pass(self, now: float) -> None:
        if self.bodies and now > self._since:
            # Not before: what other bodies have brought in the same time belongs to the same sample.
            self._sample()
            self._seconds += now - self._since
        self._since = now

    def _sample(self) -> None:
        if self._count >= SAMPLE or self._seconds >= _LONGEST:
            self.bandwidth.add(self._count, max(self._seconds, _SHORTEST))
            self._count, self._seconds = 0, 0.0


@dataclass(slots=True)
class _Attempt:
    origin: str
    landed: int
    answered: bool = False


class HostBook:
    """All origins, at most `limit` of them besides those in use: who has been idle longest is forgotten."""

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._hosts: OrderedDict[str, Host] = OrderedDict()
        self._attempts: dict[int, _Attempt] = {}

    def begin(self, key: int, origin: str, landed: int, now: float) -> None:
        """An attempt begins, from the offset `landed` on; `key` names it, and replaces one before."""
        if key in self._attempts:
            self.end(key, None, now)
        host = self._hosts.get(origin)
        if host is None:
            host = self._hosts[origin] = Host()
        self._hosts.move_to_end(origin)
        host.running += 1
        self._attempts[key] = _Attempt(origin, landed)
        while len(self._hosts) > self._limit:
            idle = next((name for name, each in self._hosts.items() if not each.running), None)
            if idle is None:
                break
            del self._hosts[idle]

    def answered(self, key: int, ttfb: float, now: float) -> None:
        """Its headers have come."""
        attempt = self._attempts.get(key)
        if attempt is not None and not attempt.answered:
            attempt.answered = True
            self._hosts[attempt.origin].answered(ttfb, now)

    def landed(self, key: int, landed: int, now: float) -> None:
        """Its bytes up to the offset `landed` are there."""
        attempt = self._attempts.get(key)
        if attempt is not None and attempt.answered:
            count, attempt.landed = landed - attempt.landed, max(landed, attempt.landed)
            self._hosts[attempt.origin].landed(max(0, count), now)

    def end(self, key: int, landed: int | None, now: float) -> None:
        """It is over, with the bytes up to `landed` if that is known. Idempotent."""
        if landed is not None:
            self.landed(key, landed, now)
        attempt = self._attempts.pop(key, None)
        if attempt is not None:
            host = self._hosts[attempt.origin]
            host.running -= 1
            if attempt.answered:
                host.over(now)

    def end_all(self, now: float) -> None:
        """Nothing is known to run any more."""
        for key in list(self._attempts):
            self.end(key, None, now)

    def stats(self) -> dict[str, HostStats]:
        """Of each origin, those used last at the end."""
        return {origin: _stats(host) for origin, host in self._hosts.items()}


def _stats(host: Host) -> HostStats:
    bps = host.bandwidth.bps
    return HostStats(host.running, None if bps is None else int(bps), host.ttfb, host.bytes)
