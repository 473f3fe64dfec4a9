"""What becomes of actors in a child of `os.fork`: their threads are the parent's, so everything is closed there.

The child has one thread, and any lock may have been held by another when it was made: nothing here takes one.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

__all__ = ["FORKED", "DeathSign", "Forkable", "close_in_child"]

FORKED = "it lives in the process from which this one was forked"


class Forkable(Protocol):
    """What has to be closed in a child."""

    def after_fork(self) -> None:
        """Runs in the child, on its only thread; must not take a lock that was there before."""


class DeathSign(threading.Event):
    """Pykka's sign that an actor has stopped; a child can set it whoever holds the lock of it."""

    forked = False

    def is_set(self) -> bool:
        return self.forked or super().is_set()


_open: weakref.WeakSet[Forkable] = weakref.WeakSet()


def close_in_child(what: Forkable) -> None:
    """Have `what.after_fork()` called in every child of `os.fork`, for as long as `what` lives."""
    _open.add(what)


def _in_child() -> None:
    for what in list(_open):
        what.after_fork()


os.register_at_fork(after_in_child=_in_child)
