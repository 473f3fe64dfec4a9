"""The file that a recorder writes: a ring of two halves, of which at least one is whole.

A header is followed by two halves of equal size. A *lap* fills one of them with frames, the next lap the other. A
frame is its length, a checksum, and msgpack (https://github.com/msgpack/msgpack/blob/master/spec.md); eight zeros
stand behind the last of a lap. All that a lap needs to be understood is in it. A file that was cut, or whose writer was
killed in the middle of a frame, is read up to there.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgpack

from kithara_actors.errors import TraceError
from kithara_actors.messages.frames import Event, Frame, State, Words

__all__ = [
    "FRAME",
    "FRAMES_AT",
    "HEADER",
    "MAGIC",
    "STOP",
    "Header",
    "Lap",
    "Trace",
    "framed",
    "lap_header",
    "pack",
    "read_trace",
    "unpack",
]

HEADER = 4096
"""Bytes of the file's header."""
FRAME = 8
"""Bytes of a frame's header."""
FRAMES_AT = 24
"""Where in its half a lap's first frame is."""
STOP = bytes(FRAME)
"""Behind the last frame."""

MAGIC = b"kithara\x00trace\r\n\x1a"
"""What a trace begins with, whatever its version."""
_VERSION = 1
_LARGEST = 1 << 30
"""Bytes of a half that is read into memory."""
_HEADER = struct.Struct("<16sBQddQ")
_LAP = struct.Struct("<8sQ")
_LAP_MAGIC = b"\x00lap\r\n\x1a\x00"
_CHECK = struct.Struct("<I")
_FRAME = struct.Struct("<II")


# --- Frames


_KINDS: tuple[type[Frame], ...] = (Words, State, Event)
_FIELDS: dict[type[Frame], tuple[type | tuple[type, ...] | None, ...]] = {
    Words: (int, float, tuple),
    State: (int, float, str, int, int, str, None),
    Event: (int, float, str, int, int, str, tuple, tuple, (str, type(None)), None),
}


def pack(frame: Frame) -> bytes:
    """The frame without its header."""
    values = (getattr(frame, name) for name in frame.__slots__)
    packed: bytes = msgpack.packb((_KINDS.index(type(frame)), *values), unicode_errors="surrogatepass")
    return packed


def framed(packed: bytes, lap: int) -> bytes:
    """The frame with its header, which is good in that lap only."""
    return _FRAME.pack(len(packed), _checksum(packed, lap)) + packed


def unpack(packed: bytes) -> Frame:
    """ValueError for what is no frame."""
    try:
        kind, *values = msgpack.unpackb(
            packed, use_list=False, unicode_errors="surrogatepass", object_hook=_refuse, ext_hook=_refuse
        )
        of = _KINDS[kind] if type(kind) is int and 0 <= kind < len(_KINDS) else None
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise ValueError(f"no frame ({type(error).__name__})") from error
    if of is None or len(values) != len(_FIELDS[of]):
        raise ValueError("no frame that is known here")
    for expected, value in zip(_FIELDS[of], values, strict=True):
        if expected is not None and (not isinstance(value, expected) or isinstance(value, bool)):
            raise ValueError("a frame with a field that does not fit")
    return of(*values)


def _refuse(*_: object) -> None:
    raise ValueError("neither a map nor an extension is written")


def _checksum(packed: bytes, lap: int) -> int:
    return zlib.crc32(packed, lap & 0xFFFFFFFF)


# --- The file


@dataclass(frozen=True, slots=True)
class Header:
    """`half` is the size of a half; at `wall` seconds since the epoch the clock of the frames showed `clock`."""

    half: int
    wall: float
    clock: float
    pid: int

    def pack(self) -> bytes:
        data = _HEADER.pack(MAGIC, _VERSION, self.half, self.wall, self.clock, self.pid)
        return (data + _CHECK.pack(zlib.crc32(data))).ljust(HEADER, b"\0")

    @classmethod
    def unpack(cls, data: bytes) -> Header:
        """ValueError for what is no header, or that of another version."""
        if not data.startswith(MAGIC):
            raise ValueError("is not a trace")
        if len(data) < HEADER:
            raise ValueError(f"ends at offset {len(data)}, in the middle of its header")
        _, version, half, wall, clock, pid = _HEADER.unpack_from(data)
        if version != _VERSION:
            raise ValueError(f"is a trace of version {version}, and this library reads version {_VERSION}")
        if _CHECK.unpack_from(data, _HEADER.size)[0] != zlib.crc32(data[: _HEADER.size]):
            raise ValueError("has a damaged header at offset 0")
        if not FRAMES_AT < half <= _LARGEST:
            raise ValueError("has a header that no recorder has written")
        return cls(half, wall, clock, pid)


@dataclass(frozen=True, slots=True)
class Lap:
    """The frames of a half that can be read, and where in the file each begins."""

    number: int
    frames: tuple[tuple[int, Frame], ...]


@dataclass(slots=True)
class Trace:
    """What could be read. `damage` tells of each place from which on a lap could not."""

    path: str
    header: Header
    laps: list[Lap] = field(default_factory=list)
    damage: list[TraceError] = field(default_factory=list)

    def __iter__(self) -> Iterator[Frame]:
        """All frames in order."""
        for lap in self.laps:
            for _, frame in lap.frames:
                yield frame


def lap_header(lap: int) -> bytes:
    """What a half begins with, with no frame behind it."""
    data = _LAP.pack(_LAP_MAGIC, lap)
    return (data + _CHECK.pack(zlib.crc32(data))).ljust(FRAMES_AT, b"\0") + STOP


def read_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a file, up to where it is damaged. Blocks. OSError; TraceError for one that is no trace at all.

    Takes memory of about the size of the file, and for what is in it at most some thirty times as much.
    """
    name = os.fspath(path)
    # A pipe without a writer must not block: it is refused below.
    with open(path, "rb", 0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise TraceError(f"{name}: is not a trace: it is no file")
        try:
            header = Header.unpack(os.pread(file.fileno(), HEADER, 0))
        except ValueError as error:
            raise TraceError(f"{name}: {error}") from None
        trace = Trace(name, header)
        for which in (0, 1):
            _read_half(trace, file.fileno(), HEADER + which * header.half, status.st_size)
    trace.laps.sort(key=lambda lap: lap.number)
    return trace


def _read_half(trace: Trace, fd: int, begin: int, size: int) -> None:
    half = trace.header.half
    data = os.pread(fd, min(half, max(0, size - begin)), begin)
    cut = len(data) < half

    def damaged(at: int, what: str) -> None:
        trace.damage.append(TraceError(f"{trace.path}: {what} at offset {begin + at}; what comes before is sound"))

    if len(data) < FRAMES_AT + FRAME:
        damaged(len(data), "the file ends")
        return
    if not any(data[:FRAMES_AT]):
        return  # this half was never begun
    magic, number = _LAP.unpack_from(data)
    if magic != _LAP_MAGIC or _CHECK.unpack_from(data, _LAP.size)[0] != zlib.crc32(data[: _LAP.size]):
        damaged(0, "a lap has a damaged header")
        return
    frames: list[tuple[int, Frame]] = []
    at = FRAMES_AT
    while True:
        if at + FRAME > len(data):
            if cut or at + FRAME <= half:
                damaged(at, "the file ends")
            break
        length, checksum = _FRAME.unpack_from(data, at)
        if not length:
            if checksum:
                damaged(at, "a damaged frame")
            break
        packed = data[at + FRAME : at + FRAME + length]
        if len(packed) < length and cut:
            damaged(at, "the file ends in the middle of a frame")
            break
        if len(packed) < length or _checksum(packed, number) != checksum:
            damaged(at, "a damaged frame")
            break
        try:
            frames.append((begin + at, unpack(packed)))
        except ValueError as error:
            damaged(at, str(error))
            break
        at += FRAME + length
    trace.laps.append(Lap(number, tuple(frames)))
