"""Words of memory that several processes change, each change seen whole by the next.

A POSIX record lock on the word's own byte (fcntl(2), "Advisory record locking") keeps other processes out, a lock of
this process its other threads. The kernel takes record locks back from a process that dies. One that is stopped
while it holds one is waited for a moment and then passed over.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from actors.clock import Clock, monotonic
from actors.memory.buffer import memory_file

__all__ = ["PATIENCE", "SharedWords"]

PATIENCE = 0.05
"""Seconds to wait for the lock of another process, where a few microseconds are usual."""
_DOUBT = 1.0
"""Seconds for which nobody waits again after that was in vain."""
_YIELDS = 8
_NAP = 0.0002

T = TypeVar("T")


class SharedWords:
    """Unsigned 64-bit words behind one descriptor, which is passed to the processes that share them.

    Safe from any thread. Not closed by garbage collection alone: call `close()`.
    """

    __slots__ = ("_clock", "_doubt_until", "_lock", "_map", "_never", "_view", "_words", "fd", "passed")

    def __init__(self, count: int = 0, fd: int | None = None, clock: Clock = monotonic) -> None:
        """Make `count` words, all zero, or map those behind `fd`, which is then owned here. Raises OSError."""
        self.fd = memory_file("kithara-words", max(count, 1) * 8) if fd is None else fd
        try:
            self._map = mmap.mmap(self.fd, 0)
        except BaseException:
            os.close(self.fd)
            raise
        self._view = memoryview(self._map)
        self._words = self._view.cast("Q")
        self._clock = clock
        self._lock = threading.Lock()
        self._never = threading.Event()
        self._doubt_until = float("-inf")
        self.passed = 0
        """Changes made without the lock of the word, because its holder did not let go of it in time."""

    def __len__(self) -> int:
        return len(self._words)

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, word: int) -> None:
        """Store `word` whole, regardless of changes in progress."""
        self._words[index] = word

    def update(self, index: int, change: Callable[[int], tuple[int, T]]) -> T:
        """Replace word `index` by the first of what `change` makes of it, and return the second.

        No other process or thread changes the word meanwhile, unless one was stopped in the middle of it: then,
        after `PATIENCE` seconds and for a second without any, the change is made regardless, and one of the two may
        be lost. `change` has to be quick and must not come back here. Blocks no longer than that.
        """
        with self._lock:
            locked = self._acquire(index)
            try:
                word, result = change(self._words[index])
                self._words[index] = word
                return result
            finally:
                if locked:
                    fcntl.lockf(self.fd, fcntl.LOCK_UN, 1, index)

    def close_repeat(self, fd: int) -> None:
        """Close another descriptor of the same words.

        Closing any of them drops all record locks of a process (fcntl(2)): so only while it holds none.
        """
        with self._lock:
            os.close(fd)

    def close(self) -> None:
        """Unmap and close; idempotent. No other method may be called afterwards."""
        with self._lock:
            if self.fd < 0:
                return
            fd, self.fd = self.fd, -1
            self._words.release()
            self._view.release()
            self._map.close()
            os.close(fd)

    def _acquire(self, index: int) -> bool:
        until: float | None = None
        tries = 0
        while True:
            try:
                fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, index)
                return True
            except OSError:  # held by another process; or there are no locks (ENOLCK)
                now = self._clock()
                if until is None:
                    until = now if now < self._doubt_until else now + PATIENCE
                if now >= until:
                    self._doubt_until = max(self._doubt_until, now + _DOUBT) if tries else self._doubt_until
                    self.passed += 1
                    return False
            tries += 1
            if tries <= _YIELDS:
                os.sched_yield()
            else:
                self._never.wait(_NAP)
