"""Keeps actors running: starts them in order, restarts what fails, gives up what fails too often, stops in reverse.

A supervisor has no thread. What happens to its children is reported on their threads; `Supervision` decides, under a
lock under which nothing blocks and no code of theirs runs; what it decides is carried out by orders to the cells.
"""

from __future__ import annotations

import logging
import random
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from actors.actor.address import Address
from actors.actor.cell import Cell, Keeper, is_resource
from actors.actor.children import ChildInfo, ChildSpec
from actors.actor.timers import Timers
from actors.clock import Clock, monotonic
from actors.logic.restarts import Backoff, Exit, Intensity, Strategy
from actors.logic.supervision import (
    Action,
    Added,
    ChildState,
    Delay,
    Drain,
    Drained,
    Due,
    End,
    Event,
    Exited,
    Gone,
    Halt,
    Halted,
    Start,
    Started,
    StartFailed,
    Supervision,
    Terminate,
)
from actors.messages.codec import Codec

__all__ = ["Supervisor", "SupervisorHooks"]

logger = logging.getLogger(__name__)


class SupervisorHooks:
    """What a supervisor reports, on the thread on which it happened, without its lock. Must not block."""

    def failed(self, child: str, incarnation: int, error: BaseException, *, asked: bool) -> None:
        """A child raised `error`: its incarnation is over, unless it was `asked`, whose asker has it."""

    def restarting(self, child: str, incarnation: int, delay: float, restarts: int) -> None:
        """That incarnation will be followed by another in `delay` seconds."""

    def restarted(self, child: str, incarnation: int) -> None:
        """A later incarnation than the first is up."""

    def ended(self, child: str, *, spent: bool, hung: bool) -> None:
        """A child has ended for good: because it failed too often (`spent`), or is given up for it hangs (`hung`)."""

    def dead_letter(self, child: str, reason: str) -> None:
        """A message could not be decoded; it was dropped."""

    def drained(self, supervisor: str, blame: str | None) -> None:
        """All children have ended; `blame` is the one that failed once too often, None if a stop was asked for."""

    def shown(self, text: str) -> str:
        """`text`, of an error with its traceback, as it may be logged: here as it is. May not raise."""
        return text


@dataclass(slots=True)
class _Child:
    spec: ChildSpec
    cell: Cell
    up: threading.Event = field(default_factory=threading.Event)
    """Set when the first start has ended, one way or the other."""
    gone: threading.Event = field(default_factory=threading.Event)
    first_error: BaseException | None = None
    error: str | None = None
    spent: bool = False


class Supervisor(Keeper):
    """See the module. All methods are safe from any thread."""

    def __init__(
        self,
        name: str,
        codec: Codec,
        timers: Timers,
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity | None = None,
        backoff: Backoff | None = None,
        each: bool = False,
        hooks: SupervisorHooks | None = None,
        clock: Clock = monotonic,
        draw: Callable[[], float] | None = None,
    ) -> None:
        """`each`: many children that are alike; see `Supervision`, also for what is a ValueError. `timers` must run."""
        self.name = name
        self._codec = codec
        self._timers = timers
        self._supervision = Supervision(strategy, intensity, backoff, each=each)
        self._hooks = hooks or SupervisorHooks()
        self._clock = clock
        # A generator of its own: the host's global one is the host's.
        self._draw = draw or random.Random().random  # noqa: S311 - jitter
        # Re-entrant: a finalizer may stop a child while this thread is inside.
        self._lock = threading.RLock()
        self._children: dict[str, _Child] = {}
        self._drained = threading.Event()
        self._blame: str | None = None

    def add(self, spec: ChildSpec, *, ready_within: float | None = None) -> Address:
        """Start a child. With `ready_within` (seconds) it blocks until it is up and raises what its start raised.

        Raises ValueError for a name in use, RuntimeError while stopping or without a thread, TimeoutError. A child
        whose first start fails is gone again.
        """
        with self._lock:
            cell = Cell(spec.name, spec.make, self._codec, self, bound=spec.bound, restart_on=spec.restart_on)
            actions = self._supervision.handle(Added(spec.name, spec.restart), self._clock(), self._draw())
            child = self._children[spec.name] = _Child(spec, cell)
            try:
                cell.launch()
            except BaseException:
                del self._children[spec.name]
                self._supervision.handle(Gone(spec.name), self._clock(), self._draw())
                raise
            self._carry_out(actions)
        if ready_within is not None:
            if not child.up.wait(ready_within):
                raise TimeoutError(f"{spec.name} did not start within {ready_within:g} s")
            if child.first_error is not None:
                raise child.first_error
        return Address(spec.name, cell.actor_ref, self._codec)

    def address(self, child: str) -> Address | None:
        """Where the child's commands go, whichever incarnation it is in; None when there is no such child."""
        with self._lock:
            found = self._children.get(child)
        return None if found is None else Address(child, found.cell.actor_ref, self._codec)

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
        """How each child is doing, in the order of their start. Does not wait for any of them."""
        now = self._clock()
        with self._lock:
            return tuple(self._info(name, now) for name in self._supervision.names())

    def terminate(self, child: str) -> bool:
        """End one child after its current command; False if there is none. Does not wait."""
        return self._do(Terminate(child)) or child in self._children

    def drain(self) -> None:
        """Have all children end, the last one first, each after what is queued; nothing is restarted. Does not wait."""
        self._do(Drain())

    def stop(self, timeout: float) -> list[str]:
        """End all children and block until they have, at most about `timeout` seconds.

        First in order, each after what is queued; in the second half of the time all at once, after what they handle.
        Returns the names of those that are left behind.
        """
        deadline = self._clock() + timeout
        threads = [(name, thread) for name, thread in self.threads() if thread is not threading.current_thread()]
        self._do(Drain())
        if not self._joined(threads, self._clock() + 0.5 * timeout):
            self._do(Drain(hurry=True))
            self._joined(threads, deadline)
        left = [name for name, thread in threads if thread.is_alive()]
        for name in left:
            self._gone(name, hung=True)
        return left

    def _joined(self, threads: list[tuple[str, threading.Thread]], deadline: float) -> bool:
        for _, thread in reversed(threads):
            thread.join(max(0.0, deadline - self._clock()))
        return not any(thread.is_alive() for _, thread in threads)

    def wait(self, timeout: float) -> bool:
        """Block until all children have ended after `drain` or giving up; False after `timeout` seconds."""
        return self._drained.wait(timeout)

    # --- What cells report

    def started(self, name: str, incarnation: int) -> None:
        self._do(Started(name, incarnation))
        child = self._children.get(name)
        if child is not None:
            child.up.set()
        if incarnation > 1:
            self._say(self._hooks.restarted, name, incarnation)

    def not_started(self, name: str, incarnation: int, error: BaseException) -> None:
        child = self._children.get(name)
        if child is not None:
            child.error = _line(error)
            if incarnation == 1:
                child.first_error = error
        self._report(name, incarnation, error)
        self._do(StartFailed(name, incarnation, is_resource(error)))
        if child is not None:
            child.up.set()

    def exited(self, name: str, incarnation: int, how: Exit, error: BaseException | None) -> None:
        child = self._children.get(name)
        if error is not None:
            if child is not None:
                child.error = _line(error)
            self._report(name, incarnation, error)
        self._do(Exited(name, incarnation, how, error is not None and is_resource(error)))

    def halted(self, name: str, incarnation: int) -> None:
        self._do(Halted(name, incarnation))

    def failed(self, name: str, error: BaseException) -> None:
        self._say(self._hooks.failed, name, self._supervision.incarnation(name), error, asked=True)

    def dead_letter(self, name: str, reason: str) -> None:
        self._say(self._hooks.dead_letter, name, reason)

    def log(self, name: str, what: str, error: BaseException) -> None:
        text = self._hooks.shown("".join(traceback.format_exception(error)))
        logger.error("%s: %s\n%s", name, what, text)

    def gone(self, name: str) -> None:
        self._gone(name, hung=False)

    # --- Carrying out

    def _do(self, event: Event) -> bool:
        with self._lock:
            actions = self._supervision.handle(event, self._clock(), self._draw())
            reports = self._carry_out(actions)
        for report in reports:
            self._say(report)
        return bool(actions)

    def _carry_out(self, actions: list[Action]) -> list[Callable[[], object]]:
        """Give the orders; what is to be reported when the lock is free."""
        reports: list[Callable[[], object]] = []
        for action in actions:
            match action:
                case Start(name, incarnation):
                    self._children[name].cell.start_incarnation(incarnation)
                case Halt(name, incarnation):
                    self._children[name].cell.halt(incarnation)
                    self._watch(name, ChildState.HALTING, incarnation)
                case End(name, spent, now):
                    child = self._children[name]
                    child.spent = spent
                    child.cell.end(drain=self._supervision.draining and not now)
                    self._watch(name, ChildState.ENDING, self._supervision.incarnation(name))
                case Delay(token, seconds, name, restarts):
                    self._timers.call(seconds, lambda token=token: self._do(Due(token)))  # type: ignore[misc]
                    incarnation = self._supervision.incarnation(name)
                    reports.append(
                        lambda name=name, incarnation=incarnation, seconds=seconds, restarts=restarts: (  # type: ignore[misc]
                            self._hooks.restarting(name, incarnation, seconds, restarts)
                        )
                    )
                case Drained(blame):
                    self._blame = blame
                    self._drained.set()
                    reports.append(lambda blame=blame: self._hooks.drained(self.name, blame))  # type: ignore[misc]
        return reports

    def _watch(self, name: str, state: ChildState, incarnation: int) -> None:
        """Give the child up if it is still in that state when its time is over."""
        child = self._children[name]

        def look() -> None:
            with self._lock:
                hangs = (
                    self._children.get(name) is child
                    and self._supervision.state(name) is state
                    and self._supervision.incarnation(name) == incarnation
                )
            if hangs:
                self._gone(name, hung=True)

        self._timers.call(child.spec.shutdown, look)

    def _gone(self, name: str, *, hung: bool) -> None:
        with self._lock:
            child = self._children.pop(name, None)
        if child is None:
            return
        if hung:
            child.cell.abandon()
        child.gone.set()
        child.up.set()
        self._do(Gone(name, hung))
        self._say(self._hooks.ended, name, spent=child.spent, hung=hung)

    def _info(self, name: str, now: float) -> ChildInfo:
        supervision, child = self._supervision, self._children[name]
        state = supervision.state(name)
        assert state is not None
        incarnation, restarts = supervision.incarnation(name), supervision.restarts(now, name)
        return ChildInfo(name, state, incarnation, restarts, child.cell.waiting, child.error)

    def _report(self, name: str, incarnation: int, error: BaseException) -> None:
        self.log(name, f"incarnation {incarnation} crashed", error)
        self._say(self._hooks.failed, name, incarnation, error, asked=False)

    def _say(self, hook: Callable[..., object], *args: object, **how: object) -> None:
        """Whatever a hook raises, supervision goes on."""
        try:
            hook(*args, **how)
        except BaseException as error:  # noqa: BLE001 - it is logged, whatever it is
            self.log(self.name, "a hook failed", error)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
