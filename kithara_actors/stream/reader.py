"""The file object that the application holds."""

from __future__ import annotations

import contextlib
import io
import operator
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from actors.clock import Clock, monotonic
from kithara_actors.assets.content import Content
from kithara_actors.errors import Failure, KitharaError
from kithara_actors.messages.commands import SetPlaying
from kithara_actors.messages.events import Envelope
from kithara_actors.stream.copying import CHUNK, ByteCopier
from kithara_actors.stream.descriptor import OwnDescriptor
from kithara_actors.stream.inspecting import Inspector
from kithara_actors.stream.link import Link
from kithara_actors.stream.reach import Reach
from kithara_actors.stream.subscription import Subscription
from kithara_actors.stream.telling import ReadTeller
from kithara_actors.stream.timeouts import checked_wait
from kithara_actors.stream.waiting import ByteWaiter
from kithara_actors.values import Answer, MediaDetails, MediaInfo, Phase, StreamId

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Stream"]


class Stream(io.BufferedIOBase):
    """A binary file that can be read and sought while its bytes still arrive.

    Behaves as a file opened with `open(path, "rb")`: `read(n)` gives exactly `n` bytes unless the end is reached,
    a read of bytes that are present never waits, and one of bytes that are not blocks until they arrive, the asset
    fails, the stream is cancelled, or `read_timeout` passes. What a read raises derives from `StreamError` and
    stays in `error`. Safe from any thread; reads that move the position take turns.
    """

    mode = "rb"
    _closed = True  # until __init__ has run, so that a finalizer of a half-made stream does nothing

    def __init__(
        self,
        stream: StreamId,
        content: Content,
        link: Link,
        name: str,
        *,
        look_ahead: int | None,
        read_timeout: float | None,
        wait_for_length: bool,
        events: Subscription | None = None,
        clock: Clock = monotonic,
    ) -> None:
        super().__init__()
        self.name = name
        self.events = events
        self._id = stream
        self._link = link
        self._bytes = ByteWaiter(stream, content, link, look_ahead, read_timeout)
        self._reach = Reach(self._bytes, wait_for_length)
        self._copy = ByteCopier(self._bytes)
        self._told = ReadTeller(stream, link, clock)
        self._inspector = Inspector(self._bytes, link)
        self._turn, self._state = threading.RLock(), threading.RLock()
        self._position = self._moves = 0
        self._media_info: MediaInfo | None = None
        self._length: int | None = None
        self._own = OwnDescriptor()
        self._closed = False

    # --- Reading

    def read(self, size: int | None = -1, /) -> bytes:
        """`size` bytes, fewer only at the end of the file; all that follow if `size` is None or negative. Blocks."""
        with self._turn:
            start, moves = self._begin()
            data = self._copy.read(start, -1 if size is None else size)
            self._advance(start, len(data), moves)
        return data

    def read1(self, size: int = -1, /) -> bytes:
        """What is there, at least one byte and at most `size` (or a chunk); blocks only until one byte is there."""
        with self._turn:
            start, moves = self._begin()
            data = self._copy.read_some(start, CHUNK if size is None or size < 0 else size)
            self._advance(start, len(data), moves)
        return data

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer`, except at the end of the file; the bytes read. Blocks."""
        with memoryview(buffer).cast("B") as view, self._turn:
            start, moves = self._begin()
            count = self._copy.read_into(start, view)
            self._advance(start, count, moves)
        return count

    def readinto1(self, buffer: Buffer, /) -> int:
        """Like `read1`, into `buffer`."""
        with memoryview(buffer).cast("B") as view, self._turn:
            start, moves = self._begin()
            data = self._copy.read_some(start, len(view))
            view[: len(data)] = data
            self._advance(start, len(data), moves)
        return len(data)

    def peek(self, size: int = 0, /) -> bytes:
        """What is there at the position, without moving; blocks only until one byte is there."""
        self._check_open()
        return self._copy.read_some(self._position, max(1, min(size or CHUNK, CHUNK)))

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer only at the end. Neither uses nor moves the position. Blocks."""
        self._check_open()
        if offset < 0 or size < 0:
            raise ValueError(f"offset and size must not be negative, not {offset} and {size}")
        return self._copy.read(offset, size)

    def readinto_at(self, offset: int, buffer: Buffer) -> int:
        """Like `read_at`, into `buffer`; the bytes read."""
        self._check_open()
        if offset < 0:
            raise ValueError(f"offset must not be negative, not {offset}")
        with memoryview(buffer).cast("B") as view:
            return self._copy.read_into(offset, view)

    def iter_chunks(self, size: int = CHUNK) -> Iterator[bytes]:
        """The rest of the file in pieces of `size` bytes, the last one shorter. Blocks for each."""
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size}")
        while chunk := self.read(size):
            yield chunk

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Lines, though iteration goes by chunks; about `hint` bytes of them if it is positive. Blocks."""
        lines: list[bytes] = []
        size = 0
        while (line := self.readline()) and (hint is None or hint <= 0 or size < hint):
            lines.append(line)
            size += len(line)
        return lines

    def __next__(self) -> bytes:
        chunk = self.read(CHUNK)
        if not chunk:
            raise StopIteration
        return chunk

    def readable(self) -> bool:
        self._check_open()
        return True

    # --- Position

    def tell(self) -> int:
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move the position; the next read aims the download there.

        Moves a number only, once the first answer is there; before that it waits for it. Raises ValueError for a
        negative position, io.UnsupportedOperation where `seekable()` is False and the byte is not present.
        """
        self._check_open()
        if whence not in (0, 1, 2):
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        offset = operator.index(offset)
        target = self._reach.length() + offset if whence == 2 else offset + (self._position if whence == 1 else 0)
        if target < 0:
            raise ValueError(f"negative seek position {target}")
        if target != self._position:
            self._reach.check(target)
        with self._state:
            self._position = self._bytes.reading.position = target
            self._moves += 1
            self._own.follow(target)
        return target

    def seekable(self) -> bool:
        """Whether the length is known, so that any byte can be reached. Waits for the first answer's headers only."""
        self._check_open()
        return self._reach.seekable()

    # --- State

    @property
    def length(self) -> int | None:
        """Bytes in all, or None while that is not certain. Does not block."""
        with contextlib.suppress(KitharaError):
            self._length = self._bytes.using(lambda content: content.length)
        return self._length

    @property
    def phase(self) -> Phase:
        """Where the asset is in its life. Never behind the bytes: once one was read it is not INIT. Does not block."""
        if self._bytes.content.view.phase is Phase.INIT:
            with contextlib.suppress(KitharaError):
                # The answer is in the block before the Source has heard of it.
                if self._bytes.using(lambda content: content.block.has_head):
                    return Phase.DOWNLOADING
        return self._bytes.content.view.phase

    @property
    def buffered(self) -> int:
        """How many bytes are present from the position on, without a gap. Does not block."""
        position = self._position
        try:
            return self._bytes.using(lambda content: content.available(position)) - position
        except KitharaError:
            return 0

    @property
    def media_info(self) -> MediaInfo | None:
        """Codec and container, from the Content-Type, else from the first bytes; None until they are known.

        What else the first bytes tell (sample rate, channels, duration, bitrate) is there some milliseconds after
        they are: the parsing process looks at them when this is first asked for. Each part is set once. `inspect`
        waits, and finds out more. Does not block.
        """
        known = self._media_info
        with contextlib.suppress(KitharaError):
            self._media_info = self._bytes.using(lambda content: self._inspector.info(content, known))
        return self._media_info

    @property
    def declared_info(self) -> MediaInfo | None:
        """Codec and container alone, as `media_info` has them, without a question to anybody. Does not block."""
        with contextlib.suppress(KitharaError):
            return self._bytes.using(Content.media_info)
        return None

    def inspect(self, timeout: float | None = None) -> MediaDetails:
        """What the file is and says of itself: codec, rate, duration, tags, pictures. Neither uses nor moves the
        position.

        Blocks, at most `timeout` seconds (ReadTimeout), while the parsing process looks at it; a few kilobytes are
        fetched for that where they are missing (of MP4 its `moov`); from a server without byte ranges only the front.
        For what is no media known here the result says so in `remark`; raises the typed error if the download fails.
        """
        self._check_open()
        return self._inspector.details(timeout)

    @property
    def answer(self) -> Answer | None:
        """What the server first said of the asset; None before, and where none was asked. Does not block."""
        with contextlib.suppress(KitharaError):
            return self._bytes.using(Content.first_answer)
        return None

    @property
    def path(self) -> Path | None:
        """Where the complete file is on disk; None before, and for assets in memory."""
        content = self._bytes.content
        return content.path if content.view.phase is Phase.COMPLETE else None

    @property
    def error(self) -> Exception | None:
        """The last error that this stream met; decoders may have swallowed it."""
        if self._bytes.error is None and self._bytes.ended is None and self._bytes.content.view.failure is not None:
            with contextlib.suppress(KitharaError):
                self._bytes.using(lambda _: None)
        return self._bytes.error

    def raise_for_error(self) -> None:
        """Raise `error` if there is one: for use after a decoder that hides what its file raised."""
        if (error := self.error) is not None:
            raise error

    def fileno(self) -> int:
        """A descriptor of this stream's own, whose offset follows `seek` and reads; once complete.

        Raises io.UnsupportedOperation before: a server would send the holes of an unfinished file.
        """
        self._check_open()
        with self._state:
            if self.phase is not Phase.COMPLETE:
                raise io.UnsupportedOperation("there is no descriptor before the download is complete")
            return self._bytes.using(lambda content: self._own.open(content.fd, self._position))

    # --- Control

    def play(self) -> None:
        """This stream is being listened to: its requests go before those of streams that are not."""
        self._check_open()
        self._link.tell(SetPlaying(self._id, playing=True, implied=False))

    def pause(self) -> None:
        """It is not being listened to for now."""
        self._check_open()
        self._link.tell(SetPlaying(self._id, playing=False, implied=False))

    def cancel(self) -> None:
        """End the stream: a read in progress and every later one raises `Cancelled`. Idempotent; any thread."""
        self._end(Failure("Cancelled", "the stream was cancelled"))

    def wait_complete(self, timeout: float | None = None) -> bool:
        """Ask for what is missing and block until all is there and committed: True, or False after `timeout` s.

        Raises the typed error if the download fails.
        """
        self._check_open()
        limit = checked_wait(timeout)
        return self._bytes.using(lambda content: self._bytes.complete(content, limit))

    def subscribe(
        self, capacity: int | None = None, callback: Callable[[Envelope], object] | None = None
    ) -> Subscription:
        """This stream's events and its asset's, until it is closed. Does not block. `callback` has its own thread."""
        self._check_open()
        subscription = self._link.subscribe(self._id, capacity, callback)
        if self._closed:  # meanwhile
            subscription.finish()
        return subscription

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Let go of the asset; the last stream to close it ends its download. Idempotent; from any thread.

        A read in progress in another thread raises `Cancelled`.
        """
        if self._closed:
            return
        self._closed = True
        self._end(Failure("Cancelled", "the stream was closed during the call"))
        with self._state:
            self._own.close()
            self._copy.forget()
        self._link.unsubscribe(self._id)

    def __del__(self) -> None:
        if self._closed:
            return
        if self._bytes.ended is not None:
            # Nothing is left to end, and nobody else can hold what is closed here.
            self._own.close()
            self._link.soon(lambda link=self._link, mine=self._id: link.unsubscribe(mine))  # type: ignore[misc]
            return
        warnings.warn(f"unclosed stream {self!r}", ResourceWarning, source=self, stacklevel=2)
        # Collection may run in the middle of anything: closing takes locks, so it happens on another thread.
        self._link.soon(self.close)

    def stop(self, failure: Failure) -> None:
        """The system has stopped: every read raises `failure` from here on. Called by the system."""
        if self._bytes.end(failure):
            self._bytes.let_go()

    def forked(self, failure: Failure) -> None:
        """In the child of a fork: every read raises `failure`. Locks may be those of threads that are not here."""
        self._turn, self._state = threading.RLock(), threading.RLock()
        self._bytes.forked(failure)

    def _end(self, failure: Failure) -> None:
        if self._bytes.end(failure):
            self._link.detach(self._id)
            self._bytes.let_go()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Stream {self._id} {self.name!r} {'closed' if self._closed else self._bytes.content.view.phase}>"

    def __reduce__(self) -> Any:
        raise TypeError("a Stream cannot be pickled; open the source again")

    def announce(self) -> None:
        """Publish what a stream of a file that needs no fetching tells of itself. Called by the system."""
        if self._link.listening and self.length is not None:
            self._told.complete(self._bytes.using(Content.media_info), self.length)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("I/O operation on closed file.")

    def _begin(self) -> tuple[int, int]:
        self._check_open()
        with self._state:
            return self._position, self._moves

    def _advance(self, start: int, count: int, moves: int) -> None:
        with self._state:
            if self._moves == moves:
                self._position = self._bytes.reading.position = start + count
                self._own.follow(self._position)
        if self._link.listening:
            self._told.read(start, count, self.length)
