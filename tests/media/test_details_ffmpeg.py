"""Files as the ffmpeg command writes them, with what PyAV cannot write: to a pipe, RF64, covers, odd codecs."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import mutagen
import pytest
from details_kit import CountingFile, describe_bytes, jpeg

from kithara_actors.media.details import describe
from kithara_actors.media.info import detect
from kithara_actors.values import AudioCodec, Container

pytestmark = pytest.mark.ffmpeg

SECONDS = 5
SOUND = ["-f", "lavfi", "-i", f"anoisesrc=d={SECONDS}:seed=1:r=44100", "-ac", "2", "-metadata", "title=Noise"]
PICTURE = ["-f", "lavfi", "-i", "testsrc=s=320x200:d=1", "-frames:v", "1"]


def run(*arguments: str | Path) -> bytes:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def made(folder: Path, suffix: str, *options: str) -> bytes:
    path = folder / f"noise.{suffix}"
    run(*SOUND, *options, path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("suffix", "options", "codec", "container"),
    [
        ("ogg", "-c:a libvorbis", AudioCodec.VORBIS, Container.OGG),
        ("oga", "-c:a flac", AudioCodec.FLAC, Container.OGG),
        ("wav", "-rf64 always", AudioCodec.PCM, Container.WAV),
        ("wav", "-c:a pcm_f32le", AudioCodec.PCM, Container.WAV),
        ("wav", "-c:a libmp3lame", AudioCodec.MP3, Container.WAV),
        ("wav", "-c:a pcm_alaw", None, Container.WAV),
        ("aifc", "-c:a adpcm_ima_qt", None, Container.AIFF),
        ("mp3", "-q:a 4", AudioCodec.MP3, Container.MPEG_AUDIO),
        ("mp3", "-q:a 4 -write_xing 0", AudioCodec.MP3, Container.MPEG_AUDIO),
        ("m4a", "-c:a alac", AudioCodec.ALAC, Container.MP4),
        ("mp4", "-c:a libopus", AudioCodec.OPUS, Container.MP4),
        ("mp4", "-c:a libmp3lame", AudioCodec.MP3, Container.MP4),
        ("mp4", "-c:a ac3", None, Container.MP4),
        ("mov", "-c:a pcm_s16le", AudioCodec.PCM, Container.MP4),
        ("mov", "-c:a aac", AudioCodec.AAC_LC, Container.MP4),
        ("mp4", "-c:a aac -movflags dash+global_sidx -frag_duration 1000000", AudioCodec.AAC_LC, Container.MP4),
        ("mka", "-c:a libvorbis", AudioCodec.VORBIS, Container.MATROSKA),
        ("mka", "-c:a aac", AudioCodec.AAC_LC, Container.MATROSKA),
        ("mka", "-c:a alac", AudioCodec.ALAC, Container.MATROSKA),
        ("mka", "-c:a libmp3lame", AudioCodec.MP3, Container.MATROSKA),
        ("caf", "-c:a pcm_alaw", None, Container.CAF),
        ("au", "-c:a pcm_mulaw", None, Container.AU),
    ],
)
def test_numbers(tmp_path: Path, suffix: str, options: str, codec: AudioCodec | None, container: Container) -> None:
    content = made(tmp_path, suffix, *options.split())
    info = describe_bytes(content).info
    assert (info.codec, info.container) == (codec, container)
    assert info.sample_rate == (48_000 if codec is AudioCodec.OPUS else 44_100)
    assert info.channels == 2
    if (codec, container) == (None, Container.AIFF):
        assert info.duration is None  # in packets, whose length nobody tells
        return
    assert info.duration is not None
    assert info.bitrate is not None
    assert info.duration == pytest.approx(SECONDS, rel=0.05)
    assert info.bitrate == pytest.approx(len(content) * 8 / SECONDS, rel=0.15)


@pytest.mark.parametrize("kind", ["wav", "au", "webm"])
def test_what_is_written_to_a_pipe(kind: str) -> None:
    content = run(*SOUND, "-f", kind, "-")
    info = describe_bytes(content).info
    assert info.channels == 2
    assert info.duration == (None if kind == "webm" else pytest.approx(SECONDS, rel=0.01))


@pytest.mark.parametrize("suffix", ["mp3", "flac", "m4a"])
@pytest.mark.parametrize("picture", ["png", "jpg"])
def test_covers(tmp_path: Path, suffix: str, picture: str) -> None:
    image = tmp_path / f"cover.{picture}"
    run(*PICTURE, image)
    made(tmp_path, suffix)
    out = tmp_path / f"with.{suffix}"
    streams = ["-map", "0:a", "-map", "1:v", "-c", "copy", "-disposition:v", "attached_pic"]
    run("-i", tmp_path / f"noise.{suffix}", "-i", image, *streams, out)
    details = describe_bytes(out.read_bytes())
    (cover,) = details.covers
    mime = "image/png" if picture == "png" else "image/jpeg"
    assert (cover.mime, cover.size, cover.width, cover.height) == (mime, image.stat().st_size, 320, 200)
    assert details.tag("title") == "Noise"
    assert details.remark is None


def test_variable_rate_without_xing_is_nearer_the_truth_than_the_first_frame(tmp_path: Path) -> None:
    content = made(tmp_path, "mp3", "-q:a", "4", "-write_xing", "0", "-af", "volume='if(lt(t,0.1),1,0.02)':eval=frame")
    details = describe_bytes(content)
    library: Any = mutagen.File(io.BytesIO(content))
    assert details.info.duration is not None
    assert abs(details.info.duration - SECONDS) <= abs(library.info.length - SECONDS)
    assert details.remark is not None
    assert "estimate" in details.remark


def test_film_is_described_by_its_sound(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    run("-f", "lavfi", "-i", "testsrc=s=320x200:d=5", *SOUND, "-c:a", "aac", "-shortest", path)
    content = path.read_bytes()
    file = CountingFile(content)
    details = describe(file, detect(None, content[:65536]), whole=True)
    assert (details.info.codec, details.info.sample_rate, details.info.channels) == (AudioCodec.AAC_LC, 44_100, 2)
    assert details.info.duration == pytest.approx(SECONDS, rel=0.05)
    assert len(file.reads) <= 4


def test_attached_picture_of_matroska(tmp_path: Path) -> None:
    picture = tmp_path / "cover.jpg"
    picture.write_bytes(jpeg(400, 300, size=70_000))
    content = made(tmp_path, "mka", "-attach", str(picture), "-metadata:s:t", "mimetype=image/jpeg")
    (cover,) = describe_bytes(content).covers
    assert (cover.mime, cover.size, cover.width, cover.height) == ("image/jpeg", 70_000, 400, 300)
