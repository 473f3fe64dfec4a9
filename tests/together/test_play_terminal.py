"""`kithara play` in a terminal: every key, and a terminal that is its user's again whatever happens."""

from __future__ import annotations

import signal
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from play_kit import COMMAND, TerminalSession
from recordings import Recordings

from kithara_actors.testing.origin import Origin, Resource

pytestmark = pytest.mark.long

PLAY = [*COMMAND, "play", "--backend", "null"]
SHOWN = r"q quit"
LENGTH = r" / 0:34"


@pytest.fixture
def song(recordings: Recordings) -> Iterator[str]:
    """34 s of MP3, from a server that sends it in 7 s."""
    with Origin() as origin:
        yield origin.add("/sweep.mp3", Resource(data=recordings.path("mp3").read_bytes(), rate=200_000))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "here"
    inside.mkdir()
    return inside


def left_as_it_was(session: TerminalSession, folder: Path) -> None:
    assert session.attributes == session.before
    assert session.raw.rfind("\x1b[?25h") > session.raw.rfind("\x1b[?25l"), "the cursor is hidden"
    assert list((folder.parent / "temporary").iterdir()) == []


def seconds_after(session: TerminalSession, second: int) -> int:
    """Wait until a later one than this is shown; which it is."""
    while (shown := int(session.until(r"playing +0:\d\d" + LENGTH).rpartition(LENGTH)[0][-2:])) <= second:
        pass
    return shown


def test_display_and_quitting(song: str, folder: Path) -> None:
    with TerminalSession([*PLAY, song], folder) as session:
        text = session.until(r"playing +0:0[1-9]" + LENGTH)
        assert "Sweep – kithara – Recordings" in text
        assert "Mp3, " in text
        assert "kB/s" in text
        assert session.keys_come_singly
        session.press(b"q")
        assert session.wait() == 0
        assert session.written.splitlines()[-1].startswith("1/1 Sweep – kithara – Recordings 0:0")
        left_as_it_was(session, folder)


def test_every_key(song: str, folder: Path, recordings: Recordings) -> None:
    with TerminalSession([*PLAY, song, str(recordings.path("flac")), str(recordings.path("wav"))], folder) as session:
        session.until(r"1/3  playing +0:0\d / 0:34[\s\S]*" + SHOWN)
        session.press(b" ")
        session.until(r"1/3  paused")
        session.press(b" ")
        session.until(r"1/3  playing")
        session.press(b"\x1b[C")
        session.until(r"1/3  \w+ +0:1\d")
        session.press(b"\x1bOC")
        session.until(r"1/3  \w+ +0:2\d")
        session.press(b"\x1b[D")
        session.until(r"1/3  \w+ +0:1\d")
        session.press(b"\x1b[B")
        session.until(r"1/3  \w+ +0:0\d")
        session.press(b"\x1b[A")  # past the end
        session.until(r"2/3  playing")
        session.press(b"p")
        session.until(r"1/3  playing")
        session.press(b"n")
        session.until(r"2/3  playing")
        session.press(b"n")
        session.until(r"3/3  playing")
        session.press(b"x\x1b[15~Q")
        assert session.wait() == 0
        assert any(line.startswith("3/3 sweep.wav 0:02") for line in session.written.splitlines())
        left_as_it_was(session, folder)


def test_escape_alone_is_no_arrow(song: str, folder: Path) -> None:
    with TerminalSession([*PLAY, song], folder) as session:
        session.until(r"playing +0:0\d" + LENGTH + r"[\s\S]*" + SHOWN)
        session.press(b"\x1b")
        at = seconds_after(session, -1)
        at = seconds_after(session, at + 1)
        session.press(b"[A")  # would be past the end
        seconds_after(session, at)
        session.press(b"q")
        assert session.wait() == 0


@pytest.mark.parametrize(("data", "status"), [(b"\x03", 130), (None, 143)], ids=["ctrl-c", "sigterm"])
def test_stopped_from_outside(song: str, folder: Path, data: bytes | None, status: int) -> None:
    with TerminalSession([*PLAY, song], folder) as session:
        session.until(r"playing[\s\S]*" + SHOWN)
        assert session.keys_come_singly
        if data is None:
            session.signal(signal.SIGTERM)
        else:
            session.press(data)
        assert session.wait() == status
        assert "kithara:" not in session.written
        left_as_it_was(session, folder)


def test_ctrl_backslash_ends_it_at_once_and_leaves_the_terminal(song: str, folder: Path) -> None:
    with TerminalSession(["prlimit", "--core=0", *PLAY, song], folder) as session:
        session.until(r"playing[\s\S]*" + SHOWN)
        session.press(b"\x1c")
        assert session.wait() == -signal.SIGQUIT
        assert session.attributes == session.before
        assert session.raw.rfind("\x1b[?25h") > session.raw.rfind("\x1b[?25l")


def test_failure_leaves_the_terminal(song: str, folder: Path) -> None:
    with TerminalSession([*COMMAND, "play", "-o", "/dev/full", song], folder) as session:
        assert session.wait() == 1
        assert session.written.splitlines()[-1].startswith("kithara: no room for /dev/full")
        left_as_it_was(session, folder)


def test_ctrl_z_and_on_again(song: str, folder: Path) -> None:
    with TerminalSession([*PLAY, song], folder, shell="fg") as session:
        session.until(r"playing[\s\S]*" + SHOWN)
        session.press(b"\x1a")
        session.until(r"\[stopped\]")
        assert session.attributes == session.before
        assert session.raw.rfind("\x1b[?25h") > session.raw.rfind("\x1b[?25l")
        session.press(b"fg\n")
        session.until(r"\[fg\][\s\S]*" + SHOWN)
        assert session.keys_come_singly
        session.press(b" ")
        session.until(r"paused")
        session.press(b"q")
        assert session.wait() == 0
        left_as_it_was(session, folder)


def test_ctrl_z_and_on_behind(recordings: Recordings, folder: Path) -> None:
    with TerminalSession([*PLAY, str(recordings.path("wav"))], folder, shell="fg") as session:
        session.until(r"playing[\s\S]*" + SHOWN)
        session.press(b"\x1a")
        session.until(r"\[stopped\]")
        session.press(b"bg\n")
        session.until(r"\[bg\]")
        session.press(b"end\n")
        assert session.wait() == 0
        assert "stopped behind" not in session.written
        assert session.attributes == session.before


def test_behind_from_the_start_nothing_of_the_terminal_is_touched(recordings: Recordings, folder: Path) -> None:
    def stop_writers_behind(terminal: int) -> None:
        attributes = termios.tcgetattr(terminal)
        attributes[3] |= termios.TOSTOP
        termios.tcsetattr(terminal, termios.TCSANOW, attributes)

    command = [*PLAY, str(recordings.path("wav"))]
    with TerminalSession(command, folder, shell="bg", adapt=stop_writers_behind) as session:
        session.press(b"end\n")
        session.until(r"1/1 sweep.wav")
        assert session.wait() == 0
        assert "stopped behind" not in session.written
        assert "\x1b" not in session.raw
        assert session.attributes == session.before


def test_after_sigstop_the_terminal_is_taken_again(song: str, folder: Path) -> None:
    with TerminalSession([*PLAY, song], folder) as session:
        session.until(r"playing[\s\S]*" + SHOWN)
        session.signal(signal.SIGSTOP)
        session.until_stopped()
        session.set_back()  # as a shell does
        session.signal(signal.SIGCONT)
        session.until(r"playing[\s\S]*" + SHOWN)
        session.press(b" ")
        session.until(r"paused")
        assert session.keys_come_singly
        session.press(b"q")
        assert session.wait() == 0
        left_as_it_was(session, folder)


def test_terminal_stopped_by_ctrl_s_does_not_keep_it_from_ending(song: str, folder: Path) -> None:
    with TerminalSession([*PLAY, song], folder) as session:
        session.until(r"playing[\s\S]*" + SHOWN)
        session.press(b"\x13")
        session.press(b"q")
        assert session.wait() == 0
        assert session.attributes == session.before


def test_keys_come_from_the_terminal_where_the_input_does_not(song: str, folder: Path) -> None:
    with TerminalSession(["sh", "-c", 'exec "$@" < /dev/null', "sh", *PLAY, song], folder) as session:
        session.until(r"playing[\s\S]*" + SHOWN)
        session.press(b"q")
        assert session.wait() == 0
        left_as_it_was(session, folder)


def test_sound_on_its_way_to_another_program_leaves_the_keys_to_that(song: str, folder: Path) -> None:
    with (
        (folder / "sound").open("wb") as sound,
        TerminalSession([*COMMAND, "play", "-o", "-", song], folder, stdout=sound.fileno()) as session,
    ):
        session.until(r"1/1  (playing|buffering)")
        assert session.attributes == session.before
        assert "quit" not in session.written
        session.press(b"\x03")
        assert session.wait() == 130
        left_as_it_was(session, folder)


def test_sound_is_not_written_to_the_terminal(song: str, folder: Path) -> None:
    with TerminalSession([*COMMAND, "play", "-o", "-", song], folder) as session:
        assert session.wait() == 2
        assert "would write sound to the terminal" in session.written


def test_narrow_terminal(song: str, folder: Path) -> None:
    with TerminalSession([*PLAY, song], folder, columns=20) as session:
        session.until(r"playing  0:0[1-9] / 0:34")
        session.resize(60)
        session.until(r"1/1  playing +0:0\d / 0:34  ")
        session.press(b"q")
        assert session.wait() == 0
