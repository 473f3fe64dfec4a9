"""Dead letters: messages that nobody could read, or that came to an actor that had stopped or had no room."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from actors.actor.forking import close_in_child
from actors.clock import Clock
from actors.logic.log_limit import LogLimit

__all__ = ["DeadLetters", "LetterHooks"]

logger = logging.getLogger(__name__)

_SUMMARY_AFTER = 60.0


class LetterHooks(Protocol):
    """Who hears of each; part of `SupervisorHooks`."""

    def dead_letter(self, child: str, reason: str) -> None: ...

    def undelivered(self, child: str, reason: str) -> None: ...

    def shown(self, text: str) -> str: ...


class DeadLetters:
    """Counts them, reports each to a hook, and logs ten a minute and actor. Safe from any thread."""

    def __init__(self, hooks: LetterHooks, later: Callable[[float, Callable[[], object]], None], clock: Clock) -> None:
        """What the hooks raise is logged. `later` is as `Timers.call`."""
        self._hooks = hooks
        self._later = later
        self._clock = clock
        self._limit = LogLimit()
        self._summary_due = False
        # Re-entrant: a finalizer may send to a dead actor while this thread is inside.
        self._lock = threading.RLock()
        self.count = 0
        close_in_child(self)

    def unread(self, actor: str, reason: str) -> None:
        """A message could not be decoded."""
        self._note(logging.WARNING, actor, reason, self._hooks.dead_letter)

    def undelivered(self, actor: str, reason: str) -> None:
        """A message was told in vain: no rarity while actors come and go."""
        self._note(logging.INFO, actor, reason, self._hooks.undelivered)

    def _note(self, level: int, actor: str, reason: str, report: Callable[[str, str], None]) -> None:
        with self._lock:
            self.count += 1
            kept_back = self._limit.line(actor, self._clock())
            ask_for_summary = kept_back is None and not self._summary_due
            self._summary_due = self._summary_due or ask_for_summary
        if kept_back:
            self._summarise(actor, kept_back)
        try:
            if kept_back is not None:
                logger.log(level, "dead letter for %s: %s", actor, self._hooks.shown(reason))
            if ask_for_summary:
                self._later(_SUMMARY_AFTER, self._summaries)
            report(actor, reason)
        except BaseException:
            logger.exception("dead letter for %s: its hook failed", actor)

    def _summaries(self) -> None:
        with self._lock:
            due = self._limit.due(self._clock())
            # Minutes that began later than the one for which this was asked.
            again = self._summary_due = self._limit.holding
        for actor, kept_back in due:
            self._summarise(actor, kept_back)
        if again:
            self._later(_SUMMARY_AFTER, self._summaries)

    def _summarise(self, actor: str, kept_back: int) -> None:
        logger.warning("dead letters for %s: %d more within a minute", actor, kept_back)

    def after_fork(self) -> None:
        self._lock = threading.RLock()
