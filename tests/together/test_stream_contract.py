"""What a Stream promises to those who take it for an open file."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import shutil
import sys
import tempfile
import threading
import wave
import zipfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import IO, cast

import mutagen
import pytest
from stream_kit import HANG, Call, answered, asked, blocking, settle, until_shown, waiting, watching
from wave_kit import wave_bytes

from kithara_actors.errors import (
    Cancelled,
    ConnectError,
    InvalidContentType,
    KitharaError,
    ProtocolError,
    ReadTimeout,
    ResourceChanged,
    RetryExhausted,
    StatusError,
    StreamError,
)
from kithara_actors.messages.events import (
    CacheComplete,
    Committed,
    EndOfStream,
    Event,
    FileError,
    FirstByte,
    Opened,
    PriorityChanged,
    ReaderSeek,
    ReadProgress,
    RequestCompleted,
    RequestEnqueued,
    RequestFailed,
    RequestRetrying,
    RequestStarted,
    TotalBytesResolved,
)
from kithara_actors.messages.events import RetryExhausted as BudgetSpent
from kithara_actors.stream.reader import Stream
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Fault, Origin, Resource, body
from kithara_actors.values import AudioCodec, Container, MediaInfo, Phase, Priority

KIB = 1024
MIB = 1024 * KIB
DAY = "Mon, 05 Jan 2026 10:00:00 GMT"


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def system() -> Iterator[ActorSystem]:
    # On disk: what is kept in memory holds a descriptor, which the test would seem to leak.
    with (
        tempfile.TemporaryDirectory() as folder,
        ActorSystem.start(cache_dir=folder, retry_base=0.01, max_retries=2, inactivity_timeout=HANG) as running,
    ):
        # The parsing process comes with the first question and stays: no test is to be blamed for it.
        silence = Path(folder) / "silence.wav"
        silence.write_bytes(wave_bytes(seconds=0.1))
        with running.open(silence) as stream:
            stream.inspect(HANG)
        yield running


numbers = count(1)


@pytest.fixture
def path() -> str:
    """A path of the test's own."""
    return f"/{next(numbers)}/file.mp3"


def state(stream: Stream) -> tuple[Phase, int | None, Path | None, bool]:
    """Phase, length, path, closed: read through a call, since a type checker takes properties to be constant."""
    return stream.phase, stream.length, stream.path, stream.closed


# --- Reading


def test_read_returns_bytes_exactly_n_unless_the_end_is_reached(origin: Origin, system: ActorSystem, path: str) -> None:
    with system.open(origin.add(path, Resource(100_000, rate=1_000_000))) as stream:
        first = stream.read(70_000)
        assert type(first) is bytes
        assert first == body(0, 0, 70_000)
        assert stream.read(0) == b""
        assert stream.tell() == 70_000
        assert stream.read(70_000) == body(0, 70_000, 100_000)
        assert stream.read(1) == stream.read() == stream.read(None) == stream.read1() == b""
        assert stream.readinto(bytearray(5)) == 0
        assert stream.peek() == b""


def test_readinto_fills_buffers_of_any_kind(origin: Origin, system: ActorSystem, path: str) -> None:
    import array

    with system.open(origin.add(path, Resource(200_000, rate=2_000_000))) as stream:
        words = array.array("I", bytes(40_000))
        assert stream.readinto(words) == 40_000
        assert words.tobytes() == body(0, 0, 40_000)
        whole = bytearray(100_000)
        assert stream.readinto(memoryview(whole)[10:]) == 99_990
        assert bytes(whole[10:]) == body(0, 40_000, 139_990)
        whole += b"resizable again"
        assert stream.readinto(bytearray(0)) == 0
        with pytest.raises(TypeError):
            stream.readinto(b"read-only")
        assert stream.readinto(bytearray(100_000)) == 60_010


def test_short_reads_wait_for_one_byte_only(origin: Origin, system: ActorSystem, path: str) -> None:
    url = origin.add(path, Resource(100_000, script=[Fault(stall_after=100)]))
    with system.open(url) as stream:
        assert body(0, 0, 100).startswith(stream.peek())
        assert stream.tell() == 0
        first = stream.read1(60)
        assert 1 <= len(first) <= 60
        assert first == body(0, 0, len(first))
        rest = bytearray(1_000)
        done = stream.readinto1(rest)
        assert rest[:done] == body(0, len(first), len(first) + done)
        assert stream.read1(0) == b""


def test_reads_at_an_offset_leave_the_position_alone(origin: Origin, system: ActorSystem, path: str) -> None:
    with system.open(origin.add(path, Resource(100_000))) as stream:
        assert stream.read(10) == body(0, 0, 10)
        assert stream.read_at(50_000, 70_000) == body(0, 50_000, 100_000)
        buffer = bytearray(20)
        assert stream.readinto_at(99_990, buffer) == 10
        assert buffer[:10] == body(0, 99_990, 100_000)
        assert stream.read_at(200_000, 5) == b""
        assert stream.tell() == 10
        for bad in [(-1, 5), (0, -1)]:
            with pytest.raises(ValueError, match="negative"):
                stream.read_at(*bad)
        with pytest.raises(ValueError, match="negative"):
            stream.readinto_at(-1, buffer)


def test_small_reads_from_many_threads_never_mix(origin: Origin, system: ActorSystem, path: str) -> None:
    """The window that serves small reads is one thing, whichever thread replaces it meanwhile."""
    size = 4 * MIB
    interval = sys.getswitchinterval()
    with system.open(origin.add(path, Resource(size))) as stream:
        assert stream.wait_complete(HANG)

        def work(seed: int) -> None:
            at = seed
            for _ in range(3_000):
                at = (at * 1_103_515_245 + 12_345) % (size - 100)
                assert stream.read_at(at, 64) == body(0, at, at + 64)

        sys.setswitchinterval(1e-6)
        try:
            calls = [Call(work, seed) for seed in range(4)]
            for call in calls:
                call.result(60)
        finally:
            sys.setswitchinterval(interval)


def test_iteration_goes_by_chunks(origin: Origin, system: ActorSystem, path: str) -> None:
    url = origin.add(path, Resource(300_000))
    with system.open(url) as stream:
        chunks = list(stream)
        assert b"".join(chunks) == body(0, 0, 300_000)
        assert len(chunks) < 10
    with system.open(url) as stream:
        assert stream.read(1)
        sizes = [len(chunk) for chunk in stream.iter_chunks(100_000)]
        assert sizes == [100_000, 100_000, 99_999]
        with pytest.raises(ValueError, match="at least 1"):
            next(stream.iter_chunks(0))


def test_lines_are_lines(system: ActorSystem, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"one\n" * 20_000 + b"last")
    with system.open(file) as stream:
        assert stream.readline() == b"one\n"
        assert stream.readline(2) == b"on"
        stream.seek(-5, 2)
        assert stream.readlines() == [b"\n", b"last"]


# --- Position


def test_seeks_of_the_27_byte_file(origin: Origin, system: ActorSystem, path: str) -> None:
    data = b"abcdefghijklmnopqrstuv12345"
    with system.open(origin.add(path, Resource(data=data))) as stream:
        for at in (0, 5, 10, 22):
            assert stream.seek(at) == at
            assert stream.read(5) == data[at : at + 5]
        stream.seek(0)
        assert stream.read(5) == b"abcde"
        assert stream.seek(5, io.SEEK_CUR) == 10
        assert stream.seek(-5, io.SEEK_END) == 22
        assert stream.read(9) == b"12345"
        assert stream.seek(0, io.SEEK_END) == 27
        assert stream.read(1) == b""
        assert stream.seek(1_000) == 1_000
        assert stream.read(5) == stream.read1(5) == stream.read() == b""
        for bad in [(-1, 0), (-1_001, 1), (-28, 2)]:
            with pytest.raises((ValueError, OSError)):
                stream.seek(*bad)
        assert stream.tell() == 1_000
        with pytest.raises(ValueError, match="whence"):
            stream.seek(0, 3)
        for wrong in (1.5, "1", None):
            with pytest.raises(TypeError):
                stream.seek(wrong)  # type: ignore[arg-type]
        with pytest.raises((ValueError, io.UnsupportedOperation)):
            stream.truncate(3)
        with pytest.raises(io.UnsupportedOperation):
            stream.write(b"x")


def test_seekable_waits_for_the_headers_and_for_nothing_else(origin: Origin, system: ActorSystem, path: str) -> None:
    gate = threading.Event()
    url = origin.add(path, Resource(1_000, script=[Fault(hold=gate, stall_after=0)]))
    with system.open(url) as stream, waiting(stream, stream.seekable) as call:
        answered(origin, path, 1)
        assert state(stream)[:2] == (Phase.INIT, None)
        assert call.running
        gate.set()
        assert call.result() is True
        assert stream.length == 1_000
        assert stream.seek(0, 2) == 1_000
        assert stream.buffered == 0


def test_seeks_cost_nothing_once_the_length_is_known(origin: Origin, system: ActorSystem, path: str) -> None:
    url = origin.add(path, Resource(10 * MIB, script=[Fault(stall_after=100_000)]))
    with system.open(url) as stream:
        assert stream.read(10) == body(0, 0, 10)
        with watching(system) as watch:
            for at in range(0, 10 * MIB, 50_000):
                stream.seek(at)
                stream.seek(-1, 2)
            stream.seek(0)
            assert stream.read(50_000) == body(0, 0, 50_000)
            assert len(asked(origin, path)) == 1
        assert not watch.of(RequestEnqueued)


@pytest.mark.parametrize("framing", ["chunked", "closed"])
def test_a_body_without_length_cannot_seek_before_it_is_complete(
    origin: Origin, system: ActorSystem, path: str, framing: str
) -> None:
    resource = Resource(
        100_000,
        ranges=False,
        chunked=framing == "chunked",
        length=False,
        script=[Fault(stall_after=1_000)],
    )
    url = origin.add(path, resource)
    with system.open(url) as stream:
        assert stream.seekable() is False
        with pytest.raises(io.UnsupportedOperation):
            stream.seek(0, 2)
        assert stream.read(1_000) == body(0, 0, 1_000)
        assert stream.length is None
        assert stream.seek(500) == 500
        assert stream.seek(100, 1) == 600
        for offset, whence in [(5_000, 0), (5_000, 1), (-1, 2)]:
            with pytest.raises(io.UnsupportedOperation):
                stream.seek(offset, whence)
        assert stream.tell() == 600
        assert stream.read(400) == body(0, 600, 1_000)
    with system.open(url) as stream:
        assert stream.read() == body(0, 0, 100_000)
        assert stream.length == 100_000
        assert stream.seekable()
        assert stream.seek(-5, 2) == 99_995
        assert stream.read() == body(0, 99_995, 100_000)


def test_wait_for_length_waits_for_the_end_instead(origin: Origin, system: ActorSystem, path: str) -> None:
    gate = threading.Event()
    url = origin.add(path, Resource(100_000, ranges=False, chunked=True, script=[Fault(hold=gate)]))
    with system.open(url, wait_for_length=True) as stream, waiting(stream, stream.seekable) as call:
        answered(origin, path, 1)
        assert call.running
        gate.set()
        assert call.result() is True
        assert stream.seek(-10, 2) == 99_990
        assert stream.read() == body(0, 99_990, 100_000)


def test_a_seek_during_a_blocked_read_wins_the_position(origin: Origin, system: ActorSystem, path: str) -> None:
    resource = Resource(5 * MIB, script=[Fault(stall_after=1_000)])
    with system.open(origin.add(path, resource)) as stream:
        assert stream.seekable()
        blocked = blocking(stream)
        with waiting(stream, stream.read, 1_500) as call:
            assert blocked.wait(HANG)
            assert stream.seek(4 * MIB) == 4 * MIB
            # A read at another place has its own fetch; that the blocked one is still owed is not forgotten.
            assert stream.read_at(3 * MIB, 10) == body(0, 3 * MIB, 3 * MIB + 10)
            assert call.result() == body(0, 0, 1_500)
            assert stream.tell() == 4 * MIB
        assert stream.read(10) == body(0, 4 * MIB, 4 * MIB + 10)


# --- Being a file, and not being one


def test_what_a_stream_does_not_pretend(origin: Origin, system: ActorSystem, path: str) -> None:
    with system.open(origin.add(path, Resource(0))) as stream:
        assert isinstance(stream, io.BufferedIOBase)
        assert not isinstance(stream, os.PathLike)
        assert not hasattr(stream, "__len__")
        assert bool(stream)
        assert stream.mode == "rb"
        assert stream.readable()
        assert not stream.writable()
        assert not stream.isatty()
        assert stream.read() == b""
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(stream)
        with pytest.raises(io.UnsupportedOperation):
            stream.detach()


@pytest.mark.parametrize(
    ("url_path", "hint", "suffix"),
    [("/a.FLAC?x=.ogg", None, ".flac"), ("/b.ogg", "M4A", ".m4a"), ("/c", None, ".bin")],
)
def test_the_name_ends_in_an_extension(
    origin: Origin, system: ActorSystem, url_path: str, hint: str | None, suffix: str
) -> None:
    with system.open(origin.url(url_path), extension=hint, look_ahead=0) as stream:
        assert stream.name.endswith(suffix)


def test_fileno_exists_only_when_complete_and_its_offset_follows(
    origin: Origin, system: ActorSystem, path: str
) -> None:
    gate = threading.Event()
    url = origin.add(path, Resource(100_000, script=[Fault(hold=gate)]))
    with system.open(url) as stream, system.open(url) as other:
        with pytest.raises(io.UnsupportedOperation):
            stream.fileno()
        gate.set()
        assert stream.wait_complete(HANG)
        stream.seek(50)
        fd = stream.fileno()
        assert stream.fileno() == fd != other.fileno()
        assert os.fstat(fd).st_size == 100_000

        def offset() -> int:
            return os.lseek(fd, 0, os.SEEK_CUR)

        assert offset() == 50
        stream.read(100)
        assert offset() == 150
        stream.readinto(bytearray(50_000))
        assert offset() == 50_150
        stream.seek(-7, 2)
        assert os.read(fd, 100) == body(0, 99_993, 100_000)
        assert stream.tell() == 99_993
        assert os.lseek(other.fileno(), 0, os.SEEK_CUR) == 0
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"never")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_path_exists_only_when_complete_and_on_disk(origin: Origin, path: str, tmp_path: Path) -> None:
    gate = threading.Event()
    url = origin.add(path, Resource(50_000, script=[Fault(hold=gate)]))
    with ActorSystem.start(cache_dir=tmp_path) as system, system.open(url) as stream:
        assert state(stream)[2] is None
        gate.set()
        assert stream.wait_complete(HANG)
        assert stream.path is not None
        assert stream.path.read_bytes() == body(0, 0, 50_000)
        assert stream.path.suffix == ".mp3"
    with ActorSystem.start() as system, system.open(url) as stream:
        assert stream.wait_complete(HANG)
        assert stream.path is None


def test_a_closed_stream_is_a_closed_file(origin: Origin, system: ActorSystem, path: str) -> None:
    with system.open(origin.add(path, Resource(1_000))) as stream:
        assert state(stream)[3] is False
        assert stream.read(5)
        assert stream.wait_complete(HANG)
    assert stream.closed
    stream.close()
    calls: list[Callable[[], object]] = [
        stream.read,
        stream.read1,
        stream.peek,
        stream.tell,
        stream.seekable,
        stream.readable,
        stream.fileno,
        stream.readline,
        stream.wait_complete,
        stream.subscribe,
        stream.play,
        stream.pause,
        stream.__enter__,
        lambda: stream.seek(0),
        lambda: stream.readinto(bytearray(5)),
        lambda: stream.readinto1(bytearray(5)),
        lambda: stream.read_at(0, 5),
        lambda: stream.readinto_at(0, bytearray(5)),
        lambda: stream.read(0),
        lambda: next(stream),
        lambda: next(stream.iter_chunks()),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="closed file"):
            call()
    assert "closed" in repr(stream)


def test_a_stream_that_is_forgotten_is_closed_with_a_warning(origin: Origin, system: ActorSystem, path: str) -> None:
    url = origin.add(path, Resource(MIB, script=[Fault(stall_after=10)]))
    stream = system.open(url)
    assert stream.read(10) == body(0, 0, 10)
    with pytest.warns(ResourceWarning, match="unclosed stream"):
        del stream
    assert origin.wait_for(lambda seen: any(each.path == path and each.client_closed for each in seen))


# --- State


def test_phase_length_and_buffered(origin: Origin, system: ActorSystem, path: str) -> None:
    gate = threading.Event()
    url = origin.add(path, Resource(100_000, script=[Fault(hold=gate, stall_after=40_000)]))
    with system.open(url) as stream:
        assert (stream.phase, stream.length, stream.buffered) == (Phase.INIT, None, 0)
        gate.set()
        assert stream.read(40_000) == body(0, 0, 40_000)
        assert stream.length == 100_000
        assert stream.buffered == 0
        stream.seek(30_000)
        assert stream.buffered == 10_000
        stream.seek(90_000)
        assert stream.buffered == 0
        assert stream.phase is Phase.DOWNLOADING
    with system.open(url) as stream:
        assert stream.wait_complete(HANG)
        stream.seek(1)
        assert (stream.phase, stream.buffered) == (Phase.COMPLETE, 99_999)
        assert stream.error is None
        stream.raise_for_error()


@pytest.mark.parametrize(
    ("content_type", "data", "info"),
    [
        ("audio/mpeg", b"\xff\xfb\x90\x64" + bytes(500), MediaInfo(AudioCodec.MP3, Container.MPEG_AUDIO)),
        ("audio/flac; x=y", b"fLaC" + bytes(500), MediaInfo(AudioCodec.FLAC, Container.FLAC)),
        ("application/octet-stream", b"fLaC" + bytes(500), MediaInfo(AudioCodec.FLAC, Container.FLAC)),
    ],
)
def test_media_info_is_there_after_the_first_byte(
    origin: Origin, system: ActorSystem, path: str, content_type: str, data: bytes, info: MediaInfo
) -> None:
    url = origin.add(path, Resource(data=data, content_type=content_type, script=[Fault(stall_after=300)]))
    with system.open(url, look_ahead=0) as stream:
        assert stream.media_info is None
    with system.open(url) as stream:
        assert stream.read(1) == data[:1]
        assert stream.media_info == info


def test_media_info_waits_for_bytes_that_may_contradict_the_content_type(
    origin: Origin, system: ActorSystem, path: str
) -> None:
    data = b"fLaC" + bytes(500)
    gate = threading.Event()
    faults = [Fault(stall_after=2), Fault(hold=gate)]
    url = origin.add(path, Resource(data=data, content_type="audio/mpeg", script=faults))
    with system.open(url) as stream:
        assert stream.read1(1) == data[:1]
        assert stream.media_info is None
    gate.set()
    with system.open(url) as stream:
        assert stream.read(8) == data[:8]
        info = stream.media_info
        assert info is not None
        assert info.codec is AudioCodec.FLAC


def test_play_and_pause_move_the_peer(origin: Origin, system: ActorSystem, path: str) -> None:
    url = origin.add(path, Resource(MIB, script=[Fault(stall_after=100)]))
    with watching(system) as watch, system.open(url) as stream, system.open(url) as other:
        started = watch.first(RequestStarted).request_id
        stream.play()
        watch.first(PriorityChanged, lambda event: event.priority is Priority.HIGH)
        stream.pause()
        watch.first(PriorityChanged, lambda event: event.priority is Priority.LOW)
        assert stream.read(100) == body(0, 0, 100)
        stream.play()
        other.play()
        stream.pause()
        other.pause()
        watch.until(lambda _: len(watch.of(PriorityChanged)) == 4)
        assert [event.priority for event in watch.of(PriorityChanged)] == [
            Priority.HIGH,
            Priority.LOW,
            Priority.HIGH,
            Priority.LOW,
        ]
        assert all(event.request_ids == (started,) for event in watch.of(PriorityChanged))


def test_the_first_blocking_read_plays_unless_somebody_said_otherwise(
    origin: Origin, system: ActorSystem, path: str
) -> None:
    url = origin.add(path, Resource(MIB, script=[Fault(stall_after=100)]))
    with watching(system) as watch, system.open(url) as stream:
        watch.first(RequestStarted)
        stream.pause()
        blocked = blocking(stream)
        with waiting(stream, stream.read, 200) as call:
            assert blocked.wait(HANG)
            assert call.running
            stream.play()
            watch.first(PriorityChanged)
            assert len(watch.of(PriorityChanged)) == 1


def test_read_timeout_leaves_the_download_alone(origin: Origin, path: str) -> None:
    gate = threading.Event()
    url = origin.add(path, Resource(1_000, script=[Fault(hold=gate)]))
    with ActorSystem.start(read_timeout=0.05) as system, system.open(url) as stream:
        for call in (stream.read, stream.read1, stream.peek):
            with pytest.raises(ReadTimeout) as caught:
                call()
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.retryable
        assert stream.error is caught.value
        assert stream.tell() == 0
        gate.set()
        assert stream.wait_complete(HANG)
        assert stream.read() == body(0, 0, 1_000)
        assert len(asked(origin, path)) == 1


def test_wait_complete_that_is_not_complete_in_time_is_no_error(origin: Origin, system: ActorSystem, path: str) -> None:
    gate = threading.Event()
    url = origin.add(path, Resource(1_000, script=[Fault(hold=gate)]))
    with system.open(url, look_ahead=0) as stream:
        assert stream.wait_complete(0) is False
        assert stream.wait_complete(0.01) is False
        assert stream.error is None
        gate.set()
        assert stream.wait_complete(HANG) is True
        assert stream.wait_complete() is True
        assert stream.read() == body(0, 0, 1_000)


# --- Events


def test_what_was_published_before_the_close_is_still_told(system: ActorSystem, origin: Origin) -> None:
    """However far behind the bus is: each stream is closed as soon as it is complete."""
    for number in range(30):
        url = origin.add(f"/told/{number}.mp3", Resource(size=5_000, seed=number))
        with system.open(url, subscribe=True) as stream:
            assert stream.wait_complete(HANG)
        events = stream.events
        assert events is not None
        assert [envelope.event for envelope in events if isinstance(envelope.event, CacheComplete)] == [
            CacheComplete(5_000)
        ]


def test_events_of_one_download(origin: Origin, system: ActorSystem, path: str) -> None:
    """EVENT01, EVENT07, EVENT08"""
    url = origin.add(path, Resource(12)) + "?token=secret"
    with system.open(url, subscribe=True) as stream:
        assert stream.events is not None
        assert stream.read() == body(0, 0, 12)
        assert stream.wait_complete(HANG)
        seen: list[Event] = []
        while not any(isinstance(event, CacheComplete) for event in seen):
            envelope = stream.events.get(HANG)
            assert envelope is not None
            seen.append(envelope.event)
        while (envelope := stream.events.get(0)) is not None:
            seen.append(envelope.event)
        kinds = [type(event) for event in seen]
        fetch = [kind for kind in kinds if kind.__name__.startswith("Request") or kind is FirstByte]
        assert fetch == [RequestEnqueued, RequestStarted, FirstByte, RequestCompleted]
        file = [kind for kind in kinds if kind in (TotalBytesResolved, Opened, Committed, CacheComplete)]
        assert file == [TotalBytesResolved, Opened, Committed, CacheComplete]
        for event in seen:
            match event:
                case RequestEnqueued():
                    assert event.url.startswith(origin.url(path))
                    assert "secret" not in event.url
                    assert (event.start, event.end) == (0, None)
                case RequestCompleted():
                    assert event.bytes == 12
                case TotalBytesResolved():
                    assert event == TotalBytesResolved(12, "content_length")
                case Opened():
                    assert event == Opened(MediaInfo(AudioCodec.MP3, Container.MPEG_AUDIO), 12, cached=False)
                case ReadProgress():
                    assert event == ReadProgress(12, 12)
        assert len([event for event in seen if isinstance(event, ReadProgress)]) == 1
        assert EndOfStream(12) in seen
    assert stream.events.get(HANG) is None
    assert stream.events.ended


def test_seek_events_come_with_the_read(origin: Origin, system: ActorSystem, path: str) -> None:
    """EVENT09"""
    with system.open(origin.add(path, Resource(100_000)), subscribe=True) as stream:
        assert stream.wait_complete(HANG)
        with watching(stream) as watch:
            stream.read(10)
            stream.seek(5_000)
            stream.seek(70_000)
            stream.read(5)
            stream.seek(70_005)
            stream.read(5)
            stream.seek(0)
            stream.seek(3)
            stream.read(7)
            watch.until(lambda _: len(watch.of(ReaderSeek)) == 2)
            assert watch.of(ReaderSeek) == [ReaderSeek(10, 70_000, 1), ReaderSeek(70_010, 3, 2)]


def test_a_stream_without_subscribe_has_no_events(origin: Origin, system: ActorSystem, path: str) -> None:
    with system.open(origin.add(path, Resource(5))) as stream:
        assert stream.events is None
        with stream.subscribe(capacity=1) as events:
            assert read_twice(stream) == body(0, 0, 5)
            assert events.get(HANG) is not None
        assert events.ended


def read_twice(stream: Stream) -> bytes:
    data = stream.read()
    stream.seek(0)
    assert stream.read() == data
    return data


# --- Local files


def test_a_local_path_is_read_in_place(system: ActorSystem, tmp_path: Path) -> None:
    """EVENT06"""
    file = tmp_path / "song.mp3"
    file.write_bytes(b"\xff\xfb\x90\x64" + bytes(7))
    with watching(system) as watch:
        for source in (str(file), file):
            with system.open(source, subscribe=True) as stream:
                assert stream.phase is Phase.COMPLETE
                assert (stream.length, stream.path, stream.name) == (11, file, str(file))
                info = stream.media_info
                assert info is not None
                assert (info.codec, info.container) == (AudioCodec.MP3, Container.MPEG_AUDIO)
                assert stream.seekable()
                assert stream.wait_complete(0)
                assert stream.read() == file.read_bytes()
                assert os.fstat(stream.fileno()).st_ino == file.stat().st_ino
                assert stream.events is not None
                told = [stream.events.get(HANG), stream.events.get(HANG)]
                assert [envelope.event for envelope in told if envelope is not None] == [
                    Opened(MediaInfo(AudioCodec.MP3, Container.MPEG_AUDIO), 11, cached=True),
                    TotalBytesResolved(11, "committed_length"),
                ]
        assert not [event for event in watch.drain() if isinstance(event, RequestEnqueued)]


def test_what_cannot_be_opened_says_so_at_once(system: ActorSystem, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        system.open(tmp_path / "missing.mp3")
    with pytest.raises(IsADirectoryError):
        system.open(tmp_path)
    for relative in ("song.mp3", Path("song.mp3"), "../song.mp3", ""):
        with pytest.raises(ValueError):
            system.open(relative)
    with pytest.raises(TypeError):
        system.open(5)  # type: ignore[arg-type]
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="regular"):
        system.open(tmp_path / "pipe")


def test_a_local_file_of_no_bytes(system: ActorSystem, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with system.open(tmp_path / "empty") as stream:
        assert stream.read() == stream.read1() == stream.peek() == b""
        assert stream.seek(0, 2) == 0


@pytest.mark.parametrize("size", [10, 100_000, -1])
def test_a_local_file_that_becomes_shorter_is_an_error_and_no_hang(
    system: ActorSystem, tmp_path: Path, size: int
) -> None:
    file = tmp_path / "song.mp3"
    file.write_bytes(body(0, 0, 200_000))
    with system.open(file) as stream:
        assert stream.read(10) == body(0, 0, 10)
        os.truncate(file, 5_000)
        stream.seek(150_000)
        with waiting(stream, stream.read, size) as call:
            assert isinstance(call.error(), StreamError)
        with waiting(stream, stream.readinto, bytearray(abs(size) or 1)) as into:
            assert isinstance(into.error(), StreamError)
        stream.seek(0)
        with waiting(stream, stream.read, 100_000) as across:
            assert isinstance(across.error(), StreamError)


# --- In the hands of others


def wav() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(2)
        writer.setframerate(44_100)
        writer.writeframes(body(3, 0, 400_000))
    return file.getvalue()


def test_the_standard_library_takes_it_for_a_file(origin: Origin, system: ActorSystem, path: str) -> None:
    data = wav()
    url = origin.add(path, Resource(data=data, content_type="audio/wav", rate=2_000_000))
    with system.open(url) as stream, wave.open(cast("IO[bytes]", stream)) as reader:
        assert reader.getnframes() == 100_000
        assert reader.readframes(100_000) == body(3, 0, 400_000)
    with system.open(url) as stream:
        target = io.BytesIO()
        shutil.copyfileobj(stream, target)
        assert target.getvalue() == data
    with system.open(url) as stream, io.BufferedReader(stream) as buffered:
        assert buffered.read(5) == data[:5]
        assert buffered.seek(-9, 2) == len(data) - 9
        assert buffered.read() == data[-9:]
    assert stream.closed


def test_text_and_archives(origin: Origin, system: ActorSystem, path: str) -> None:
    text = "".join(f"Zeile {number} – Grüße\n" for number in range(5_000))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("text", text)
        writer.writestr("noise", body(0, 0, 300_000))
    url = origin.add(path, Resource(data=archive.getvalue(), content_type="application/zip", rate=2_000_000))
    with system.open(url) as stream, zipfile.ZipFile(stream) as reader:
        assert reader.read("noise") == body(0, 0, 300_000)
        assert reader.read("text").decode() == text
    other = origin.add(path + ".gz", Resource(data=gzip.compress(text.encode()), content_type="application/gzip"))
    with system.open(other) as stream, gzip.open(stream, "rt", encoding="utf-8", newline="") as lines:
        assert lines.read() == text
    plain = origin.add(path + ".txt", Resource(data=text.encode(), content_type="text/plain"))
    with system.open(plain) as stream, io.TextIOWrapper(stream, encoding="utf-8", newline="") as wrapper:
        assert wrapper.readline() == "Zeile 0 – Grüße\n"
        assert wrapper.read() == text.partition("\n")[2]


def test_mutagen_reads_it(origin: Origin, system: ActorSystem, path: str) -> None:
    data = wav()
    url = origin.add(f"{path}.wav", Resource(data=data, content_type="audio/wav", rate=2_000_000))
    with system.open(url) as stream:
        found = mutagen.File(stream)
        assert found is not None
        assert round(found.info.length, 2) == 2.27
        assert stream.error is None


# --- Another entity


def changing(size: int = 500_000, held: int = 100_000) -> Resource:
    """Seed 1 for the first `held` bytes of the first answer, seed 2 ever after."""
    return Resource(size, seed=2, script=[Fault(entity=Resource(size, seed=1), cut_after=held)])


def test_a_stream_that_has_read_nothing_goes_on_with_the_new_entity(
    origin: Origin, system: ActorSystem, path: str
) -> None:
    url = origin.add(path, changing())
    with system.open(url) as stream:
        assert stream.wait_complete(HANG)
        assert stream.read() == body(2, 0, 500_000)
        assert stream.error is None


def test_the_new_entity_outlives_its_source(origin: Origin, system: ActorSystem, path: str) -> None:
    """The replaced content keeps the new one for readers that come late, when the Source has long ended."""
    url = origin.add(path, changing())
    with watching(system) as watch, system.open(url) as stream:
        watch.first(CacheComplete)
        settle()
        with waiting(stream, stream.read) as call:
            assert call.result() == body(2, 0, 500_000)
        assert stream.length == 500_000


def test_a_stream_that_has_read_gets_resource_changed_and_never_a_mix(
    origin: Origin, system: ActorSystem, path: str
) -> None:
    url = origin.add(path, changing())
    with system.open(url) as stream, system.open(url) as fresh:
        assert stream.read(1_000) == body(1, 0, 1_000)
        with waiting(stream, stream.read) as call:
            assert isinstance(call.error(), ResourceChanged)
        reads: list[Callable[[], object]] = [stream.read, stream.read1, lambda: stream.read_at(0, 5)]
        for read in reads:
            with pytest.raises(ResourceChanged):
                read()
        assert isinstance(stream.error, ResourceChanged)
        assert fresh.read() == body(2, 0, 500_000)
        with system.open(url) as late:
            assert late.read() == body(2, 0, 500_000)


@pytest.mark.parametrize(
    "second",
    [
        Fault(entity=Resource(400_000, seed=2)),
        Fault(entity=Resource(500_000, seed=2, last_modified=DAY)),
        Fault(headers={"ETag": '"other"'}),
    ],
    ids=["total", "entity", "validator"],
)
def test_every_sign_of_another_entity_is_seen(origin: Origin, system: ActorSystem, path: str, second: Fault) -> None:
    url = origin.add(path, Resource(500_000, seed=1, script=[Fault(cut_after=100_000), second]))
    with system.open(url) as stream:
        assert stream.read(50_000) == body(1, 0, 50_000)
        with waiting(stream, stream.read) as call:
            assert isinstance(call.error(), ResourceChanged)


def test_an_entity_that_changes_with_every_answer_ends_in_an_error(
    origin: Origin, system: ActorSystem, path: str
) -> None:
    script: list[Fault | None] = [Fault(entity=Resource(500_000, seed=seed), cut_after=100_000) for seed in range(30)]
    url = origin.add(path, Resource(500_000, script=script))
    with system.open(url) as stream:
        with pytest.raises(ResourceChanged):
            stream.wait_complete(HANG)
        assert len(asked(origin, path)) < 30


# --- Retries


def test_a_cut_body_is_resumed_by_range_and_no_landed_byte_is_asked_again(
    origin: Origin, system: ActorSystem, path: str
) -> None:
    script: list[Fault | None] = [Fault(cut_after=100_000), Fault(reset_after=50_000), Fault(short_by=10_000), None]
    resource = Resource(500_000, script=script)
    with watching(system) as watch, system.open(origin.add(path, resource)) as stream:
        assert stream.read() == body(0, 0, 500_000)
        watch.first(RequestCompleted)
        seen = answered(origin, path, 4, sent=1)
        assert [each.range for each in seen] == [(0, None), (100_000, None), (150_000, None), (490_000, None)]
        assert [each.headers.get("if-range") for each in seen] == [None, *[resource.etag] * 3]
        assert len(watch.of(RequestEnqueued)) == len(watch.of(RequestStarted)) == 1
        assert len(watch.of(FirstByte)) == 4
        assert [event.attempt for event in watch.of(RequestRetrying)] == [1, 2, 1]
        assert all(event.limit == 2 for event in watch.of(RequestRetrying))


def test_a_server_without_ranges_resumes_by_skipping(origin: Origin, system: ActorSystem, path: str) -> None:
    url = origin.add(path, Resource(300_000, ranges=False, script=[Fault(cut_after=100_000)]))
    with system.open(url) as stream:
        assert stream.read() == body(0, 0, 300_000)
        assert len(asked(origin, path)) == 2


def test_a_spent_budget_wraps_the_last_error_and_what_is_there_is_still_served(
    origin: Origin, system: ActorSystem, path: str
) -> None:
    gate = threading.Event()
    script: list[Fault | None] = [Fault(cut_after=50_000), *[Fault(status=503)] * 2, Fault(status=503, hold=gate)]
    url = origin.add(path, Resource(100_000, script=script))
    with watching(system) as watch, system.open(url, subscribe=True) as stream:
        assert stream.read(50_000) == body(0, 0, 50_000)
        failed = watch.first(RequestFailed)
        assert failed.bytes == 50_000
        assert failed.error.kind == "RetryExhausted"
        assert [type(event) for event in watch.events if isinstance(event, BudgetSpent | RequestFailed)] == [
            BudgetSpent,
            RequestFailed,
        ]
        assert len(asked(origin, path)) == 3
        # A read that begins between the event and this would still be told.
        until_shown(stream, lambda view: view.setbacks == 1)
        stream.seek(0)
        assert stream.read(50_000) == body(0, 0, 50_000)
        # A read of a missing byte starts with a new budget.
        with waiting(stream, stream.read) as call:
            answered(origin, path, 4)
            assert call.running
            gate.set()
            assert call.result() == body(0, 50_000, 100_000)
        assert asked(origin, path)[3].range == (50_000, 99_999)


def test_retry_exhausted_names_cause_and_budget(origin: Origin, system: ActorSystem, path: str) -> None:
    url = origin.add(path, Resource(100_000, always=Fault(status=500)))
    with system.open(url) as stream:
        with pytest.raises(RetryExhausted) as caught:
            stream.read(1)
        assert caught.value.cause == "StatusError"
        assert caught.value.status in (None, 500)
        assert not caught.value.retryable
        assert stream.error is caught.value
        with pytest.raises(RetryExhausted):
            stream.raise_for_error()
        assert len(asked(origin, path)) == 3
        assert stream.seekable() is False


def test_without_a_budget_the_error_is_raw(origin: Origin, path: str) -> None:
    with ActorSystem.start(max_retries=0) as system:
        with system.open(origin.add(path, Resource(5, always=Fault(status=503)))) as stream:
            with pytest.raises(StatusError) as caught:
                stream.read(1)
            assert caught.value.status == 503
        broken = origin.add(path + ".x", Resource(500, always=Fault(cut_after=5)))
        with system.open(broken) as stream, pytest.raises(RetryExhausted):
            stream.read()


def test_only_those_who_wait_for_the_bytes_hear_of_a_spent_budget(origin: Origin, path: str) -> None:
    """The main transfer gives up; a read of the tail, which has a fetch of its own, is not concerned."""
    gate, tail = threading.Event(), threading.Event()
    script: list[Fault | None] = [
        Fault(hold=gate, stall_after=0),
        Fault(hold=tail),
        *[Fault(status=503)] * 3,
    ]
    url = origin.add(path, Resource(MIB, script=script))
    with (
        ActorSystem.start(inactivity_timeout=1.5, max_retries=1, retry_base=0.01) as system,
        watching(system) as watch,
        system.open(url) as stream,
    ):
        gate.set()
        assert stream.seekable()
        with waiting(stream, stream.read_at, MIB - 100, 100) as call:
            answered(origin, path, 2)
            tail.set()
            watch.first(RequestFailed)
            assert call.result() == body(0, MIB - 100, MIB)


# --- Failures


def _told(fault: Fault) -> str:
    """What a fault changes, for the name of a test."""
    changed = {name: value for name in Fault.__slots__ if (value := getattr(fault, name)) != getattr(Fault(), name)}
    return ", ".join(f"{name} {value}" for name, value in changed.items())


def refused() -> str:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}/x.mp3"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=404), StatusError),
        (Fault(status=403), StatusError),
        (Fault(status=400), StatusError),
        (Fault(status=204), ProtocolError),
        (Fault(html=True), InvalidContentType),
        (Fault(encoding="gzip"), ProtocolError),
        (Fault(encoding="br"), ProtocolError),
        (Fault(short_by=10), RetryExhausted),
        (Fault(cut_after=0), RetryExhausted),
        (Fault(status=503), RetryExhausted),
        (Fault(wrong_range=(5, 9, 100)), ProtocolError),
        (Fault(wrong_range=(0, 99, None)), ProtocolError),
        (Fault(no_content_range=True), ProtocolError),
        (Fault(redirect="/nowhere"), StatusError),
        (Fault(raw=b"gibberish\r\n\r\n"), ProtocolError),
        (Fault(raw=b""), RetryExhausted),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else _told(value),
)
@pytest.mark.parametrize("kept", ["memory", "cache", "target"])
def test_every_failure_is_one_typed_error_and_leaves_nothing(
    origin: Origin, path: str, tmp_path: Path, fault: Fault, error: type[KitharaError], kept: str
) -> None:
    url = origin.add(path, Resource(100, always=fault))
    cache = tmp_path / "cache" if kept == "cache" else None
    with (
        ActorSystem.start(cache_dir=cache, max_retries=1, retry_base=0.01, workers=1) as system,
        watching(system) as watch,
    ):
        stream = system.save(url, tmp_path / "song.mp3") if kept == "target" else system.open(url)
        with stream:
            with pytest.raises(error) as caught:
                stream.read()
            assert isinstance(caught.value, OSError)
            assert type(stream.error) is error
            failed = watch.first(RequestFailed)
            assert failed.error.kind == error.__name__
            assert failed.retryable == caught.value.retryable
            if error is not RetryExhausted:
                # Fatal: gone before the error is reported, and told once.
                assert not list(tmp_path.rglob("*.part"))
                assert watch.first(FileError).error.kind == error.__name__
                assert stream.phase is Phase.FAILED
                with pytest.raises(error):
                    stream.read(1)
                with pytest.raises(error):
                    stream.wait_complete()
            assert not (tmp_path / "song.mp3").exists()
        system.stop()
        assert len(watch.of(FileError)) <= 1
        assert not [file for file in tmp_path.rglob("*") if file.is_file() and "sqlite" not in file.name]


def test_no_connection_is_typed(system: ActorSystem) -> None:
    with system.open(refused()) as stream, pytest.raises(RetryExhausted) as caught:
        stream.read()
    assert caught.value.cause == "ConnectError"
    with system.open("http://no-such-host.invalid/x.mp3") as stream, pytest.raises((ConnectError, RetryExhausted)):
        stream.read()


def test_opening_an_unreachable_host_returns_at_once(origin: Origin, system: ActorSystem) -> None:
    with system.open(origin.silent_address()) as stream:
        assert stream.length is None
        assert stream.error is None
        assert stream.phase is Phase.INIT


def test_a_failed_asset_is_fetched_anew_by_the_next_open(origin: Origin, system: ActorSystem, path: str) -> None:
    url = origin.add(path, Resource(100, script=[Fault(status=404)]))
    with system.open(url) as failed:
        with pytest.raises(StatusError):
            failed.read()
        with system.open(url) as stream:
            assert stream.read() == body(0, 0, 100)
        with pytest.raises(StatusError):
            failed.read()


def test_a_body_larger_than_memory_allows_is_storage_full_and_the_rest_is_served(origin: Origin, path: str) -> None:
    from kithara_actors.errors import StorageFull

    url = origin.add(path, Resource(400_000))
    with ActorSystem.start(memory_limit=200_000) as system, system.open(url) as stream:
        assert stream.read(100_000) == body(0, 0, 100_000)
        with waiting(stream, stream.read) as call:
            assert isinstance(call.error(), StorageFull)
        stream.seek(150_000)
        assert stream.read(50_000) == body(0, 150_000, 200_000)


def test_a_cancelled_stream_raises_cancelled_and_others_read_on(origin: Origin, system: ActorSystem, path: str) -> None:
    url = origin.add(path, Resource(100_000))
    with system.open(url) as stream, system.open(url) as other:
        assert stream.read(10) == body(0, 0, 10)
        stream.cancel()
        stream.cancel()
        assert not stream.closed
        for read in (stream.read, lambda: stream.read(5), lambda: stream.read_at(0, 1), stream.seekable):
            with pytest.raises(Cancelled):
                read()
        assert isinstance(stream.error, Cancelled)
        assert other.read() == body(0, 0, 100_000)
        assert stream.length in (None, 100_000)
