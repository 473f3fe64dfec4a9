"""Calls, losses, deadlines and stops that fall together, 200 times, with threads that are switched all the time."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pykka
import pytest
from pool_handlers import said
from pool_kit import HANG, pool_of

from actors.actor.calls import WorkerCalls
from actors.actor.errors import PoisonRequest, WorkerLostError, WorkerTimeoutError

pytestmark = pytest.mark.races
ROUNDS = 200


@pytest.fixture(autouse=True)
def hasty() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*targets: Any) -> None:
    gate = threading.Barrier(len(targets))

    def run(target: Any) -> None:
        gate.wait(HANG)
        target()

    threads = [threading.Thread(target=run, args=[target]) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
        assert not thread.is_alive()


def test_every_call_ends_whatever_befalls_its_worker() -> None:
    """Answers, losses and deadlines meet; a result is always that of the call it is given for."""
    chance = random.Random(3)
    ends = {"answered": 0, "lost": 0, "late": 0, "refused": 0}
    with WorkerCalls(2, restart_base=0.001, restart_cap=0.002) as calls:
        for round_ in range(ROUNDS):
            futures: list[tuple[list[int], pykka.Future[Any]]] = []

            def ask(first: int = round_ * 100, futures: list[tuple[list[int], pykka.Future[Any]]] = futures) -> None:
                for number in range(first, first + 5):
                    deadline = chance.choice([30.0, 30.0, 0.002])
                    idempotent = chance.random() < 0.5
                    call = calls.call("call_functions:echo", number, deadline=deadline, idempotent=idempotent)
                    futures.append(([number], call))

            def kill() -> None:
                for pid in calls.workers().values():
                    if chance.random() < 0.3:
                        with suppress(ProcessLookupError):  # it was killed for its call's deadline
                            os.kill(pid, signal.SIGKILL)

            together(ask, kill)
            for expected, future in futures:
                try:
                    assert future.get(timeout=HANG) == expected
                    ends["answered"] += 1
                except WorkerTimeoutError:
                    ends["late"] += 1
                except WorkerLostError:
                    ends["lost"] += 1
                except PoisonRequest:
                    ends["refused"] += 1
        assert calls._calls == {}
        assert not calls._waiting
    assert ends["answered"] > ROUNDS
    assert ends["lost"]
    assert sum(ends.values()) == 5 * ROUNDS


def test_every_call_ends_when_it_meets_the_stop() -> None:
    for _ in range(ROUNDS):
        calls = WorkerCalls(1).start()
        futures: list[pykka.Future[Any]] = []

        def ask(calls: WorkerCalls = calls, futures: list[pykka.Future[Any]] = futures) -> None:
            futures.extend(calls.call("call_functions:echo", number) for number in range(10))

        def end(calls: WorkerCalls = calls) -> None:
            assert calls.stop() == []

        together(ask, end)
        for number, future in enumerate(futures):
            try:
                assert future.get(timeout=HANG) == [number]
            except pykka.Timeout:
                raise
            except pykka.ActorDeadError:
                pass


def test_no_frame_is_lost_by_a_discharge() -> None:
    pause = threading.Event()
    with pool_of("Works", size=1, heartbeat=0.005) as (pool, heard):
        for round_ in range(ROUNDS):
            pool.enlist()
            worker = heard.wait("enlisted", round_ + 1)[0]
            heard.wait("ready", round_ + 2)
            sent: list[int] = []

            def talk(worker: int = worker, sent: list[int] = sent) -> None:
                # One that never pauses would keep the worker busy, and here for as long as the limit allows.
                while pool.send(worker, said("echo", len(sent))):
                    sent.append(len(sent))
                    if len(sent) % 10 == 0:
                        pause.wait(0.003)

            together(talk, lambda worker=worker: pool.discharge(worker))
            assert heard.wait("lost", round_ + 1)[2] == "discharged, exited with status 0"
            assert [event[2] for event in heard.of("echo") if event[1] == worker] == sent
            with heard._changed:
                heard.all = [event for event in heard.all if event[0] != "echo"]
