"""What a supervisor tells of itself and of its children."""

from __future__ import annotations

from actors.logic.supervision import Supervision

__all__ = ["SupervisorHooks"]


class SupervisorHooks:
    """What a supervisor reports, on the thread on which it happened, without its lock. Must not block.

    Children of a supervisor that is itself a child are named by their path, as in `"players/3"`. What a hook raises is
    logged, and changes nothing.
    """

    def failed(self, child: str, incarnation: int, error: BaseException, *, asked: bool) -> None:
        """A child raised `error`: its incarnation is over, unless it was `asked`, whose asker has it."""

    def resumed(self, child: str, incarnation: int, error: BaseException) -> None:
        """A child raised `error`, of a kind after which its incarnation goes on; nobody was waiting for an answer."""

    def restarting(self, child: str, incarnation: int, delay: float, restarts: int) -> None:
        """That incarnation will be followed by another in `delay` seconds."""

    def restarted(self, child: str, incarnation: int) -> None:
        """A later incarnation than the first is up."""

    def ended(self, child: str, *, spent: bool, hung: bool) -> None:
        """A child has ended for good: because it failed too often (`spent`), or is given up for it hangs (`hung`)."""

    def dead_letter(self, child: str, reason: str) -> None:
        """A message could not be decoded; it was dropped."""

    def undelivered(self, child: str, reason: str) -> None:
        """A message was told and dropped: the actor had stopped, or had no room. On the sender's thread."""

    def gave_up(self, supervisor: str, child: str) -> None:
        """`child` has failed once too often: all children are about to be ended, none of them is yet."""

    def drained(self, supervisor: str, blame: str | None) -> None:
        """All children have ended; `blame` is the one that failed once too often, None if a stop was asked for."""

    def shown(self, text: str) -> str:
        """`text`, of an error with its traceback, as it may be logged: here as it is. May not raise."""
        return text

    def deciding(self, supervisor: str, made: Supervision) -> Supervision:  # noqa: ARG002
        """What decides for a supervisor from now on: here what was `made`; or what stands for it, for who wants to see
        each decision. Its `handle` is called under the supervisor's lock. May not raise."""
        return made
