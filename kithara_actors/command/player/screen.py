"""What `kithara play` says while it plays, all of it on standard error: a display, lines of a log, or failures only."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from actors.clock import monotonic
from kithara_actors.command.player.picture import draw, ended, opening, progress
from kithara_actors.command.player.tracks import Playing, Track
from kithara_actors.command.text import clean

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

__all__ = ["Screen", "make_screen"]

_TICK: Final = 0.1
_LINE_EVERY: Final = 10.0
_SPEED_EVERY: Final = 1.0
_PATIENCE: Final = 1.0
_LONGEST_FAILURE: Final = 4000
"""Characters: a line about a failure holds names and addresses."""
_TAGS_WITHIN: Final = 1.0
"""Seconds that the line about a new track waits for tags: they may come after the first sound, or never."""


class Screen:
    """Says which tracks failed and nothing else; the others say more.

    A thread looks at what plays ten times a second for the length of a with statement and does all the writing. When
    standard error cannot be written any more it stops: that is no reason to stop the music. `started`, `ended` and
    `failed` may be called from any thread and never block.
    """

    def __init__(self, tracks: Sequence[Track]) -> None:
        self._tracks = tracks
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._now: Callable[[], Playing | None] = lambda: None
        self._keys: Callable[[], bool] = lambda: False
        # What happened, and has yet to be told, in order: how to tell it, and what sounds after it.
        self._happened: deque[tuple[Callable[[], None], Playing | None]] = deque()
        self._sounding: Playing | None = None
        self._seen: Playing | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kithara-screen", daemon=True)
        # Guards the display and standard error. The main thread takes it where it ends the screen, and in signal
        # handlers that are caught only before.
        self._lock = threading.Lock()
        self._hidden = False
        self.error: OSError | None = None
        """Why nothing can be written any more."""

    def watch(self, now: Callable[[], Playing | None], keys: Callable[[], bool]) -> Self:
        """What is looked at: what plays, and whether keys are read. Neither may block. For use before `with`."""
        self._now, self._keys = now, keys
        return self

    def started(self, playing: Playing) -> None:
        """A track begins to sound."""
        self._happened.append((lambda: self._start(playing), playing))

    def ended(self, playing: Playing) -> None:
        """Its sound is over, or was left."""
        self._happened.append((lambda: self._end(playing), None))

    def failed(self, track: Track, text: str) -> None:
        """A track failed; `text` says why and what to do."""
        line = f"kithara: {clean(track.shown)}: {clean(text, _LONGEST_FAILURE)}"
        self._happened.append((lambda: self._say(line), None))

    def hide(self) -> None:
        """Leave the terminal to others until `show`."""
        with self._lock:
            self._hidden = True
            self._clear()

    def show(self) -> None:
        """Go on. Does not block."""
        self._hidden = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()
        with self._lock:
            # A log is waited for until somebody reads it, unless the command was stopped; a terminal that was stopped
            # by Ctrl-S, never.
            wait = kind is None and not self._terminal
            if wait or _writable(_PATIENCE):
                self._clear()
                self._tell(wait=wait)
                if self._sounding is not None:
                    seen = self._seen
                    self._end(seen if seen is not None and seen.index == self._sounding.index else self._sounding)

    def _run(self) -> None:
        # A line written in the background stops the process where the user said `stty tostop`: not for this.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        while not self._ending.wait(_TICK):
            with self._lock:
                if self.error is not None:
                    return
                if not self._hidden:
                    self._tell(wait=False)
                    self._seen = self._now()
                    if _writable():
                        self._look(self._seen)

    def _tell(self, *, wait: bool) -> None:
        while self._happened and (wait or _writable()):
            tell, self._sounding = self._happened.popleft()
            tell()

    def _start(self, playing: Playing) -> None:
        """A track begins."""

    def _look(self, playing: Playing | None) -> None:
        """This is the state now."""

    def _end(self, playing: Playing) -> None:
        """A track is over."""

    def _clear(self) -> None:
        """Remove what is shown besides lines."""

    def _say(self, line: str) -> None:
        """Write a line that stays."""
        self._write(line + "\n")

    def _write(self, text: str) -> None:
        if sys.stderr is None or self.error is not None:
            return
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError as error:
            self.error = error


class _Lines(Screen):
    """A line where a track begins, and one every ten seconds."""

    def __init__(self, tracks: Sequence[Track]) -> None:
        super().__init__(tracks)
        self._begun = monotonic()
        self._next = self._begun + _LINE_EVERY
        self._untold: Playing | None = None

    def _start(self, playing: Playing) -> None:
        self._untold, self._begun = playing, monotonic()

    def _look(self, playing: Playing | None) -> None:
        now = monotonic()
        untold = self._untold
        if untold is not None and playing is not None and playing.index == untold.index:
            self._untold = playing
            if playing.title or now >= self._begun + _TAGS_WITHIN:
                self._open(playing)
        if now >= self._next:
            self._next = now + _LINE_EVERY
            if playing is not None:
                self._say(progress(playing))

    def _end(self, playing: Playing) -> None:
        if self._untold is not None:
            self._open(playing)

    def _open(self, playing: Playing) -> None:
        self._untold = None
        self._say(opening(playing))


class _Display(Screen):
    """A few lines that follow the terminal's width, with rich; a line of what was played stays above them."""

    def __init__(self, tracks: Sequence[Track]) -> None:
        from rich.console import Console

        super().__init__(tracks)
        # Rich writes here, and each picture goes out whole: what is drawn is never half there, and when the terminal
        # is stopped (Ctrl-S) or gone, that is met in one place.
        self._buffer = io.StringIO()
        self._console = Console(
            file=self._buffer, force_terminal=True, force_interactive=True, highlight=False, markup=False, emoji=False
        )
        self._ascii = not (sys.stderr.encoding or "").lower().startswith("utf")
        self._live: Live | None = None
        self._drawn: list[str] = []
        self._cells: list[int] = []
        self._anew = False
        self._speed: float | None = None
        self._speed_until = 0.0

    def _end(self, playing: Playing) -> None:
        # One column less: some terminals go to the next line where the last one is written to.
        columns, _ = _size(sys.stderr.fileno())
        self._say(ended(playing, max(1, columns - 1)))

    def show(self) -> None:
        # The cursor may be anywhere: a shell has had the terminal.
        self._anew = True
        super().show()

    def _look(self, playing: Playing | None) -> None:
        terminal = sys.stderr.fileno()
        if self._anew or _elsewhere(terminal):
            # What another process shows there is not to be drawn over.
            self._anew = False
            self._forget()
        if _elsewhere(terminal):
            return
        columns, rows = _size(terminal)
        if playing is not None:
            playing = self._steady(playing)
        keys = self._keys()
        # Where no keys are read the terminal shows a ^C, which would break a full last line in two.
        width = max(1, columns if keys else columns - 3)
        lines = draw(playing, self._tracks, width, keys=keys, ascii_only=self._ascii)
        picture = lines[: max(1, rows - 1)]
        resized = (columns, rows) != (self._console.width, self._console.height)
        now = [line.markup for line in picture]
        if now == self._drawn and not resized:
            return
        if resized:
            self._clear()
            self._console.width, self._console.height = columns, rows
        self._draw(picture)
        self._drawn = now

    def _steady(self, playing: Playing) -> Playing:
        """With a speed that people can read: it changes once a second."""
        now = monotonic()
        if playing.speed is None or self._speed is None or now >= self._speed_until:
            self._speed, self._speed_until = playing.speed, now + _SPEED_EVERY
        return replace(playing, speed=self._speed)

    def _draw(self, picture: Sequence[Text]) -> None:
        from rich.console import Group
        from rich.live import Live

        if self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
        self._live.update(Group(*picture), refresh=True)
        self._cells = [line.cell_len for line in picture]
        self._send()

    def _say(self, line: str) -> None:
        if self._live is None:
            super()._say(line)
            return
        # Rich puts it above the picture and draws that again below.
        self._console.out(line, highlight=False)
        self._send()

    def _clear(self) -> None:
        if self._live is not None:
            # Not left to rich, which draws once more first, and does not know that a terminal that has become narrower
            # has broken the lines.
            columns, _ = _size(sys.stderr.fileno())
            height = sum(max(1, -(-cells // columns)) for cells in self._cells)
            self._forget()
            self._write("\r" + (f"\x1b[{height - 1}A" if height > 1 else "") + "\x1b[J\x1b[?25h")

    def _forget(self) -> None:
        """Begin anew, without touching what is on the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._drawn = []
            self._taken()

    def _send(self) -> None:
        self._write(self._taken())

    def _taken(self) -> str:
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text


def make_screen(tracks: Sequence[Track], *, quiet: bool) -> Screen:
    """What suits the options and the terminal: the display needs one, and rich (extra `cli`)."""
    if quiet or sys.stderr is None:
        return Screen(tracks)
    if sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown"):
        with contextlib.suppress(ImportError):
            return _Display(tracks)
    return _Lines(tracks)


def _writable(within: float = 0.0) -> bool:
    """Whether standard error takes what is written, now or `within` seconds. A terminal stopped by Ctrl-S does not."""
    try:
        poll = select.poll()
        poll.register(sys.stderr, select.POLLOUT)
        return bool(poll.poll(within * 1000))
    except (OSError, ValueError):
        return True


def _size(terminal: int) -> tuple[int, int]:
    """Columns and rows of the terminal that is drawn on, which need not be that of standard output."""
    try:
        columns, rows = os.get_terminal_size(terminal)
    except OSError:
        columns = rows = 0
    return columns or 80, rows or 24


def _elsewhere(terminal: int) -> bool:
    """Whether another process group has the terminal now. One that does not control this process has no groups."""
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp()
    except OSError:
        return False
