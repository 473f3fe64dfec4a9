"""How an actor publishes: note it in the journal, tell the bus if somebody waits; nothing while nobody listens."""

from __future__ import annotations

from typing import Protocol

from actors.actor.address import Address
from kithara_actors.messages.commands import Deliver
from kithara_actors.messages.events import Event, Scope

__all__ = ["Publisher", "Table"]

_SYSTEM = Scope()


class Table(Protocol):
    """Where events wait for their subscribers."""

    @property
    def listening(self) -> bool:
        """Whether there is anybody to publish for."""

    def add(self, event: Event, scope: Scope) -> bool:
        """Publish, waiting for nobody. True if the bus is to be told."""


class Publisher:
    """Safe from any thread."""

    def __init__(self, bus: Address, table: Table) -> None:
        self._bus = bus
        self._table = table

    @property
    def listening(self) -> bool:
        """Whether there is anybody to publish for."""
        return self._table.listening

    def publish(self, event: Event, scope: Scope = _SYSTEM) -> None:
        """Have `event`, which is never changed, delivered after all that was published before; asset 0 is none. Does
        not block."""
        if self._table.add(event, scope if scope.asset else _SYSTEM):
            self._bus.tell(Deliver())
