"""A body read through its content coding."""

from __future__ import annotations

from kithara_actors.logic.coding import Decoder
from kithara_actors.logic.collecting import too_large
from kithara_actors.worker.framing import CutShort, Framing

__all__ = ["Decoded"]

_PIECE = 64 * 1024
"""Coded bytes taken at a time."""

_SLACK = 64 * 1024
"""Bytes that a coded body may have over `execute_limit`: headers of gzip, and what follows its end."""


class Decoded:
    """A `Framing` over that of a coded body, which gives the body as it was before, for a sink of `limit` bytes."""

    __slots__ = ("_decoder", "_framing", "_left", "_limit")

    unread = 0
    left = None

    def __init__(self, framing: Framing, coding: str, limit: int | None = None) -> None:
        self._framing = framing
        self._decoder = Decoder(coding)
        self._limit = limit
        # Or empty members could go on for ever without a byte that counts.
        self._left = 0 if limit is None else limit + limit // 64 + _SLACK

    @property
    def ended(self) -> bool:
        return self._framing.ended

    def take(self, limit: int) -> bytes:
        """See `Framing.take`; raises CutShort for a coded body that ends too soon, BodyTooLarge for one without end."""
        while True:
            decoded = self._decoder.take(limit)
            if decoded:
                return decoded
            data = self._framing.take(_PIECE)
            if not data:
                if not self._decoder.complete:
                    raise CutShort
                return b""
            if self._limit is not None:
                self._left -= len(data)
                if self._left < 0:
                    raise too_large(self._limit)
            self._decoder.feed(data)

    def skipped(self, count: int) -> None:
        raise NotImplementedError

    @property
    def spent(self) -> bool:
        return self._framing.spent

    def surplus(self) -> bool:
        return self._framing.surplus()
