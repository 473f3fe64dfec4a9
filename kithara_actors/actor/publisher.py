"""How an actor publishes: encode, send to the bus, never wait; nothing at all while nobody listens."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from actors.actor.address import Address
from kithara_actors.messages.commands import Publish
from kithara_actors.messages.events import EVENT_CODEC, Event, Scope

__all__ = ["Publisher"]


class Publisher:
    """Safe from any thread."""

    def __init__(self, bus: Address, listening: Callable[[], bool]) -> None:
        self._bus = bus
        self._listening = listening
        self._serials = itertools.count(1)

    @property
    def listening(self) -> bool:
        return self._listening()

    def publish(self, event: Event, scope: Scope = Scope()) -> None:  # noqa: B008 - immutable
        """Send `event` to the bus. Does not block."""
        if self._listening():
            self._bus.tell(Publish(next(self._serials), scope.asset or 0, scope.stream or 0, EVENT_CODEC.encode(event)))
