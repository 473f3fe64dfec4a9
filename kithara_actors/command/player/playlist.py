"""Which tracks the sources of a command line name: URLs, files, and M3U playlists of these."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

from kithara_actors.command.explain import CommandError, explain
from kithara_actors.command.player.tracks import SOUND_SUFFIXES, Track
from kithara_actors.command.text import clean
from kithara_actors.errors import KitharaError
from kithara_actors.logic.naming import HARMLESS_HEADERS, canonical_url, origin_of, redact, redact_source
from kithara_actors.stream.reader import Stream
from kithara_actors.system import ActorSystem

__all__ = ["tracks_of"]

_MOST_TRACKS = 10_000
_MOST_PLAYLISTS = 200
_MOST_BYTES = 4 * 1024 * 1024
_DEEPEST = 5
_FIRST_LINE = b"#EXTM3U"
_BOM = b"\xef\xbb\xbf"
_PLAYLIST_NAMES = (".m3u", ".m3u8")
_PLAYLIST_TYPES = frozenset(
    {"audio/x-mpegurl", "audio/mpegurl", "application/x-mpegurl", "application/vnd.apple.mpegurl"}
)
_SEGMENTS = ("#EXT-X-TARGETDURATION", "#EXT-X-STREAM-INF")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_QUOTED = re.compile(r'"[^"]*"')
_SAFE = "%/?:@!$&'()*+,;=~[]#"


class _RefusedError(Exception):
    """This one cannot be played; the text says why."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a source was named: on the command line, or in a playlist at `base`.

    `base` is a URL or a directory; `chain` names the playlists that lead here; `origin` is that of the first remote
    one, whose entries elsewhere get no credentials.
    """

    base: str | None = None
    remote: bool = False
    origin: str | None = None
    chain: tuple[tuple[str, str], ...] = ()


def tracks_of(system: ActorSystem, sources: Sequence[str], headers: Mapping[str, str]) -> list[Track]:
    """The tracks that `sources` name, in order; playlists are read, also over the network, which blocks.

    A source is an http(s) or file:// URL, a path, or an M3U playlist at either; in a playlist, another one is known
    by its name. What cannot be played becomes a track with `refused`, or one whose opening will fail: a directory, an
    empty, too long or too large playlist, an HLS playlist, one that leads back to itself. Raises CommandError where
    such a one is the only source.
    """
    reader = _Reader(system, headers, len(sources))
    for source in sources:
        try:
            reader.add(source, None, _Place())
        except _RefusedError as error:
            if len(sources) == 1:
                raise CommandError(f"{_shown(source)}: {error}") from None
            reader.tracks.append(Track(source, _shown(source), refused=str(error)))
    return reader.tracks


class _Reader:
    def __init__(self, system: ActorSystem, headers: Mapping[str, str], sources: int) -> None:
        self.tracks: list[Track] = []
        self._expected = sources
        self._system = system
        self._headers = headers
        self._playlists = 0

    def add(self, source: str, title: str | None, place: _Place) -> None:
        """Add what `source` names. Raises _RefusedError if it is of no use."""
        given, source = source, _resolved(source, place)
        if source.startswith("/"):
            found = _local_playlist(Path(source), named=not place.chain)
            shown, base, credentials = _shown(given), str(Path(source).parent), True
        else:
            credentials = place.origin in (None, origin_of(source))
            shown = clean(redact(source))
            try:
                found, base = self._remote_playlist(source, credentials, named=not place.chain)
            except KitharaError as error:
                # Not asked for a second time: it has been tried as often as the settings allow.
                refused = explain(error, source, named=True)
                self.tracks.append(Track(source, shown, title, refused=refused, credentials=credentials))
                return
        if found is None:
            self.tracks.append(Track(source, shown, title, credentials=credentials))
        else:
            self._expand(found, source, shown, base, place)

    def _expand(self, data: bytes, source: str, shown: str, base: str, place: _Place) -> None:
        """Add the entries of the playlist `data`."""
        remote = not source.startswith("/")
        identity = canonical_url(source) if remote else os.path.realpath(source)
        chain = (*place.chain, (identity, shown))
        if any(identity == known for known, _ in place.chain):
            names = " → ".join(name for _, name in chain)
            raise _RefusedError(f"the playlist leads back to itself ({names}): remove that entry")
        if len(chain) > _DEEPEST + 1:
            names = " → ".join(name for _, name in chain)
            raise _RefusedError(f"playlists in playlists more than {_DEEPEST} deep ({names})")
        if self._playlists == _MOST_PLAYLISTS:
            raise _RefusedError(f"more than {_MOST_PLAYLISTS} playlists in all: name fewer")
        self._playlists += 1
        entries = list(_entries(data))
        if not entries:
            raise _RefusedError("holds no tracks")
        # Its entries stand in its own place.
        if self._expected - 1 + len(entries) > _MOST_TRACKS:
            raise _RefusedError(f"would make it more than {_MOST_TRACKS:,} tracks: name fewer, or split the playlist")
        self._expected += len(entries) - 1
        inside = _Place(base, remote, place.origin or (origin_of(source) if remote else None), chain)
        for entry, title in entries:
            try:
                self.add(entry, title, inside)
            except _RefusedError as error:
                self.tracks.append(Track(entry, _shown(entry), title, refused=str(error)))

    def _remote_playlist(self, url: str, credentials: bool, *, named: bool) -> tuple[bytes | None, str]:
        """The playlist at `url` and its final address, or None if it is something else. Blocks.

        Only what the user `named` is asked what it is where its name does not say it: asking costs a round trip, and
        where nobody answers all the retries.
        """
        suffix = _suffix(urlsplit(url).path)
        if suffix not in _PLAYLIST_NAMES and (not named or SOUND_SUFFIXES.fullmatch(suffix)):
            return None, url
        headers = {
            name: value for name, value in self._headers.items() if credentials or name.lower() in HARMLESS_HEADERS
        }
        with self._system.open(url, headers=headers, look_ahead=0) as stream:
            head = stream.read(len(_BOM + _FIRST_LINE))
            answer = stream.answer
            sent_as = "" if answer is None else (answer.content_type or "").partition(";")[0].strip().lower()
            if suffix not in _PLAYLIST_NAMES and sent_as not in _PLAYLIST_TYPES and not _begins(head):
                return None, url
            base = url if answer is None or not answer.redirects else urljoin(url, answer.redirects[-1])
            return head + _rest(stream), base


def _rest(stream: Stream) -> bytes:
    data = stream.read(_MOST_BYTES)
    if len(data) == _MOST_BYTES:
        raise _RefusedError(_TOO_LARGE)
    return data


_TOO_LARGE = f"is larger than the {_MOST_BYTES // 1024**2} MiB that a playlist may have"


def _local_playlist(path: Path, *, named: bool) -> bytes | None:
    """The playlist at `path`, or None for what is none, or cannot be opened: the player will say so in its turn.

    `named`: the user named it, and not a playlist: a directory is a mistake, and its first line may tell what it is.
    """
    if not named and path.suffix.lower() not in _PLAYLIST_NAMES:
        return None
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode) and named:
            raise _RefusedError("is a directory: name the files in it")
        if not stat.S_ISREG(mode):
            return None
        with path.open("rb") as file:
            head = file.read(len(_BOM + _FIRST_LINE))
            if path.suffix.lower() not in _PLAYLIST_NAMES and not _begins(head):
                return None
            data = head + file.read(_MOST_BYTES)
    except (OSError, ValueError):
        return None
    if len(data) > _MOST_BYTES:
        raise _RefusedError(_TOO_LARGE)
    return data


def _begins(head: bytes) -> bool:
    return head.removeprefix(_BOM).startswith(_FIRST_LINE)


def _entries(data: bytes) -> Iterable[tuple[str, str | None]]:
    """Each entry and its title. Raises _RefusedError for HLS."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    title: str | None = None
    for line in re.split(r"[\r\n]+", text):
        line = line.strip()
        if line.startswith(_SEGMENTS):
            raise _RefusedError(
                "is an HLS playlist, a stream in segments and not a list of tracks; give the URL of a whole file"
            )
        if line.startswith("#EXTINF:"):
            # Attributes in quotes, which may hold commas, can stand before the comma and the title.
            start = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), line).find(",")
            title = clean(line[start + 1 :].strip()) or None if start >= 0 else None
        elif line and not line.startswith("#"):
            yield line, title
            title = None


def _resolved(source: str, place: _Place) -> str:
    """An http(s) URL or an absolute path. Raises _RefusedError for what is neither, or is not allowed there."""
    scheme = _SCHEME.match(source)
    kind = None if scheme is None else scheme[1].lower()
    if kind == "file":
        if place.remote:
            raise _RefusedError("a playlist from the network may not name files of this machine")
        return _file_url(source)
    if place.remote and kind is None:
        assert place.base is not None
        relative = quote(source, safe=_SAFE)
        if ":" in relative.partition("/")[0]:
            relative = f"./{relative}"  # a file name with a colon is no scheme
        source, kind = urljoin(place.base, relative), "http"
    elif kind is not None and place.chain:
        source = quote(source, safe=_SAFE)
    if kind is not None:
        try:
            canonical_url(source)
        except ValueError as error:
            raise _RefusedError(str(error)) from None
        return source
    if "\0" in source:
        raise _RefusedError("is no name of a file")
    if place.base is not None:
        return os.path.normpath(Path(place.base) / source)
    if not source:
        raise _RefusedError("an empty name: give a URL or a path")
    # Keeps symbolic links, and as it is what names the home of nobody.
    return os.path.abspath(os.path.expanduser(source))  # noqa: PTH100, PTH111


def _file_url(url: str) -> str:
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise _RefusedError("a file URL is written file:///directory/name")
    return path


def _suffix(path: str) -> str:
    return Path(path).suffix.lower()


def _shown(source: str) -> str:
    return clean(redact_source(source))
