"""What happened, and when: the system's events and the demo's own steps in one table."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import textwrap
import threading
from collections.abc import Callable
from typing import TypeVar

from actors.clock import wall
from kithara_actors.command.event_words import MINOR, describe
from kithara_actors.command.text import width, write_json, write_line
from kithara_actors.events import Envelope, Event
from kithara_actors.messages.event_json import event_fields

__all__ = ["Timeline"]

E = TypeVar("E", bound=Event)

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
        event = envelope.event
        if self._json or not (known or isinstance(event, MINOR)):
            who, what = describe(event, envelope.scope)
            self._add(envelope.timestamp, who, what, {"event": type(event).__name__, **event_fields(event)})
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
