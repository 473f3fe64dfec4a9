"""Files for the tests of details: recordings made by PyAV, others put together here, and files that count reads."""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from kithara_actors.media.details import describe
from kithara_actors.media.info import detect
from kithara_actors.values import MediaDetails

__all__ = [
    "RATE",
    "SECONDS",
    "TAGS",
    "CountingFile",
    "FrontFile",
    "SparseFile",
    "box",
    "describe_bytes",
    "element",
    "flac_block",
    "flac_file",
    "flac_picture",
    "id3_frame",
    "id3_tag",
    "jpeg",
    "ogg_page",
    "png",
    "recording",
    "riff",
    "vorbis_comments",
    "vorbis_file",
    "wave_format",
]

RATE = 44_100
SECONDS = 3
TAGS = {
    "title": "Sweep",
    "artist": "Kith and Kin",
    "album": "Recordings",
    "album_artist": "Various",
    "date": "2024",
    "track": "3/12",
    "disc": "1/2",
    "genre": "Noise",
    "comment": "made for a test",
    "composer": "Nobody",
}


class CountingFile(io.BytesIO):
    """Counts what is read from it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.reads: list[tuple[int, int]] = []

    def read(self, size: int | None = -1, /) -> bytes:
        at = self.tell()
        found = super().read(size)
        self.reads.append((at, -1 if size is None else size))
        return found

    @property
    def total(self) -> int:
        return sum(size for _, size in self.reads)

    @property
    def longest(self) -> int:
        return max((size for _, size in self.reads), default=0)


class FrontFile(CountingFile):
    """Gives its length as it is, but no byte from `limit` on."""

    def __init__(self, content: bytes, limit: int) -> None:
        super().__init__(content)
        self._limit = limit

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        return super().read(min(size, max(self._limit - self.tell(), 0)))


class SparseFile(io.RawIOBase):
    """A file of `length` bytes, zeros but for `parts` (by position); it counts what is read."""

    def __init__(self, length: int, parts: dict[int, bytes]) -> None:
        self._length = length
        self._parts = parts
        self._at = 0
        self.reads: list[tuple[int, int]] = []

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = offset + (0, self._at, self._length)[whence]
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        end = self._length if size < 0 else min(self._at + size, self._length)
        found = bytearray(max(end - self._at, 0))
        for start, content in self._parts.items():
            first, last = max(start, self._at), min(start + len(content), end)
            if first < last:
                found[first - self._at : last - self._at] = content[first - start : last - start]
        self.reads.append((self._at, len(found)))
        self._at += len(found)
        return bytes(found)

    @property
    def total(self) -> int:
        return sum(size for _, size in self.reads)


def describe_bytes(content: bytes, content_type: str | None = None, *, whole: bool = True) -> MediaDetails:
    """As the parsing process calls it."""
    info = detect(content_type, content[:65536], len(content) <= 65536)
    return describe(CountingFile(content), info, whole=whole)


# --- Recordings


@lru_cache
def recording(kind: str, codec: str, tagged: bool = True, **options: str) -> bytes:
    """Three seconds of stereo noise in FFmpeg's format `kind`, with TAGS; `options` are the container's."""
    rate = 48_000 if codec == "libopus" else RATE
    sound = np.random.default_rng(1).normal(scale=3000, size=(2, SECONDS * rate)).clip(-32768, 32767).astype(np.int16)
    # Some muxers read again what they wrote.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        _encode(path, kind, codec, rate, sound, tagged, options)
        return path.read_bytes()


def _encode(path: Path, kind: str, codec: str, rate: int, sound: Any, tagged: bool, options: dict[str, str]) -> None:
    with av.open(str(path), "w", format=kind, container_options=options) as container:
        if tagged:
            container.metadata.update(TAGS)
        stream: Any = container.add_stream(codec, rate=rate, layout="stereo")
        if codec == "libmp3lame":
            stream.bit_rate = 128_000
        context = stream.codec_context
        resampler = av.AudioResampler(context.format, "stereo", rate, context.frame_size or 4096)
        frame = av.AudioFrame.from_ndarray(sound.T.reshape(1, -1).copy(), format="s16", layout="stereo")
        frame.sample_rate = rate
        for given in (frame, None):
            for part in resampler.resample(given):
                container.mux(stream.encode(part))
        # A last packet without bytes carries what only the FLAC muxer can use.
        container.mux([packet for packet in stream.encode(None) if packet.size or kind == "flac"])


# --- Pictures


def png(width: int, height: int, size: int = 0) -> bytes:
    """A picture that is right up to its data; `size` bytes long if that is more."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    return (head + struct.pack(">I", zlib.crc32(b"IHDR" + header))).ljust(size, b"\xaa")


def jpeg(width: int, height: int, before: int = 0, size: int = 0) -> bytes:
    """Its measures stand behind `before` bytes of other segments."""
    parts = [b"\xff\xd8"]
    while before > 0:
        length = min(before, 60_000)
        parts.append(b"\xff\xe1" + struct.pack(">H", length + 2) + bytes(length))
        before -= length
    parts.append(b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9))
    return b"".join(parts).ljust(size, b"\xaa")


# --- ID3


def id3_frame(kind: str, content: bytes, flags: int = 0, plain_size: bool = False) -> bytes:
    """Of ID3v2.4; with `plain_size` as old iTunes wrote it, and as 2.3 has it."""
    size = len(content)
    if not plain_size:
        size = sum((size >> 7 * place & 0x7F) << 8 * place for place in range(4))
    return kind.encode() + struct.pack(">IH", size, flags) + content


def id3_tag(frames: bytes, version: int = 4, flags: int = 0, size: int | None = None) -> bytes:
    size = len(frames) if size is None else size
    safe = sum((size >> 7 * place & 0x7F) << 8 * place for place in range(4))
    return b"ID3" + bytes([version, 0, flags]) + struct.pack(">I", safe) + frames


# --- FLAC, Vorbis comments, Ogg


def flac_block(kind: int, content: bytes, last: bool = False, size: int | None = None) -> bytes:
    length = len(content) if size is None else size
    return bytes([kind | 0x80 * last]) + length.to_bytes(3, "big") + content


def flac_file(*blocks: bytes, samples: int = 441_000, rate: int = RATE, channels: int = 2) -> bytes:
    packed = rate << 44 | (channels - 1) << 41 | 15 << 36 | samples
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + struct.pack(">Q", packed) + bytes(16)
    return b"fLaC" + flac_block(0, info) + b"".join(blocks) + flac_block(1, bytes(4), last=True) + bytes(1000)


def flac_picture(picture: bytes, mime: str = "image/png", length: int | None = None) -> bytes:
    text = mime.encode()
    size = len(picture) if length is None else length
    # No description; measures and colours are left 0, as some writers do.
    return struct.pack(">II", 3, len(text)) + text + struct.pack(">6I", 0, 0, 0, 0, 0, size) + picture


def vorbis_comments(*comments: str, count: int | None = None) -> bytes:
    parts = [struct.pack("<I", 4), b"test", struct.pack("<I", len(comments) if count is None else count)]
    for comment in comments:
        data = comment.encode()
        parts.append(struct.pack("<I", len(data)) + data)
    return b"".join(parts)


def ogg_page(content: bytes, serial: int = 7, flags: int = 0, granule: int = 0, number: int = 0) -> bytes:
    """A page with one packet of less than 65,025 bytes."""
    lacing = bytes([255] * (len(content) // 255) + [len(content) % 255])
    head = struct.pack("<4sBBqIII", b"OggS", 0, flags, granule, serial, number, 0)
    return head + bytes([len(lacing)]) + lacing + content


def vorbis_file(*comments: str, seconds: int = 10, serial: int = 7, last: int = 4) -> bytes:
    """Its first two packets and its last page, nominally at 160 kbit/s; `last` are the flags of that page."""
    head = b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, 2, RATE, 0, 160_000, 0, 0xB8, 1)
    pages = ogg_page(head, serial, flags=2) + ogg_page(
        b"\x03vorbis" + vorbis_comments(*comments) + b"\x01", serial, number=1
    )
    pages += b"".join(ogg_page(bytes(50_000), serial, number=2 + number) for number in range(seconds * 2 // 5))
    return pages + ogg_page(bytes(100), serial, last, granule=seconds * RATE, number=99)


# --- RIFF, MP4, EBML


def wave_format(form: int = 1, channels: int = 2, rate: int = RATE, bits: int = 16) -> bytes:
    block = channels * bits // 8
    return struct.pack("<HHIIHH", form, channels, rate, rate * block, block, bits)


def riff(*chunks: tuple[bytes, bytes] | tuple[bytes, bytes, int], kind: bytes = b"RIFF") -> bytes:
    """A WAV file of chunks: name, content and, where it is not the true one, the size to write."""
    parts = []
    for chunk in chunks:
        name, content = chunk[0], chunk[1]
        size = chunk[2] if len(chunk) == 3 else len(content)
        parts.append(name + struct.pack("<I", size) + content + bytes(len(content) % 2))
    body = b"WAVE" + b"".join(parts)
    return kind + struct.pack("<I", len(body)) + body


def box(kind: bytes, *content: bytes, size: int | None = None, long: bool = False) -> bytes:
    """An MP4 box; with `long` its size has 64 bits."""
    inner = b"".join(content)
    if long:
        return struct.pack(">I4sQ", 1, kind, len(inner) + 16 if size is None else size) + inner
    return struct.pack(">I4s", len(inner) + 8 if size is None else size, kind) + inner


def element(identity: int, *content: bytes | float | str, size: int | None = None) -> bytes:
    """An EBML element; its size is written in eight bytes."""
    inner = b"".join(
        part
        if isinstance(part, bytes)
        else part.encode()
        if isinstance(part, str)
        else struct.pack(">d", part)
        if isinstance(part, float)
        else struct.pack(">Q", part)
        for part in content
    )
    length = len(inner) if size is None else size
    width = (identity.bit_length() + 7) // 8
    return identity.to_bytes(width, "big") + (length | 1 << 56).to_bytes(8, "big") + inner
