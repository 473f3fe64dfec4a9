"""F7: a request that ends its workers is found out and refused; what ran beside it does not suffer."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from host_kit import state_of, until
from stream_kit import HANG, Call, Watch, answered, asked, sent_in_all, watching

from actors.actor.pool import PoolSettings, WorkerPool
from actors.messages.codec import tag_of
from kithara_actors import ActorSystem, FetchCommand, InternalError, PoisonRequest, workers
from kithara_actors.events import (
    RequestEnqueued,
    RequestFailed,
    RequestRetrying,
    WorkerLost,
    WorkerStarted,
)
from kithara_actors.logic.suspicion import CLEARED_BY
from kithara_actors.messages.worker import RunAttempt
from kithara_actors.stream.reader import Stream
from kithara_actors.testing.origin import Fault, Origin, Resource, body

SIZE = 200_000
STALL = 20_000
"""Less than what clears a request."""


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as served:
        yield served


@pytest.fixture(autouse=True)
def _marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers die of the requests that say so."""

    def settings(**given: Any) -> PoolSettings:
        return PoolSettings(**{**given, "handler": "poison_handlers:make"})

    monkeypatch.setattr("kithara_actors.workers.PoolSettings", settings)


def deaths(watch: Watch) -> list[tuple[int, ...]]:
    """The requests of each worker that was lost, in order."""
    assert {lost.reason for lost in watch.of(WorkerLost)} <= {"killed by SIGKILL"}
    return [lost.requests for lost in watch.of(WorkerLost)]


def kill(system: ActorSystem) -> None:
    (pid,) = system.workers().values()
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["poison", "bane"])
def test_f07_a_request_that_ends_its_workers_loses_two_and_is_refused(origin: Origin, how: str) -> None:
    beside = origin.add("/beside.mp3", Resource(SIZE, seed=1, script=[Fault(stall_after=STALL)]))
    later = origin.add("/later.mp3", Resource(SIZE, seed=2))
    poison = origin.add(f"/bad.mp3?{how}", Resource(SIZE))
    with ActorSystem.start(workers=2, proxies={}) as system, watching(system) as watch:
        with system.open(beside) as held:
            assert held.read(STALL) == body(1, 0, STALL)
            workers = dict(system.workers())
            with system.open(poison) as stream:
                error = Call(stream.read).error()
                assert type(error) is PoisonRequest
                assert isinstance(error, InternalError)
                assert "ended 2 worker processes" in str(error)
                with pytest.raises(InternalError):
                    stream.read()
            with system.open(later) as other:
                assert other.read() == body(2, 0, SIZE)
            assert until(lambda: len(system.workers()) == 2)
            # Who was in the other worker has noticed nothing.
            assert len(workers.items() & system.workers().items()) == 1
            assert len(asked(origin, "/beside.mp3")) == 1
        watch.first(RequestFailed)
        watch.drain()
        enqueued = {event.request_id for event in watch.of(RequestEnqueued)}
        (failed,) = watch.of(RequestFailed)
        assert deaths(watch) == [(failed.request_id,)] * 2
        assert failed.error.kind == "PoisonRequest"
        assert [event.cause for event in watch.of(RequestRetrying)] == ["WORKER_LOST"]
        assert len(enqueued) == 3
        assert asked(origin, "/bad.mp3") == []


def test_f07_what_its_workers_had_not_looked_at_is_not_held_against_it(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was sent to three workers, and each is killed before it takes it: two losses of its own would be its end."""
    sent = threading.Semaphore(0)
    ready, send = workers.Listener.worker_ready, WorkerPool.send

    def stopping(listener: Any, worker: int, pid: int) -> None:
        if worker <= 3:
            os.kill(pid, signal.SIGSTOP)
            assert until(lambda: state_of(pid) == "T")
        ready(listener, worker, pid)

    def counted(pool: Any, worker: int, frame: bytes, fds: Any = ()) -> int:
        number = send(pool, worker, frame, fds)
        if tag_of(frame) == RunAttempt.TAG:
            sent.release()
        return number

    monkeypatch.setattr(workers.Listener, "worker_ready", stopping)
    monkeypatch.setattr(WorkerPool, "send", counted)
    url = origin.add("/a.mp3", Resource(SIZE, seed=1))
    with ActorSystem.start(workers=1, heartbeat_limit=60.0, proxies={}) as system, watching(system) as watch:
        with system.open(url) as stream:
            reading = Call(stream.read)
            for _ in range(3):
                assert sent.acquire(timeout=HANG)
                kill(system)
            assert reading.result() == body(1, 0, SIZE)
        watch.drain()
        (enqueued,) = watch.of(RequestEnqueued)
        assert deaths(watch) == [(enqueued.request_id,)] * 3
        assert [event.cause for event in watch.of(RequestRetrying)] == ["WORKER_LOST"] * 3
        assert len(asked(origin, "/a.mp3")) == 1


def test_f07_beside_others_it_is_told_from_them(origin: Origin) -> None:
    """It takes two workers with it that they share, at most, and two alone. All others arrive."""
    # None is complete before the first worker dies.
    stalls = [Fault(stall_after=STALL)]
    urls = [origin.add(f"/{seed}.mp3", Resource(SIZE, seed=seed, rate=400_000, script=stalls)) for seed in range(8)]
    poison = origin.add("/bad.mp3?poison", Resource(SIZE))
    with ActorSystem.start(workers=1, proxies={}) as system, watching(system) as watch:
        streams = [system.open(url) for url in urls]
        for seed, stream in enumerate(streams):
            assert stream.read_at(0, 1000) == body(seed, 0, 1000)
        calls = [Call(stream.read) for stream in streams]
        with system.open(poison) as bad:
            assert isinstance(Call(bad.read).error(), PoisonRequest)
        for seed, call in enumerate(calls):
            assert call.result() == body(seed, 0, SIZE)
        for stream in streams:
            stream.close()
        assert until(lambda: len(system.workers()) == 1)
        watch.first(RequestFailed)
        watch.drain()
        (failed,) = watch.of(RequestFailed)
        lost = deaths(watch)
        assert lost[-2:] == [(failed.request_id,)] * 2
        assert 3 <= len(lost) <= 4
        assert len(lost[0]) == 9


@pytest.mark.parametrize("kills", [1, 2])
def test_f07_fifty_transfers_that_share_killed_workers_all_complete(origin: Origin, kills: int) -> None:
    """Killed once they go on together; twice without progress in between, one by one."""
    faults = [Fault(stall_after=STALL)] * kills
    for seed in range(50):
        origin.add(f"/{seed}.mp3", Resource(SIZE, seed=seed, script=list(faults)))
    with (
        ActorSystem.start(workers=1, max_per_host=64, proxies={}) as system,
        watching(system) as watch,
    ):
        streams = [system.open(origin.url(f"/{seed}.mp3")) for seed in range(50)]
        calls = [Call(stream.read) for stream in streams]
        for count in range(1, kills + 1):
            for seed, stream in enumerate(streams):
                answered(origin, f"/{seed}.mp3", count, STALL)
                assert stream.read_at(count * STALL - 1, 1) == body(seed, count * STALL - 1, count * STALL)
            kill(system)
        for seed, call in enumerate(calls):
            assert call.result() == body(seed, 0, SIZE)
        for stream in streams:
            stream.close()
        assert until(lambda: len(system.workers()) == 1)
        watch.drain()
        assert [len(requests) for requests in deaths(watch)] == [50] * kills
        assert watch.of(RequestFailed) == []
        # No byte that had landed was asked for again; what was on its way when one was moved was.
        assert (sent_in_all(origin, 50 * SIZE) == 50 * SIZE) or any(
            event.cause == "CLEARED" for event in watch.of(RequestRetrying)
        )
        for seed in range(50):
            first, *later = [seen.range[0] for seen in asked(origin, f"/{seed}.mp3") if seen.range is not None]
            assert (first, later[:kills]) == (0, [STALL * count for count in range(1, kills + 1)])
            assert later == sorted(later)
            assert all(start >= STALL * kills + CLEARED_BY for start in later[kills:])
        # Each lost worker is replaced, and one more was there for all that had to run alone.
        assert len([event for event in watch.of(WorkerStarted) if event.worker > 1]) <= kills + (kills == 2)


def killed_twice(system: ActorSystem, origin: Origin, streams: dict[str, Stream]) -> None:
    """Both workers that all of these share are killed, the second before any of them has come far."""
    for count in (1, 2):
        for path, stream in streams.items():
            stream.read_at(count * STALL - 1, 1)
            answered(origin, path, count, STALL)
        kill(system)


def test_f07_a_slow_suspect_that_runs_well_makes_room_for_the_next(origin: Origin) -> None:
    """Otherwise everybody behind a long transfer would wait for its end."""
    faults = [Fault(stall_after=STALL)] * 2
    slow = origin.add("/slow.mp3", Resource(100 * SIZE, seed=1, rate=400_000, script=list(faults)))
    quick = origin.add("/quick.mp3", Resource(SIZE, seed=2, script=list(faults)))
    with ActorSystem.start(workers=1, proxies={}) as system, watching(system) as watch:
        with system.open(slow) as first:
            answered(origin, "/slow.mp3", 1, STALL)
            with system.open(quick) as second:
                killed_twice(system, origin, {"/slow.mp3": first, "/quick.mp3": second})
                assert Call(second.read).result() == body(2, 0, SIZE)
            assert watch.first(RequestRetrying, lambda event: event.cause == "CLEARED").delay == 0.0
            # It goes on where it was, in a worker that it shares, while the one of its own was for the other.
            where = [seen.range[0] for seen in answered(origin, "/slow.mp3", 4, 1000) if seen.range is not None]
            assert where[:3] == [0, STALL, 2 * STALL]
            assert where[3] >= 2 * STALL + CLEARED_BY
            assert first.read_at(where[3], 1000) == body(1, where[3], where[3] + 1000)
        assert until(lambda: len(system.workers()) == 1)


def test_f07_workers_killed_at_once_are_nobodys_fault(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request is the only one in its worker, twice: had these died one after the other, it would be refused."""
    inside, go_on = threading.Event(), threading.Event()
    go_on.set()
    frame = workers.Listener.frame

    def gated(listener: Any, worker: int, data: bytes) -> None:
        """Keeps the thread that looks after the workers until all of them are dead."""
        if not go_on.is_set():
            inside.set()
            assert go_on.wait(HANG)
        frame(listener, worker, data)

    monkeypatch.setattr(workers.Listener, "frame", gated)
    faults = [Fault(stall_after=STALL)] * 2
    urls = [origin.add(f"/{seed}.mp3", Resource(SIZE, seed=seed, script=list(faults))) for seed in (1, 2)]
    ping = origin.add("/ping", Resource(10))
    with ActorSystem.start(workers=2, proxies={}) as system, watching(system) as watch:
        streams = [system.open(url) for url in urls]
        calls = [Call(stream.read) for stream in streams]
        for count in (1, 2):
            for seed, stream in enumerate(streams, 1):
                stream.read_at(count * STALL - 1, 1)
                answered(origin, f"/{seed}.mp3", count, STALL)
            assert until(lambda: len(system.workers()) == 2)
            # After the first time they have gone on in the workers of all: each lost one was replaced, and no more.
            due = 2 * (count - 1)
            watch.until(lambda _, due=due: sum(each.worker > 2 for each in watch.of(WorkerStarted)) >= due)  # type: ignore[misc]
            watch.drain()
            assert sum(each.worker > 2 for each in watch.of(WorkerStarted)) == due
            pids = list(system.workers().values())
            go_on.clear()
            inside.clear()
            side = Call(system.execute, FetchCommand.head(ping), HANG)
            assert inside.wait(HANG)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            for pid in pids:
                assert until(lambda: state_of(pid) in ("Z", ""))  # noqa: B023 - looked at within the round
            go_on.set()
            assert side.result().status == 200
        for seed, call in enumerate(calls, 1):
            assert call.result() == body(seed, 0, SIZE)
        for stream in streams:
            stream.close()
        watch.drain()
        assert watch.of(RequestFailed) == []


def test_f07_a_request_that_wants_too_much_memory_fails_alone(
    origin: Origin, capfd: pytest.CaptureFixture[str]
) -> None:
    url = origin.add("/a.mp3?glutton", Resource(SIZE))
    good = origin.add("/b.mp3", Resource(SIZE, seed=3))
    with ActorSystem.start(workers=1, proxies={}) as system:
        workers = dict(system.workers())
        with system.open(url) as stream:
            error = Call(stream.read).error()
            assert type(error) is InternalError
            assert "MemoryError" in str(error)
        with system.open(good) as stream:
            assert stream.read() == body(3, 0, SIZE)
        assert system.workers() == workers
    assert "MemoryError" in capfd.readouterr().err


def test_f07_a_suspect_that_waits_for_its_turn_can_be_cancelled(origin: Origin) -> None:
    faults = [Fault(stall_after=STALL)] * 3
    urls = [origin.add(f"/{seed}.mp3", Resource(SIZE, seed=seed, script=list(faults))) for seed in (1, 2)]
    with ActorSystem.start(workers=1, proxies={}) as system, watching(system) as watch:
        with system.open(urls[0]) as first:
            answered(origin, "/1.mp3", 1, STALL)
            with system.open(urls[1]) as second:
                killed_twice(system, origin, {"/1.mp3": first, "/2.mp3": second})
                # The first hangs in the worker of its own; the second waits behind it.
                running = Call(first.read)
                behind = Call(second.read)
                answered(origin, "/1.mp3", 3, STALL)
                second.cancel()
                assert isinstance(behind.error(), OSError)
                assert len(asked(origin, "/2.mp3")) == 2
                first.cancel()
                assert isinstance(running.error(), OSError)
        watch.drain()
        assert watch.of(RequestFailed) == []
