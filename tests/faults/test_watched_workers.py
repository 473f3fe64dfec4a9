"""F2, F8, F19 and F25: workers that stop or hang, that outlive who asked for them, and whose end is hard to see."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pykka
import pytest
from host_kit import state_of, until
from pool_handlers import said
from pool_kit import HANG, Heard, pid_is_gone, pool_of
from stream_kit import Call, watching

from actors.actor.calls import WorkerCalls
from actors.actor.errors import WorkerTimeoutError
from actors.actor.pool import PoolSettings, WorkerPool
from actors.actor.process import WorkerProcess
from actors.clock import monotonic
from kithara_actors import ActorSystem
from kithara_actors.events import WorkerLost
from kithara_actors.testing.origin import Fault, Origin, Resource, body

MIB = 1024 * 1024

# --- F2


def test_f02_stopped_worker_is_killed_and_its_transfers_go_on() -> None:
    with Origin() as origin, ActorSystem.start(workers=2, heartbeat=0.1, heartbeat_limit=3.0) as system:
        # None can be complete before its worker is stopped.
        stalls = [Fault(stall_after=100_000)]
        urls = [origin.add(f"/{number}", Resource(MIB, seed=number, script=stalls)) for number in range(4)]
        streams = [system.open(url) for url in urls]
        for number, stream in enumerate(streams):
            assert stream.read(1000) == body(number, 0, 1000)
        with watching(system) as watch:
            pids = list(system.workers().values())
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            calls = [Call(stream.read) for stream in streams]
            for number, call in enumerate(calls):
                assert call.result() == body(number, 1000, MIB)
            watch.until(lambda _: len(watch.of(WorkerLost)) >= 2)
            reasons = [event.reason for event in watch.of(WorkerLost)]
        assert len(reasons) == 2
        assert all(words.startswith("silent for ") and words.endswith("SIGKILL") for words in reasons)
        assert all(state_of(pid) == "" for pid in pids)
        for stream in streams:
            stream.close()


# --- F8


def test_f08_call_that_holds_the_gil_ends_at_its_deadline() -> None:
    with WorkerCalls(1, heartbeat_limit=60.0) as calls:
        pid = calls.workers()[1]
        future = calls.call("call_functions:hold", 600, deadline=0.5)
        began = monotonic()
        with pytest.raises(WorkerTimeoutError) as caught:
            future.get(timeout=HANG)
        assert monotonic() - began < 6.0
        assert caught.value.pid == pid
        assert until(lambda: pid_is_gone(pid))
        assert calls.call("call_functions:echo", 1).get(timeout=HANG) == [1]


# --- F19


class Starter(pykka.ThreadingActor):
    """Starts a pool, or has one start another worker, on its own thread."""

    def begin(self, pool: WorkerPool) -> None:
        pool.start(HANG)

    def enlist(self, pool: WorkerPool) -> None:
        pool.enlist()


@pytest.mark.parametrize("how", ["begin", "enlist"])
def test_f19_worker_outlives_the_actor_that_had_it_started(how: str) -> None:
    """The parent-death signal is tied to the thread that starts a process, and an actor's thread ends with it."""
    heard = Heard()
    pool = WorkerPool(PoolSettings("pool_handlers:Echo", size=1, heartbeat=0.05), heard)
    try:
        if how == "enlist":
            pool.start(HANG)
        actor = Starter.start()
        getattr(actor.proxy(), how)(pool).get(timeout=HANG)
        heard.wait("ready", 1 if how == "begin" else 2)
        before = pool.workers()
        actor.stop(timeout=HANG)
        assert until(lambda: not any(thread.name.startswith("Starter") for thread in threading.enumerate()))
        # Time enough for a signal: each worker takes several frames after the actor's end.
        for number in range(20):
            for worker in before:
                assert pool.send(worker, said("echo", number))
            heard.wait("echo", (number + 1) * len(before))
        assert pool.workers() == before
        assert heard.of("lost") == []
    finally:
        assert pool.stop() == []


# --- F24


@pytest.mark.parametrize("hours", [-1, 1])
def test_f24_jump_of_the_wall_clock_is_not_seen(hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every limit is on a clock that cannot be set."""
    wall = time.time
    with WorkerCalls(2, heartbeat=0.05, heartbeat_limit=20.0) as calls:
        before = calls.workers()
        future = calls.call("time:sleep", 0.5, deadline=20.0)
        monkeypatch.setattr(time, "time", lambda: wall() + hours * 3600)
        assert future.get(timeout=HANG) is None
        assert calls.call("call_functions:echo", 1).get(timeout=HANG) == [1]
        assert calls.workers() == before


# --- F25


@contextmanager
def thief() -> Iterator[None]:
    """Another thread of the host that waits for any child."""
    over = threading.Event()

    def reap() -> None:
        while not over.is_set():
            with suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
            over.wait(0.001)

    thread = threading.Thread(target=reap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_f25_host_that_ignores_sigchld() -> None:
    with ignored(), pool_of() as (pool, heard):
        pid = pool.workers()[1]
        os.kill(pid, signal.SIGKILL)
        assert heard.wait("lost")[:3] == (1, pid, "ended with unknown status")
        heard.wait("ready", 2)


def test_f25_host_that_reaps_every_child() -> None:
    """Its thief gets the status; nobody else's process gets a signal."""
    with pool_of() as (pool, heard), thief():
        os.kill(pool.workers()[1], signal.SIGKILL)
        assert heard.wait("lost")[2] in ("ended with unknown status", "killed by SIGKILL")
        heard.wait("ready", 2)


def test_f25_unknown_end_of_a_call_is_no_success() -> None:
    with ignored(), WorkerCalls(1) as calls:
        with pytest.raises(Exception, match="ended with unknown status"):
            calls.call("call_functions:leave", 0).get(timeout=HANG)


class Stranger:
    """A process of somebody else, with a group of its own, that has a number of our choice. Needs root."""

    def __init__(self, pid: int) -> None:
        self.line, its = socket.socketpair()
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        with warnings.catch_warnings():
            # Python 3.12 and later warn of threads; this child needs none.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            self._live(its)
        its.close()
        if self.pid != pid:
            self.end()
            raise BlockingIOError("another process was faster")
        assert self.answers()  # in its group by now

    def _live(self, line: socket.socket) -> None:
        try:
            os.setpgid(0, 0)
            self.line.close()
            while line.recv(1):
                line.send(b"!")
        finally:
            os._exit(0)

    def answers(self) -> bool:
        """Whether no signal ended it: who has one pending does not come to its answer."""
        self.line.settimeout(HANG)
        with suppress(ConnectionError):
            self.line.send(b"?")
            return self.line.recv(1) == b"!"
        return False

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.line.close()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def dead_worker_and_stranger() -> tuple[WorkerProcess, Stranger]:
    """A worker that is gone unseen, and who has its number now."""
    for _ in range(100):
        process = WorkerProcess(1, sys.executable, 0.0)
        os.kill(process.pid, signal.SIGKILL)
        assert process.gone(HANG)
        assert until(lambda pid=process.pid: state_of(pid) == "")
        try:
            return process, Stranger(process.pid)
        except BlockingIOError:
            process.bury()
    raise AssertionError("another process was always faster")


@pytest.mark.root
@pytest.mark.parametrize("old_kernel", [False, True], ids=["by descriptor", "as before Linux 6.9"])
def test_f25_no_signal_reaches_who_has_the_number_now(old_kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if old_kernel:
        monkeypatch.setattr("actors.actor.process._PROCESS_GROUP", 1 << 30)  # EINVAL, as an unknown flag gives
    with ignored():
        process, stranger = dead_worker_and_stranger()
        try:
            for number in (signal.SIGTERM, signal.SIGKILL):
                process.signal(number)
            assert process.bury() == "ended with unknown status"
            assert stranger.answers()
        finally:
            stranger.end()


def test_f25_group_of_a_worker_that_the_host_reaped_goes_by_its_descriptor() -> None:
    """Its helpers are still there, and their group's number is safe to use while one of them lives."""
    with pool_of() as (pool, heard), thief():
        pool.send(1, said("helper"))
        helper = heard.wait("helper")[1]
        os.kill(pool.workers()[1], signal.SIGKILL)
        heard.wait("lost")
        assert until(lambda: pid_is_gone(helper))
