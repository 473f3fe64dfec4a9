"""Lines for people and for scripts, and figures as people read them."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import TextIO

__all__ = ["amount", "duration", "fields", "width", "wrapped", "write_error_line", "write_json", "write_line"]


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
        output.write(text + "\n")
        output.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None


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
    return textwrap.fill(text, width())


def fields(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Lines of names and values in two columns, the values broken to fit the terminal; nothing unprintable."""
    shown = [(_printable(name), _printable(value)) for name, value in pairs]
    margin = min(max((len(name) for name, _ in shown), default=0) + 2, 16)
    for name, value in shown:
        yield textwrap.fill(
            value or "-", width(), initial_indent=f"{name:<{margin - 2}}  ", subsequent_indent=" " * margin
        )


def _printable(text: str) -> str:
    """What comes from files and servers may hold anything, codes that steer a terminal too."""
    return "".join(character if character.isprintable() else " " for character in text)
