"""What happens, as frozen records. Sizes are in bytes, times in seconds unless a name says otherwise.

Import them from `kithara_actors.events`.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.messages.codec import Codec
from actors.messages.command import Command
from kithara_actors.errors import Failure
from kithara_actors.values import CancelReason, MediaInfo, Priority, RequestId

__all__ = [
    "EVENTS",
    "EVENT_CODEC",
    "ActorRestarted",
    "BodyResumed",
    "BodyStalled",
    "CacheComplete",
    "Committed",
    "DeadLetter",
    "EndOfStream",
    "Envelope",
    "Event",
    "FileError",
    "FirstByte",
    "Lagged",
    "LoadSlow",
    "Opened",
    "PriorityChanged",
    "ReadProgress",
    "ReaderSeek",
    "RequestCancelled",
    "RequestCompleted",
    "RequestEnqueued",
    "RequestFailed",
    "RequestRetrying",
    "RequestStarted",
    "RetryExhausted",
    "Scope",
    "SystemStopping",
    "TotalBytesResolved",
    "WorkerLost",
    "WorkerStarted",
]

Event = Command
"""Every event is a `Command` of `EVENT_CODEC`: frozen, typed, with a tag of its own."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an event belongs: the system (both None), one asset in use, or one stream of it."""

    asset: int | None = None
    stream: int | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event as a subscriber gets it. `seq` rises strictly over the system; `timestamp`, in seconds since the
    epoch, never falls."""

    event: Event
    scope: Scope
    seq: int
    timestamp: float


# --- Requests -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestEnqueued(Event):
    TAG = 1
    request_id: RequestId
    url: str
    method: str
    priority: Priority
    start: int
    end: int | None


@dataclass(frozen=True, slots=True)
class RequestStarted(Event):
    """Once per request, when it is first admitted. `wait_in_queue` is 0 if an actor that began anew cannot tell."""

    TAG = 2
    request_id: RequestId
    wait_in_queue: float


@dataclass(frozen=True, slots=True)
class FirstByte(Event):
    """Once per HTTP attempt that was answered, also with an error; `ttfb` from sending the request to its headers."""

    TAG = 3
    request_id: RequestId
    ttfb: float
    status: int
    partial: bool


@dataclass(frozen=True, slots=True)
class RequestRetrying(Event):
    """Attempt `attempt` of at most `limit` retries follows in `delay`, in seconds.

    `cause` is an error kind; or, at no cost of the budget, PREEMPTED (another has its slot until it gets one again),
    WORKER_LOST, CLEARED (it ran alone after lost workers and goes on among the others), RENEWED (the callables are
    asked again) or RETURNED (back to the original URL from where redirects had led).
    """

    TAG = 4
    request_id: RequestId
    attempt: int
    limit: int
    delay: float
    cause: str


@dataclass(frozen=True, slots=True)
class RetryExhausted(Event):
    """The budget is spent; `RequestFailed` follows."""

    TAG = 5
    request_id: RequestId
    consumed: int
    attempts: int


@dataclass(frozen=True, slots=True)
class RequestCompleted(Event):
    """`bandwidth_bps` is `bytes * 8000 // max(milliseconds, 1)`."""

    TAG = 6
    request_id: RequestId
    bytes: int
    duration: float
    bandwidth_bps: int


@dataclass(frozen=True, slots=True)
class RequestFailed(Event):
    """`bytes` says how many really landed."""

    TAG = 7
    request_id: RequestId
    bytes: int
    retryable: bool
    error: Failure


@dataclass(frozen=True, slots=True)
class RequestCancelled(Event):
    TAG = 8
    request_id: RequestId
    bytes: int
    reason: CancelReason


@dataclass(frozen=True, slots=True)
class LoadSlow(Event):
    """For `seconds`, at least `soft_timeout`, an attempt has not ended and brought fewer than 64 KiB: its head or its
    body is slow. Once per request, of which `bytes` have landed."""

    TAG = 10
    request_id: RequestId
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class BodyStalled(Event):
    """A body has begun, and nothing of it came for `inactivity_timeout`; `consumed` bytes of the request have landed.
    `BodyResumed`, or the end of the request, follows."""

    TAG = 11
    request_id: RequestId
    consumed: int


@dataclass(frozen=True, slots=True)
class BodyResumed(Event):
    """After `BodyStalled` another attempt was answered and goes on with the body; `resume` counts them, from 1."""

    TAG = 12
    request_id: RequestId
    resume: int


@dataclass(frozen=True, slots=True)
class PriorityChanged(Event):
    """A peer moved to another class, with the requests it has queued or running."""

    TAG = 9
    priority: Priority
    request_ids: tuple[RequestId, ...]


# --- Files ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened(Event):
    """The first answer was accepted, or the asset was there already (`cached`)."""

    TAG = 32
    media_info: MediaInfo
    total: int | None
    cached: bool


@dataclass(frozen=True, slots=True)
class TotalBytesResolved(Event):
    """`origin` is `content_length` or `committed_length`."""

    TAG = 33
    total: int
    origin: str


@dataclass(frozen=True, slots=True)
class CacheComplete(Event):
    """Every byte is there and committed; published before `wait_complete()` returns."""

    TAG = 34
    total: int


@dataclass(frozen=True, slots=True)
class ReadProgress(Event):
    """At most ten a second per stream, and always at the end."""

    TAG = 35
    position: int
    total: int | None


@dataclass(frozen=True, slots=True)
class ReaderSeek(Event):
    """At the first read that does not continue the one before; `epoch` counts them per stream."""

    TAG = 36
    from_position: int
    to_position: int
    epoch: int


@dataclass(frozen=True, slots=True)
class EndOfStream(Event):
    TAG = 37
    total: int


@dataclass(frozen=True, slots=True)
class FileError(Event):
    """The asset has failed for good."""

    TAG = 38
    error: Failure


# --- Assets ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Committed(Event):
    TAG = 64
    key: str
    length: int


# --- System ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerStarted(Event):
    TAG = 96
    worker: int
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerLost(Event):
    """`requests` were running there and go on elsewhere."""

    TAG = 97
    worker: int
    pid: int
    reason: str
    requests: tuple[RequestId, ...]


@dataclass(frozen=True, slots=True)
class ActorRestarted(Event):
    """An actor has failed, for this `reason`, and another incarnation has taken its place; the first has number 1."""

    TAG = 98
    name: str
    incarnation: int
    reason: str


@dataclass(frozen=True, slots=True)
class DeadLetter(Event):
    """A message that nobody could read was dropped."""

    TAG = 99
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class SystemStopping(Event):
    TAG = 100


@dataclass(frozen=True, slots=True)
class Lagged(Event):
    """This subscriber was too slow and lost `missed` events, which stood here."""

    TAG = 101
    missed: int


EVENTS: tuple[type[Event], ...] = (
    RequestEnqueued,
    RequestStarted,
    FirstByte,
    RequestRetrying,
    RetryExhausted,
    RequestCompleted,
    RequestFailed,
    RequestCancelled,
    LoadSlow,
    BodyStalled,
    BodyResumed,
    PriorityChanged,
    Opened,
    TotalBytesResolved,
    CacheComplete,
    ReadProgress,
    ReaderSeek,
    EndOfStream,
    FileError,
    Committed,
    WorkerStarted,
    WorkerLost,
    ActorRestarted,
    DeadLetter,
    SystemStopping,
    Lagged,
)

EVENT_CODEC = Codec(EVENTS)
"""Events to bytes and back."""
