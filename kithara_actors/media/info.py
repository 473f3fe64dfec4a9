"""Codec and container, from Content-Type and from the first bytes. Nothing here raises on any bytes.

Sources: RFC 6381 (the codecs parameter), RFC 3533 and 5334 (Ogg), RFC 7845 (Opus in Ogg), RFC 9559 and 8794
(Matroska, EBML), ISO/IEC 14496-12 and -14 (MP4), ISO/IEC 13818-7 (ADTS), id3.org (ID3v2), Apple's
specifications of CAF and AIFF-C.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kithara_actors.values import AudioCodec, Container, MediaInfo

__all__ = ["detect", "from_content_type", "sniff"]

_NONE = MediaInfo()

_MPEG = MediaInfo(AudioCodec.MP3, Container.MPEG_AUDIO)
_FLAC = MediaInfo(AudioCodec.FLAC, Container.FLAC)
_WAV = MediaInfo(AudioCodec.PCM, Container.WAV)
_AIFF = MediaInfo(AudioCodec.PCM, Container.AIFF)
_ADTS = MediaInfo(AudioCodec.AAC_LC, Container.ADTS)
_MP4 = MediaInfo(AudioCodec.AAC_LC, Container.MP4)
_OGG = MediaInfo(None, Container.OGG)

_TYPES: dict[str, MediaInfo] = (
    dict.fromkeys(("audio/mpeg", "audio/mp3", "audio/x-mp3", "audio/mpeg3", "audio/x-mpeg", "audio/mpg"), _MPEG)
    | dict.fromkeys(("audio/flac", "audio/x-flac"), _FLAC)
    | dict.fromkeys(("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave", "audio/x-pn-wav"), _WAV)
    | dict.fromkeys(("audio/aiff", "audio/x-aiff"), MediaInfo(None, Container.AIFF))
    | dict.fromkeys(("audio/aac", "audio/aacp", "audio/x-aac"), _ADTS)
    | dict.fromkeys(
        (
            "audio/mp4",
            "audio/x-m4a",
            "audio/m4a",
            "audio/x-m4b",
            "video/mp4",
            "video/x-m4v",
            "application/mp4",
        ),
        _MP4,
    )
    | dict.fromkeys(("audio/ogg", "application/ogg", "audio/x-ogg", "video/ogg"), _OGG)
    | {
        "audio/opus": MediaInfo(AudioCodec.OPUS, Container.OGG),
        "audio/vorbis": MediaInfo(AudioCodec.VORBIS, Container.OGG),
    }
    | dict.fromkeys(("audio/webm", "video/webm"), MediaInfo(None, Container.WEBM))
    | dict.fromkeys(
        ("audio/x-matroska", "video/x-matroska", "audio/matroska", "video/matroska"),
        MediaInfo(None, Container.MATROSKA),
    )
    | dict.fromkeys(("audio/x-caf", "audio/caf"), MediaInfo(None, Container.CAF))
    | dict.fromkeys(("audio/basic", "audio/au", "audio/x-au"), MediaInfo(None, Container.AU))
)

# Containers that hold more than one codec: only for these does the codecs parameter say anything.
_OPEN = frozenset({Container.MP4, Container.OGG, Container.WEBM, Container.MATROSKA, Container.CAF, Container.WAV})

_CODECS = {
    "mp3": AudioCodec.MP3,
    ".mp3": AudioCodec.MP3,
    "flac": AudioCodec.FLAC,
    "opus": AudioCodec.OPUS,
    "vorbis": AudioCodec.VORBIS,
    "alac": AudioCodec.ALAC,
    "pcm": AudioCodec.PCM,
    "lpcm": AudioCodec.PCM,
    "aac": AudioCodec.AAC_LC,
    "mp4a": AudioCodec.AAC_LC,
}
"""Codecs parameters, sample entries of MP4 and formats of CAF, in lower case without spaces."""

# ISO/IEC 14496-1 object types: AAC in MPEG-4 and three profiles of MPEG-2, then MP3 in MPEG-2 and MPEG-1.
_OBJECT_TYPES = dict.fromkeys((0x40, 0x66, 0x67, 0x68), AudioCodec.AAC_LC) | dict.fromkeys((0x69, 0x6B), AudioCodec.MP3)

# A descriptor is a tag and a length of 1 to 4 bytes; the ES descriptor (3) has an id and flags, none of the
# optional fields, before the decoder configuration (4).
_DECODER_CONFIG = re.compile(
    rb"\x03[\x80-\xff]{0,3}[\x00-\x7f].{2}[\x00-\x1f]\x04[\x80-\xff]{0,3}[\x00-\x7f](.)", re.DOTALL
)

_MATROSKA_CODECS = (
    (b"A_OPUS", AudioCodec.OPUS),
    (b"A_VORBIS", AudioCodec.VORBIS),
    (b"A_FLAC", AudioCodec.FLAC),
    (b"A_AAC", AudioCodec.AAC_LC),
    (b"A_ALAC", AudioCodec.ALAC),
    (b"A_MPEG/L3", AudioCodec.MP3),
    (b"A_PCM/", AudioCodec.PCM),
)

_OGG_CODECS = (
    (b"\x01vorbis", AudioCodec.VORBIS),
    (b"OpusHead", AudioCodec.OPUS),
    (b"\x7fFLAC", AudioCodec.FLAC),
)

_AIFC_PCM = frozenset({b"NONE", b"sowt", b"twos", b"raw ", b"in24", b"in32", b"fl32", b"fl64", b"FL32", b"FL64"})

_PARAMETER = re.compile(r';[ \t]*([^\s=;"]+)[ \t]*=[ \t]*(?:"([^"]*)"|([^\s;"]*))')


def from_content_type(value: str | None) -> MediaInfo | None:
    """What a Content-Type decides, or None for a generic or unknown type, which decides nothing.

    The codecs parameter (RFC 6381) names the codec where the container leaves it open; one that names no
    audio codec known here leaves it None.
    """
    if value is None:
        return None
    kind = value.partition(";")[0].strip().lower()
    base, suffix = (kind[:-4], Container.OGG) if kind.endswith("+ogg") else (kind, None)
    # audio/x-vorbis+ogg and the like, written by Icecast and older players.
    info = _OGG if suffix is not None and base.startswith(("audio/", "video/")) else _TYPES.get(kind)
    if info is None or info.container not in _OPEN:
        return info
    names = [base.rpartition("/")[2].removeprefix("x-")] if suffix is not None else []
    for found in _PARAMETER.finditer(value):
        if found[1].lower() == "codecs":
            names = (found[2] or found[3] or "").split(",")
    named = [name for name in (text.strip().lower() for text in names) if name]
    if not named:
        return info
    codecs = (_named_codec(name, info.container) for name in named)
    return MediaInfo(next((codec for codec in codecs if codec is not None), None), info.container)


def _named_codec(name: str, container: Container | None) -> AudioCodec | None:
    if container is Container.WAV:
        # RFC 2361: the number of the WAVE format; 1 is PCM.
        return AudioCodec.PCM if name in ("1", "0001", "pcm") else _CODECS.get(name)
    if name.startswith("mp4a."):
        parts = name.split(".")
        if parts[1] == "40" and parts[2:] == ["34"]:
            # Audio object type 34 is MPEG-1/2 Layer III.
            return AudioCodec.MP3
        return _OBJECT_TYPES.get(int(parts[1], 16)) if re.fullmatch(r"[0-9a-f]{2}", parts[1]) else None
    return _CODECS.get(name)


def detect(content_type: str | None, head: bytes, complete: bool = False) -> MediaInfo:
    """Codec and container of a representation that begins with `head`; unknown parts are None.

    The Content-Type decides unless the bytes contradict it; where it leaves the codec open the bytes tell.
    `complete` says that no bytes follow `head`.
    """
    declared = from_content_type(content_type)
    seen = sniff(head, complete)
    if seen is None:
        return declared or _NONE
    if declared is None:
        return seen
    if seen.container is declared.container:
        return MediaInfo(seen.codec or declared.codec, declared.container)
    cut_tag = head.startswith(b"ID3") and _after_id3(head) is None
    if cut_tag and declared.container in (Container.ADTS, Container.FLAC):
        # A tag may precede these too, and what follows it is not here yet: no contradiction.
        return declared
    return seen


def sniff(head: bytes, complete: bool = False) -> MediaInfo | None:
    """What the first bytes of a representation tell, or None where they tell nothing.

    A container may be known without its codec: more bytes may tell. `complete` says that no bytes follow
    `head`.
    """
    if len(head) < 4:
        return None
    if head.startswith(b"ID3"):
        rest = _after_id3(head)
        tagged = None if rest is None else _elementary(rest)
        return tagged or _MPEG
    if head.startswith(b"OggS"):
        return MediaInfo(_ogg_codec(head), Container.OGG)
    if head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:12] == b"WAVE":
        return _WAV
    if head.startswith(b"FORM") and head[8:12] in (b"AIFF", b"AIFC"):
        return _AIFF if head[8:12] == b"AIFF" else MediaInfo(_aifc_codec(head), Container.AIFF)
    if head[4:8] == b"ftyp":
        return MediaInfo(_mp4_codec(head), Container.MP4)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return _ebml(head, complete)
    if head.startswith(b"caff"):
        # File header of 8 bytes, header of the first chunk 12, sample rate 8, then the format.
        name = head[28:32].decode("latin-1").strip().lower() if head[8:12] == b"desc" else ""
        return MediaInfo(_CODECS.get(name), Container.CAF)
    if head.startswith(b".snd"):
        # Encodings 2 to 5 are linear integers, 6 and 7 floats; the others are companded or compressed.
        linear = len(head) >= 16 and 2 <= int.from_bytes(head[12:16], "big") <= 7
        return MediaInfo(AudioCodec.PCM if linear else None, Container.AU)
    return _elementary(head)


def _elementary(head: bytes) -> MediaInfo | None:
    if head.startswith(b"fLaC"):
        return _FLAC
    if head[:2] in (b"\xff\xf1", b"\xff\xf9"):
        return _ADTS
    if head[:2] in (b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2"):
        return _MPEG
    return None


def _after_id3(head: bytes) -> bytes | None:
    """The bytes after the ID3v2 tag, None where `head` ends before four of them."""
    if len(head) < 10:
        return None
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    footer = 10 if head[5] & 0x10 else 0
    rest = head[10 + size + footer :]
    return rest if len(rest) >= 4 else None


def _ogg_codec(head: bytes) -> AudioCodec | None:
    """Codec of the first audio stream; the first pages each hold the one packet that begins a stream."""
    position = 0
    while head[position : position + 4] == b"OggS" and position + 27 <= len(head):
        if not head[position + 5] & 0x02:
            return None
        lacing = head[position + 27 : position + 27 + head[position + 26]]
        body = position + 27 + head[position + 26]
        for magic, codec in _OGG_CODECS:
            if head.startswith(magic, body):
                return codec
        position = body + sum(lacing)
    return None


def _aifc_codec(head: bytes) -> AudioCodec | None:
    position = 12
    while position + 8 <= len(head):
        size = int.from_bytes(head[position + 4 : position + 8], "big")
        if head[position : position + 4] == b"COMM":
            return AudioCodec.PCM if head[position + 26 : position + 30] in _AIFC_PCM else None
        position += 8 + size + size % 2
    return None


def _ebml(head: bytes, complete: bool) -> MediaInfo | None:
    if len(head) < 12 and not complete:
        return None
    size, width = _vint(head, 4)
    end = len(head) if size is None else 4 + width + size
    at = head.find(b"\x42\x82", 4, min(end, len(head)))
    if at < 0:
        # The header may go on past these bytes; without a DocType in all of it, it is Matroska.
        kind: Container | None = Container.MATROSKA if complete or end <= len(head) else None
    else:
        length, used = _vint(head, at + 2)
        doctype = b"" if length is None else head[at + 2 + used : at + 2 + used + length].rstrip(b"\x00")
        kind = {b"webm": Container.WEBM, b"matroska": Container.MATROSKA}.get(doctype)
    return None if kind is None else MediaInfo(_matroska_codec(head), kind)


def _vint(head: bytes, at: int) -> tuple[int | None, int]:
    """An EBML size (RFC 8794 section 4) and its width in bytes; None for a malformed or truncated one."""
    if at >= len(head) or head[at] == 0:
        return None, 1
    width = 9 - head[at].bit_length()
    raw = head[at : at + width]
    return (None, width) if len(raw) < width else (int.from_bytes(raw, "big") & ~(1 << 7 * width), width)


def _matroska_codec(head: bytes) -> AudioCodec | None:
    # Element CodecID (86), a size of one byte, then the name, which begins with A_ for audio (RFC 9559).
    found = re.search(rb"\x86[\x82-\xff](A_[A-Z0-9/_]+)", head)
    if found is None:
        return None
    return next((codec for name, codec in _MATROSKA_CODECS if found[1].startswith(name)), None)


def _boxes(head: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind and bounds of the content of each box in `start..end`; the last box may be cut short."""
    while start + 8 <= end:
        size = int.from_bytes(head[start : start + 4], "big")
        content = start + 8
        if size == 1:
            size = int.from_bytes(head[start + 8 : start + 16], "big")
            content = start + 16
        elif size == 0:
            size = end - start
        if size < content - start:
            return
        yield head[start + 4 : start + 8], content, min(start + size, end)
        start += size


def _mp4_codec(head: bytes) -> AudioCodec | None:
    """Codec of the first track whose sample entry names one; None while no moov box is in `head`."""
    spans = [(0, len(head))]
    for level in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        spans = [(start, end) for span in spans for kind, start, end in _boxes(head, *span) if kind == level]
    for start, end in spans:
        # The sample entries come after version, flags and their count; the first one decides.
        for kind, content, stop in _boxes(head, start + 8, end):
            codec = _sample_entry(kind, head[content:stop])
            if codec is not None:
                return codec
            break
    return None


def _sample_entry(kind: bytes, entry: bytes) -> AudioCodec | None:
    if kind in (b"sowt", b"twos", b"in24", b"in32", b"fl32", b"fl64", b"ipcm", b"fpcm"):
        return AudioCodec.PCM
    if kind == b"mp4a":
        object_type = _object_type(entry)
        return _OBJECT_TYPES.get(object_type) if object_type else AudioCodec.AAC_LC
    return _CODECS.get(kind.decode("latin-1").lower())


def _object_type(entry: bytes) -> int:
    """The object type in a sample entry's esds box (ISO/IEC 14496-1 section 7.2.6), 0 without one."""
    at = entry.find(b"esds")
    if at < 0:
        return 0
    found = _DECODER_CONFIG.match(entry, at + 8)
    return 0 if found is None else found[1][0]
