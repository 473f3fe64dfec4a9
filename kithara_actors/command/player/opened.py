"""A track whose stream is open: its bytes, what is known of it, and why it failed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from kithara_actors.command.explain import explain, without_url
from kithara_actors.command.player.decoder import Decoding, Facts, SourceFile, UndecodableError, pyav
from kithara_actors.command.player.sound import Format, StaleError
from kithara_actors.command.player.tracks import Playing, Track
from kithara_actors.command.progress import Meter
from kithara_actors.command.seems import seems
from kithara_actors.command.text import clock
from kithara_actors.errors import Cancelled, KitharaError, StorageFull
from kithara_actors.logic.naming import HARMLESS_HEADERS
from kithara_actors.logic.ranges import Ranges
from kithara_actors.media.info import sniff
from kithara_actors.stream.reader import Stream
from kithara_actors.system import ActorSystem
from kithara_actors.values import AudioCodec, MediaDetails, MediaInfo, Phase

__all__ = ["Opened"]

_PATIENCE = 10.0
"""Seconds for a question about a file whose bytes are there."""
_ELSEWHERE = 1.0
"""Seconds without a byte after which the speed is not known, unless one is waited for."""
_CODECS = {
    "aac": AudioCodec.AAC_LC,
    "alac": AudioCodec.ALAC,
    "flac": AudioCodec.FLAC,
    "mp3": AudioCodec.MP3,
    "opus": AudioCodec.OPUS,
    "vorbis": AudioCodec.VORBIS,
}


class Opened:
    """A track and its stream, which is open, and so downloads, until `close`. A track that cannot be opened has an
    `error` in its place. Nothing here blocks but `walk`, `no_audio`, `cut_short` and `failure`."""

    def __init__(self, system: ActorSystem, index: int, track: Track, headers: Mapping[str, str]) -> None:
        self.index = index
        self.track = track
        self.stream: Stream | None = None
        self.error: Exception | None = None
        self.file: SourceFile | None = None
        self.facts: Facts | None = None
        self.details: MediaDetails | None = None
        self.asked = False
        """Its details have been asked for."""
        self.walked = False
        """It has been asked to `walk`."""
        self.begun = False
        """It is heard."""
        self.over = False
        """It has failed: another attempt needs another stream."""
        self._system = system
        self._headers = {
            name: value for name, value in headers.items() if track.credentials or name.lower() in HARMLESS_HEADERS
        }
        self._meter = Meter()
        self._seen = Ranges()
        self._island: int | None = None
        self._grown = 0.0
        self._walked_duration: float | None = None
        self._reach = 0
        if track.refused is None:
            self._open()
        else:
            self.error = UndecodableError(track.refused)

    def _open(self) -> None:
        try:
            self.stream = self._system.open(self.track.source, headers=self._headers)
        except (OSError, ValueError, KitharaError) as error:
            self.error = error

    def renew(self) -> None:
        """A new stream in place of the old one, a read of which raises Cancelled: what was downloaded is kept."""
        old = self.stream
        self._open()
        if old is not None:
            old.close()

    def close(self) -> None:
        """End the download, unless it is complete. Idempotent; wakes a read."""
        if self.stream is not None:
            self.stream.close()

    def play(self, *, paused: bool) -> None:
        """Say whether it is listened to: its bytes go before those of others then."""
        if self.stream is not None:
            with contextlib.suppress(ValueError, KitharaError):
                (self.stream.pause if paused else self.stream.play)()

    # --- How far it is

    @property
    def complete(self) -> bool:
        """All its bytes are there, or nobody will fetch more of them."""
        return self.stream is None or self.stream.closed or self.stream.phase is Phase.COMPLETE

    @property
    def downloaded(self) -> int:
        """The offset up to which bytes are there without a gap from where the decoder reads."""
        stream = self.stream
        if stream is not None and not stream.closed:
            if stream.phase is Phase.COMPLETE:
                self._reach = stream.length or 0
            else:
                with contextlib.suppress(ValueError):
                    self._reach = stream.tell() + stream.buffered
        return self._reach

    def measure(self, now: float) -> None:
        """Take the speed, by what has arrived where the decoder reads; to be called a few times a second."""
        stream = self.stream
        if stream is None or stream.closed:
            return
        before, island = self._seen, self._island
        with contextlib.suppress(ValueError):
            start = stream.tell()
            end = start + stream.buffered
            if start == stream.tell():
                self._seen = before.add(start, end)
                self._island = next((first for first, last in self._seen if first <= start <= last), None)
        if self._seen.total_bytes > before.total_bytes:
            self._grown = now
        # After a jump, and where a gap has closed, it sees bytes that came earlier. Where nothing comes though nobody
        # waits for it, others may come elsewhere.
        elsewhere = now - self._grown > _ELSEWHERE and (self.file is None or not self.file.waits)
        if elsewhere or self._island != island or len(self._seen) != len(before):
            self._meter = Meter()
        self._meter.add(now, self._seen.total_bytes)

    # --- What it is

    @property
    def duration(self) -> float | None:
        """In seconds: what the decoder says, else what the file does."""
        if self.facts is not None and self.facts.duration is not None:
            return self.facts.duration
        if self._walked_duration is not None:
            return self._walked_duration
        return None if self.details is None else self.details.info.duration

    @property
    def walkable(self) -> bool:
        """How long it lasts could not be told before all its bytes were there, and now they are."""
        stream, facts = self.stream, self.facts
        if stream is None or facts is None or facts.walked:
            return False
        return self.duration is None and stream.phase is Phase.COMPLETE

    def walk(self) -> None:
        """Learn the duration from its fragments, all of which are there. Blocks as long as FFmpeg takes to count them;
        `close` ends that."""
        first = self.stream
        unreadable = (pyav().error.FFmpegError, StaleError, UndecodableError, OSError, ValueError, KitharaError)
        with contextlib.suppress(*unreadable):
            if first is not None:
                # Another stream of the same bytes: the position of the first is the decoder's.
                with self._system.open(self.track.source, headers=self._headers, look_ahead=0) as stream:
                    file = SourceFile(stream, lambda: not first.closed)
                    self._walked_duration = Decoding(file, 0.0, Format).facts().duration

    def playing(self, count: int, position: float, *, paused: bool, waiting: bool) -> Playing:
        """Everything at a glance; what the file says of itself goes before what FFmpeg makes of it."""
        details = self.details
        told = MediaInfo() if details is None else details.info
        seen = (None if self.stream is None else self.stream.media_info) or told
        facts = self.facts or Facts()
        codec, container = told.codec or seen.codec, told.container or seen.container
        return Playing(
            index=self.index,
            count=count,
            track=self.track,
            title=self._tag("title") or self.track.title,
            artist=self._tag("artist"),
            album=self._tag("album"),
            cover=details.covers[0] if details is not None and details.covers else None,
            codec=_name(facts) if codec is None else codec.value,
            container=facts.container if container is None else container.value,
            sample_rate=facts.sample_rate or told.sample_rate,
            channels=facts.channels or told.channels,
            bitrate=told.bitrate or facts.bitrate,
            position=position,
            duration=self.duration,
            downloaded=self.downloaded,
            length=None if self.stream is None else self.stream.length,
            speed=None if self.complete else self._meter.speed,
            paused=paused,
            waiting=waiting,
        )

    def _tag(self, name: str) -> str | None:
        """From the file's tags, or from what FFmpeg makes of them where these could not be had."""
        found = None if self.details is None else self.details.tag(name)
        return found if found is not None or self.facts is None else self.facts.tags.get(name)

    # --- What went wrong

    def failure(self, error: BaseException) -> str:
        """One line: why `error` came up, and what to do."""
        of_stream = None if self.stream is None else self.stream.error
        # A decoder may have hidden what its file raised.
        if of_stream is not None and not isinstance(of_stream, Cancelled):
            error = of_stream
        if isinstance(error, pyav().error.FFmpegError):
            return self.no_audio()
        match error:
            case UndecodableError():
                return str(error)
            case StorageFull():
                text = without_url(str(error), self.track.source)
                return f"{text}; make room, or name a larger disk with the setting cache_dir"
            case KitharaError():
                return explain(error, self.track.source, named=True)
            case FileNotFoundError():
                return "there is no such file; check the path"
            case IsADirectoryError():
                return "is a directory: name the files in it"
            case OSError():
                return f"cannot be read: {error.strerror or error}"
            case _:
                return explain(error, self.track.source, named=True)

    def no_audio(self) -> str:
        """It was not taken for audio: what else it may be. Looks at its first bytes, so it may block."""
        stream = self.stream
        first, sent_as = b"", None
        with contextlib.suppress(KitharaError, ValueError):
            if stream is not None:
                first = stream.read_at(0, 512)
                sent_as = None if stream.answer is None else stream.answer.content_type
        check = f"check the {'path' if self.track.source.startswith('/') else 'URL'}"
        if not first:
            return f"is empty; {check}"
        if first.startswith(b"#EXTM3U"):
            return "is a playlist and not audio: it has to have a name that ends in .m3u"
        if sniff(first) is not None:
            # It begins as sound does: who has looked into it knows what is the matter.
            with contextlib.suppress(KitharaError, OSError, ValueError):
                remark = None if stream is None else stream.inspect(timeout=_PATIENCE).remark
                if remark:
                    return f"is not audio that can be decoded: {remark}; {check}"
        return f"is not audio that can be decoded: it seems to be {seems(first, sent_as)}; {check}"

    def cut_short(self, reached: float) -> str | None:
        """What to say of a file that ended at `reached` seconds, if that is well before it should. May block."""
        if self.facts is None or self.stream is None:
            return None
        expected = self._announced(self.stream, reached) if self.facts.container == "wav" else self.facts.duration
        if expected is None or not _short(reached, expected) or self._estimated():
            return None
        if self.facts.container != "wav":
            with contextlib.suppress(KitharaError, OSError, ValueError):
                told = self.stream.inspect(timeout=_PATIENCE).info.duration
                if told is not None and not _short(reached, told):
                    return None
        return f"ends after {clock(reached)} of {clock(round(expected))}: the file is cut short"

    @staticmethod
    def _announced(stream: Stream, reached: float) -> float | None:
        """By the size in the header of a WAV file: all who read one believe the size of the file instead."""
        size, length = int.from_bytes(stream.read_at(4, 4), "little"), stream.length
        # What cannot seek back to its header writes zero or one of several very large numbers.
        return reached * (size + 8) / length if length and 0 < size < 0x7FFF_0000 else None

    def _estimated(self) -> bool:
        """Whether FFmpeg has guessed the duration from the size and the rate of the first frames."""
        assert self.facts is not None
        assert self.stream is not None
        if self.facts.container != "mp3":
            return self.facts.container == "aac"
        head = self.stream.read_at(0, 10)
        start = 0
        if head[:3] == b"ID3" and len(head) == 10:
            start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        first = self.stream.read_at(start, 256)
        return not any(sign in first for sign in (b"Xing", b"Info", b"VBRI"))


def _name(facts: Facts) -> str | None:
    """Of the codec, as the parsing process calls it: that may not have answered yet."""
    codec = facts.codec or ""
    if codec.startswith(("pcm_s", "pcm_u", "pcm_f")):
        return AudioCodec.PCM.value
    known = _CODECS.get(codec)
    return facts.codec if known is None else known.value


def _short(reached: float, expected: float) -> bool:
    return expected - reached > max(1.0, 0.02 * expected)
