"""What is told of real files, against mutagen on the same files; with parts missing; without a library."""

from __future__ import annotations

import io
import sys
from typing import Any

import mutagen
import pytest
from details_kit import (
    RATE,
    SECONDS,
    TAGS,
    CountingFile,
    FrontFile,
    box,
    describe_bytes,
    element,
    flac_file,
    recording,
    vorbis_file,
)
from mutagen.aac import AAC

from kithara_actors.media.details import describe
from kithara_actors.media.info import detect
from kithara_actors.values import AudioCodec, Container, MediaDetails, MediaInfo

KINDS: dict[str, tuple[str, str, AudioCodec | None, Container, dict[str, str]]] = {
    "mp3": ("mp3", "libmp3lame", AudioCodec.MP3, Container.MPEG_AUDIO, {}),
    "mp3-bare": ("mp3", "libmp3lame", AudioCodec.MP3, Container.MPEG_AUDIO, {"write_xing": "0", "write_id3v1": "1"}),
    "mp3-23": ("mp3", "libmp3lame", AudioCodec.MP3, Container.MPEG_AUDIO, {"id3v2_version": "3"}),
    "adts": ("adts", "aac", AudioCodec.AAC_LC, Container.ADTS, {"write_id3v2": "1"}),
    "flac": ("flac", "flac", AudioCodec.FLAC, Container.FLAC, {}),
    "opus": ("opus", "libopus", AudioCodec.OPUS, Container.OGG, {}),
    "ogg-flac": ("ogg", "flac", AudioCodec.FLAC, Container.OGG, {}),
    "wav": ("wav", "pcm_s16le", AudioCodec.PCM, Container.WAV, {}),
    "wav-24": ("wav", "pcm_s24le", AudioCodec.PCM, Container.WAV, {}),
    "aiff": ("aiff", "pcm_s16be", AudioCodec.PCM, Container.AIFF, {"write_id3v2": "1"}),
    "aifc": ("aiff", "pcm_s16le", AudioCodec.PCM, Container.AIFF, {"write_id3v2": "1"}),
    "m4a": ("ipod", "aac", AudioCodec.AAC_LC, Container.MP4, {}),
    "m4a-front": ("ipod", "aac", AudioCodec.AAC_LC, Container.MP4, {"movflags": "faststart"}),
    "alac": ("ipod", "alac", AudioCodec.ALAC, Container.MP4, {}),
    "mp4-flac": ("mp4", "flac", AudioCodec.FLAC, Container.MP4, {"strict": "-2"}),
    "webm": ("webm", "libopus", AudioCodec.OPUS, Container.WEBM, {}),
    "mka": ("matroska", "flac", AudioCodec.FLAC, Container.MATROSKA, {}),
    "mka-pcm": ("matroska", "pcm_s16le", AudioCodec.PCM, Container.MATROSKA, {}),
    "caf": ("caf", "pcm_s16le", AudioCodec.PCM, Container.CAF, {}),
    "caf-alac": ("caf", "alac", AudioCodec.ALAC, Container.CAF, {}),
    "au": ("au", "pcm_s16be", AudioCodec.PCM, Container.AU, {}),
}
TAGLESS = frozenset({"caf", "caf-alac", "au"})
OF_INFO = frozenset({"title", "artist", "album", "date", "tracknumber", "genre", "comment"})
"""What a RIFF list has names for."""


def content_of(name: str) -> bytes:
    kind, codec, _, _, options = KINDS[name]
    return recording(kind, codec, **options)


@pytest.mark.parametrize("name", KINDS)
def test_codec_container_and_numbers(name: str) -> None:
    content = content_of(name)
    _, coder, codec, container, _ = KINDS[name]
    info = describe_bytes(content).info
    assert (info.codec, info.container) == (codec, container)
    assert info.sample_rate == (48_000 if coder == "libopus" else RATE)
    assert info.channels == 2
    assert info.duration is not None
    assert info.bitrate is not None
    # Encoders of AAC and MP3 fill their last frame, and add one or two.
    assert info.duration == pytest.approx(SECONDS, abs=0.1)
    assert info.bitrate == pytest.approx(len(content) * 8 / info.duration, rel=0.1)


@pytest.mark.parametrize("name", KINDS)
def test_numbers_are_those_of_mutagen(name: str) -> None:
    content = content_of(name)
    # It takes ADTS behind an ID3 tag for MP3.
    library: Any = AAC(io.BytesIO(content)) if name == "adts" else mutagen.File(io.BytesIO(content))
    if library is None:
        assert KINDS[name][3] in (Container.WEBM, Container.MATROSKA, Container.CAF, Container.AU)
        return
    info = describe_bytes(content).info
    assert info.duration == pytest.approx(library.info.length, abs=1e-6)
    assert info.channels == library.info.channels
    assert info.sample_rate == getattr(library.info, "sample_rate", 48_000)
    told = getattr(library.info, "bitrate", 0)
    # Where it tells none (Ogg FLAC), or one that the file has no room for (ALAC), the average is told.
    if told and told * library.info.length < len(content) * 8.4:
        assert info.bitrate == pytest.approx(told, abs=1)


@pytest.mark.parametrize("name", sorted(set(KINDS) - TAGLESS))
def test_tags_have_common_names(name: str) -> None:
    details = describe_bytes(content_of(name))
    expected = dict(TAGS) | {"albumartist": TAGS["album_artist"]}
    expected |= {"tracknumber": expected.pop("track"), "discnumber": expected.pop("disc")}
    del expected["album_artist"]
    told = {key: details.tag(key) for key in expected}
    if name in ("wav", "wav-24"):
        expected = {key: value if key in OF_INFO else None for key, value in expected.items()}
    assert told == expected


def test_bit_rate_is_that_of_the_whole_file_where_the_container_exaggerates() -> None:
    content = recording("ipod", "alac")
    # FFmpeg writes what the sound takes without compression.
    library: Any = mutagen.File(io.BytesIO(content))
    assert library.info.bitrate * SECONDS > len(content) * 8
    info = describe_bytes(content).info
    assert info.duration is not None
    assert info.bitrate == round(len(content) * 8 / info.duration)


@pytest.mark.parametrize("name", ["mp3", "flac", "wav", "aiff", "m4a-front", "webm", "mka", "caf", "au"])
def test_the_front_is_enough_where_the_header_tells_all(name: str) -> None:
    content = content_of(name)
    front = FrontFile(content, 32 * 1024)
    details = describe(front, detect(None, content[:32768]), whole=False)
    assert details.info == describe_bytes(content).info


@pytest.mark.parametrize("content", [vorbis_file("TITLE=Sweep"), recording("opus", "libopus")])
def test_a_duration_that_stands_at_the_end_is_not_guessed(content: bytes) -> None:
    front = FrontFile(content, 16 * 1024)
    details = describe(front, detect(None, content[:16384]), whole=False)
    assert details.info.duration is None
    assert details.info.channels == 2
    assert details.info.sample_rate is not None
    assert "its first bytes do not tell the rest" in str(details.remark)


def test_movie_box_at_the_end_is_not_missed_with_all_there_and_said_without() -> None:
    content = recording("ipod", "aac")
    assert content.rfind(b"moov") > len(content) // 2
    details = describe(FrontFile(content, 16 * 1024), MediaInfo(None, Container.MP4), whole=False)
    assert details == MediaDetails(MediaInfo(None, Container.MP4), remark="its first bytes do not tell the rest")
    told = describe(CountingFile(content), MediaInfo(None, Container.MP4), whole=True)
    assert told.info.codec is AudioCodec.AAC_LC
    assert told.remark is None


def test_container_is_found_where_it_is_not_given() -> None:
    details = describe(CountingFile(recording("flac", "flac")), MediaInfo(), whole=True)
    assert (details.info.codec, details.info.container) == (AudioCodec.FLAC, Container.FLAC)
    assert details.info.channels == 2


@pytest.mark.parametrize("content", [b"", b"abc", b"<!DOCTYPE html><html></html>", bytes(5000)])
def test_what_is_no_media_is_said_and_not_raised(content: bytes) -> None:
    assert describe_bytes(content) == MediaDetails(remark="no audio format that is known here")


def test_given_container_is_kept() -> None:
    details = describe(CountingFile(recording("flac", "flac")), MediaInfo(None, Container.MPEG_AUDIO), whole=True)
    assert details.info.container is Container.MPEG_AUDIO
    assert details.info.codec is AudioCodec.FLAC
    assert details.info.channels == 2


def test_flac_after_a_long_id3_tag() -> None:
    content = b"ID3\x04\x00\x00\x00\x06\x00\x00" + bytes(6 << 14) + flac_file()
    details = describe_bytes(content)
    assert details.info.codec is AudioCodec.FLAC
    assert details.info.duration == pytest.approx(10.0)


# --- MPEG audio and ADTS without a header that tells the duration


def mpeg_frames(*rates: int) -> bytes:
    """Layer III at 44.1 kHz; `rates` are numbers of the table of bit rates: 9 is 128, 11 is 192 kbit/s."""
    kilobits = {5: 64, 9: 128, 11: 192}
    return b"".join(
        bytes([0xFF, 0xFB, rate << 4, 0]) + bytes(144 * kilobits[rate] * 1000 // RATE - 4) for rate in rates
    )


def test_varying_rate_without_xing_is_averaged_and_said() -> None:
    details = describe_bytes(mpeg_frames(*[5, 9, 11, 9] * 50))
    assert details.info.bitrate == 128_000
    assert details.info.duration == pytest.approx(200 * 1152 / RATE, rel=0.01)
    assert details.remark is not None
    assert "estimate" in details.remark


def test_constant_rate_without_xing_needs_no_remark() -> None:
    details = describe_bytes(mpeg_frames(*[9] * 200))
    assert details.info.duration == pytest.approx(200 * 1152 / RATE, rel=0.01)
    assert details.remark is None


def test_aac_profiles_other_than_lc_are_not_called_lc() -> None:
    content = bytearray(recording("adts", "aac", tagged=False))
    at = 0
    while at < len(content):
        size = (content[at + 3] & 3) << 11 | content[at + 4] << 3 | content[at + 5] >> 5
        content[at + 2] = content[at + 2] & 0x3F | 3 << 6  # long-term prediction
        at += size
    info = describe_bytes(bytes(content)).info
    assert (info.codec, info.container, info.sample_rate) == (None, Container.ADTS, RATE)


def test_high_efficiency_aac_in_mp4_is_not_called_lc() -> None:
    content = recording("ipod", "aac")
    at = content.index(b"\x05\x80\x80\x80", content.index(b"esds")) + 5
    # Object type 5 at 22.05 kHz with two channels, which extends type 2 to 44.1 kHz
    changed = content[:at] + bytes.fromhex("2b92080000") + content[at + 5 :]
    details = describe_bytes(changed, "audio/mp4")
    assert details.info.codec is None
    assert details.remark is not None
    assert "AAC LC+SBR" in details.remark
    assert details.info.sample_rate == RATE


# --- Missing libraries


@pytest.mark.parametrize("name", ["mp3", "m4a", "aiff", "adts"])
def test_without_mutagen_the_remark_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mutagen", None)
    details = describe_bytes(content_of(name))
    assert details.remark is not None
    assert "install mutagen for tags: pip install 'kithara-actors[tags]'" in details.remark
    assert details.info.container is KINDS[name][3]


def test_without_mutagen_pymp4_tells_the_numbers_of_mp4(monkeypatch: pytest.MonkeyPatch) -> None:
    with_all = describe_bytes(content_of("m4a")).info
    monkeypatch.setitem(sys.modules, "mutagen", None)
    info = describe_bytes(content_of("m4a")).info
    assert (info.codec, info.sample_rate, info.channels) == (AudioCodec.AAC_LC, RATE, 2)
    assert info.duration == with_all.duration


@pytest.mark.parametrize("name", ["wav", "caf", "au"])
def test_formats_that_need_no_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = describe_bytes(content_of(name))
    for library in ("mutagen", "enzyme", "pymp4"):
        monkeypatch.setitem(sys.modules, library, None)
    assert describe_bytes(content_of(name)) == expected


def test_without_enzyme_the_remark_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "enzyme", None)
    details = describe_bytes(content_of("webm"))
    assert details.remark == "install enzyme for Matroska and WebM: pip install 'kithara-actors[tags]'"
    assert details.info.container is Container.WEBM


def test_without_pymp4_fragmented_mp4_has_a_remark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymp4", None)
    details = describe_bytes(recording("mp4", "aac", movflags="frag_keyframe+empty_moov"))
    assert details.remark is not None
    assert "install pymp4" in details.remark
    assert details.tag("title") == "Sweep"


def test_libraries_are_not_imported_before_they_are_needed() -> None:
    import subprocess

    code = (
        "import sys, kithara_actors.media.details;"
        "print([name for name in ('mutagen', 'enzyme', 'pymp4', 'construct', 'pykka') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"


# --- Ogg and Matroska that are not as the muxers of FFmpeg write them


def test_ogg_with_another_stream_at_its_end_is_not_read_through() -> None:
    file = CountingFile(vorbis_file(serial=7) + vorbis_file(serial=99, seconds=60))
    details = describe(file, MediaInfo(AudioCodec.VORBIS, Container.OGG), whole=True)
    assert (details.info.duration, details.info.channels) == (None, 2)
    assert "no duration" in str(details.remark)
    assert file.total < 700_000
    file = CountingFile(vorbis_file(serial=7, seconds=60) + vorbis_file(serial=99))
    details = describe(file, MediaInfo(AudioCodec.VORBIS, Container.OGG), whole=True)
    assert (details.info.duration, details.info.channels) == (None, 2)
    assert "no duration" in str(details.remark)
    assert file.total < 700_000


def test_vorbis_as_mutagen_has_it() -> None:
    content = vorbis_file("TITLE=Sweep", "artist=A", "ARTIST=B")
    library: Any = mutagen.File(io.BytesIO(content))
    details = describe_bytes(content)
    assert details.info == MediaInfo(
        AudioCodec.VORBIS, Container.OGG, RATE, 2, library.info.length, library.info.bitrate
    )
    assert details.tags == (("title", ("Sweep",)), ("artist", ("A", "B")))


def test_ogg_without_an_end_mark_is_not_read_through() -> None:
    file = CountingFile(vorbis_file(seconds=60, last=0))
    details = describe(file, MediaInfo(None, Container.OGG), whole=True)
    assert details.info.channels == 2
    assert file.total < 700_000


def test_matroska_without_a_seek_head() -> None:
    info = element(0x1549A966, element(0x2AD7B1, 1_000_000), element(0x4489, 12_500.0))
    audio = element(0xE1, element(0xB5, 48_000.0), element(0x9F, 1))
    track = element(0xAE, element(0xD7, 1), element(0x83, 2), element(0x86, "A_MPEG/L3"), audio)
    segment = element(0x18538067, info, element(0x1654AE6B, track), size=(1 << 56) - 1)
    details = describe_bytes(element(0x1A45DFA3, element(0x4282, "matroska")) + segment)
    assert details.info.codec is AudioCodec.MP3
    assert (details.info.sample_rate, details.info.channels, details.info.duration) == (48_000, 1, 12.5)


def test_matroska_without_a_duration_says_so() -> None:
    details = describe_bytes(recording("webm", "libopus", live="1"))
    assert details.info.duration is None
    assert details.info.sample_rate == 48_000
    assert details.remark == "the recording does not tell its duration"


# --- Fragmented MP4


def test_duration_of_fragmented_mp4_from_its_index() -> None:
    flags = "frag_keyframe+empty_moov+dash+global_sidx"
    details = describe_bytes(recording("mp4", "aac", movflags=flags, frag_duration="500000"))
    assert details.info.duration == pytest.approx(SECONDS, abs=0.1)
    assert (details.info.codec, details.info.sample_rate) == (AudioCodec.AAC_LC, RATE)


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "frag_keyframe+empty_moov+dash"])
def test_fragments_are_not_walked_for_the_duration(flags: str) -> None:
    content = recording("mp4", "aac", movflags=flags, frag_duration="500000")
    file = CountingFile(content)
    details = describe(file, detect(None, content[:65536]), whole=True)
    assert details.info.duration is None
    assert (details.info.sample_rate, details.info.channels) == (RATE, 2)
    assert details.remark is not None
    assert "does not tell its duration" in details.remark
    assert len(file.reads) <= 3


@pytest.mark.parametrize("version", [0, 1])
def test_duration_of_fragmented_mp4_from_its_header(version: int) -> None:
    content = recording("mp4", "aac", movflags="frag_keyframe+empty_moov", frag_duration="500000")
    at = content.index(b"mvex")
    scale = int.from_bytes(content[content.index(b"mvhd") + 16 :][:4], "big")
    length = box(b"mehd", bytes([version, 0, 0, 0]), (7 * scale).to_bytes(8 if version else 4, "big"))
    moov = content.index(b"moov")
    grown = bytearray(content[: at + 4] + length + content[at + 4 :])
    for place in (at - 4, moov - 4):
        size = int.from_bytes(grown[place : place + 4], "big") + len(length)
        grown[place : place + 4] = size.to_bytes(4, "big")
    assert describe_bytes(bytes(grown)).info.duration == pytest.approx(7.0)
