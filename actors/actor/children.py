"""What is said of a supervisor's children: how one is specified, and how it is doing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from actors.actor.cell import Behaviour
from actors.logic.restarts import RestartType
from actors.logic.supervision import ChildState

__all__ = ["ChildInfo", "ChildSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One child. Raises ValueError or TypeError that names the wrong field.

    `make` is called on the child's own thread, once for each incarnation. `shutdown` is how many seconds it may take
    to stop; then its thread is left behind. `bound` is how many messages may wait, None for any number. `restart_on`:
    what an ask may not raise without another incarnation taking over (`Crash` always does that).
    """

    name: str
    make: Callable[[], Behaviour]
    restart: RestartType = RestartType.PERMANENT
    shutdown: float = 5.0
    bound: int | None = None
    restart_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name must be a text that is not empty, not {self.name!r:.40}")
        if not callable(self.make):
            raise TypeError(f"make must be callable, not {type(self.make).__name__}")
        if not isinstance(self.restart, RestartType):
            raise TypeError(f"restart must be a RestartType, not {self.restart!r:.40}")
        if isinstance(self.shutdown, bool) or not isinstance(self.shutdown, int | float):
            raise TypeError(f"shutdown must be a number of seconds, not {self.shutdown!r:.40}")
        if not math.isfinite(self.shutdown) or self.shutdown < 0:
            raise ValueError(f"shutdown must be a number of seconds that is not negative, not {self.shutdown}")
        if self.bound is not None and (isinstance(self.bound, bool) or not isinstance(self.bound, int)):
            raise TypeError(f"bound must be a whole number or None, not {self.bound!r:.40}")
        if self.bound is not None and self.bound < 1:
            raise ValueError(f"bound must be at least 1, not {self.bound}")
        if not isinstance(self.restart_on, tuple) or not all(
            isinstance(kind, type) and issubclass(kind, BaseException) for kind in self.restart_on
        ):
            raise TypeError("restart_on must be a tuple of exception classes")


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """How one child is doing. `restarts` count against the limit at the moment; `error` is the last, in one line."""

    name: str
    state: ChildState
    incarnation: int
    restarts: int
    waiting: int
    error: str | None
