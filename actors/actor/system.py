"""The actors of one system: started in order, found by name, stopped in reverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from actors.actor.address import Address
from actors.actor.cell import Behaviour
from actors.actor.children import ChildInfo, ChildSpec, SupervisorSpec
from actors.actor.supervisor import Supervisor, SupervisorHooks
from actors.actor.timers import Timers
from actors.clock import Clock, monotonic
from actors.logic.health import Health
from actors.logic.restarts import RestartType
from actors.messages.codec import Codec

__all__ = ["Runtime"]


class Runtime:
    """The supervisors of one system, and its timers. All methods are safe from any thread.

    At the root are the few that are always there, whose limit is the system's, and below it the many that are alike,
    each with a limit of its own.
    """

    wrap: ClassVar[Callable[[str, Behaviour], Behaviour] | None] = None
    """Put around each behaviour of the systems that are made while it is set; see `actors.testing.sabotage`."""

    def __init__(self, codec: Codec, hooks: SupervisorHooks, clock: Clock = monotonic) -> None:
        self._wrap = Runtime.wrap
        self.codec = codec
        self.timers = Timers(clock)
        self._clock = clock
        self._root = Supervisor("root", codec, self.timers, hooks=hooks, clock=clock)
        self._sources: Supervisor | None = None

    def start(self) -> None:
        """Start the timers; actors follow with `spawn`, then `settle`."""
        self.timers.start()

    def settle(self, ready_within: float) -> None:
        """Those that are always there have been started: make room for the others. Blocks until that is done.

        From here on the host's `pykka.ActorRegistry.stop_all` ends the whole tree in its order.
        """
        sources = SupervisorSpec(name="sources", template=_as_made)
        self._sources = self._root.add_supervisor(sources, ready_within=ready_within)
        self._root.start()

    def spawn(
        self,
        name: str,
        make: Callable[[], Behaviour],
        *,
        ready_within: float | None = None,
        restart: RestartType = RestartType.PERMANENT,
    ) -> Address:
        """Start an actor that is always there, under `name`; see `Supervisor.add`."""
        spec = ChildSpec(name=name, make=self._made(name, make), restart=restart, bound=None)
        return self._root.add(spec, ready_within=ready_within)

    def spawn_source(self, name: str, make: Callable[[], Behaviour]) -> Address:
        """Start one of many that are alike: it ends by itself, or alone, when it fails too often."""
        spec = ChildSpec(name=name, make=self._made(name, make), restart=RestartType.TRANSIENT, bound=None)
        if self._sources is None:
            raise RuntimeError("the system has not settled")
        return self._sources.add(spec)

    def _made(self, name: str, make: Callable[[], Behaviour]) -> Callable[[], Behaviour]:
        wrap = self._wrap
        return make if wrap is None else lambda: wrap(name, make())

    def address(self, name: str) -> Address | None:
        """The address of an actor, whichever incarnation it is in, or None when it has ended."""
        found = self._root.address(name)
        return self._sources.address(name) if found is None and self._sources is not None else found

    def sources(self) -> list[Address]:
        """The addresses of those that are alike."""
        if self._sources is None:
            return []
        found = (self._sources.address(name) for name in self._sources.names())
        return [address for address in found if address is not None]

    def names(self) -> list[str]:
        """Running actors in the order of their start."""
        return [*self._root.names(), *(() if self._sources is None else self._sources.names())]

    def children(self) -> tuple[ChildInfo, ...]:
        """How each actor is doing. Does not wait for any of them."""
        return (*self._root.children(), *(() if self._sources is None else self._sources.children()))

    def health(self) -> Health:
        """How the whole tree is doing. Does not wait for any of it."""
        return self._root.health()

    def stop(self, timeout: float) -> list[str]:
        """Stop every actor, last started first, then the timers; blocks at most about `timeout` seconds.

        See `Supervisor.stop`. Returns the names of those still running.
        """
        deadline = self._clock() + timeout
        left = self._root.stop(timeout)
        if not self.timers.stop(max(0.05, deadline - self._clock())):
            left.append("timers")
        return left


def _as_made(make: Callable[[], Behaviour]) -> Behaviour:
    return make()
