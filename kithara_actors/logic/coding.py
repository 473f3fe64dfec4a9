"""Undoes a content coding, a bounded piece at a time. Sans-IO.

Sources: RFC 9110 section 8.4.1 (gzip, deflate), RFC 1952 (gzip: a file may have several members), RFC 1950 (zlib).
"""

from __future__ import annotations

import zlib

from kithara_actors.errors import ProtocolError

__all__ = ["CODINGS", "Decoder"]

CODINGS = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
"""The codings that are understood, by their names in lower case."""

_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_MAGIC = b"\x1f\x8b"


class Decoder:
    """One body in the coding `coding`, a value of `CODINGS`. Holds no more than it was fed and a window of 32 KiB.

    What follows the end of the coded data is dropped, as curl and browsers do, but for another member of gzip.
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._held = b""
        self._fed = False
        self._members = 0
        self._over = False
        self._inflate: zlib._Decompress | None = None

    def feed(self, data: bytes | memoryview) -> None:
        """The next bytes of the coded body. They are copied."""
        self._fed = self._fed or bool(data)
        self._held += data

    def take(self, limit: int) -> bytes:
        """The next decoded bytes, at most `limit` (at least 1); empty when there is nothing to make them of.

        ProtocolError for what is not in the coding.
        """
        while True:
            if self._inflate is None:
                self._inflate = self._begin()
                if self._inflate is None:
                    return b""
            try:
                # Also without input: zlib may have output left that the last limit held back.
                data = self._inflate.decompress(self._held, limit)
            except zlib.error:
                raise ProtocolError(f"the body is not the {self._coding} that its Content-Encoding promises") from None
            if self._inflate.eof:
                self._held = self._inflate.unused_data
                self._inflate = None
                self._members += 1
            else:
                self._held = self._inflate.unconsumed_tail
            if data or not self._held:
                return data

    @property
    def complete(self) -> bool:
        """Whether the body may end here. One without a single byte may: servers label those too."""
        return not self._fed or (self._members > 0 and self._inflate is None)

    def _begin(self) -> zlib._Decompress | None:
        """What reads on, or None while, or because, nothing of the coding is there."""
        if self._over:
            self._held = b""
        if len(self._held) < len(_MAGIC):
            return None
        if self._members and (self._coding != "gzip" or not self._held.startswith(_MAGIC)):
            self._over = True
            self._held = b""
            return None
        if self._coding == "gzip":
            return zlib.decompressobj(_GZIP)
        # Many servers send deflate without the wrapping of RFC 1950 that the name stands for.
        wrapped = self._held[0] & 0x0F == zlib.DEFLATED and int.from_bytes(self._held[:2], "big") % 31 == 0
        return zlib.decompressobj(_ZLIB if wrapped else _RAW)
