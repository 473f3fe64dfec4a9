"""Matroska and WebM: where the parts are is found here, what is in them enzyme reads.

Sources: RFC 8794 (EBML), RFC 9559 (Matroska), the Matroska tag specification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple

from kithara_actors.media.findings import Findings, Pair
from kithara_actors.media.info import from_content_type
from kithara_actors.media.libraries import library
from kithara_actors.media.pictures import cover_of
from kithara_actors.media.source import Source
from kithara_actors.values import AudioCodec

__all__ = ["read_matroska"]

_ELEMENTS = 1000
_PART_LIMIT = 256 * 1024
"""Bytes of one part: enzyme takes up to 3 µs for a byte."""
_SEGMENT, _CLUSTER, _SEEK_HEAD = 0x18538067, 0x1F43B675, 0x114D9B74
_INFO, _TRACKS, _TAGS, _ATTACHMENTS = 0x1549A966, 0x1654AE6B, 0x1254C367, 0x1941A469
_SEEK, _SEEK_ID, _SEEK_POSITION = 0x4DBB, 0x53AB, 0x53AC
_ATTACHED, _MIME, _DATA = 0x61A7, 0x4660, 0x465C

_ALBUM, _TRACK = 50, 30
"""What a tag is about, by its TargetTypeValue."""
_NAMES = {
    "date_released": "date",
    "part_number": "tracknumber",
    "date_recorded": "date",
    "album_artist": "albumartist",
}
_OF_ALBUM = {"title": "album", "artist": "albumartist", "part_number": "discnumber"}

_Attempt = Callable[..., object]


class _Element(NamedTuple):
    identity: int
    start: int
    content: int
    end: int


def _elements(source: Source, start: int, end: int) -> Iterator[_Element]:
    """The elements in `start..end`; one that is too long, or of unknown size, goes to the end."""
    for _ in range(_ELEMENTS):
        head = source.read_at(start, min(12, end - start))
        width = 9 - head[0].bit_length() if head else 0
        if not 1 <= width <= 4 or len(head) <= width or not head[width]:
            return
        length = 9 - head[width].bit_length()
        raw = head[width : width + length]
        if len(raw) < length:
            return
        size = int.from_bytes(raw, "big") & ~(1 << 7 * length)
        content = start + width + length
        stop = min(content + size, end)
        yield _Element(int.from_bytes(head[:width], "big"), start, content, stop)
        start = stop


def read_matroska(source: Source, found: Findings, attempt: _Attempt) -> None:
    """The parts before the first cluster, and those that the seek head leads to."""
    segment = next((each for each in _elements(source, 0, source.size) if each.identity == _SEGMENT), None)
    if segment is None:
        return
    parts = _parts(source, segment)
    for identity, reader in ((_INFO, _info), (_TRACKS, _tracks), (_TAGS, _tags)):
        if identity in parts:
            attempt(_by_enzyme, source, found, parts[identity], reader)
    if _ATTACHMENTS in parts:
        attempt(_attachments, source, found, parts[_ATTACHMENTS])


def _parts(source: Source, segment: _Element) -> dict[int, _Element]:
    parts: dict[int, _Element] = {}
    seek: list[tuple[int, int]] = []
    for element in _elements(source, segment.content, segment.end):
        if element.identity == _CLUSTER:
            break
        if element.identity == _SEEK_HEAD:
            seek += _seek_head(source, element)
        elif element.identity in (_INFO, _TRACKS, _TAGS, _ATTACHMENTS):
            parts.setdefault(element.identity, element)
    for identity, position in seek:
        if identity in (_INFO, _TRACKS, _TAGS, _ATTACHMENTS) and identity not in parts:
            place = segment.content + position
            there = next(_elements(source, place, segment.end), None) if place < segment.end else None
            if there is not None and there.identity == identity:
                parts[identity] = there
    return parts


def _seek_head(source: Source, head: _Element) -> Iterator[tuple[int, int]]:
    for seek in _elements(source, head.content, head.end):
        if seek.identity != _SEEK:
            continue
        values = {
            each.identity: int.from_bytes(source.read_at(each.content, min(each.end - each.content, 8)), "big")
            for each in _elements(source, seek.content, seek.end)
        }
        if _SEEK_ID in values and _SEEK_POSITION in values:
            yield values[_SEEK_ID], values[_SEEK_POSITION]


# --- Content of the parts


@lru_cache(maxsize=1)
def _specification() -> dict[int, Any]:
    # Read from XML, in some 15 ms.
    return dict(library("enzyme.parsers.ebml").get_matroska_specs())


def _by_enzyme(source: Source, found: Findings, part: _Element, reader: Callable[[Any, Any, Findings], None]) -> None:
    size = part.end - part.content
    if size > _PART_LIMIT:
        found.add_remark(f"{size:,} bytes of Matroska headers were left alone")
        return
    data = source.read_at(part.content, size)
    if len(data) < size:
        return
    ebml = library("enzyme.parsers.ebml")
    ignored = ["Void", "CRC-32"]
    children = ebml.parse(BytesIO(data), _specification(), size, ignore_element_names=ignored)
    reader(library("enzyme.mkv"), ebml.MasterElement(part.identity, "", 1, 0, size, children), found)


def _info(mkv: Any, part: Any, found: Findings) -> None:
    info = mkv.Info.fromelement(part)
    if info.duration is not None:
        found.add_numbers(duration=info.duration.total_seconds())
    else:
        found.add_remark("the recording does not tell its duration")
    if info.title:
        found.add_tags([("title", info.title)])


def _tracks(mkv: Any, part: Any, found: Findings) -> None:
    for entry in part:
        if entry.name == "TrackEntry" and entry.get("TrackType") == mkv.AUDIO_TRACK:
            track = mkv.AudioTrack.fromelement(entry)
            found.add_media(_codec(track.codec_id or ""))
            found.add_numbers(track.output_sampling_frequency or track.sampling_frequency, track.channels)
            return
    found.add_remark("no track of sound")


def _codec(name: str) -> AudioCodec | None:
    """Of a name of RFC 9559 section 27.4 and its registry."""
    if name == "A_MPEG/L3":
        return AudioCodec.MP3
    kind, _, detail = name.removeprefix("A_").partition("/")
    if kind == "AAC" and detail not in ("", "MPEG4/LC", "MPEG2/LC"):
        return None
    info = from_content_type(f'audio/webm; codecs="{kind}"') if kind.isalnum() else None
    return None if info is None else info.codec


def _tags(mkv: Any, part: Any, found: Findings) -> None:
    tags = []
    for element in part:
        if element.name != "Tag":
            continue
        targets = [each for child in element if child.name == "Targets" for each in child]
        if any(each.name in ("TagTrackUID", "TagAttachmentUID", "TagChapterUID") and each.data for each in targets):
            # Of one track, mostly statistics
            continue
        level = next((each.data for each in targets if each.name == "TargetTypeValue"), None)
        simple = [each for each in element if each.name == "SimpleTag"]
        tags.append((level, [mkv.SimpleTag.fromelement(each) for each in simple]))
    layered = any(level == _TRACK for level, _ in tags)
    for level in (_TRACK, None, _ALBUM):
        found.add_tags(
            pair
            for at, texts in tags
            if at == level
            for text in texts
            if (pair := _pair(text, layered and level == _ALBUM)) is not None
        )


def _pair(tag: Any, of_album: bool) -> Pair | None:
    if not tag.name or not tag.string:
        return None
    name = tag.name.lower()
    name = _OF_ALBUM.get(name, name) if of_album else name
    return _NAMES.get(name, name), tag.string


def _attachments(source: Source, found: Findings, part: _Element) -> None:
    """Pictures among the attached files."""
    for attached in _elements(source, part.content, part.end):
        if attached.identity != _ATTACHED:
            continue
        children = {each.identity: each for each in _elements(source, attached.content, attached.end)}
        mime, data = children.get(_MIME), children.get(_DATA)
        if mime is None or data is None:
            continue
        kind = source.read_at(mime.content, min(mime.end - mime.content, 100)).decode("latin-1").rstrip("\x00")
        if kind.startswith("image/"):
            _cover(source, found, data, kind)


def _cover(source: Source, found: Findings, data: _Element, kind: str) -> None:
    size = data.end - data.content

    def read(offset: int, count: int) -> bytes:
        return source.read_at(data.content + offset, min(count, size - offset))

    found.add_cover(cover_of(size, read, kind))
