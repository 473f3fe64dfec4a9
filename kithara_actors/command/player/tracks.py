"""What is to be played, and how far it has got."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kithara_actors.command.text import clean
from kithara_actors.values import Cover

__all__ = ["SOUND_SUFFIXES", "Playing", "Track"]

SOUND_SUFFIXES = re.compile(
    r"\.(3gp|aac|ac3|aiff?|alac|ape|au|caf|dsf|flac|m4[abv]|mk[av]|mov|mp[234c]|og[agv]|opus|tta|wave?|web[am]|wm[av]|wv)"
)
"""What names of files with sound end in, in lower case; to be matched in full."""


@dataclass(frozen=True, slots=True)
class Track:
    """One thing to play.

    `source` is what `system.open` takes: an http(s) URL or an absolute path. `shown` is for people: an address without
    userinfo and query values, or a path as the user or the playlist wrote it. `title` is what the playlist calls it.
    `refused` says why it cannot be played at all, where that is known before it is opened. `credentials`: whether the
    headers that the user gives may go to its server; not so where a playlist of another server named it.
    """

    source: str
    shown: str
    title: str | None = None
    refused: str | None = None
    credentials: bool = True

    @property
    def name(self) -> str:
        """What to call it where it has no title: the name of the file, or the whole address."""
        return clean(self.source.rpartition("/")[2]) or self.shown if self.source.startswith("/") else self.shown


@dataclass(frozen=True, slots=True)
class Playing:
    """A snapshot of what plays now. Sizes are in bytes, times in seconds, `bitrate` in bits per second.

    `index` counts from 0 to `count` - 1. `title`, `artist`, `album` and `cover` come from the file's tags, the title
    else from the playlist; they and the numbers of the sound may come after the first sound, and stay None where the
    file does not tell. `downloaded` is the offset up to which the bytes are there without a gap from where the decoder
    reads; it is `length` when all are. `speed` is the
    number of bytes per second that arrive now, None when all are there. `waiting`: there is nothing to hear because
    bytes or the first decoded sound have yet to come.
    """

    index: int
    count: int
    track: Track
    title: str | None
    artist: str | None
    album: str | None
    cover: Cover | None
    codec: str | None
    container: str | None
    sample_rate: int | None
    channels: int | None
    bitrate: int | None
    position: float
    duration: float | None
    downloaded: int
    length: int | None
    speed: float | None
    paused: bool
    waiting: bool
