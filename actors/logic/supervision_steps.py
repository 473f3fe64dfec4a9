"""What happens to a supervisor's children, and what is to be done: the terms in which `Supervision` is spoken to."""

from __future__ import annotations

from dataclasses import dataclass

from actors.logic.restarts import Exit, RestartType

__all__ = [
    "Action",
    "Added",
    "Delay",
    "Drain",
    "Drained",
    "Due",
    "End",
    "Event",
    "Exited",
    "GaveUp",
    "Gone",
    "Halt",
    "Halted",
    "HostStops",
    "Start",
    "StartFailed",
    "Started",
    "Terminate",
]


# --- Events ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Added:
    """A new child; it is to be started now."""

    child: str
    restart: RestartType = RestartType.PERMANENT


@dataclass(frozen=True, slots=True)
class Started:
    """The incarnation is up."""

    child: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The incarnation could not be made, or its `on_start` raised. `resource`: for want of memory or the like."""

    child: str
    incarnation: int
    resource: bool = False


@dataclass(frozen=True, slots=True)
class Exited:
    """The incarnation has ended without having been told to."""

    child: str
    incarnation: int
    how: Exit
    resource: bool = False


@dataclass(frozen=True, slots=True)
class Halted:
    """The incarnation that was to be halted is no more; the child waits to be started."""

    child: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The child has ended for good; or with `hung` it has not, and is given up."""

    child: str
    hung: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """The delay `token` has passed."""

    token: int


@dataclass(frozen=True, slots=True)
class HostStops:
    """The host has asked the child to stop; it will, in its turn."""

    child: str


@dataclass(frozen=True, slots=True)
class Terminate:
    """End one child for good: after what it handles, or with `drain` after all that is queued."""

    child: str
    drain: bool = False


@dataclass(frozen=True, slots=True)
class Drain:
    """End all children in order; nothing is started any more. `hurry`: all at once, and without what is queued."""

    hurry: bool = False


Event = Added | Started | StartFailed | Exited | Halted | Gone | Due | HostStops | Terminate | Drain


# --- Actions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Have the child make this incarnation."""

    child: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Halt:
    """Have the child end this incarnation and wait; answered by `Halted`, or `Gone` when it hangs."""

    child: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class End:
    """Have the child end for good; answered by `Gone`. `spent`: it has failed too often, alone. `drain`: it may handle
    what is queued."""

    child: str
    spent: bool = False
    drain: bool = False


@dataclass(frozen=True, slots=True)
class Delay:
    """Report `Due` after `seconds`. `child` has failed; `restarts` of its supervisor count at the moment."""

    token: int
    seconds: float
    child: str
    restarts: int


@dataclass(frozen=True, slots=True)
class GaveUp:
    """`child` has failed once too often, or hangs where others wait for it: all are about to be ended. Comes first."""

    child: str


@dataclass(frozen=True, slots=True)
class Drained:
    """All children have ended, once. `blame` is the child that failed once too often, or None: it was asked for, with
    `host` by who stopped one of them from outside."""

    blame: str | None = None
    host: bool = False


Action = Start | Halt | End | Delay | GaveUp | Drained
