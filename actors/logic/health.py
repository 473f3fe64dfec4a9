"""How a supervisor is doing, in one word and the reasons for it. Sans-IO."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from actors.logic.supervision import ChildState

__all__ = ["ChildHealth", "Health", "HealthState", "judge"]


class HealthState(StrEnum):
    """Ordered from good to bad."""

    OK = "ok"
    DEGRADED = "degraded"
    """Something is down, and is being brought back; or a thread was left behind."""
    FAILED = "failed"
    """Nothing will come back: it gave up, or was stopped."""


@dataclass(frozen=True, slots=True)
class Health:
    """`reasons` are lines for people, none if all is well."""

    state: HealthState
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChildHealth:
    """What counts of one child."""

    name: str
    state: ChildState
    incarnation: int
    seconds: float
    """For how long it has been in this state."""
    start_within: float
    error: str | None
    nested: Health | None = None
    """Of a child that is a supervisor."""


def judge(gave_up: str | None, draining: bool, children: Iterable[ChildHealth], left_behind: Iterable[str]) -> Health:
    """`gave_up` says who failed once too often; `left_behind` are children whose threads hang."""
    if gave_up is not None:
        return Health(HealthState.FAILED, (gave_up,))
    if draining:
        return Health(HealthState.FAILED, ("it has been stopped",))
    reasons = [line for child in children for line in _of_child(child)]
    reasons += [f"{name}: its thread hangs and is left behind" for name in left_behind]
    return Health(HealthState.DEGRADED if reasons else HealthState.OK, tuple(reasons))


def _of_child(child: ChildHealth) -> list[str]:
    why = "" if child.error is None else f": {child.error}"
    match child.state:
        case ChildState.RESTARTING | ChildState.HALTING:
            return [f"{child.name} is down and is to be started again{why}"]
        case ChildState.STARTING if child.incarnation > 1:
            return [f"{child.name} is being started again{why}"]
        case ChildState.STARTING if child.seconds > child.start_within:
            return [f"{child.name} has been starting for {child.seconds:.0f} s"]
    if child.state is ChildState.UP and child.nested is not None:
        return [f"{child.name}/{line}" for line in child.nested.reasons]
    return []
