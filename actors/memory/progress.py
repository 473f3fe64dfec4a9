"""The small block of words that writer and readers both map, and the descriptor that wakes readers.

A *lane* is one run of bytes being written: its word holds a generation and the absolute offset up to which bytes
have landed. Both fit one aligned 8-byte word, stored through a memoryview cast, so a reader sees either the old
pair or the new one, never half of each (`struct.pack_into` stores in two steps and tears). A reader that holds a
lane of an older generation sees the mismatch and looks the lane up again.

Beside each lane stands the offset at which its writer is to stop, which the reader's side may lower while the lane
runs: so a lane started further on is never written into.

The *head* is written once by whoever answers first: total length, then a blob, then the word that says both are
there. It is written before any lane's word, so whoever sees a landed byte sees the head too.
"""

from __future__ import annotations

import mmap
import os
import select

from actors.memory.buffer import memory_file

__all__ = ["BLOCK_SIZE", "LANES", "UNKNOWN_LENGTH", "ProgressBlock", "Waiter", "WakeUp"]

BLOCK_SIZE = 4096
"""Bytes of one block."""
LANES = 64
"""Lanes of one block: how many runs of one asset can be written at once."""
UNKNOWN_LENGTH = (1 << 64) - 1
"""The length word of a body that ends with its transfer."""

_HEAD, _LENGTH, _BLOB_SIZE, _FLAGS = 0, 1, 2, 3
_FIRST_LANE = 8
_FIRST_STOP = _FIRST_LANE + LANES
_BLOB_AT = (_FIRST_STOP + LANES) * 8
_BLOB_LIMIT = BLOCK_SIZE - _BLOB_AT
_OFFSET_BITS = 48
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
_GENERATION_MASK = (1 << 16) - 1


class ProgressBlock:
    """One mapped block. The process that makes it passes `fd` to the writer, which maps the same memory.

    Does not block. Not closed by garbage collection alone: call `close()`.
    """

    __slots__ = ("_map", "_view", "_words", "fd")

    def __init__(self, fd: int | None = None) -> None:
        """Map the block behind `fd`, which is then owned here, or make a new one."""
        self.fd = memory_file("kithara-progress", BLOCK_SIZE) if fd is None else fd
        try:
            self._map = mmap.mmap(self.fd, BLOCK_SIZE)
        except BaseException:
            os.close(self.fd)
            raise
        self._view = memoryview(self._map)
        self._words = self._view.cast("Q")

    def close(self) -> None:
        """Unmap and close; idempotent. No other method may be called afterwards."""
        if self.fd < 0:
            return
        fd, self.fd = self.fd, -1
        self._words.release()
        self._view.release()
        self._map.close()
        os.close(fd)

    def open_lane(self, lane: int, generation: int, start: int) -> None:
        """Begin a run at `start` in `lane`. Only the owner of the asset calls this, on a lane nobody writes."""
        self._words[_FIRST_STOP + lane] = UNKNOWN_LENGTH
        self._words[_FIRST_LANE + lane] = _pack(generation, start)

    def stop_at(self, lane: int, offset: int) -> None:
        """Tell the writer of `lane` to end before `offset`; it looks before each write."""
        self._words[_FIRST_STOP + lane] = offset

    def stop(self, lane: int) -> int | None:
        """Where the writer of `lane` is to stop, or None."""
        offset = self._words[_FIRST_STOP + lane]
        return None if offset == UNKNOWN_LENGTH else offset

    def publish(self, lane: int, generation: int, end: int) -> None:
        """Bytes up to the absolute offset `end` have landed. Only the lane's writer calls this, after its write."""
        self._words[_FIRST_LANE + lane] = _pack(generation, end)

    def landed(self, lane: int, generation: int) -> int | None:
        """The absolute offset up to which `lane` has landed, or None if it is of another generation by now."""
        word = self._words[_FIRST_LANE + lane]
        if word >> _OFFSET_BITS != generation & _GENERATION_MASK:
            return None
        return word & _OFFSET_MASK

    def generation(self, lane: int) -> int:
        """The generation of the run that is or was last in `lane`; 0 before the first."""
        return self._words[_FIRST_LANE + lane] >> _OFFSET_BITS

    def write_head(self, length: int | None, flags: int, blob: bytes) -> None:
        """Publish what the first answer said. ValueError if `blob` is longer than the block holds."""
        if len(blob) > _BLOB_LIMIT:
            raise ValueError(f"head of {len(blob)} bytes, at most {_BLOB_LIMIT} fit")
        self._view[_BLOB_AT : _BLOB_AT + len(blob)] = blob
        self._words[_BLOB_SIZE] = len(blob)
        self._words[_FLAGS] = flags
        self._words[_LENGTH] = UNKNOWN_LENGTH if length is None else length
        self._words[_HEAD] = 1

    def write_length(self, length: int) -> None:
        """The length of a body that had none, once its transfer has ended cleanly."""
        self._words[_LENGTH] = length

    @property
    def has_head(self) -> bool:
        return self._words[_HEAD] == 1

    @property
    def length(self) -> int | None:
        """Bytes in all, or None while that is not certain."""
        if self._words[_HEAD] != 1:
            return None
        length = self._words[_LENGTH]
        return None if length == UNKNOWN_LENGTH else length

    @property
    def flags(self) -> int:
        return self._words[_FLAGS]

    @property
    def blob(self) -> bytes:
        """What `write_head` was given; empty before."""
        size = min(self._words[_BLOB_SIZE], _BLOB_LIMIT) if self.has_head else 0
        return bytes(self._view[_BLOB_AT : _BLOB_AT + size])


def _pack(generation: int, offset: int) -> int:
    if offset > _OFFSET_MASK:
        raise ValueError(f"offset {offset} does not fit {_OFFSET_BITS} bits")
    return (generation & _GENERATION_MASK) << _OFFSET_BITS | offset


class WakeUp:
    """The writer's side: one eventfd that any number of waiters watch.

    Nobody ever reads it. Each waiter watches it edge-triggered through an epoll of its own, so every `signal()`
    wakes all of them, none can take another's wake, and none that comes between a check and a wait is lost
    (epoll(7), "Level-triggered and edge-triggered").
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int | None = None) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if fd is None else fd

    def signal(self) -> None:
        """Wake every waiter. Does not block; safe from any thread and process that holds the descriptor."""
        os.eventfd_write(self.fd, 1)

    def close(self) -> None:
        """Idempotent."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)


class Waiter:
    """The reader's side. `fileno()` can be given to `poll()` or an event loop: readable after a `signal()`."""

    __slots__ = ("_epoll",)

    def __init__(self, wake: WakeUp) -> None:
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        try:
            self._epoll.register(wake.fd, select.EPOLLIN | select.EPOLLET)
        except BaseException:
            self._epoll.close()
            raise

    def fileno(self) -> int:
        return self._epoll.fileno()

    def wait(self, timeout: float | None) -> bool:
        """Block until the next signal, at most `timeout` seconds: True if there was one. Releases the GIL.

        A signal since the last call counts; the first call may return True for one from before the waiter was made.
        """
        return bool(self._epoll.poll(timeout, 1))

    def close(self) -> None:
        """Idempotent. No thread may be in `wait()`."""
        self._epoll.close()
