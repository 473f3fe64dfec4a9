"""Names are looked up on threads that nothing can end: attempts share them, and are not held up by them."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
from transport_kit import HANG, Bench, Peer, bench, media, ranged

from kithara_actors.errors import Cancelled, ConnectError
from kithara_actors.worker import attempt as dialing
from kithara_actors.worker.http import Transport

__all__ = ["bench"]

DATA = media(1000)


class Resolver:
    """Answers when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.begun = threading.Semaphore(0)
        self.answer = threading.Event()
        self.problem: Exception | None = None
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)

    def getaddrinfo(self, host: str, port: int, *args: Any, **options: Any) -> Any:
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            return self._real(host, port, *args, **options)
        self.asked.append(host)
        self.begun.release()
        assert self.answer.wait(HANG)
        if self.problem is not None:
            raise self.problem
        return self._real("127.0.0.1", port, *args, **options)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    return Resolver(monkeypatch)


def waiting(via: Transport, host: str, port: int, count: int) -> None:
    """Until so many attempts wait for the name: polled, as joining tells nobody."""
    gate = threading.Event()
    for _ in range(int(HANG / 0.002)):
        lookup = via._dialer._lookups.get((host, port))
        if lookup is not None and len(lookup.waiting) == count:
            return
        gate.wait(0.002)
    raise AssertionError("they do not wait")


def test_attempts_of_one_moment_share_a_lookup(
    bench: Bench, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialing, "_SHARED_FOR", HANG)
    with Peer(ranged(DATA)) as origin:
        via = bench.transport()
        url = f"http://music.test:{origin.port}/"
        fetches = [bench.fetch(via, url).start() for _ in range(8)]
        waiting(via, "music.test", origin.port, 8)
        fetches[0].attempt.cancel()
        fetches[3].attempt.cancel()
        waiting(via, "music.test", origin.port, 6)
        resolver.answer.set()
        for number, fetch in enumerate(fetches):
            fetch.join()
            if number in (0, 3):
                assert isinstance(fetch.error, Cancelled)
            else:
                assert fetch.bytes() == DATA
        assert resolver.asked == ["music.test"]
        assert via.abandoned_lookups == 0
        via.close()


def test_many_cancels_leave_one_thread_behind(
    bench: Bench, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialing, "_SHARED_FOR", HANG)
    via = bench.transport()
    for _ in range(20):
        fetch = bench.fetch(via, "http://music.test:81/").start()
        waiting(via, "music.test", 81, 1)
        fetch.attempt.cancel()
        assert isinstance(fetch.failure(), Cancelled)
    assert resolver.asked == ["music.test"]
    threads = [thread for thread in threading.enumerate() if thread.name == "kithara-lookup"]
    assert len(threads) == 1
    resolver.answer.set()
    threads[0].join(HANG)
    assert via._dialer._lookups == {}


def test_an_old_lookup_is_not_joined(bench: Bench, resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have asked a network that is gone; the answer to a new one is not held up by it."""
    monkeypatch.setattr(dialing, "_SHARED_FOR", 0.0)
    via = bench.transport()
    first = bench.fetch(via, "http://music.test:81/").start()
    assert resolver.begun.acquire(timeout=HANG)
    second = bench.fetch(via, "http://music.test:81/").start()
    assert resolver.begun.acquire(timeout=HANG)
    for fetch in (first, second):
        fetch.attempt.cancel()
        assert isinstance(fetch.failure(), Cancelled)
    assert len(resolver.asked) == 2
    assert via.abandoned_lookups == 2
    resolver.answer.set()


@pytest.mark.parametrize(
    ("problem", "retryable"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "not now"), True),
        (socket.gaierror(socket.EAI_NONAME, "never"), False),
        (UnicodeError("a label"), False),
    ],
)
def test_all_who_wait_hear_that_there_is_no_address(
    bench: Bench, resolver: Resolver, monkeypatch: pytest.MonkeyPatch, problem: Exception, retryable: bool
) -> None:
    monkeypatch.setattr(dialing, "_SHARED_FOR", HANG)
    resolver.problem = problem
    via = bench.transport()
    fetches = [bench.fetch(via, "http://music.test:81/").start() for _ in range(3)]
    waiting(via, "music.test", 81, 3)
    resolver.answer.set()
    for fetch in fetches:
        error = fetch.failure()
        assert isinstance(error, ConnectError)
        assert "cannot resolve host music.test" in str(error)
        assert error.retryable is retryable
    assert len(resolver.asked) == 1


def test_no_thread_for_a_lookup_is_a_passing_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    via = bench.transport()
    fetch = bench.fetch(via, "http://music.test/")
    monkeypatch.setattr(threading.Thread, "start", full)
    with pytest.raises(ConnectError, match=r"no thread to look up music\.test") as caught:
        fetch.run()
    assert caught.value.retryable
    assert via._dialer._lookups == {}
