"""One cell of the HTTP matrix: which server, which fault in which phase, what a reader got, how it was asked."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from stream_kit import HANG

from actors.clock import monotonic
from kithara_actors.errors import KitharaError, ResourceChanged
from kithara_actors.stream.reader import Stream
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Fault, Origin, Resource, body

__all__ = [
    "CUT",
    "DATE",
    "LATER",
    "NEW",
    "RIGHT",
    "SECRET",
    "UNTELLABLE",
    "Cell",
    "Outcome",
    "Row",
    "cells",
    "crafted",
    "differences",
    "entity",
    "other",
]

SIZE: Final = 60_000
LONG: Final = 330_000
"""The body of the tail phase: long enough that its end is not simply waited for (see `demand.NEAR`)."""
HEAD: Final = 10
CUT: Final = 20_000
SEEK: Final = 40_000
SPAN: Final = 5_000
TAIL: Final = 64 * 1024
END: Final = 1_000
HELD: Final = 10_000
DATE: Final = "Mon, 05 Jan 2026 10:00:00 GMT"
LATER: Final = "Tue, 06 Jan 2026 10:00:00 GMT"
SECRET: Final = "s3cr3t"

PHASES: Final = {
    # A server without ranges has no request of its own for the tail, one without a length none for a seek.
    "ranges": ("first", "resume", "seek", "tail"),
    "chunked ranges": ("first", "resume", "seek", "tail"),
    "whole": ("first", "resume", "seek"),
    # It answers 405 to any Range, and is asked once more without.
    "refusing": ("first", "resume", "seek"),
    "endless": ("first", "resume"),
}
VALIDATORS: Final = ("strong", "date", "weak", "none")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reader got: "right" bytes or some other word for them, else the class of the error.

    `kept`: what had landed before the error can still be read after it.
    """

    what: str
    cause: str | None = None
    status: int | None = None
    kept: bool = False


RIGHT: Final = Outcome("right")
NEW: Final = Outcome("new")
"""All of the new entity, nothing of the old one."""
UNTELLABLE: Final = Outcome("joined")
"""Every byte at its place, but some of the old entity and some of the new one."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One place in the matrix. `lasting`: the fault is in every answer from its phase on, not in one."""

    fault: str
    server: str
    phase: str
    validator: str
    lasting: bool

    @property
    def first(self) -> bool:
        return self.phase == "first"

    @property
    def ranges(self) -> bool:
        return "ranges" in self.server

    @property
    def length_known(self) -> bool:
        """Whether the first answer of the server tells the length."""
        return self.server != "endless"

    @property
    def size(self) -> int:
        return LONG if self.phase == "tail" else SIZE

    @property
    def start(self) -> int:
        """Where the request begins that meets the fault."""
        if self.phase == "seek":
            return SEEK if self.ranges else HEAD
        return {"first": 0, "resume": CUT, "tail": LONG - TAIL}[self.phase]

    @property
    def end(self) -> int:
        """Where it ends."""
        return SEEK + SPAN if self.phase == "seek" and self.ranges else self.size


@dataclass(frozen=True, slots=True)
class Row:
    """A fault and what must come of it in each of its cells; `fits` leaves out cells in which it is none."""

    name: str
    fault: Callable[[Cell], Fault]
    expect: Callable[[Cell], Outcome]
    before: Callable[[Cell], list[Fault | None]] = lambda _: []
    """Further answers between those that lead to the phase and the fault."""
    fits: Callable[[Cell], bool] = lambda _: True
    untidy: bool = False
    """It leaves bytes behind on its connection, which may cost another request its answer, and with that its fault: it
    is played after the others."""


def cells(row: Row) -> Iterator[Cell]:
    """Every cell of a row."""
    for server in PHASES:
        for phase, validator, lasting in itertools.product(PHASES[server], VALIDATORS, (False, True)):
            cell = Cell(row.name, server, phase, validator, lasting)
            if row.fits(cell):
                yield cell


def entity(cell: Cell, *, size: int | None = None, seed: int = 1, later: bool = False) -> Resource:
    """What the server of `cell` serves; `later` gives it other validators of the same strength."""
    size = cell.size if size is None else size
    tag = f'"{seed}-{later}"'
    return Resource(
        size,
        seed=seed,
        etag={"strong": tag, "weak": "W/" + tag}.get(cell.validator),
        last_modified=(LATER if later else DATE) if cell.validator == "date" else None,
        ranges=cell.ranges,
        range_status=405 if cell.server == "refusing" else None,
        chunked=cell.server in ("chunked ranges", "endless"),
    )


def other(cell: Cell, size: int | None = None) -> Fault:
    """The file was replaced; without a validator nothing but its length and its bytes tells."""
    return Fault(entity=entity(cell, size=size, seed=2, later=True))


def crafted(cell: Cell, *lines: str, length: bool = True, status: str = "") -> Fault:
    """The good answer to the request of the phase, written out, with more header lines."""
    start, end = (cell.start, cell.end) if cell.ranges else (0, cell.size)
    head = [f"HTTP/1.1 {status or ('206 Partial Content' if cell.ranges else '200 OK')}", "Content-Type: audio/mpeg"]
    whole = entity(cell)
    head += [f"ETag: {whole.etag}"] if whole.etag else []
    head += [f"Last-Modified: {whole.last_modified}"] if whole.last_modified else []
    head += ["Date: Wed, 07 Jan 2026 10:00:00 GMT", "Connection: close"]
    head += [f"Content-Range: bytes {start}-{end - 1}/{cell.size}"] if cell.ranges else []
    head += [f"Content-Length: {end - start}"] if length else []
    text = "\r\n".join([*head, *lines]) + "\r\n\r\n"
    return Fault(raw=text.encode("latin-1") + body(1, start, end))


def resource(row: Row, cell: Cell) -> Resource:
    """What to serve so that the fault meets the request of its phase."""
    lead: dict[str, list[Fault | None]] = {
        "first": [],
        "resume": [Fault(cut_after=CUT)],
        "seek": [None],
        "tail": [Fault(stall_after=HELD)],
    }
    fault = row.fault(cell)
    refused: list[Fault | None] = [None] if cell.server == "refusing" else []
    script = [*refused, *lead[cell.phase], *row.before(cell), *([] if cell.lasting else [fault])]
    return replace(entity(cell), script=script, always=fault if cell.lasting else None)


def _pieces(stream: Stream, cell: Cell, got: dict[int, bytes]) -> None:
    """Reads as the phase asks for it; `got` says at which offset which bytes were read."""
    got[0] = stream.read(HEAD)
    if cell.phase == "seek":
        stream.seek(SEEK)
        got[SEEK] = stream.read(SPAN)
        stream.seek(HEAD)
    elif cell.phase == "tail":
        at = stream.seek(-END, 2)
        got[at] = stream.read()
        return
    got[HEAD] = stream.read()


def _judged(cell: Cell, got: dict[int, bytes], length: int | None) -> Outcome:
    def all_of(seed: int, at: int) -> bool:
        return all(data == body(seed, place, place + len(data)) for place, data in got.items() if place >= at)

    if sum(map(len, got.values())) < (HEAD + END if cell.phase == "tail" else length or 1):
        return Outcome(f"short: { ({place: len(data) for place, data in got.items()}) } of {length}")
    if all_of(1, 0):
        return RIGHT if length == cell.size else Outcome(f"right, of {length} bytes")
    if all_of(2, 0):
        return NEW
    old, new = body(1, 0, cell.size + 10), body(2, 0, cell.size + 10)
    if all(byte in (old[at], new[at]) for place, data in got.items() for at, byte in enumerate(data, place)):
        return UNTELLABLE
    return Outcome("WRONG BYTES")


def _error_of(call: Callable[[], object]) -> KitharaError | None:
    try:
        call()
    except KitharaError as error:
        return error
    return None


def _outcome(system: ActorSystem, url: str, cell: Cell) -> Outcome:
    got: dict[int, bytes] = {}
    with system.open(url, look_ahead=0 if cell.phase == "seek" else None) as stream:
        error = _error_of(lambda: _pieces(stream, cell, got))
        if error is None:
            return _judged(cell, got, stream.length)
        assert SECRET not in f"{error!r} {error}", "the error tells a secret"
        # That the file was replaced is found out by the reader, in words of its own.
        named = "/a.mp3?token=…: " in str(error) or isinstance(error, ResourceChanged)
        assert named, f"the error does not name the URL: {error!r}"
        kept = False
        if got:
            # What had been read before: still there, or gone with the very error that took it.
            again = _error_of(lambda: got.update({-1: stream.read_at(0, HEAD)}))
            assert again is None or type(again) is type(error), f"{error!r}, then {again!r}"
            kept = again is None
            assert not kept or got[-1] == got[0], "what was kept has changed"
        return Outcome(type(error).__name__, error.cause, error.status, kept)


def differences(system: ActorSystem, origin: Origin, rows: Iterable[Row]) -> tuple[int, list[str]]:
    """Plays all cells of `rows`, many at a time: how many there are, and what was not as expected."""
    todo = [(row, cell) for row in sorted(rows, key=lambda row: row.untidy) for cell in cells(row)]
    numbers = itertools.count()

    def play(row: Row, cell: Cell) -> str | None:
        url = origin.add(f"/{next(numbers)}/a.mp3?token={SECRET}", resource(row, cell))
        began = monotonic()
        try:
            outcome = _outcome(system, url, cell)
        except Exception as error:
            return f"{error!r} where it is {_place(cell)}"
        expected = row.expect(cell)
        # Whether anything of a first answer had landed depends on the fault: if not, there is nothing to keep.
        at = replace(expected, kept=False) if cell.first and not outcome.kept else expected
        if outcome == at and monotonic() - began < HANG:
            return None
        return f"{outcome} instead of {expected} where it is {_place(cell)}"

    found: list[str | None] = []
    with ThreadPoolExecutor(128) as pool:
        for untidy in (False, True):
            found += pool.map(lambda pair: play(*pair), [pair for pair in todo if pair[0].untidy is untidy])
    return len(todo), [f"{cell.fault}: {text}" for (_, cell), text in zip(todo, found, strict=True) if text]


def _place(cell: Cell) -> str:
    return f"{cell.phase}, {cell.server}, {cell.validator}, {'lasting' if cell.lasting else 'once'}"
