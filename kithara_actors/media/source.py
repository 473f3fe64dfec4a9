"""The bytes of a file for parsers: few reads of the file itself, none of them large, and no end of patience."""

from __future__ import annotations

import os
from typing import BinaryIO

__all__ = ["PAGE", "READ_LIMIT", "ParserLimitError", "Part", "Source"]

PAGE = 16 * 1024
"""Bytes: the file is read in stretches that begin and end at multiples of this."""
READ_LIMIT = 16 * 1024 * 1024
"""Bytes: no read of the file is longer."""
_TOTAL_LIMIT = 24 * 1024 * 1024
_CALL_LIMIT = 50_000
# Of a request that does not begin at a page the first and the last page are read whole.
_REQUEST_LIMIT = READ_LIMIT - 2 * PAGE


class ParserLimitError(OSError):
    """A parser asks for more than any file deserves."""


class Source:
    """Random access to `file`. Each of its pages is read at most once and kept.

    `unseen` is set once bytes are asked for that the file has by its length but does not give. Raises OSError as
    the file does, and ParserLimitError for a request of more than about 16 MiB, after reading 24 MiB in all, and
    after 50,000 requests.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._pages: dict[int, bytes] = {}
        self._blank: list[tuple[int, int, bytes]] = []
        self._bytes_left = _TOTAL_LIMIT
        self._calls_left = _CALL_LIMIT
        self.size = file.seek(0, os.SEEK_END)
        self.unseen = False

    def read_at(self, offset: int, count: int) -> bytes:
        """The bytes from `offset` on: `count` unless the file ends before."""
        self._calls_left -= 1
        if self._calls_left < 0:
            raise ParserLimitError("the file is made of too many small parts")
        end = min(offset + count, self.size)
        if count <= 0 or offset >= end:
            return b""
        if end - offset > _REQUEST_LIMIT:
            raise ParserLimitError(f"{end - offset:,} bytes at {offset:,} are too much for one part of a file")
        pieces = []
        at = offset
        for start, stop, shown in self._blank:
            if stop <= at or start >= end:
                continue
            if start > at:
                pieces.append(self._shown(at, start))
                if len(pieces[-1]) < start - at:
                    return b"".join(pieces)
            at = max(at, start)
            last = min(stop, end)
            pieces.append(shown[at - start : last - start].ljust(last - at, b"\x00"))
            at = last
        if at < end:
            pieces.append(self._shown(at, end))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def blank(self, start: int, end: int, shown: bytes = b"") -> None:
        """Give `shown` and then zeros for these bytes from now on, and do not read them: nobody wants what is there."""
        if start < end:
            self._blank.append((start, end, shown))
            self._blank.sort()

    def _shown(self, start: int, end: int) -> bytes:
        pages = range(start // PAGE, -(-end // PAGE))
        missing = [page for page in pages if page not in self._pages]
        if missing:
            self._load(missing[0], missing[-1] + 1)
        pieces = []
        for page in pages:
            content = self._pages[page]
            pieces.append(content)
            if len(content) < min(PAGE, self.size - page * PAGE):
                break
        joined = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        skipped = pages[0] * PAGE
        found = joined[start - skipped : end - skipped]
        if len(found) < end - start:
            self.unseen = True
        return found

    def _load(self, first: int, stop: int) -> None:
        offset = first * PAGE
        wanted = min(stop * PAGE, self.size) - offset
        if wanted > self._bytes_left:
            raise ParserLimitError(f"more than {_TOTAL_LIMIT // 2**20} MiB would have to be read")
        self._bytes_left -= wanted
        self._file.seek(offset)
        content = self._file.read(wanted)
        while 0 < len(content) < wanted:
            more = self._file.read(wanted - len(content))
            if not more:
                break
            content += more
        for page in range(first, stop):
            self._pages[page] = content[(page - first) * PAGE : (page - first + 1) * PAGE]


class Part:
    """The bytes of a source from `start` to `end`, as a file object for a library to read."""

    name = ""

    def __init__(self, source: Source, start: int = 0, end: int | None = None) -> None:
        self._source = source
        self._start = min(start, source.size)
        self._end = source.size if end is None else max(self._start, min(end, source.size))
        self._at = 0

    def read(self, count: int = -1) -> bytes:
        left = max(self._end - self._start - self._at, 0)
        found = self._source.read_at(self._start + self._at, left if count < 0 else min(count, left))
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = (0, self._at, self._end - self._start)[whence]
        if base + offset < 0:
            raise OSError("a position before the start of the file")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at
