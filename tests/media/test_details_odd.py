"""Files that are right but rarely met: what other writers than FFmpeg make, and what is left of a recording."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from details_kit import (
    RATE,
    SECONDS,
    CountingFile,
    SparseFile,
    box,
    describe_bytes,
    element,
    ogg_page,
    recording,
    riff,
    vorbis_comments,
    vorbis_file,
    wave_format,
)

from kithara_actors.media.details import describe
from kithara_actors.values import AudioCodec, Container, MediaDetails, MediaInfo

FORMAT = (b"fmt ", wave_format())
SECOND = bytes(RATE * 4)
NAME = (b"LIST", b"INFO" + b"INAM" + struct.pack("<I", 4) + b"Name")


# --- WAV


def test_rf64_has_its_size_in_a_chunk_of_its_own() -> None:
    sizes = (b"ds64", struct.pack("<QQQI", 0, len(SECOND), RATE, 0))
    details = describe_bytes(riff(sizes, FORMAT, (b"data", SECOND, 2**32 - 1), NAME, kind=b"RF64"))
    assert (details.info.duration, details.tag("title")) == (1.0, "Name")


@pytest.mark.parametrize("size", [0, 2**32 - 1, 2**31])
def test_size_that_a_writer_to_a_pipe_left(size: int) -> None:
    assert describe_bytes(riff(FORMAT, (b"data", SECOND, size))).info.duration == 1.0


def test_no_sound_at_all_is_no_sound() -> None:
    details = describe_bytes(riff(FORMAT, (b"data", b""), NAME))
    assert (details.info.duration, details.tag("title")) == (0.0, "Name")


def test_big_endian_wav() -> None:
    form = struct.pack(">HHIIHH", 1, 1, 8000, 16_000, 2, 16)
    chunks = b"WAVEfmt " + struct.pack(">I", 16) + form + b"data" + struct.pack(">I", 16_000) + bytes(16_000)
    info = describe_bytes(b"RIFX" + struct.pack(">I", len(chunks)) + chunks).info
    assert (info.sample_rate, info.channels, info.duration, info.bitrate) == (8000, 1, 1.0, 128_000)


def test_extensible_format_of_wav() -> None:
    extension = struct.pack("<HHIH", 22, 24, 3, 3) + bytes(14)
    info = describe_bytes(riff((b"fmt ", wave_format(0xFFFE, bits=24) + extension), (b"data", bytes(6 * RATE)))).info
    assert (info.codec, info.duration) == (AudioCodec.PCM, 1.0)


def test_wav_that_was_cut_is_as_long_as_what_is_left() -> None:
    content = recording("wav", "pcm_s16le")
    assert describe_bytes(content[: len(content) - RATE * 4]).info.duration == pytest.approx(SECONDS - 1, abs=0.01)


# --- AIFF and AU


def test_compressed_aifc_has_no_known_codec() -> None:
    rate = struct.pack(">HQ", 16383 + 15, RATE << 48)
    common = struct.pack(">hIh", 2, RATE, 16) + rate + b"ima4" + bytes(2)
    content = b"FORM" + struct.pack(">I", 50) + b"AIFC" + b"COMM" + struct.pack(">I", len(common)) + common
    info = describe_bytes(content).info
    assert (info.codec, info.sample_rate, info.channels) == (None, RATE, 2)


@pytest.mark.parametrize("size", [2**32 - 1, RATE * 4])
def test_au_of_unknown_size(size: int) -> None:
    content = b".snd" + struct.pack(">5I", 24, size, 3, RATE, 2) + SECOND
    assert describe_bytes(content).info == MediaInfo(AudioCodec.PCM, Container.AU, RATE, 2, 1.0, RATE * 32)


# --- MPEG audio


def test_layer_two_is_no_mp3() -> None:
    frame = bytes([0xFF, 0xFD, 0x84, 0]) + bytes(144 * 128_000 // 48_000 - 4)
    details = describe_bytes(frame * 100, "audio/mpeg")
    assert (details.info.codec, details.info.container) == (None, Container.MPEG_AUDIO)
    assert (details.info.sample_rate, details.info.duration) == (48_000, pytest.approx(100 * 1152 / 48_000))


# --- Ogg


def test_pages_on_which_no_packet_ends_tell_no_time() -> None:
    content = vorbis_file(seconds=20) + ogg_page(bytes(100), granule=-1)
    assert describe_bytes(content).info.duration == 20.0


def test_streams_side_by_side() -> None:
    other = ogg_page(b"fishead\x00" + bytes(56), serial=1, flags=2)
    song = vorbis_file("TITLE=t")
    first = song.index(b"OggS", 1)
    between = ogg_page(b"fisbone\x00" + vorbis_comments("TITLE=not this"), serial=1)
    end = ogg_page(b"", serial=1, flags=4, granule=99)
    details = describe_bytes(other + song[:first] + between + song[first:] + end)
    assert (details.tag("title"), details.info.duration) == ("t", 10.0)


# --- MP4


def test_movie_box_that_goes_to_the_end() -> None:
    content = recording("ipod", "aac")
    at = content.rfind(b"moov") - 4
    assert describe_bytes(content[:at] + bytes(4) + content[at + 4 :]) == describe_bytes(content)


def test_movie_without_sound() -> None:
    header = box(b"mvhd", bytes(12), struct.pack(">II", 1000, 5000), bytes(80))
    details = describe_bytes(box(b"ftyp", b"M4A \x00\x00\x00\x00") + box(b"moov", header))
    assert details == MediaDetails(
        MediaInfo(None, Container.MP4, None, None, 5.0, round(details_size(header) * 8 / 5)), remark="no track of sound"
    )


def details_size(header: bytes) -> int:
    return 16 + 8 + len(header)


# --- Matroska

HEAD = element(0x1A45DFA3, element(0x4282, "matroska"))


def audio_track(*audio: bytes, codec: str = "A_AAC") -> bytes:
    return element(0x1654AE6B, element(0xAE, element(0x83, 2), element(0x86, codec), element(0xE1, *audio)))


def test_rate_of_high_efficiency_aac_in_matroska_is_that_which_comes_out() -> None:
    track = audio_track(element(0xB5, 22_050.0), element(0x78B5, 44_100.0), element(0x9F, 2))
    assert describe_bytes(HEAD + element(0x18538067, track)).info.sample_rate == 44_100


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("A_AAC/MPEG4/LC", AudioCodec.AAC_LC),
        ("A_AAC/MPEG4/MAIN", None),
        ("A_PCM/FLOAT/IEEE", AudioCodec.PCM),
        ("A_MPEG/L3", AudioCodec.MP3),
        ("A_MPEG/L2", None),
        ("A_DTS", None),
        ('A_"', None),
    ],
)
def test_codecs_of_matroska(name: str, codec: AudioCodec | None) -> None:
    assert describe_bytes(HEAD + element(0x18538067, audio_track(codec=name))).info.codec is codec


def test_clusters_are_not_walked() -> None:
    clusters = {1000 + number * 2**20: element(0x1F43B675, size=2**20 - 12) for number in range(100)}
    front = HEAD + element(0x18538067, audio_track(), element(0xEC, bytes(500)), size=2**56 - 1)
    front = front[: -500 - 9] + element(0xEC, size=1000 - len(front) + 500)
    file = SparseFile(100 * 2**20 + 1000, {0: front, **clusters})
    details = describe(file, MediaInfo(None, Container.MATROSKA), whole=True)  # type: ignore[arg-type]
    assert details.info.codec is AudioCodec.AAC_LC
    assert len(file.reads) == 1


def test_elements_that_enzyme_does_not_know_are_not_reported(tmp_path: Path) -> None:
    new = element(0x22B59D, "en")
    path = tmp_path / "new.mka"
    path.write_bytes(HEAD + element(0x18538067, element(0x1254C367, element(0x7373, element(0x67C8, new)))))
    code = (
        "import sys; from kithara_actors.media.details import describe; from kithara_actors.values import *;"
        "file = open(sys.argv[1], 'rb'); print(describe(file, MediaInfo(None, Container.MATROSKA), whole=True).remark)"
    )
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60)
    assert (run.stdout, run.stderr) == ("None\n", "")


# --- A file object that gives less than it is asked for


def test_short_reads_are_no_end() -> None:
    class SlowFile(CountingFile):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(1000 if size is None or size < 0 else min(size, 1000))

    content = recording("ogg", "flac")
    assert describe(SlowFile(content), MediaInfo(None, Container.OGG), whole=True) == describe_bytes(content)
