"""What an actor has around it: its address, timers that end with its incarnation, children of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from actors.actor.address import Address
from actors.actor.mailbox import Notice
from actors.actor.timers import Timers
from actors.messages.command import Command

if TYPE_CHECKING:
    from actors.actor.supervisor import Supervisor

__all__ = ["Context", "Family"]


class Family(Protocol):
    """The children of one actor, as its cell sees them."""

    @property
    def shutdown(self) -> float:
        """Seconds in which they can be stopped."""

    def drain(self) -> None:
        """Have them end, in order. Does not wait."""

    def hurry(self) -> None:
        """Have them end at once. Does not wait."""

    def stop(self, timeout: float) -> list[str]:
        """End them and wait."""

    def abandon(self) -> None:
        """Leave behind those that are left. Does not wait."""


class Context:
    """Of one incarnation of one actor; `Behaviour.context`. Safe from any thread."""

    def __init__(
        self,
        address: Address,
        incarnation: int,
        timers: Timers,
        current: Callable[[], bool],
        children: Callable[[], Supervisor],
    ) -> None:
        self.address = address
        self.incarnation = incarnation
        self._timers = timers
        self._current = current
        self._children = children

    @property
    def name(self) -> str:
        """The actor's name: that of the child."""
        return self.address.name

    def after(self, delay: float, command: Command) -> None:
        """Have the actor handle `command` in `delay` seconds, if this incarnation is still there. Never blocks.

        Raises CodecError for a command that its system does not know.
        """
        notice = Notice(self.address.codec.encode(command), self._current)
        self._timers.call(delay, lambda: self.address.deliver(notice))

    @property
    def children(self) -> Supervisor:
        """A supervisor for children of this actor's own, made at the first use.

        They end with the incarnation, before the next one starts (unless the actor's specification has
        `keep_children`), and with the actor. When it gives up, this actor crashes.
        """
        return self._children()
