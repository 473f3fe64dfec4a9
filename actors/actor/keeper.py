"""Between a cell and its supervisor: what the one reports, and the orders that the other gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from actors.actor.context import Context
from actors.logic.restarts import Exit

__all__ = ["Break", "End", "Halt", "Keeper", "Start"]


class Keeper(Protocol):
    """Who decides what follows when one cell's incarnation comes up or goes down.

    Called on the cell's thread, except where it says otherwise; never blocks.
    """

    def context(self, incarnation: int) -> Context:
        """What the behaviour gets to know of its cell."""

    def started(self, incarnation: int) -> None:
        """`on_start` has returned."""

    def not_started(self, incarnation: int, error: BaseException) -> None:
        """The behaviour could not be made, or its `on_start` raised."""

    def exited(self, incarnation: int, how: Exit, error: BaseException | None) -> None:
        """The incarnation is over, without an order; `error` is why, if it failed."""

    def halted(self, incarnation: int) -> None:
        """The incarnation is over, by `Cell.halt`."""

    def failed(self, incarnation: int, error: BaseException, *, asked: bool) -> None:
        """A handler raised, and the incarnation goes on; if it was `asked`, the asker has the error."""

    def dead_letter(self, reason: str) -> None:
        """A message could not be decoded; it was dropped."""

    def undelivered(self, reason: str) -> None:
        """A message was told, and dropped because the actor has stopped or has no room. Any thread."""

    def discarded(self) -> None:
        """An answer came too late: its asker had been told already that the actor hangs."""

    def asked(self, envelope: object) -> None:
        """Something was asked, of an actor with a `max_wait`. The sender's thread."""

    def host_stops(self) -> None:
        """Somebody outside waits for this actor to stop. The sender's thread."""

    def gone(self) -> None:
        """The cell has ended, and its thread is about to."""

    def log(self, what: str, error: BaseException) -> None:
        """Something that has no other consequence went wrong."""


@dataclass(frozen=True, slots=True)
class Start:
    """Make this incarnation."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Halt:
    """Let this incarnation end, and wait for the next."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Break:
    """Let this incarnation end as if by itself."""

    incarnation: int
    how: Exit
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class End:
    """Let the cell end."""
