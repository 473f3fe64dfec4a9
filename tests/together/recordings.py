"""Recordings made here, and what a decoder makes of them."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

__all__ = ["Frame", "Recordings", "decode"]

RATE = 44_100
_BLOCK = 4096
_TAGS = {"title": "Sweep", "artist": "kithara", "album": "Recordings"}


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame: when, what, and every sample."""

    pts: int | None
    time_base: Fraction
    rate: int
    layout: str
    format: str
    samples: bytes


class Recordings:
    """A sweep under noise, as an MP3 and a FLAC file of 1.3 to 1.5 MB and as a short WAV file, all with seed 1.

    Each is made at its first use and kept in `folder`. Noise keeps FLAC from shrinking it; 320 kbit/s keeps MP3.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, suffix: str) -> Path:
        """The file of that suffix: `mp3`, `flac` or `wav`."""
        path = self.folder / f"sweep.{suffix}"
        if not path.exists():
            match suffix:
                case "mp3":
                    _encode(path, "libmp3lame", "s16p", _sound(34), bit_rate=320_000)
                case "flac":
                    _encode(path, "flac", "s16", _sound(9))
                case "wav":
                    _wave(path, _sound(2))
                case _:
                    raise ValueError(f"no recording of type {suffix}")
        return path

    def frames(self, suffix: str, at: float | None = None, **options: str) -> list[Frame]:
        """What `decode` gives for the file itself."""
        return list(decode(str(self.path(suffix)), at, **options))


def decode(source: Any, at: float | None = None, **options: str) -> Iterator[Frame]:
    """Every audio frame of a path or file object, as PyAV decodes it.

    With `at`, a share of the duration, the first frame is followed by those from there on. `options` are FFmpeg's.
    """
    with av.open(source, options=options) as container:
        if at is not None:
            yield _frame(next(container.decode(audio=0)))
            assert container.duration is not None
            container.seek(int(container.duration * at))
        for frame in container.decode(audio=0):
            yield _frame(frame)


def _frame(frame: av.AudioFrame) -> Frame:
    assert frame.time_base is not None
    samples = frame.to_ndarray().tobytes()
    return Frame(frame.pts, frame.time_base, frame.sample_rate, frame.layout.name, frame.format.name, samples)


def _sound(seconds: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    """16-bit samples, one row for each of two channels: a sweep from 100 Hz to 8 kHz, and the other way round."""
    time = np.arange(seconds * RATE) / RATE
    sweep = np.sin(2 * np.pi * (100 * time + (8000 - 100) / (2 * seconds) * time**2))
    noise = np.random.default_rng(1).normal(scale=0.1, size=(2, time.size))
    return (np.clip(0.5 * np.stack([sweep, sweep[::-1]]) + noise, -1, 1) * 32_000).astype(np.int16)


def _encode(
    path: Path, codec: str, sample_format: str, sound: np.ndarray[Any, np.dtype[np.int16]], bit_rate: int | None = None
) -> None:
    with av.open(str(path), "w") as container:
        container.metadata.update(_TAGS)
        stream = container.add_stream(codec, rate=RATE, layout="stereo")
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        for at in range(0, sound.shape[1], _BLOCK):
            block = sound[:, at : at + _BLOCK]
            rows = block if sample_format == "s16p" else block.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(rows), format=sample_format, layout="stereo")
            frame.sample_rate, frame.pts = RATE, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _wave(path: Path, sound: np.ndarray[Any, np.dtype[np.int16]]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.ascontiguousarray(sound.T).tobytes())
