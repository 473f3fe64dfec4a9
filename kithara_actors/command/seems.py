"""What bytes that are no media seem to be, for messages only."""

from __future__ import annotations

__all__ = ["EMPTY", "UNKNOWN", "seems"]

EMPTY = "empty"
UNKNOWN = "data of an unknown kind"
"""What is said of bytes that no rule fits: media may be among them."""

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"#EXTM3U", "a playlist"),
    (b"[playlist]", "a playlist"),
    (b"<?xml", "XML"),
)


def seems(first: bytes, content_type: str | None = None) -> str:
    """`first` are the bytes of the front; a few hundred do. The answer goes into "it seems to be …"."""
    if not first:
        return EMPTY
    if not first.strip(b"\x00"):
        return "nothing but zeros"
    text = first.lstrip()[:64].lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if first[:4] == b"RIFF" and first[8:12] == b"WEBP":
        return "a WebP image"
    for magic, name in _MAGIC:
        if first.startswith(magic):
            return name
    if _is_text(first):
        return "text"
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind.startswith(("image/", "text/", "video/", "application/")) and kind != "application/octet-stream":
        return f"{kind}, by what its server says"
    return UNKNOWN


def _is_text(first: bytes) -> bool:
    try:
        # The last character may have been cut.
        decoded = first.decode("utf-8", "strict") if len(first) < 4 else first[:-3].decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        if error.start < len(first) - 7:
            return False
        decoded = first[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\t\r\n\f\x1b" for character in decoded)
