"""What a file is and says of itself, by a parsing process of its own, through a real system."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from stream_kit import HANG, asked, blocking, waiting
from wave_kit import wave_bytes

from actors.clock import monotonic
from actors.messages.codec import Codec
from kithara_actors import ActorSystem, MediaInfo
from kithara_actors import parsing as module
from kithara_actors.config import Config
from kithara_actors.errors import Cancelled, InternalError, ReadTimeout, StatusError, SystemStopped
from kithara_actors.messages.parser import Described, ParserSettings
from kithara_actors.parsing import Parsing
from kithara_actors.testing.origin import Fault, Origin, Resource
from kithara_actors.values import AudioCodec, Container, Phase

pytestmark = pytest.mark.long

WAVE = wave_bytes(seconds=20)
"""3.5 MB."""
INFO = MediaInfo(AudioCodec.PCM, Container.WAV, 44_100, 2, 20.0, 1_411_200)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def system(tmp_path: Path) -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=1, max_retries=0) as system:
        yield system


def parser_pid(system: ActorSystem) -> int:
    pool = system._assembly._parsing._pool
    assert pool is not None
    end = monotonic() + HANG
    while not pool.workers():
        assert monotonic() < end, "the parsing process does not start"
        threading.Event().wait(0.005)
    return next(iter(pool.workers().values()))


def test_a_url_is_described_from_a_few_kilobytes(system: ActorSystem, origin: Origin) -> None:
    url = origin.add("/a.wav", Resource(data=WAVE, content_type="audio/wav"))
    with system.open(url, look_ahead=0) as stream:
        details = stream.inspect()
        assert details.info == INFO
        assert details.remark is None
        assert stream.tell() == 0
        answer = stream.answer
        assert answer is not None
        assert (answer.status, answer.ranges, answer.content_type, answer.redirects) == (206, True, "audio/wav", ())
        assert answer.validator.etag is not None
        assert answer.seconds > 0
        assert stream.inspect() is details
        assert stream.media_info == INFO
    spans = [seen.range for seen in asked(origin, "/a.wav")]
    assert spans[0] == (0, 64 * 1024 - 1)
    assert sum(end - start + 1 for start, end in spans) < 150_000


def test_a_local_file_is_described_and_asked_of_nobody(system: ActorSystem, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(WAVE)
    with system.open(path) as stream:
        assert stream.inspect().info == INFO
        assert stream.answer is None


def test_the_first_bytes_tell_media_info_more_without_a_request(system: ActorSystem, origin: Origin) -> None:
    url = origin.add("/a.wav", Resource(data=WAVE, content_type="audio/wav"))
    with system.open(url, look_ahead=64 * 1024) as stream:
        stream.read(1)
        end = monotonic() + HANG
        while (info := stream.media_info) is None or info.sample_rate is None:
            # Codec and container never wait for the others.
            assert info is None or (info.codec, info.container) == (AudioCodec.PCM, Container.WAV)
            assert monotonic() < end
            threading.Event().wait(0.005)
        assert info == INFO
        assert stream.media_info == INFO
    assert len(asked(origin, "/a.wav")) == 1


def test_redirects_are_told_without_their_secrets(system: ActorSystem, origin: Origin) -> None:
    target = origin.add("/real.wav", Resource(data=WAVE, content_type="audio/wav"))
    there = f"{target}?signature=secret"
    url = origin.add("/moved.wav", Resource(size=0, always=Fault(redirect=there)))
    with system.open(url, look_ahead=0) as stream:
        assert stream.inspect().info == INFO
        answer = stream.answer
    assert answer is not None
    (shown,) = answer.redirects
    assert shown.startswith(target)
    assert "secret" not in shown


@pytest.mark.parametrize("data", [b"", b"just some text\n" * 10, bytes(5000)], ids=["empty", "text", "zeros"])
def test_what_is_no_media_is_a_remark(system: ActorSystem, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "thing"
    path.write_bytes(data)
    with system.open(path) as stream:
        details = stream.inspect(HANG)
        assert (details.info.codec, details.info.container) == (None, None)
        assert details.remark


def test_a_body_without_length_is_told_from_its_front(system: ActorSystem, origin: Origin) -> None:
    url = origin.add("/a.wav", Resource(data=WAVE, content_type="audio/wav", chunked=True, ranges=False, rate=200_000))
    with system.open(url) as stream:
        info = stream.inspect(HANG).info
        assert (info.codec, info.sample_rate, info.channels) == (AudioCodec.PCM, 44_100, 2)
        assert info.bitrate is None


def test_without_ranges_nobody_waits_for_the_end(system: ActorSystem, origin: Origin) -> None:
    data = wave_bytes(seconds=20, junk=200_000)
    url = origin.add("/a.wav", Resource(data=data, content_type="audio/wav", ranges=False))
    with system.open(url, look_ahead=0) as stream:
        details = stream.inspect(HANG)
        assert (details.info.container, details.info.sample_rate) == (Container.WAV, None)
        assert details.remark
        assert len(asked(origin, "/a.wav")) == 1
        assert stream.wait_complete(HANG)
        assert stream.inspect(HANG).info == INFO


# --- What goes wrong


def test_a_failed_download_is_its_own_error(system: ActorSystem, origin: Origin) -> None:
    with system.open(origin.url("/missing.wav")) as stream:
        with pytest.raises(StatusError, match="404"):
            stream.inspect()
        assert isinstance(stream.error, StatusError)


def test_the_limit_is_no_error_of_the_stream(system: ActorSystem, origin: Origin) -> None:
    url = origin.add("/a.wav", Resource(data=WAVE, content_type="audio/wav", always=Fault(stall_after=100)))
    with system.open(url) as stream:
        with pytest.raises(ReadTimeout, match=r"looked at within 0\.2 s"):
            stream.inspect(0.2)
        assert stream.error is None
        assert stream.read(100) == WAVE[:100]


def test_closing_the_stream_ends_the_wait(system: ActorSystem, origin: Origin) -> None:
    url = origin.add("/a.wav", Resource(data=WAVE, content_type="audio/wav", always=Fault(stall_after=100)))
    with system.open(url) as stream:
        stream.read(100)
        waits = blocking(stream)
        with waiting(stream, stream.inspect) as call:
            assert waits.wait(HANG)
            stream.close()
            assert isinstance(call.error(), Cancelled)


def test_closing_the_stream_ends_the_wait_for_the_parser(system: ActorSystem, origin: Origin, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(WAVE)
    with system.open(path) as stream:
        stream.inspect()
    os.kill(parser_pid(system), signal.SIGSTOP)
    with system.open(path) as stream:
        waits = blocking(stream)
        with waiting(stream, stream.inspect) as call:
            assert waits.wait(HANG)
            stream.close()
            assert isinstance(call.error(), Cancelled)


def test_stopping_the_system_ends_the_wait(origin: Origin, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(WAVE)
    with ActorSystem.start(workers=1) as system:
        with system.open(path) as stream:
            stream.inspect()
        os.kill(parser_pid(system), signal.SIGSTOP)
        with system.open(path) as stream:
            waits = blocking(stream)
            with waiting(stream, stream.inspect) as call:
                assert waits.wait(HANG)
                assert system.stop() == []
                assert isinstance(call.error(), SystemStopped)


def test_a_stop_warns_of_no_parser_whose_question_is_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(WAVE)
    parsing = Parsing(Config())
    asked_for_more = threading.Event()
    with path.open("rb") as file:
        parsing.describe(file.fileno(), "audio/wav", len(WAVE), 1, True, lambda _: asked_for_more.set())
        assert asked_for_more.wait(HANG)
        assert parsing.stop(HANG) == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_killed_parser_is_replaced_and_the_question_is_asked_again(system: ActorSystem, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(WAVE)
    with system.open(path) as stream:
        stream.inspect()
    first = parser_pid(system)
    os.kill(first, signal.SIGSTOP)
    with system.open(path) as stream:
        waits = blocking(stream)
        with waiting(stream, stream.inspect) as call:
            assert waits.wait(HANG)
            os.kill(first, signal.SIGKILL)
            assert call.result().info == INFO
    assert parser_pid(system) != first


@pytest.mark.parametrize(
    ("handler", "said"),
    [("dying", "exited with status 9"), ("slow", "exited with status 75"), ("hungry", "MemoryError")],
)
def test_a_file_that_ends_its_parser_is_a_remark(handler: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(WAVE)
    parsing = Parsing(Config())
    limits = Codec([ParserSettings]).encode(ParserSettings(256 * 1024 * 1024, 0.3))
    parsing._settings = dataclasses.replace(
        parsing._settings, handler=f"parser_handlers:{handler}", settings=limits, heartbeat=0.1
    )
    heard: list[Described] = []
    done = threading.Event()

    def hear(said: object) -> None:
        assert isinstance(said, Described)
        heard.append(said)
        done.set()

    fd = os.open(path, os.O_RDONLY)
    try:
        parsing.describe(fd, "audio/wav", len(WAVE), len(WAVE), True, hear)
        assert done.wait(HANG)
        assert said in str(heard[0].details.remark)
    finally:
        os.close(fd)
        assert parsing.stop(HANG) == []


def test_a_parser_that_cannot_start_is_not_tried_for_ever(
    system: ActorSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(WAVE)
    parsing = system._assembly._parsing
    parsing._settings = dataclasses.replace(parsing._settings, handler="parser_handlers:missing")
    with system.open(path) as stream:
        assert "does not start" in str(stream.inspect(HANG).remark)
        assert (stream.read(), stream.error) == (WAVE, None)
    with system.open(path) as stream, pytest.raises(InternalError, match="cannot start worker processes"):
        stream.inspect(HANG)
    # What was missing may be there again some seconds later.
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    parsing._settings = dataclasses.replace(parsing._settings, handler="kithara_actors.worker.parser:make_handler")
    with system.open(path) as stream:
        assert stream.inspect(HANG).info == INFO


def test_who_waits_for_bytes_is_not_blamed_for_the_death_of_its_parser(system: ActorSystem, origin: Origin) -> None:
    data = wave_bytes(seconds=20, junk=200_000)
    gate = threading.Event()
    url = origin.add("/a.wav", Resource(data=data, content_type="audio/wav", script=[None, Fault(hold=gate)]))
    parsing = system._assembly._parsing

    def waits() -> bool:
        return any(job.waiting for job in list(parsing._jobs.values()))

    with system.open(url, look_ahead=0) as stream, waiting(stream, stream.inspect) as call:
        for _ in range(3):
            end = monotonic() + HANG
            while not waits():
                assert monotonic() < end
                threading.Event().wait(0.005)
            os.kill(parser_pid(system), signal.SIGKILL)
            while waits():
                assert monotonic() < end
                threading.Event().wait(0.005)
        gate.set()
        assert call.result().info == INFO


def test_a_limit_of_one_call_hides_no_error_of_another(origin: Origin) -> None:
    url = origin.add("/a.wav", Resource(data=WAVE, content_type="audio/wav", always=Fault(stall_after=100)))
    with (
        ActorSystem.start(workers=1, read_timeout=0.3) as system,
        system.open(url) as stream,
        waiting(stream, stream.wait_complete, 1.5) as call,
    ):
        with pytest.raises(ReadTimeout):
            stream.read(1000)
        assert call.result() is False
        with pytest.raises(ReadTimeout):
            stream.raise_for_error()


def test_the_parser_cannot_write_what_it_reads(system: ActorSystem, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(WAVE)
    with system.open(path) as stream:
        stream.inspect()
        assert stream.phase is Phase.COMPLETE
        pid = parser_pid(system)
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert "Max file size             0 " in limits
        assert "Max data size             536870912" in limits


def test_no_parser_runs_before_somebody_asks(system: ActorSystem, origin: Origin) -> None:
    url = origin.add("/a.wav", Resource(data=WAVE, content_type="audio/wav"))
    with system.open(url) as stream:
        assert stream.read() == WAVE
        assert system._assembly._parsing._pool is None
