"""How few bytes of a large file are read, and in how few places."""

from __future__ import annotations

import struct

import pytest
from details_kit import (
    RATE,
    SparseFile,
    box,
    flac_block,
    flac_file,
    ogg_page,
    recording,
    riff,
    vorbis_comments,
    vorbis_file,
    wave_format,
)

from kithara_actors.media.details import describe
from kithara_actors.media.info import detect
from kithara_actors.media.source import PAGE, READ_LIMIT, ParserLimitError, Part, Source
from kithara_actors.values import MediaDetails

GIGABYTE = 2**30


def told(length: int, parts: dict[int, bytes]) -> tuple[MediaDetails, SparseFile]:
    file = SparseFile(length, parts)
    return describe(file, detect(None, parts[0][:65536], False), whole=True), file  # type: ignore[arg-type]


def large(name: str) -> dict[int, bytes]:
    match name:
        case "mp3":
            return {0: recording("mp3", "libmp3lame")[:50_000]}
        case "mp3-bare":
            return {0: recording("mp3", "libmp3lame", write_xing="0")[:50_000]}
        case "flac":
            return {0: flac_file(flac_block(4, vorbis_comments("title=t")), samples=2**34)}
        case "wav":
            return {0: riff((b"fmt ", wave_format()), (b"data", b"", GIGABYTE - 44))}
        case "aiff":
            return {0: recording("aiff", "pcm_s16be")[:100]}
        case "webm":
            return {0: recording("webm", "libopus")}
        case "adts":
            return {0: recording("adts", "aac")}
        case "caf":
            return {0: recording("caf", "pcm_s16le")[:5000]}
        case _:
            return {0: recording("au", "pcm_s16be")[:200]}


@pytest.mark.parametrize("name", ["mp3", "mp3-bare", "flac", "wav", "aiff", "webm", "adts", "caf", "au"])
def test_a_gigabyte_costs_less_than_200_kilobytes(name: str) -> None:
    details, file = told(GIGABYTE, large(name))
    assert details.info.channels == 2
    assert details.info.duration is not None
    assert file.total < 200_000
    assert len(file.reads) <= 6


def test_a_gigabyte_of_ogg_costs_its_last_64_kibibytes() -> None:
    front = vorbis_file("TITLE=t")[:60_000]
    last = ogg_page(bytes(100), flags=4, granule=3600 * RATE)
    details, file = told(GIGABYTE, {0: front, GIGABYTE - len(last): last})
    assert details.info.duration == 3600
    assert file.total < 64 * 1024 + 3 * PAGE
    assert len(file.reads) <= 3


@pytest.mark.parametrize("last", [False, True])
def test_a_gigabyte_of_mp4_costs_a_part_of_its_movie_box(last: bool) -> None:
    content = recording("ipod", "aac", movflags="faststart")
    at = content.index(b"moov") - 4
    size = int.from_bytes(content[at : at + 4], "big")
    front, movie = content[:at], content[at : at + size]
    # Ten hours have some six megabytes of sample sizes.
    table = movie.index(b"stsz") - 4
    old = int.from_bytes(movie[table : table + 4], "big")
    added = 6_000_000
    grown = bytearray(movie)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsz"):
        place = grown.index(name) - 4
        grown[place : place + 4] = (int.from_bytes(grown[place : place + 4], "big") + added).to_bytes(4, "big")
    head, tail = bytes(grown[: table + 20]), bytes(grown[table + old :])
    whole = len(head) + added + old - 20 + len(tail)
    start = GIGABYTE - whole if last else len(front)
    parts = {0: front, start: head, start + whole - len(tail): tail}
    data = struct.pack(">I4s", (start if last else GIGABYTE) - len(front) - (0 if last else whole), b"mdat")
    parts[len(front) if last else start + whole] = data
    file = SparseFile(GIGABYTE, parts)
    details = describe(file, detect("audio/mp4", front, False), whole=True)  # type: ignore[arg-type]
    assert details.remark is None
    assert details.tag("title") == "Sweep"
    assert details.info.duration == pytest.approx(3.0, abs=0.1)
    assert file.total < 100_000
    assert len(file.reads) <= 5


def test_sound_that_never_comes_is_not_searched_for_in_all() -> None:
    details, file = told(GIGABYTE, {0: b"\xff\xfb\x90\x00"})
    assert details.info.duration is None
    assert details.remark is not None
    assert "no frame of sound in 128 KiB" in details.remark
    assert file.total < 200_000


def test_box_list_that_is_spread_over_the_file_is_given_up() -> None:
    parts = {0: box(b"ftyp", b"M4A \x00\x00\x00\x00")}
    parts |= {16 + number * 2**20: box(b"free", size=2**20) for number in range(1000)}
    details, file = told(1000 * 2**20, parts)
    assert details.remark is not None
    assert "more than 64 boxes" in details.remark
    assert file.total < 70 * PAGE


# --- The source


def test_pages_are_read_once() -> None:
    file = SparseFile(10 * PAGE, {PAGE - 2: b"abcd", 5 * PAGE: b"x"})
    source = Source(file)  # type: ignore[arg-type]
    assert source.read_at(PAGE - 2, 4) == b"abcd"
    assert source.read_at(5 * PAGE, 1) == b"x"
    assert source.read_at(0, PAGE)[-2:] == b"ab"
    assert file.reads == [(0, 2 * PAGE), (5 * PAGE, PAGE)]


def test_blank_bytes_are_zeros_and_not_read() -> None:
    file = SparseFile(10 * PAGE, {0: bytes([1]) * 10 * PAGE})
    source = Source(file)  # type: ignore[arg-type]
    source.blank(PAGE, 9 * PAGE)
    source.blank(4 * PAGE, 5 * PAGE)
    source.blank(9 * PAGE + 100, 9 * PAGE + 200, b"abcd")
    content = source.read_at(PAGE - 3, 8 * PAGE + 6)
    assert content == b"\x01" * 3 + bytes(8 * PAGE) + b"\x01" * 3
    assert file.reads == [(0, PAGE), (9 * PAGE, PAGE)]
    assert source.read_at(9 * PAGE + 98, 8) == b"\x01\x01abcd" + bytes(2)
    assert source.read_at(9 * PAGE + 102, 3) == b"cd" + bytes(1)
    assert not source.unseen


def test_limits_of_a_source() -> None:
    source = Source(SparseFile(GIGABYTE, {}))  # type: ignore[arg-type]
    with pytest.raises(ParserLimitError, match="too much for one part"):
        source.read_at(0, READ_LIMIT)
    assert len(source.read_at(100, 12 * 2**20)) == 12 * 2**20
    with pytest.raises(ParserLimitError, match="more than 24 MiB"):
        source.read_at(500 * 2**20, 13 * 2**20)
    for _ in range(50_000 - 3):
        source.read_at(0, 1)
    with pytest.raises(ParserLimitError, match="too many small parts"):
        source.read_at(0, 1)


def test_part_of_a_source_is_a_file() -> None:
    source = Source(SparseFile(100, {10: b"0123456789"}))  # type: ignore[arg-type]
    part = Part(source, 10, 20)
    assert part.read(3) == b"012"
    assert part.tell() == 3
    assert part.seek(-2, 2) == 8
    assert part.read() == b"89"
    assert part.read(5) == b""
    assert part.seek(50) == 50
    assert part.read() == b""
    assert part.seek(1) == 1
    assert part.seek(1, 1) == 2
    assert part.read(100) == b"23456789"
    with pytest.raises(OSError, match="before the start"):
        part.seek(-11, 2)
