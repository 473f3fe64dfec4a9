"""What the supervisors of a system report, told to whoever has put it together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.actor.hooks import SupervisorHooks
from actors.logic.supervision import Supervision
from kithara_actors.logic.naming import redact_text

if TYPE_CHECKING:
    from kithara_actors.assembly import Assembly

__all__ = ["Reports"]


class Reports(SupervisorHooks):
    """Tells the assembly by the names that actors have in a system."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    def failed(self, child: str, incarnation: int, error: BaseException, *, asked: bool) -> None:  # noqa: ARG002
        if not asked:
            self._assembly.part_failed(_name(child), error)

    def restarting(self, child: str, incarnation: int, delay: float, restarts: int) -> None:  # noqa: ARG002
        self._assembly.part_restarting(_name(child))

    def restarted(self, child: str, incarnation: int) -> None:
        self._assembly.part_restarted(_name(child), incarnation)

    def gave_up(self, supervisor: str, child: str) -> None:  # noqa: ARG002
        self._assembly.gave_up(_name(child))

    def shown(self, text: str) -> str:
        return redact_text(text)

    def deciding(self, supervisor: str, made: Supervision) -> Supervision:
        return self._assembly.recorded(supervisor, made)

    def ended(self, child: str, *, spent: bool, hung: bool) -> None:  # noqa: ARG002
        self._assembly.part_ended(_name(child), spent=spent)

    def drained(self, supervisor: str, blame: str | None) -> None:
        self._assembly.drained(supervisor, blame)

    def dead_letter(self, child: str, reason: str) -> None:
        self._assembly.dead_letter(_name(child), reason)


def _name(path: str) -> str:
    """The name of an actor: those of one system have different ones, wherever they are in its tree."""
    return path.rpartition("/")[2]
