"""What is said of a supervisor's children: how one is specified, and how it is doing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from actors.actor.behaviour import Behaviour
from actors.logic.restarts import Backoff, Intensity, RestartType, Strategy
from actors.logic.supervision import ChildState

__all__ = ["DEFAULT_BOUND", "ChildInfo", "ChildSpec", "SupervisorSpec"]

DEFAULT_BOUND = 10_000
"""Messages that may wait for an actor, unless its specification says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One child. Raises ValueError or TypeError that names the wrong field.

    `make` is called on the child's own thread, once for each incarnation. `shutdown` is how many seconds it may take
    to stop (beside what its own children may take); then its thread is left behind. `start_within` is how long it may
    take to start before `health()` finds it slow.

    `bound` is how many messages may wait, None for any number. Without room an ask or a tell raises MailboxFullError;
    with `drop`, a tell is dropped instead, and counted as a dead letter. `max_wait` is how many seconds an ask may wait
    for its turn, as through a long back-off; then it ends with MailboxWaitError, whatever its sender's own limit.

    `restart_on`: what an ask may not raise without another incarnation taking over (`Crash` always does that).
    `resume_on`: what a command that was told may raise and keep its incarnation; it is reported and logged.
    `keep_children`: its own children outlive a restart.
    """

    name: str
    make: Callable[[], Behaviour]
    restart: RestartType = RestartType.PERMANENT
    shutdown: float = 5.0
    start_within: float = 5.0
    bound: int | None = DEFAULT_BOUND
    drop: bool = False
    max_wait: float | None = None
    restart_on: tuple[type[BaseException], ...] = ()
    resume_on: tuple[type[BaseException], ...] = ()
    keep_children: bool = False

    def __post_init__(self) -> None:
        _check_common(self)
        if not callable(self.make):
            raise TypeError(f"make must be callable, not {type(self.make).__name__}")
        _check_seconds("shutdown", self.shutdown)
        if self.bound is not None and (isinstance(self.bound, bool) or not isinstance(self.bound, int)):
            raise TypeError(f"bound must be a whole number or None, not {self.bound!r:.40}")
        if self.bound is not None and self.bound < 1:
            raise ValueError(f"bound must be at least 1, not {self.bound}")
        if self.max_wait is not None:
            _check_seconds("max_wait", self.max_wait)
        for field in ("drop", "keep_children"):
            if not isinstance(getattr(self, field), bool):
                raise TypeError(f"{field} must be True or False, not {getattr(self, field)!r:.40}")
        for field in ("restart_on", "resume_on"):
            kinds = getattr(self, field)
            if not isinstance(kinds, tuple) or not all(
                isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
            ):
                raise TypeError(f"{field} must be a tuple of exception classes")


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorSpec:
    """A supervisor that is a child of another. Raises ValueError or TypeError that names the wrong field.

    `children` are its static children: they are started with it, in order, and again whenever it is restarted. With
    `template` it is a DynamicSupervisor. When it gives up, that is a crash for its parent. `shutdown` None: the sum
    of what its children may take.
    """

    name: str
    children: tuple[ChildSpec | SupervisorSpec, ...] = ()
    template: Callable[..., Behaviour] | None = None
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: Intensity | None = None
    backoff: Backoff | None = None
    restart: RestartType = RestartType.PERMANENT
    shutdown: float | None = None
    start_within: float = 10.0

    def __post_init__(self) -> None:
        _check_common(self)
        if not isinstance(self.children, tuple) or not all(
            isinstance(child, ChildSpec | SupervisorSpec) for child in self.children
        ):
            raise TypeError("children must be a tuple of ChildSpec and SupervisorSpec")
        names = [child.name for child in self.children]
        if len(set(names)) != len(names):
            raise ValueError(f"children must have names of their own, not {', '.join(names):.200}")
        if self.template is not None and not callable(self.template):
            raise TypeError(f"template must be callable, not {type(self.template).__name__}")
        if self.template is not None and (self.children or self.strategy is not Strategy.ONE_FOR_ONE):
            raise ValueError("template must stand without children and with the strategy one_for_one")
        for field, kind in (("strategy", Strategy), ("intensity", Intensity), ("backoff", Backoff)):
            value = getattr(self, field)
            if not isinstance(value, kind) and not (value is None and kind is not Strategy):
                raise TypeError(f"{field} must be of {kind.__name__}, not {value!r:.40}")
        if self.shutdown is not None:
            _check_seconds("shutdown", self.shutdown)


def _check_common(spec: Any) -> None:
    if not isinstance(spec.name, str) or not spec.name:
        raise ValueError(f"name must be a text that is not empty, not {spec.name!r:.40}")
    if not isinstance(spec.restart, RestartType):
        raise TypeError(f"restart must be a RestartType, not {spec.restart!r:.40}")
    _check_seconds("start_within", spec.start_within)


def _check_seconds(field: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{field} must be a number of seconds, not {value!r:.40}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{field} must be a number of seconds that is not negative, not {value}")


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """How one child is doing. `restarts` count against the limit at the moment: the supervisor's, which its children
    share, or the child's where each has its own. `error` is the last, in one line."""

    name: str
    state: ChildState
    incarnation: int
    restarts: int
    waiting: int
    """About how many messages."""
    error: str | None
    answered: int = 0
    """Errors that were answers: raised in an ask, the incarnation going on. Also those of `resume_on`."""
    pid: int | None = None
    """The process that it stands for."""
    supervisor: bool = False
