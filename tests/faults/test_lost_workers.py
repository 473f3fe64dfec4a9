"""F1, F3, F4, F6, F7 and F9: workers that die, badly or in the middle of something, and what they cannot say."""

from __future__ import annotations

import os
import random
import signal
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pykka
import pytest
from host_kit import until
from pool_handlers import said
from pool_kit import Heard, pid_is_gone, pool_of
from stream_kit import Call

from actors.actor.calls import WorkerCalls
from actors.actor.errors import PoisonRequest, WorkerLostError
from actors.actor.pool import PoolSettings
from actors.clock import monotonic
from actors.errors import RemoteError
from actors.messages.control import FRAME_LIMIT
from kithara_actors import ActorSystem
from kithara_actors.logic.suspicion import CLEARED_BY
from kithara_actors.testing.origin import Origin, Resource, body

HANG = 30.0
KIB = 1024


def result(future: pykka.Future[Any]) -> Any:
    return future.get(timeout=HANG)


def error(future: pykka.Future[Any]) -> BaseException:
    with pytest.raises(Exception) as caught:
        future.get(timeout=HANG)
    assert not isinstance(caught.value, pykka.Timeout)
    return caught.value


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Path]:
    """What is held open for writing, so that whoever reads it blocks until it is dead or written to."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    held = os.open(path, os.O_RDWR)
    yield path
    os.close(held)


# --- F1


def test_f01_worker_killed_under_a_call_at_20_instants(fifo: Path, tmp_path: Path) -> None:
    instants = random.Random(1)
    with WorkerCalls(2, restart_cap=0.02) as calls:
        for number in range(20):
            assert until(lambda: len(calls.workers()) == 2)
            begun = tmp_path / str(number)
            doomed = calls.call("call_functions:begin_and_wait", str(begun), str(fifo))
            if instants.random() < 0.5:
                assert until(lambda: begun.exists() and begun.read_text())  # noqa: B023 - within the round
                pid = int(begun.read_text())
            else:
                # Before or after it has begun, whatever comes first.
                running = calls._running
                assert until(lambda: running)  # noqa: B023 - within the round
                pid = calls.workers()[next(iter(running))]
            newest = max(calls.workers())
            os.kill(pid, signal.SIGKILL)
            began = monotonic()
            raised = error(doomed)
            assert monotonic() - began < 4.0
            assert isinstance(raised, WorkerLostError)
            assert (raised.pid, raised.words) == (pid, "killed by SIGKILL")
            assert result(calls.call("call_functions:echo", number)) == [number]
            assert until(lambda: max(calls.workers(), default=0) == newest + 1)  # noqa: B023 - within the round
            assert pid not in calls.workers().values()


@pytest.mark.minutes
def test_f01_worker_killed_at_20_offsets_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader sees none of it, and no byte that was read is asked for again."""
    size, offsets = 4000 * KIB, random.Random(2)
    marks = sorted(offsets.sample(range(100, 3600), 20))
    monkeypatch.setattr("kithara_actors.workers.PoolSettings", partial(PoolSettings, restart_cap=0.02))
    with Origin() as origin, ActorSystem.start(workers=1) as system:
        url = origin.add("/a.bin", Resource(size, seed=1, rate=2000.0 * KIB))
        with system.open(url) as stream:
            read, kills, least = b"", [], 0
            for mark in marks:
                read += stream.read(mark * KIB - len(read))
                # Killed twice before any progress it would be suspected, and refused.
                assert until(lambda: stream._bytes.using(lambda content: content.available(0)) >= least)  # noqa: B023
                assert until(system.workers)
                kills.append((len(origin.requests), mark * KIB))
                os.kill(next(iter(system.workers().values())), signal.SIGKILL)
                here = stream._bytes.using(lambda content: content.available(0))
                least = min(here + 2 * CLEARED_BY, size)
            read += stream.read()
        assert zlib.crc32(read) == zlib.crc32(body(1, 0, size))
        starts = [0 if seen.range is None else seen.range[0] for seen in origin.requests]
        for count, there in kills:
            assert all(start >= there for start in starts[count:])
        assert len(starts) <= 21


# --- F3


class Frames(Heard):
    """Looks at each large frame as it comes, and keeps what does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.wrong: list[Any] = []

    def frame(self, worker: int, data: bytes) -> None:
        _, kind, number, *filling = msgpack.unpackb(data)
        if kind != "large":
            super().frame(worker, data)
            return
        self.count += 1
        if len(data) != FRAME_LIMIT or set(filling[0]) != {number % 251}:
            self.wrong.append((worker, number, len(data)))


def test_f03_worker_killed_within_a_frame_of_the_largest_size() -> None:
    with pool_of("Large", size=2, heard=(heard := Frames()), restart_cap=0.02) as (pool, _):
        for round_ in range(4):
            assert until(lambda: len(pool.workers()) == 2)
            worker = max(pool.workers())
            pid = pool.workers()[worker]
            before = heard.count
            pool.send(worker, said("talk"))
            assert until(lambda: heard.count > before + 3)  # noqa: B023 - within the round
            os.kill(pid, signal.SIGKILL)
            assert heard.wait("lost", round_ + 1)[:3] == (worker, pid, "killed by SIGKILL")
    assert heard.wrong == []


def test_f03_worker_stopped_within_a_frame_of_the_largest_size() -> None:
    """Nobody waits for the rest of it: the others are heard, and it is taken for hung."""
    with pool_of("Large", size=2, heard=(heard := Frames()), heartbeat=0.1, heartbeat_limit=3.0) as (pool, _):
        pid = pool.workers()[1]
        pool.send(1, said("talk"))
        assert until(lambda: heard.count > 3)
        os.kill(pid, signal.SIGSTOP)
        for number in range(50):
            pool.send(2, said("echo", number))
        heard.wait("echo", 50)
        assert heard.of("lost") == []
        assert heard.wait("lost")[2].startswith("silent for ")
        assert pid_is_gone(pid)
    assert heard.wrong == []


# --- F4


def test_f04_worker_that_dies_between_a_request_and_its_answer() -> None:
    with WorkerCalls(8) as calls:
        before = set(calls.workers().values())
        raised = error(calls.call("call_functions:kill_self"))
        assert isinstance(raised, WorkerLostError)
        assert raised.pid in before
        futures = [calls.call("call_functions:echo", number) for number in range(100)]
        assert [result(future) for future in futures] == [[number] for number in range(100)]
        assert len(set(calls.workers().values()) & before) == 7


# --- F6


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        ("crash", (), "killed by SIGSEGV"),
        ("kill_self", (signal.SIGABRT,), "killed by SIGABRT"),
        ("leave", (0,), "exited with status 0"),
        ("leave", (3,), "exited with status 3"),
    ],
)
def test_f06_bad_exit_is_told_in_words(function: str, arguments: tuple[Any, ...], words: str) -> None:
    """Status 0 without an answer is no better than any other."""
    with WorkerCalls(1) as calls:
        raised = error(calls.call(f"call_functions:{function}", *arguments))
        assert isinstance(raised, WorkerLostError)
        assert raised.words == words
        assert result(calls.call("call_functions:echo", 1)) == [1]


def test_f06_worker_that_ignores_sigterm_does_not_keep_the_end_waiting() -> None:
    with pool_of(size=2) as (pool, heard):
        pids = list(pool.workers().values())
        for worker in pool.workers():
            pool.send(worker, said("cling"))
        heard.wait("clinging", 2)
        began = monotonic()
        assert pool.stop(2.0) == []
        assert monotonic() - began < 8
        assert all(map(pid_is_gone, pids))
        assert {event[3] for event in heard.of("lost")} == {"killed by SIGKILL"}


# --- F7


def test_f07_want_of_memory_fails_the_call_and_no_more() -> None:
    with WorkerCalls(1) as calls:
        before = calls.workers()
        assert type(error(calls.call("call_functions:grow", 4 << 30))) is MemoryError
        assert result(calls.call("call_functions:echo", 1)) == [1]
        assert calls.workers() == before


def test_f07_input_that_kills_is_refused_after_two_workers() -> None:
    with WorkerCalls(2) as calls:
        assert isinstance(error(calls.call("call_functions:kill_self")), WorkerLostError)
        assert isinstance(error(calls.call("call_functions:kill_self")), PoisonRequest)
        assert until(lambda: len(calls.workers()) == 2)
        after = calls.workers()
        for number in range(5):
            assert isinstance(error(calls.call("call_functions:kill_self")), PoisonRequest)
            assert result(calls.call("call_functions:echo", number)) == [number]
        assert calls.workers() == after
        assert max(after) == 4  # no third was lost


# --- F9


def test_f09_result_and_exception_that_cannot_cross() -> None:
    with WorkerCalls(1) as calls:
        before = calls.workers()
        returned = error(calls.call("call_functions:returns_lambda"))
        assert type(returned) is TypeError
        assert "returned a value (function) that cannot be sent" in str(returned)
        assert isinstance(returned.__cause__, RemoteError)
        raised = error(calls.call("call_functions:raises", "two", "this", "that"))
        assert isinstance(raised, RemoteError)
        assert (raised.type_name, raised.text) == ("call_functions.NeedsTwo", "this and that")
        assert "in raises" in raised.traceback
        assert result(calls.call("call_functions:echo", 1)) == [1]
        assert calls.workers() == before


def test_f01_reader_of_a_cached_file_goes_on_without_a_worker() -> None:
    """What is there needs nobody."""
    with Origin() as origin, ActorSystem.start(workers=1) as system:
        url = origin.add("/a.bin", Resource(300 * KIB, seed=1))
        with system.open(url) as stream:
            assert stream.wait_complete(HANG)
            pid = system.workers()[1]
            os.kill(pid, signal.SIGKILL)
            assert Call(stream.read).result() == body(1, 0, 300 * KIB)
        assert until(lambda: system.workers() and pid not in system.workers().values())
