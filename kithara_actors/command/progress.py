"""How a download is watched: a bar, lines of text, JSON lines, or nothing."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from actors.clock import Clock, monotonic
from kithara_actors.command.text import amount, clean, duration, write_error_line, write_json

__all__ = ["Meter", "Reporter", "Shown", "make_reporter"]

_TICK = 0.1
_LINE_EVERY = 1.0
_JSON_EVERY = 0.5
_MEMORY = 5.0
"""Seconds over which the present speed is taken."""


class Reporter:
    """Shows nothing; the others show progress. `update` comes from another thread than the rest."""

    vital = False
    """Whether the work is pointless once nobody can see the progress."""

    def start(self) -> None:
        """The download has begun."""

    def update(self, done: int, total: int | None) -> None:
        """`done` bytes of `total` are there; called ten times a second between `start` and `stop`."""

    def stop(self, done: int, total: int | None) -> None:
        """No more updates; these are the last figures."""


def make_reporter(name: str, *, json_lines: bool, quiet: bool) -> Reporter:
    """What suits the options and the terminal: the bar needs one, and rich (extra `cli`)."""
    if json_lines:
        return _JsonLines()
    if quiet or sys.stderr is None:
        return Reporter()
    if sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown"):
        try:
            import rich.progress  # noqa: F401
        except ImportError:
            pass
        else:
            return _Bar(name)
    return _Lines()


class Meter:
    """The speed of the last seconds, and the time that is left at it."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def add(self, now: float, done: int) -> None:
        """`done` bytes are there at `now`, in seconds of a clock that never goes back."""
        self._points.append((now, done))
        while len(self._points) > 2 and self._points[0][0] < now - _MEMORY:
            self._points.popleft()

    @property
    def speed(self) -> float | None:
        """Bytes per second, None before there are two figures."""
        if len(self._points) < 2:
            return None
        (start, first), (end, last) = self._points[0], self._points[-1]
        return (last - first) / (end - start) if end > start else None

    def left(self, total: int | None) -> float | None:
        """Seconds to go, None where nobody can tell."""
        speed = self.speed
        return (total - self._points[-1][1]) / speed if total is not None and speed else None


class Shown:
    """Keeps a reporter informed of `figures`, ten times a second, for the length of a with statement.

    When the reporter can write no more, `on_error` is called, once, on the thread that found out, and the
    OSError stays in `error`.
    """

    def __init__(
        self, reporter: Reporter, figures: Callable[[], tuple[int, int | None]], on_error: Callable[[], object]
    ) -> None:
        self.error: OSError | None = None
        self._reporter = reporter
        self._figures = figures
        self._on_error = on_error
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kithara-progress", daemon=True)

    def __enter__(self) -> Self:
        self._reporter.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._reporter.stop(*self._figures())

    def _run(self) -> None:
        while not self._done.wait(_TICK):
            try:
                self._reporter.update(*self._figures())
            except OSError as error:
                self.error = error
                self._on_error()
                return


class _Paced(Reporter):
    """Says something every so often."""

    every: float

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._meter = Meter()

    def start(self) -> None:
        self._start = self._clock()
        self._next = self._start + self.every
        self._meter.add(self._start, 0)

    def update(self, done: int, total: int | None) -> None:
        now = self._clock()
        self._meter.add(now, done)
        if now >= self._next:
            self._next = now + self.every
            self.say(done, total, now - self._start)

    def say(self, done: int, total: int | None, seconds: float) -> None:
        raise NotImplementedError


class _Lines(_Paced):
    """A line a second, so that a log stays readable."""

    every = _LINE_EVERY

    def say(self, done: int, total: int | None, seconds: float) -> None:  # noqa: ARG002
        share = f" of {amount(total)} ({done * 100 // total} %)" if total else ""
        speed, left = self._meter.speed, self._meter.left(total)
        pace = "" if speed is None else f", {amount(speed)}/s"
        rest = "" if left is None else f", {duration(left)} left"
        write_error_line(f"{amount(done)}{share}{pace}{rest}")


class _JsonLines(_Paced):
    vital = True
    every = _JSON_EVERY

    def say(self, done: int, total: int | None, seconds: float) -> None:
        speed = self._meter.speed
        write_json(
            {
                "event": "progress",
                "bytes": done,
                "total": total,
                "seconds": round(seconds, 3),
                "bytes_per_second": None if speed is None else round(speed),
            }
        )


class _Bar(Reporter):
    """One line that follows the width of the terminal and is gone at the end; no colour where NO_COLOR is set."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._console = Console(stderr=True)
        self._name = clean(name).replace("{", "{{").replace("}", "}}")
        self._room = 0
        self._progress = Progress(console=self._console, auto_refresh=False, expand=True, transient=True)
        self._fit()
        self._task = self._progress.add_task("", total=None)

    def start(self) -> None:
        self._progress.start()

    def _fit(self) -> None:
        # Room for the ^C that a terminal shows: it would break a full line, and half a bar would stay behind.
        try:
            # Of the terminal that the bar is drawn on: the standard output may lead elsewhere.
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        except (OSError, ValueError):
            columns = 80
        room = max(10, columns - 3)
        if room != self._room:
            self._room = self._console.width = room
            self._progress.columns = _columns(room, self._name)

    def update(self, done: int, total: int | None) -> None:
        self._fit()
        self._progress.update(self._task, completed=done, total=total, refresh=True)

    def stop(self, done: int, total: int | None) -> None:
        try:
            self.update(done, total)
        finally:
            self._progress.stop()


def _columns(room: int, name: str) -> tuple[Any, ...]:
    """The bar, and as many figures beside it as `room` cells hold, the most telling first; none is ever broken.

    `name` is a format of its own text.
    """
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.table import Column

    def whole() -> Column:
        return Column(no_wrap=True, overflow="crop")

    columns: list[Any] = [BarColumn(bar_width=None), TaskProgressColumn(table_column=whole())]
    if room >= 28:
        columns.append(DownloadColumn(table_column=whole()))
    if room >= 40:
        columns.append(TransferSpeedColumn(table_column=whole()))
    if room >= 58:
        columns.append(TimeRemainingColumn(compact=True, table_column=whole()))
    if room >= 47:
        cut = Column(no_wrap=True, overflow="ellipsis", max_width=max(8, min(24, room - 53)))
        columns.insert(0, TextColumn(name, markup=False, table_column=cut))
    return tuple(columns)
