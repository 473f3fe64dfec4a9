"""Workers that come and go by our own wish: enlisted, discharged, recycled, killed."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from pool_handlers import said
from pool_kit import HANG, Heard, pid_is_gone, pool_of, until

from actors.actor.pool import PoolSettings, WorkerPool
from actors.messages.codec import Codec
from actors.messages.control import CONTROL, Heartbeat

QUICK = {"heartbeat": 0.05}


def kinds(heard: Heard, worker: int) -> list[str]:
    return [
        event[0] for event in heard.all if event[0] in ("enlisted", "ready", "retiring", "lost") and event[1] == worker
    ]


def states(pool: WorkerPool) -> dict[int, str]:
    return {status.worker: status.state for status in pool.status()}


# --- One more than the size


def test_enlisted_worker_is_announced_and_works() -> None:
    with pool_of(size=1) as (pool, heard):
        pool.enlist()
        heard.wait("ready", 2)
        assert [event[:2] for event in heard.all if event[0] in ("enlisted", "ready")] == [
            ("ready", 1),
            ("enlisted", 2),
            ("ready", 2),
        ]
        assert sorted(pool.workers()) == [1, 2]
        assert pool.send(2, said("echo", "here"))
        assert heard.wait("echo")[:2] == (2, "here")
    assert kinds(heard, 2) == ["enlisted", "ready", "lost"]


def test_enlisted_worker_that_dies_is_not_replaced_and_another_can_be_enlisted() -> None:
    with pool_of(size=1, **QUICK) as (pool, heard):
        pool.enlist()
        pid = heard.wait("ready", 2)[1]
        os.kill(pid, signal.SIGKILL)
        assert heard.wait("lost")[:3] == (2, pid, "killed by SIGKILL")
        pool.enlist()
        assert heard.wait("ready", 3)[0] == 3
        assert heard.wait("enlisted", 2)[0] == 3
        # Whoever replaced the second would have been started before the third.
        assert states(pool) == {1: "ready", 3: "ready"}


def test_ordinary_worker_that_dies_while_one_is_enlisted_is_replaced() -> None:
    with pool_of(size=1) as (pool, heard):
        pool.enlist()
        heard.wait("ready", 2)
        os.kill(pool.workers()[1], signal.SIGKILL)
        assert heard.wait("ready", 3)[0] == 3
        assert len(heard.of("enlisted")) == 1


def test_enlisted_worker_whose_start_fails_is_tried_again(tmp_path: Any) -> None:
    once = os.fsencode(tmp_path / "once")
    with pool_of("second_time_unlucky", settings=once, restart_base=0.01) as (pool, heard):
        pool.enlist()
        assert until(lambda: any(status.losses >= 2 for status in pool.status()))
        Path(os.fsdecode(once)).unlink()
        heard.wait("enlisted")
        assert len(heard.wait("ready", 2)) == 3
        assert heard.of("lost") == []


def test_discharged_worker_leaves_when_it_has_nothing_to_do() -> None:
    with pool_of("Works", size=1, **QUICK) as (pool, heard):
        pool.enlist()
        pid = heard.wait("ready", 2)[1]
        pool.send(2, said("work"))
        heard.wait("working")
        pool.discharge(2)
        assert heard.wait("retiring")[0] == 2
        assert states(pool)[2] == "retiring"
        # What belongs to its work still reaches it.
        assert pool.send(2, said("done", "all of it"))
        assert heard.wait("done")[1] == "all of it"
        assert heard.wait("lost")[:3] == (2, pid, "discharged, exited with status 0")
        assert kinds(heard, 2) == ["enlisted", "ready", "retiring", "lost"]
        assert pid_is_gone(pid)
        assert sorted(pool.workers()) == [1]


def test_discharge_of_others_changes_nothing() -> None:
    with pool_of(size=1, **QUICK) as (pool, heard):
        for worker in (1, 2, 99):
            pool.discharge(worker)
        pool.enlist()
        heard.wait("ready", 2)
        pool.discharge(2)
        pool.discharge(2)
        heard.wait("lost")
        assert [event[1] for event in heard.of("retiring")] == [2]


def test_frame_that_was_taken_is_handled_however_a_discharge_falls() -> None:
    """A thread sends while the worker is sent away: a frame is refused, or answered; it is never lost."""
    taken: list[int] = []
    with pool_of("Works", size=1, heartbeat=0.01) as (pool, heard):
        for round_ in range(5):
            pool.enlist()
            worker = heard.wait("enlisted", round_ + 1)[0]
            heard.wait("ready", round_ + 2)
            pool.discharge(worker)
            number = 0
            while pool.send(worker, said("echo", [round_, number])):
                taken.append(number)
                number += 1
                threading.Event().wait(0.0005)
            heard.wait("lost", round_ + 1)
            assert [event[2][1] for event in heard.of("echo") if event[1] == worker] == list(range(number))
    assert taken


def test_heartbeat_older_than_the_last_frame_does_not_send_the_worker_away() -> None:
    """It says that nothing is being done; what was sent since then is not known to it."""
    with pool_of("Works", size=1, heartbeat=0.05, heartbeat_limit=60.0) as (pool, heard):
        pool.enlist()
        pid = heard.wait("ready", 2)[1]
        os.kill(pid, signal.SIGSTOP)
        pool.discharge(2)
        heard.wait("retiring")
        process = pool._keeper.workers[2]
        assert pool.send(2, said("work"))
        stale = Codec(CONTROL).encode(Heartbeat(0, process.frames - 1, 0))
        taken = threading.Event()
        pool._keeper.order(lambda: (pool._keeper._take(process, stale), taken.set()))
        assert taken.wait(HANG)
        os.kill(pid, signal.SIGCONT)
        assert heard.wait("working")[0] == 2
        assert pool.send(2, said("done", "not lost"))
        assert heard.wait("done")[1] == "not lost"
        assert heard.wait("lost")[2] == "discharged, exited with status 0"


# --- Recycled


def test_worker_that_has_taken_its_frames_is_replaced_without_a_gap() -> None:
    with pool_of("Works", size=1, recycle_frames=5, **QUICK) as (pool, heard):
        first = pool.workers()[1]
        pool.send(1, said("work"))
        heard.wait("working")
        for number in range(4):
            pool.send(1, said("echo", number))
        assert heard.wait("ready", 2)[0] == 2
        assert heard.wait("retiring")[0] == 1
        assert states(pool) == {1: "retiring", 2: "ready"}
        assert pool.send(1, said("done", "late"))
        assert heard.wait("lost")[:3] == (1, first, "retired (5 frames taken), exited with status 0")
        assert heard.wait("done")[:2] == (1, "late")
        order = [event[:2] for event in heard.all if event[0] in ("ready", "retiring", "lost")]
        assert order[:4] == [("ready", 1), ("ready", 2), ("retiring", 1), ("lost", 1)]
        assert pool.status()[0].losses == 0


def test_workers_are_recycled_one_at_a_time() -> None:
    with pool_of("Works", size=3, recycle_age=0.3, **QUICK) as (_, heard):
        heard.wait("lost", 6)
    running, most = set(), 0
    for kind, worker, *_ in heard.all:
        if kind == "ready":
            running.add(worker)
        elif kind == "lost":
            running.discard(worker)
        most = max(most, len(running))
    assert most == 4
    reasons = [event[3] for event in heard.of("lost")[:6]]
    assert all(words.startswith("retired (") and " s old), exited" in words for words in reasons), reasons


def test_worker_that_has_grown_is_replaced() -> None:
    with pool_of("Works", size=1, recycle_growth=20_000_000, **QUICK) as (pool, heard):
        assert until(lambda: pool.status()[0].memory > 1_000_000)
        pool.send(1, said("grow", 30_000_000))
        assert heard.wait("lost")[2].startswith("retired (grown by ")
        assert sorted(pool.workers()) == [2]


def test_worker_that_stays_busy_is_sent_away_at_the_limit() -> None:
    with pool_of("Works", size=1, recycle_frames=1, retire_limit=0.3, **QUICK) as (pool, heard):
        pool.send(1, said("work"))
        words = heard.wait("lost")[2]
        assert words == "retired (1 frames taken), still busy after 0.3 s, exited with status 0"
        assert heard.wait("ready", 2)[0] == 2


def test_worker_that_dies_while_its_successor_starts_is_lost_once_and_has_one_successor() -> None:
    with pool_of("Works", size=1, recycle_frames=1, **QUICK) as (pool, heard):
        pid = pool.workers()[1]
        pool.send(1, said("work"))
        assert until(lambda: len(pool.status()) == 2)
        os.kill(pid, signal.SIGKILL)
        heard.wait("lost")
        assert heard.wait("ready", 2)[0] == 2
        assert states(pool) == {2: "ready"}
        assert heard.of("retiring") == []


def test_nobody_is_recycled_by_default() -> None:
    settings = PoolSettings("pool_handlers:Echo")
    assert (settings.recycle_frames, settings.recycle_age, settings.recycle_growth) == (None, None, None)


# --- Killed by wish


def test_killed_worker_is_lost_with_the_cause_and_replaced() -> None:
    with pool_of(size=2) as (pool, heard):
        pid = pool.workers()[1]
        pool.kill(1, "overran its time")
        assert heard.wait("lost")[:3] == (1, pid, "overran its time, killed by SIGKILL")
        assert heard.wait("ready", 3)[0] == 3
        pool.kill(1, "again")
        pool.kill(77, "nobody")
        pool.kill(2, "the other")
        assert heard.wait("lost", 2)[0] == 2


def test_workers_that_die_of_the_same_accident_are_named_before_any_is_lost() -> None:
    with pool_of(size=3) as (pool, heard):
        pids = pool.workers()
        held, go_on = threading.Event(), threading.Event()
        # Whoever looks after them looks again when both are dead.
        pool._keeper.order(lambda: (held.set(), go_on.wait(HANG)))
        assert held.wait(HANG)
        for worker in (1, 3):
            os.kill(pids[worker], signal.SIGKILL)
        assert until(lambda: all(pid_is_gone(pids[worker]) for worker in (1, 3)))
        go_on.set()
        heard.wait("lost", 2)
        order = [event[0] for event in heard.all if event[0] in ("together", "lost")]
        assert order == ["together", "lost", "lost"]
        assert sorted(heard.of("together")[0][1]) == [1, 3]
        os.kill(pids[2], signal.SIGKILL)
        heard.wait("lost", 3)
        assert len(heard.of("together")) == 1


# --- Settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("handler", "no_function"),
        ("handler", "module:"),
        ("size", 0),
        ("size", True),
        ("size", 1.5),
        ("heartbeat", 0),
        ("heartbeat_limit", -1.0),
        ("restart_base", float("nan")),
        ("restart_cap", "5"),
        ("ready_limit", None),
        ("recycle_frames", 0),
        ("recycle_age", -1),
        ("recycle_growth", float("inf")),
        ("retire_limit", 0),
    ],
)
def test_wrong_setting_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        PoolSettings(**{"handler": "module:function", name: value})


def test_pool_that_starts_late_still_enlists() -> None:
    heard = Heard()
    pool = WorkerPool(PoolSettings("pool_handlers:Echo", size=1), heard)
    pool.enlist()
    try:
        pool.start(HANG)
        heard.wait("enlisted")
        heard.wait("ready", 2)
    finally:
        assert pool.stop() == []
