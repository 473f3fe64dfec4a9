"""The one place where events get their number and go to their subscribers."""

from __future__ import annotations

from typing import Protocol

from actors.actor.cell import Behaviour
from actors.clock import Clock, wall
from actors.errors import CodecError
from actors.messages.command import Command
from kithara_actors.messages.commands import AddSubscriber, Publish, RemoveSubscriber
from kithara_actors.messages.events import EVENT_CODEC, DeadLetter, Envelope, Scope

__all__ = ["EventBus", "SubscriberTable"]


class SubscriberTable(Protocol):
    """Outlives the bus: who subscribes stays subscribed when the bus is made anew, and numbers go on."""

    def number(self, serial: int) -> int:
        """The number of the event that its publisher gave this serial; the same for the one asked about last."""

    def activate(self, subscriber: int) -> None:
        """It gets events from now on. No effect once it was removed."""

    def deliver(self, envelope: Envelope) -> None:
        """Put it before all whose event it is, waiting for nobody. Whoever has it already does not get it twice."""

    def remove(self, subscriber: int) -> None:
        """Forget it."""


class EventBus(Behaviour):
    """Publishers and new subscribers share its mailbox, so a subscriber sees just what was published after it."""

    def __init__(self, subscribers: SubscriberTable, clock: Clock = wall) -> None:
        self._subscribers = subscribers
        self._clock = clock
        self._last = 0.0

    def handle(self, command: Command) -> None:
        match command:
            case Publish():
                self._publish(command)
            case AddSubscriber(subscriber):
                self._subscribers.activate(subscriber)
            case RemoveSubscriber(subscriber):
                self._subscribers.remove(subscriber)
            case _:
                raise TypeError(f"EventBus does not handle {type(command).__name__}")

    def _publish(self, command: Publish) -> None:
        seq = self._subscribers.number(command.serial)
        self._last = max(self._last, self._clock())
        scope = Scope(command.asset or None, command.stream or None)
        try:
            event = EVENT_CODEC.decode(command.event)
        except CodecError as error:
            event, scope = DeadLetter("event_bus", str(error)), Scope()
        self._subscribers.deliver(Envelope(event, scope, seq, self._last))
