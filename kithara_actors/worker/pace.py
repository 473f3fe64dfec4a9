"""What the limits `max_rate` and `max_rate_per_host` let an attempt take off its connection, and when.

The meters are words that all workers of a system share, so that the limits hold for all of them together and no
message is needed for a piece of a body.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.clock import monotonic_ns
from actors.memory.words import SharedWords
from kithara_actors.errors import Cancelled
from kithara_actors.logic import pacing
from kithara_actors.worker.attempt import Attempt
from kithara_actors.worker.framing import Framing

__all__ = ["Meter", "Pace", "PacedFraming", "Pacing"]

_LOOK = 0.1
"""Seconds after which a wait is interrupted to see whether there is still something to wait for."""


@dataclass(frozen=True, slots=True)
class Meter:
    """One limit: the word `index` remembers what was reserved at `rate` bytes per second."""

    words: SharedWords
    index: int
    rate: float


class Pace:
    """The share of one attempt in its meters. Belongs to the attempt's thread.

    Bytes are reserved before they are received, a piece at a time: reserve, wait, receive at most so many, tell.
    """

    __slots__ = ("_attempt", "_clock", "_due", "_left", "_meters", "_reserved", "_wake")

    def __init__(self, meters: Sequence[Meter], attempt: Attempt, clock: Callable[[], int] = monotonic_ns) -> None:
        self._meters = tuple(meters)
        self._attempt = attempt
        self._clock = clock
        self._reserved = 0
        self._left = 0
        self._due = 0
        self._wake = threading.Event()

    def allow(self, wanted: int) -> tuple[int, float]:
        """How many of `wanted` bytes (at least 1) may be received, and after how many seconds.

        Until `took` has used them up, what was reserved is what is allowed. Blocks for microseconds, and for
        `PATIENCE` of `actors.memory.words` where another worker is stopped in the middle of a reservation.
        """
        now = self._clock()
        if self._left == 0:
            count = wanted
            for meter in self._meters:
                count = pacing.piece(meter.words[meter.index], now, meter.rate, count)
            self._due = max((_reserve(meter, count, now) for meter in self._meters), default=now)
            self._reserved = self._left = count
        return min(wanted, self._left), pacing.turn(self._due, now) / 1e9

    def wait(self, seconds: float) -> None:
        """Block for `seconds`, or a tenth of one if that is less. Raises Cancelled as soon as that is so."""
        try:
            self._attempt.wake_by(self._wake)
            self._wake.wait(min(seconds, _LOOK))
        finally:
            with contextlib.suppress(Cancelled):
                self._attempt.wake_by(None)
        self._attempt.check()

    def took(self, count: int) -> None:
        """`count` bytes have come. Those that nobody allowed are paid for by whoever is next."""
        unpaid = count - self._left
        self._left = max(self._left - count, 0)
        if unpaid > 0:
            now = self._clock()
            for meter in self._meters:
                _reserve(meter, unpaid, now)

    def settle(self) -> None:
        """Give back what was reserved and not received. Idempotent."""
        left, self._left = self._left, 0
        if left == 0:
            return
        for meter in self._meters:
            _refund(meter, self._reserved, self._reserved - left)


class PacedFraming:
    """A body that comes no faster than its attempt may take it: for what reads it through something else, which
    takes what it needs and tells nobody how much that was."""

    __slots__ = ("_framing", "_pace")

    unread = 0

    def __init__(self, framing: Framing, pace: Pace) -> None:
        self._framing = framing
        self._pace = pace

    @property
    def ended(self) -> bool:
        return self._framing.ended

    @property
    def left(self) -> int | None:
        return self._framing.left

    def take(self, limit: int) -> bytes | memoryview:
        """See `Framing.take`; waits for its turn first. Raises Cancelled besides."""
        while True:
            allowed, seconds = self._pace.allow(limit)
            if seconds <= 0:
                break
            self._pace.wait(seconds)
        data = self._framing.take(allowed)
        self._pace.took(len(data))
        return data

    def skipped(self, count: int) -> None:
        raise NotImplementedError

    @property
    def spent(self) -> bool:
        return self._framing.spent

    def surplus(self) -> bool:
        return self._framing.surplus()


class Pacing:
    """The limits of a worker, in bytes per second, and the meters, which come with its first attempt."""

    def __init__(self, max_rate: float | None, max_rate_per_host: float | None) -> None:
        self._max_rate = max_rate
        self._max_rate_per_host = max_rate_per_host
        self._lock = threading.Lock()
        self._words: SharedWords | None = None

    def take_over(self, fd: int) -> None:
        """Map the meters behind `fd`, which is owned here from now on; all descriptors given are of the same."""
        with self._lock:
            if self._words is None:
                self._words = SharedWords(fd=fd)
                return
        self._words.close_repeat(fd)

    def pace(self, number: int, attempt: Attempt) -> Pace:
        """For an attempt whose origin has the meter `number`; 0 if only the total is limited."""
        words = self._words
        if words is None:
            raise RuntimeError("an attempt under a limit came without meters")
        meters = []
        if self._max_rate is not None:
            meters.append(Meter(words, 0, self._max_rate))
        if self._max_rate_per_host is not None:
            meters.append(Meter(words, number, self._max_rate_per_host))
        return Pace(meters, attempt)

    def close(self) -> None:
        """Let go of the meters. No attempt may be running. Idempotent."""
        words, self._words = self._words, None
        if words is not None:
            words.close()


def _reserve(meter: Meter, count: int, now: int) -> int:
    return meter.words.update(meter.index, lambda tat: pacing.reserve(tat, now, count, meter.rate))


def _refund(meter: Meter, reserved: int, used: int) -> None:
    meter.words.update(meter.index, lambda tat: (pacing.refund(tat, reserved, used, meter.rate), None))
