"""What the parsers of one file have found so far, kept within what a message can carry."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kithara_actors.values import AudioCodec, Container, Cover, MediaDetails, MediaInfo

__all__ = ["Findings", "Pair", "clean"]

_NAMES = 64
_VALUES = 16
_NAME_LENGTH = 100
_VALUE_LENGTH = 1000
_TEXT_BYTES = 40 * 1024
"""UTF-8 of all names and values; with covers and remark the whole stays below 48 KiB."""
_COVERS = 8
_REMARKS = 3

# Control characters of both ranges, line separators, and those that turn the direction of a terminal's text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")

_SAME = {
    "album artist": "albumartist",
    "album_artist": "albumartist",
    "band": "albumartist",
    "disc": "discnumber",
    "disk": "discnumber",
    "track": "tracknumber",
    "year": "date",
}
"""What writers of free names call the common ones."""

Pair = tuple[str, object]
"""Name and value of a tag, as a library gives them."""


def clean(value: object, limit: int) -> str:
    """One line of text without control characters, at most `limit` characters."""
    # What is far too long is cut before it is searched.
    text = _SURROGATE.sub("\ufffd", str(value)[: 2 * limit])
    return _CONTROL.sub(" ", text).strip()[:limit]


class Findings:
    """Filled by one parser after another. A number that makes no sense is not taken."""

    def __init__(self, info: MediaInfo) -> None:
        self.codec = info.codec
        self.container = info.container
        self.sample_rate: int | None = None
        self.channels: int | None = None
        self.duration: float | None = None
        self.bitrate: int | None = None
        self._tags: dict[str, list[str]] = {}
        self._text_left = _TEXT_BYTES
        self._covers: list[Cover] = []
        self._remarks: list[str] = []

    def add_numbers(
        self,
        sample_rate: float | None = None,
        channels: int | None = None,
        duration: float | None = None,
        bitrate: float | None = None,
    ) -> None:
        """Take what is not known yet."""
        if self.sample_rate is None and sample_rate is not None and 1 <= sample_rate < 2**31:
            self.sample_rate = int(sample_rate)
        if self.channels is None and channels is not None and 0 < channels < 2**16:
            self.channels = channels
        if self.duration is None and duration is not None and 0 <= duration < 2**40:
            self.duration = float(duration)
        if self.bitrate is None and bitrate is not None and 1 <= bitrate < 2**40:
            self.bitrate = round(bitrate)

    def add_media(self, codec: AudioCodec | None, container: Container | None = None) -> None:
        """`codec` is sure. `container` counts where none was known."""
        self.codec = codec
        if self.container is None:
            self.container = container

    def add_tags(self, pairs: Iterable[Pair]) -> None:
        """Tags of one kind; what an earlier kind has told already, it has told better."""
        told = frozenset(self._tags)
        for given, value in pairs:
            name = clean(given, _NAME_LENGTH).lower()
            name = _SAME.get(name, name)
            text = clean(value, _VALUE_LENGTH)
            if name and text and name not in told:
                self._add_tag(name, text)

    def _add_tag(self, name: str, text: str) -> None:
        values = self._tags.get(name, [])
        cost = len(text.encode()) + (0 if values else len(name.encode()))
        if text in values or len(values) >= _VALUES or cost > self._text_left:
            return
        if not values:
            if len(self._tags) >= _NAMES:
                return
            self._tags[name] = values
        values.append(text)
        self._text_left -= cost

    def add_cover(self, cover: Cover) -> None:
        if len(self._covers) < _COVERS and cover.size > 0 and cover not in self._covers:
            self._covers.append(cover)

    def add_remark(self, text: str) -> None:
        line = clean(text, 300)
        if line and line not in self._remarks and len(self._remarks) < _REMARKS:
            self._remarks.append(line)

    def result(self) -> MediaDetails:
        return MediaDetails(
            MediaInfo(self.codec, self.container, self.sample_rate, self.channels, self.duration, self.bitrate),
            tuple((name, tuple(values)) for name, values in self._tags.items()),
            tuple(self._covers),
            "; ".join(self._remarks) or None,
        )
