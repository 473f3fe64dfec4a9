"""WorkerPool with real processes that misbehave."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from pool_handlers import said
from pool_kit import HANG, Heard, pid_is_gone, pool_of, state_of, until

from actors.actor.pool import PoolSettings, WorkerPool
from actors.clock import monotonic
from actors.errors import WorkerStartError


def test_workers_are_made_with_their_settings_and_answer() -> None:
    with pool_of(size=3, settings=b"mine") as (pool, heard):
        assert sorted(pool.workers()) == [1, 2, 3]
        assert {event[2] for event in heard.of("made")} == {b"mine"}
        for worker in pool.workers():
            assert pool.send(worker, said("echo", worker * 10))
        heard.wait("echo", 3)
        assert {event[1:3] for event in heard.of("echo")} == {(1, 10), (2, 20), (3, 30)}
    assert len(heard.of("lost")) == 3  # told of their end at the stop too
    assert pool.workers() == {}
    assert not pool.send(1, said("echo", 1))


def test_stop_is_idempotent_and_works_before_start() -> None:
    pool = WorkerPool(PoolSettings("pool_handlers:Echo"))
    assert pool.stop() == []
    assert pool.stop() == []


def test_nothing_is_told_before_somebody_listens() -> None:
    heard = Heard()
    pool = WorkerPool(PoolSettings("pool_handlers:Echo", size=2))
    try:
        pool.launch()
        assert pool.workers() == {}
        pool.listen(heard)
        pool.wait_ready(HANG)
        assert [event[0] for event in heard.all].count("ready") == 2
    finally:
        assert pool.stop() == []


def test_launched_pool_that_nobody_listened_to_stops() -> None:
    pool = WorkerPool(PoolSettings("pool_handlers:Echo", size=2))
    pool.launch()
    assert pool.stop(2.0) == []


@pytest.mark.parametrize(
    ("handler", "settings", "words"),
    [
        ("fails", b"", "exited with status 70 before it was ready"),
        ("exits", b"0", "exited with status 0 before it was ready"),
        ("exits", b"41", "exited with status 41 before it was ready"),
        ("killed", b"9", "killed by SIGKILL before it was ready"),
        ("killed", b"15", "killed by SIGTERM before it was ready"),
        ("killed", b"40", "killed by signal 40 before it was ready"),
        ("missing", b"", "exited with status 70 before it was ready"),
    ],
)
def test_worker_that_ends_before_it_is_ready(
    handler: str, settings: bytes, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WorkerStartError, match=words), pool_of(handler, settings=settings):
        pass
    if handler == "fails":
        assert capfd.readouterr().err.count("LookupError: no handler today") == 3


def test_worker_that_is_never_ready() -> None:
    heard = Heard()
    pool = WorkerPool(PoolSettings("pool_handlers:hangs", size=2), heard)
    with pytest.raises(WorkerStartError, match=r"not ready after 0\.5 s"):
        pool.start(0.5)
    assert pool.workers() == {}
    assert heard.all == []


def test_start_of_a_pool_that_is_stopped_meanwhile() -> None:
    pool = WorkerPool(PoolSettings("pool_handlers:hangs"))
    pool.launch()
    threading.Timer(0.05, pool.stop).start()
    with pytest.raises(WorkerStartError, match="stopped"):
        pool.wait_ready(HANG)
    assert pool.stop() == []


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (("exit", 0), "exited with status 0"),
        (("exit", 3), "exited with status 3"),
        (("signal", signal.SIGKILL), "killed by SIGKILL"),
        (("signal", signal.SIGABRT), "killed by SIGABRT"),
        (("signal", 50), "killed by signal 50"),
        (("crash",), "killed by SIGSEGV"),
        (("fail",), "exited with status 70"),
    ],
)
def test_end_of_a_worker_in_words(order: tuple[Any, ...], words: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pool_of() as (pool, heard):
        pid = pool.workers()[1]
        assert pool.send(1, said(*order))
        assert heard.wait("lost")[:3] == (1, pid, words)
        assert heard.wait("ready", 2)[0] == 2  # a new number for a new process
        assert pool.send(2, said("echo", "again"))
        assert heard.wait("echo")[1] == "again"
        assert not pool.send(1, said("echo", "late"))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 66, 130, 500])
def test_frames_of_a_dying_worker_come_before_its_end(count: int) -> None:
    with pool_of() as (pool, heard):
        pool.send(1, said("last_words", count))
        heard.wait("lost")
        kinds = [event[0] for event in heard.all]
        assert [event[2] for event in heard.of("word")] == list(range(count))
        assert kinds.index("lost") > max(at for at, kind in enumerate(kinds) if kind == "word")


def test_frames_of_a_worker_that_leaves_others_unread() -> None:
    """The kernel reports that as a reset, once, before what the worker has sent."""
    with pool_of() as (pool, heard):
        pool.send(1, said("last_words", 100))
        for number in range(20):
            pool.send(1, said("echo", number))
        heard.wait("lost")
        assert [event[2] for event in heard.of("word")] == list(range(100))


@pytest.mark.parametrize("last", ["exit", "signal", "fail"])
def test_a_frame_that_ends_its_worker_counts_as_taken_and_those_behind_it_do_not(
    last: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pool_of() as (pool, heard):
        frames = [said("echo", 1), said("echo", 2), said(last, *{"exit": [0], "signal": [9], "fail": []}[last])]
        numbers = [pool.send(1, frame) for frame in [*frames, *[said("echo", 3)] * 20]]
        # Some of the last ones may find it gone.
        assert [number for number in numbers if number] == list(range(1, len(numbers) - numbers.count(0) + 1))
        assert heard.wait("lost")[3] == 3
        assert pool.send(1, said("echo", "late")) == 0
        heard.wait("ready", 2)
        assert pool.send(2, said("echo", "anew")) == 1
        heard.wait("echo", 3)
    assert heard.wait("lost", 2)[3] == 1  # at the stop too


def test_frames_that_a_stopped_worker_did_not_take_do_not_count() -> None:
    """Neither what its socket holds when it is killed, nor what waits for the socket here."""
    with pool_of(heartbeat_limit=60.0) as (pool, heard):
        pid = pool.workers()[1]
        for number in range(1, 8):
            assert pool.send(1, said("echo", number)) == number
        heard.wait("echo", 7)
        os.kill(pid, signal.SIGSTOP)
        assert until(lambda: state_of(pid) == "T")
        number = 7
        while not pool._keeper.workers[1].backlog:
            number += 1
            assert pool.send(1, said("echo", bytes(1000))) == number
        assert pool.send(1, said("echo", "behind it")) == number + 1
        os.kill(pid, signal.SIGKILL)
        assert heard.wait("lost")[3] == 7


def test_silent_worker_is_killed_and_replaced() -> None:
    with pool_of(size=2, heartbeat=0.1, heartbeat_limit=2.0) as (pool, heard):
        pid = pool.workers()[1]
        os.kill(pid, signal.SIGSTOP)
        worker, lost, words = heard.wait("lost")[:3]
        assert (worker, lost) == (1, pid)
        assert words.startswith("silent for ")
        assert words.endswith("killed by SIGKILL")
        assert heard.wait("ready", 3)[0] == 3
        assert pid_is_gone(pid)


def test_worker_that_holds_the_gil_is_killed_and_replaced() -> None:
    with pool_of(heartbeat=0.1, heartbeat_limit=1.0) as (pool, heard):
        pool.send(1, said("hold"))
        assert heard.wait("lost")[2].startswith("silent for ")
        assert heard.wait("ready", 2)[0] == 2


def test_helpers_of_a_worker_go_with_it() -> None:
    with pool_of() as (pool, heard):
        pool.send(1, said("helper"))
        first = heard.wait("helper")[1]
        os.kill(pool.workers()[1], signal.SIGKILL)
        heard.wait("ready", 2)
        pool.send(2, said("helper"))
        second = heard.wait("helper", 2)[1]
        assert not pid_is_gone(second)
    # They are not our children: who reaps them may take its time.
    assert until(lambda: pid_is_gone(first) and pid_is_gone(second))


def test_all_workers_killed_at_once_are_replaced_at_once() -> None:
    with pool_of(size=4) as (pool, heard):
        pids = list(pool.workers().values())
        began = monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        heard.wait("ready", 8)
        assert monotonic() - began < 10
        assert len(heard.of("lost")) == 4
        assert len(pool.workers()) == 4


def test_no_more_than_two_replacements_start_at_once() -> None:
    with pool_of(size=6) as (pool, heard):
        seen: list[int] = []
        for pid in pool.workers().values():
            os.kill(pid, signal.SIGKILL)

        def replaced() -> bool:
            seen.append(sum(status.state == "starting" for status in pool.status()))
            return len(heard.of("ready")) >= 12

        assert until(replaced)
        # Those whose death is still to be noticed count as ready.
        assert max(seen) <= 2


def test_losses_in_a_row_are_spaced_out() -> None:
    heard = Heard()
    with pool_of("dies_when_ready", heard=heard, restart_base=0.2, restart_cap=0.4):
        heard.wait("lost", 5)
    lost = [event[-1] for event in heard.of("lost")][:5]
    ready = [event[-1] for event in heard.of("ready")][1:5]
    delays = [after - before for before, after in zip(lost, ready, strict=False)]
    # At once, then 0.2, 0.4, 0.4: at their shortest 4/5 of it, plus the start itself.
    assert delays[1] >= 0.16
    assert delays[2] >= 0.32
    assert delays[3] >= 0.32
    assert len(ready) == 4


def test_pool_without_a_ready_worker_says_so_once_a_period(tmp_path: Path) -> None:
    once = os.fsencode(tmp_path / "once")
    with pool_of("second_time_unlucky", settings=once, ready_limit=1.5, restart_base=0.05) as (pool, heard):
        os.kill(pool.workers()[1], signal.SIGKILL)
        text = heard.wait("exhausted")[0]
        assert "no worker ready for 1.5 s" in text
        assert "exited with status 5" in text
        first, second = heard.wait("exhausted", 1)[-1], heard.wait("exhausted", 2)[-1]
        assert second - first > 1.0


def test_worker_that_talks_without_end_does_not_keep_others_from_being_heard() -> None:
    with pool_of(size=2) as (pool, heard):
        pool.send(1, said("flood"))
        heard.wait("flooding")
        for number in range(20):
            pool.send(2, said("echo", number))
        heard.wait("echo", 20)
        assert heard.of("lost") == []


def test_talking_worker_says_nothing_to_stderr_at_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    with pool_of(size=2) as (pool, heard):
        for worker in pool.workers():
            pool.send(worker, said("flood"))
        heard.wait("flooding", 2)
    assert capfd.readouterr().err == ""


def test_descriptors_that_waited_arrive_in_order_and_open(tmp_path: Path) -> None:
    """More than a stopped worker's socket takes, each with a descriptor that its sender closes at once."""
    count = 400
    with pool_of(heartbeat_limit=60.0) as (pool, heard):
        pid = pool.workers()[1]
        os.kill(pid, signal.SIGSTOP)
        for number in range(count):
            fd = os.memfd_create("test")
            os.write(fd, str(number).encode())
            assert pool.send(1, said("echo", number), (fd,))
            os.close(fd)
        assert pool._keeper.workers[1].backlog
        os.kill(pid, signal.SIGCONT)
        heard.wait("echo", count)
        assert [event[2:4] for event in heard.of("echo")] == [(n, str(n).encode()) for n in range(count)]
        assert not pool._keeper.workers[1]._outbox
        pool.send(1, said("descriptors"))
        before = heard.wait("descriptors")[1]
        pool.send(1, said("echo", 0))
        pool.send(1, said("descriptors"))
        assert heard.wait("descriptors", 2)[1] == before < 20


def test_descriptors_that_wait_for_a_killed_worker_are_closed() -> None:
    with pool_of(heartbeat_limit=60.0) as (pool, heard):
        os.kill(pool.workers()[1], signal.SIGSTOP)
        fd = os.memfd_create("test")
        while not pool._keeper.workers[1].backlog:
            pool.send(1, said("echo", 0), (fd, fd, fd))
        os.close(fd)
        os.kill(pool.workers()[1], signal.SIGKILL)
        heard.wait("lost")


def test_pool_is_started_once() -> None:
    with pool_of() as (pool, heard):
        with pytest.raises(RuntimeError, match="started before"):
            pool.launch()
        pool.send(1, said("echo", "still there"))
        assert heard.wait("echo")[1] == "still there"
    with pytest.raises(RuntimeError, match="started before"):
        pool.launch()
