"""Who did what, in words: each event of a system as people read it."""

from __future__ import annotations

from kithara_actors.command.text import amount
from kithara_actors.events import (
    ActorRestarted,
    BodyResumed,
    BodyStalled,
    CacheComplete,
    Committed,
    DeadLetter,
    EndOfStream,
    Event,
    FileError,
    FirstByte,
    Lagged,
    LoadSlow,
    Opened,
    PriorityChanged,
    ReaderSeek,
    ReadProgress,
    RequestCancelled,
    RequestCompleted,
    RequestEnqueued,
    RequestFailed,
    RequestRetrying,
    RequestStarted,
    RetryExhausted,
    Scope,
    SystemStopping,
    TotalBytesResolved,
    WorkerLost,
    WorkerStarted,
)
from kithara_actors.messages.event_json import event_fields

__all__ = ["MINOR", "describe"]

MINOR = (
    CacheComplete,
    EndOfStream,
    PriorityChanged,
    ReadProgress,
    ReaderSeek,
    RequestStarted,
    RetryExhausted,
    TotalBytesResolved,
)
"""What a table of what happened can do without: others beside it say as much."""

_CAUSES = {"WORKER_LOST": "its worker is gone", "CLEARED": "it need not be alone any more"}


def describe(event: Event, scope: Scope = Scope(), *, many: bool = False) -> tuple[str, str]:  # noqa: B008 - immutable
    """Who did what, each in one line; texts in it come from servers and may hold anything.

    With `many` files have their numbers, and requests the URLs and the files that they are for.
    """
    match event:
        case Opened() | TotalBytesResolved() | CacheComplete() | FileError() | Committed():
            who, what = _of_file(event)
            if not many or scope.asset is None:
                return who, what
            return (f"file {scope.asset}", what) if who == "file" else (who, f"file {scope.asset}: {what}")
        case RequestEnqueued() if many:
            whose = "" if scope.asset is None else f", for file {scope.asset}"
            return f"request {event.request_id}", f"{_of_request(event)} of {event.url}{whose}"
        case ReadProgress() | ReaderSeek() | EndOfStream():
            return "reader" if scope.stream is None else f"stream {scope.stream}", _of_reader(event)
        case WorkerStarted():
            return f"worker {event.worker}", f"started, process {event.pid}"
        case WorkerLost():
            held = _listed(event.requests)
            return f"worker {event.worker}", f"lost: {event.reason}" + (f"; had {held}" if held else "")
        case ActorRestarted():
            return event.name, f"failed ({event.reason}); incarnation {event.incarnation} goes on"
        case DeadLetter():
            return event.name, f"dead letter: {event.reason}"
        case Lagged():
            return "events", f"{event.missed} lost"
        case SystemStopping():
            return "system", "stops"
        case PriorityChanged():
            return "queue", f"priority {event.priority.name.lower()} for {_listed(event.request_ids) or 'no request'}"
        case _:
            request = getattr(event, "request_id", None)
            return "system" if request is None else f"request {request}", _of_request(event)


def _of_request(event: Event) -> str:
    match event:
        case RequestEnqueued():
            end = "the end" if event.end is None else f"{event.end:,}"
            return "asked for: " + ("the head" if event.method == "HEAD" else f"bytes {event.start:,} to {end}")
        case RequestStarted():
            return f"started after {event.wait_in_queue * 1000:.0f} ms in the queue"
        case FirstByte():
            return f"answered {event.status} after {event.ttfb * 1000:.0f} ms"
        case LoadSlow():
            return f"slow: hardly a byte for {event.seconds:.1f} s, {amount(event.bytes)} in all"
        case BodyStalled():
            return f"stalled after {amount(event.consumed)}"
        case BodyResumed():
            times = "" if event.resume == 1 else f", resume {event.resume}"
            return f"goes on with the body that stalled{times}"
        case RequestRetrying():
            cause = _CAUSES.get(event.cause, event.cause)
            return f"goes on after {event.delay * 1000:.0f} ms: {cause}"
        case RetryExhausted():
            return f"given up after {event.attempts} attempts and {amount(event.consumed)}"
        case RequestCompleted():
            time = f"{event.duration * 1000:.0f} ms" if event.duration < 1 else f"{event.duration:.1f} s"
            return f"complete: {amount(event.bytes)} in {time}"
        case RequestCancelled():
            return f"cancelled after {amount(event.bytes)}: {event.reason}"
        case RequestFailed():
            return f"failed after {amount(event.bytes)}: {event.error.text}"
        case _:
            told = ", ".join(f"{name} {value}" for name, value in event_fields(event).items() if name != "request_id")
            return type(event).__name__ + (f": {told}" if told else "")


def _of_file(event: Opened | TotalBytesResolved | CacheComplete | FileError | Committed) -> tuple[str, str]:
    match event:
        case Opened():
            info = " ".join(str(part) for part in (event.media_info.container, event.media_info.codec) if part)
            size = "of unknown length" if event.total is None else f"{event.total:,} bytes"
            return "file", f"opened: {size}, {info or 'unknown media'}{', from the cache' if event.cached else ''}"
        case TotalBytesResolved():
            return "file", f"is {event.total:,} bytes long ({event.origin.replace('_', ' ')})"
        case CacheComplete():
            return "file", f"complete: {event.total:,} bytes"
        case FileError():
            return "file", f"failed: {event.error.text}"
        case Committed():
            return "store", f"committed: {event.length:,} bytes"


def _of_reader(event: ReadProgress | ReaderSeek | EndOfStream) -> str:
    match event:
        case ReadProgress():
            return f"has read to {event.position:,}" + ("" if event.total is None else f" of {event.total:,}")
        case ReaderSeek():
            return f"jumped from {event.from_position:,} to {event.to_position:,}"
        case EndOfStream():
            return f"is at the end, {event.total:,}"


def _listed(requests: tuple[int, ...]) -> str:
    return "request " + ", ".join(map(str, requests)) if requests else ""
