"""`kithara tail`: a file of events, as `get --events` writes it, in words."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from actors.errors import CodecError
from kithara_actors.command.event_words import describe
from kithara_actors.command.explain import CommandError, os_remedy
from kithara_actors.command.interrupts import Interrupts
from kithara_actors.command.text import clean, filled, width, write_error_line, write_line
from kithara_actors.events import Envelope, Lagged, from_json
from kithara_actors.messages.events import EVENTS
from kithara_actors.traces import MAGIC

__all__ = ["run"]

_LONGEST = 1 << 20
"""Bytes of a line."""
_TOLD = 5
"""Lines that are none of events, of which each is told."""
_PAUSE = 0.1
"""Seconds between two looks at a file that is followed."""
_LONGEST_TEXT = 4000
_TRACE = MAGIC.partition(b"\n")[0]
"""The first line of what the flight recorder writes."""


def run(options: argparse.Namespace, interrupts: Interrupts) -> int:
    """Show what `options` say. Blocks; with --follow until a signal comes.

    Raises CommandError if there are lines that are no events, after the others were shown; Interrupted,
    BrokenPipeError, and argparse.ArgumentTypeError for wrong usage.
    """
    kinds = _kinds(options.kinds)
    if options.follow and options.file == "-":
        raise argparse.ArgumentTypeError("the standard input is read to its end as it is: -f is for files")
    with _opened(options.file) as file, interrupts.armed():
        reading = _Reading(options.file, file, follow=options.follow)
        for envelope in reading.envelopes():
            if _wanted(envelope, kinds, options.requests):
                _show(envelope)
        reading.judge()
    return 0


def _kinds(names: list[str]) -> frozenset[str]:
    known = {cls.__name__.lower(): cls.__name__ for cls in EVENTS}
    for name in names:
        if name.lower() not in known:
            near = [kind for kind in known.values() if name.lower() in kind.lower()]
            some = f"; there is {', '.join(near)}" if near else f"; there are {', '.join(sorted(known.values()))}"
            raise argparse.ArgumentTypeError(f"--kind: no event is named {name!r:.40}{some}")
    return frozenset(known[name.lower()] for name in names)


def _wanted(envelope: Envelope, kinds: frozenset[str], requests: list[int]) -> bool:
    event = envelope.event
    if isinstance(event, Lagged):
        return True  # what was asked for may have been among the lost
    if kinds and type(event).__name__ not in kinds:
        return False
    mine = {getattr(event, "request_id", None), *getattr(event, "request_ids", ()), *getattr(event, "requests", ())}
    return not requests or not mine.isdisjoint(requests)


def _show(envelope: Envelope) -> None:
    who, what = (clean(text, _LONGEST_TEXT) for text in describe(envelope.event, envelope.scope, many=True))
    head = f"{_time(envelope.timestamp)}  {who:<10}  "
    if sys.stdout is not None and sys.stdout.isatty():
        write_line("\n".join(filled(what, width(), head, " " * len(head))))
    else:
        write_line(head + what)


def _time(timestamp: float) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(timestamp)  # noqa: DTZ006 - as the clock on the wall shows it
    except (ValueError, OverflowError, OSError):
        return "??:??:??.???"
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        if sys.stdin is None:
            raise CommandError("the standard input is closed")
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise CommandError(f"cannot read {name}: {error.strerror}{os_remedy(error.errno)}") from error
    with file:
        yield file


class _Reading:
    """The lines of a file one after the other, with what is wrong with them."""

    def __init__(self, name: str, file: BinaryIO, *, follow: bool) -> None:
        self._name = "the standard input" if name == "-" else name
        self._file = file
        self._follow = follow
        self._lines = 0
        self._wrong = 0

    def envelopes(self) -> Iterator[Envelope]:
        """Those that can be read; the others are told on the standard error."""
        for line, whole in self._read():
            self._lines += 1
            try:
                if len(line) > _LONGEST:
                    raise CodecError(f"it is longer than {_LONGEST} bytes")
                if line.startswith(_TRACE):
                    raise CommandError(f"{self._name} is a record, and no file of events: see kithara trace --help")
                envelope = from_json(line)
            except CodecError as error:
                cut = "" if whole else " (the last line, cut short)"
                self._tell(f"{error}{cut}")
                continue
            yield envelope

    def judge(self) -> None:
        """Raises CommandError unless there were events and nothing else."""
        if not self._lines:
            raise CommandError(f"{self._name} is empty: events are written there by kithara get --events FILE")
        if self._wrong:
            what = "line is no event" if self._wrong == 1 else "lines are no events"
            raise CommandError(f"{self._name}: {self._wrong} of {self._lines} {what} that this version can read")

    def _tell(self, why: str) -> None:
        self._wrong += 1
        if self._wrong <= _TOLD:
            write_error_line(f"kithara: {self._name}, line {self._lines}: {clean(why)}")

    def _read(self) -> Iterator[tuple[bytes, bool]]:
        """Each line without its end, and whether it had one. Of a line that is too long the beginning."""
        kept = bytearray()
        while True:
            piece = self._file.readline(_LONGEST)
            if len(kept) <= _LONGEST:
                kept += piece
            if piece.endswith(b"\n"):
                yield bytes(kept.removesuffix(b"\n")), True
                kept.clear()
            elif not piece and self._follow:
                threading.Event().wait(_PAUSE)
                if self._restarted():
                    kept.clear()
            elif not piece:
                if kept:
                    yield bytes(kept), False
                return

    def _restarted(self) -> bool:
        """Whether another run has begun the file anew; then it is read from its beginning."""
        if os.fstat(self._file.fileno()).st_size >= self._file.tell():
            return False
        self._file.seek(0)
        self._lines = 0
        return True
