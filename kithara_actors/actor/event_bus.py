"""The one that takes events to those who wait for them, so that who publishes wakes nobody else."""

from __future__ import annotations

from typing import Protocol

from actors.actor.cell import Behaviour
from actors.messages.command import Command
from kithara_actors.messages.commands import Deliver

__all__ = ["EventBus", "SubscriberTable"]


class SubscriberTable(Protocol):
    """Outlives the bus, with all that was published: nothing is lost, or comes twice, when the bus is made anew."""

    def deliver(self) -> None:
        """Number what was published, put it before all whose event it is, and wake who waits; waits for nobody."""


class EventBus(Behaviour):
    """Holds nothing itself. What an incarnation before it has left is delivered at its start."""

    def __init__(self, subscribers: SubscriberTable) -> None:
        self._subscribers = subscribers

    def on_start(self) -> None:
        """Deliver what waits: who published it has told of it, and does not again."""
        self._subscribers.deliver()

    def handle(self, command: Command) -> None:
        match command:
            case Deliver():
                self._subscribers.deliver()
            case _:
                raise TypeError(f"EventBus does not handle {type(command).__name__}")
