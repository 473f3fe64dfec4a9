"""Who wants one asset: where each reader is, what it is blocked for, whether it is being listened to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from actors.messages.command import Command
from kithara_actors.logic.demand import Reader
from kithara_actors.logic.ranges import Ranges
from kithara_actors.messages.to_source import Attach, AttachPrefetch, Detach, ReaderAt, SetPlaying, WantAll, WantLength
from kithara_actors.values import Priority, StreamId

__all__ = ["Audience"]


@dataclass(slots=True)
class _Listener:
    """`waits` holds, by where each begins, the end of every read that is blocked: several threads may read."""

    look_ahead: int | None
    playing: bool = False
    explicit: bool = False
    position: int = 0
    waits: dict[int, int] = field(default_factory=dict)
    wants_length: bool = False
    wants_all: bool = False

    def readers(self) -> Iterator[Reader]:
        for start, end in self.waits.items():
            yield Reader(start, end, self.look_ahead)
        if self.position not in self.waits:
            yield Reader(self.position, None, self.look_ahead)


class Audience:
    """The streams of one asset, and who wants all of it without reading. What is said of one that has left changes
    nothing and answers False."""

    def __init__(self) -> None:
        self._streams: dict[StreamId, _Listener] = {}
        self._prefetches: set[StreamId] = set()

    def heed(self, command: Command) -> bool:
        """Take what a stream says: True if somebody may lack now what was not lacked before.

        Raises TypeError for what no stream says.
        """
        match command:
            case Attach(stream, look_ahead, priority):
                self.join(stream, look_ahead, playing=priority is Priority.HIGH)
                return True
            case AttachPrefetch(stream):
                self._prefetches.add(stream)
                return True
            case Detach(stream):
                self.leave(stream)
                return self.unread  # who has left gave up, the others did not
            case ReaderAt(stream, position, waiting_to):
                return self.at(stream, position, waiting_to) and waiting_to is not None
            case SetPlaying(stream, playing, implied):
                self.play(stream, playing=playing, implied=implied)
                return False
            case WantLength(stream):
                return self.want_length(stream)
            case WantAll(stream):
                return self.want_all(stream)
            case _:
                raise TypeError(f"Source does not handle {type(command).__name__}")

    def join(self, stream: StreamId, look_ahead: int | None, *, playing: bool) -> None:
        """A stream was opened; `look_ahead` in bytes, None for the whole file."""
        self._streams[stream] = _Listener(look_ahead, playing)

    def leave(self, stream: StreamId) -> None:
        """A stream or a prefetch was closed."""
        self._streams.pop(stream, None)
        self._prefetches.discard(stream)

    def at(self, stream: StreamId, position: int, waiting_to: int | None) -> bool:
        """A reader is at `position`, blocked for the bytes up to `waiting_to` if that is not None."""
        known = self._streams.get(stream)
        if known is None:
            return False
        known.position = position
        known.waits.pop(position, None)
        if waiting_to is not None:
            known.waits[position] = waiting_to
        return True

    def want_length(self, stream: StreamId) -> bool:
        """Somebody waits for the head."""
        known = self._streams.get(stream)
        if known is not None:
            known.wants_length = True
        return known is not None

    def want_all(self, stream: StreamId) -> bool:
        """Somebody waits for every byte."""
        known = self._streams.get(stream)
        if known is not None:
            known.wants_all = True
        return known is not None or stream in self._prefetches

    def play(self, stream: StreamId, *, playing: bool, implied: bool) -> None:
        """`play()` or `pause()` was called; `implied` by a first blocked read, which counts only if neither was."""
        known = self._streams.get(stream)
        if known is not None and not (implied and known.explicit):
            known.playing = playing
            known.explicit = known.explicit or not implied

    def rewind(self) -> None:
        """The content was replaced: everybody begins again."""
        for stream in self._streams.values():
            stream.position = 0
            stream.waits.clear()

    def served(self, present: Ranges, total: int | None) -> None:
        """Forget the waits for bytes that are `present`, of `total` bytes if that is known."""
        for stream in self._streams.values():
            for start, end in list(stream.waits.items()):
                if present.covered_end(start) >= (end if total is None else min(end, total)):
                    del stream.waits[start]

    def gave_up(self, present: Ranges, unreached: tuple[int, int | None]) -> None:
        """Forget the waits for bytes inside `unreached`, and the wishes: those who wait are told of the error."""
        low, high = unreached
        for stream in self._streams.values():
            for start in list(stream.waits):
                missing = present.covered_end(start)
                if low <= missing and (high is None or missing < high):
                    del stream.waits[start]
            stream.wants_all = stream.wants_length = False

    def readers(self) -> tuple[Reader, ...]:
        """Every reader, the blocked ones of each stream first."""
        return tuple(reader for stream in self._streams.values() for reader in stream.readers())

    @property
    def prefetched(self) -> bool:
        """Whether the whole asset is wanted by one that does not read it."""
        return bool(self._prefetches)

    @property
    def unread(self) -> bool:
        """Whether it is wanted by such alone."""
        return bool(self._prefetches) and not self._streams

    @property
    def priority(self) -> Priority:
        """High while any of the streams is being listened to."""
        playing = any(stream.playing for stream in self._streams.values())
        return Priority.HIGH if playing else Priority.LOW

    @property
    def wants_length(self) -> bool:
        return any(stream.wants_length for stream in self._streams.values())

    @property
    def wants_all(self) -> bool:
        return any(stream.wants_all for stream in self._streams.values())
