"""What a stream tells of itself: seeks, progress, its end."""

from __future__ import annotations

from actors.clock import Clock
from kithara_actors.messages.events import EndOfStream, Opened, ReaderSeek, ReadProgress, TotalBytesResolved
from kithara_actors.stream.link import Link
from kithara_actors.values import MediaInfo, StreamId

__all__ = ["ReadTeller"]

_PROGRESS_EVERY = 0.1


class ReadTeller:
    """Publishes at the stream's scope. Called by one read at a time."""

    def __init__(self, stream: StreamId, link: Link, clock: Clock) -> None:
        self._stream = stream
        self._link = link
        self._clock = clock
        self._last_end = 0
        self._epoch = 0
        self._progress_at = 0.0
        self._end_told = False

    def read(self, start: int, count: int, total: int | None) -> None:
        """A read that moved the position has given `count` bytes from `start`."""
        if start != self._last_end and count:
            self._epoch += 1
            self._link.publish(self._stream, ReaderSeek(self._last_end, start, self._epoch))
            self._end_told = False
        end = start + count
        if count:  # a read that gave nothing has not moved
            self._last_end = end
        ending = total is not None and end >= total and not self._end_told
        now = self._clock()
        if ending or now - self._progress_at >= _PROGRESS_EVERY:
            self._progress_at = now
            self._link.publish(self._stream, ReadProgress(end, total))
        if ending and total is not None:
            self._end_told = True
            self._link.publish(self._stream, EndOfStream(total))

    def complete(self, info: MediaInfo | None, length: int) -> None:
        """The stream is of a file that needs no fetching."""
        self._link.publish(self._stream, Opened(info or MediaInfo(), length, cached=True))
        self._link.publish(self._stream, TotalBytesResolved(length, "committed_length"))
