"""The pools of a worker, as its control thread looks for kept connections there."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from transport_kit import HANG, Peer, full
from worker_kit import SMALL, Site, Threads, Worker, warm

from kithara_actors.worker import http, main


@pytest.fixture(autouse=True)
def _threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "_IDLE", 0.01)


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


def test_nobody_waits_for_a_pool_that_is_being_opened(worker: Worker) -> None:
    """What that takes, certificates and settings of proxies to be read, would hold up every cancel."""
    opening, opened = threading.Event(), threading.Event()

    def open_pool() -> None:
        with worker.transport._lock:
            opening.set()
            opened.wait(HANG)

    with Peer(Site(full(SMALL))) as origin:
        warm(worker, origin.url)
        slow = threading.Thread(target=open_pool)
        slow.start()
        assert opening.wait(HANG)
        counted = Threads(worker)
        worker.ask(origin.url)
        assert counted.jobs == 1
        opened.set()
        slow.join(HANG)
        assert worker.next().complete


def test_a_server_that_is_asked_without_a_thread_is_not_the_one_forgotten(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_ORIGINS", 2)
    with Peer(Site(full(SMALL))) as origin, Peer(Site(full(SMALL))) as second, Peer(Site(full(SMALL))) as third:
        for each in (origin, second, origin, third, origin):
            warm(worker, each.url)
        assert origin.accepted == 1
