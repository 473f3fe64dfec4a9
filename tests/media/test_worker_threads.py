"""The threads of a worker: every job runs at once and once, few threads do many short jobs, idle ones end."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from kithara_actors.worker.threads import ThreadPool

HANG = 30.0
NAME = "pool under test"


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def await_end() -> None:
    for thread in threads():
        thread.join(HANG)
    assert threads() == []


def test_jobs_that_block_run_all_at_once() -> None:
    together = threading.Barrier(65)
    pool = ThreadPool[int](lambda _: void(together.wait(HANG)), NAME, HANG)
    for _ in range(2):  # on new threads, then on those
        for job in range(64):
            pool.start(job)
        together.wait(HANG)
        await_idle(pool, 64)
    assert len(threads()) == 64
    end(pool)


def test_a_thread_that_a_job_counts_on_does_not_end() -> None:
    pool = ThreadPool[int](void, NAME, 0.0)
    own = threading.Lock()
    own.acquire()
    pool._idle.append(own)
    pool._jobs.append(1)
    assert pool._sleep(own)
    assert (pool._idle, pool._waking) == ([], 1)
    pool._idle.append(own)
    pool._jobs.clear()
    assert not pool._sleep(own)
    assert (pool._idle, pool._waking) == ([], 1)


def test_jobs_one_after_the_other_are_done_by_one_thread() -> None:
    done: list[int] = []
    came = threading.Semaphore(0)

    def run(job: int) -> None:
        done.append(threading.get_ident())
        came.release()

    pool = ThreadPool[int](run, NAME, HANG)
    pool.start(0)
    assert came.acquire(timeout=HANG)
    for job in range(1, 200):
        await_idle(pool, 1)
        pool.start(job)
        assert came.acquire(timeout=HANG)
    assert len(set(done)) == 1
    await_idle(pool, 1)
    end(pool)


def test_the_last_to_sleep_is_the_first_to_wake() -> None:
    gates = [threading.Event() for _ in range(3)]
    ran: dict[int, int] = {}
    begun = threading.Semaphore(0)

    def run(job: int) -> None:
        ran[job] = threading.get_ident()
        begun.release()
        if job < 3:
            gates[job].wait(HANG)

    pool = ThreadPool[int](run, NAME, HANG)
    for job in range(3):
        pool.start(job)
    for _ in range(3):
        assert begun.acquire(timeout=HANG)
    for asleep, job in enumerate((1, 2, 0), 1):
        gates[job].set()
        await_idle(pool, asleep)
    pool.start(3)
    assert begun.acquire(timeout=HANG)
    assert ran[3] == ran[0]
    await_idle(pool, 3)
    end(pool)


def test_no_job_is_lost_or_done_twice_while_threads_come_and_go() -> None:
    """Threads end after next to no time, so that jobs meet them at every moment of that."""
    done: Counter[int] = Counter()
    lock = threading.Lock()
    left = threading.Semaphore(0)

    def run(job: int) -> None:
        with lock:
            done[job] += 1
        left.release()

    pool = ThreadPool[int](run, NAME, 0.00005)
    starters = [
        threading.Thread(target=lambda first=first: [pool.start(job) for job in range(first, 3000, 3)])
        for first in range(3)
    ]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join(HANG)
    for _ in range(3000):
        assert left.acquire(timeout=HANG), f"{3000 - len(done)} jobs were lost"
    assert set(done.values()) == {1}
    await_end()


def test_a_job_that_no_thread_can_be_had_for_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    came = threading.Event()

    def run(job: int) -> None:
        ran.append(job)
        came.set()

    pool = ThreadPool[int](run, NAME, 0.01)

    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", full)
        with pytest.raises(RuntimeError, match="new thread"):
            pool.start(1)
    pool.start(2)
    assert came.wait(HANG)
    await_end()
    assert ran == [2]


def void(_: object) -> None:
    pass


def await_idle(pool: ThreadPool[int], count: int) -> None:
    pause = threading.Event()
    for _ in range(int(HANG / 0.001)):
        if len(pool._idle) == count:
            return
        pause.wait(0.001)
    raise AssertionError(f"not {count} threads sleep")


def end(pool: ThreadPool[int]) -> None:
    """Have the idle threads end now."""
    pool._idle_for = 0.0
    for woken in pool._idle[:]:
        pool._idle.remove(woken)
        pool._waking += 1
        woken.release()
    await_end()
