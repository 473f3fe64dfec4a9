"""A file that fails ends the recording and troubles nobody; what is no trace of ours is left alone."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from recorder_kit import SPEC, Clock, book, recorder, replayed, requests

from actors.logic.supervision import Drain, Supervision
from kithara_actors.errors import Failure
from kithara_actors.logic.demand import Reader, Situation, plan
from kithara_actors.logic.fetch import Cancel, Start, StopAttempt
from kithara_actors.logic.ranges import Ranges
from kithara_actors.messages.frames import Event
from kithara_actors.traces import read_trace
from kithara_actors.values import CancelReason, RequestId


def ended(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "has ended" in record.getMessage()]


# --- A file that fails


def fails_after(count: int, call: Callable[[int, bytes, int], int]) -> Callable[[int, bytes, int], int]:
    calls = itertools.count()

    def write(fd: int, data: bytes, at: int) -> int:
        return os.pwrite(fd, data, at) if next(calls) < count else call(fd, data, at)

    return write


def full(fd: int, data: bytes, at: int) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def short(fd: int, data: bytes, at: int) -> int:
    return os.pwrite(fd, data[: len(data) // 2], at)


@pytest.mark.parametrize("failure", [full, short], ids=["error", "short"])
def test_full_disk_ends_the_recording_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, failure: Callable[[int, bytes, int], int]
) -> None:
    path = tmp_path / "trace"
    made = recorder(path, write=fails_after(7, failure))
    machine = made.machine("downloader", book())
    requests(machine, range(1, 10))
    assert not made.running
    assert ended(caplog) == [f"the recording to {path} has ended: No space left on device"]
    assert machine.requests() == []
    found = read_trace(path)
    assert sum(isinstance(frame, Event) for frame in found) == 3
    assert len(found.damage) == (failure is short)
    made.close()


def test_slow_file_ends_the_recording(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()

    def slow(fd: int, data: bytes, at: int) -> int:
        clock.now += 6.0
        return os.pwrite(fd, data, at)

    made = recorder(tmp_path / "trace", clock=clock, write=fails_after(5, slow))
    machine = made.machine("downloader", book())
    requests(machine, range(1, 10))
    assert ended(caplog) == [f"the recording to {tmp_path / 'trace'} has ended: a write took 6.0 s"]
    made.close()


def test_what_cannot_be_written_ends_the_recording(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = recorder(tmp_path / "trace")
    planned = made.function("source-1", plan)
    now = Situation(False, False, None, Ranges(), (Reader(0, look_ahead=object()),), ())  # type: ignore[arg-type]
    planned(now)
    assert len(ended(caplog)) == 1
    assert "builtins.object is not in the vocabulary" in ended(caplog)[0]
    made.close()


def test_nobody_waits_for_a_writer_that_hangs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who would have to wait goes on without being recorded, and the recording is over."""
    path = tmp_path / "trace"
    inside, go = threading.Event(), threading.Event()

    def hanging(fd: int, data: bytes, at: int) -> int:
        inside.set()
        assert go.wait(30)
        return os.pwrite(fd, data, at)

    made = recorder(path, write=fails_after(3, hanging), patience=0.05)
    one, other = made.machine("one", book()), made.machine("other", book())
    thread = threading.Thread(target=one.handle, args=(Start(SPEC), 0.5))
    thread.start()
    assert inside.wait(30)
    assert len(other.handle(Start(SPEC), 0.5)) == 2
    assert not made.running
    go.set()
    thread.join()
    assert len(ended(caplog)) == 1
    made.close()


# --- Which file


def test_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        recorder(tmp_path / "none" / "trace")
    assert caught.value.filename == str(tmp_path / "none" / "trace")


def test_what_is_no_trace_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("keep me")
    with pytest.raises(ValueError, match=f"^record: {path} exists and is not a trace: name another file$"):
        recorder(path)
    assert path.read_text() == "keep me"


def test_empty_file_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.touch()
    recorder(path).close()
    assert read_trace(path).damage == []


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "trace").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is a symbolic link: name the file itself"):
        recorder(tmp_path / "trace")
    assert not (tmp_path / "elsewhere").exists()


def test_pipe_and_directory_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is no file"):
        recorder(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        recorder(tmp_path)


def test_two_recorders_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    first = recorder(path)
    requests(first.machine("downloader", book()), range(1, 5))
    with pytest.raises(ValueError, match=f"^record: another system records to {path}: name another file$"):
        recorder(path)
    assert replayed(path).replayed == {"downloader": 8}
    first.close()
    recorder(path).close()


def test_file_that_cannot_be_begun_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as caught:
        recorder(tmp_path / "trace", write=full)
    assert caught.value.filename == str(tmp_path / "trace")
    recorder(tmp_path / "trace").close()


def test_child_of_a_fork_records_nothing(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    made = recorder(path)
    machine = made.machine("downloader", book())
    machine.handle(Start(SPEC), 0.5)
    before = path.read_bytes()
    made.forked(Failure("SystemStopped", "forked"))
    assert machine.handle(Cancel(RequestId(1), CancelReason.PEER_CANCEL), 0.5) == [StopAttempt(RequestId(1), 1)]
    assert path.read_bytes() == before
    made.close()


def test_after_the_end_machines_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    made = recorder(tmp_path / "trace")
    supervision = made.machine("root", Supervision())
    made.close()
    made.close()
    assert supervision.handle(Drain(), 0.0, 0.0)
    assert supervision.draining
    assert caplog.records == []
