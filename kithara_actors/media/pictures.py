"""Type and measures of a picture, from its own header.

Sources: RFC 2083 (PNG), the GIF89a specification, ITU-T T.81 (JPEG), RFC 9649 (WebP).
"""

from __future__ import annotations

from collections.abc import Callable

from kithara_actors.media.findings import clean
from kithara_actors.values import Cover

__all__ = ["Reader", "cover_of", "reader_of"]

Reader = Callable[[int, int], bytes]
"""Gives so many bytes of a picture (second argument) from a position in it (first)."""

_SEGMENTS = 30
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG: start of frame, whatever the coding. The others in this range are tables."""
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""JPEG: markers without a segment."""
_LOSSY = b"\x9d\x01\x2a"

_Measured = tuple[str | None, int | None, int | None]


def reader_of(data: bytes) -> Reader:
    """A reader of a picture that is in memory."""
    return lambda offset, count: data[offset : offset + count]


def cover_of(size: int, read: Reader, declared: str = "") -> Cover:
    """The picture of `size` bytes that `read` gives. What it is decides; else `declared`, its given type."""
    kind, width, height = _measured(read)
    mime = kind or clean(declared, 100).lower()
    if mime and "/" not in mime:
        mime = "image/" + mime
    return Cover(mime or "application/octet-stream", size, width or None, height or None)


def _measured(read: Reader) -> _Measured:
    head = read(0, 32)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        if head[12:16] != b"IHDR" or len(head) < 24:
            return "image/png", None, None
        return "image/png", int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif", int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp(head)
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg(read)
    return None, None, None


def _webp(head: bytes) -> _Measured:
    width = height = None
    match head[12:16]:
        case b"VP8X":
            width = int.from_bytes(head[24:27], "little") + 1
            height = int.from_bytes(head[27:30], "little") + 1
        case b"VP8L" if head[20:21] == b"\x2f":
            bits = int.from_bytes(head[21:25], "little")
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 " if head[23:26] == _LOSSY:
            width = int.from_bytes(head[26:28], "little") & 0x3FFF
            height = int.from_bytes(head[28:30], "little") & 0x3FFF
    return "image/webp", width, height


def _jpeg(read: Reader) -> _Measured:
    at = 2
    for _ in range(_SEGMENTS):
        segment = read(at, 9)
        if len(segment) < 9 or segment[0] != 0xFF:
            break
        marker = segment[1]
        if marker in _FRAMES:
            return "image/jpeg", int.from_bytes(segment[7:9], "big"), int.from_bytes(segment[5:7], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + max(int.from_bytes(segment[2:4], "big"), 2)
    return "image/jpeg", None, None
