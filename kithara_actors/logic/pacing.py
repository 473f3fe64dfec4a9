"""How fast bytes may come: the generic cell rate algorithm, counting bytes instead of cells. Sans-IO.

ITU-T Recommendation I.371, annex A, in its form of virtual scheduling. All that a meter remembers is one time: the
*theoretical arrival time* of the next byte if all bytes came exactly at the rate. Times are nanoseconds of one clock
that never goes back. Whoever is to receive reserves first, waits for its turn, and gives back what it did not use:
what nobody reserves is there for the others.
"""

from __future__ import annotations

__all__ = ["BURST", "cost", "piece", "receive_buffer", "refund", "reserve", "turn"]

_SECOND = 1_000_000_000
BURST = 50_000_000
"""How far ahead of the rate bytes may come: what makes up for sleeping too long. The algorithm's delay tolerance."""

_PIECE = 50_000_000
"""What one reservation takes while few wait."""
_LEAST_PIECE = 5_000_000
"""And while many do: 200 reservations in a second cost next to nothing, thousands would be felt."""

_WINDOW = 0.5
"""Seconds of the rate that a socket is to buffer: round trips longer than this would slow a transfer down."""
_SMALLEST_BUFFER = 4 * 1024
_LARGEST_BUFFER = 64 * 1024
"""Half of what a socket of Linux buffers by itself at first (tcp(7), tcp_rmem), and keeps while it is read slowly."""


def cost(count: int, rate: float) -> int:
    """Nanoseconds that `count` bytes take at `rate` bytes per second, rounded up."""
    exact = count * _SECOND / rate
    whole = int(exact)
    return whole if whole == exact else whole + 1


def piece(tat: int, now: int, rate: float, most: int) -> int:
    """How many bytes to reserve at once, 1 to `most`.

    Less the longer the queue: its length is what a new transfer waits before its first byte.
    """
    queue = max(tat - now, _PIECE)
    time = max(_PIECE * _PIECE // queue, _LEAST_PIECE)
    return max(1, min(most, int(min(rate * time / _SECOND, float(most)))))


def reserve(tat: int, now: int, count: int, rate: float) -> tuple[int, int]:
    """Reserve `count` bytes: the new theoretical arrival time, and when the first of them is due.

    They may be received from `turn` of that time on.
    """
    due = max(tat, now)
    return due + cost(count, rate), due


def turn(due: int, now: int) -> int:
    """Nanoseconds to wait for what is due at `due`, not negative."""
    return max(due - BURST - now, 0)


def refund(tat: int, reserved: int, used: int, rate: float) -> int:
    """The theoretical arrival time after only `used` of `reserved` bytes came."""
    return max(tat - (cost(reserved, rate) - cost(used, rate)), 0)


def receive_buffer(*rates: float | None) -> int | None:
    """What to set as SO_RCVBUF under these limits in bytes per second; None: the system's own choice is good enough.

    A server sends ahead what fits, at most about twice as much (socket(7)): about a second's bytes of a low limit.
    """
    limit = min((rate for rate in rates if rate is not None), default=None)
    if limit is None or limit * _WINDOW > _LARGEST_BUFFER:
        return None
    return max(int(limit * _WINDOW), _SMALLEST_BUFFER)
