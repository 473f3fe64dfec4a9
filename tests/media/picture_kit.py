"""A track as the player's screen sees it, and its display checked line by line."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group

from kithara_actors.command.player.picture import draw
from kithara_actors.command.player.tracks import Playing, Track
from kithara_actors.values import Cover

__all__ = ["PLAYING", "TRACKS", "drawn", "playing"]

TRACKS = [Track("https://example.org/album/01.mp3", "https://example.org/album/01.mp3")] * 5
PLAYING = Playing(
    index=1,
    count=5,
    track=TRACKS[1],
    title="Sweep",
    artist="Tester",
    album="Recordings",
    cover=Cover("image/jpeg", 45_200, 600, 600),
    codec="Mp3",
    container="MpegAudio",
    sample_rate=44_100,
    channels=2,
    bitrate=192_000,
    position=12.4,
    duration=60.0,
    downloaded=600_000,
    length=1_200_000,
    speed=250_000.0,
    paused=False,
    waiting=False,
)


def playing(**changes: Any) -> Playing:
    return dataclasses.replace(PLAYING, **changes)


def drawn(shown: Playing | None, width: int, *, keys: bool = True, ascii_only: bool = False) -> list[str]:
    """The lines as a terminal of that width gets them, each checked against it."""
    lines = draw(shown, TRACKS, width, keys=keys, ascii_only=ascii_only)
    console = Console(file=io.StringIO(), width=width, height=50, record=True, markup=False)
    console.print(Group(*lines))
    text = console.export_text().splitlines()
    assert [line.plain.rstrip() for line in lines] == [line.rstrip() for line in text], "rich has broken a line"
    for line in text:
        assert cell_len(line) <= width
        assert line.isprintable()
    return [line.rstrip() for line in text]
