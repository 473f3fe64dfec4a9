"""What happened, and when: the system's events and the demo's own steps in one table."""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import itertools
import textwrap
import threading
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from actors.clock import wall
from kithara_actors.command.text import amount, width, write_json, write_line
from kithara_actors.events import (
    ActorRestarted,
    Committed,
    DeadLetter,
    Envelope,
    Event,
    FileError,
    FirstByte,
    Lagged,
    Opened,
    RequestCancelled,
    RequestCompleted,
    RequestEnqueued,
    RequestFailed,
    RequestRetrying,
    SystemStopping,
    WorkerLost,
    WorkerStarted,
)

__all__ = ["Timeline", "describe"]

E = TypeVar("E", bound=Event)

_CAUSES = {"WORKER_LOST": "its worker is gone", "CLEARED": "it need not be alone any more"}
_SETTLED = 0.1
"""Seconds after which no earlier entry is expected any more: events come over a queue, steps do not."""


class Timeline:
    """Prints entries in the order of their times, while they come. Safe from any thread; closed by `close`."""

    def __init__(self, *, json: bool) -> None:
        self.error: OSError | None = None
        """Why nothing can be printed any more."""
        self._json = json
        self._start = wall()
        self._width = width()
        self._changed = threading.Condition()
        self._entries: list[tuple[float, int, str, str, dict[str, object]]] = []
        self._count = itertools.count()
        self._events: list[Event] = []
        self._closed = threading.Event()
        if not json:
            write_line(f"{'seconds':>7}  {'who':<10}  what")
        self._printer = threading.Thread(target=self._print_settled, name="kithara-timeline", daemon=True)
        self._printer.start()

    def step(self, who: str, what: str, **fields: object) -> None:
        """Something that the demo did or saw, now."""
        self._add(wall(), who, what, {"step": fields} if fields else {})

    def event(self, envelope: Envelope, *, known: bool = False) -> None:
        """An event of the system, at its own time; one that says too little, or what is `known`, is JSON only."""
        told = None if known and not self._json else describe(envelope.event)
        if told is not None or self._json:
            who, what = told or ("", "")
            event = envelope.event
            self._add(envelope.timestamp, who, what, {"event": type(event).__name__, **_plain(event)})
        with self._changed:
            self._events.append(envelope.event)
            self._changed.notify_all()

    def wait(self, kind: type[E], mark: int, predicate: Callable[[E], bool], timeout: float) -> E | None:
        """The first event of `kind` after `mark` for which `predicate` holds; None after `timeout` s. Blocks."""
        found: list[E] = []

        def look() -> bool:
            found[:] = [event for event in self._events[mark:] if isinstance(event, kind) and predicate(event)][:1]
            return bool(found)

        with self._changed:
            self._changed.wait_for(look, timeout)
        return found[0] if found else None

    def of(self, kind: type[E]) -> list[E]:
        """The events of `kind` so far."""
        with self._changed:
            return [event for event in self._events if isinstance(event, kind)]

    def mark(self) -> int:
        """How many events there are: `wait` looks at the later ones."""
        with self._changed:
            return len(self._events)

    def close(self) -> None:
        """Print what is left. Idempotent; raises nothing, see `error`."""
        self._closed.set()
        self._printer.join()
        with contextlib.suppress(OSError):
            self._print(float("inf"))

    def _add(self, at: float, who: str, what: str, fields: dict[str, object]) -> None:
        with self._changed:
            heapq.heappush(self._entries, (at, next(self._count), who, what, fields))

    def _print_settled(self) -> None:
        while not self._closed.wait(_SETTLED / 2):
            try:
                self._print(wall() - _SETTLED)
            except OSError as error:
                self.error = error
                return

    def _print(self, until: float) -> None:
        while True:
            with self._changed:
                if not self._entries or self._entries[0][0] > until:
                    return
                at, _, who, what, fields = heapq.heappop(self._entries)
            seconds = max(0.0, at - self._start)
            if self._json:
                write_json({"seconds": round(seconds, 4), "who": who, "what": what, **fields})
                continue
            indent = " " * 21
            lines = textwrap.wrap(what, self._width - len(indent)) or [""]
            write_line(f"{seconds:7.3f}  {who:<10}  {lines[0]}")
            for line in lines[1:]:
                write_line(indent + line)


def describe(event: Event) -> tuple[str, str] | None:
    """Who did what, for the table; None for what a table can do without."""
    match event:
        case RequestEnqueued():
            end = "the end" if event.end is None else f"{event.end:,}"
            return f"request {event.request_id}", f"asked for: bytes {event.start:,} to {end}"
        case FirstByte():
            return f"request {event.request_id}", f"answered {event.status} after {event.ttfb * 1000:.0f} ms"
        case RequestRetrying():
            cause = _CAUSES.get(event.cause, event.cause)
            return f"request {event.request_id}", f"goes on after {event.delay * 1000:.0f} ms: {cause}"
        case RequestCompleted():
            return f"request {event.request_id}", f"complete: {amount(event.bytes)} in {event.duration:.1f} s"
        case RequestCancelled():
            return f"request {event.request_id}", f"cancelled after {amount(event.bytes)}: {event.reason}"
        case RequestFailed():
            return f"request {event.request_id}", f"failed after {amount(event.bytes)}: {event.error.text}"
        case Opened():
            info = " ".join(str(part) for part in (event.media_info.container, event.media_info.codec) if part)
            size = "of unknown length" if event.total is None else f"{event.total:,} bytes"
            return "file", f"opened: {size}, {info or 'unknown media'}"
        case Committed():
            return "store", f"committed: {event.length:,} bytes"
        case FileError():
            return "file", f"failed: {event.error.text}"
        case WorkerStarted():
            return f"worker {event.worker}", f"started, process {event.pid}"
        case WorkerLost():
            held = ", ".join(map(str, event.requests))
            return f"worker {event.worker}", f"lost: {event.reason}" + (f"; had request {held}" if held else "")
        case ActorRestarted():
            return event.name, f"failed ({event.reason}); incarnation {event.incarnation} goes on"
        case DeadLetter():
            return event.name, f"dead letter: {event.reason}"
        case Lagged():
            return "events", f"{event.missed} lost"
        case SystemStopping():
            return "system", "stops"
        case _:
            return None


def _plain(value: object) -> dict[str, object]:
    """The fields of a record as JSON has them."""
    assert dataclasses.is_dataclass(value)
    return {field.name: _value(getattr(value, field.name)) for field in dataclasses.fields(value)}


def _value(value: object) -> object:
    if dataclasses.is_dataclass(value):
        return _plain(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    return value
