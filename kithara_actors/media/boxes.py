"""MP4: which boxes matter, what pymp4 reads in the small ones, what mutagen reads in the movie box.

Sources: ISO/IEC 14496-12 (boxes), ISO/IEC 14496-14 (MP4), RFC 6381 (names of codecs), Apple's QuickTime File Format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kithara_actors.media.findings import Findings, Pair
from kithara_actors.media.info import from_content_type
from kithara_actors.media.libraries import library
from kithara_actors.media.pictures import cover_of
from kithara_actors.media.source import ParserLimitError, Part, Source
from kithara_actors.values import AudioCodec, Container

__all__ = ["read_mp4"]

_TOP_BOXES = 64
_BOXES = 2000
_SMALL = 4096
"""Bytes: no box of fixed make that is looked into is longer."""
_REFERENCES = 8192
"""How many references of a segment index are read, each in about 60 µs."""
_LARGE = 4096
_TEXT_LIMIT = 64 * 1024
_TEXTS_LIMIT = 1024 * 1024
"""Bytes of one item, and of all, that mutagen is shown."""
_REFERENCE = 12
"""Bytes of one reference."""

_PCM = frozenset({"sowt", "twos", "in24", "in32", "fl32", "fl64", "ipcm", "fpcm", "lpcm"})
_AAC_LC = frozenset({"mp4a", "mp4a.40", "mp4a.40.2", "mp4a.67"})

_Attempt = Callable[..., object]


class _Box(NamedTuple):
    kind: bytes
    start: int
    content: int
    end: int


def _boxes(source: Source, start: int, end: int, limit: int = _BOXES) -> Iterator[_Box]:
    """The boxes in `start..end`, a last one that is too long cut to fit. Raises ParserLimitError beyond `limit`."""
    for _ in range(limit):
        head = source.read_at(start, min(16, end - start))
        if len(head) < 8:
            return
        size = int.from_bytes(head[:4], "big")
        content = start + 8
        if size == 1:
            if len(head) < 16:
                return
            size = int.from_bytes(head[8:16], "big")
            content = start + 16
        elif size == 0:
            size = end - start
        if size < content - start:
            return
        stop = min(start + size, end)
        yield _Box(head[4:8], start, content, stop)
        start = stop
    raise ParserLimitError(f"more than {limit} boxes in a row")


def _find(source: Source, box: _Box, *path: bytes) -> _Box | None:
    """The first box at the end of a path downwards."""
    for kind in path:
        skipped = 4 if box.kind == b"meta" else 0
        inner = next((each for each in _boxes(source, box.content + skipped, box.end) if each.kind == kind), None)
        if inner is None:
            return None
        box = inner
    return box


def read_mp4(source: Source, found: Findings, attempt: _Attempt) -> None:
    """The movie box, wherever it is, and the index of fragments if it is before them."""
    movie: _Box | None = None
    index: _Box | None = None
    fragments = False
    for box in _boxes(source, 0, source.size, _TOP_BOXES):
        if box.kind == b"moov" and movie is None:
            movie = box
        elif box.kind == b"sidx" and index is None:
            index = box
        elif box.kind == b"moof":
            fragments = True
        if fragments or (movie is not None and box.kind == b"mdat"):
            break
    if movie is None:
        if not source.unseen:
            found.add_remark("an MP4 file without a movie box (moov)")
        return
    found.add_media(found.codec, Container.MP4)
    extends = _find(source, movie, b"mvex")
    track = _sound_track(source, movie)
    if extends is not None or fragments:
        attempt(_fragmented, source, found, movie, extends, index)
    if track is None:
        found.add_remark("no track of sound")
    else:
        attempt(_sample_entry, source, found, track)
    attempt(_pictures, source, found, movie)
    attempt(_by_mutagen, source, found, movie, extends is None and not fragments and track is not None)
    if extends is None and not fragments:
        attempt(_classic, source, found, movie if track is None else track)


def _sound_track(source: Source, movie: _Box) -> _Box | None:
    for box in _boxes(source, movie.content, movie.end):
        handler = _find(source, box, b"mdia", b"hdlr") if box.kind == b"trak" else None
        if handler is not None and source.read_at(handler.content, 12)[8:] == b"soun":
            return box
    return None


def _parse(source: Source, box: _Box | None, limit: int = _SMALL) -> Any:
    """What pymp4 makes of a box, None if it does not like it."""
    if box is None or box.end - box.content > limit:
        return None
    content = source.read_at(box.content, box.end - box.content)
    if len(content) < box.end - box.content:
        return None
    parser = library("pymp4.parser")
    try:
        # A size of 64 bits, or one that lies, is not for pymp4.
        return parser.Box.parse(struct.pack(">I4s", 8 + len(content), box.kind) + content)
    except parser.ConstructError:
        return None


def _sample_entry(source: Source, found: Findings, track: _Box) -> None:
    """Codec, rate and channels as the first sample entry tells them without its details."""
    table = _find(source, track, b"mdia", b"minf", b"stbl", b"stsd")
    if table is None:
        return
    entry = next(_boxes(source, table.content + 8, table.end), None)
    if entry is None:
        return
    name = entry.kind.decode("latin-1")
    if name != "mp4a":
        # What a general name as mp4a holds is told by its details, which mutagen reads.
        found.add_media(_codec(name))
    elif found.codec is None:
        found.add_media(AudioCodec.AAC_LC)


def _codec(name: str) -> AudioCodec | None:
    """Of a name as RFC 6381 writes it."""
    if name.rstrip() in _PCM:
        return AudioCodec.PCM
    info = from_content_type(f'audio/mp4; codecs="{name}"') if name.isprintable() and '"' not in name else None
    codec = None if info is None else info.codec
    return None if codec is AudioCodec.AAC_LC and name not in _AAC_LC else codec


def _classic(source: Source, found: Findings, box: _Box) -> None:
    """The duration from the header of the track or, without one, of the movie; rate and channels without mutagen."""
    kind = (b"mdia", b"mdhd") if box.kind == b"trak" else (b"mvhd",)
    header = _parse(source, _find(source, box, *kind))
    if header is not None and header.timescale and header.duration:
        found.add_numbers(duration=header.duration / header.timescale)
    _entry_numbers(source, found, box)


def _entry_numbers(source: Source, found: Findings, box: _Box) -> None:
    if found.sample_rate is not None or box.kind != b"trak":
        return
    table = _parse(source, _find(source, box, b"mdia", b"minf", b"stbl", b"stsd"))
    if table is not None and table.entries and "channels" in table.entries[0]:
        found.add_numbers(table.entries[0].sampling_rate, table.entries[0].channels)


def _fragmented(source: Source, found: Findings, movie: _Box, extends: _Box | None, index: _Box | None) -> None:
    header = _parse(source, _find(source, movie, b"mvhd"))
    length = None if extends is None else _parse(source, _find(source, extends, b"mehd"))
    if header is not None and header.timescale and length is not None and length.fragment_duration:
        found.add_numbers(duration=length.fragment_duration / header.timescale)
    elif index is not None:
        _segments(source, found, index)
    if found.duration is None:
        found.add_remark("fragmented MP4 that does not tell its duration in front (mehd, sidx)")
    track = _sound_track(source, movie)
    if track is not None:
        _entry_numbers(source, found, track)


def _segments(source: Source, found: Findings, box: _Box) -> None:
    if box.end - box.content > 32 + _REFERENCES * _REFERENCE:
        found.add_remark("a segment index of more than 8,192 references was left alone")
        return
    index = _parse(source, box, 32 + _REFERENCES * _REFERENCE)
    if index is None or not index.timescale:
        return
    end = box.end + index.first_offset + sum(each.referenced_size for each in index.references)
    # There may be one index for each fragment. The one that counts reaches to the end, or to the table there.
    if end >= source.size or source.read_at(end, 8)[4:] == b"mfra":
        found.add_numbers(duration=sum(each.segment_duration for each in index.references) / index.timescale)


# --- Tags, pictures, details of the codec


def _items(source: Source, movie: _Box) -> Iterator[_Box]:
    items = _find(source, movie, b"udta", b"meta", b"ilst")
    if items is not None:
        yield from _boxes(source, items.content, items.end)


def _pictures(source: Source, found: Findings, movie: _Box) -> None:
    """Take the covers; hide from mutagen what is long."""
    text_left = _TEXTS_LIMIT
    for item in _items(source, movie):
        if item.kind != b"covr":
            text_left -= item.end - item.content
            if item.end - item.content > _TEXT_LIMIT or text_left < 0:
                source.blank(item.content + 8, item.end)
            continue
        for data in _boxes(source, item.content, item.end):
            if data.kind == b"data":
                _cover(source, found, data.content + 8, data.end)


def _cover(source: Source, found: Findings, start: int, end: int) -> None:
    kind = int.from_bytes(source.read_at(start - 8, 4), "big") & 0xFF_FFFF

    def read(offset: int, count: int) -> bytes:
        return source.read_at(start + offset, min(count, end - start - offset))

    found.add_cover(cover_of(end - start, read, {13: "image/jpeg", 14: "image/png", 27: "image/bmp"}.get(kind, "")))
    if end - start > _LARGE:
        source.blank(start, end)


def _by_mutagen(source: Source, found: Findings, movie: _Box, classic: bool) -> None:
    """`classic`: the track's own header tells the duration."""
    mp4 = library("mutagen.mp4")
    # The movie alone: mutagen would also walk all the fragments.
    file = Part(source, movie.start, movie.end)
    atoms = mp4.Atoms(file)
    if b"moov.udta.meta.ilst" in atoms:
        found.add_tags(_pairs(mp4.MP4Tags(atoms, file)))
    info = mp4.MP4Info(atoms, file)
    if info.codec:
        # High-efficiency AAC calls itself LC with something added.
        found.add_media(None if "+SBR" in info.codec_description else _codec(info.codec))
        if found.codec is None:
            found.add_remark(f"the codec is {info.codec_description} ({info.codec})")
    found.add_numbers(info.sample_rate, info.channels, (info.length or None) if classic else None, info.bitrate)


def _pairs(tags: Any) -> Iterator[Pair]:
    for key, values in tags.items():
        if key.startswith("----:"):
            name = key.rpartition(":")[2]
            # iTunes keeps numbers of its own in comments.
            if not name.startswith("iTun"):
                yield from ((name, bytes(value).decode("utf-8", "replace")) for value in values)
        elif key in ("trkn", "disk"):
            name = "tracknumber" if key == "trkn" else "discnumber"
            yield from ((name, f"{number}/{total}" if total else number) for number, total in values if number)
        elif key == "cpil":
            yield "compilation", int(values)
        elif key in _NAMES:
            yield from ((_NAMES[key], value) for value in values)


_NAMES = {
    "\xa9ART": "artist",
    "\xa9alb": "album",
    "\xa9cmt": "comment",
    "\xa9day": "date",
    "\xa9gen": "genre",
    "\xa9grp": "grouping",
    "\xa9lyr": "lyrics",
    "\xa9nam": "title",
    "\xa9too": "encoder",
    "\xa9wrt": "composer",
    "aART": "albumartist",
    "cprt": "copyright",
    "desc": "description",
    "soaa": "albumartistsort",
    "soal": "albumsort",
    "soar": "artistsort",
    "soco": "composersort",
    "sonm": "titlesort",
    "tmpo": "bpm",
}
