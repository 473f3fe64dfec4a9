"""Many children that are alike: made from one template, each with arguments of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable

from actors.actor.address import Address
from actors.actor.behaviour import Behaviour
from actors.actor.children import DEFAULT_BOUND, ChildSpec
from actors.actor.hooks import SupervisorHooks
from actors.actor.supervisor import Supervisor
from actors.actor.timers import Timers
from actors.clock import Clock, monotonic
from actors.logic.restarts import Backoff, Intensity, RestartType
from actors.messages.codec import Codec

__all__ = ["DynamicSupervisor"]


class DynamicSupervisor(Supervisor):
    """Each child has a limit of its own and ends alone when that is spent; a stop takes as long as the slowest child.

    What a child was made with is not kept when it has ended.
    """

    def __init__(
        self,
        name: str,
        codec: Codec,
        timers: Timers | None = None,
        *,
        template: Callable[..., Behaviour],
        restart: RestartType = RestartType.PERMANENT,
        child_shutdown: float = 5.0,
        bound: int | None = DEFAULT_BOUND,
        intensity: Intensity | None = None,
        backoff: Backoff | None = None,
        outlives: bool = False,
        hooks: SupervisorHooks | None = None,
        clock: Clock = monotonic,
        draw: Callable[[], float] | None = None,
    ) -> None:
        """`template` makes a child's behaviour, on the child's thread, for every incarnation anew. `restart`,
        `child_shutdown` and `bound` are of every child; see `ChildSpec`."""
        super().__init__(
            name,
            codec,
            timers,
            intensity=intensity,
            backoff=backoff,
            each=True,
            outlives=outlives,
            hooks=hooks,
            clock=clock,
            draw=draw,
        )
        self._template = template
        self._restart = restart
        self._child_shutdown = child_shutdown
        self._bound = bound

    def start_child(self, name: str, *args: object, ready_within: float | None = None, **how: object) -> Address:
        """Start a child whose behaviour is `template(*args, **how)`. As `add`."""
        return self.add(
            ChildSpec(
                name=name,
                make=functools.partial(self._template, *args, **how),
                restart=self._restart,
                shutdown=self._child_shutdown,
                bound=self._bound,
            ),
            ready_within=ready_within,
        )
