"""The poison rule: what lost workers say about one request. Sans-IO.

A worker that ends takes with it all that ran there, and one of these may be why. A request that was **alone** in it
is suspect at once; those that were in **company** only after a second loss. A suspect runs by itself in a worker of
its own, so that the next loss accuses nobody else: after two losses alone it is refused. 64 KiB landed since the last
such loss clear it.

Forgiven, that is held against nobody:

- a worker that died before it took the attempt up;
- a worker that was to leave: recycled or discharged, whatever it died of in the end. It gets nothing new, so this
  forgives little.

At the stop of the system every request has been cancelled before its worker ends.

Several workers that die within the same 20 ms were hit by one accident (a kill of the group, no memory left). All
that ran in them counts as company, even who was the only one in its worker: it is never refused for that. It is not
forgiven, for two requests may kill two workers at once again and again; run one by one, they show which it is.

Ten losses of any kind in a row, without 64 KiB in between, are the end too: the machine cannot run this request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from kithara_actors.errors import Failure, InternalError, PoisonRequest

__all__ = ["CLEARED_BY", "Blame", "Suspicion", "blames"]

CLEARED_BY = 65536
"""Bytes that land after a loss and clear a request of it."""

_ALONE = 2
_SHARED = 2
_IN_A_ROW = 10


class Blame(StrEnum):
    """What the end of a worker says about an attempt that was in it."""

    NONE = "none"
    SHARED = "shared"
    ALONE = "alone"


def blames(taken: Sequence[bool], *, together: bool = False, meant: bool = False) -> list[Blame]:
    """What the end of a worker says about each attempt that it was sent, in the order of `taken`: had it taken it up?

    `together`: other workers died at the same moment. `meant`: the host ended it on purpose.
    """
    if meant:
        return [Blame.NONE] * len(taken)
    blame = Blame.ALONE if sum(taken) == 1 and not together else Blame.SHARED
    # A worker that died before it took the attempt up cannot have died of it.
    return [blame if each else Blame.NONE for each in taken]


@dataclass(slots=True)
class Suspicion:
    """What is held against one request. `since` is the offset from which on landed bytes clear it."""

    since: int
    alone: int = 0
    shared: int = 0
    forgiven: int = 0

    def landed(self, offset: int) -> None:
        """Bytes up to `offset` have landed."""
        if offset - self.since >= CLEARED_BY:
            self.alone = self.shared = self.forgiven = 0
            self.since = offset

    def reported(self) -> None:
        """A living worker has told how an attempt ended: what was forgiven is no longer in a row."""
        self.forgiven = 0

    def lost(self, blame: Blame, offset: int) -> None:
        """A worker has ended under an attempt of this request, with bytes landed up to `offset`."""
        self.landed(offset)
        match blame:
            case Blame.NONE:
                self.forgiven += 1
            case Blame.SHARED:
                self.shared += 1
                self.since = offset
            case Blame.ALONE:
                self.alone += 1
                self.since = offset

    @property
    def losses(self) -> int:
        """All of them since it was clear."""
        return self.alone + self.shared + self.forgiven

    @property
    def suspect(self) -> bool:
        """Whether the next attempt runs in a worker of its own."""
        return self.alone > 0 or self.shared >= _SHARED

    @property
    def verdict(self) -> Failure | None:
        """Why no further attempt is made; None if there may be one."""
        if self.alone >= _ALONE:
            return Failure(
                PoisonRequest.__name__, f"refused: it ended {self.alone} worker processes, each time running alone"
            )
        if self.losses >= _IN_A_ROW:
            return Failure(
                InternalError.__name__, f"{self.losses} workers in a row were lost while running this request"
            )
        return None
