"""What an ask or a tell can end with besides an answer. All are `pykka.ActorDeadError`, so that existing code copes.

`temporary` says whether the same command may succeed later. Nothing is tried again by itself: an error does not mean
that the command was not carried out.
"""

from __future__ import annotations

import pykka

__all__ = [
    "ActorGoneError",
    "ActorHungError",
    "MailboxFullError",
    "MailboxWaitError",
    "PoisonRequest",
    "SupervisorGaveUp",
    "WatchedActorEnded",
    "WorkerLostError",
    "WorkerTimeoutError",
]


class ActorGoneError(pykka.ActorDeadError):
    """The actor has stopped, was given up, or never started; or this is a fork of the process that it lives in."""

    temporary = False


class SupervisorGaveUp(ActorGoneError):
    """A child of this supervisor failed once too often, and all its children were stopped. A failure for its parent."""

    def __init__(self, supervisor: str, child: str) -> None:
        super().__init__(supervisor, child)
        self.supervisor = supervisor
        self.child = child

    def __str__(self) -> str:
        return f"{self.supervisor} gave up: {self.child} failed once too often"


class WatchedActorEnded(ActorGoneError):
    """An actor has ended that another watches without a command for that: the watcher crashes with this."""


class MailboxFullError(pykka.ActorDeadError):
    """The actor lives, but its mailbox has no room; nothing was queued."""

    temporary = True


class MailboxWaitError(pykka.ActorDeadError):
    """The actor lives, but did not come to what was asked within its `max_wait`; it was not handled."""

    temporary = True


class ActorHungError(pykka.ActorDeadError):
    """The actor's thread did not end in its time; it was left behind, and what it may still return is discarded."""

    temporary = False


class WorkerLostError(pykka.ActorDeadError):
    """The process that was to answer has ended; `words` say how: by which signal, or with which status."""

    temporary = True

    def __init__(self, pid: int, words: str) -> None:
        super().__init__(pid, words)
        self.pid = pid
        self.words = words

    def __str__(self) -> str:
        return f"process {self.pid} was lost: {self.words}"


class WorkerTimeoutError(pykka.ActorDeadError):
    """The process that was to answer has not within `seconds`, and was ended for it."""

    temporary = False

    def __init__(self, pid: int, seconds: float) -> None:
        super().__init__(pid, seconds)
        self.pid = pid
        self.seconds = seconds

    def __str__(self) -> str:
        return f"process {self.pid} gave no answer within {self.seconds:g} s and was ended"


class PoisonRequest(pykka.ActorDeadError):
    """What was asked has taken processes with it; it is refused, so that it does not take more."""

    temporary = False
