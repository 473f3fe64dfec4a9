"""WAV, AIFF, CAF and AU: what their headers say.

AIFF by mutagen. Of WAV it knows neither RF64 and RIFX nor INFO tags, nor what is the length that a writer to a pipe
left open; of CAF and AU nothing.

Sources: the RIFF specification of Microsoft and IBM, EBU Tech 3306 (RF64), Apple's specifications of AIFF, AIFF-C and
CAF, and the header of Sun's audio files.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from kithara_actors.media.findings import Findings, Pair
from kithara_actors.media.id3 import read_id3
from kithara_actors.media.libraries import library
from kithara_actors.media.source import Part, Source
from kithara_actors.values import AudioCodec, Container

__all__ = ["read_aiff", "read_au", "read_caf", "read_wav"]

_CHUNKS = 200
_TEXT = 4000
_INFO_LIMIT = 64 * 1024
_UNKNOWN = 0xFFFF_FFFF

_INFO_NAMES = {
    b"IART": "artist",
    b"ICMT": "comment",
    b"ICOP": "copyright",
    b"ICRD": "date",
    b"IENG": "engineer",
    b"IGNR": "genre",
    b"IMUS": "composer",
    b"INAM": "title",
    b"IPRD": "album",
    b"IPRT": "tracknumber",
    b"ISFT": "encoder",
    b"ITRK": "tracknumber",
}
_AIFF_NAMES = {b"NAME": "title", b"AUTH": "artist", b"(c) ": "copyright", b"ANNO": "comment"}
_AIFC_PCM = frozenset({b"NONE", b"sowt", b"twos", b"raw ", b"in24", b"in32", b"fl32", b"fl64", b"FL32", b"FL64"})
_AFTER_DATA = frozenset({b"LIST", b"id3 ", b"ID3 ", b"fact", b"bext", b"cue ", b"smpl", b"inst", b"iXML", b"JUNK"})

_Attempt = Callable[..., object]


# --- WAV


def read_wav(source: Source, found: Findings, attempt: _Attempt) -> None:
    """The format, the amount of data, and the tags that stand before or after it."""
    kind = source.read_at(0, 4)
    order = ">" if kind == b"RIFX" else "<"
    data: tuple[int, int] | None = None
    rate = bytes_a_second = samples = 0
    # RF64: a chunk at the front has the size that 32 bits cannot hold.
    front = source.read_at(12, 24) if kind == b"RF64" else b""
    long_size = int.from_bytes(front[16:24], "little") if front.startswith(b"ds64") else None
    for name, start, size in _chunks(source, 12, order, lambda start, size: _wav_size(source, start, size, long_size)):
        if name == b"fmt " and not rate:
            rate, bytes_a_second = _wave_format(source.read_at(start, min(size, 40)), order, found)
        elif name == b"fact":
            (samples,) = struct.unpack(order + "I", source.read_at(start, 4).ljust(4, b"\x00"))
        elif name == b"data" and data is None:
            data = start, size
        elif name == b"LIST":
            attempt(_info_list, source, found, start, size, order)
        elif name in (b"id3 ", b"ID3 "):
            attempt(read_id3, source, found, start, start + size)
    if 0 < samples < _UNKNOWN and rate and found.codec is not AudioCodec.PCM:
        found.add_numbers(duration=samples / rate)
    if data is not None and bytes_a_second:
        found.add_numbers(duration=data[1] / bytes_a_second)


def _wave_format(data: bytes, order: str, found: Findings) -> tuple[int, int]:
    """Samples and bytes of a second."""
    if len(data) < 16:
        return 0, 0
    form, channels, rate, bytes_a_second, block, bits = struct.unpack(order + "HHIIHH", data[:16])
    if form == 0xFFFE and len(data) >= 26:  # the format is in an extension
        (form,) = struct.unpack(order + "H", data[24:26])
    codec = {1: AudioCodec.PCM, 3: AudioCodec.PCM, 0x55: AudioCodec.MP3}.get(form)
    if codec is AudioCodec.PCM:
        # Some writers leave one of the two wrong.
        bytes_a_second = block * rate
        found.add_numbers(bitrate=channels * bits * rate)
    found.add_media(codec, Container.WAV)
    found.add_numbers(rate, channels, bitrate=bytes_a_second * 8)
    return rate, bytes_a_second


def _wav_size(source: Source, start: int, size: int, long_size: int | None) -> int:
    """How much data there is: writers to a pipe leave 0 or the largest number, and files are cut short."""
    there = source.size - start
    if size == _UNKNOWN and long_size is not None:
        size = long_size
    if size == 0 and there > 0:
        following = source.read_at(start, 8)
        return 0 if following[:4] in _AFTER_DATA else there
    return min(size, there)


def _info_list(source: Source, found: Findings, start: int, size: int, order: str) -> None:
    if source.read_at(start, 4) != b"INFO":
        return
    pairs: list[Pair] = []
    end = start + min(size, _INFO_LIMIT)
    for name, at, length in _chunks(source, start + 4, order, end=end):
        if name in _INFO_NAMES:
            pairs.append((_INFO_NAMES[name], _text(source.read_at(at, min(length, _TEXT)))))
    found.add_tags(pairs)


def _text(data: bytes) -> str:
    data = data.partition(b"\x00")[0]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _chunks(
    source: Source,
    at: int,
    order: str,
    data_size: Callable[[int, int], int] | None = None,
    end: int | None = None,
) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and size of each chunk; `data_size` tells the size of the chunk with the data."""
    end = source.size if end is None else min(end, source.size)
    for _ in range(_CHUNKS):
        head = source.read_at(at, 8)
        if at + 8 > end or len(head) < 8:
            return
        name, size = struct.unpack(order + "4sI", head)
        at += 8
        size = data_size(at, size) if data_size is not None and name == b"data" else min(size, end - at)
        yield name, at, size
        at += size + size % 2


# --- AIFF


def read_aiff(source: Source, found: Findings, attempt: _Attempt) -> None:
    """Numbers by mutagen; the codec, and the tags."""
    compressed = source.read_at(8, 4) == b"AIFC"
    for name, start, size in _chunks(source, 12, ">"):
        if name == b"COMM":
            found.add_media(_aiff_codec(source.read_at(start + 18, 4) if compressed else b"NONE"), Container.AIFF)
            attempt(_aiff_numbers, source, found)
        elif name in (b"ID3 ", b"id3 "):
            attempt(read_id3, source, found, start, start + size)
        elif name in _AIFF_NAMES:
            found.add_tags([(_AIFF_NAMES[name], _text(source.read_at(start, min(size, _TEXT))))])


def _aiff_numbers(source: Source, found: Findings) -> None:
    info = library("mutagen.aiff").AIFFInfo(Part(source))
    found.add_numbers(info.sample_rate, info.channels)
    if found.codec is not None:  # else it would take packets for samples
        found.add_numbers(duration=info.length, bitrate=info.bitrate or None)


def _aiff_codec(name: bytes) -> AudioCodec | None:
    return AudioCodec.PCM if name in _AIFC_PCM else AudioCodec.ALAC if name == b"alac" else None


# --- CAF and AU


def read_caf(source: Source, found: Findings, _: _Attempt) -> None:
    """The description, and the amount of data or, where packets vary, their number."""
    rate = 0.0
    packet = frames = 0
    codec = None
    seconds = None
    at = 8
    for _number in range(_CHUNKS):
        head = source.read_at(at, 12)
        if len(head) < 12:
            break
        name, size = struct.unpack(">4sq", head)
        at += 12
        if (name == b"data" and size == -1) or size > source.size - at:
            size = source.size - at
        if size < 0:
            break
        if name == b"desc" and size >= 32:
            rate, kind, _flags, packet, frames, channels, _bits = struct.unpack(">d4s5I", source.read_at(at, 32))
            codec = _CAF_CODECS.get(kind)
            found.add_media(codec, Container.CAF)
            found.add_numbers(rate, channels)
        elif name == b"pakt" and size >= 24 and rate >= 1:
            valid = struct.unpack(">q", source.read_at(at + 8, 8))[0]
            seconds = valid / rate if valid > 0 else None
        elif name == b"data" and packet and frames and rate >= 1:
            # Four bytes count the edits.
            seconds = max(size - 4, 0) // packet * frames / rate
            found.add_numbers(bitrate=packet * 8 * rate / frames)
        at += size
        if seconds is not None:
            break
    found.add_numbers(duration=seconds)


_CAF_CODECS = {
    b"lpcm": AudioCodec.PCM,
    b"alac": AudioCodec.ALAC,
    b"flac": AudioCodec.FLAC,
    b"opus": AudioCodec.OPUS,
    b"aac ": AudioCodec.AAC_LC,
    b".mp3": AudioCodec.MP3,
}
_AU_BITS = {1: 8, 2: 8, 3: 16, 4: 24, 5: 32, 6: 32, 7: 64, 27: 8}
"""Bits of a sample of each encoding that has a fixed number: 1 and 27 are companded, 6 and 7 floats."""


def read_au(source: Source, found: Findings, _: _Attempt) -> None:
    """The header is all that there is."""
    header = source.read_at(0, 24)
    if len(header) < 24:
        return
    start, size, encoding, rate, channels = struct.unpack(">5I", header[4:])
    found.add_media(AudioCodec.PCM if 2 <= encoding <= 7 else None, Container.AU)
    found.add_numbers(rate, channels)
    there = max(source.size - start, 0)
    size = there if size == _UNKNOWN else min(size, there)
    bits = _AU_BITS.get(encoding, 0) * rate * channels
    if bits:
        found.add_numbers(duration=size * 8 / bits, bitrate=bits)
