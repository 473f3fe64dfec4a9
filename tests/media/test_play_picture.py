"""What the player draws: in terminals of any width, and of files that would like to do more than be shown."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_kit import PLAYING, TRACKS, drawn, playing
from rich.cells import cell_len

from kithara_actors.command.player.picture import ended, opening, progress, state
from kithara_actors.command.player.tracks import Playing, Track
from kithara_actors.command.text import clean, clock
from kithara_actors.values import Cover

HOSTILE = (
    "\x1b[2J\x1b]0;title\x07",
    "one\r\ntwo\tthree\x0b\x85\u2028four",
    "\x9b31mred",
    "\u202egnp.exe",
    "\udce9 half \ud800",
    "日本語" * 100,
    "e" + "\u0301" * 5000,
    "👩‍👩‍👧‍👦🏳️‍🌈" * 20,
    "[bold]markup[/bold] :smile:",
    "a" * 100_000,
    "\x00",
)


# --- The display


def test_all_is_shown_in_80_columns() -> None:
    assert drawn(PLAYING, 80) == [
        "Sweep – Tester – Recordings",
        "2/5  playing    0:12 / 1:00  ━━━━━━━━━━━───────────────·························",
        "Mp3, 192 kbit/s, 44100 Hz, 2 channels, 250.0 kB/s",
        "cover: image/jpeg, 600×600, 45.2 kB",
        "space pause  ←→ 10 s  ↑↓ 60 s  n next  p previous  q quit",
    ]


def test_what_matters_least_goes_first() -> None:
    assert drawn(PLAYING, 40) == [
        "Sweep – Tester – Recordings",
        "2/5  playing  0:12 / 1:00",
        "━━━━━━━━────────────····················",
        "Mp3, 192 kbit/s, 44100 Hz, 2 channels",
        "cover: image/jpeg, 600×600, 45.2 kB",
        "space  ←→↑↓  n p  q",
    ]
    assert drawn(PLAYING, 20) == [
        "Sweep – Tester – Re…",
        "playing  0:12 / 1:00",
        "━━━━──────··········",
        "Mp3, 192 kbit/s",
        "cover: image/jpeg",
        "space  ←→↑↓  n p  q",
    ]


@pytest.mark.parametrize("width", [1, 3, 10, 20, 40, 80, 200])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_tags_stay_in_their_line(width: int, text: str) -> None:
    shown = playing(title=text, artist=text, album=text, codec=text, cover=Cover(text, 10**30, 10**30, 10**30))
    assert 2 <= len(drawn(shown, width)) <= 6
    assert len(drawn(None, width)) <= 3


@given(
    st.builds(
        playing,
        title=st.none() | st.text(),
        artist=st.none() | st.text(),
        codec=st.none() | st.text(max_size=9),
        bitrate=st.none() | st.integers(0, 10**12),
        channels=st.none() | st.integers(0, 255),
        position=st.floats(0, 1e7),
        duration=st.none() | st.floats(),
        downloaded=st.integers(0, 10**13),
        length=st.none() | st.integers(0, 10**13),
        speed=st.none() | st.floats(0, 1e12),
        paused=st.booleans(),
        waiting=st.booleans(),
    ),
    st.integers(20, 200),
    st.booleans(),
)
def test_any_state_fits(shown: Playing, width: int, ascii_only: bool) -> None:
    lines = drawn(shown, width, ascii_only=ascii_only)
    assert 3 <= len(lines) <= 6
    for line in (ended(shown), opening(shown), progress(shown)):
        assert line.isprintable()


def test_bar_needs_something_to_measure() -> None:
    assert not any("━" in line or "·" in line for line in drawn(playing(duration=None, length=None), 80))
    # Of unknown duration: what is there. Of unknown length: what was played.
    assert set("".join(drawn(playing(duration=None), 80)[1].split()[-1:])) == {"─", "·"}
    assert set("".join(drawn(playing(length=None), 80)[1].split()[-1:])) == {"━", "·"}


def test_without_keys_they_are_not_explained() -> None:
    assert not any("quit" in line for line in drawn(PLAYING, 80, keys=False))


def test_terminal_without_unicode() -> None:
    lines = drawn(playing(cover=None), 80, ascii_only=True)
    assert lines[1].isascii()
    assert "#---" in lines[1]
    assert "left/right 10 s  up/down 60 s" in lines[-1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "playing"),
        ({"paused": True, "waiting": True}, "paused"),
        ({"waiting": True}, "buffering"),
        ({"waiting": True, "codec": None, "position": 0.0}, "loading"),
    ],
)
def test_state(changes: dict[str, Any], said: str) -> None:
    assert state(playing(**changes)) == said


# --- Sentences


def test_name_stands_in_for_a_title() -> None:
    shown = playing(title=None, artist="Tester", album=None)
    assert ended(shown) == f"2/5 {TRACKS[0].shown} – Tester 0:12 of 1:00"
    assert ended(dataclasses.replace(shown, track=Track("/a", "a", title="From the list"))).startswith(
        "2/5 From the list – Tester"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"position": 59.6}, "1:00"),
        ({"position": 60.4}, "1:00"),
        ({"position": 12.0}, "0:12 of 1:00"),
        ({"duration": None}, "0:12"),
        ({"duration": float("inf")}, "0:12"),
        ({"duration": float("nan")}, "0:12"),
        ({"duration": 3725.0, "position": 3724.9}, "1:02:05"),
    ],
)
def test_line_that_is_left(changes: dict[str, Any], said: str) -> None:
    assert ended(playing(**changes)) == f"2/5 Sweep – Tester – Recordings {said}"


def test_line_that_is_left_is_cut_to_the_width() -> None:
    shown = playing(title="Sweep", artist="Tester", album="long " * 100)
    assert ended(shown, 40) == "2/5 Sweep – Tester – long … 0:12 of 1:00"
    assert ended(PLAYING, 80) == ended(PLAYING)
    for width in range(1, 100):
        assert cell_len(ended(playing(title="日本語" * 100), width)) <= max(width, len("2/5 0:12 of 1:00"))


def test_end_of_a_long_address_is_shown() -> None:
    track = Track(f"https://example.org/{'folder/' * 20}01.mp3", f"https://example.org/{'folder/' * 20}01.mp3")
    nameless = playing(title=None, artist=None, album=None, track=track)
    assert drawn(nameless, 40)[0] == "…" + track.shown[-39:]
    assert drawn(nameless, 40, ascii_only=True)[0] == "..." + track.shown[-37:]
    assert drawn(dataclasses.replace(nameless, artist="Tester"), 40)[0] == "…" + track.shown[-30:] + " – Tester"
    assert drawn(dataclasses.replace(nameless, title="t" * 90), 40)[0] == "t" * 39 + "…"


def test_sentence_that_opens_a_track() -> None:
    assert opening(PLAYING) == "2/5 Sweep – Tester – Recordings (Mp3, 44100 Hz, 2 channels, 1:00)"
    assert opening(playing(channels=1, duration=None)).endswith("(Mp3, 44100 Hz, 1 channel)")
    nothing = playing(codec=None, sample_rate=None, channels=None, duration=None)
    assert opening(nothing) == "2/5 Sweep – Tester – Recordings"


def test_clock_and_clean() -> None:
    assert [clock(seconds) for seconds in (0, 7.9, 60, 3599.9, 3600, -1)] == [
        "0:00",
        "0:07",
        "1:00",
        "59:59",
        "1:00:00",
        "0:00",
    ]
    assert clean(" a\x1b[2J\n\tb\u202e\udce9 ") == "a [2J b�"
    assert len(clean("x" * 10**6)) <= 300
