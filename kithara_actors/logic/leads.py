"""How far transfers are ahead of those who read, and which of them somebody waits for. Sans-IO."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kithara_actors.values import RequestId

__all__ = ["NEAR", "Front", "Reading", "ahead_of", "awaited"]

NEAR = 256 * 1024
"""Bytes: a reader that has waited just now and is no further than this behind a transfer has no lead to spare."""


@dataclass(slots=True)
class Reading:
    """Where one stream reads: left here by its readers, without a lock or a message, for who wants to know.

    `position` is the stream's, `last` the end of the last read, at whatever offset. `waits` has, for each call that is
    blocked, the offset it reads from; `waited` is when the last of them had what it waited for, in seconds of the
    system's clock.
    """

    position: int = 0
    last: int = 0
    waits: dict[object, int] = field(default_factory=dict)
    waited: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Front:
    """A transfer: `landed` is the next offset that it brings, `end` where it ends, None while that is unknown."""

    request: RequestId
    landed: int
    end: int | None


def awaited(fronts: Iterable[Front], missing: int) -> RequestId | None:
    """The transfer that will bring the byte at `missing`; the nearest before it, if several will."""
    bringing = [front for front in fronts if front.landed <= missing and (front.end is None or missing < front.end)]
    return max(bringing, key=lambda front: front.landed).request if bringing else None


def ahead_of(front: Front, readings: Iterable[Reading], waited_since: float) -> tuple[int | None, bool]:
    """How many bytes the nearest reader can go on without the transfer, None where none reads towards it; and whether
    that is too little: it has waited since then, and is about to wait again."""
    ahead, short = None, False
    for reading in readings:
        for place in (reading.position, reading.last):
            if place <= front.landed:
                distance = front.landed - place
                ahead = distance if ahead is None else min(ahead, distance)
                short = short or (distance <= NEAR and reading.waited > waited_since)
    return ahead, short
