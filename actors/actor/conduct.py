"""How a supervisor's decisions are carried out: what its children report goes in, orders to their cells come out.

`Supervision` decides, under a lock under which nothing blocks and no code of the children runs. What has to be told to
others is told when the lock is free.
"""

from __future__ import annotations

import logging
import random
import threading
import traceback
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from actors.actor.cell import Cell
from actors.actor.children import ChildInfo
from actors.actor.forking import close_in_child
from actors.actor.hooks import SupervisorHooks
from actors.actor.keeping import Child
from actors.actor.letters import DeadLetters
from actors.actor.timers import Timers
from actors.clock import Clock
from actors.logic.supervision import (
    Action,
    ChildState,
    Delay,
    Drain,
    Drained,
    Due,
    End,
    Event,
    GaveUp,
    Gone,
    Halt,
    Start,
    Supervision,
)
from actors.messages.codec import Codec

if TYPE_CHECKING:
    from actors.actor.supervisor import Supervisor

__all__ = ["Conduct", "Report"]

logger = logging.getLogger(__name__)

Report = Callable[[], object]


class Conduct(ABC):
    """The inside of a supervisor. Safe from any thread; nothing here waits for a child."""

    def __init__(
        self,
        name: str,
        codec: Codec,
        timers: Timers,
        policy: Callable[[], Supervision],
        hooks: SupervisorHooks,
        clock: Clock,
        draw: Callable[[], float] | None,
    ) -> None:
        self.name = name
        self.prefix = ""
        """Before the names of its children, in what is reported and logged."""
        self.codec = codec
        self.timers = timers
        self.clock = clock
        self.letters = DeadLetters(hooks, timers.call, clock)
        self.discarded = 0
        """Answers that came when their askers had been told already that the actor hangs."""
        self.on_over: Callable[..., object] | None = None
        """For the child that stands for it in a parent: hears once how it ended."""
        self.stand_in: Cell | None = None
        """The actor by which its parent, or the host, reaches it."""
        self._policy: Callable[[], Supervision] = lambda: hooks.deciding(name, policy())
        self._supervision = self._policy()
        self._hooks = hooks
        # A generator of its own: the host's global one is the host's.
        self._draw = draw or random.Random().random  # noqa: S311 - jitter
        # Re-entrant: a finalizer may stop a child while this thread is inside.
        self._lock = threading.RLock()
        self._children: dict[str, Child] = {}
        self._left: list[tuple[str, threading.Thread]] = []
        self._drained = threading.Event()
        close_in_child(self)

    @abstractmethod
    def offspring(self, child: str) -> Supervisor:
        """A supervisor for a child's own children."""

    def left_behind(self) -> list[tuple[str, threading.Thread]]:
        """The threads that did not end in time and still run, with the paths of the children whose they were."""
        with self._lock:
            self._left = [(path, thread) for path, thread in self._left if thread.is_alive()]
            families = [child.own for child in self._children.values() if child.own is not None]
            found = list(self._left)
        for family in families:
            found += family.left_behind()
        return found

    @property
    def over(self) -> bool:
        """Whether all children have ended, after a stop or giving up."""
        return self._drained.is_set()

    # --- What children report

    def report(self, child: Child, event: Event) -> None:
        """Something happened to the child. One that was given up has nothing to report any more."""
        self._do(event, child)

    def forget(self, child: Child) -> None:
        """The child got no thread, and never was."""
        with self._lock:
            if self._children.get(child.name) is not child:
                return
            del self._children[child.name]
            actions = self._supervision.handle(Gone(child.name), self.clock(), self._draw())
            reports = self._begin(actions)
        self._finish(actions, reports)

    def gone(self, child: Child, *, hung: bool) -> None:
        """The child has ended for good; or with `hung` it has not, and is left behind."""
        with self._lock:
            if self._children.get(child.name) is not child or child.leaving:
                return
            child.leaving = True
        if hung:
            self._leave_behind(child)
        below = [] if child.own is None else child.own.left_behind()
        with self._lock:
            self._left += below
            del self._children[child.name]
            watches = list(child.watches)
            actions = self._supervision.handle(Gone(child.name, hung), self.clock(), self._draw())
            reports = self._begin(actions)
        child.up.set()
        self.say("ended", child.path, spent=child.spent, hung=hung)
        for watch in watches:
            watch.ended()
        self._finish(actions, reports)

    def _leave_behind(self, child: Child) -> None:
        thread = child.cell.thread
        if thread is not None:
            with self._lock:
                self._left.append((child.path, thread))
        stack = self._hooks.shown(child.stack())
        logger.error(
            "%s did not end within its %g s: its thread is left behind, here:\n%s", child.path, child.shutdown, stack
        )
        child.cell.abandon()

    def say(self, hook: str, *args: object, **how: object) -> None:
        """Call that hook. Whatever it raises, supervision goes on."""
        try:
            getattr(self._hooks, hook)(*args, **how)
        except BaseException as error:  # noqa: BLE001 - it is logged, whatever it is
            self.log(self.prefix + self.name, "a hook failed", error)

    def log(self, path: str, what: str, error: BaseException) -> None:
        """One error, as it may be shown."""
        text = self._hooks.shown("".join(traceback.format_exception(error)))
        logger.error("%s: %s\n%s", path, what, text)

    # --- Carrying out

    def _do(self, event: Event, child: Child | None = None) -> bool:
        with self._lock:
            if child is not None and (self._children.get(child.name) is not child or child.leaving):
                return False
            before = None if child is None else self._supervision.state(child.name)
            actions = self._supervision.handle(event, self.clock(), self._draw())
            if child is not None and self._supervision.state(child.name) is not before:
                child.changed = self.clock()
            reports = self._begin(actions)
        self._finish(actions, reports)
        return bool(actions)

    def _begin(self, actions: list[Action]) -> list[Report]:
        """Carry out, under the lock; but if all are given up, that is to be said first."""
        return [] if actions and isinstance(actions[0], GaveUp) else self._carry_out(actions)

    def _finish(self, actions: list[Action], reports: list[Report]) -> None:
        """What is done without the lock."""
        if actions and isinstance(actions[0], GaveUp):
            # Before the orders are given, so that what depends on the children is told first. Meanwhile nothing is
            # started; what another thread orders is carried out, and these orders may come too late.
            self.say("gave_up", self.name, actions[0].child)
            with self._lock:
                reports = self._carry_out(actions[1:])
        for report in reports:
            report()

    def _carry_out(self, actions: list[Action]) -> list[Report]:
        """Give the orders; what is to be reported when the lock is free."""
        reports: list[Report] = []
        for action in actions:
            match action:
                case Start(name, incarnation):
                    child = self._children.get(name)
                    if child is not None:
                        child.changed = self.clock()
                        child.cell.start_incarnation(incarnation)
                case Halt(name, incarnation):
                    self._children[name].cell.halt(incarnation)
                    self._watch_out(name, ChildState.HALTING, incarnation)
                case End(name, spent, drain):
                    child = self._children.get(name)
                    if child is None:
                        continue  # gone while it was reported that all are given up
                    child.spent = spent
                    child.cell.end(drain=drain)
                    self._watch_out(name, ChildState.ENDING, self._supervision.incarnation(name))
                case Delay(token, seconds, name, restarts):
                    reports.append(self._delay(token, seconds, name, restarts))
                case GaveUp():
                    raise AssertionError("it is reported before anything is carried out")
                case Drained(blame, host):
                    self._drained.set()
                    reports.append(lambda blame=blame, host=host: self._is_over(blame, host=host))  # type: ignore[misc]
        return reports

    def _delay(self, token: int, seconds: float, name: str, restarts: int) -> Report:
        self.timers.call(seconds, lambda: self._do(Due(token)))
        incarnation = self._supervision.incarnation(name)
        return lambda: self.say("restarting", self.prefix + name, incarnation, seconds, restarts)

    def _is_over(self, blame: str | None, *, host: bool) -> None:
        if self.on_over is None and self.stand_in is not None:
            self.stand_in.end()
        self.say("drained", self.name, blame)
        if self.on_over is not None:
            self.on_over(blame, host=host)

    def _watch_out(self, name: str, state: ChildState, incarnation: int) -> None:
        """Give the child up if it is still in that state when its time is over."""
        # Not held by the timer: what a child was made with is not kept longer than the child.
        child = weakref.ref(self._children[name])

        def look() -> None:
            found = child()
            with self._lock:
                hangs = (
                    found is not None
                    and self._children.get(name) is found
                    and self._supervision.state(name) is state
                    and self._supervision.incarnation(name) == incarnation
                )
            if found is not None and hangs:
                self.gone(found, hung=True)

        self.timers.call(self._children[name].shutdown, look)

    def _info(self, child: Child, now: float) -> ChildInfo:
        supervision, name = self._supervision, child.name
        state = supervision.state(name)
        assert state is not None
        incarnation, restarts = supervision.incarnation(name), supervision.restarts(now, name)
        return ChildInfo(
            *(name, state, incarnation, restarts, child.cell.waiting, child.error, child.answered, child.cell.pid),
            supervisor=child.nested is not None,
        )

    def after_fork(self) -> None:
        """In a child of the process: without children, and stopped."""
        self._lock = threading.RLock()
        self._children = {}
        self._left = []
        self._supervision = Supervision()
        self._supervision.handle(Drain(), 0.0, 0.0)
        self._drained = threading.Event()
        self._drained.set()
