"""What befalls requests that want a slot, and what to do about it: the terms in which `SlotMap` is spoken to."""

from __future__ import annotations

from dataclasses import dataclass

from kithara_actors.messages.records import FetchSpec, InHand
from kithara_actors.values import CancelReason, Priority, RequestId

__all__ = [
    "Action",
    "Admit",
    "Adopt",
    "Cancel",
    "Dismiss",
    "Event",
    "Finish",
    "ForgetPeer",
    "Hold",
    "Lead",
    "LookAfter",
    "Moved",
    "Park",
    "PassCancel",
    "Preempt",
    "Prioritize",
    "Reclassify",
    "Requeue",
    "Restart",
    "Review",
    "Submit",
    "Unhold",
]


# --- Events ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submit:
    """A new request. ValueError if its id is known."""

    spec: FetchSpec


@dataclass(frozen=True, slots=True)
class Reclassify:
    """The request is of another kind from here on: queued it takes its turn as such, running it counts as such."""

    spec: FetchSpec


@dataclass(frozen=True, slots=True)
class Park:
    """A running request gives its slot back: for a while, or because it was to be cut."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class Requeue:
    """A parked request wants a slot again; it goes to the head of its peer's queue."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class Finish:
    """The request has ended, wherever it was; it is forgotten."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the request."""

    request: RequestId
    reason: CancelReason


@dataclass(frozen=True, slots=True)
class Prioritize:
    """The peer's class is now this."""

    peer: str
    priority: Priority


@dataclass(frozen=True, slots=True)
class ForgetPeer:
    """The peer has ended; what it may still have is from now on of the class of one never heard of."""

    peer: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Start nothing until `Unhold`: what runs already is to be told by `Adopt`."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """A request that was admitted by a map before this one. What is known of it here is of no account."""

    hand: InHand


@dataclass(frozen=True, slots=True)
class Unhold:
    """All that runs is known: start again."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Who runs the requests has begun anew: what backed off wants a slot again, what was to be cut runs on."""


@dataclass(frozen=True, slots=True)
class Lead:
    """How far a running transfer is ahead of its readers: `ahead` bytes are there before the next that it brings is
    needed; None: nobody reads towards it. Bytes up to `landed` have landed."""

    request: RequestId
    ahead: int | None
    landed: int


@dataclass(frozen=True, slots=True)
class Review:
    """Who waits, at this moment: some reader for each of the requests `waited`; `leads` are those running transfers
    that nobody waits for and whose server goes on where they were cut. The answer to `LookAfter`."""

    waited: tuple[RequestId, ...] = ()
    leads: tuple[Lead, ...] = ()


Event = (
    Submit
    | Reclassify
    | Park
    | Requeue
    | Finish
    | Cancel
    | Prioritize
    | ForgetPeer
    | Hold
    | Adopt
    | Unhold
    | Restart
    | Review
)


# --- Actions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admit:
    """The request has a slot: its first, after `queued` seconds in the queue, or another one (`again`)."""

    spec: FetchSpec
    queued: float
    again: bool


@dataclass(frozen=True, slots=True)
class Dismiss:
    """The request is cancelled, has ended thereby and never had a slot."""

    spec: FetchSpec


@dataclass(frozen=True, slots=True)
class PassCancel:
    """The request is to be cancelled by who runs it, and lives until then. It may be unknown here."""

    request: RequestId
    reason: CancelReason


@dataclass(frozen=True, slots=True)
class Moved:
    """The peer has changed its class, and with it these requests, in the order of their ids; there is one at least."""

    peer: str
    priority: Priority
    requests: tuple[RequestId, ...]


@dataclass(frozen=True, slots=True)
class Preempt:
    """Cut the running request; its slot is another's as soon as it was given back by `Park`."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class LookAfter:
    """Find out in `delay` seconds who waits, and tell by `Review`. A later one takes the place of this."""

    delay: float


Action = Admit | Dismiss | PassCancel | Moved | Preempt | LookAfter
