"""From a stream to sound: FFmpeg, by way of PyAV, reads the stream while it still downloads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from kithara_actors.command.explain import CommandError
from kithara_actors.command.player.sound import Format, StaleError
from kithara_actors.media.info import sniff
from kithara_actors.stream.reader import Stream
from kithara_actors.values import Phase

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

__all__ = ["Decoding", "Facts", "SourceFile", "UndecodableError", "pyav"]

T = TypeVar("T")

# By content FFmpeg takes for audio what is none: text for AMR without a header, any zeros for PCM. These tell
# themselves by signatures. Nor may a file lead FFmpeg to other files and addresses, as a list of segments does.
_FORMATS = (
    "3gp,aa,aac,ac3,aiff,amr,ape,asf,asf_o,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,m4a,matroska,mlp,mov,mp3,mp4,mpc,"
    "mpc8,mpeg,mpegts,nut,ogg,oma,rm,shn,tak,truehd,tta,voc,w64,wav,webm,wv,xwma"
)
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": ""}
# Of plain samples FFmpeg would look at five seconds before it begins: a megabyte, and nothing to be learnt from it.
_PLAIN = (b"RIFF", b"RF64", b"FORM", b".snd", b"caff")
_BRIEFLY = {"probesize": "65536"}
_WITHOUT_INDEX = {"fflags": "ignidx"}
_FRONT = 1024 * 1024
"""Bytes from the front in which the first fragment of an MP4 file is looked for."""
_SIGNED = 4096
"""Bytes from the front that tell whether it is of a kind known here."""
_LOOK = 4 * 1024 * 1024
"""Bytes of what is of no known kind that FFmpeg may look at to make something of it; it would look at all."""
_PREROLL = 0.1
"""Seconds to decode before the target of a seek: the first frames of MP3 and Opus lean on those before them."""


class UndecodableError(Exception):
    """There is no sound to be had from it; the text says why."""


def pyav() -> Any:
    """The module av. Raises CommandError, with the remedy, where it is missing."""
    try:
        import av
        import av.error
        import av.logging
    except ImportError:
        raise CommandError("sound is decoded with PyAV, which is missing: pip install 'kithara-actors[play]'") from None
    return av


@dataclass(frozen=True, slots=True)
class Facts:
    """What FFmpeg tells of a file. `duration` is in seconds, `bitrate` in bits per second; names are FFmpeg's.

    Where `walked` is False the file is a row of fragments without an index that FFmpeg has not walked through: only
    the first of them is known, and the duration is not.
    """

    codec: str | None = None
    container: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    bitrate: int | None = None
    duration: float | None = None
    walked: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)


class SourceFile:
    """The file object that FFmpeg reads: a stream, for as long as it is wanted."""

    mode = "rb"

    def __init__(self, stream: Stream, wanted: Callable[[], bool]) -> None:
        self.name: str = stream.name
        self.reading = False
        """A call of the stream is in progress; it may be waiting for bytes, or for the first answer."""
        self.error: Exception | None = None
        """What a call has raised."""
        self.allowance: int | None = None
        """Bytes that may still be read before it looks like the end; None for all."""
        self._stream = stream
        self._wanted = wanted
        self._looking = False

    @property
    def waits(self) -> bool:
        """A call waits for what has yet to arrive."""
        return self.reading and not self._stream.closed and (self._looking or not self._stream.buffered)

    @property
    def complete(self) -> bool:
        """All bytes are there."""
        return self._stream.phase is Phase.COMPLETE

    def read(self, size: int) -> bytes:
        """What is there, at least a byte. Raises StaleError, and what the stream raises; so do those below.

        After an error it looks like the end: FFmpeg may try again, and PyAV reports what comes up then as a mistake.
        """
        if self.allowance is None:
            return self._calling(lambda: self._stream.read1(size), b"")
        data = self._calling(lambda: self._stream.read1(min(size, self.allowance or 0)), b"")
        self.allowance -= len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 2 and offset < 0 and self._stream.length == 0:
            return -1  # as FFmpeg expects it of an empty file
        return self._calling(lambda: self._stream.seek(offset, whence), -1)

    def look(self, offset: int, size: int) -> bytes:
        """Some bytes, wherever reading is."""
        # What lies at the position says nothing of these.
        self._looking = True
        try:
            return self._calling(lambda: self._stream.read_at(offset, size), b"")
        finally:
            self._looking = False

    def tell(self) -> int:
        return self._calling(self._stream.tell, -1)

    def seekable(self) -> bool:
        return self._calling(self._stream.seekable, False)

    def _calling(self, call: Callable[[], T], otherwise: T) -> T:
        if self.error is not None:
            return otherwise
        # In this order: who ends the wanting looks then whether a call is in progress, and so wakes every one.
        self.reading = True
        try:
            if not self._wanted():
                raise StaleError
            return call()
        except Exception as error:
            self.error = error
            raise
        finally:
            self.reading = False

    def readable(self) -> bool:
        return True


class Decoding:
    """One pass over a file from `start` seconds on.

    `agree` is told the rate and the channels of the first frame, and gives the format to turn all sound into.
    """

    def __init__(self, file: SourceFile, start: float, agree: Callable[[int, int], Format]) -> None:
        self.reached = start
        """Seconds into the file up to which it was decoded."""
        self.frames = 0
        """How many frames FFmpeg has decoded."""
        self._file = file
        self._start = start
        self._agree = agree
        self._walked = True
        self._av = pyav()

    def facts(self) -> Facts:
        """What FFmpeg tells of it, without decoding. Raises as `sound` does."""
        with self._open() as container:
            return self._facts(container, self._audio(container))

    def sound(self, learn: Callable[[Facts], object]) -> Iterator[bytes]:
        """The sound, in pieces of some ten milliseconds; an empty one where some was decoded only to be dropped.

        `learn` gets the facts before the first piece. Raises UndecodableError, av.error.FFmpegError, and unchanged
        what the file raises.
        """
        seek = self._start > 0 and self._file.seekable()
        while True:
            self._file.seek(0)
            with self._open() as container:
                if self._file.allowance == 0:
                    return  # nothing was found in what it might look at
                self._file.allowance = None
                stream = self._audio(container)
                learn(self._facts(container, stream))
                # Through fragments that FFmpeg has not walked through it finds no time: it would stop at the first.
                if seek and self._walked and not self._seek(container, stream):
                    seek = False  # then by decoding all that lies before
                    continue
                yield from self._decode(container, stream)
                if self._file.error is not None:
                    raise self._file.error  # taken for the end
                return

    def _open(self) -> InputContainer:
        options = dict(_OPTIONS)
        self._file.allowance = None if sniff(self._file.look(0, _SIGNED)) else _LOOK
        self._walked = True
        if self._file.look(0, 4) in _PLAIN:
            options |= _BRIEFLY
        elif not self._file.complete and _unlisted(self._file):
            # Else FFmpeg walks through all of them before the first sound: the whole download. So it does to seek.
            options |= _WITHOUT_INDEX
            self._walked = False
        opened: InputContainer = self._av.open(self._file, mode="r", options=options, metadata_errors="replace")
        return opened

    def _audio(self, container: InputContainer) -> av.AudioStream:
        if not container.streams.audio:
            raise UndecodableError("holds no sound")
        stream = container.streams.audio[0]
        # PyAV gives a stream that it has no decoder for no context, whatever its type says.
        if stream.codec_context is None:
            raise UndecodableError("holds sound of a codec that PyAV has no decoder for: convert it to another format")
        return stream

    def _facts(self, container: InputContainer, stream: av.AudioStream) -> Facts:
        context = stream.codec_context
        # Of the first fragment alone, if it is one of many; and so is the rate that FFmpeg computes from it.
        duration = container.duration / 1_000_000 if container.duration is not None and self._walked else None
        bit_rate = container.bit_rate if self._walked else None
        tags = {name.lower(): value for name, value in {**container.metadata, **stream.metadata}.items()}
        return Facts(
            codec=context.codec.canonical_name,
            container=container.format.name,
            sample_rate=context.sample_rate or None,
            channels=context.layout.nb_channels or None,
            bitrate=bit_rate or context.bit_rate or None,
            duration=duration if duration and duration > 0 else None,
            walked=self._walked,
            tags=tags,
        )

    def _seek(self, container: InputContainer, stream: av.AudioStream) -> bool:
        if container.format.name == "mp3" and not self._file.complete:
            # To a place computed from the rate or the table of contents, which may be some frames off. Else FFmpeg
            # reads all that lies before, which is exact, and costs no time once the bytes are there.
            container.flags |= self._av.container.Flags.fast_seek.value
        target = max(0.0, self._start - _PREROLL) + self._origin(stream)
        try:
            container.seek(int(target / (stream.time_base or 1)), stream=stream)
        except self._av.error.FFmpegError:
            return False
        return True

    def _origin(self, stream: av.AudioStream) -> float:
        return float((stream.start_time or 0) * (stream.time_base or 0))

    def _decode(self, container: InputContainer, stream: av.AudioStream) -> Iterator[bytes]:
        origin = self._origin(stream)
        at = 0.0 if self._start == 0 else None
        resampled: _Resampled | None = None
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except self._av.error.InvalidDataError:
                continue  # a damaged packet costs its own sound, not the rest
            yield b""
            for frame in frames:
                if not isinstance(frame, self._av.AudioFrame) or not frame.samples:
                    continue
                if frame.pts is not None and frame.time_base is not None:
                    at = float(frame.pts * frame.time_base) - origin
                at = at or 0.0
                self.frames += 1
                end = at + frame.samples / frame.sample_rate
                if end > self._start:
                    if resampled is None:
                        form = self._agree(frame.sample_rate, frame.layout.nb_channels)
                        cut = round(max(0.0, self._start - at) * form.rate) * form.frame
                        resampled = _Resampled(self._av, form, cut)
                    yield from resampled.of(frame)
                at = end
                self.reached = max(self.reached, end)
        if resampled is not None:
            yield from resampled.rest()


def _unlisted(file: SourceFile) -> bool:
    """Whether it is fragmented MP4 without an index (a `sidx` box) before the first fragment (ISO/IEC 14496-12)."""
    at = 0
    while at < _FRONT:
        box = file.look(at, 8)
        size, kind = int.from_bytes(box[:4], "big"), box[4:]
        if kind == b"moof":
            return True
        if size < 8 or kind in (b"sidx", b"mdat") or (at == 0) is not (kind == b"ftyp"):
            return False
        at += size
    return False


class _Resampled:
    """Frames of any kind as sound of one format, without its first `cut` bytes."""

    def __init__(self, av: Any, form: Format, cut: int) -> None:
        self._av = av
        self._form = form
        self._layout = "mono" if form.channels == 1 else "stereo"
        self._cut = cut
        self._kind: tuple[str, str, int] | None = None
        self._resampler: Any = None

    def of(self, frame: av.AudioFrame) -> Iterator[bytes]:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:
            # Some files change in the middle: radio that was recorded, Ogg files one after the other.
            yield from self.rest()
            self._kind = kind
            if kind != ("s16", self._layout, self._form.rate):
                self._resampler = self._av.AudioResampler(format="s16", layout=self._layout, rate=self._form.rate)
        frame.pts = None
        yield from self._bytes([frame] if self._resampler is None else self._resampler.resample(frame))

    def rest(self) -> Iterator[bytes]:
        """What the resampler has kept back."""
        resampler, self._resampler = self._resampler, None
        if resampler is not None:
            yield from self._bytes(resampler.resample(None))

    def _bytes(self, frames: list[av.AudioFrame]) -> Iterator[bytes]:
        for frame in frames:
            sound = bytes(memoryview(frame.planes[0])[: frame.samples * self._form.frame])
            dropped, self._cut = min(self._cut, len(sound)), max(0, self._cut - len(sound))
            if dropped < len(sound):
                yield sound[dropped:]
