"""Lines for people and for scripts, and figures as people read them."""

from __future__ import annotations

import json
import os
import select
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from kithara_actors.values import Cover

__all__ = [
    "amount",
    "clean",
    "clock",
    "cover_words",
    "duration",
    "encodable",
    "fields",
    "filled",
    "width",
    "wrapped",
    "write_all",
    "write_error_line",
    "write_json",
    "write_line",
]

_LONGEST_VALUE = 4000
_LONGEST = 300
"""Characters of one text that are looked at: a tag may hold megabytes."""


def write_line(text: str) -> None:
    """A line on the standard output, at once; nothing where that is closed. BrokenPipeError if its reader is gone."""
    _write(sys.stdout, text, "standard output")


def write_error_line(text: str) -> None:
    """The same on the standard error."""
    _write(sys.stderr, text, "standard error")


def _write(output: TextIO | None, text: str, name: str) -> None:
    if output is None:
        return
    try:
        output.write(encodable(text, output) + "\n")
        output.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None


def write_all(fd: int, data: bytes) -> None:
    """All of `data` to a descriptor, whoever has made it non-blocking. Blocks. Raises OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select((), (fd,), ())


def encodable(text: str, output: TextIO) -> str:
    """`text` with question marks for what the encoding of `output` has no bytes for."""
    encoding = output.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def write_json(fields: dict[str, object]) -> None:
    """One JSON object as a line on the standard output."""
    write_line(json.dumps(fields))


def amount(count: float) -> str:
    """Bytes for people, in powers of ten: 999 B, 1.4 MB."""
    if count < 999.5:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds for people: 8 s, 3:05, 1:00:00."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def width() -> int:
    """Columns of the terminal, 80 where there is none, never fewer than text needs."""
    return max(40, shutil.get_terminal_size((80, 24)).columns)


def wrapped(text: str) -> str:
    """`text` broken into lines for the terminal."""
    return "\n".join(filled(text, width()))


def filled(text: str, columns: int, first: str = "", rest: str = "") -> list[str]:
    """`text` in lines of `columns` cells, broken at spaces where it has them; `first` and `rest` go before the lines.

    At least one line.
    """
    cells = _measure()
    lines, line, room = [], "", columns - cells(first)
    for word in text.split():
        if line and cells(line) + 1 + cells(word) <= room:
            line += " " + word
            continue
        if line:
            lines.append(line)
            room = columns - cells(rest)
        line = word
        while cells(line) > room and len(line) > 1:
            at = _fitting(line, room, cells)
            lines.append(line[:at])
            line, room = line[at:], columns - cells(rest)
    lines.append(line)
    return [(rest if at else first) + line for at, line in enumerate(lines)]


def _fitting(text: str, room: int, cells: Callable[[str], int]) -> int:
    """How many characters of `text` have room; at least one."""
    taken = 0
    for at, character in enumerate(text):
        taken += cells(character)
        if taken > room and at:
            return at
    return len(text)


def _measure() -> Callable[[str], int]:
    """Counts the cells that a text takes in a terminal."""
    try:
        # Part of the extra `cli`; its table is of a newer Unicode.
        from rich.cells import cell_len
    except ImportError:
        return _cells
    return cell_len


def _cells(text: str) -> int:
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def fields(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Lines of names and values in two columns, the values broken to fit the terminal; nothing unprintable."""
    cells = _measure()
    shown = [(clean(name), clean(value, _LONGEST_VALUE)) for name, value in pairs]
    margin = min(max((cells(name) for name, _ in shown), default=0) + 2, 16)
    for name, value in shown:
        head = name + " " * max(2, margin - cells(name))
        yield "\n".join(filled(value or "-", width(), head, " " * margin))


def clean(text: str, longest: int = _LONGEST) -> str:
    """`text`, up to `longest` characters of it, as one line that does nothing to a terminal.

    It has no control characters, no marks that turn the direction, and nothing of unknown width.
    """
    shown: list[str] = []
    for character in text[:longest]:
        kind = unicodedata.category(character)
        if kind in ("Cc", "Zl", "Zp", "Zs"):
            shown.append(" ")
        elif kind in ("Cs", "Co", "Cn"):
            shown.append("�")
        # Joiners and selectors make one picture of several, which terminals disagree on how wide it is.
        elif kind != "Cf" and not "\ufe00" <= character <= "\ufe0f":
            shown.append(character)
    return " ".join("".join(shown).split())


def clock(seconds: float) -> str:
    """A time in a track: 0:07, 12:34, 1:00:00; the second that has begun."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def cover_words(cover: Cover) -> list[str]:
    """A picture in words: its type, its measures if they are known, its size."""
    size = [] if not cover.width or not cover.height else [f"{cover.width}×{cover.height}"]
    return [clean(cover.mime), *size, amount(cover.size)]
