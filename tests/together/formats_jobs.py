"""What the decoders do with each format: the same with a stream and with the file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import miniaudio
import mutagen.id3
import mutagen.mp4
import soundfile
from formats import Format

__all__ = ["JOBS", "MINIAUDIO", "SHARES", "Counted", "FileSource", "Sound"]

SHARES = (0.75, 0.2, 0.5)
"""Where the seeks go in turn, as shares of the duration."""
_AFTER_SEEK = 60
"""Frames to decode after a seek: more than a second of any format."""

MINIAUDIO = {
    "mp3-cbr": "MP3",
    "mp3-vbr": "MP3",
    "mp3-no-xing": "MP3",
    "flac": "FLAC",
    "vorbis": "VORBIS",
    "wav": "WAV",
}
"""What miniaudio is told that each format is."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Every sample of something, as a digest, and how many frames and samples (of one channel) that were.

    `pts` is a digest of the time stamps, `first` the first of them in seconds, `rate` in Hz: of PyAV only.
    """

    digest: str
    samples: int
    frames: int = 0
    pts: str = ""
    first: float | None = None
    rate: int = 0


class Counted:
    """A file object as a decoder sees it, with its calls counted: PyAV looks for no more than this."""

    def __init__(self, file: Any, begun: Callable[[], None] = lambda: None) -> None:
        self.name = str(file.name)
        self.mode = "rb"
        self.reads = self.bytes = self.seeks = 0
        self.begun = begun
        self._file = file

    def read(self, size: int) -> bytes:
        data: bytes = self._file.read(size)
        self.reads += 1
        self.bytes += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self.seeks += 1
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return bool(self._file.seekable())


def _play(each: Format, file: Counted) -> Sound:
    """Every sample, by PyAV."""
    with av.open(file, options=dict(each.opening)) as container:
        return _sound(container.decode(audio=0), file.begun)


def _first(each: Format, file: Counted) -> Sound:
    """The first frame, by PyAV."""
    with av.open(file, options=dict(each.opening)) as container:
        return _sound(_some(container.decode(audio=0), 1), file.begun)


def _seek(each: Format, file: Counted) -> list[Sound]:
    """The first frame, and after each seek by time the frames from there, by PyAV."""
    with av.open(file, options={**each.opening, **each.seeking}) as container:
        sounds = [_sound(_some(container.decode(audio=0), 1), file.begun)]
        assert container.duration is not None
        for share in SHARES:
            container.seek(int(container.duration * share))
            sounds.append(_sound(_some(container.decode(audio=0), _AFTER_SEEK)))
        return sounds


def _soundfile(each: Format, file: Any) -> Sound:
    """A second from the middle, then every sample."""
    digest = hashlib.blake2b()
    with soundfile.SoundFile(file) as sound:
        sound.seek(sound.frames // 2)
        digest.update(sound.read(sound.samplerate, dtype="float32").tobytes())
        sound.seek(0)
        samples = 0
        while len(block := sound.read(1 << 16, dtype="float32")):
            digest.update(block.tobytes())
            samples += len(block)
    return Sound(digest.hexdigest(), samples)


def _miniaudio(each: Format, source: Any) -> Sound:
    digest = hashlib.blake2b()
    samples = 0
    for block in miniaudio.stream_any(source, source.format, frames_to_read=1 << 14):
        digest.update(block.tobytes())
        samples += len(block) // 2
    return Sound(digest.hexdigest(), samples)


def _mutagen(each: Format, file: Any) -> dict[str, Any]:
    """Type, length in seconds, tags, and the digests of the pictures."""
    found = mutagen.File(file, easy=True)
    file.seek(0)
    whole = mutagen.File(file)
    pictures = [bytes(picture.data) for picture in getattr(whole, "pictures", [])]
    if isinstance(whole.tags, mutagen.id3.ID3):
        pictures += [frame.data for frame in whole.tags.getall("APIC")]
    elif isinstance(whole.tags, mutagen.mp4.MP4Tags):
        pictures += [bytes(cover) for cover in whole.tags.get("covr", [])]
    return {
        "type": type(whole).__name__,
        "length": found.info.length,
        "tags": dict(found.tags or {}),
        "pictures": [hashlib.sha256(picture).hexdigest() for picture in pictures],
    }


def _some(frames: Iterator[av.AudioFrame], count: int) -> Iterator[av.AudioFrame]:
    for _, frame in zip(range(count), frames, strict=False):
        yield frame


def _sound(frames: Iterator[av.AudioFrame], begun: Callable[[], None] = lambda: None) -> Sound:
    digest, stamps = hashlib.blake2b(), hashlib.blake2b()
    samples = count = rate = 0
    first = None
    for frame in frames:
        if not count:
            begun()
            first, rate = frame.time, frame.sample_rate
        digest.update(frame.to_ndarray().tobytes())
        stamps.update(b"%d/%d " % (frame.pts if frame.pts is not None else -1, frame.sample_rate))
        samples += frame.samples
        count += 1
    return Sound(digest.hexdigest(), samples, count, stamps.hexdigest(), first, rate)


class FileSource(miniaudio.StreamableSource):
    """A file for miniaudio, to compare with; told the format that the stream found."""

    def __init__(self, file: BinaryIO, file_format: miniaudio.FileFormat) -> None:
        self.format = file_format
        self._file = file

    def read(self, num_bytes: int) -> bytes:
        return self._file.read(num_bytes)

    def seek(self, offset: int, origin: miniaudio.SeekOrigin) -> bool:
        self._file.seek(offset, ("START", "CURRENT", "END").index(origin.name))
        return True


JOBS: dict[str, Callable[[Format, Any], Any]] = {
    "first": _first,
    "memory": _play,
    "disk": _play,
    "seek": _seek,
    "soundfile": _soundfile,
    "miniaudio": _miniaudio,
    "mutagen": _mutagen,
}
