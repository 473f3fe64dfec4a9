"""What becomes of a system in the child of `os.fork`: its threads are not there, so everything of it has ended."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from kithara_actors.errors import Failure

__all__ = ["FORKED", "Forked", "watch_forks"]

FORKED = "this system runs in the process that forked this one; start one after the fork"
"""What is raised in a child."""


class Forked(Protocol):
    """What is told."""

    def forked(self, failure: Failure) -> None:
        """In the child, before `os.fork` returns there. May take no lock: its holder may not be in the child."""


_watched: weakref.WeakSet[Forked] = weakref.WeakSet()


def watch_forks(what: Forked) -> None:
    """Have it told in every child that this process forks, for as long as it lives."""
    _watched.add(what)


def _in_child() -> None:
    failure = Failure("SystemStopped", FORKED)
    for what in list(_watched):
        what.forked(failure)


os.register_at_fork(after_in_child=_in_child)
