"""What the system knows of each host: it outlives the Downloader, and is read by who asks how the system does."""

from __future__ import annotations

import threading

from kithara_actors.logic.bandwidth import HostBook, HostStats

__all__ = ["HostTable"]


class HostTable:
    """`HostBook`, safe from any thread. Its calls take microseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._book = HostBook()

    def begin(self, key: int, origin: str, landed: int, now: float) -> None:
        """See `HostBook.begin`."""
        with self._lock:
            self._book.begin(key, origin, landed, now)

    def answered(self, key: int, ttfb: float, now: float) -> None:
        """See `HostBook.answered`."""
        with self._lock:
            self._book.answered(key, ttfb, now)

    def landed(self, key: int, landed: int, now: float) -> None:
        """See `HostBook.landed`."""
        with self._lock:
            self._book.landed(key, landed, now)

    def end(self, key: int, landed: int | None, now: float) -> None:
        """See `HostBook.end`."""
        with self._lock:
            self._book.end(key, landed, now)

    def end_all(self, now: float) -> None:
        """See `HostBook.end_all`."""
        with self._lock:
            self._book.end_all(now)

    def stats(self) -> dict[str, HostStats]:
        """See `HostBook.stats`."""
        with self._lock:
            return self._book.stats()
