"""Tags under common names and within limits, and covers without their bytes."""

from __future__ import annotations

import base64
import io
import struct
import unicodedata
import zlib
from typing import Any

import mutagen.id3
import mutagen.mp4
import pytest
from details_kit import (
    CountingFile,
    box,
    describe_bytes,
    element,
    flac_block,
    flac_file,
    flac_picture,
    id3_frame,
    id3_tag,
    jpeg,
    png,
    recording,
    riff,
    vorbis_comments,
    vorbis_file,
    wave_format,
)

from kithara_actors.media.details import describe
from kithara_actors.media.findings import clean
from kithara_actors.values import Container, Cover, MediaInfo

MP3 = MediaInfo(None, Container.MPEG_AUDIO)


def sound() -> bytes:
    return recording("mp3", "libmp3lame", tagged=False, id3v2_version="0")


def text_frame(kind: str, *values: str) -> bytes:
    return id3_frame(kind, b"\x03" + "\x00".join(values).encode())


def picture_frame(picture: bytes, mime: str = "image/jpeg", text: bytes = b"", coding: int = 0) -> bytes:
    end = b"\x00\x00" if coding in (1, 2) else b"\x00"
    return id3_frame("APIC", bytes([coding]) + mime.encode() + b"\x00\x03" + text + end + picture)


# --- ID3 and APEv2


def test_values_of_id3() -> None:
    frames = b"".join(
        [
            text_frame("TPE1", "One", "Two"),
            text_frame("TCON", "(17)"),
            text_frame("TXXX", "MusicBrainz Album Id", "abc"),
            id3_frame("COMM", b"\x03eng" + b"iTunNORM\x00 00000A"),
            id3_frame("COMM", b"\x03eng" + b"\x00plain"),
            text_frame("TSOP", "Order"),
            text_frame("TDRC", "2001-02-03"),
            id3_frame("USLT", b"\x03eng\x00La la\nla"),
        ]
    )
    details = describe_bytes(id3_tag(frames) + sound())
    assert dict(details.tags) == {
        "artist": ("One", "Two"),
        "genre": ("Rock",),
        "musicbrainz album id": ("abc",),
        "comment": ("plain",),
        "artistsort": ("Order",),
        "date": ("2001-02-03",),
        "lyrics": ("La la la",),
    }
    assert details.tag("Artist") == "One; Two"


@pytest.mark.parametrize("version", [2, 3, 4])
def test_each_version_of_id3_has_its_texts_and_cover(version: int) -> None:
    picture = jpeg(30, 20, size=9000)
    if version == 2:
        content = b"\x00JPG\x03\x00" + picture
        frames = b"TT2\x00\x00\x04\x00abc" + b"PIC" + len(content).to_bytes(3, "big") + content
    else:
        content = b"\x00image/jpeg\x00\x03\x00" + picture
        frames = id3_frame("TIT2", b"\x00abc") + id3_frame("APIC", content, plain_size=version == 3)
    frames += b"TT2\x00\x00\x02\x00d" if version == 2 else id3_frame("TALB", b"\x00d")
    file = CountingFile(id3_tag(frames + bytes(50_000), version) + sound())
    details = describe(file, MP3, whole=True)
    assert details.covers == (Cover("image/jpeg", 9000, 30, 20),)
    assert details.tag("title") == ("abc; d" if version == 2 else "abc")
    if version != 2:
        assert details.tag("album") == "d"
    assert details.info.sample_rate == 44_100


def test_sizes_as_old_itunes_wrote_them() -> None:
    picture = png(5, 6, size=20_000)
    content = b"\x00image/png\x00\x03\x00" + picture
    frames = id3_frame("APIC", content, plain_size=True) + text_frame("TIT2", "after it")
    details = describe_bytes(id3_tag(frames) + sound())
    assert details.covers == (Cover("image/png", 20_000, 5, 6),)
    assert details.tag("title") == "after it"


def test_picture_of_a_tag_is_not_read() -> None:
    picture = jpeg(640, 480, size=3_000_000)
    tag = id3_tag(picture_frame(picture, text="Vorne".encode("utf-16"), coding=1) + text_frame("TIT2", "after it"))
    file = CountingFile(tag + sound())
    details = describe(file, MP3, whole=True)
    assert details.covers == (Cover("image/jpeg", 3_000_000, 640, 480),)
    assert details.tag("title") == "after it"
    assert details.info.duration == pytest.approx(3.0, abs=0.1)
    assert file.total < 150_000


def test_padding_of_a_tag_is_not_read() -> None:
    file = CountingFile(id3_tag(text_frame("TIT2", "x") + bytes(2_000_000)) + sound())
    assert describe(file, MP3, whole=True).tag("title") == "x"
    assert file.total < 150_000


def test_unsynchronised_tag_has_its_cover() -> None:
    picture = jpeg(30, 20, size=2000)
    plain = b"\x00image/jpeg\x00\x03\x00" + picture
    content = plain.replace(b"\xff", b"\xff\x00")
    details = describe_bytes(id3_tag(id3_frame("APIC", content, flags=2), flags=0x80) + sound())
    assert details.covers == (Cover("image/jpeg", 2000, 30, 20),)


def test_unsynchronised_tag_that_is_long_is_left_alone() -> None:
    file = CountingFile(id3_tag(bytes(3_000_000), flags=0x80) + sound())
    details = describe(file, MP3, whole=True)
    assert details.remark is not None
    assert "was left alone" in details.remark
    assert details.info.channels == 2
    assert file.total < 150_000


def test_compressed_frames_that_are_short_are_read_and_others_are_not() -> None:
    def packed(text: bytes) -> bytes:
        return struct.pack(">I", len(text)) + zlib.compress(text)

    bomb = packed(b"\x03" + bytes(3_000_000))
    frames = id3_frame("TIT2", packed(b"\x03short"), flags=0x09) + id3_frame("TALB", bomb, flags=0x09)
    assert len(bomb) > 128
    assert dict(describe_bytes(id3_tag(frames) + sound()).tags) == {"title": ("short",)}


@pytest.mark.parametrize(("version", "flags"), [(3, 0x20), (4, 0x40), (4, 0x01), (4, 0x41)])
def test_picture_behind_a_group_or_a_length(version: int, flags: int) -> None:
    before = bytes((flags >> 6 & 1) + 4 * (flags & 1) if version == 4 else 1)
    content = before + b"\x00image/png\x00\x03\x00" + png(5, 6, size=9000)
    frame = id3_frame("APIC", content, flags=flags, plain_size=version == 3)
    assert describe_bytes(id3_tag(frame, version) + sound()).covers == (Cover("image/png", 9000, 5, 6),)


def test_link_to_a_picture_is_no_cover() -> None:
    details = describe_bytes(id3_tag(picture_frame(b"https://example.org/a.jpg", mime="-->")) + sound())
    assert details.covers == ()


def ape_tag(*items: tuple[str, bytes, int]) -> bytes:
    body = b"".join(
        struct.pack("<II", len(value), kind << 1) + key.encode() + b"\x00" + value for key, value, kind in items
    )
    head = struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(body) + 32, len(items), 1 << 31 | 1 << 29)
    return head + body + struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(body) + 32, len(items), 1 << 31)


def test_ape_tag_adds_what_id3_has_not() -> None:
    ape = ape_tag(
        ("Title", b"Of APE", 0),
        ("Track", b"4", 0),
        ("Artist", b"One\x00Two", 0),
        ("Cover Art (Front)", b"a.png\x00" + png(7, 8), 1),
    )
    details = describe_bytes(id3_tag(text_frame("TIT2", "Of ID3")) + sound() + ape)
    assert dict(details.tags) == {"title": ("Of ID3",), "tracknumber": ("4",), "artist": ("One", "Two")}
    assert details.covers == (Cover("image/png", len(png(7, 8)), 7, 8),)


def test_old_tag_at_the_end() -> None:
    tag = b"TAG" + b"Old".ljust(30, b"\x00") + b"Artist".ljust(30, b"\x00") + bytes(30) + b"1999" + bytes(30) + b"\x11"
    details = describe_bytes(sound() + tag)
    assert dict(details.tags) == {"title": ("Old",), "artist": ("Artist",), "date": ("1999",), "genre": ("Rock",)}


# --- Other formats


def test_free_names_are_made_common() -> None:
    comments = vorbis_comments("ALBUM ARTIST=a", "Year=2000", "DESCRIPTION=c", "REPLAYGAIN_TRACK_GAIN=-1 dB", "bad")
    details = describe_bytes(flac_file(flac_block(4, comments)))
    assert dict(details.tags) == {
        "albumartist": ("a",),
        "date": ("2000",),
        "comment": ("c",),
        "replaygain_track_gain": ("-1 dB",),
    }


def test_covers_of_flac_are_not_read() -> None:
    first = flac_picture(jpeg(1500, 1400, before=3000, size=900_000), "image/jpeg")
    blocks = [flac_block(6, first), flac_block(6, flac_picture(png(3, 4))), flac_block(4, vorbis_comments("TITLE=t"))]
    file = CountingFile(flac_file(*blocks))
    details = describe(file, MediaInfo(None, Container.FLAC), whole=True)
    assert details.covers == (
        Cover("image/jpeg", 900_000, 1500, 1400),
        Cover("image/png", len(png(3, 4)), 3, 4),
    )
    assert details.tag("title") == "t"
    assert details.info.duration == pytest.approx(10.0)
    assert file.total < 100_000


@pytest.mark.parametrize("size", [5000, 45_000])
def test_covers_of_vorbis_comments(size: int) -> None:
    block = base64.b64encode(flac_picture(png(9, 8, size=size))).decode()
    # A page holds less than 65,025 bytes here.
    details = describe_bytes(vorbis_file(f"metadata_block_picture={block}", "TITLE=t"))
    assert details.covers == (Cover("image/png", size, 9, 8),)
    assert details.tag("title") == "t"
    assert details.tag("metadata_block_picture") is None


def test_cover_of_mp4_is_not_read() -> None:
    content = recording("ipod", "aac")
    file = io.BytesIO(content)
    tags: Any = mutagen.mp4.MP4(file)
    tags["covr"] = [
        mutagen.mp4.MP4Cover(jpeg(600, 500, size=800_000), mutagen.mp4.MP4Cover.FORMAT_JPEG),
        mutagen.mp4.MP4Cover(png(1, 2), mutagen.mp4.MP4Cover.FORMAT_PNG),
    ]
    tags["----:com.apple.iTunes:MusicBrainz Track Id"] = [b"abc"]
    tags["----:com.apple.iTunes:iTunSMPB"] = [b"00 00"]
    tags["cpil"] = True
    file.seek(0)
    tags.save(file)
    counting = CountingFile(file.getvalue())
    details = describe(counting, MediaInfo(None, Container.MP4), whole=True)
    assert details.covers == (Cover("image/jpeg", 800_000, 600, 500), Cover("image/png", len(png(1, 2)), 1, 2))
    assert details.tag("musicbrainz track id") == "abc"
    assert details.tag("itunsmpb") is None
    assert details.tag("compilation") == "1"
    assert details.tag("title") == "Sweep"
    assert counting.total < 150_000


def test_list_and_tag_of_wav() -> None:
    words = b"INFO" + b"INAM" + struct.pack("<I", 5) + b"Name\x00\x00" + b"ITRK" + struct.pack("<I", 1) + b"7\x00"
    id3 = id3_tag(text_frame("TIT2", "Of ID3") + text_frame("TPE2", "All"))
    data = (b"data", bytes(44_100))
    details = describe_bytes(riff((b"fmt ", wave_format()), data, (b"LIST", words), (b"id3 ", id3)))
    assert details.info.duration == 0.25
    assert dict(details.tags) == {"title": ("Name",), "tracknumber": ("7",), "albumartist": ("All",)}


def test_layers_of_matroska_tags() -> None:
    def simple(name: str, value: str) -> bytes:
        return element(0x67C8, element(0x45A3, name), element(0x4487, value))

    def tag(*content: bytes, level: int, track: int = 0) -> bytes:
        return element(0x7373, element(0x63C0, element(0x68CA, level), element(0x63C5, track)), *content)

    tags = element(
        0x1254C367,
        tag(simple("TITLE", "The album"), simple("ARTIST", "All"), level=50),
        tag(simple("TITLE", "The song"), simple("PART_NUMBER", "3"), simple("DATE_RELEASED", "2001"), level=30),
        tag(simple("BPS", "128000"), level=30, track=5),
    )
    attached = element(0x61A7, element(0x466E, "a"), element(0x4660, "image/png"), element(0x465C, png(11, 12, 4000)))
    segment = element(0x18538067, tags, element(0x1941A469, attached))
    details = describe_bytes(element(0x1A45DFA3, element(0x4282, "matroska")) + segment)
    assert dict(details.tags) == {
        "title": ("The song",),
        "tracknumber": ("3",),
        "date": ("2001",),
        "album": ("The album",),
        "albumartist": ("All",),
    }
    assert details.covers == (Cover("image/png", 4000, 11, 12),)


# --- Pictures


def webp(kind: bytes, content: bytes) -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("picture", "mime", "size"),
    [
        (png(800, 600), "image/png", (800, 600)),
        (jpeg(1024, 768), "image/jpeg", (1024, 768)),
        (jpeg(1024, 768, before=150_000), "image/jpeg", (None, None)),  # behind what is read of it
        (b"\xff\xd8\xff\x01\xff\xff\xff" + jpeg(77, 66)[3:], "image/jpeg", (77, 66)),
        (b"GIF89a" + struct.pack("<HH", 320, 200) + bytes(9), "image/gif", (320, 200)),
        (webp(b"VP8X", bytes(4) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")), "image/webp", (640, 480)),
        (webp(b"VP8L", b"\x2f" + (99 | 49 << 14).to_bytes(4, "little") + bytes(9)), "image/webp", (100, 50)),
        (webp(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 33, 44)), "image/webp", (33, 44)),
        (b"BM" + bytes(100), "image/x-own", (None, None)),
        (b"\x89PNG\r\n\x1a\n" + bytes(4), "image/png", (None, None)),
        (b"\xff\xd8\xff\xe0\xff", "image/jpeg", (None, None)),
        (b"\xff\xd8" + b"\xff\xd9" * 50, "image/jpeg", (None, None)),
    ],
)
def test_pictures_are_measured_by_their_own_header(
    picture: bytes, mime: str, size: tuple[int | None, int | None]
) -> None:
    details = describe_bytes(flac_file(flac_block(6, flac_picture(picture, "image/x-own"))))
    assert details.covers == (Cover(mime, len(picture), *size),)


def test_at_most_eight_covers() -> None:
    blocks = [flac_block(6, flac_picture(png(1 + number, 1))) for number in range(20)]
    blocks += blocks[:1]
    assert len(describe_bytes(flac_file(blocks[0], blocks[0], blocks[1])).covers) == 2
    assert [cover.width for cover in describe_bytes(flac_file(*blocks)).covers] == list(range(1, 9))


# --- Limits


def test_values_and_names_are_cut() -> None:
    comments = [f"name{number}=x" for number in range(100)] + [f"name1={number}" for number in range(100)]
    details = describe_bytes(flac_file(flac_block(4, vorbis_comments("title=" + "y" * 5000, *comments))))
    assert details.tags[0] == ("title", ("y" * 1000,))
    assert len(details.tags) == 64
    assert max(len(values) for _, values in details.tags) == 16


@pytest.mark.parametrize("letter", ["x", "\N{SNOWMAN}", "\N{MUSICAL SYMBOL G CLEF}"])
def test_text_in_all_is_less_than_a_message_takes(letter: str) -> None:
    comments = [f"name{name}={value}{letter * 990}" for name in range(64) for value in range(4)]
    details = describe_bytes(flac_file(flac_block(4, vorbis_comments(*comments))))
    size = sum(len(name.encode()) + sum(len(value.encode()) for value in values) for name, values in details.tags)
    assert 30_000 < size < 48 * 1024


def test_control_characters_become_spaces() -> None:
    text = "a\x00b\x1b[31mc\nd\x7fe\x85f\u202eg\u2028h"
    details = describe_bytes(flac_file(flac_block(4, vorbis_comments("title=" + text))))
    assert details.tag("title") == "a b [31mc d e f g h"
    for name, values in details.tags:
        assert not any(unicodedata.category(letter) == "Cc" for letter in name + "".join(values))


def test_text_that_is_no_text_can_still_be_sent() -> None:
    assert clean("a\ud800b", 10) == "a\N{REPLACEMENT CHARACTER}b"
    comments = vorbis_comments("title=x").replace(b"x", b"\xff")
    assert describe_bytes(flac_file(flac_block(4, comments))).tag("title") == "\N{REPLACEMENT CHARACTER}"


def test_type_of_a_cover_holds_no_control_characters() -> None:
    details = describe_bytes(flac_file(flac_block(6, flac_picture(b"????", "image/\x1b[2J" + "z" * 300))))
    assert details.covers[0].mime.startswith("image/ [2jzzz")
    assert len(details.covers[0].mime) <= 100


def test_item_of_mp4_that_is_too_long_leaves_the_others() -> None:
    def item(kind: bytes, text: bytes) -> bytes:
        return box(kind, box(b"data", struct.pack(">II", 1, 0), text))

    items = box(b"ilst", item(b"\xa9lyr", b"la " * 50_000), item(b"\xa9nam", b"Name"))
    header = box(b"mvhd", bytes(12), struct.pack(">II", 1000, 5000), bytes(80))
    movie = box(b"moov", header, box(b"udta", box(b"meta", bytes(4), items)))
    file = CountingFile(box(b"ftyp", b"M4A \x00\x00\x00\x00") + movie)
    details = describe(file, MediaInfo(None, Container.MP4), whole=True)
    assert details.tag("title") == "Name"
    assert details.info.duration == 5.0
    assert file.total < 100_000
