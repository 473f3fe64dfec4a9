"""Commands to a Source. Each docstring names the sender. Tags 32 to 63.

Import them from `kithara_actors.messages.commands`.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.messages.command import Command
from kithara_actors.errors import Failure
from kithara_actors.messages.records import Place
from kithara_actors.values import CancelReason, ContentId, Priority, RequestId, StreamId, Validator

__all__ = [
    "SOURCE_COMMANDS",
    "Announce",
    "AssetCommitted",
    "AssetReady",
    "AssetRefused",
    "Attach",
    "AttachPrefetch",
    "Detach",
    "FetchCancelled",
    "FetchDone",
    "FetchFailed",
    "FetchHeaders",
    "FetchOver",
    "ReaderAt",
    "SetPlaying",
    "WantAll",
    "WantLength",
]


@dataclass(frozen=True, slots=True)
class Attach(Command):
    """System → Source: a stream was opened. `look_ahead` in bytes, None for the whole file."""

    TAG = 32
    stream: StreamId
    look_ahead: int | None
    priority: Priority


@dataclass(frozen=True, slots=True)
class AttachPrefetch(Command):
    """System → Source: the whole asset is wanted, by nobody who reads it. Ends with `Detach`."""

    TAG = 47
    stream: StreamId


@dataclass(frozen=True, slots=True)
class Detach(Command):
    """Stream or prefetch → Source: it was closed; `last` when no other is open."""

    TAG = 33
    stream: StreamId
    last: bool


@dataclass(frozen=True, slots=True)
class ReaderAt(Command):
    """Stream → Source: where a reader is. `waiting_to` is the offset it is blocked for, or None if it is not."""

    TAG = 34
    stream: StreamId
    position: int
    waiting_to: int | None


@dataclass(frozen=True, slots=True)
class WantLength(Command):
    """Stream → Source: a caller waits for the head of the first answer."""

    TAG = 35
    stream: StreamId


@dataclass(frozen=True, slots=True)
class WantAll(Command):
    """Stream or prefetch → Source: a caller waits for the complete asset."""

    TAG = 36
    stream: StreamId


@dataclass(frozen=True, slots=True)
class SetPlaying(Command):
    """Stream → Source: `play()` or `pause()` was called, or a first read has blocked (`implied`)."""

    TAG = 37
    stream: StreamId
    playing: bool
    implied: bool


@dataclass(frozen=True, slots=True)
class AssetReady(Command):
    """AssetStore → Source: the content has its descriptor. `length` is given when it is complete already."""

    TAG = 38
    content: ContentId
    length: int | None
    content_type: str | None


@dataclass(frozen=True, slots=True)
class AssetRefused(Command):
    """AssetStore → Source: the content could not be stored or committed."""

    TAG = 39
    content: ContentId
    failure: Failure


@dataclass(frozen=True, slots=True)
class AssetCommitted(Command):
    """AssetStore → Source: every byte is durable under its final name."""

    TAG = 40
    content: ContentId


@dataclass(frozen=True, slots=True)
class FetchHeaders(Command):
    """Downloader → Source: an attempt was answered. `end` is the end of the answer's body, None if unknown.

    `place` and `ranged` are for the specs of later requests.
    """

    TAG = 41
    request: RequestId
    partial: bool
    end: int | None
    total: int | None
    validator: Validator
    content_type: str | None
    place: Place | None
    ranged: bool


@dataclass(frozen=True, slots=True)
class FetchDone(Command):
    """Downloader → Source or Collector: one end of a `Fetch`: what was asked has landed up to `end`."""

    TAG = 42
    request: RequestId
    end: int
    total: int | None


@dataclass(frozen=True, slots=True)
class FetchFailed(Command):
    """Downloader → Source or Collector: one end of a `Fetch`. `gave_up` tells a spent budget from a fatal error."""

    TAG = 43
    request: RequestId
    end: int
    gave_up: bool
    failure: Failure


@dataclass(frozen=True, slots=True)
class FetchCancelled(Command):
    """Registry or Downloader → Source or Collector: one end of a `Fetch`; bytes up to `end` have landed."""

    TAG = 44
    request: RequestId
    end: int
    reason: CancelReason


@dataclass(frozen=True, slots=True)
class FetchOver(Command):
    """Registry → Source or Collector: a `Fetch` that was sent again had ended before. What has landed is known by the
    progress words; how it ended is known to nobody any more."""

    TAG = 45
    request: RequestId


@dataclass(frozen=True, slots=True)
class Announce(Command):
    """Registry or AssetStore → Source or Collector: it has begun anew; say again what you want of it. Source → itself:
    look again what there is to do."""

    TAG = 46
    to: str


SOURCE_COMMANDS: tuple[type[Command], ...] = (
    Attach,
    AttachPrefetch,
    Detach,
    ReaderAt,
    WantLength,
    WantAll,
    SetPlaying,
    AssetReady,
    AssetRefused,
    AssetCommitted,
    FetchHeaders,
    FetchDone,
    FetchFailed,
    FetchCancelled,
    FetchOver,
    Announce,
)
