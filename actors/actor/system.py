"""The actors of one system: started in order, found by name, stopped in reverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from actors.actor.address import Address
from actors.actor.cell import Behaviour
from actors.actor.children import ChildSpec
from actors.actor.supervisor import Supervisor, SupervisorHooks
from actors.actor.timers import Timers
from actors.clock import Clock, monotonic
from actors.logic.restarts import RestartType
from actors.messages.codec import Codec

__all__ = ["Runtime"]


class Runtime:
    """The root supervisor of one system, and its timers. `spawn` and `address` are safe from any thread."""

    wrap: ClassVar[Callable[[str, Behaviour], Behaviour] | None] = None
    """Put around each behaviour of the systems that are made while it is set; see `actors.testing.sabotage`."""

    def __init__(self, codec: Codec, hooks: SupervisorHooks, clock: Clock = monotonic) -> None:
        self._wrap = Runtime.wrap
        self.codec = codec
        self.timers = Timers(clock)
        self._clock = clock
        self._root = Supervisor("root", codec, self.timers, hooks=hooks, clock=clock)

    def start(self) -> None:
        """Start the timers; actors follow with `spawn`."""
        self.timers.start()

    def spawn(
        self,
        name: str,
        make: Callable[[], Behaviour],
        *,
        ready_within: float | None = None,
        restart: RestartType = RestartType.TEMPORARY,
    ) -> Address:
        """Start an actor under `name`; see `Supervisor.add`."""
        wrap = self._wrap
        made = make if wrap is None else lambda: wrap(name, make())
        return self._root.add(ChildSpec(name=name, make=made, restart=restart), ready_within=ready_within)

    def address(self, name: str) -> Address | None:
        """The address of a running actor, or None."""
        return self._root.address(name)

    def names(self) -> list[str]:
        """Running actors in the order of their start."""
        return self._root.names()

    def stop(self, timeout: float) -> list[str]:
        """Stop every actor, last started first, then the timers; blocks at most about `timeout` seconds.

        See `Supervisor.stop`. Returns the names of those still running.
        """
        deadline = self._clock() + timeout
        left = self._root.stop(timeout)
        if not self.timers.stop(max(0.05, deadline - self._clock())):
            left.append("timers")
        return left
