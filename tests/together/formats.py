"""One recording in every format that is promised, made by the ffmpeg command: three minutes, tags, a cover."""

from __future__ import annotations

import subprocess
import wave
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FORMATS", "PYAV_JOBS", "SECONDS", "TAGS", "Format", "boxes", "make_formats"]

SECONDS = 180
PYAV_JOBS = ("first", "memory", "disk", "seek")
"""What PyAV does with every format: the first sample, all of them with the download in memory or on disk, seeks."""
TAGS = {"title": "Sweep", "artist": "kithara", "album": "Formats"}

_SOUNDS = {"wide": (44_100, 2, 0.02), "narrow": (16_000, 2, 0.001), "mono": (16_000, 1, 0.02)}
"""Sample rate, channels, and the noise that keeps the sound from shrinking to nothing, as a share of full scale."""


@dataclass(frozen=True, slots=True)
class Format:
    """A file to be made: from which sound, or from which other format without coding it again, and how.

    `readers` are the libraries beside PyAV that know the format. `opening` are options for FFmpeg, `seeking` further
    ones for seeks by time. `without` are jobs that it is not made for.
    """

    name: str
    file: str
    source: str
    arguments: tuple[str, ...]
    readers: frozenset[str] = frozenset({"mutagen"})
    cover: bool = False
    opening: Mapping[str, str] = field(default_factory=dict)
    seeking: Mapping[str, str] = field(default_factory=dict)
    without: frozenset[str] = frozenset()

    @property
    def jobs(self) -> tuple[str, ...]:
        """What is done with it: see `formats_run`."""
        return tuple(job for job in (*PYAV_JOBS, *sorted(self.readers)) if job not in self.without)


_ALL = frozenset({"mutagen", "soundfile", "miniaudio"})
_MP3 = ("-c:a", "libmp3lame")
_AAC = ("-c:a", "aac", "-b:a", "128k")
_COPY = ("-c:a", "copy")
_FRAGMENTS = (
    *(*_COPY, "-frag_duration", "2000000"),
    *("-movflags", "+frag_keyframe+empty_moov+default_base_moof+skip_trailer"),
)
_NO_INDEX = {"fflags": "ignidx"}
_FAST = {"fflags": "fastseek"}

FORMATS = (
    Format("mp3-cbr", "cbr.mp3", "wide", (*_MP3, "-b:a", "128k"), _ALL, cover=True, seeking=_FAST),
    Format("mp3-vbr", "vbr.mp3", "wide", (*_MP3, "-q:a", "5"), _ALL, cover=True, seeking=_FAST),
    Format("mp3-no-xing", "bare.mp3", "mp3-cbr", (*_COPY, "-write_xing", "0"), _ALL, seeking=_FAST),
    Format("flac", "sweep.flac", "narrow", ("-c:a", "flac"), _ALL, cover=True),
    Format("vorbis", "sweep.ogg", "wide", ("-c:a", "libvorbis", "-b:a", "128k"), _ALL),
    Format("opus", "sweep.opus", "wide", ("-c:a", "libopus", "-b:a", "128k"), frozenset({"mutagen", "soundfile"})),
    Format("wav", "sweep.wav", "mono", ("-c:a", "pcm_s16le"), _ALL),
    Format("webm", "sweep.webm", "opus", _COPY, frozenset()),
    Format("m4a-first", "first.m4a", "wide", (*_AAC, "-movflags", "+faststart"), cover=True),
    Format("m4a-last", "last.m4a", "m4a-first", _COPY),
    Format("mp4-first", "first.mp4", "m4a-first", (*_COPY, "-movflags", "+faststart")),
    Format("mp4-last", "last.mp4", "m4a-first", _COPY),
    # Its moov box is longer than what is fetched in one go at the end, since the cover is in it.
    Format("mp4-last-large", "large.mp4", "m4a-first", _COPY, cover=True),
    Format("alac", "alac.m4a", "narrow", ("-c:a", "alac"), cover=True),
    Format("adts", "sweep.aac", "m4a-first", _COPY),
    # FFmpeg makes an index of all fragments before the first sample ...
    Format("mp4-fragments", "fragments.mp4", "m4a-first", _FRAGMENTS, without=frozenset({"first"})),
    # ... unless it is told to do without, and then it cannot seek by time.
    Format("mp4-no-index", "ignidx.mp4", "m4a-first", _FRAGMENTS, opening=_NO_INDEX, without=frozenset({"seek"})),
    Format("mp4-sidx", "sidx.mp4", "m4a-first", (*_FRAGMENTS[:-1], f"{_FRAGMENTS[-1]}+dash+global_sidx")),
)


def make_formats(folder: Path) -> dict[str, Path]:
    """Every format's file in `folder`, by the format's name. Takes about ten seconds on two cores."""
    paths = {each.name: folder / each.file for each in FORMATS}
    cover = folder / "cover.jpg"
    _ffmpeg("-f", "lavfi", "-i", "nullsrc=s=320x320,noise=alls=100", "-frames:v", "1", "-q:v", "1", str(cover))
    with ThreadPoolExecutor(2) as threads:
        # What is coded from a sound first, the slowest before the others; then what is copied from these.
        for stage in (set(_SOUNDS), {"m4a-first", "mp3-cbr", "opus"}):
            for name in stage & set(_SOUNDS):
                _write_sound(folder / f"{name}.source", *_SOUNDS[name])
                paths[name] = folder / f"{name}.source"
            for _ in threads.map(lambda each: _encode(each, paths, cover), [f for f in FORMATS if f.source in stage]):
                pass
    for name in _SOUNDS:
        paths.pop(name).unlink()
    return paths


def boxes(path: Path) -> list[tuple[str, int]]:
    """Kind and size of every box at the top of an MP4 file (ISO/IEC 14496-12 section 4.2)."""
    found: list[tuple[str, int]] = []
    with path.open("rb") as file:
        while header := file.read(8):
            size = int.from_bytes(header[:4], "big")
            if size == 1:
                size = int.from_bytes(file.read(8), "big")
                header += bytes(8)
            found.append((header[4:8].decode("latin-1"), size))
            assert size >= len(header), f"{path.name} is no MP4 file: {found}"
            file.seek(size - len(header), 1)
    return found


def _encode(each: Format, paths: Mapping[str, Path], cover: Path) -> None:
    picture = ("-i", str(cover), "-map", "0:a", "-map", "1:v", "-c:v", "copy", "-disposition:v", "attached_pic")
    tags = [part for name, value in TAGS.items() for part in ("-metadata", f"{name}={value}")]
    _ffmpeg(
        *("-i", str(paths[each.source])),
        *(picture if each.cover else ("-map", "0:a")),
        *each.arguments,
        *tags,
        str(paths[each.name]),
    )


def _ffmpeg(*arguments: str) -> None:
    done = subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, f"ffmpeg {' '.join(arguments)}: {done.stderr}"


def _write_sound(path: Path, rate: int, channels: int, noise: float) -> None:
    """A sweep from 100 Hz up, in a second channel downwards, under noise of seed 1."""
    time = np.arange(SECONDS * rate) / rate
    top = min(8000, rate // 4)
    sweep = np.sin(2 * np.pi * (100 * time + (top - 100) / (2 * SECONDS) * time**2))
    rng = np.random.default_rng(1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(_samples([sweep, sweep[::-1]][:channels], rng.normal(scale=noise, size=(channels, time.size))))


def _samples(channels: list[Any], noise: Any) -> bytes:
    data = (np.clip(0.5 * np.stack(channels) + noise, -1, 1) * 32_000).astype("<i2")
    return np.ascontiguousarray(data.T).tobytes()
