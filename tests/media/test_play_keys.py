"""Keys of the player: what the bytes of a terminal mean, however they come."""

from __future__ import annotations

import itertools
import os
import termios
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.command.player import keys
from kithara_actors.command.player.keys import Key, Keyboard, KeyDecoder, in_foreground

MEANT = {
    b" ": Key.PAUSE,
    b"n": Key.NEXT,
    b"p": Key.PREVIOUS,
    b"q": Key.QUIT,
    b"\x1b[A": Key.FAR_FORWARD,
    b"\x1b[B": Key.FAR_BACK,
    b"\x1b[C": Key.FORWARD,
    b"\x1b[D": Key.BACK,
    b"\x1bOA": Key.FAR_FORWARD,
    b"\x1bOB": Key.FAR_BACK,
    b"\x1bOC": Key.FORWARD,
    b"\x1bOD": Key.BACK,
}
UNKNOWN = [
    b"x",
    b"A",
    b"[",
    b"Q",
    b"\r",
    b"\x00",
    "ß".encode(),
    "日".encode(),
    b"\x1bn",  # Alt and a letter
    b"\x1bq",
    b"\x1b ",
    b"\x1b[1;5C",  # Ctrl and right
    b"\x1b[1;2A",
    b"\x1b[3~",  # delete
    b"\x1b[15~",  # F5
    b"\x1bOP",  # F1
    b"\x1b[[A",  # F1 of the Linux console
    b"\x1b[200~",
    b"\x1b[?1;2c",  # an answer of the terminal
    b"\x1b\x1b[Z",
]


def decoded(pieces: list[bytes]) -> list[Key]:
    decoder = KeyDecoder()
    return [key for piece in pieces for key in decoder.feed(piece)]


@pytest.mark.parametrize(("data", "key"), MEANT.items(), ids=repr)
def test_key(data: bytes, key: Key) -> None:
    assert decoded([data]) == [key]


@pytest.mark.parametrize("data", UNKNOWN, ids=repr)
def test_unknown_key_gives_nothing_and_spoils_nothing(data: bytes) -> None:
    assert decoded([data, b" "]) == [Key.PAUSE]


def test_every_key_has_bytes() -> None:
    assert set(MEANT.values()) == set(Key)


@given(
    st.lists(st.sampled_from([*MEANT, *UNKNOWN]), max_size=20).flatmap(
        lambda typed: st.tuples(
            st.just(typed), st.lists(st.integers(0, sum(map(len, typed))), max_size=20, unique=True).map(sorted)
        )
    )
)
def test_how_the_bytes_are_cut_does_not_matter(case: tuple[list[bytes], list[int]]) -> None:
    typed, cuts = case
    data = b"".join(typed)
    ends = [0, *cuts, len(data)]
    whole = [MEANT[each] for each in typed if each in MEANT]
    assert decoded([data]) == whole
    assert decoded([data[start:end] for start, end in itertools.pairwise(ends)]) == whole
    assert decoded([data[at : at + 1] for at in range(len(data))]) == whole


@given(st.binary(max_size=200))
def test_any_bytes_leave_a_decoder_that_works(data: bytes) -> None:
    decoder = KeyDecoder()
    decoder.feed(data)
    decoder.pause()
    assert not decoder.pending
    assert decoder.feed(b"q") == [Key.QUIT]


def test_escape_alone_begins_no_arrow() -> None:
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b") == []
    assert decoder.pending
    decoder.pause()
    assert decoder.feed(b"[A") == []
    assert decoder.feed(b"OCq") == [Key.QUIT]


def test_escape_before_an_arrow_is_not_lost_with_it() -> None:
    assert decoded([b"\x1b\x1b[C"]) == [Key.FORWARD]


# --- The keyboard where there is no terminal, or one that belongs to others


def test_without_a_terminal_there_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        monkeypatch.setattr("sys.stderr", nothing)
        with Keyboard(lambda key: None) as keyboard:
            assert not keyboard.active
            assert all(thread.name != "kithara-keys" for thread in threading.enumerate())


@pytest.mark.parametrize("closed", [True, False])
def test_closed_standard_input(monkeypatch: pytest.MonkeyPatch, closed: bool) -> None:
    with Path(os.devnull).open() as nothing:
        pass
    monkeypatch.setattr("sys.stdin", nothing if closed else None)
    monkeypatch.setattr("sys.stderr", None)
    with Keyboard(lambda key: None) as keyboard:
        assert not keyboard.active


def test_terminal_that_does_not_control_the_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    looked = threading.Event()

    def look(terminal: int) -> bool:
        looked.set()
        return in_foreground(terminal)

    monkeypatch.setattr(keys, "in_foreground", look)
    got: list[Key] = []
    before: list[Any] = termios.tcgetattr(slave)
    with os.fdopen(slave) as terminal, os.fdopen(master, "wb", buffering=0) as keyboard_end:
        monkeypatch.setattr("sys.stdin", terminal)
        with Keyboard(got.append) as keyboard:
            keyboard_end.write(b"q\n")
            assert looked.wait(30)
            assert not keyboard.active
            assert termios.tcgetattr(slave) == before
        assert termios.tcgetattr(slave) == before
    assert got == []
