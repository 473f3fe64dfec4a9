"""What must not be, whatever goes wrong. Pure: events and findings in, one line for each problem out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kithara_actors.events import (
    Event,
    Lagged,
    RequestCancelled,
    RequestCompleted,
    RequestEnqueued,
    RequestFailed,
    RequestStarted,
)
from kithara_actors.values import CancelReason, RequestId

__all__ = ["Ends", "Tally", "first_difference", "problems"]

_TERMINAL = (RequestCompleted, RequestFailed, RequestCancelled)
_ONCE = frozenset({"RequestStarted", "LoadSlow"})
_WHENEVER = frozenset({"RequestEnqueued", "RequestStarted", "RequestCancelled"})
"""What a request may have before its `RequestStarted`; everything else shows that it runs."""
_SHOWN = 5


class Ends:
    """Whether every request is enqueued first, started at most once and before it does anything, and has exactly one
    end, with nothing after it; fed with all events of a system in order."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._open: dict[RequestId, set[str]] = {}
        self._ended: dict[RequestId, str] = {}
        self._wrong: list[str] = []

    def take(self, event: Event) -> None:
        """The next event."""
        kind = type(event).__name__
        self.counts[kind] += 1
        if isinstance(event, Lagged):
            self._wrong.append(f"{event.missed} events were lost on the way")
            return
        request = getattr(event, "request_id", None)
        if request is None:
            return
        if request in self._ended:
            self._wrong.append(f"request {request}: {kind} after its end, {self._ended[request]}: {event}")
        elif isinstance(event, RequestEnqueued):
            if request in self._open:
                self._wrong.append(f"request {request} was enqueued twice")
            self._open[request] = set()
        elif request not in self._open:
            self._wrong.append(f"request {request}: {kind} before it was enqueued")
        else:
            self._live(request, kind, event)

    def _live(self, request: RequestId, kind: str, event: Event) -> None:
        """An event of a request that was enqueued and has not ended."""
        told = self._open[request]
        started = RequestStarted.__name__ in told
        if kind in told and kind in _ONCE:
            self._wrong.append(f"request {request}: {kind} twice")
        if kind not in _WHENEVER and not started:
            self._wrong.append(f"request {request}: {kind} before it was started")
        if isinstance(event, RequestCancelled) and started is (event.reason is CancelReason.BEFORE_START):
            was = "was started" if started else "was never started"
            self._wrong.append(f"request {request}: it {was}, and was cancelled as {event.reason.name}")
        told.add(kind)
        if isinstance(event, _TERMINAL):
            del self._open[request]
            self._ended[request] = kind

    @property
    def requests(self) -> int:
        """How many there were."""
        return len(self._open) + len(self._ended)

    def wrong(self) -> list[str]:
        """What is wrong, when no more events will come."""
        return [*self._wrong, *(f"request {request} has no end" for request in sorted(self._open))]


@dataclass(slots=True)
class Tally:
    """What was found in one run."""

    ends: Ends = field(default_factory=Ends)
    wrong_bytes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Reads and calls that raised what they should not."""
    hangs: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Threads, processes, descriptors, names: as `actors.testing.leaks` says."""
    survivors: list[str] = field(default_factory=list)
    """What `stop` could not end."""
    gave_up: bool = False
    """The system ended by itself."""
    crashed: Mapping[str, int] = field(default_factory=dict)
    """How often each static actor was crashed, failed starts apart."""
    restarted: Mapping[str, int] = field(default_factory=dict)
    """How often it was said to be up again."""
    bytes_checked: int = 0
    refused: int = 0
    """Requests refused since two workers were lost with each of them alone."""
    lost: int = 0
    """Workers that were killed, or stopped for good."""
    recorded: bool = False
    replayed: int = 0
    """Decisions on record that the same logic came to again."""
    trace: list[str] = field(default_factory=list)
    """What is wrong with the record."""


def first_difference(got: bytes, expected: bytes) -> int | None:
    """The position of the first byte that is not as expected, missing ones included; None if all are."""
    if got == expected:
        return None
    pairs = zip(got, expected, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(got), len(expected)))


def problems(tally: Tally) -> list[str]:
    """One line for each thing that must not be; none: the run is good."""
    found = _some("wrong byte", tally.wrong_bytes)
    found += _some("hang", tally.hangs)
    found += _some("error", tally.errors)
    found += _some("events", tally.ends.wrong())
    found += _some("left behind", tally.left)
    found += _some("not ended by stop", tally.survivors)
    if tally.gave_up:
        found.append("the system gave up")
    for name, crashes in sorted(tally.crashed.items()):
        restarts = tally.restarted.get(name, 0)
        if restarts != crashes:
            found.append(f"{name} was crashed {crashes} times and restarted {restarts} times")
    if 2 * tally.refused > tally.lost:
        found.append(f"{tally.refused} requests were refused, and only {tally.lost} workers were lost")
    found += _some("trace", tally.trace)
    if tally.recorded and not tally.replayed:
        found.append("trace: no decision was replayed")
    if not tally.bytes_checked:
        found.append("no byte was read: nothing was shown")
    return found


def _some(what: str, lines: Sequence[str]) -> list[str]:
    shown = [f"{what}: {line}" for line in lines[:_SHOWN]]
    if len(lines) > _SHOWN:
        shown.append(f"{what}: and {len(lines) - _SHOWN} more")
    return shown
