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
    AudioCodec.FLAC: ("mutagen.oggflac", "OggFLAC", "OggFLACStreamInfo"),
    AudioCodec.OPUS: ("mutagen.oggopus", "OggOpus", "OggOpusInfo"),
    AudioCodec.VORBIS: ("mutagen.oggvorbis", "OggVorbis", "OggVorbisInfo"),
}


def read_ogg(source: Source, found: Findings, attempt: _Attempt) -> None:
    """The stream that its first page names: numbers, comments, and the duration by its last page."""
    if found.codec is None:
        seen = sniff(source.read_at(0, PAGE))
        found.codec = None if seen is None else seen.codec
    if found.codec not in _OGG:
        found.add_remark("no audio stream is known here")
        return
    module, file, info = _OGG[found.codec]
    mutagen = library(module)
    found.add_media(found.codec, Container.OGG)
    # Its first page alone too, for a front that holds no more.
    attempt(_ogg_numbers, source, found, getattr(mutagen, info))
    attempt(_ogg_rest, source, found, getattr(mutagen, file))


def _ogg_numbers(source: Source, found: Findings, kind: Callable[[Part], Any]) -> None:
    info = kind(_Ends(source))
    found.add_numbers(getattr(info, "sample_rate", _OPUS_RATE), info.channels)
    if found.codec is AudioCodec.VORBIS:
        found.add_numbers(bitrate=info.bitrate)


def _ogg_rest(source: Source, found: Findings, kind: Callable[[Part], Any]) -> None:
    file = kind(_Ends(source))
    _add_comments(found, file.tags or ())
    # Where the end is not to be seen, mutagen takes the last page that is.
    if file.info.length and not source.unseen:
        found.add_numbers(duration=file.info.length, bitrate=getattr(file.info, "bitrate", None))
