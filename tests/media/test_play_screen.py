"""The player's screen: on a terminal, in a log, and for readers who do not read."""

from __future__ import annotations

import fcntl
import io
import os
import struct
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from picture_kit import PLAYING, TRACKS, drawn, playing
from terminal_kit import Terminal

from kithara_actors.command.player import screen as screens
from kithara_actors.command.player.picture import opening
from kithara_actors.command.player.screen import Screen, make_screen
from kithara_actors.command.player.tracks import Playing, Track


class Ticks:
    """A screen whose thread is not started: the test is the thread."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.shown: Playing | None = None
        screen.watch(lambda: self.shown, lambda: True)

    def look(self, shown: Playing | None) -> None:
        self.shown = shown
        self.screen._tell(wait=False)
        self.screen._look(shown)


class Pty:
    """A terminal as standard error, and what it shows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
        self._master, slave = os.openpty()
        os.set_blocking(self._master, False)
        self._file = os.fdopen(slave, "w", encoding="utf-8")
        self.terminal = Terminal(columns)
        self.sent = ""
        self._monkeypatch = monkeypatch
        self.resize(columns)

    def screen(self, terminal: str = "xterm-256color") -> Screen:
        """What `make_screen` makes of it."""
        # Not in the fixture: pytest puts its own standard error in place after that.
        self._monkeypatch.setattr("sys.stderr", self._file)
        self._monkeypatch.setenv("TERM", terminal)
        return make_screen(TRACKS, quiet=False)

    def resize(self, columns: int, rows: int = 24) -> None:
        fcntl.ioctl(self._file.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.terminal.resize(columns)

    def rows(self) -> list[str]:
        try:
            while data := os.read(self._master, 65536):
                text = data.decode().replace("\r\n", "\n")
                self.sent += text
                self.terminal.feed(text)
        except BlockingIOError:
            pass
        return [row.rstrip() for row in self.terminal.rows]

    def close(self) -> None:
        self._file.close()
        os.close(self._master)


@pytest.fixture
def pty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pty]:
    made = Pty(monkeypatch, 80)
    yield made
    made.close()


def test_display_follows_the_track_and_the_width(pty: Pty) -> None:
    ticks = Ticks(pty.screen())
    for width in (80, 60, 20, 38, 200, 21, 80):
        pty.resize(width)
        ticks.look(PLAYING)
        assert pty.rows() == drawn(PLAYING, width), width
        assert not pty.terminal.wrapped
    assert not pty.terminal.cursor_shown
    ticks.screen.hide()
    assert pty.rows() == []
    assert pty.terminal.cursor_shown


def test_line_that_stays_fits_the_terminal(pty: Pty) -> None:
    ticks = Ticks(pty.screen())
    pty.resize(60)
    shown = playing(album="long " * 100)
    ticks.look(shown)
    ticks.screen.ended(shown)
    ticks.look(shown)
    rows = pty.rows()
    assert rows[0].startswith("2/5 Sweep – Tester – long ")
    assert rows[0].endswith("… 0:12 of 1:00")
    assert rows[1:] == drawn(shown, 60)
    assert not pty.terminal.wrapped


def test_display_shows_changes_only(pty: Pty) -> None:
    ticks = Ticks(pty.screen())
    ticks.look(PLAYING)
    pty.rows()
    pty.sent = ""
    ticks.look(playing(position=12.5))
    pty.rows()
    assert pty.sent == ""
    ticks.look(playing(position=13.5))
    assert pty.rows() == drawn(playing(position=13.5), 80)


def test_speed_can_be_read(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [50.0]
    monkeypatch.setattr(screens, "monotonic", lambda: now[0])
    ticks = Ticks(pty.screen())
    shown = []
    for seconds, speed in ((0.0, 250_000.0), (0.9, 260_000.0), (0.2, 270_000.0), (0.1, None), (0.1, 280_000.0)):
        now[0] += seconds
        ticks.look(playing(speed=speed))
        shown.append(next((part for part in pty.rows()[2].split(", ") if "/s" in part and "kB" in part), None))
    assert shown == ["250.0 kB/s", "250.0 kB/s", "270.0 kB/s", None, "280.0 kB/s"]


def test_lines_stay_above_the_display(pty: Pty) -> None:
    ticks = Ticks(pty.screen())
    ticks.look(PLAYING)
    ticks.screen.ended(playing(position=60.0))
    ticks.screen.failed(Track("/x", "\x1b[2Jx.mp3"), "is not audio\n; check it " + "z" * 100)
    ticks.look(playing(index=2))
    rows = pty.rows()
    assert rows[0] == "2/5 Sweep – Tester – Recordings 1:00"
    assert "".join(rows[1:3]) == "kithara: [2Jx.mp3: is not audio ; check it " + "z" * 100
    assert rows[3:] == drawn(playing(index=2), 80)
    ticks.screen.hide()
    assert pty.rows() == rows[:3]


def test_display_leaves_a_low_terminal_in_peace(pty: Pty) -> None:
    pty.resize(80, rows=3)
    ticks = Ticks(pty.screen())
    ticks.look(PLAYING)
    assert pty.rows() == drawn(PLAYING, 80)[:2]


def test_terminal_that_shows_ctrl_c_keeps_room_for_it(pty: Pty) -> None:
    ticks = Ticks(pty.screen())
    ticks.screen.watch(lambda: PLAYING, lambda: False)
    ticks.look(PLAYING)
    assert max(map(len, pty.rows())) <= 77


def test_no_colour_where_it_is_not_wanted(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = Ticks(pty.screen())
    ticks.look(PLAYING)
    pty.rows()
    assert "\x1b[1;36m" in pty.sent
    ticks.screen.hide()
    pty.rows()
    pty.sent = ""
    monkeypatch.setenv("NO_COLOR", "1")
    ticks = Ticks(pty.screen())
    ticks.look(PLAYING)
    pty.rows()
    assert "36m" not in pty.sent
    ticks.screen.hide()


def test_track_that_is_left_in_the_middle_leaves_a_line(pty: Pty) -> None:
    with pty.screen().watch(lambda: playing(index=0), lambda: True) as screen:
        screen.started(playing(index=0))
        screen.ended(playing(index=0))
        screen.started(playing(index=1, position=2.0))
    assert pty.rows() == [
        "1/5 Sweep – Tester – Recordings 0:12 of 1:00",
        "2/5 Sweep – Tester – Recordings 0:02 of 1:00",
    ]
    assert pty.terminal.cursor_shown


def test_terminal_that_takes_nothing_is_not_waited_for(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screens, "_writable", lambda within=0.0: False)
    screen = pty.screen().watch(lambda: PLAYING, lambda: True)
    with screen:
        screen.failed(TRACKS[0], "why")
    assert pty.rows() == []


@pytest.mark.parametrize("terminal", ["dumb", ""])
def test_terminal_that_can_do_nothing_gets_lines(pty: Pty, terminal: str) -> None:
    ticks = Ticks(pty.screen(terminal))
    ticks.screen.started(PLAYING)
    ticks.look(PLAYING)
    assert pty.rows() == [opening(PLAYING)]
    assert "\x1b" not in pty.sent


class Log:
    """A file as standard error, and a clock that stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file = io.StringIO()
        self.now = 100.0
        monkeypatch.setattr("sys.stderr", self._file)
        monkeypatch.setattr(screens, "monotonic", lambda: self.now)

    @property
    def lines(self) -> list[str]:
        return self._file.getvalue().splitlines()


def test_log_waits_a_moment_for_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(monkeypatch)
    screen = make_screen(TRACKS, quiet=False)
    ticks = Ticks(screen)
    untitled = playing(title=None, position=0.0)
    screen.started(untitled)
    ticks.look(untitled)
    assert log.lines == []
    log.now += 0.9
    ticks.look(PLAYING)
    assert log.lines == [opening(PLAYING)]
    ticks.look(PLAYING)
    log.now += 9.0
    ticks.look(PLAYING)
    assert len(log.lines) == 1
    log.now += 0.2
    ticks.look(PLAYING)
    assert log.lines[1:] == ["2/5 playing 0:12 / 1:00, 250.0 kB/s"]
    screen.ended(PLAYING)
    screen.started(untitled)
    screen.failed(TRACKS[2], "why; what to do")
    screen.ended(untitled)
    ticks.look(None)
    assert log.lines[2:] == [f"kithara: {TRACKS[2].shown}: why; what to do", opening(untitled)]


def test_log_of_a_file_without_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(monkeypatch)
    ticks = Ticks(make_screen(TRACKS, quiet=False))
    untitled = playing(title=None)
    ticks.screen.started(untitled)
    ticks.look(untitled)
    assert log.lines == []
    log.now += 1.0
    ticks.look(untitled)
    assert log.lines == [opening(untitled)]


def test_quiet_says_failures_only(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(monkeypatch)
    with make_screen(TRACKS, quiet=True).watch(lambda: PLAYING, lambda: True) as screen:
        screen.started(PLAYING)
        screen.ended(PLAYING)
        screen.failed(TRACKS[0], "why; what to do")
    assert log.lines == [f"kithara: {TRACKS[0].shown}: why; what to do"]


def test_reader_that_goes_away_stops_the_screen_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    looked = threading.Event()

    def now() -> Playing:
        looked.set()
        return PLAYING

    with os.fdopen(writing, "w", buffering=1) as pipe:
        monkeypatch.setattr("sys.stderr", pipe)
        os.close(reading)
        with make_screen(TRACKS, quiet=False).watch(now, lambda: False) as screen:
            screen.started(PLAYING)
            assert looked.wait(30)
        assert isinstance(screen.error, BrokenPipeError)
        with pytest.raises(BrokenPipeError):
            pipe.flush()
        # The interpreter's last flush goes nowhere, as it does in the command.
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), pipe.fileno())
