"""From the content's descriptor to the caller: waits for bytes, then copies; no position, no lock."""

from __future__ import annotations

import os

from actors.memory.buffer import read_into
from kithara_actors.assets.content import Content
from kithara_actors.errors import ResourceChanged
from kithara_actors.stream.waiting import ByteWaiter

__all__ = ["CHUNK", "ByteCopier"]

CHUNK = 64 * 1024
"""Bytes that a read without a size of its own takes at once."""
_WINDOW = 64 * 1024
_SMALL = 8 * 1024
_PIECE = 1024 * 1024


class ByteCopier:
    """Reads at any offset, from any thread. Every method blocks as `ByteWaiter.bytes_at` does and raises the same."""

    def __init__(self, waiter: ByteWaiter) -> None:
        self._bytes = waiter
        # One object, since threads replace it while others look: the bytes, their offset, whose they are.
        self._window: tuple[bytes, int, Content] | None = None

    def forget(self) -> None:
        """Drop what is held for small reads."""
        self._window = None

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes from `start`, fewer only at the end; all that follow if `size` is negative."""
        if size == 0:
            return b""
        if 0 < size <= _SMALL:
            return self._read_small(start, size)
        return self._bytes.using(lambda content: self._gather(content, start, size))

    def read_into(self, start: int, view: memoryview) -> int:
        """Fill `view` from `start`, except at the end; the bytes read."""

        def fill(content: Content) -> int:
            at, last = start, start + len(view)
            while at < last:
                goal = min(at + _PIECE, last)
                end = min(self._bytes.bytes_at(content, at, goal), last)
                if end > at:
                    got = read_into(content.fd, view[at - start : end - start], at)
                    self._bytes.touched = True
                    if got < end - at:
                        self._bytes.fail(_cut_short())
                    at = end
                elif self._bytes.is_end(content, at):
                    break
            return at - start

        if 0 < len(view) <= _SMALL:
            data = self._read_small(start, len(view))
            view[: len(data)] = data
            return len(data)
        return self._bytes.using(fill) if len(view) else 0

    def read_some(self, start: int, size: int) -> bytes:
        """What is there from `start` on: at least one byte, at most `size`; none only at the end."""

        def some(content: Content) -> bytes:
            end = min(self._bytes.bytes_at(content, start, start + 1), start + size)
            return self._present(content, start, end) if end > start else b""

        return self._bytes.using(some) if size else b""

    def _read_small(self, start: int, size: int) -> bytes:
        """Through a window of bytes that are present, so that a parser's tiny reads cost no system call each."""
        held = self._window
        if held is not None:
            window, at, content = held
            if at <= start and start + size <= at + len(window) and content.successor is None:
                self._bytes.check()
                if content.view.failure is None:
                    return window[start - at : start - at + size]

        def load(content: Content) -> bytes:
            end = min(self._bytes.bytes_at(content, start, start + size), start + _WINDOW)
            if end <= start:
                return b""
            data = self._present(content, start, end)
            if self._bytes.ended is None:
                self._window = (data, start, content)
            return data[:size]

        return self._bytes.using(load)

    def _gather(self, content: Content, start: int, size: int) -> bytes:
        pieces: list[bytes] = []
        at = start
        while size < 0 or at < start + size:
            goal = at + _PIECE if size < 0 else min(at + _PIECE, start + size)
            end = min(self._bytes.bytes_at(content, at, goal), start + size if size >= 0 else goal)
            if end > at:
                piece = self._present(content, at, end)
                if size >= 0 and len(piece) == size:
                    return piece
                pieces.append(piece)
                at += len(piece)
            elif self._bytes.is_end(content, at):
                break
        return b"".join(pieces)

    def _present(self, content: Content, start: int, end: int) -> bytes:
        """Bytes that are there; at least one of them."""
        data = os.pread(content.fd, end - start, start)
        self._bytes.touched = True
        if not data:
            self._bytes.fail(_cut_short())
        return data


def _cut_short() -> ResourceChanged:
    return ResourceChanged("the file on disk became shorter while it was open")
