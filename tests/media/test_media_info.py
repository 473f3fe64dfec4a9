"""MEDIA01-MEDIA04: what Content-Type says, what the bytes say, and who wins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.media.info import detect, from_content_type, sniff
from kithara_actors.values import AudioCodec as Codec
from kithara_actors.values import Container as Box
from kithara_actors.values import MediaInfo

MPEG = MediaInfo(Codec.MP3, Box.MPEG_AUDIO)
FLAC = MediaInfo(Codec.FLAC, Box.FLAC)
WAV = MediaInfo(Codec.PCM, Box.WAV)
MP4 = MediaInfo(Codec.AAC_LC, Box.MP4)
ADTS = MediaInfo(Codec.AAC_LC, Box.ADTS)


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return (8 + len(body)).to_bytes(4, "big") + kind + body


def track(entry: bytes) -> bytes:
    stsd = box(b"stsd", bytes(4), (1).to_bytes(4, "big"), entry)
    minf = box(b"minf", box(b"smhd", bytes(8)), box(b"stbl", stsd))
    return box(b"trak", box(b"tkhd", bytes(84)), box(b"mdia", box(b"mdhd", bytes(24)), minf))


def esds(object_type: int) -> bytes:
    config = bytes([4, 0x80, 0x80, 0x80, 13, object_type]) + bytes(12)
    return box(b"esds", bytes(4), bytes([3, 25, 0, 1, 0]), config)


def mp4(*entries: bytes) -> bytes:
    return box(b"ftyp", b"M4A \0\0\0\0") + box(b"moov", box(b"mvhd", bytes(100)), *map(track, entries))


def ogg(packet: bytes, flags: int = 2) -> bytes:
    return b"OggS\0" + bytes([flags]) + bytes(20) + bytes([1, len(packet)]) + packet


def ebml(doctype: bytes, codec: bytes = b"") -> bytes:
    element = b"\x42\x82" + bytes([0x80 | len(doctype)]) + doctype
    head = b"\x1a\x45\xdf\xa3" + bytes([0x80 | len(element)]) + element
    return head + b"\x18\x53\x80\x67" + (b"\x86" + bytes([0x80 | len(codec)]) + codec if codec else bytes(8)) + b"\xd7"


def id3(size: int, footer: bool = False) -> bytes:
    flags = 0x10 if footer else 0
    length = bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
    return b"ID3\x04\0" + bytes([flags]) + length + bytes(size + (10 if footer else 0))


class TestContentType:
    @pytest.mark.parametrize(
        ("value", "info"),
        [
            ("audio/mpeg", MPEG),
            ("audio/mp3", MPEG),
            ("AUDIO/MPEG; charset=x", MPEG),
            ("  audio/mpeg  ", MPEG),
            ("audio/flac", FLAC),
            ("audio/x-flac", FLAC),
            ("audio/wav", WAV),
            ("audio/x-wav", WAV),
            ("audio/vnd.wave; codec=1", WAV),
            ("audio/mp4", MP4),
            ("audio/x-m4a", MP4),
            ("video/mp4", MP4),
            ("audio/aac", ADTS),
            ("audio/aacp", ADTS),
            ("audio/ogg", MediaInfo(None, Box.OGG)),
            ("application/ogg", MediaInfo(None, Box.OGG)),
            ("audio/opus", MediaInfo(Codec.OPUS, Box.OGG)),
            ("audio/x-vorbis+ogg", MediaInfo(Codec.VORBIS, Box.OGG)),
            ("audio/webm", MediaInfo(None, Box.WEBM)),
            ("audio/x-matroska", MediaInfo(None, Box.MATROSKA)),
            ("audio/x-caf", MediaInfo(None, Box.CAF)),
            ("audio/aiff", MediaInfo(None, Box.AIFF)),
            ("audio/basic", MediaInfo(None, Box.AU)),
        ],
    )
    def test_type(self, value: str, info: MediaInfo) -> None:
        assert from_content_type(value) == info
        assert detect(value, b"") == info

    @pytest.mark.parametrize(
        ("codecs", "codec"),
        [
            ("mp4a.40.2", Codec.AAC_LC),
            ("mp4a.40.5", Codec.AAC_LC),
            ("mp4a.67", Codec.AAC_LC),
            ("mp4a.40.34", Codec.MP3),
            ("mp4a.6B", Codec.MP3),
            ("mp4a.69", Codec.MP3),
            ("mp4a", Codec.AAC_LC),
            ("mp3", Codec.MP3),
            ("flac", Codec.FLAC),
            ("fLaC", Codec.FLAC),
            ("Opus", Codec.OPUS),
            ("vorbis", Codec.VORBIS),
            ("alac", Codec.ALAC),
            ('"avc1.42E01E, mp4a.40.2"', Codec.AAC_LC),
            ('" opus "', Codec.OPUS),
            ("ec-3", None),
            ("avc1.42E01E", None),
            ("mp4a.zz", None),
            ("mp4a.", None),
            ("mp4a.A5", None),
        ],
    )
    def test_codecs_parameter(self, codecs: str, codec: Codec | None) -> None:
        assert from_content_type(f"audio/mp4; codecs={codecs}") == MediaInfo(codec, Box.MP4)
        assert from_content_type(f'audio/mp4;x="a;b"; CODECS={codecs};y=z') == MediaInfo(codec, Box.MP4)

    def test_codecs_where_the_container_leaves_them_open(self) -> None:
        assert from_content_type("audio/ogg; codecs=opus") == MediaInfo(Codec.OPUS, Box.OGG)
        assert from_content_type('audio/webm; codecs="vorbis"') == MediaInfo(Codec.VORBIS, Box.WEBM)
        assert from_content_type("audio/wav; codecs=1") == WAV
        assert from_content_type("audio/mpeg; codecs=flac") == MPEG
        assert from_content_type("audio/mp4; codecs=") == MP4
        assert from_content_type('audio/mp4; codecs=""') == MP4

    @pytest.mark.parametrize(
        "value",
        [
            None,
            "",
            ";",
            "application/octet-stream",
            "binary/octet-stream",
            "text/plain",
            "text/plain; codecs=mp3",
            "audio/unknown",
            "audio",
            "image/jpeg",
            "+ogg",
        ],
    )
    def test_generic_or_unknown_decides_nothing(self, value: str | None) -> None:
        assert from_content_type(value) is None
        assert detect(value, b"") == MediaInfo()
        assert detect(value, b"fLaC") == FLAC

    @given(st.text() | st.text().map("audio/mp4;".__add__) | st.text().map("audio/mp4; codecs=mp4a.".__add__))
    def test_any_text(self, value: str) -> None:
        from_content_type(value)


class TestSniff:
    @pytest.mark.parametrize(
        ("head", "info"),
        [
            (b"ID3\x04", MPEG),
            (b"\xff\xfb\x90\x00", MPEG),
            (b"\xff\xfa\x90\x00", MPEG),
            (b"\xff\xf3\x90\x00", MPEG),
            (b"\xff\xf2\x90\x00", MPEG),
            (b"\xff\xf1\x50\x80", ADTS),
            (b"\xff\xf9\x50\x80", ADTS),
            (b"fLaC", FLAC),
            (b"RIFF\0\0\0\0WAVE", WAV),
            (b"RF64\xff\xff\xff\xffWAVEds64", WAV),
            (b"FORM\0\0\0\0AIFF", MediaInfo(Codec.PCM, Box.AIFF)),
            (b"FORM\0\0\0\0AIFC", MediaInfo(None, Box.AIFF)),
            (b".snd", MediaInfo(None, Box.AU)),
            (b".snd\0\0\0\x18\0\0\0\0\0\0\0\x03", MediaInfo(Codec.PCM, Box.AU)),
            (b".snd\0\0\0\x18\0\0\0\0\0\0\0\x01", MediaInfo(None, Box.AU)),
            (b"caff", MediaInfo(None, Box.CAF)),
            (b"\0\0\0\x18ftyp", MediaInfo(None, Box.MP4)),
            (b"OggS", MediaInfo(None, Box.OGG)),
        ],
    )
    def test_magic(self, head: bytes, info: MediaInfo) -> None:
        assert sniff(head) == info
        assert detect(None, head) == info

    @pytest.mark.parametrize(
        "head",
        [
            b"",
            b"\xff\xfb",
            b"ID3",
            b"fLa",
            b"\xff\xfb\x90",
            bytes(64),
            b"\xff" * 64,
            b"RIFF\0\0\0\0AVI ",
            b"RIFF\0\0\0\0",
            b"FORM\0\0\0\0ILBM",
            b"<!DOCTYPE html>",
            b"\xff\xf0\x00\x00",
            b" fLaC",
            b"ftyp\0\0\0\0",
        ],
    )
    def test_no_guess(self, head: bytes) -> None:
        assert sniff(head) is None
        assert detect(None, head) == MediaInfo()

    @pytest.mark.parametrize(
        ("packet", "codec"),
        [
            (b"\x01vorbis" + bytes(23), Codec.VORBIS),
            (b"OpusHead" + bytes(11), Codec.OPUS),
            (b"\x7fFLAC\x01\0\0\x01fLaC", Codec.FLAC),
            (b"Speex   1.2", None),
        ],
    )
    def test_ogg_by_its_first_packet(self, packet: bytes, codec: Codec | None) -> None:
        assert sniff(ogg(packet)) == MediaInfo(codec, Box.OGG)

    def test_ogg_by_the_first_audio_stream(self) -> None:
        head = ogg(b"\x80theora" + bytes(35)) + ogg(b"\x01vorbis" + bytes(23)) + ogg(b"data", flags=0)
        assert sniff(head) == MediaInfo(Codec.VORBIS, Box.OGG)
        late = ogg(b"\x80theora") + ogg(b"data", flags=0) + ogg(b"OpusHead")
        assert sniff(late) == MediaInfo(None, Box.OGG)

    @pytest.mark.parametrize(
        ("entry", "codec"),
        [
            (box(b"mp4a", bytes(28)), Codec.AAC_LC),
            (box(b"mp4a", bytes(28), esds(0x40)), Codec.AAC_LC),
            (box(b"mp4a", bytes(28), esds(0x6B)), Codec.MP3),
            (box(b"mp4a", bytes(28), esds(0xDD)), None),
            (box(b"mp4a", bytes(28), box(b"esds", bytes(2))), Codec.AAC_LC),
            (box(b"alac", bytes(28)), Codec.ALAC),
            (box(b"fLaC", bytes(28)), Codec.FLAC),
            (box(b"Opus", bytes(28)), Codec.OPUS),
            (box(b".mp3", bytes(28)), Codec.MP3),
            (box(b"sowt", bytes(28)), Codec.PCM),
            (box(b"ac-3", bytes(28)), None),
        ],
    )
    def test_mp4_by_its_sample_entry(self, entry: bytes, codec: Codec | None) -> None:
        assert sniff(mp4(entry)) == MediaInfo(codec, Box.MP4)
        assert sniff(mp4(box(b"avc1", bytes(70)), entry)) == MediaInfo(codec, Box.MP4)

    def test_mp4_with_a_64_bit_box_before_moov(self) -> None:
        whole = mp4(box(b"alac", bytes(28)))
        skipped = (1).to_bytes(4, "big") + b"free" + (24).to_bytes(8, "big") + bytes(8)
        assert sniff(whole[:16] + skipped + whole[16:]) == MediaInfo(Codec.ALAC, Box.MP4)

    def test_mp4_with_moov_at_the_end(self) -> None:
        head = box(b"ftyp", b"M4A \0\0\0\0") + (1 << 20).to_bytes(4, "big") + b"mdat" + bytes(100)
        assert sniff(head) == MediaInfo(None, Box.MP4)
        assert detect("audio/mp4", head) == MP4
        assert detect("audio/mp4; codecs=alac", head) == MediaInfo(Codec.ALAC, Box.MP4)

    def test_mp4_cut_anywhere_is_never_wrong(self) -> None:
        whole = mp4(box(b"alac", bytes(28)))
        found = [sniff(whole[:end]) for end in range(8, len(whole) + 1)]
        codecs = [info.codec for info in found if info is not None]
        assert len(codecs) == len(found)
        assert codecs == sorted(codecs, key=lambda codec: codec is not None)
        assert codecs[-1] is Codec.ALAC

    @pytest.mark.parametrize(
        ("name", "codec"),
        [
            (b"A_OPUS", Codec.OPUS),
            (b"A_VORBIS", Codec.VORBIS),
            (b"A_FLAC", Codec.FLAC),
            (b"A_AAC", Codec.AAC_LC),
            (b"A_AAC/MPEG4/LC", Codec.AAC_LC),
            (b"A_MPEG/L3", Codec.MP3),
            (b"A_PCM/INT/LIT", Codec.PCM),
            (b"A_DTS", None),
            (b"", None),
        ],
    )
    def test_ebml_by_document_type_and_codec_id(self, name: bytes, codec: Codec | None) -> None:
        assert sniff(ebml(b"webm", name)) == MediaInfo(codec, Box.WEBM)
        assert sniff(ebml(b"matroska", name)) == MediaInfo(codec, Box.MATROSKA)
        assert sniff(ebml(b"other", name)) is None

    def test_ebml_waits_for_its_document_type(self) -> None:
        head = ebml(b"webm")
        assert sniff(head[:6]) is None
        assert detect("audio/webm", head[:6]) == MediaInfo(None, Box.WEBM)
        assert sniff(head[:6], complete=True) == MediaInfo(None, Box.MATROSKA)
        assert sniff(head[:4] + bytes(60)) == MediaInfo(None, Box.MATROSKA)

    @pytest.mark.parametrize(
        ("name", "codec"),
        [
            (b"lpcm", Codec.PCM),
            (b"alac", Codec.ALAC),
            (b"aac ", Codec.AAC_LC),
            (b".mp3", Codec.MP3),
            (b"ima4", None),
        ],
    )
    def test_caf_by_its_format(self, name: bytes, codec: Codec | None) -> None:
        head = b"caff\0\x01\0\0desc" + (32).to_bytes(8, "big") + bytes(8) + name + bytes(20)
        assert sniff(head) == MediaInfo(codec, Box.CAF)

    @pytest.mark.parametrize(("name", "codec"), [(b"NONE", Codec.PCM), (b"sowt", Codec.PCM), (b"ima4", None)])
    def test_aifc_by_its_compression(self, name: bytes, codec: Codec | None) -> None:
        head = b"FORM\0\0\0\0AIFC"
        head += b"FVER\0\0\0\x04\xa2\x80\x51\x40" + b"COMM\0\0\0\x18" + bytes(18) + name + b"\0\0"
        assert sniff(head) == MediaInfo(codec, Box.AIFF)

    @pytest.mark.parametrize("size", [0, 5, 127, 128, 5000])
    @pytest.mark.parametrize("footer", [False, True])
    def test_what_follows_an_id3_tag(self, size: int, footer: bool) -> None:
        tag = id3(size, footer)
        assert sniff(tag + b"\xff\xfb\x90\x00") == MPEG
        assert sniff(tag + b"fLaC") == FLAC
        assert sniff(tag + b"\xff\xf1\x50\x80") == ADTS
        assert sniff(tag + b"????") == MPEG
        assert sniff(tag) == MPEG

    @given(st.binary(max_size=200), st.booleans())
    def test_any_bytes(self, head: bytes, complete: bool) -> None:
        sniff(head, complete)

    @given(
        st.sampled_from(
            [mp4(box(b"mp4a", bytes(28), esds(0x40))), ogg(b"OpusHead"), ebml(b"webm", b"A_OPUS"), id3(30)]
        ),
        st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
        st.integers(0, 500),
    )
    def test_any_damage(self, head: bytes, damage: list[tuple[int, int]], cut: int) -> None:
        broken = bytearray(head)
        for at, value in damage:
            broken[at % len(broken)] = value
        for complete in (False, True):
            sniff(bytes(broken[:cut]), complete)

    @given(
        st.sampled_from(
            [b"OggS", b"\x1a\x45\xdf\xa3", b"caff", b".snd", b"ID3", b"FORM\0\0\0\0AIFC", b"\0\0\0\x08ftyp"]
        ),
        st.binary(max_size=200),
        st.sampled_from(["audio/flac", "audio/webm", None]),
    )
    def test_any_bytes_after_a_magic(self, magic: bytes, rest: bytes, declared: str | None) -> None:
        assert detect(declared, magic + rest) == detect(declared, magic + rest)


class TestDetect:
    @pytest.mark.parametrize(
        ("declared", "head", "info"),
        [
            ("audio/mpeg", b"\xff\xfb\x90\x00", MPEG),
            ("audio/mpeg", b"no magic at all", MPEG),
            ("audio/mpeg", b"fLaC", FLAC),
            ("audio/mpeg", b"\xff\xf1\x50\x80", ADTS),
            ("audio/aac", b"\xff\xfb\x90\x00", MPEG),
            ("audio/aac", b"\0\0\0\x18ftypM4A ", MediaInfo(None, Box.MP4)),
            ("audio/mp4", mp4(box(b"alac", bytes(28))), MediaInfo(Codec.ALAC, Box.MP4)),
            ("audio/mp4; codecs=mp4a.40.2", mp4(box(b"fLaC", bytes(28))), MediaInfo(Codec.FLAC, Box.MP4)),
            ("audio/ogg", ogg(b"OpusHead"), MediaInfo(Codec.OPUS, Box.OGG)),
            ("audio/ogg; codecs=vorbis", b"OggS", MediaInfo(Codec.VORBIS, Box.OGG)),
            ("audio/webm", ebml(b"matroska", b"A_OPUS"), MediaInfo(Codec.OPUS, Box.MATROSKA)),
            ("audio/webm", ebml(b"webm", b"A_OPUS"), MediaInfo(Codec.OPUS, Box.WEBM)),
            ("application/octet-stream", b"RIFF\0\0\0\0WAVE", WAV),
            ("text/plain", b"hello, world", MediaInfo()),
            (None, b"", MediaInfo()),
        ],
    )
    def test_the_bytes_win_only_where_they_contradict(self, declared: str | None, head: bytes, info: MediaInfo) -> None:
        assert detect(declared, head) == info

    def test_an_id3_tag_may_precede_flac_and_aac(self) -> None:
        cut = id3(5000)[:1000]
        assert detect("audio/flac", cut) == FLAC
        assert detect("audio/aac", cut) == ADTS
        assert detect("audio/mpeg", cut) == MPEG
        assert detect("audio/ogg", cut) == MPEG
        assert detect("audio/flac", id3(50) + b"\xff\xfb\x90\x00") == MPEG
