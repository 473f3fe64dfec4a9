"""What a system says of itself: numbers of the moment and one word, whatever its parts are doing."""

from __future__ import annotations

import json
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, asdict

import pytest
from host_kit import until
from prefetch_kit import SHARE, held_prefetches
from stream_kit import HANG, Call, answered, watching

from actors.messages.command import Command
from actors.testing.sabotage import Moment, sabotage
from kithara_actors import ActorSystem, HealthState, PrefetchStats, Priority, Stats
from kithara_actors.events import ActorRestarted, RequestCompleted, RequestEnqueued, RequestRetrying
from kithara_actors.messages.commands import WorkerUp
from kithara_actors.testing.origin import Fault, Origin, Resource, body

MIB = 1 << 20


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as made:
        yield made


def test_an_idle_system(origin: Origin) -> None:
    with ActorSystem.start() as system:
        stats = system.stats()
        assert [actor.name for actor in stats.actors] == [
            "event_bus",
            "asset_store",
            "registry",
            "downloader",
            "collector",
            "sources",
        ]
        assert {worker.pid for worker in stats.workers} == set(system.workers().values())
        assert (stats.restarts, stats.bytes, stats.streams, stats.cache.assets) == (0, 0, 0, 0)
        assert stats.prefetches == PrefetchStats(0, 0, 0)
        assert stats.requests.queued == {"high/high": 0, "high/low": 0, "low/high": 0, "low/low": 0}
        assert json.loads(json.dumps(asdict(stats)))["requests"]["ended"] == 0
        assert pickle.loads(pickle.dumps(stats)) == stats
        assert (system.health().state, system.health().reasons) == (HealthState.OK, ())
        with pytest.raises(FrozenInstanceError):
            stats.bytes = 1  # type: ignore[misc]


def test_what_runs_waits_and_backs_off(origin: Origin) -> None:
    running = origin.add("/running", Resource(MIB, seed=1, script=[Fault(stall_after=100_000)]))
    waiting = origin.add("/waiting", Resource(MIB, seed=2))
    parked = origin.add("/parked", Resource(MIB, script=[Fault(status=503)]))
    with (
        ActorSystem.start(max_concurrent=1, retry_base=60.0, retry_cap=60.0, preempt_after=None) as system,
        watching(system) as watch,
    ):
        with system.open(parked) as first:
            Call(first.read_at, 0, 1)
            watch.first(RequestRetrying)
            second = system.open(running)
            second.read_at(0, 1)
            with second, system.open(waiting, priority=Priority.HIGH) as third:
                calls = [Call(third.read_at, 0, 1)]
                watch.until(lambda _: len(watch.of(RequestEnqueued)) >= 3)
                assert until(lambda: system.stats().requests.running == 1)
                answered(origin, "/running", 1, sent=100_000)

                def right(stats: Stats) -> bool:
                    counts = (stats.requests.running, stats.requests.parked, sum(stats.requests.queued.values()))
                    return counts == (1, 1, 1) and stats.bytes >= 100_000 and stats.streams == 3

                assert until(lambda: right(system.stats())), system.stats()
                sources = [actor.name for actor in system.stats().actors if actor.name.startswith("source-")]
                assert len(sources) == 3
            for call in calls:
                call.error()


def test_what_has_ended_and_what_is_kept(origin: Origin) -> None:
    url = origin.add("/a", Resource(MIB, seed=1))
    with ActorSystem.start() as system, watching(system) as watch:
        with system.open(url) as stream:
            assert stream.read() == body(1, 0, MIB)
            assert stream.wait_complete(HANG)
        watch.first(RequestCompleted)
        assert until(lambda: system.stats().requests.ended)
        stats = system.stats()
        assert (stats.bytes, stats.requests.ended, stats.cache.assets, stats.cache.bytes) == (MIB, 1, 1, MIB)


def test_prefetches_are_counted_by_how_far_they_are(origin: Origin) -> None:
    with ActorSystem.start() as system:
        with system.prefetch(origin.add("/done", Resource(1000))) as done:
            assert done.wait(HANG)
            with held_prefetches(origin, system, 12) as handles:
                # Twice the share of a host has a source each.
                assert until(lambda: system.stats().prefetches == PrefetchStats(4, 2 * SHARE, 1)), system.stats()
                handles[11].cancel()
                assert until(lambda: system.stats().prefetches == PrefetchStats(3, 2 * SHARE, 1)), system.stats()
                handles.pop()
            assert until(lambda: system.stats().prefetches == PrefetchStats(0, 0, 1)), system.stats()
        assert system.stats().prefetches == PrefetchStats(0, 0, 0)


def test_a_restart_is_counted_and_all_is_well_again() -> None:
    with ActorSystem.start() as system, watching(system) as watch:
        registry = system._assembly._runtime.address("registry")
        assert registry is not None
        registry.tell(WorkerUp(1, 2))  # not for it
        event = watch.first(ActorRestarted)
        assert (event.name, event.incarnation) == ("registry", 2)
        assert event.reason.startswith("TypeError")
        assert until(lambda: system.health().state is HealthState.OK)
        stats = system.stats()
        assert stats.restarts == 1
        (info,) = (actor for actor in stats.actors if actor.name == "registry")
        assert (info.incarnation, info.restarts) == (2, 1)
        assert info.error is not None
        assert "TypeError" in info.error


def test_what_is_down_is_named_while_it_is_down() -> None:
    gate = threading.Event()
    entered = threading.Event()

    def meddle(name: str, command: Command | None, moment: Moment) -> None:
        if moment == "start" and name == "asset_store" and entered.is_set():
            gate.wait(HANG)
        if isinstance(command, WorkerUp) and name == "asset_store":
            entered.set()

    with sabotage(meddle):
        system = ActorSystem.start()
    try:
        store = system._assembly._runtime.address("asset_store")
        assert store is not None
        store.tell(WorkerUp(1, 2))
        assert until(lambda: system.health().state is HealthState.DEGRADED)
        assert any("asset_store" in reason for reason in system.health().reasons)
        gate.set()
        assert until(lambda: system.health().state is HealthState.OK)
    finally:
        gate.set()
        system.stop()


def test_a_lost_worker_degrades_until_it_is_replaced() -> None:
    with ActorSystem.start() as system:
        worker = system.workers()[1]
        os.kill(worker, signal.SIGSTOP)  # not ready to be replaced before the heartbeat tells
        os.kill(system.workers()[2], signal.SIGKILL)
        assert until(lambda: "workers are ready" in " ".join(system.health().reasons))
        os.kill(worker, signal.SIGCONT)
        assert until(lambda: system.health().state is HealthState.OK, HANG)


def test_after_the_end_it_says_why() -> None:
    system = ActorSystem.start()
    system.stop()
    health = system.health()
    assert (health.state, health.reasons) == (HealthState.FAILED, ("the system has been stopped",))
    assert system.stats().workers == ()
