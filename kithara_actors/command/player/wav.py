"""Writes a WAV file that is there completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import stat
import struct
import sys
from pathlib import Path
from typing import Any

from kithara_actors.command.explain import CommandError

__all__ = ["LARGEST", "WavFile"]

_HEADER = struct.Struct("<4sL4s4sLHHLLHH4sL")
_UNKNOWN = 0xFFFF_FFFF
LARGEST = _UNKNOWN - _HEADER.size - 1
"""Bytes of sound that the 32-bit sizes of a WAV file have room for."""


class WavFile:
    """16-bit sound to `path`: under another name beside it, renamed by `finish`; - is the standard output.

    Into the standard output, devices and pipes it goes directly, with sizes in the header that mean "to the end".
    Looks at `path` when made, and makes nothing before `open`. Raises CommandError, BrokenPipeError.
    """

    def __init__(self, path: str) -> None:
        # Made before anything is opened: a signal in the moment of opening cannot part it from its descriptor.
        self._file = io.FileIO.__new__(io.FileIO)
        self._part: Path | None = None
        self._written = 0
        self._header: tuple[int, int] | None = None
        self._target: Path | None = None
        self._shown = "the standard output" if path == "-" else path
        if path == "-":
            if sys.stdout is None:
                raise CommandError("the standard output is closed")
            return
        if not path:
            raise CommandError("the FILE.wav of --output is empty")
        # Through symbolic links, so that the file they lead to is replaced and not they.
        self._target = target = Path(os.path.realpath(path))
        try:
            mode = target.stat().st_mode
        except FileNotFoundError:
            mode = None
        except OSError as error:
            raise self._failed(error) from None
        if (mode is not None and stat.S_ISDIR(mode)) or path.endswith("/"):
            raise CommandError(f"cannot write {path}: it is a directory; name a file in it with --output")
        self._renames = mode is None or stat.S_ISREG(mode)
        if self._renames and not target.parent.is_dir():
            raise CommandError(f"cannot write {path}: there is no directory {target.parent}; make it first")
        place = target.parent if self._renames else target
        if not os.access(place, os.W_OK | os.X_OK if self._renames else os.W_OK):
            raise CommandError(f"cannot write {path}: {os.strerror(errno.EACCES)}; choose another place with --output")

    def open(self, rate: int, channels: int) -> None:
        """Begin the file; `rate` in Hz."""
        self._header = (rate, channels)
        begin: Any = self._file.__init__  # type: ignore[misc]
        try:
            if self._target is None:
                begin(sys.stdout.fileno(), "w", closefd=False)
            elif self._renames:
                part = self._target.with_name(f"{self._target.name}.{os.getpid()}.part")
                if part.exists():
                    raise FileExistsError(errno.EEXIST, f"{part.name} is in the way: remove it")
                self._part = part
                begin(part, "x")
            else:
                begin(self._target, "w")
        except OSError as error:
            raise self._failed(error) from None
        self._put(_header(rate, channels, None))

    def write(self, sound: bytes) -> None:
        """Add sound; blocks until it is written."""
        if self._part is not None and self._written + len(sound) > LARGEST:
            raise CommandError(
                f"cannot write more to {self._shown}: a WAV file holds at most 4 GiB; name fewer tracks, or write to - "
                "(the standard output) and have another program compress it"
            )
        self._put(sound)
        self._written += len(sound)

    def finish(self) -> None:
        """Put the sizes into the header and rename the file; nothing where `open` was not called."""
        if self._part is None or self._header is None or self._target is None:
            return
        try:
            os.pwrite(self._file.fileno(), _header(*self._header, self._written), 0)
            os.fsync(self._file.fileno())
            self._part.replace(self._target)
        except OSError as error:
            raise self._failed(error) from None
        self._part = None

    def close(self) -> None:
        """Close it; remove what is unfinished. Idempotent."""
        with contextlib.suppress(OSError):
            self._file.close()
        part, self._part = self._part, None
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink()

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                count = self._file.write(view)
                if count is None:
                    select.select((), (self._file,), ())
                view = view[count or 0 :]
            except BrokenPipeError:
                raise
            except OSError as error:
                raise self._failed(error) from None

    def _failed(self, error: OSError) -> CommandError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return CommandError(f"no room for {self._shown}: make room, or name another disk with --output")
        if error.errno == errno.EFBIG:
            return CommandError(f"{self._shown} is too large for its file system: name another disk with --output")
        return CommandError(f"cannot write {self._shown}: {error.strerror}; choose another place with --output")


def _header(rate: int, channels: int, size: int | None) -> bytes:
    """The first 44 bytes (RIFF, one chunk "fmt " of PCM, the head of the chunk "data")."""
    whole, data = (_UNKNOWN, _UNKNOWN) if size is None else (size + _HEADER.size - 8, size)
    frame = channels * 2
    return _HEADER.pack(b"RIFF", whole, b"WAVE", b"fmt ", 16, 1, channels, rate, rate * frame, frame, 16, b"data", data)
