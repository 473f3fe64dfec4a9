"""Tags and pictures of ID3v2, ID3v1 and APEv2, by mutagen; pictures are found here and not read.

Sources: id3.org (ID3v2.2.0, 2.3.0, 2.4.0).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from kithara_actors.media.findings import Findings, Pair
from kithara_actors.media.libraries import library
from kithara_actors.media.pictures import cover_of, reader_of
from kithara_actors.media.source import Part, Source

__all__ = ["end_of_id3", "read_ape", "read_id3"]

_FRAMES = 500
_LARGE = 4096
"""Bytes of what is no text above which they are not worth reading."""
_TEXT_LIMIT = 64 * 1024
_TEXTS_LIMIT = 256 * 1024
"""Bytes of one text and of all. A text may have as many values as bytes, each of which takes some 7 µs."""
_OPAQUE_LIMIT = 1024 * 1024
"""Bytes: a tag whose frames can only be told apart by reading all of it is read up to this size."""
_APE_LIMIT = 1024 * 1024
_COMPRESSED_LIMIT = 128
"""Bytes of all frames that are compressed, which may be a thousand times as long."""
_HEADER = 512
"""Bytes of a picture frame in which its type and description end."""
_PICTURES = frozenset({b"APIC", b"PIC"})
_TEXTS = frozenset({b"COMM", b"USLT", b"WXXX", b"COM", b"ULT", b"WXX"})
_FRAME_ID = re.compile(rb"[A-Z][A-Z0-9]{2,3}")

_NAMES = {
    "TALB": "album",
    "TBPM": "bpm",
    "TCMP": "compilation",
    "TCOM": "composer",
    "TCOP": "copyright",
    "TDOR": "originaldate",
    "TDRC": "date",
    "TDRL": "releasedate",
    "TENC": "encodedby",
    "TEXT": "lyricist",
    "TIT1": "grouping",
    "TIT2": "title",
    "TIT3": "version",
    "TKEY": "initialkey",
    "TLAN": "language",
    "TMED": "media",
    "TMOO": "mood",
    "TOPE": "originalartist",
    "TPE1": "artist",
    "TPE2": "albumartist",
    "TPE3": "conductor",
    "TPE4": "arranger",
    "TPOS": "discnumber",
    "TPUB": "organization",
    "TRCK": "tracknumber",
    "TSO2": "albumartistsort",
    "TSOA": "albumsort",
    "TSOC": "composersort",
    "TSOP": "artistsort",
    "TSOT": "titlesort",
    "TSRC": "isrc",
    "TSSE": "encoder",
    "TSST": "discsubtitle",
}


def end_of_id3(source: Source, start: int = 0) -> int:
    """Where the ID3v2 tags end that stand at `start`, one after the other; `start` without any."""
    for _ in range(8):
        head = source.read_at(start, 10)
        if len(head) < 10 or not head.startswith(b"ID3"):
            break
        start += 10 + _synchsafe(head[6:10]) + (10 if head[5] & 0x10 else 0)
    return start


def _synchsafe(data: bytes) -> int:
    value = 0
    for byte in data:
        value = value << 7 | byte & 0x7F
    return value


def read_id3(source: Source, found: Findings, start: int = 0, end: int | None = None) -> None:
    """The tag at `start`; with `end` None also the ID3v1 tag at the end of the file."""
    id3 = library("mutagen.id3")
    head = source.read_at(start, 10)
    walked = True
    if len(head) == 10 and head.startswith(b"ID3"):
        size = 10 + _synchsafe(head[6:10])
        walked = _walk(source, found, head, start, size)
        if not walked and not _harmless(source, id3, start, size):
            found.add_remark(f"an ID3 tag of {size:,} bytes that can only be read as a whole was left alone")
            return
    try:
        frames = id3.ID3(Part(source, start, end), load_v1=end is None)
    except id3.ID3NoHeaderError:
        return
    found.add_tags(_pairs(frames))
    if not walked:
        for frame in frames.getall("APIC"):
            if frame.mime != "-->":
                found.add_cover(cover_of(len(frame.data), reader_of(frame.data), frame.mime))


def read_ape(source: Source, found: Findings) -> None:
    """The APEv2 tag at the end of the file, or before an ID3v1 tag there."""
    ape = library("mutagen.apev2")
    try:
        items = ape.APEv2(Part(source, max(source.size - _APE_LIMIT, 0)))
    except ape.APENoHeaderError:
        return
    pairs: list[Pair] = []
    for key, value in items.items():
        if value.kind == ape.TEXT and len(value.value) <= _TEXT_LIMIT:
            pairs += [(key, text) for text in value]
        elif value.kind == ape.BINARY and key.lower().startswith("cover art"):
            # The name of a file comes first.
            picture = value.value.partition(b"\x00")[2]
            found.add_cover(cover_of(len(picture), reader_of(picture)))
    found.add_tags(pairs)


def _pairs(frames: Any) -> Iterator[Pair]:
    for frame in frames.values():
        kind = frame.FrameID
        if kind == "TXXX":
            yield from ((frame.desc, text) for text in frame.text)
        elif kind == "TCON":
            yield from (("genre", text) for text in frame.genres)
        elif kind == "COMM":
            # iTunes keeps numbers of its own in comments.
            if not frame.desc.startswith("iTun"):
                yield from (("comment", text) for text in frame.text)
        elif kind == "USLT":
            yield "lyrics", frame.text
        elif kind == "WXXX":
            yield "website", frame.url
        elif kind in _NAMES:
            yield from ((_NAMES[kind], text) for text in frame.text)


def _harmless(source: Source, id3: Any, start: int, size: int) -> bool:
    """Whether a tag is short, of few frames, and none of them compressed.

    The time that mutagen takes grows with the square of their number.
    """
    if size > _OPAQUE_LIMIT:
        return False
    names = "|".join({*id3.Frames, *id3.Frames_2_2}).encode()
    data = source.read_at(start, size)
    version = data[3]
    if version < 4:
        data = data.replace(b"\xff\x00", b"\xff")
    frames = list(islice(re.finditer(names, data), _FRAMES))
    compressed = {3: 0x80, 4: 0x08}.get(version, 0)
    few = len(frames) < _FRAMES and data.count(0) < _TEXTS_LIMIT
    return few and not any(flags & compressed for place in frames for flags in data[place.end() + 5 : place.end() + 6])


def _walk(source: Source, found: Findings, head: bytes, start: int, size: int) -> bool:
    """Take the pictures of a tag; hide from mutagen what is long and no text.

    False: its frames cannot be told apart without reading them.
    """
    version, flags = head[3], head[5]
    end = min(start + size, source.size)
    # Unsynchronisation changes the bytes themselves; an extended header is rare.
    frames = None if version not in (2, 3, 4) or flags & 0xC0 else _frames(source, version, start + 10, end)
    if frames is None:
        return False
    text_left, coded_left = _TEXTS_LIMIT, _COMPRESSED_LIMIT
    for kind, begin, content, stop, coded in frames:
        length = stop - content
        if coded:
            coded_left -= length
            hidden = coded_left < 0
        elif kind in _PICTURES:
            _picture(source, found, version, content, stop)
            hidden = True
        elif kind[:1] == b"T" or kind in _TEXTS:
            text_left -= length
            hidden = length > _TEXT_LIMIT or text_left < 0
        else:
            hidden = length > _LARGE
        if hidden:
            # A frame of a kind that nobody knows. Zeros in one that is known would be a value each.
            source.blank(begin, begin + len(kind), b"XXXX"[: len(kind)])
            source.blank(content, stop)
    return True


_Frame = tuple[bytes, int, int, int, bool]


def _frames(source: Source, version: int, at: int, end: int) -> list[_Frame] | None:
    """Kind, start, bounds of the content, whether it is coded somehow, of each frame; None as for `_walk`."""
    frames: list[_Frame] = []
    width = 6 if version == 2 else 10
    while at + width <= end:
        head = source.read_at(at, width)
        kind = head[: 3 if version == 2 else 4]
        if not _FRAME_ID.fullmatch(kind):
            # Padding may be as long as any picture.
            if head.strip(b"\x00"):
                return frames
            break
        if len(frames) == _FRAMES:
            break
        begin, content = at, at + width
        at = min(content + _length(source, version, head, content, end), end)
        coded = False
        if version == 3:
            coded = bool(head[9] & 0xC0)
            content += head[9] >> 5 & 1  # the group it belongs to
        elif version == 4:
            if head[9] & 0x02:
                return None
            coded = bool(head[9] & 0x0C)
            content += (head[9] >> 6 & 1) + 4 * (head[9] & 1)  # its group, its length
        frames.append((kind, begin, content, at, coded))
    source.blank(at, end)
    return frames


def _length(source: Source, version: int, frame: bytes, content: int, end: int) -> int:
    if version == 2:
        return int.from_bytes(frame[3:6], "big")
    plain = int.from_bytes(frame[4:8], "big")
    safe = _synchsafe(frame[4:8])
    if version == 3 or plain == safe:
        return plain
    # Old iTunes wrote plain numbers here: what follows the frame tells.
    return safe if not plain & 0x80808080 and _frame_begins(source, content + safe, end) else plain


def _frame_begins(source: Source, at: int, end: int) -> bool:
    if at >= end:
        return at == end
    following = source.read_at(at, 4)
    return not following.strip(b"\x00") or _FRAME_ID.fullmatch(following) is not None


def _picture(source: Source, found: Findings, version: int, start: int, end: int) -> None:
    head = source.read_at(start, min(_HEADER, end - start))
    mime_end = 4 if version == 2 else head.find(b"\x00", 1)
    if len(head) < 8 or mime_end < 0:
        return
    mime = head[1:mime_end].decode("latin-1")
    text = mime_end + (1 if version == 2 else 2)
    if head[0] in (1, 2):  # UTF-16: the end is two zeros at an even distance
        ends = (at for at in range(text, len(head) - 1, 2) if head[at : at + 2] == b"\x00\x00")
        data = next(ends, -3) + 2
    else:
        data = head.find(b"\x00", text) + 1
    if data <= 0 or mime == "-->":
        return
    size = end - start - data

    def read(offset: int, count: int) -> bytes:
        return source.read_at(start + data + offset, min(count, size - offset))

    found.add_cover(cover_of(size, read, mime))
