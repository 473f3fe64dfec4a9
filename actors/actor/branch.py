"""The actors that stand for supervisors: by which a parent, and the host's `stop_all`, reach what is below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.actor.address import Address
from actors.actor.behaviour import Behaviour, StopSelf
from actors.actor.cell import Cell
from actors.actor.children import ChildSpec
from actors.actor.context import Context
from actors.actor.errors import SupervisorGaveUp
from actors.actor.keeper import Keeper
from actors.logic.restarts import Exit
from actors.messages.command import Command

if TYPE_CHECKING:
    from actors.actor.supervisor import Supervisor

__all__ = ["Branch", "Control"]


class Branch(Behaviour):
    """A supervisor that is a child of another: its incarnation begins with its static children, in order.

    They are ended by the cell, whose family they are.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def on_start(self) -> None:
        supervisor = self._supervisor
        supervisor.begin()
        try:
            supervisor.add_static()
        except RuntimeError:
            if supervisor.blame is not None:
                raise SupervisorGaveUp(supervisor.name, supervisor.blame) from None
            if supervisor.draining:
                raise StopSelf("it was told to stop while it started") from None
            raise
        # The host stops actors in reverse order of registration: this one ends its children in their order.
        assert supervisor.stand_in is not None
        supervisor.stand_in.register_last()

    def handle(self, command: Command) -> None:  # noqa: ARG002
        """Nothing is said to a supervisor in this way."""
        return


class _Ends(Behaviour):
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def handle(self, command: Command) -> None:  # noqa: ARG002
        return

    def on_stop(self) -> None:
        if not self._supervisor.over:
            self._supervisor.stop_by_host()


class Control(Keeper):
    """The actor by which the host's `stop_all` stops a whole tree: registered after its static children, it comes
    before them, ends them in their order and within a limit, and answers when they have ended."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        spec = ChildSpec(name=supervisor.name, make=lambda: _Ends(supervisor), bound=None)
        self.cell = Cell(spec, supervisor.codec, self, lambda _: None)

    def start(self) -> None:
        """Raises RuntimeError without a thread."""
        self.cell.launch()
        self.cell.start_incarnation(1)

    def context(self, incarnation: int) -> Context:
        supervisor = self._supervisor
        address = Address(supervisor.name, self.cell.actor_ref, supervisor.codec)
        return Context(address, incarnation, supervisor.timers, lambda: True, lambda: supervisor)

    def started(self, incarnation: int) -> None: ...

    def not_started(self, incarnation: int, error: BaseException) -> None:  # noqa: ARG002
        self.log("the actor that stands for it did not start", error)

    def exited(self, incarnation: int, how: Exit, error: BaseException | None) -> None:  # noqa: ARG002
        self.cell.end()

    def halted(self, incarnation: int) -> None: ...

    def failed(self, incarnation: int, error: BaseException, *, asked: bool) -> None: ...

    def dead_letter(self, reason: str) -> None: ...

    def undelivered(self, reason: str) -> None: ...

    def discarded(self) -> None: ...

    def asked(self, envelope: object) -> None: ...

    def host_stops(self) -> None:
        self._supervisor.host_stops()

    def gone(self) -> None: ...

    def log(self, what: str, error: BaseException) -> None:
        self._supervisor.log(self._supervisor.prefix + self._supervisor.name, what, error)
