"""Commands from actor to actor, grouped by receiver, those to a Source, the Collector, the Registry and the EventBus in
`to_source`, `to_collector`, `to_registry` and `to_event_bus`. Each docstring names the sender.

Tags: Source 32–63, Registry 64–79, Downloader 80–95, AssetStore 96–111, EventBus 112–127, Collector 128–143.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.messages.command import Command
from kithara_actors.errors import Failure
from kithara_actors.messages.records import FetchSpec, InHand
from kithara_actors.messages.to_collector import COLLECTOR_COMMANDS, Abandon, Collect, CollectedHead
from kithara_actors.messages.to_event_bus import EVENT_BUS_COMMANDS, Deliver
from kithara_actors.messages.to_registry import (
    REGISTRY_COMMANDS,
    CancelFetch,
    Done,
    EndRequests,
    Fetch,
    Parked,
    PeerGone,
    Readmit,
    Reconsider,
    Recounted,
    Released,
    Requeue,
    SetPriority,
)
from kithara_actors.messages.to_source import (
    SOURCE_COMMANDS,
    Announce,
    AssetCommitted,
    AssetReady,
    AssetRefused,
    Attach,
    AttachPrefetch,
    Detach,
    FetchCancelled,
    FetchDone,
    FetchFailed,
    FetchHeaders,
    FetchOver,
    ReaderAt,
    SetPlaying,
    WantAll,
    WantLength,
)
from kithara_actors.messages.worker import WORKER_COMMANDS
from kithara_actors.values import CancelReason, ContentId, RequestId

__all__ = [
    "COMMANDS",
    "Abandon",
    "AcquireAsset",
    "Admitted",
    "Announce",
    "AssetCommitted",
    "AssetReady",
    "AssetRefused",
    "Attach",
    "AttachPrefetch",
    "BackoffOver",
    "CallAnswered",
    "CallLate",
    "CancelAdmitted",
    "CancelFetch",
    "Collect",
    "CollectedHead",
    "CommitAsset",
    "Deliver",
    "Detach",
    "Done",
    "EndRequests",
    "Fetch",
    "FetchCancelled",
    "FetchDone",
    "FetchFailed",
    "FetchHeaders",
    "FetchOver",
    "Parked",
    "PeerGone",
    "Preempt",
    "ReaderAt",
    "Readmit",
    "Readmitted",
    "Reconsider",
    "Recount",
    "Recounted",
    "ReleaseAsset",
    "Released",
    "Requeue",
    "SetPlaying",
    "SetPriority",
    "WantAll",
    "WantLength",
    "WatchLoads",
    "WatchSuspects",
    "WorkerGone",
    "WorkerRetires",
    "WorkerUp",
]


# --- Downloader -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admitted(Command):
    """Registry → Downloader: the request has a slot. `queued` is how long it waited for its first, in seconds.

    `again` says that it had one before: should it have ended meanwhile, this is of no effect.
    """

    TAG = 80
    spec: FetchSpec
    queued: float
    again: bool


@dataclass(frozen=True, slots=True)
class Recount(Command):
    """Registry → Downloader: it has begun anew and knows of no request; answered by `Recounted`."""

    TAG = 87


@dataclass(frozen=True, slots=True)
class Readmitted(Command):
    """Registry → Downloader, the answer to `Readmit`: the requests that have a slot, with why those that are to be
    ended are."""

    TAG = 88
    requests: tuple[InHand, ...]


@dataclass(frozen=True, slots=True)
class CancelAdmitted(Command):
    """Registry → Downloader: end a request that was admitted before."""

    TAG = 81
    request: RequestId
    reason: CancelReason


@dataclass(frozen=True, slots=True)
class Preempt(Command):
    """Registry → Downloader: another request is to have the slot of this one. It is cut, gives its slot back (`Parked`)
    and asks for another (`Requeue`); nothing happens to one whose server would begin it anew."""

    TAG = 92
    request: RequestId


@dataclass(frozen=True, slots=True)
class BackoffOver(Command):
    """Timers → Downloader: the delay before the request's next attempt has passed."""

    TAG = 82
    request: RequestId
    attempt: int


@dataclass(frozen=True, slots=True)
class WorkerUp(Command):
    """Worker pool → Downloader: a worker takes attempts; `extra`: it was enlisted, and takes only what runs alone."""

    TAG = 83
    worker: int
    pid: int
    extra: bool = False


@dataclass(frozen=True, slots=True)
class WorkerGone(Command):
    """Worker pool → Downloader: a worker has ended and writes no more; of the frames that it was sent it had taken the
    first `taken`. `together`: others died at the same moment."""

    TAG = 84
    worker: int
    pid: int
    reason: str
    taken: int
    together: bool = False


@dataclass(frozen=True, slots=True)
class CallAnswered(Command):
    """Downloader → Downloader, from a thread that asked: what the application's callables said to question `call`.

    `url` is what is to be requested, with `headers`, unless there is a `failure`.
    """

    TAG = 85
    call: int
    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class CallLate(Command):
    """Timers → Downloader: the time that `request` has for an answer to question `call` is over."""

    TAG = 86
    call: int
    request: RequestId


@dataclass(frozen=True, slots=True)
class WatchSuspects(Command):
    """Timers → Downloader: look after the requests that run, or wait to run, in a worker of their own."""

    TAG = 89


@dataclass(frozen=True, slots=True)
class WorkerRetires(Command):
    """Worker pool → Downloader: a worker is to be given nothing new; it leaves when it is idle."""

    TAG = 90
    worker: int


@dataclass(frozen=True, slots=True)
class WatchLoads(Command):
    """Timers → Downloader: look at what runs: is it slow, and how much has landed?"""

    TAG = 91


# --- AssetStore -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AcquireAsset(Command):
    """Source → AssetStore: give `content` its descriptor. `target` is a path to commit to instead of the cache's.

    With an empty `key` it is in memory and goes with its content, unless there is a `target`.
    """

    TAG = 96
    content: ContentId
    source: str
    key: str
    extension: str
    target: str | None


@dataclass(frozen=True, slots=True)
class CommitAsset(Command):
    """Source → AssetStore: all `length` bytes have landed and are synced; make them the asset."""

    TAG = 97
    content: ContentId
    length: int
    content_type: str | None


@dataclass(frozen=True, slots=True)
class ReleaseAsset(Command):
    """Source → AssetStore: nobody reads or writes `content` any more; drop what is not committed.

    Answered with AssetRefused.
    """

    TAG = 98
    content: ContentId
    source: str


COMMANDS: tuple[type[Command], ...] = (
    *WORKER_COMMANDS,
    *SOURCE_COMMANDS,
    *COLLECTOR_COMMANDS,
    *REGISTRY_COMMANDS,
    Admitted,
    Recount,
    Readmitted,
    CancelAdmitted,
    Preempt,
    BackoffOver,
    WorkerUp,
    WorkerGone,
    CallAnswered,
    CallLate,
    WatchSuspects,
    WorkerRetires,
    WatchLoads,
    AcquireAsset,
    CommitAsset,
    ReleaseAsset,
    *EVENT_BUS_COMMANDS,
)
