"""WorkerCalls: workers that die under a call or overrun its deadline, stops, and forks of the host."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import pykka
import pytest
from call_kit import error, result
from pool_kit import HANG, pid_is_gone, until

from actors.actor.calls import NoWorkerError, WorkerCalls
from actors.actor.errors import ActorGoneError, PoisonRequest, WorkerLostError, WorkerTimeoutError
from actors.clock import monotonic
from actors.errors import WorkerStartError


def test_call_whose_worker_dies_fails_and_the_others_go_on(fifo: Path, tmp_path: Path) -> None:
    with WorkerCalls(2) as calls:
        before = calls.workers()
        doomed = calls.call("call_functions:begin_and_wait", str(tmp_path / "a"), str(fifo))
        assert until(lambda: (tmp_path / "a").exists() and (tmp_path / "a").read_text())
        pid = int((tmp_path / "a").read_text())
        other = calls.call("call_functions:echo", "other")
        os.kill(pid, signal.SIGKILL)
        raised = error(doomed)
        assert isinstance(raised, WorkerLostError)
        assert (raised.pid, raised.words, raised.temporary) == (pid, "killed by SIGKILL", True)
        assert result(other) == ["other"]
        assert until(lambda: len(calls.workers()) == 2)
        assert len(set(before.values()) & set(calls.workers().values())) == 1


def test_call_is_carried_out_at_most_once_by_default(tmp_path: Path) -> None:
    with WorkerCalls(1) as calls:
        path = str(tmp_path / "once")
        assert isinstance(error(calls.call("call_functions:leave_once", path)), WorkerLostError)
        assert result(calls.call("call_functions:leave_once", path)) == "alive"


def test_idempotent_call_is_carried_out_again(tmp_path: Path) -> None:
    with WorkerCalls(1) as calls:
        assert result(calls.call("call_functions:leave_once", str(tmp_path / "o"), idempotent=True)) == "alive"


def test_call_that_takes_two_workers_is_refused_from_then_on() -> None:
    with WorkerCalls(1) as calls:
        first = error(calls.call("call_functions:leave", 7, idempotent=True))
        assert isinstance(first, PoisonRequest)
        assert str(first) == "call_functions:leave took 2 workers with it, the last: exited with status 7"
        refused = error(calls.call("call_functions:leave", 7))
        assert isinstance(refused, PoisonRequest)
        assert "was refused" in str(refused)
        # Another function or another argument is another matter.
        assert result(calls.call("call_functions:echo", 7)) == [7]
        assert isinstance(error(calls.call("call_functions:leave", 8)), WorkerLostError)
        assert result(calls.call("call_functions:echo", 8)) == [8]
        assert until(lambda: calls.workers())
        assert next(iter(calls.workers())) == 4  # three were lost


def test_success_clears_the_suspicion(tmp_path: Path) -> None:
    with WorkerCalls(1) as calls:
        path = tmp_path / "once"
        for _ in range(3):
            assert isinstance(error(calls.call("call_functions:leave_once", str(path))), WorkerLostError)
            assert result(calls.call("call_functions:leave_once", str(path))) == "alive"
            path.unlink()


def test_what_comes_after_the_deadline_is_nobodys(fifo: Path) -> None:
    """An answer that crosses the order to kill must not make the worker free: who got it then would die with it."""
    with WorkerCalls(1) as calls:
        future = calls.call("call_functions:wait_for", str(fifo))
        assert until(lambda: calls._running)
        calls._pool.kill = lambda worker, cause: None  # type: ignore[method-assign]
        calls._expire(1)
        assert isinstance(error(future), WorkerTimeoutError)
        fifo.write_text("too late")
        assert until(lambda: calls.status()[0].busy == 0 and calls.status()[0].frames == 1)
        assert not calls._free
        assert not calls._running


def test_overrun_ends_the_call_and_its_worker(fifo: Path) -> None:
    with WorkerCalls(1) as calls:
        pid = calls.workers()[1]
        future = calls.call("call_functions:wait_for", str(fifo), deadline=0.2)
        raised = error(future)
        assert isinstance(raised, WorkerTimeoutError)
        assert not isinstance(raised, NoWorkerError)
        assert (raised.pid, raised.seconds) == (pid, 0.2)
        assert until(lambda: pid_is_gone(pid))
        # It was ended for it, so the same call is not taken for poison.
        for _ in range(2):
            assert isinstance(error(calls.call("call_functions:wait_for", str(fifo), deadline=0.2)), WorkerTimeoutError)
        assert result(calls.call("call_functions:echo", 1)) == [1]


def test_call_that_never_began_says_so(fifo: Path) -> None:
    with WorkerCalls(1) as calls:
        held = calls.call("call_functions:wait_for", str(fifo))
        raised = error(calls.call("call_functions:echo", 1, deadline=0.1))
        assert isinstance(raised, NoWorkerError)
        assert str(raised) == "no worker was free within 0.1 s"
        fifo.write_text("on")
        assert result(held) == "on"
        assert result(calls.call("call_functions:echo", 2)) == [2]


def test_deadline_that_passed_while_the_host_was_stopped_is_granted_once_more() -> None:
    """The clock jumps past the deadline, as it does when the host was stopped; the answer is there already."""
    jump = [0.0]
    calls = WorkerCalls(1, clock=lambda: monotonic() + jump[0])
    expired: list[int] = []
    expire: Callable[[int], None] = calls._expire
    calls._expire = lambda number: (expired.append(number), expire(number))[0]  # type: ignore[assignment,func-returns-value]
    with calls:
        pid = calls.workers()[1]
        os.kill(pid, signal.SIGSTOP)
        future = calls.call("call_functions:echo", "late", deadline=5.0)
        jump[0] = 100.0
        # Wakes the timers, which sleep by the wall.
        calls._timers.soon(lambda: None)
        assert until(lambda: expired)
        os.kill(pid, signal.SIGCONT)
        assert result(future) == ["late"]
        assert calls.workers() == {1: pid}


def test_calls_before_the_start_wait_for_it_and_after_the_end_are_refused() -> None:
    calls = WorkerCalls(1)
    early = calls.call("call_functions:echo", "early")
    with calls:
        assert result(early) == ["early"]
    assert type(error(calls.call("call_functions:echo", 1))) is ActorGoneError
    assert calls.stop() == []
    assert WorkerCalls(1).stop() == []


def test_stop_ends_what_runs_and_what_waits(fifo: Path) -> None:
    with WorkerCalls(1) as calls:
        futures = [calls.call("call_functions:wait_for", str(fifo)) for _ in range(3)]
    assert [type(error(future)) for future in futures] == [ActorGoneError] * 3


def test_start_that_fails_leaves_nothing() -> None:
    with pytest.raises(WorkerStartError, match="worker_python"):
        WorkerCalls(1, python="/nowhere/python").start()


def test_workers_that_have_served_are_recycled_without_a_lost_call() -> None:
    with WorkerCalls(2, recycle_frames=10, heartbeat=0.02) as calls:
        for number in range(200):
            assert result(calls.call("call_functions:echo", number)) == [number]
        assert until(lambda: min(calls.workers(), default=0) > 2)


def in_a_fork(what: Callable[[], object]) -> str:
    """What it returns there, as text."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 and later warn of what is tried here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.write(write, repr(what()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


def test_child_of_a_fork_gets_an_error_at_once_and_disturbs_nothing() -> None:
    with WorkerCalls(1) as calls:
        before = calls.workers()

        def use() -> object:
            try:
                return calls.call("call_functions:echo", 1).get(timeout=HANG)
            except pykka.ActorDeadError as dead:
                return str(dead), calls.workers(), calls.status(), calls._pool.send(1, b"x"), calls.stop()

        # As a thread that another held at the fork would leave them.
        with calls._lock, calls._pool._keeper.guard:
            said = in_a_fork(use)
        assert said == "('the worker calls belong to the process that was forked', {}, (), 0, [])"
        assert result(calls.call("call_functions:echo", 2)) == [2]
        assert calls.workers() == before


def test_calls_made_before_a_fork_can_be_started_in_the_child() -> None:
    calls = WorkerCalls(1)

    def use() -> object:
        with calls:
            return calls.call("call_functions:echo", 1).get(timeout=HANG)

    assert in_a_fork(use) == "[1]"
    with calls:
        assert result(calls.call("call_functions:echo", 2)) == [2]
