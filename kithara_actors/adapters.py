"""Streams for what does not take a file object: miniaudio, and programs that open a path."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kithara_actors.errors import KitharaError, ReadTimeout
from kithara_actors.values import AudioCodec, Container, MediaInfo

if TYPE_CHECKING:
    from kithara_actors.stream.reader import Stream

__all__ = ["MiniaudioSource", "as_miniaudio", "complete_path"]

_INSTALL = "pip install 'kithara-actors[play]'"
_HEADS = (4 * 1024, 64 * 1024)
"""Bytes from the front that tell the format: nearly always the first, else the second."""

_FORMATS = {
    (AudioCodec.MP3, Container.MPEG_AUDIO): "MP3",
    (AudioCodec.FLAC, Container.FLAC): "FLAC",
    (AudioCodec.FLAC, Container.OGG): "FLAC",
    (AudioCodec.VORBIS, Container.OGG): "VORBIS",
    (AudioCodec.PCM, Container.WAV): "WAV",
    (None, None): "UNKNOWN",
}
"""Names of `miniaudio.FileFormat`."""
_MP3_STEP = 16 * 1024
"""Bytes that miniaudio gets at once of an MP3 file. It asks for 64 KiB before the first sample: seconds of a radio
stream. It takes less; of other formats, a short read is the end to it."""


class MiniaudioSource:
    """A stream as a `miniaudio.StreamableSource`; made by `as_miniaudio`."""

    error_in_readcallback: Exception | None
    """What broke a read or a seek; miniaudio does not always raise it."""

    def __init__(self, stream: Stream, file_format: Any) -> None:
        self.format = file_format
        self._stream = stream
        self._step = _MP3_STEP if file_format.name == "MP3" else sys.maxsize
        # A decoder of miniaudio holds no more than the address of its source, and one that is gone ends the process.
        vars(stream).setdefault("_miniaudio_sources", []).append(self)

    def read(self, num_bytes: int) -> bytes:
        """The next bytes from the stream's position, none only at the end. Blocks; raises what the stream raises."""
        return self._stream.read(min(num_bytes, self._step))

    def seek(self, offset: int, origin: Any) -> bool:
        """Move the stream's position: True. Raises where that cannot be; miniaudio takes False for success."""
        try:
            self._stream.seek(offset, {"START": 0, "CURRENT": 1, "END": 2}[origin.name])
        except (OSError, ValueError) as error:
            # miniaudio drops what a seek raises; after one that broke the stream it must not decode other bytes.
            if isinstance(error, KitharaError) or self._stream.closed:
                self.error_in_readcallback = error
            raise
        return True

    def close(self) -> None:
        """Does nothing: who opened the stream closes it."""


def as_miniaudio(stream: Stream) -> MiniaudioSource:
    """`stream` as a source for `miniaudio.stream_any(source, source.format, ...)`.

    Give it the format: without, miniaudio reads an Ogg file to its end before it decodes. `source.format` is
    `FileFormat.UNKNOWN` only where the first bytes tell nothing.

    Blocks until the first bytes are there. Raises the stream's typed errors, ValueError for a format that miniaudio
    cannot decode, ImportError without miniaudio 1.70 or later. Decoding begins at the stream's position. Closing the
    source does not close the stream, which must be kept, open, for as long as it is decoded.

    miniaudio ends early where its source breaks: call `stream.raise_for_error()` after decoding.
    """
    kind, formats = _source_class()
    info = _format_of(stream)
    name = _FORMATS.get((info.codec, info.container))
    if name is None:
        what = " in ".join(str(part) for part in (info.codec, info.container) if part is not None)
        raise ValueError(f"miniaudio cannot decode {what}: decode this stream with PyAV, av.open(stream)")
    return kind(stream, formats[name])


def complete_path(stream: Stream, timeout: float | None = None) -> Path:
    """A path under which other programs (ffprobe, pydub, audioread) can open the complete file.

    Asks for what is missing and blocks until all is there, at most `timeout` seconds. Raises ReadTimeout then (the
    download goes on), and the stream's typed errors if the download fails. The path is valid while the stream is
    open, and for programs of the same user. That of an asset in memory is below `/proc` and has no extension: name
    the format to programs that go by it.
    """
    if not stream.wait_complete(timeout):
        raise ReadTimeout(f"the file was not complete within {timeout:g} s; wait longer, the download goes on")
    return stream.path or Path(f"/proc/{os.getpid()}/fd/{stream.fileno()}")


def _format_of(stream: Stream) -> MediaInfo:
    """Codec and container, as soon as they can be told; both None where nothing tells them."""
    for size in _HEADS:
        stream.read_at(0, size)
        info = stream.declared_info
        if info is not None:
            return info
    # A file shorter than that is judged once it is complete, and all of it is here.
    stream.wait_complete()
    return stream.declared_info or MediaInfo()


@functools.cache
def _source_class() -> tuple[type[MiniaudioSource], Any]:
    """The class that miniaudio accepts, and its `FileFormat`. Raises ImportError."""
    try:
        import miniaudio
    except ImportError as error:
        raise ImportError(f"as_miniaudio needs miniaudio: {_INSTALL}") from error
    # Before 1.70 a seek that fails could not be told to it in the same way.
    if not hasattr(miniaudio.SeekOrigin, "END"):
        raise ImportError(f"as_miniaudio needs miniaudio 1.70 or later: {_INSTALL}")
    bases = (MiniaudioSource, miniaudio.StreamableSource)
    return type("MiniaudioStreamSource", bases, {"__module__": __name__}), miniaudio.FileFormat
