"""MPEG audio and ADTS: numbers by mutagen, tags before and after.

Sources: ISO/IEC 11172-3 and 13818-3 (MPEG audio), ISO/IEC 13818-7 section 6.2 (ADTS).
"""

from __future__ import annotations

from collections.abc import Callable

from kithara_actors.media.findings import Findings
from kithara_actors.media.id3 import end_of_id3, read_ape, read_id3
from kithara_actors.media.libraries import library
from kithara_actors.media.source import ParserLimitError, Part, Source
from kithara_actors.media.vorbis import read_flac
from kithara_actors.values import AudioCodec, Container

__all__ = ["read_mpeg"]

_SEARCH = 128 * 1024
"""Bytes after the tags in which the first frames are looked for."""
_FRAMES = 64
"""How many frames tell whether the bit rate is constant, in a file that does not say so."""
_PROFILE_LC = 1


def read_mpeg(source: Source, found: Findings, attempt: Callable[..., object]) -> None:
    """`attempt(reader, *arguments)` runs one reader; what goes wrong there ends no other."""
    start = end_of_id3(source)
    head = source.read_at(start, 4)
    if head.startswith(b"fLaC"):
        found.add_media(AudioCodec.FLAC, Container.FLAC)
        attempt(read_flac, source, found, start)
    elif found.container is Container.ADTS or (len(head) >= 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0):
        attempt(_adts, source, found, start)
    else:
        attempt(_layer3, source, found, start)
    attempt(read_id3, source, found)
    attempt(read_ape, source, found)


class _Front(Part):
    """A source whose front alone can be read, though its length is told."""

    def __init__(self, source: Source, start: int) -> None:
        super().__init__(source)
        self._front = start + _SEARCH

    def read(self, count: int = -1) -> bytes:
        left = self._front - self.tell()
        if left <= 0:
            raise ParserLimitError(f"no frame of sound in {_SEARCH // 1024} KiB")
        return super().read(left if count < 0 else min(count, left))


def _layer3(source: Source, found: Findings, start: int) -> None:
    info = library("mutagen.mp3").MPEGInfo(_Front(source, start), offset=start)
    found.add_media(AudioCodec.MP3 if info.layer == 3 else None, Container.MPEG_AUDIO)
    bitrate = float(info.bitrate)
    length = float(info.length)
    average = _average(source, info.frame_offset)
    if average is not None and average != bitrate:
        bitrate = average
        length = (source.size - info.frame_offset) * 8 / average
        found.add_remark("the duration is an estimate: the bit rate varies, and there is no Xing header")
    found.add_numbers(info.sample_rate, info.channels, length, bitrate)


def _average(source: Source, start: int) -> float | None:
    """Bits per second over the first frames; None if a header gives the duration, or where there are no frames."""
    mp3 = library("mutagen.mp3")
    file = Part(source)
    file.seek(start)
    rates: list[int] = []
    while len(rates) < _FRAMES:
        try:
            frame = mp3.MPEGFrame(file)
        except mp3.HeaderNotFoundError:
            break
        if hasattr(frame, "length"):
            return None
        rates.append(frame.bitrate)
    # Each frame is as long as any other, in time.
    return sum(rates) / len(rates) if rates else None


def _adts(source: Source, found: Findings, start: int) -> None:
    header = source.read_at(start, 4)
    lc = len(header) == 4 and header[2] >> 6 == _PROFILE_LC
    found.add_media(AudioCodec.AAC_LC if lc else None, Container.ADTS)
    info = library("mutagen.aac").AACInfo(_Front(source, start))
    found.add_numbers(info.sample_rate, info.channels, info.length or None, info.bitrate)
    if info.length:
        found.add_remark("the duration is an estimate from the first frames: ADTS does not tell it")
