"""Ids, units and small enumerations that every other module may use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from typing import NewType

__all__ = [
    "Answer",
    "AudioCodec",
    "ByteCount",
    "CancelReason",
    "Container",
    "ContentId",
    "Cover",
    "FetchKind",
    "MediaDetails",
    "MediaInfo",
    "Offset",
    "Phase",
    "Priority",
    "RequestId",
    "StreamId",
    "Unset",
    "Validator",
]

Offset = NewType("Offset", int)
"""A position in a representation, in bytes from its start."""

ByteCount = NewType("ByteCount", int)

RequestId = NewType("RequestId", int)
"""Counted from 1 per system; names one request through all its HTTP attempts."""

StreamId = NewType("StreamId", int)
"""Counted from 1 per system; names one handle given to the application."""

ContentId = NewType("ContentId", int)
"""Counted from 1 per system; names one representation being held (its buffer and progress block)."""


class Unset(Enum):
    """Marks an argument that was not given, where None means something."""

    UNSET = "unset"


class Priority(IntEnum):
    """Scheduling class of a peer or of a command; the higher value is served first."""

    LOW = 0
    HIGH = 1


class FetchKind(StrEnum):
    """Why bytes are fetched. Demand is served High, the others Low."""

    DEMAND = "demand"
    READ_AHEAD = "read_ahead"
    FILL = "fill"
    PREFETCH = "prefetch"

    @property
    def priority(self) -> Priority:
        return Priority.HIGH if self is FetchKind.DEMAND else Priority.LOW

    @property
    def in_background(self) -> bool:
        """Whether no reader needs it soon: of each host such fetches hold a share only, and come last."""
        return self in (FetchKind.FILL, FetchKind.PREFETCH)


class Phase(StrEnum):
    """Life of one asset as its readers see it."""

    INIT = "init"
    DOWNLOADING = "downloading"
    COMPLETE = "complete"
    FAILED = "failed"


class CancelReason(StrEnum):
    """What ended a request that did not run to its own end."""

    EPOCH_CANCEL = "epoch_cancel"
    PEER_CANCEL = "peer_cancel"
    DOWNLOADER_SHUTDOWN = "downloader_shutdown"
    BEFORE_START = "before_start"


class AudioCodec(StrEnum):
    """Codec of the first audio track."""

    AAC_LC = "AacLc"
    ALAC = "Alac"
    FLAC = "Flac"
    MP3 = "Mp3"
    OPUS = "Opus"
    PCM = "Pcm"
    VORBIS = "Vorbis"


class Container(StrEnum):
    """How the codec's frames are wrapped."""

    ADTS = "Adts"
    AIFF = "Aiff"
    AU = "Au"
    CAF = "Caf"
    FLAC = "Flac"
    MATROSKA = "Matroska"
    MP4 = "Mp4"
    MPEG_AUDIO = "MpegAudio"
    OGG = "Ogg"
    WAV = "Wav"
    WEBM = "WebM"


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What is known of the media; any part may be unknown.

    `sample_rate` is in Hz, `duration` in seconds, `bitrate` in bits per second over the whole file.
    """

    codec: AudioCodec | None = None
    container: Container | None = None
    sample_rate: int | None = None
    channels: int | None = None
    duration: float | None = None
    bitrate: int | None = None


@dataclass(frozen=True, slots=True)
class Cover:
    """A picture in the file. `size` is in bytes, `width` and `height` in pixels, where the file tells them."""

    mime: str
    size: int
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True)
class MediaDetails:
    """All that the parsing process finds out about a file without decoding it.

    `tags` are pairs of a name in lower case ("title", "artist", "album", "albumartist", "date", "tracknumber",
    "genre", ...; each name once) and its values. `remark` says why something could not be told.
    """

    info: MediaInfo = MediaInfo()
    tags: tuple[tuple[str, tuple[str, ...]], ...] = ()
    covers: tuple[Cover, ...] = ()
    remark: str | None = None

    def tag(self, name: str) -> str | None:
        """The values of the tag `name`, joined, or None."""
        return next(("; ".join(values) for known, values in self.tags if known == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Validator:
    """What tells one representation from another (RFC 9110 section 8.8).

    `etag` is the field value as sent, quotes and a `W/` prefix included; `last_modified` is the field value as
    sent; `date` is the Date of the answer they came with, needed to judge whether `last_modified` is strong.
    """

    etag: str | None = None
    last_modified: str | None = None
    date: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said when it first answered.

    `ranges`: it serves byte ranges. `redirects` are the addresses that it led to in turn, without secrets and, where
    long, cut short. `seconds` passed from sending the request to the headers, redirects included.
    """

    status: int
    ranges: bool
    content_type: str | None
    validator: Validator
    redirects: tuple[str, ...]
    seconds: float
