"""What happens to an admitted request, and what is to be done about it: the terms in which `FetchBook` is spoken to."""

from __future__ import annotations

from dataclasses import dataclass

from kithara_actors.errors import Failure
from kithara_actors.logic.suspicion import Blame
from kithara_actors.messages.records import FetchSpec, Place
from kithara_actors.values import CancelReason, RequestId, Validator

__all__ = [
    "Action",
    "Adopt",
    "Answered",
    "Ask",
    "AskSlot",
    "BackOff",
    "Begin",
    "Cancel",
    "Cleared",
    "DelayOver",
    "End",
    "Ended",
    "Event",
    "Lost",
    "Preempt",
    "Run",
    "Start",
    "StopAttempt",
    "Told",
]


# --- Events ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """The request has a slot: for the first time, or `again` after a back-off."""

    spec: FetchSpec
    again: bool = False


@dataclass(frozen=True, slots=True)
class Adopt:
    """The request was admitted before, and bytes up to `landed` have come. `attempt` runs; None: none does, and another
    is to be started by `Start`."""

    spec: FetchSpec
    landed: int
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """An attempt's answer was accepted; what it said is pinned for the attempts that follow."""

    request: RequestId
    attempt: int
    total: int | None
    validator: Validator
    ranged: bool = True
    place: Place | None = None
    partial: bool = True


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt is over; bytes up to `end` have landed. `failure` None and not `cancelled`: it did all it could.
    `renewable`: the failure is one that the application's callables may mend."""

    request: RequestId
    attempt: int
    end: int
    complete: bool
    total: int | None = None
    broke: bool = False
    cancelled: bool = False
    failure: Failure | None = None
    renewable: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker that ran the attempt is gone; bytes up to `landed` were published before.

    `blame` is what its end says about the attempt.
    """

    request: RequestId
    attempt: int
    landed: int
    blame: Blame = Blame.SHARED


@dataclass(frozen=True, slots=True)
class Cleared:
    """A suspect runs well, bytes up to `landed` are there, and others wait for the place where it is alone."""

    request: RequestId
    attempt: int
    landed: int


@dataclass(frozen=True, slots=True)
class DelayOver:
    """The back-off after `attempt` has passed."""

    request: RequestId
    attempt: int


@dataclass(frozen=True, slots=True)
class Told:
    """The answer to `Ask`: the attempt may run, or with `failure` the request ends."""

    request: RequestId
    attempt: int
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Preempt:
    """Another is to have the request's slot: cut it, and queue it again. It goes on from where it has come to."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the request."""

    request: RequestId
    reason: CancelReason


Event = Start | Adopt | Answered | Ended | Lost | Cleared | DelayOver | Told | Preempt | Cancel


# --- Actions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """The request starts for the first time."""

    spec: FetchSpec


@dataclass(frozen=True, slots=True)
class Ask:
    """Have the application's callables say how `attempt` is to be made; anew if `renew`. Answered by `Told`."""

    spec: FetchSpec
    attempt: int
    renew: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Run `attempt` from `start` on; with `alone`, in a worker that has nothing else."""

    spec: FetchSpec
    attempt: int
    start: int
    alone: bool = False


@dataclass(frozen=True, slots=True)
class StopAttempt:
    """Shut the attempt down; its end is reported by `Ended`."""

    request: RequestId
    attempt: int


@dataclass(frozen=True, slots=True)
class BackOff:
    """Give the slot back and ask for one after `delay` seconds. After a lost worker, for a renewal, for a return to
    the original URL and for a move to another worker that is 0, and the slot is kept. For one that was preempted it is
    0 too, and `AskSlot` follows at once."""

    spec: FetchSpec
    attempt: int
    retry: int
    delay: float
    cause: str


@dataclass(frozen=True, slots=True)
class AskSlot:
    """Queue the request again, at the head."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class End:
    """The request's one end: completed (neither `failure` nor `reason`), failed or cancelled."""

    spec: FetchSpec
    end: int
    total: int | None = None
    failure: Failure | None = None
    gave_up: bool = False
    reason: CancelReason | None = None
    attempts: int = 0


Action = Begin | Ask | Run | StopAttempt | BackOff | AskSlot | End
