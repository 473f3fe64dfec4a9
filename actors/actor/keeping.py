"""One child of a supervisor: its cell, and what the cell reports of itself."""

from __future__ import annotations

import functools
import sys
import threading
import traceback
from typing import TYPE_CHECKING

from actors.actor.address import Address
from actors.actor.behaviour import StopSelf
from actors.actor.cell import Cell
from actors.actor.children import ChildSpec
from actors.actor.context import Context
from actors.actor.errors import MailboxWaitError, SupervisorGaveUp
from actors.actor.keeper import Keeper
from actors.actor.replies import is_resource
from actors.actor.watching import Watch
from actors.logic.restarts import Exit
from actors.logic.supervision import Exited, Halted, HostStops, Started, StartFailed

if TYPE_CHECKING:
    from actors.actor.conduct import Conduct
    from actors.actor.supervisor import Supervisor

__all__ = ["Child"]


class Child(Keeper):
    """Reports go to the supervisor with the child, not with its name: one that was given up may be there still, and
    another have its name."""

    def __init__(
        self, supervisor: Conduct, spec: ChildSpec, nested: Supervisor | None = None, shutdown: float | None = None
    ) -> None:
        """`nested` if the child is a supervisor; `shutdown` if that is not what its children take."""
        self.name = spec.name
        self.path = supervisor.prefix + spec.name
        self.spec = spec
        self.nested = nested
        self.changed = supervisor.clock()
        """When its state did, last."""
        self.up = threading.Event()
        """Set when the first start has ended, one way or the other."""
        self.first_error: BaseException | None = None
        self.error: str | None = None
        self.answered = 0
        self.spent = False
        self.leaving = False
        """It has ended or is left behind: nothing that it reports counts any more."""
        self.own: Supervisor | None = None
        """Of its own children, if it ever had some."""
        self.watches: dict[Watch, None] = {}
        self._supervisor = supervisor
        self._shutdown = shutdown
        self.cell = Cell(spec, supervisor.codec, self, functools.partial(supervisor.letters.undelivered, self.path))
        self.address = Address(spec.name, self.cell.actor_ref, supervisor.codec)
        if nested is not None:
            self._adopt(nested)

    @property
    def shutdown(self) -> float:
        """Seconds in which it has to end; then it is left behind. What its own children may take is added."""
        if self._shutdown is not None:
            return self._shutdown
        family = self.cell.family
        return self.spec.shutdown + (0.0 if family is None else family.shutdown)

    def stack(self) -> str:
        """Where its thread is, as lines; nothing if it has none any more."""
        thread = self.cell.thread
        frame = None if thread is None or thread.ident is None else sys._current_frames().get(thread.ident)  # noqa: SLF001
        return "" if frame is None else "".join(traceback.format_stack(frame))

    def _adopt(self, family: Supervisor) -> None:
        cell = family.stand_in = self.cell
        self.own = cell.family = family

        def over(blame: str | None, *, host: bool) -> None:
            if blame is not None:
                cell.break_up(cell.incarnation, Exit.CRASH, SupervisorGaveUp(family.name, blame))
            else:
                cell.break_up(cell.incarnation, Exit.HOST_STOP if host else Exit.SELF_STOP, None)

        family.on_over = over

    def family(self) -> Supervisor:
        """The supervisor of its own children, with none yet at the first use by an incarnation."""
        if self.own is None:
            self._adopt(self._supervisor.offspring(self.name))
            assert self.own is not None
        elif self.own.over:
            self.own.begin()
        return self.own

    # --- What the cell reports

    def context(self, incarnation: int) -> Context:
        cell = self.cell
        return Context(
            self.address, incarnation, self._supervisor.timers, lambda: cell.incarnation == incarnation, self.family
        )

    def started(self, incarnation: int) -> None:
        self._supervisor.report(self, Started(self.name, incarnation))
        self.up.set()
        if incarnation > 1:
            self._supervisor.say("restarted", self.path, incarnation)

    def not_started(self, incarnation: int, error: BaseException) -> None:
        self.error = _line(error)
        if incarnation == 1:
            self.first_error = error
        if not isinstance(error, StopSelf):
            self._crashed(incarnation, error)
        self._supervisor.report(self, StartFailed(self.name, incarnation, is_resource(error)))
        self.up.set()

    def exited(self, incarnation: int, how: Exit, error: BaseException | None) -> None:
        if error is not None:
            self.error = _line(error)
            self._crashed(incarnation, error)
        self._supervisor.report(self, Exited(self.name, incarnation, how, error is not None and is_resource(error)))

    def halted(self, incarnation: int) -> None:
        self._supervisor.report(self, Halted(self.name, incarnation))

    def failed(self, incarnation: int, error: BaseException, *, asked: bool) -> None:
        self.answered += 1
        self.error = _line(error)
        if asked:
            self._supervisor.say("failed", self.path, incarnation, error, asked=True)
        else:
            self.log(f"incarnation {incarnation} goes on after an error", error)
            self._supervisor.say("resumed", self.path, incarnation, error)

    def dead_letter(self, reason: str) -> None:
        self._supervisor.letters.unread(self.path, reason)

    def undelivered(self, reason: str) -> None:
        self._supervisor.letters.undelivered(self.path, reason)

    def discarded(self) -> None:
        self._supervisor.discarded += 1

    def asked(self, envelope: object) -> None:
        seconds = self.spec.max_wait
        assert seconds is not None
        error = MailboxWaitError(f"{self.path} did not come to it within {seconds:g} s")
        self._supervisor.timers.call(seconds, functools.partial(self.cell.expire, envelope, error))

    def host_stops(self) -> None:
        self._supervisor.report(self, HostStops(self.name))

    def gone(self) -> None:
        self._supervisor.gone(self, hung=False)

    def log(self, what: str, error: BaseException) -> None:
        self._supervisor.log(self.path, what, error)

    def _crashed(self, incarnation: int, error: BaseException) -> None:
        self.log(f"incarnation {incarnation} crashed", error)
        self._supervisor.say("failed", self.path, incarnation, error, asked=False)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
