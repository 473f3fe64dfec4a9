"""Keeps actors running: starts them in order, restarts what fails, gives up what fails too often, stops in reverse.

A supervisor has no thread. What happens to its children is reported on their threads; `Supervision` decides, under a
lock under which nothing blocks and no code of theirs runs; what it decides is carried out by orders to the cells.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from actors.actor.address import Address
from actors.actor.branch import Branch, Control
from actors.actor.children import ChildInfo, ChildSpec, SupervisorSpec
from actors.actor.conduct import Conduct
from actors.actor.hooks import SupervisorHooks
from actors.actor.keeping import Child
from actors.actor.timers import Timers
from actors.actor.watching import Watch
from actors.clock import Clock, monotonic
from actors.logic.health import ChildHealth, Health, judge
from actors.logic.restarts import Backoff, Intensity, Strategy, never_trips
from actors.logic.supervision import (
    Added,
    Drain,
    Supervision,
    Terminate,
)
from actors.messages.codec import Codec
from actors.messages.command import Command

__all__ = ["Supervisor", "SupervisorHooks"]

logger = logging.getLogger(__name__)

_HOST_WITHIN = 8.0
"""Seconds for the host's `stop_all`, or a `with` statement, to end a tree: containers commonly allow 10."""
_BRANCH_GRACE = 0.5
"""Seconds that a supervisor gets beside what its children may take."""


class Supervisor(Conduct):
    """See the module. All methods are safe from any thread; what can block says so."""

    def __init__(
        self,
        name: str,
        codec: Codec,
        timers: Timers | None = None,
        *,
        children: Sequence[ChildSpec | SupervisorSpec] = (),
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity | None = None,
        backoff: Backoff | None = None,
        each: bool = False,
        outlives: bool = False,
        hooks: SupervisorHooks | None = None,
        clock: Clock = monotonic,
        draw: Callable[[], float] | None = None,
    ) -> None:
        """`children` are started by `start`. `timers` must run; without, it has its own, between `start` and `stop`.

        `each`, `outlives` and what is a ValueError: see `Supervision`.
        """
        super().__init__(
            name,
            codec,
            Timers(clock) if timers is None else timers,
            lambda: Supervision(strategy, intensity, backoff, each=each, outlives=outlives),
            hooks or SupervisorHooks(),
            clock,
            draw,
        )
        self._own_timers = timers is None
        self._static = tuple(children)
        self._intensity = intensity or Intensity()
        self._each = each
        self._control: Control | None = None
        self._started = False
        self._warned = False

    # --- The beginning

    def start(self) -> Self:
        """Start the static children in order, each when the one before is up; then be reached by the host's
        `stop_all` before they are. Blocks, for each at most about its `start_within` four times.

        Raises what a child's start raised, TimeoutError, RuntimeError without a thread; nothing is left then. One with
        timers of its own ends, as by `stop`, when the interpreter does; and cannot be started twice (RuntimeError).
        """
        if self._started:
            raise RuntimeError(f"{self.name} has been started before: make another")
        self._started = True
        try:
            if self._own_timers:
                self.timers.start()
                # Runs while daemon threads still do; needs no new thread, which exit handlers may not start.
                atexit.register(self.stop_by_host)
            self.add_static()
            control = Control(self)
            control.start()
            with self._lock:
                self._control, self.stand_in = control, control.cell
                over = self.over
            if over:
                control.cell.end()
        except BaseException:
            self.stop(_HOST_WITHIN)
            raise
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(_HOST_WITHIN)

    def begin(self) -> None:
        """Forget what was, and take children again: the next incarnation of a supervisor that is a child."""
        with self._lock:
            self._supervision = self._policy()
            self._children = {}
            self._drained.clear()

    def add_static(self) -> None:
        """Start the static children; see `start`."""
        for spec in self._static:
            if isinstance(spec, SupervisorSpec):
                self.add_supervisor(spec, ready_within=4 * spec.start_within)
            else:
                self.add(spec, ready_within=4 * spec.start_within)

    def add(self, spec: ChildSpec, *, ready_within: float | None = None) -> Address:
        """Start a child. With `ready_within` (seconds) it blocks until it is up and raises what its start raised.

        Raises ValueError for a name in use, RuntimeError while stopping or without a thread, TimeoutError. A child
        whose first start fails is gone again.
        """
        child = Child(self, spec)
        self._launch(child, ready_within)
        return child.address

    def add_supervisor(self, spec: SupervisorSpec, *, ready_within: float | None = None) -> Supervisor:
        """Start a supervisor as a child; what is returned stays the same when it is restarted. As `add`.

        A DynamicSupervisor if the specification has a template. After a restart its static children are there again,
        at new addresses; others are not.
        """
        from actors.actor.dynamic import DynamicSupervisor  # it is a subclass

        nested: Supervisor
        if spec.template is not None:
            nested = DynamicSupervisor(
                spec.name,
                self.codec,
                self.timers,
                template=spec.template,
                intensity=spec.intensity,
                backoff=spec.backoff,
                hooks=self._hooks,
                clock=self.clock,
            )
        else:
            nested = Supervisor(
                spec.name,
                self.codec,
                self.timers,
                children=spec.children,
                strategy=spec.strategy,
                intensity=spec.intensity,
                backoff=spec.backoff,
                hooks=self._hooks,
                clock=self.clock,
            )
        self._make_own(nested)
        standing = ChildSpec(
            name=spec.name,
            make=lambda: Branch(nested),
            restart=spec.restart,
            shutdown=_BRANCH_GRACE,
            start_within=spec.start_within,
            bound=None,
        )
        self._launch(Child(self, standing, nested, spec.shutdown), ready_within)
        return nested

    def offspring(self, child: str) -> Supervisor:
        """A supervisor for a child's own children."""
        made = Supervisor(child, self.codec, self.timers, hooks=self._hooks, clock=self.clock, draw=self._draw)
        self._make_own(made)
        return made

    def _make_own(self, nested: Supervisor) -> None:
        nested.prefix = f"{self.prefix}{nested.name}/"
        nested.letters = self.letters
        nested._draw = self._draw

    def _launch(self, child: Child, ready_within: float | None) -> None:
        spec = child.spec
        if self._own_timers and not self._started:
            raise RuntimeError(f"{self.name} has not been started: call start(), or use it in a with statement")
        self._warn_of(spec)
        with self._lock:
            actions = self._supervision.handle(Added(spec.name, spec.restart), self.clock(), self._draw())
            self._children[spec.name] = child
        try:
            child.cell.launch()
        except BaseException:
            self.forget(child)
            raise
        with self._lock:
            self._carry_out(actions)
        if ready_within is None:
            return
        if not child.up.wait(ready_within):
            raise TimeoutError(f"{child.path} did not start within {ready_within:g} s")
        if child.first_error is not None:
            raise child.first_error

    def _warn_of(self, spec: ChildSpec) -> None:
        if never_trips(self._intensity, spec.shutdown, spec.start_within) and not self._warned:
            self._warned = True
            logger.warning(
                "%s%s: with %g s to stop and %g s to start it could fail for ever without reaching the limit of "
                "%d restarts in %g s",
                *(self.prefix, spec.name, spec.shutdown, spec.start_within),
                *(self._intensity.restarts, self._intensity.period),
            )

    # --- How it is doing; none of these waits for a child

    def address(self, child: str) -> Address | None:
        """Where the child's commands go, whichever incarnation it is in; None when there is no such child."""
        with self._lock:
            found = self._children.get(child)
        return None if found is None or found.nested is not None else found.address

    def supervisor(self, child: str) -> Supervisor | None:
        """The child that is a supervisor; None when there is no such child."""
        with self._lock:
            found = self._children.get(child)
        return None if found is None else found.nested

    def names(self) -> list[str]:
        """The children in the order of their start."""
        with self._lock:
            return self._supervision.names()

    def threads(self) -> list[tuple[str, threading.Thread]]:
        """The threads of the children, in the order of their start."""
        with self._lock:
            return [
                (name, child.cell.thread) for name, child in self._children.items() if child.cell.thread is not None
            ]

    def children(self) -> tuple[ChildInfo, ...]:
        """How each child is doing, in the order of their start."""
        now = self.clock()
        with self._lock:
            return tuple(self._info(child, now) for child in self._children.values())

    def health(self) -> Health:
        """How it is doing, with its whole tree."""
        now = self.clock()
        with self._lock:
            supervision = self._supervision
            blamed = supervision.blame
            draining = supervision.draining
            children = list(self._children.values())
            states = [(supervision.state(child.name), supervision.incarnation(child.name)) for child in children]
        found = [
            ChildHealth(
                name=child.name,
                state=state,
                incarnation=incarnation,
                seconds=now - child.changed,
                start_within=child.spec.start_within,
                error=child.error,
                nested=None if child.own is None or child.own.over else child.own.health(),
            )
            for child, (state, incarnation) in zip(children, states, strict=True)
            if state is not None
        ]
        gave_up = None if blamed is None else f"it gave up: {blamed} failed once too often"
        return judge(gave_up, draining, found, [name for name, _ in self.left_behind()])

    @property
    def blame(self) -> str | None:
        """The child that failed once too often, if that was the end."""
        return self._supervision.blame

    @property
    def draining(self) -> bool:
        """Whether nothing is started any more."""
        return self._supervision.draining

    @property
    def shutdown(self) -> float:
        """Seconds in which it can be stopped: what its children may take, one after the other or (`each`) at once."""
        with self._lock:
            times = [child.shutdown for child in self._children.values()]
        return max(times, default=0.0) if self._each else sum(times)

    def watch(self, child: str, watcher: Address, command: Command | None = None) -> Watch:
        """Have `watcher` told `command` when the child has ended for good, once; at once if there is no such child.

        Not when it is restarted. Without a command, the watcher crashes with WatchedActorEnded instead. Raises
        CodecError for a command that the watcher's system does not know.
        """
        watch = Watch(self.prefix + child, watcher, command)
        with self._lock:
            found = self._children.get(child)
            if found is not None:
                # Who was cancelled is forgotten here: a watch does not know what it watches.
                found.watches = {other: None for other in found.watches if other.active}
                found.watches[watch] = None
        if found is None:
            watch.ended()
        return watch

    # --- The end

    def terminate(self, child: str, *, drain: bool = False) -> bool:
        """End one child after its current command, or with `drain` after all that is queued; what is left is refused.

        False if there is none. Does not wait.
        """
        return self._do(Terminate(child, drain)) or child in self._children

    def drain(self) -> None:
        """Have all children end, the last one first, each after what is queued; nothing is restarted. Does not wait."""
        self._do(Drain())

    def hurry(self) -> None:
        """Have all children end at once, each after its current command. Does not wait."""
        self._do(Drain(hurry=True))

    def stop(self, timeout: float) -> list[str]:
        """End all children and block until they have, at most about `timeout` seconds.

        First in order, each after what is queued; in the second half of the time all at once, after what they handle.
        Returns the paths of those that are left behind.
        """
        deadline = self.clock() + timeout
        here = threading.current_thread()
        threads = [thread for _, thread in self.threads()]
        self._do(Drain())
        if not self._wait_for_others(here, self.clock() + 0.5 * timeout):
            self._do(Drain(hurry=True))
            self._wait_for_others(here, deadline)
        self.abandon(but=here)
        control = self._control
        if control is not None:
            control.cell.end()
            threads.append(control.cell.thread or here)
        left = self.left_behind()
        hung = {thread for _, thread in left}
        for thread in threads:
            if thread is not here and thread not in hung:
                thread.join(max(0.1, deadline - self.clock()))
        if self._own_timers:
            atexit.unregister(self.stop_by_host)
            self.timers.stop(max(0.1, deadline - self.clock()))
        return [path for path, _ in left]

    def _wait_for_others(self, here: threading.Thread, deadline: float) -> bool:
        """Block until all children have ended, but for one that ends everything itself: whose thread this is."""
        threads = [thread for _, thread in self.threads()]
        if here not in threads:
            return self._drained.wait(max(0.0, deadline - self.clock()))
        for thread in threads:
            if thread is not here:
                thread.join(max(0.0, deadline - self.clock()))
        return not any(thread.is_alive() for thread in threads if thread is not here)

    def stop_by_host(self) -> None:
        """As `stop`, within what a host commonly allows."""
        self.stop(_HOST_WITHIN)

    def host_stops(self) -> None:
        """The host has asked for the end of all; it waits elsewhere."""
        self._do(Drain())

    def abandon(self, but: threading.Thread | None = None) -> None:
        """Leave behind those that have not ended. Does not wait."""
        with self._lock:
            left = [child for child in reversed(self._children.values()) if child.cell.thread is not but]
        for child in left:
            self.gone(child, hung=True)

    def wait(self, timeout: float) -> bool:
        """Block until all children have ended after `drain` or giving up; False after `timeout` seconds."""
        return self._drained.wait(timeout)
