"""Commands to the EventBus. Each docstring names the sender. Tags 112–127."""

from __future__ import annotations

from dataclasses import dataclass

from actors.messages.command import Command

__all__ = ["EVENT_BUS_COMMANDS", "AddSubscriber", "Publish", "RemoveSubscriber"]


@dataclass(frozen=True, slots=True)
class Publish(Command):
    """Anyone → EventBus: an encoded event and its scope (0 for none); `serial` is of its publisher's counting."""

    TAG = 112
    IDEMPOTENT = True
    serial: int
    asset: int
    stream: int
    event: bytes


@dataclass(frozen=True, slots=True)
class AddSubscriber(Command):
    """Subscription → EventBus: events from here on go to this subscriber too."""

    TAG = 113
    IDEMPOTENT = True
    subscriber: int


@dataclass(frozen=True, slots=True)
class RemoveSubscriber(Command):
    """Subscription → EventBus: it was closed."""

    TAG = 114
    IDEMPOTENT = True
    subscriber: int


EVENT_BUS_COMMANDS: tuple[type[Command], ...] = (Publish, AddSubscriber, RemoveSubscriber)
