"""What an actor does: the part of it that begins anew when it fails."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from actors.messages.command import Command

if TYPE_CHECKING:
    from actors.actor.context import Context

__all__ = ["Behaviour", "Crash", "StopSelf"]


class StopSelf(Exception):
    """Raised by a behaviour to end its own incarnation in the ordinary way, after the current command."""


class Crash(Exception):
    """Raised by a behaviour that cannot vouch for its state any more: also in an ask, another takes its place."""


class Behaviour(ABC):
    """State and decisions of one actor, for one incarnation. Every method runs on the actor's own thread."""

    context: Context
    """The actor around it: its address, timers, children. There from `on_start` on, not yet in `__init__`."""

    pid: int | None = None
    """The process that it stands for, where it stands for one; shown by `Supervisor.children()`."""

    def on_start(self) -> None:  # noqa: B027
        """Before the first command. Resources that belong to a thread are got here."""

    @abstractmethod
    def handle(self, command: Command) -> Command | None:
        """Take one command; the return value answers an ask. Must not block without a limit."""

    def on_restart(self, reason: BaseException | None) -> None:  # noqa: ARG002
        """After the last command of an incarnation that another will follow; `reason` None: not by its own fault."""
        self.on_stop()

    def on_stop(self) -> None:  # noqa: B027
        """After the last command of the last incarnation; its children have ended."""
