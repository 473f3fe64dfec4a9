"""Commands to the EventBus. Each docstring names the sender. Tags 112–127."""

from __future__ import annotations

from dataclasses import dataclass

from actors.messages.command import Command

__all__ = ["EVENT_BUS_COMMANDS", "Deliver"]


@dataclass(frozen=True, slots=True)
class Deliver(Command):
    """Anyone who publishes → EventBus: there are events, and somebody waits for one, or many have come."""

    TAG = 112
    IDEMPOTENT = True


EVENT_BUS_COMMANDS: tuple[type[Command], ...] = (Deliver,)
