"""F13 with worker processes: many lost at once, and again and again."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from host_kit import until
from pool_kit import Heard, pool_of

from actors.actor.pool import WorkerPool
from actors.clock import monotonic
from actors.logic.worker_slots import STARTS_AT_ONCE

SIZE = 8


@contextmanager
def watched(pool: WorkerPool) -> Iterator[Callable[[], tuple[int, int]]]:
    """Looks all the time; gives the most that were starting at once, and the most that were there."""
    over = threading.Event()
    most = [0, 0]

    def look() -> None:
        while not over.is_set():
            states = [status.state for status in pool.status()]
            most[0] = max(most[0], states.count("starting"))
            most[1] = max(most[1], len(states))
            over.wait(0.001)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: (most[0], most[1])
    finally:
        over.set()
        thread.join()


def test_f13_eight_workers_killed_in_the_same_10_ms_are_replaced() -> None:
    with pool_of(size=SIZE) as (pool, heard), watched(pool) as most:
        victims = pool.workers()
        for pid in victims.values():
            os.kill(pid, signal.SIGKILL)
        assert until(lambda: len(pool.workers()) == SIZE and not pool.workers().keys() & victims.keys())
        assert most() == (STARTS_AT_ONCE, SIZE)
        assert len(heard.of("lost")) == SIZE
        assert heard.of("exhausted") == []


@pytest.mark.minutes
def test_f13_workers_killed_every_100_ms_for_30_s(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever is there is killed: replacements are spaced out, and cost less than half a core."""
    caplog.set_level(logging.INFO)
    pause = threading.Event()
    heard = Heard()
    with pool_of(size=SIZE, heard=heard) as (pool, _), watched(pool) as most:
        began = monotonic()
        costs = []
        spent, since = cpu(), began
        while (now := monotonic()) - began < 30:
            for pid in pool.workers().values():
                with suppress(ProcessLookupError):  # found dead between the two
                    os.kill(pid, signal.SIGKILL)
            if now - since >= 5:
                costs.append((cpu() - spent) / (now - since))
                spent, since = cpu(), now
            pause.wait(0.1)
        starting, alive = most()
        assert starting <= STARTS_AT_ONCE
        assert alive <= SIZE
        # The first seconds are the first replacements, which are made at once.
        assert max(costs[1:]) < 0.5, costs
        losses = len(heard.of("lost"))
        assert losses > SIZE
        assert until(lambda: len(pool.workers()) == SIZE)
    assert heard.of("exhausted") == []
    assert len(caplog.records) <= 10, [record.getMessage() for record in caplog.records]


def cpu() -> float:
    """Seconds of CPU that this process and the children that it has reaped have had."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
