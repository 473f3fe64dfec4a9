"""What an ask or a tell can end with besides an answer. All are `pykka.ActorDeadError`, so that existing code copes."""

from __future__ import annotations

import pykka

__all__ = ["ActorHungError", "MailboxFullError"]


class MailboxFullError(pykka.ActorDeadError):
    """The actor lives, but its mailbox has no room; nothing was queued."""

    temporary = True


class ActorHungError(pykka.ActorDeadError):
    """The actor's thread did not end in its time; it was left behind, and what it may still return is discarded."""

    temporary = False
