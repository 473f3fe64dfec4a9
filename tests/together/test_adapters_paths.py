"""Programs that take a path, and no file object, open a complete stream."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from recordings import Recordings
from stream_kit import HANG, answered, waiting

from kithara_actors import ActorSystem
from kithara_actors.adapters import complete_path
from kithara_actors.errors import Cancelled, ReadTimeout, RetryExhausted, StatusError
from kithara_actors.testing.origin import Fault, Origin, Resource, body

SIZE = 300_000
DIGEST = "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())"


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture(params=["memory", "disk"])
def system(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ActorSystem]:
    cache = None if request.param == "memory" else tmp_path
    with ActorSystem.start(cache_dir=cache, max_retries=0, workers=1) as running:
        yield running


def digest_of(path: Path) -> str:
    """What another program reads there."""
    done = subprocess.run(
        [sys.executable, "-c", DIGEST, str(path)], capture_output=True, text=True, timeout=HANG, check=True
    )
    return done.stdout.strip()


def test_another_program_opens_the_complete_file(origin: Origin, system: ActorSystem) -> None:
    expected = hashlib.sha256(body(0, 0, SIZE)).hexdigest()
    # So little is read ahead that the rest has to be asked for.
    with system.open(origin.add("/a.mp3", Resource(SIZE)), look_ahead=0) as stream:
        assert stream.read(10) == body(0, 0, 10)
        path = complete_path(stream, HANG)
        assert path.is_absolute()
        assert (path == stream.path) == (system.config.cache_dir is not None)
        assert digest_of(path) == digest_of(path) == expected
        # What it reads moves nothing here.
        assert stream.tell() == 10
        assert stream.read(10) == body(0, 10, 20)
        assert complete_path(stream, 0) == path


def test_a_local_file_has_its_own_path(system: ActorSystem, tmp_path: Path) -> None:
    file = tmp_path / "a b.mp3"
    file.write_bytes(body(0, 0, 1_000))
    with system.open(file) as stream:
        assert complete_path(stream) == file


def test_a_saved_file_has_the_path_it_was_saved_to(origin: Origin, system: ActorSystem, tmp_path: Path) -> None:
    target = tmp_path / "target.mp3"
    with system.save(origin.add("/a.mp3", Resource(SIZE)), target) as stream:
        assert complete_path(stream) == target
        assert target.read_bytes() == body(0, 0, SIZE)


def test_at_the_limit_the_download_goes_on(origin: Origin, system: ActorSystem) -> None:
    gate = threading.Event()
    with system.open(origin.add("/a.mp3", Resource(SIZE, script=[Fault(hold=gate)]))) as stream:
        for limit in (0, 0.01):
            with pytest.raises(ReadTimeout, match=f"not complete within {limit:g} s"):
                complete_path(stream, limit)
        assert stream.error is None
        with waiting(stream, complete_path, stream) as call:
            answered(origin, "/a.mp3", 1)
            assert call.running
            gate.set()
            assert call.result().exists()


def test_a_failed_download_has_no_path(origin: Origin, system: ActorSystem) -> None:
    with system.open(origin.url("/missing.mp3")) as stream, pytest.raises(StatusError, match="404"):
        complete_path(stream, HANG)
    broken = origin.add("/broken.mp3", Resource(SIZE, always=Fault(cut_after=SIZE // 2)))
    with system.open(broken) as stream, pytest.raises(RetryExhausted):
        complete_path(stream, HANG)


def test_who_waits_for_a_path_can_be_cancelled(origin: Origin, system: ActorSystem) -> None:
    with system.open(origin.add("/a.mp3", Resource(SIZE, script=[Fault(stall_after=10)]))) as stream:
        with waiting(stream, complete_path, stream) as call:
            answered(origin, "/a.mp3", 1, 10)
            stream.cancel()
            assert isinstance(call.error(), Cancelled)
    with pytest.raises(ValueError, match="closed"):
        complete_path(stream)


@pytest.mark.ffmpeg
def test_ffprobe_opens_the_path(origin: Origin, system: ActorSystem, recordings: Recordings) -> None:
    url = origin.add("/sweep.flac", Resource(data=recordings.path("flac").read_bytes(), content_type="audio/flac"))
    with system.open(url) as stream:
        command = ["ffprobe", "-v", "error", "-show_entries", "format=format_name,size", "-of", "csv=p=0"]
        done = subprocess.run(
            [*command, str(complete_path(stream, HANG))], capture_output=True, text=True, timeout=HANG, check=True
        )
        assert done.stdout.strip() == f"flac,{stream.length}"
