"""What can be said of a file without decoding it: numbers, tags, covers.

For the parsing process: mutagen, pymp4 and enzyme are imported in here, when they are first needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from kithara_actors.media.boxes import read_mp4
from kithara_actors.media.chunks import read_aiff, read_au, read_caf, read_wav
from kithara_actors.media.findings import Findings
from kithara_actors.media.info import sniff
from kithara_actors.media.libraries import MissingLibraryError
from kithara_actors.media.matroska import read_matroska
from kithara_actors.media.mpeg import read_mpeg
from kithara_actors.media.source import PAGE, Source
from kithara_actors.media.vorbis import read_flac, read_ogg
from kithara_actors.values import Container, MediaDetails, MediaInfo

__all__ = ["describe"]

_EXCESS = 1.05
"""A container's bit rate is not believed where the file is too short for it by more than this."""

_Reader = Callable[[Source, Findings, Callable[..., object]], object]


def describe(file: BinaryIO, info: MediaInfo, *, whole: bool) -> MediaDetails:
    """Everything that the headers and tags of `file` tell, of which `info` is known already.

    `file` gives its length by `seek(0, 2)`. With `whole` False it may give only its first bytes and nothing from
    elsewhere; then what depends on the rest is None. Reads little and in few places, at most 16 MiB at once and
    24 MiB in all. Does not raise, whatever the bytes are: what could not be told is None, and `remark` says why.
    Blocks as long as reading does.
    """
    found = Findings(info)
    attempt = _attempts(found)
    attempt(_read, file, found, whole, attempt)
    return found.result()


def _attempts(found: Findings) -> Callable[..., object]:
    def attempt(reader: Callable[..., object], *arguments: object) -> None:
        try:
            reader(*arguments)
        except MissingLibraryError as error:
            found.add_remark(str(error))
        except MemoryError:
            found.add_remark("a part of it needs more memory than a parser is given")
        except RecursionError:
            found.add_remark("a part of it is nested too deeply")
        except Exception as error:  # noqa: BLE001 - parsers meet anything with anything
            found.add_remark(f"a part of it could not be read: {str(error) or type(error).__name__}")

    return attempt


def _read(file: BinaryIO, found: Findings, whole: bool, attempt: Callable[..., object]) -> None:
    source = Source(file)
    if found.container is None:
        seen = sniff(source.read_at(0, PAGE), complete=source.size <= PAGE)
        if seen is not None:
            found.add_media(seen.codec, seen.container)
    if found.container is None:
        found.add_remark("no audio format that is known here")
        return
    attempt(_READERS[found.container], source, found, attempt)
    if source.unseen and None in (found.sample_rate, found.channels, found.duration):
        found.add_remark("the file ends too early" if whole else "its first bytes do not tell the rest")
    if found.duration and source.size:
        over_all = source.size * 8 / found.duration
        if found.bitrate is not None and found.bitrate > over_all * _EXCESS:
            # ALAC and Vorbis give what the encoder was told, or what the sound takes uncompressed.
            found.bitrate = None
        found.add_numbers(bitrate=over_all)


def _flac(source: Source, found: Findings, attempt: Callable[..., object]) -> None:
    # An ID3 tag may stand before it.
    reader: _Reader = read_mpeg
    if source.read_at(0, 4) == b"fLaC":
        reader = _bare_flac
    reader(source, found, attempt)


def _bare_flac(source: Source, found: Findings, _: Callable[..., object]) -> None:
    read_flac(source, found)


_READERS: dict[Container, _Reader] = {
    Container.ADTS: read_mpeg,
    Container.AIFF: read_aiff,
    Container.AU: read_au,
    Container.CAF: read_caf,
    Container.FLAC: _flac,
    Container.MATROSKA: read_matroska,
    Container.MP4: read_mp4,
    Container.MPEG_AUDIO: read_mpeg,
    Container.OGG: read_ogg,
    Container.WAV: read_wav,
    Container.WEBM: read_matroska,
}
