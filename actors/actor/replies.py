"""Futures are resolved once: what comes second is discarded, instead of raising in the actor's loop."""

from __future__ import annotations

import errno
import queue
from typing import Any

import pykka

from actors.actor.errors import ActorGoneError

__all__ = ["answer", "dead", "is_resource", "refuse"]

_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EAGAIN})


def answer(reply_to: pykka.Future[Any] | None, value: Any) -> bool:
    """False if it was given up and answered from outside."""
    if reply_to is None:
        return True
    try:
        reply_to.set(value)
    except queue.Full:
        return False
    return True


def refuse(reply_to: pykka.Future[Any] | None, error: BaseException) -> bool:
    """False if it was given up and answered from outside."""
    if reply_to is None:
        return True
    try:
        reply_to.set_exception(exc_info=(type(error), error, error.__traceback__))
    except queue.Full:
        return False
    return True


def dead(text: str, cause: BaseException | None = None) -> ActorGoneError:
    error = ActorGoneError(text)
    error.__cause__ = cause
    return error


def is_resource(error: BaseException) -> bool:
    """Whether the error is a want of memory, descriptors or room, which an instant restart would make worse."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _RESOURCES)
