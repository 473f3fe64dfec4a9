"""Files made by an enemy, or by nobody: nothing is raised, and what is read and told stays small."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest
from details_kit import (
    CountingFile,
    FrontFile,
    SparseFile,
    box,
    element,
    flac_block,
    flac_file,
    flac_picture,
    id3_frame,
    id3_tag,
    ogg_page,
    png,
    recording,
    riff,
    vorbis_comments,
    vorbis_file,
    wave_format,
)
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.media.details import describe
from kithara_actors.media.info import detect
from kithara_actors.media.source import READ_LIMIT
from kithara_actors.values import Container, MediaDetails, MediaInfo

MAGICS = [
    b"ID3\x04\x00\x00\x00\x00\x00\x40",
    b"ID3\x03\x00\x80\x7f\x7f\x7f\x7f",
    b"\xff\xfb\x90\x00",
    b"\xff\xf1\x50\x80",
    b"fLaC\x00\x00\x00\x22",
    b"fLaC",
    b"OggS\x00\x02",
    b"RIFF\xff\xff\xff\xffWAVEfmt \x10\x00\x00\x00",
    b"RF64\xff\xff\xff\xffWAVEds64",
    b"FORM\x00\x00\x00\x00AIFFCOMM\x00\x00\x00\x12",
    b"FORM\x00\x00\x00\x00AIFC",
    b"\x00\x00\x00\x10ftypM4A \x00\x00\x00\x00\x00\x00\x01\x00moov",
    b"\x00\x00\x00\x08ftyp",
    b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff\x15\x49\xa9\x66",
    b"\x1a\x45\xdf\xa3",
    b"caff\x00\x01\x00\x00desc\x00\x00\x00\x00\x00\x00\x00\x20",
    b".snd\x00\x00\x00\x18",
]


def small_files() -> list[bytes]:
    files = [
        recording("mp3", "libmp3lame"),
        recording("adts", "aac"),
        recording("flac", "flac"),
        vorbis_file("TITLE=x"),
        recording("opus", "libopus"),
        recording("aiff", "pcm_s16be", write_id3v2="1"),
        recording("ipod", "aac", movflags="faststart"),
        recording("mp4", "aac", movflags="frag_keyframe+empty_moov"),
        recording("webm", "libopus"),
        recording("caf", "alac"),
        recording("au", "pcm_s16be"),
    ]
    # The front is where headers are.
    return [content[:12_000] for content in files]


def checked(file: Any, container: Container | None = None, *, whole: bool = True) -> MediaDetails:
    """What `describe` tells, after checking what it read and how much it tells."""
    head = file.read(65536)
    file.seek(0, 2)
    length = file.tell()
    file.reads.clear()
    info = detect(None, head, length <= 65536) if container is None else MediaInfo(None, container)
    details = describe(file, info, whole=whole)
    assert max((size for _, size in file.reads), default=0) <= READ_LIMIT
    assert min((size for _, size in file.reads), default=0) >= 0
    assert sum(size for _, size in file.reads) <= 25 * 2**20
    text = [name + "".join(values) for name, values in details.tags]
    text += [cover.mime for cover in details.covers] + [details.remark or ""]
    assert len("".join(text).encode()) < 48 * 1024
    if info.container is not None:
        assert details.info.container is info.container
    for number in (details.info.sample_rate, details.info.channels, details.info.bitrate):
        assert number is None or 0 < number < 2**63
    assert details.info.duration is None or details.info.duration >= 0
    return details


@given(
    st.sampled_from(MAGICS),
    st.binary(max_size=600),
    st.sampled_from([None, *Container]),
    st.booleans(),
)
def test_random_bytes_behind_each_magic_number(
    magic: bytes, rest: bytes, container: Container | None, whole: bool
) -> None:
    checked(CountingFile(magic + rest), container, whole=whole)


@given(st.integers(0, 10), st.integers(0, 12_000), st.booleans())
def test_files_cut_anywhere(which: int, length: int, whole: bool) -> None:
    content = small_files()[which]
    checked(CountingFile(content[:length]), whole=whole)
    checked(FrontFile(content, length), whole=whole)


@given(
    st.integers(0, 10),
    st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), min_size=1, max_size=20),
    st.booleans(),
)
def test_files_with_bytes_changed(which: int, changes: list[tuple[int, int]], whole: bool) -> None:
    content = bytearray(small_files()[which])
    for at, value in changes:
        content[at] = value
    checked(CountingFile(bytes(content)), whole=whole)


@given(st.data())
def test_mp4_with_the_movie_box_changed(data: st.DataObject) -> None:
    content = bytearray(recording("ipod", "aac"))
    start = content.rfind(b"moov") - 4
    for at in data.draw(st.lists(st.integers(start, len(content) - 1), min_size=1, max_size=12)):
        content[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0xFF, 8, 0x10]))
    checked(CountingFile(bytes(content)), Container.MP4)


# --- MP4

FTYP = box(b"ftyp", b"M4A \x00\x00\x00\x00")


def track(*tables: bytes, handler: bytes = b"soun") -> bytes:
    header = box(b"mdhd", bytes(12), struct.pack(">II", 1000, 7000), bytes(4))
    kind = box(b"hdlr", bytes(8), handler, bytes(13))
    return box(b"trak", box(b"mdia", header, kind, box(b"minf", box(b"stbl", *tables))))


@pytest.mark.parametrize("count", [2**32 - 1, 2**20])
@pytest.mark.parametrize("kind", [b"stsz", b"stts", b"stco", b"stsd"])
def test_tables_that_promise_billions_of_entries(kind: bytes, count: int) -> None:
    table = box(kind, bytes(4) if kind == b"stsd" else bytes(8), struct.pack(">I", count), bytes(64))
    details = checked(CountingFile(FTYP + box(b"moov", track(table))))
    assert details.info.duration == pytest.approx(7.0)


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 15, 2**31, 2**32 - 1])
@pytest.mark.parametrize("kind", [b"moov", b"trak", b"mvhd", b"udta", b"sidx", b"moof", b"free"])
def test_boxes_of_impossible_sizes(kind: bytes, size: int, long: bool) -> None:
    inner = box(kind, bytes(200), size=size, long=long)
    checked(CountingFile(FTYP + inner + box(b"moov", inner, track())))


def test_box_whose_64_bits_go_past_any_end() -> None:
    checked(CountingFile(FTYP + box(b"moov", track(), size=2**64 - 1, long=True)))
    checked(CountingFile(FTYP + box(b"free", size=2**63, long=True) + box(b"moov", track())))


def test_64_bit_sizes_that_are_right() -> None:
    header = box(b"mvhd", bytes(12), struct.pack(">II", 1000, 5000), bytes(80), long=True)
    details = checked(CountingFile(FTYP + box(b"free", bytes(100), long=True) + box(b"moov", header, long=True)))
    assert details.info.duration == 5.0


@pytest.mark.parametrize("kind", [b"moov", b"udta", b"trak", b"meta"])
@pytest.mark.parametrize("levels", [200, 5000])
def test_boxes_nested_deeply(kind: bytes, levels: int) -> None:
    inner = b""
    for _ in range(levels):
        inner = struct.pack(">I4s", len(inner) + 8, kind) + inner
    checked(CountingFile(FTYP + box(b"moov", inner)))


@pytest.mark.parametrize("place", ["top", "movie", "items"])
def test_a_million_empty_boxes(place: str) -> None:
    boxes = box(b"free") * 500_000
    if place == "items":
        boxes = box(b"udta", box(b"meta", bytes(4), box(b"ilst", boxes)))
    content = FTYP + boxes + box(b"moov") if place == "top" else FTYP + box(b"moov", boxes)
    details = checked(CountingFile(content))
    assert details.remark is not None


def test_items_of_mp4_are_read_up_to_a_megabyte() -> None:
    text = box(b"desc", box(b"data", struct.pack(">II", 1, 0), b"x" * 60_000))
    items = box(b"udta", box(b"meta", bytes(4), box(b"ilst", text * 100)))
    file = CountingFile(FTYP + box(b"moov", items))
    assert checked(file).tag("description") == "x" * 1000
    assert sum(size for _, size in file.reads) < 3 * 2**20


def test_segment_index_that_is_endless_is_left_alone() -> None:
    index = box(b"sidx", bytes(4), struct.pack(">IIIIHH", 1, 1000, 0, 0, 0, 65_535), bytes(12 * 65_535))
    movie = box(b"moov", box(b"mvhd", bytes(12), struct.pack(">II", 1000, 0), bytes(80)), box(b"mvex"), track())
    details = checked(CountingFile(FTYP + movie + index + box(b"moof")))
    assert details.info.duration is None
    assert details.remark is not None
    assert "8,192 references" in details.remark


def test_index_of_the_first_fragment_is_not_taken_for_all() -> None:
    index = box(b"sidx", bytes(4), struct.pack(">IIIIHH", 1, 1000, 0, 0, 0, 1), struct.pack(">III", 108, 2000, 0))
    header = box(b"mvhd", bytes(12), struct.pack(">II", 1000, 0), bytes(80))
    movie = box(b"moov", header, box(b"mvex"), track())
    fragment = box(b"moof", bytes(92)) + box(b"free")
    assert checked(CountingFile(FTYP + movie + index + fragment)).info.duration == 2.0
    assert checked(CountingFile(FTYP + movie + index + fragment * 2)).info.duration is None


# --- ID3, FLAC, Ogg, RIFF, EBML


@pytest.mark.parametrize("size", [0, 10, 2**20, 2**28 - 1])
@pytest.mark.parametrize("flags", [0, 0x10, 0x40, 0x80])
def test_id3_tags_of_any_size(size: int, flags: int) -> None:
    checked(CountingFile(id3_tag(bytes(100), flags=flags, size=size)))
    checked(SparseFile(2**30, {0: id3_tag(id3_frame("TIT2", b"\x03x"), flags=flags, size=size)}))


def test_id3_frames_larger_than_a_parser_reads() -> None:
    for kind in ("TIT2", "APIC", "PRIV", "COMM"):
        head = kind.encode() + struct.pack(">IH", 2**27, 0) + b"\x00image/png\x00\x03\x00"
        details = checked(SparseFile(2**30, {0: id3_tag(head, version=3, size=2**28 - 1)}))
        assert details.tags == ()


def test_frames_without_end() -> None:
    frames = b"".join(id3_frame("TXXX", b"\x03a%d\x00b" % number) for number in range(50_000))
    details = checked(CountingFile(id3_tag(frames) + recording("mp3", "libmp3lame", tagged=False)))
    assert len(details.tags) == 64
    assert details.info.channels == 2


@pytest.mark.parametrize("flags", [0x40, 0x80])
def test_tag_of_many_frames_that_cannot_be_told_apart_is_left_alone(flags: int) -> None:
    # mutagen needs half a minute for a megabyte of these.
    frames = b"".join(id3_frame("TIT2", b"\x03%d" % number) for number in range(2000))
    details = checked(CountingFile(id3_tag(frames, flags=flags)), Container.MPEG_AUDIO)
    assert details.tags == ()
    assert details.remark is not None
    assert "was left alone" in details.remark


@pytest.mark.parametrize("version", [3, 4])
def test_compressed_frame_that_cannot_be_told_from_others_is_left_alone(version: int) -> None:
    packed = struct.pack(">I", 2**20) + zlib.compress(b"\x03" + bytes(2**20))
    flags = 0x09 if version == 4 else 0x80
    frame = id3_frame("TIT2", packed.replace(b"\xff", b"\xff\x00"), flags=flags, plain_size=version == 3)
    details = checked(CountingFile(id3_tag(frame, version, flags=0x80)), Container.MPEG_AUDIO)
    assert details.remark is not None
    assert "was left alone" in details.remark


def test_many_compressed_frames_are_not_all_expanded() -> None:
    packed = struct.pack(">I", 90_000) + zlib.compress(b"\x03" + bytes(90_000))
    assert len(packed) < 128
    frames = [id3_frame("TXXX", b"\x03a\x00b"), *[id3_frame("TIT2", packed, flags=0x09)] * 400]
    details = checked(CountingFile(id3_tag(b"".join(frames))), Container.MPEG_AUDIO)
    assert details.tag("a") == "b"


def test_texts_of_a_tag_are_read_up_to_a_limit() -> None:
    text = id3_frame("TXXX", b"\x03a\x00" + b"x" * 60_000)
    file = CountingFile(id3_tag(text * 100))
    assert checked(file, Container.MPEG_AUDIO).tag("a") is not None
    assert sum(size for _, size in file.reads) < 3 * 2**20


def test_ape_tag_of_many_items_is_left_alone() -> None:
    body = (struct.pack("<II", 0, 0) + b"ab\x00") * 200_000
    footer = struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(body) + 32, 200_000, 1 << 31)
    file = CountingFile(recording("mp3", "libmp3lame") + body + footer)
    details = checked(file, Container.MPEG_AUDIO)
    assert details.tag("title") == "Sweep"
    assert sum(size for _, size in file.reads) < 200_000


@pytest.mark.parametrize("size", [0, 31, 2**24 - 1])
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5, 6, 126])
def test_flac_blocks_of_impossible_sizes(kind: int, size: int) -> None:
    details = checked(CountingFile(flac_file(flac_block(kind, bytes(40), size=size))))
    assert details.info.channels == 2


@pytest.mark.parametrize("length", [2**31, 2**32 - 1])
def test_flac_picture_that_claims_gigabytes(length: int) -> None:
    picture = flac_block(6, flac_picture(png(5, 5), length=length))
    details = checked(CountingFile(flac_file(picture)))
    assert all(cover.size < 2000 for cover in details.covers)


def test_comments_that_promise_billions() -> None:
    comments = vorbis_comments("title=x", count=2**32 - 1)
    assert checked(CountingFile(flac_file(flac_block(4, comments)))).info.sample_rate == 44_100
    long = struct.pack("<I", 2**32 - 1) + b"x"
    checked(CountingFile(flac_file(flac_block(4, long))))
    checked(CountingFile(flac_file(flac_block(4, vorbis_comments("a=b")[:-3] + b"\xff" * 3))))


def test_ogg_pages_without_end() -> None:
    head = ogg_page(b"OpusHead" + bytes([1, 2]) + bytes(9), flags=2)
    # Each of these says that its packet goes on.
    page = ogg_page(b"")[:26] + b"\xff" * 256 + bytes(255 * 255)
    file = CountingFile(head + page * 100)
    checked(file)
    assert sum(size for _, size in file.reads) < 1.5 * 2**20
    checked(CountingFile(ogg_page(b"", flags=2) * 100_000))
    checked(CountingFile(head + b"OggS".ljust(27, b"\x00") * 100_000))


def test_wav_chunks_without_end() -> None:
    checked(CountingFile(riff((b"fmt ", wave_format()), *[(b"JUNK", b"")] * 100_000)))
    words = (b"LIST", b"INFO" + (b"INAM" + bytes(4)) * 100_000)
    checked(CountingFile(riff((b"fmt ", wave_format()), words)))


@pytest.mark.parametrize("size", [0, 1, 2**31, 2**56 - 2, 2**56 - 1])
@pytest.mark.parametrize("identity", [0x18538067, 0x1549A966, 0x1654AE6B, 0x1254C367, 0x114D9B74, 0x1941A469, 0xEC])
def test_ebml_elements_of_impossible_sizes(identity: int, size: int) -> None:
    inner = element(identity, bytes(50), size=size)
    segment = element(0x18538067, inner, size=2**56 - 1)
    details = checked(CountingFile(element(0x1A45DFA3, element(0x4282, "webm")) + segment))
    assert details.info.container is Container.WEBM


def test_headers_of_matroska_that_are_endless_are_left_alone() -> None:
    tags = element(0x1254C367, b"\x73\x73\x80" * 300_000)
    details = checked(CountingFile(element(0x1A45DFA3, element(0x4282, "webm")) + element(0x18538067, tags)))
    assert details.remark is not None
    assert "were left alone" in details.remark


def test_ebml_nested_deeply_and_without_end() -> None:
    deep = b""
    for _ in range(3000):
        deep = element(0x67C8, deep)
    head = element(0x1A45DFA3, element(0x4282, "webm"))
    tags = element(0x1254C367, element(0x7373, deep))
    details = checked(CountingFile(head + element(0x18538067, tags)))
    assert details.remark == "a part of it is nested too deeply"
    checked(CountingFile(head + element(0x18538067, b"\xec\x80" * 500_000)))
    seek = element(0x4DBB, element(0x53AB, 0x1254C367), element(0x53AC, 2**63))
    checked(CountingFile(head + element(0x18538067, element(0x114D9B74, seek * 2000))))


# --- A file that cannot be read


class BrokenFile(CountingFile):
    def __init__(self, error: Exception) -> None:
        super().__init__(bytes(100))
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:
        raise self._error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("the line is dead"), "a part of it could not be read: the line is dead"),
        (MemoryError(), "a part of it needs more memory than a parser is given"),
        (RecursionError(), "a part of it is nested too deeply"),
        (ValueError(), "a part of it could not be read: ValueError"),
    ],
)
def test_what_goes_wrong_is_a_remark(error: Exception, words: str) -> None:
    details = describe(BrokenFile(error), MediaInfo(None, Container.FLAC), whole=True)
    assert details == MediaDetails(MediaInfo(None, Container.FLAC), remark=words)


def test_an_order_to_stop_is_no_fault_of_the_file() -> None:
    class StopError(BaseException):
        pass

    class StoppingFile(CountingFile):
        def read(self, size: int | None = -1, /) -> bytes:
            raise StopError

    with pytest.raises(StopError):
        describe(StoppingFile(bytes(100)), MediaInfo(None, Container.FLAC), whole=True)
