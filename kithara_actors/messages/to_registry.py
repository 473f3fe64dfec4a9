"""Commands to the Registry. Each docstring names the sender. Tags 64 to 79.

Import them from `kithara_actors.messages.commands`.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.messages.command import Command
from kithara_actors.messages.records import FetchSpec, InHand
from kithara_actors.values import CancelReason, Priority, RequestId

__all__ = [
    "REGISTRY_COMMANDS",
    "CancelFetch",
    "Done",
    "EndRequests",
    "Fetch",
    "Parked",
    "PeerGone",
    "Readmit",
    "Reconsider",
    "Recounted",
    "Released",
    "Requeue",
    "SetPriority",
]


@dataclass(frozen=True, slots=True)
class Fetch(Command):
    """Source or Collector → Registry: run this when a slot is free. One end: FetchDone, FetchFailed, FetchCancelled.

    Sent again for a request that has not ended it changes its kind, if that is another, and nothing else.
    """

    TAG = 64
    spec: FetchSpec


@dataclass(frozen=True, slots=True)
class CancelFetch(Command):
    """Source or Collector → Registry: end this request, wherever it is."""

    TAG = 65
    request: RequestId
    reason: CancelReason


@dataclass(frozen=True, slots=True)
class SetPriority(Command):
    """Source → Registry: the peer's class is now this."""

    TAG = 66
    peer: str
    priority: Priority


@dataclass(frozen=True, slots=True)
class Readmit(Command):
    """Downloader → Registry: it has begun anew and knows of no request; answered by `Readmitted`."""

    TAG = 73


@dataclass(frozen=True, slots=True)
class Recounted(Command):
    """Downloader → Registry, the answer to `Recount`: the requests that it knows of, each once."""

    TAG = 74
    requests: tuple[InHand, ...]


@dataclass(frozen=True, slots=True)
class Parked(Command):
    """Downloader → Registry: the request backs off, or was cut for another, and holds no slot meanwhile."""

    TAG = 67
    request: RequestId


@dataclass(frozen=True, slots=True)
class Requeue(Command):
    """Downloader → Registry: the parked request wants a slot again; queue it at the head of its queue."""

    TAG = 68
    request: RequestId


@dataclass(frozen=True, slots=True)
class Released(Command):
    """Downloader → Registry: the request has ended; its slot is free."""

    TAG = 69
    request: RequestId


@dataclass(frozen=True, slots=True)
class EndRequests(Command):
    """System → Registry and Downloader: the system stops; end everything. Answered with `Done`."""

    TAG = 70


@dataclass(frozen=True, slots=True)
class Done(Command):
    """The answer to `EndRequests`: how many requests have still to end."""

    TAG = 71
    pending: int


@dataclass(frozen=True, slots=True)
class PeerGone(Command):
    """Source → Registry: the peer has ended and has no request left."""

    TAG = 72
    peer: str


@dataclass(frozen=True, slots=True)
class Reconsider(Command):
    """Timers → Registry: see whether somebody has waited long enough for a slot to be given another's."""

    TAG = 75


REGISTRY_COMMANDS: tuple[type[Command], ...] = (
    Fetch,
    CancelFetch,
    SetPriority,
    Readmit,
    Recounted,
    Parked,
    Requeue,
    Released,
    EndRequests,
    Done,
    PeerGone,
    Reconsider,
)
