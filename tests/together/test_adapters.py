"""What does not take a file object, or hides what its file raises: miniaudio, soundfile, mutagen, other programs."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import miniaudio
import mutagen
import numpy as np
import pytest
import soundfile
from stream_kit import HANG, Watch, answered, waiting

from kithara_actors import ActorSystem, adapters
from kithara_actors.adapters import as_miniaudio
from kithara_actors.errors import Cancelled, RetryExhausted, StatusError
from kithara_actors.events import RequestEnqueued
from kithara_actors.stream.reader import Stream
from kithara_actors.testing.origin import Fault, Origin, Resource, body
from kithara_actors.values import AudioCodec, Container, MediaInfo

RATE = 48_000
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "mp3": ("libmp3lame", {"b": "320k"}),
    "flac": ("flac", {}),
    "wav": ("pcm_s16le", {}),
    "vorbis.ogg": ("vorbis", {"strict": "experimental"}),
    "flac.ogg": ("flac", {}),
    "opus.ogg": ("libopus", {}),
    "webm": ("libopus", {}),
    "m4a": ("aac", {}),
}
TYPES = {"mp3": "audio/mpeg", "flac": "audio/flac", "wav": "audio/wav", "ogg": "audio/ogg", "webm": "audio/webm"}
PLAYED = {"mp3": "MP3", "flac": "FLAC", "wav": "WAV", "vorbis.ogg": "VORBIS", "flac.ogg": "FLAC"}
"""What miniaudio decodes, and as which format."""


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(max_retries=0, workers=1) as running:
        yield running


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two seconds of noise over a tone in each format, by its suffix."""
    folder = tmp_path_factory.mktemp("sounds")
    return {suffix: encode(folder / f"sound.{suffix}", *ENCODERS[suffix]) for suffix in ENCODERS}


def encode(path: Path, codec: str, options: dict[str, str]) -> Path:
    tone = 0.3 * np.sin(np.arange(2 * RATE) * 0.05)
    sound = (tone + np.random.default_rng(1).normal(scale=0.05, size=(2, tone.size))).astype("f4")
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Sweep"
        stream = container.add_stream(codec, rate=RATE, layout="stereo", options=options)
        for at in range(0, tone.size, 1000):
            block = np.ascontiguousarray(sound[:, at : at + 1000])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = RATE, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def publish(origin: Origin, path: Path, generic: bool = False, **settings: Any) -> str:
    kind = "application/octet-stream" if generic else TYPES.get(path.suffix[1:], "audio/mp4")
    return origin.add(f"/{path.name}", Resource(data=path.read_bytes(), content_type=kind, **settings))


def breaking(path: Path) -> dict[str, Any]:
    """Settings of a resource that breaks for good half-way."""
    return {"script": [Fault(cut_after=path.stat().st_size // 2)], "always": Fault(status=503)}


def check_broken(stream: Stream) -> None:
    """That the stream tells of what `breaking` did to it."""
    # The one if a read was waiting when the transfer was cut, the other if one came later.
    with pytest.raises((RetryExhausted, StatusError), match=r"closed after|503") as caught:
        stream.raise_for_error()
    assert caught.value is stream.error


class FileSource(miniaudio.StreamableSource):
    """A file for miniaudio, to compare with."""

    def __init__(self, path: Path) -> None:
        self._file = io.BytesIO(path.read_bytes())

    def read(self, num_bytes: int) -> bytes:
        return self._file.read(num_bytes)

    def seek(self, offset: int, origin: miniaudio.SeekOrigin) -> bool:
        self._file.seek(offset, ("START", "CURRENT", "END").index(origin.name))
        return True


def samples(source: Any, name: str, **options: Any) -> bytes:
    """Everything that miniaudio decodes."""
    blocks = miniaudio.stream_any(source, miniaudio.FileFormat[name], sample_rate=RATE, **options)
    return b"".join(block.tobytes() for block in blocks)


# --- miniaudio


@pytest.mark.parametrize("generic", [False, True], ids=["typed", "generic"])
@pytest.mark.parametrize("suffix", PLAYED)
def test_miniaudio_decodes_a_stream(
    origin: Origin, system: ActorSystem, sounds: dict[str, Path], suffix: str, generic: bool
) -> None:
    with system.open(publish(origin, sounds[suffix], generic)) as stream:
        with as_miniaudio(stream) as source:
            assert isinstance(source, miniaudio.StreamableSource)
            assert source.format is miniaudio.FileFormat[PLAYED[suffix]]
            played = samples(source, source.format.name)
            assert len(played) >= 2 * RATE * 4
            assert played == samples(FileSource(sounds[suffix]), source.format.name)
            assert stream.seek(0) == 0
            later = samples(source, source.format.name, seek_frame=RATE)
            assert later == samples(FileSource(sounds[suffix]), source.format.name, seek_frame=RATE)
            # miniaudio itself cannot seek in FLAC in Ogg, and plays it from the front.
            assert (0 < len(later) < len(played)) == (suffix != "flac.ogg")
        assert not stream.closed
        assert stream.read_at(0, 4) == sounds[suffix].read_bytes()[:4]


def test_miniaudio_starts_with_the_first_bytes_of_an_ogg_file(
    origin: Origin, system: ActorSystem, sounds: dict[str, Path]
) -> None:
    url = publish(origin, sounds["vorbis.ogg"], script=[Fault(stall_after=16_000)])
    with system.open(url) as stream:
        source = as_miniaudio(stream)
        blocks = miniaudio.stream_any(source, source.format, frames_to_read=256)
        assert len(next(blocks)) == 512
        blocks.close()
        assert stream.tell() <= 16_000 < (stream.length or 0)


@pytest.mark.parametrize(
    ("suffix", "what"), [("opus.ogg", "Opus in Ogg"), ("webm", "Opus in WebM"), ("m4a", "AacLc in Mp4")]
)
def test_what_miniaudio_cannot_decode_is_refused(
    origin: Origin, system: ActorSystem, sounds: dict[str, Path], suffix: str, what: str
) -> None:
    with system.open(publish(origin, sounds[suffix])) as stream:
        with pytest.raises(ValueError, match=rf"cannot decode {what}.*PyAV"):
            as_miniaudio(stream)
        assert stream.error is None
        assert stream.tell() == 0


@pytest.mark.parametrize("size", [0, 3, 5_000, 70_000])
def test_bytes_that_tell_nothing_have_no_format(origin: Origin, system: ActorSystem, size: int) -> None:
    url = origin.add("/noise", Resource(size, content_type="application/octet-stream"))
    with system.open(url) as stream:
        source = as_miniaudio(stream)
        assert source.format is miniaudio.FileFormat.UNKNOWN
        assert source.read(10) == body(0, 0, min(10, size))


def test_the_format_waits_for_the_first_bytes(origin: Origin, system: ActorSystem, sounds: dict[str, Path]) -> None:
    gate = threading.Event()
    url = publish(origin, sounds["mp3"], generic=True, script=[Fault(hold=gate)])
    with system.open(url) as stream, waiting(stream, as_miniaudio, stream) as call:
        answered(origin, "/sound.mp3", 1)
        assert call.running
        gate.set()
        assert call.result().format is miniaudio.FileFormat.MP3


def test_a_tag_before_the_format_is_waited_for(origin: Origin, system: ActorSystem, sounds: dict[str, Path]) -> None:
    """What the first bytes and the Content-Type say, an MP3 file, is not what follows the tag."""
    tag = b"ID3\x04\x00\x00" + bytes((0, 0, 16, 0)) + bytes(2048)
    resource = Resource(data=tag + sounds["flac"].read_bytes(), content_type="audio/mpeg", rate=20_000)
    with system.open(origin.add("/tagged.mp3", resource)) as stream:
        assert as_miniaudio(stream).format is miniaudio.FileFormat.FLAC


def test_a_short_file_is_judged_when_it_is_complete() -> None:
    class Short:
        """All bytes of it are there, and it is not complete yet."""

        declared_info: MediaInfo | None = None

        def read_at(self, offset: int, size: int) -> bytes:
            return b"OggS"

        def wait_complete(self) -> bool:
            self.declared_info = MediaInfo(AudioCodec.VORBIS, Container.OGG)
            return True

    short: Any = Short()
    assert as_miniaudio(short).format is miniaudio.FileFormat.VORBIS


def test_what_breaks_before_the_format_is_raised(origin: Origin, system: ActorSystem) -> None:
    with system.open(origin.url("/missing.mp3")) as stream, pytest.raises(StatusError, match="404"):
        as_miniaudio(stream)


def test_a_source_lives_as_long_as_its_stream(sounds: dict[str, Path]) -> None:
    """miniaudio ends the process when it meets a source that is gone, so this has one of its own."""
    script = f"""
import gc
import miniaudio
from kithara_actors import ActorSystem
from kithara_actors.adapters import as_miniaudio

with ActorSystem.start(workers=1) as system, system.open({str(sounds["flac"])!r}) as stream:
    blocks = miniaudio.stream_any(as_miniaudio(stream), miniaudio.FileFormat.FLAC)
    gc.collect()
    print(sum(len(block) for block in blocks) > 80_000)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_streams_with_sources_are_collected(sounds: dict[str, Path], system: ActorSystem) -> None:
    with system.open(sounds["flac"]) as stream:
        known = id(as_miniaudio(stream))
    del stream
    gc.collect()
    assert known not in [id(each) for each in gc.get_objects() if isinstance(each, adapters.MiniaudioSource)]


def test_seeks_of_a_source(origin: Origin, system: ActorSystem, sounds: dict[str, Path]) -> None:
    size = sounds["mp3"].stat().st_size
    with system.open(publish(origin, sounds["mp3"])) as stream:
        source = as_miniaudio(stream)
        assert source.seek(100, miniaudio.SeekOrigin.START) is True
        assert source.seek(-30, miniaudio.SeekOrigin.CURRENT) is True
        assert stream.tell() == 70
        assert source.seek(-10, miniaudio.SeekOrigin.END) is True
        assert (stream.tell(), len(source.read(100))) == (size - 10, 10)
        with pytest.raises(ValueError, match="negative"):
            source.seek(-1, miniaudio.SeekOrigin.START)
        assert source.error_in_readcallback is None


def test_mp3_of_unknown_length_plays(origin: Origin, system: ActorSystem, sounds: dict[str, Path]) -> None:
    """As radio does: the end cannot be looked at, and the first samples come from the first second."""
    url = publish(origin, sounds["mp3"], ranges=False, chunked=True, script=[Fault(stall_after=40_000)])
    with system.open(url) as stream:
        source = as_miniaudio(stream)
        with pytest.raises(io.UnsupportedOperation):
            source.seek(0, miniaudio.SeekOrigin.END)
        assert (source.error_in_readcallback, stream.error) == (None, None)
        blocks = miniaudio.stream_any(source, source.format, sample_rate=RATE, frames_to_read=1152)
        assert any(next(blocks))
        blocks.close()
        assert stream.tell() <= 40_000


def test_miniaudio_hides_what_broke(origin: Origin, system: ActorSystem, sounds: dict[str, Path]) -> None:
    with system.open(publish(origin, sounds["flac"], **breaking(sounds["flac"]))) as stream:
        source = as_miniaudio(stream)
        played = samples(source, "FLAC")
        assert 0 < len(played) < len(samples(FileSource(sounds["flac"]), "FLAC"))
        check_broken(stream)
        assert source.error_in_readcallback is stream.error


def test_a_seek_of_a_broken_stream_ends_the_decoding(origin: Origin, system: ActorSystem) -> None:
    """miniaudio drops what a seek raises; reads that went on from the old place would give wrong samples."""
    resource = Resource(200_000, ranges=False, chunked=True, always=Fault(stall_after=50_000))
    with system.open(origin.add("/live.mp3", resource)) as stream:
        source = as_miniaudio(stream)
        stream.cancel()
        with pytest.raises(Cancelled):
            source.seek(0, miniaudio.SeekOrigin.END)
        assert source.error_in_readcallback is stream.error
        assert isinstance(stream.error, Cancelled)
    with system.open(origin.url("/live.mp3")) as stream:
        source = as_miniaudio(stream)
    with pytest.raises(ValueError, match="closed"):
        source.seek(0, miniaudio.SeekOrigin.START)
    assert source.error_in_readcallback is not None


@pytest.mark.parametrize("module", [None, types.SimpleNamespace(SeekOrigin=object)], ids=["missing", "old"])
def test_without_miniaudio_the_remedy_is_named(
    system: ActorSystem, sounds: dict[str, Path], module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "miniaudio", module)
    adapters._source_class.cache_clear()
    with system.open(sounds["mp3"]) as stream:
        with pytest.raises(ImportError, match=r"pip install 'kithara-actors\[play\]'"):
            as_miniaudio(stream)
    script = "import sys, kithara_actors.adapters; print('miniaudio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG, check=True)
    assert done.stdout == "False\n"


# --- soundfile and mutagen


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """What soundfile drops of that which its file raises: Python is told of it, and prints it."""
    seen: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: seen.append(told.exc_value))
    return seen


@pytest.mark.parametrize("suffix", ["flac", "mp3", "wav", "vorbis.ogg"])
def test_soundfile_hides_what_broke(
    origin: Origin, system: ActorSystem, sounds: dict[str, Path], suffix: str, dropped: list[BaseException | None]
) -> None:
    whole, _ = soundfile.read(sounds[suffix])
    with system.open(publish(origin, sounds[suffix], **breaking(sounds[suffix]))) as stream:
        try:
            read, _ = soundfile.read(stream)
        except (soundfile.LibsndfileError, AssertionError, TypeError):
            read = whole[:0]
        assert not np.array_equal(read, whole)
        check_broken(stream)
        assert dropped[-1] is stream.error


@pytest.mark.parametrize("suffix", ["flac", "mp3", "wav"])
def test_soundfile_and_mutagen_wait_for_the_length(
    origin: Origin, system: ActorSystem, sounds: dict[str, Path], suffix: str
) -> None:
    url = publish(origin, sounds[suffix], ranges=False, chunked=True)
    expected, rate = soundfile.read(sounds[suffix])
    with system.open(url, wait_for_length=True) as stream:
        found, found_rate = soundfile.read(stream)
        assert found_rate == rate == RATE
        assert np.array_equal(found, expected)
        assert len(found) >= 2 * RATE
    with system.open(f"{url}?again", wait_for_length=True) as stream:
        tagged, file = mutagen.File(stream, easy=True), mutagen.File(sounds[suffix], easy=True)
        assert tagged.info.length == file.info.length > 1.9
        assert dict(tagged.tags or {}) == dict(file.tags or {})


def test_without_waiting_for_the_length_they_say_so(
    origin: Origin, system: ActorSystem, sounds: dict[str, Path], dropped: list[BaseException | None]
) -> None:
    """What soundfile raises is its own; the stream itself is sound, and plays on."""
    url = publish(origin, sounds["flac"], ranges=False, chunked=True, script=[Fault(stall_after=40_000)])
    with system.open(url) as stream:
        with pytest.raises(soundfile.LibsndfileError):
            soundfile.SoundFile(stream)
        assert any(isinstance(error, io.UnsupportedOperation) for error in dropped)
        assert stream.error is None
        assert stream.read_at(0, 4) == b"fLaC"


# --- Events


def test_the_events_of_a_stream_are_its_own(origin: Origin, system: ActorSystem) -> None:
    urls = [origin.add(f"/{name}.mp3", Resource(1_000)) for name in ("one", "other")]
    streams: list[Stream] = [system.open(url, subscribe=True) for url in urls]
    for url, stream in zip(urls, streams, strict=True):
        with stream:
            assert stream.read() == body(0, 0, 1_000)
            assert stream.wait_complete(HANG)
            assert stream.events is not None
            watch = Watch(stream.events)
            assert watch.first(RequestEnqueued).url == url
    scopes = [{envelope.scope.asset for envelope in stream.events or ()} for stream in streams]
    assert all(len(scope) <= 1 for scope in scopes)
