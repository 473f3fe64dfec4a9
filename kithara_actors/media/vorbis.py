"""FLAC and Ogg by mutagen, with what is long and no text hidden from it.

Sources: RFC 9639 (FLAC), RFC 7845 (Opus in Ogg), the comment field METADATA_BLOCK_PICTURE of Xiph.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from io import BytesIO
from typing import Any

from kithara_actors.media.findings import Findings, Pair
from kithara_actors.media.info import sniff
from kithara_actors.media.libraries import library
from kithara_actors.media.pictures import cover_of, reader_of
from kithara_actors.media.source import PAGE, ParserLimitError, Part, Source
from kithara_actors.values import AudioCodec, Container

__all__ = ["read_flac", "read_ogg"]

_BLOCKS = 500
_STREAM_INFO = 34
_COMMENTS = 4
_COMMENT_LIMIT = 1024 * 1024
_SHOWN = 4096
"""Bytes of a block without text that mutagen is shown: type, texts and measures of a picture stand before its data."""
_FRONT = 512 * 1024
_TAIL = 64 * 1024
_OPUS_RATE = 48_000
"""Hz. Whatever was encoded, Opus is decoded at this rate (RFC 7845 section 4)."""

_UNNAMED = re.compile(r"unknown\d+")
"""What mutagen calls a comment without a name."""

_Attempt = Callable[..., object]


def read_flac(source: Source, found: Findings, start: int = 0) -> None:
    """The metadata blocks after the mark at `start`."""
    flac = library("mutagen.flac")
    # The first block comes alone too, for a front that holds no more.
    info = flac.StreamInfo(BytesIO(source.read_at(start + 8, _STREAM_INFO)))
    found.add_numbers(info.sample_rate, info.channels, info.length or None)
    if not info.total_samples:
        found.add_remark("the encoder left open how long it is")
    _hide(source, start + 4)
    file = flac.FLAC(Part(source, start))
    if info.total_samples:
        found.add_numbers(bitrate=file.info.bitrate)
    for picture in file.pictures:
        _add_picture(found, picture)
    _add_comments(found, file.tags or ())


def _hide(source: Source, at: int) -> None:
    """Blank what is long in the metadata blocks from `at` on."""
    for _ in range(_BLOCKS):
        head = source.read_at(at, 4)
        if len(head) < 4:
            return
        kind, end = head[0] & 0x7F, at + 4 + int.from_bytes(head[1:], "big")
        source.blank(at + 4 + (_COMMENT_LIMIT if kind == _COMMENTS else _SHOWN), end)
        if head[0] & 0x80:
            return
        at = end


def _add_picture(found: Findings, picture: Any) -> None:
    if picture.mime != "-->":
        cover = cover_of(len(picture.data), reader_of(picture.data), picture.mime)
        if cover.width is None:  # its own header says it too far from its start
            cover = replace(cover, width=picture.width or None, height=picture.height or None)
        found.add_cover(cover)


def _add_comments(found: Findings, comments: Iterable[tuple[str, str]]) -> None:
    pairs: list[Pair] = []
    for name, text in comments:
        match name.lower():
            case "metadata_block_picture":
                _add_encoded_picture(found, text)
            case "coverart" | "coverartmime":
                pass
            case unnamed if _UNNAMED.fullmatch(unnamed):
                pass
            case "description":  # FFmpeg writes a comment as one
                pairs.append(("comment", text))
            case plain:
                pairs.append((plain, text))
    found.add_tags(pairs)


def _add_encoded_picture(found: Findings, text: str) -> None:
    flac = library("mutagen.flac")
    try:
        _add_picture(found, flac.Picture(base64.b64decode(text)))
    except (binascii.Error, ValueError, flac.error):
        found.add_remark("a picture among the tags is broken")


class _Ends(Part):
    """The front and the end of a source: mutagen would read all between in search of a last page."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._tail = source.size - _TAIL

    def read(self, count: int = -1) -> bytes:
        if _FRONT <= self.tell() < self._tail:
            raise ParserLimitError("the file does not end with the stream it begins with: no duration")
        return super().read(count)


_OGG = {
    AudioCodec.FLAC: ("mutagen.oggflac", "OggFLACStreamInfo", "OggFLACVComment"),
    AudioCodec.OPUS: ("mutagen.oggopus", "OggOpusInfo", "OggOpusVComment"),
    AudioCodec.VORBIS: ("mutagen.oggvorbis", "OggVorbisInfo", "OggVCommentDict"),
}


def read_ogg(source: Source, found: Findings, attempt: _Attempt) -> None:
    """The stream that its first page names: numbers, comments, and the duration by its last page."""
    if found.codec is None:
        seen = sniff(source.read_at(0, PAGE))
        found.codec = None if seen is None else seen.codec
    if found.codec not in _OGG:
        found.add_remark("no audio stream is known here")
        return
    module, info, comments = _OGG[found.codec]
    mutagen = library(module)
    found.add_media(found.codec, Container.OGG)
    attempt(_ogg, source, found, getattr(mutagen, info), getattr(mutagen, comments))


def _ogg(
    source: Source,
    found: Findings,
    info_of: Callable[..., Any],
    comments_of: Callable[..., Any],
) -> None:
    file = _Ends(source)
    info = info_of(file)
    rate = getattr(info, "sample_rate", _OPUS_RATE)
    found.add_numbers(rate, info.channels, getattr(info, "length", 0) or None)
    if found.codec is AudioCodec.VORBIS:
        found.add_numbers(bitrate=info.bitrate)
    _add_comments(found, comments_of(file, info))
    if found.duration is None:
        before = getattr(info, "_OggOpusInfo__pre_skip", 0)
        _last_page(source, found, info.serial, rate, before)
    if found.duration and found.codec is AudioCodec.OPUS:
        found.add_numbers(bitrate=(source.size - file.tell()) * 8 / found.duration)


def _last_page(source: Source, found: Findings, serial: int, rate: int, before: int) -> None:
    """The position on the last page on which a packet ends; mutagen reads all of a file that was cut for it."""
    start = max(source.size - _TAIL, 0)
    tail = source.read_at(start, source.size - start)
    at = len(tail) if len(tail) == source.size - start else 0
    while (at := tail.rfind(b"OggS", 0, at)) >= 0:
        granule = int.from_bytes(tail[at + 6 : at + 14], "little", signed=True)
        mine = int.from_bytes(tail[at + 14 : at + 18], "little") == serial
        if mine and at + 27 <= len(tail) and tail[at + 4] == 0 and granule != -1:
            found.add_numbers(duration=max(granule - before, 0) / rate)
            return
    if not source.unseen:
        found.add_remark("the file does not end with the stream it begins with: no duration")
