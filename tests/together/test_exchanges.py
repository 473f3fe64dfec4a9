"""Small requests on kept connections: no thread of their own, and no difference to who asks or to who answers."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transport_kit import HANG, Peer, full, read_head, sees_the_end
from worker_kit import SMALL, Site, Threads, Worker, warm

from actors.clock import monotonic
from kithara_actors.errors import Failure
from kithara_actors.messages.records import Collection
from kithara_actors.messages.worker import AttemptEnded, AttemptHeaders
from kithara_actors.worker import exchanges, main
from kithara_actors.worker.attempt import Attempt


@pytest.fixture(autouse=True)
def _threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "_IDLE", 0.01)


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


def result(worker: Worker) -> tuple[list[Any], bytes]:
    """What is said until the end, but for times and numbers; and the body."""
    said: list[Any] = []
    while True:
        told = worker.next()
        if isinstance(told, AttemptHeaders):
            said.append(dataclasses.replace(told, attempt=0, seconds=0.0))
            continue
        assert isinstance(told, AttemptEnded)
        if told.head is not None:
            said.append(dataclasses.replace(told.head, attempt=0, seconds=0.0))
        said.append(dataclasses.replace(told, attempt=0, seconds=0.0, head=None))
        return said, worker.body() if told.complete else b""


# --- The same answers, the same ends

OK = b"HTTP/1.1 200 OK\r\n"
RANGE = {"start": 3, "end": 8, "ranged": True}
LONG = bytes(range(256)) * 200
CASES: dict[str, tuple[Site, dict[str, Any]]] = {
    "small": (Site(full(SMALL, "X-One: 1", "Content-Type: audio/mpeg")), {}),
    "empty": (Site(full(b"")), {}),
    "no content": (Site(b"HTTP/1.1 204 No Content\r\n\r\n"), {}),
    "created": (Site(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"), {}),
    "head": (Site(OK + b"Content-Length: 500\r\n\r\n"), {"method": "HEAD"}),
    "head without length": (Site(OK + b"\r\n"), {"method": "HEAD"}),
    "head in a coding": (Site(OK + b"Content-Encoding: gzip\r\nContent-Length: 7\r\n\r\n"), {"method": "HEAD"}),
    "head with chunks": (Site(OK + b"Transfer-Encoding: chunked\r\n\r\n"), {"method": "HEAD"}),
    "head with a body": (Site(full(SMALL)), {"method": "HEAD"}),
    "range": (Site(b"HTTP/1.1 206 P\r\nContent-Range: bytes 3-7/13\r\nContent-Length: 5\r\n\r\n" + SMALL[3:8]), RANGE),
    "other range": (Site(b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-4/13\r\nContent-Length: 5\r\n\r\nHello"), RANGE),
    "range not asked": (Site(b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-4/5\r\nContent-Length: 5\r\n\r\nHello"), {}),
    "whole to a range": (Site(full(SMALL)), RANGE),
    "range refused": (Site(b"HTTP/1.1 416 No\r\nContent-Range: bytes */2\r\nContent-Length: 0\r\n\r\n"), RANGE),
    "not found": (Site(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone"), {}),
    "busy": (Site(b"HTTP/1.1 503 Busy\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"), {}),
    "moved": (Site(b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n"), {}),
    "nowhere": (Site(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), {}),
    "unchanged": (
        Site(b"HTTP/1.1 304 Not Modified\r\n\r\n"), {"headers": (("If-None-Match", '"1"'),)},
    ),
    "chunks": (Site(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), {}),
    "bad chunk": (Site(OK + b"Transfer-Encoding: chunked\r\n\r\nx\r\nabc\r\n0\r\n\r\n"), {}),
    "until the end": (Site(OK + b"\r\nabc", ends=True), {}),
    "gzip": (Site(full(gzip.compress(SMALL), "Content-Encoding: gzip")), {}),
    "bad gzip": (Site(full(SMALL, "Content-Encoding: gzip")), {}),
    "other coding": (Site(full(SMALL, "Content-Encoding: zst")), {}),
    "identity": (Site(full(SMALL, "Content-Encoding: identity")), {"headers": (("accept-encoding", "identity"),)}),
    "page": (
        Site(full(b"<html>", "Content-Type: text/html")), {"collection": Collection("collector", "GET", True)},
    ),
    "in pieces": (Site(full(SMALL)[:9], full(SMALL)[9:30], full(SMALL)[30:45], full(SMALL)[45:]), {}),
    "cut in the head": (Site(full(SMALL)[:20], ends=True), {}),
    "cut in the body": (Site(full(SMALL)[:-3], ends=True), {}),
    "surplus": (Site(full(SMALL) + b"more"), {}),
    "two answers": (Site(full(SMALL) + full(b"forged")), {}),
    "interim": (Site(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + full(SMALL)), {}),
    "closes": (Site(full(SMALL, "Connection: close"), ends=True), {}),
    "says to close and does not": (Site(full(SMALL, "Connection: close")), {}),
    "HTTP/1.0": (Site(full(SMALL).replace(b"/1.1", b"/1.0"), ends=True), {}),
    "repeated": (Site(full(SMALL, "Set-Cookie: a=1", "Set-Cookie: b=2")), {}),
    "two lengths": (Site(full(SMALL, "Content-Length: 4")), {}),
    "bad length": (Site(OK + b"Content-Length: x\r\n\r\n" + SMALL, ends=True), {}),
    "negative length": (Site(OK + b"Content-Length: -1\r\n\r\n" + SMALL, ends=True), {}),
    "folded": (Site(full(SMALL, "X-Long: one\r\n two")), {}),
    "no field": (Site(OK + b"garbage\r\n\r\n"), {}),
    "no answer": (Site(b"SSH-2.0-OpenSSH\r\n", ends=True), {}),
    "nothing": (Site(ends=True), {}),
    "too large": (Site(full(SMALL)), {"limit": 5}),
    "just fits": (Site(full(SMALL)), {"limit": len(SMALL)}),
    "larger than a look": (Site(full(LONG)), {}),
    "long head": (Site(full(SMALL, f"X-Long: {'x' * 20000}", f"Y-Long: {'x' * 30000}")), {}),
    "many fields": (Site(full(SMALL, *(f"X-{n}: {n}" for n in range(120)))), {}),
    "odd values": (Site(full(SMALL, "X-Odd: \xe9\t|  ")), {}),
    "own host": (Site(full(SMALL)), {"headers": (("Host", "music.test"),)}),
    "own fields": (Site(full(SMALL)), {"headers": (("user-agent", "me"), ("ACCEPT", "a/b"), ("X-A", "x"))}),
    "bad name": (Site(full(SMALL)), {"headers": (("X-Ä", "x"),)}),
    "latin": (Site(full(SMALL)), {"headers": (("X-Name", "\xe9"),)}),
    "injected": (Site(full(SMALL)), {"headers": (("X-Name", "a\r\nEvil: 1"),)}),
}  # fmt: skip
AT_ONCE = {
    "small", "empty", "no content", "created", "head", "head without length", "head in a coding", "range",
    "identity", "whole to a range",
    "says to close and does not", "closes", "just fits", "odd values", "own fields",
}  # fmt: skip


def play(case: str, *, threads: bool, path: str = "a?b=%7e") -> tuple[list[Any], bytes, list[bytes], int, int]:
    """What came of the case, what the server was asked, its connections, and how many jobs went to threads."""
    site, changes = CASES[case]
    site = Site(*site._pieces, ends=site._ends)
    worker = Worker(inactivity_timeout=HANG)
    try:
        with Peer(site) as origin:
            warm(worker, origin.url)
            if threads:
                worker.handler._exchanges.begin = lambda *_: False  # type: ignore[method-assign]
            counted = Threads(worker)
            worker.ask(origin.url + path, **changes)
            said, body = result(worker)
            jobs = counted.jobs
            # The next one on whatever connection there is now gets its own answer.
            worker.ask(origin.url)
            assert worker.next().complete
            assert worker.body() == SMALL
            said = [_without_port(one, origin.port) for one in said]
            heads = [head.replace(str(origin.port).encode(), b"PORT") for head in site.heads]
            return said, body, heads, origin.accepted, jobs
    finally:
        worker.close()


def _without_port(said: Any, port: int) -> Any:
    if isinstance(said, AttemptHeaders):
        return dataclasses.replace(said, final_url=said.final_url.replace(str(port), "PORT"))
    failure = said.failure
    if failure is not None:
        return dataclasses.replace(said, failure=dataclasses.replace(failure, text=failure.text.replace(str(port), "")))
    return said


@pytest.mark.parametrize("case", CASES)
def test_it_makes_no_difference_where_an_answer_is_taken(case: str) -> None:
    quick, usual = play(case, threads=False), play(case, threads=True)
    assert quick[:4] == usual[:4]
    assert usual[4] == 1
    # Pieces may come together.
    assert quick[4] == (case not in AT_ONCE) or case == "in pieces"


# --- Without a thread


def test_requests_on_a_kept_connection_start_no_thread(worker: Worker) -> None:
    with Peer(Site(full(SMALL))) as origin:
        warm(worker, origin.url)
        counted = Threads(worker)
        for _ in range(10):
            worker.ask(origin.url)
            assert worker.handler.busy() == 1
            assert worker.next().complete
            assert worker.body() == SMALL
            assert worker.handler.busy() == 0
        assert (counted.jobs, origin.accepted) == (0, 1)


def test_many_wait_at_once(worker: Worker) -> None:
    together = threading.Barrier(9)

    def serve(sock: socket.socket) -> None:
        while True:
            read_head(sock)
            together.wait(HANG)
            sock.sendall(full(SMALL))

    with Peer(serve) as origin:
        for turn in range(3):
            counted = Threads(worker)
            attempts = {worker.ask(origin.url) for _ in range(8)}
            together.wait(HANG)
            assert {worker.next().attempt for _ in range(8)} == attempts
            assert counted.jobs == (8 if turn == 0 else 0)
        assert origin.accepted == 8
        together.abort()


def test_an_answer_that_does_not_come_is_given_up() -> None:
    worker = Worker(inactivity_timeout=1.0)
    asked = threading.Event()

    def serve(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(full(SMALL))
        read_head(sock)
        asked.set()
        sees_the_end(sock)

    try:
        with Peer(serve) as origin:
            warm(worker, origin.url)
            counted = Threads(worker)
            worker.ask(origin.url)
            assert worker.handler.pause() is not None
            ended = worker.next()
            assert asked.wait(HANG)
            assert ended.failure == Failure(
                "ConnectError", f"no answer from 127.0.0.1:{origin.port} within 1 s", retryable=True
            )
            assert worker.handler.pause() is None
            assert counted.jobs == 0
    finally:
        worker.close()


@pytest.mark.parametrize("answered", [False, True])
def test_a_cancel_closes_the_connection(worker: Worker, answered: bool) -> None:
    asked, gone = threading.Event(), threading.Event()

    def serve(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(full(SMALL))
        read_head(sock)
        if answered:
            sock.sendall(full(SMALL)[:-3])
        asked.set()
        sees_the_end(sock)
        gone.set()

    with Peer(serve) as origin:
        warm(worker, origin.url)
        attempt = worker.ask(origin.url)
        assert asked.wait(HANG)
        if answered:
            assert isinstance(worker.next(), AttemptHeaders)
        worker.cancel(attempt)
        ended = worker.next()
        assert (ended.cancelled, ended.complete, ended.failure) == (True, False, None)
        assert gone.wait(HANG)
        worker.cancel(attempt)  # it is over
        assert worker.handler.busy() == 0


def test_one_that_is_cancelled_on_its_way_to_a_thread_leaves_no_connection(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = threading.Event()

    def serve(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(full(SMALL))
        read_head(sock)
        sock.sendall(full(SMALL)[:-3])
        sees_the_end(sock)
        gone.set()

    with Peer(serve) as origin:
        warm(worker, origin.url)
        attempt = worker.ask(origin.url)
        start = worker.handler._threads.start

        def cancelled_first(job: Any) -> None:
            worker.cancel(attempt)
            start(job)

        monkeypatch.setattr(worker.handler._threads, "start", cancelled_first)
        assert worker.next().cancelled
        assert gone.wait(HANG)


def test_without_a_thread_to_go_on_with_it_ends(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = threading.Event()

    def serve(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(full(SMALL))
        read_head(sock)
        sock.sendall(full(SMALL)[:-3])
        sees_the_end(sock)
        gone.set()

    def refuse(_job: Any) -> None:
        raise RuntimeError("can't start new thread")

    with Peer(serve) as origin:
        warm(worker, origin.url)
        worker.ask(origin.url)
        monkeypatch.setattr(worker.handler._threads, "start", refuse)
        ended = worker.next()
        assert ended.failure is not None
        assert "no thread to fetch with" in ended.failure.text
        assert gone.wait(HANG)


def test_what_waited_before_it_came_to_a_thread_has_the_rest_of_its_time(worker: Worker) -> None:
    with Peer(Site(full(SMALL))) as origin:
        warm(worker, origin.url)
        (pool,) = worker.transport._pools.values()
        attempt = Attempt()
        limit = worker.transport.settings.inactivity_timeout
        assert worker.transport._limits_of(attempt).read_timeout == limit
        attempt.ahead, attempt.began = pool.kept(), monotonic() - limit / 2
        assert 0 < worker.transport._limits_of(attempt).read_timeout <= limit / 2
        attempt.began -= limit
        assert 0 < worker.transport._limits_of(attempt).read_timeout < 1
        attempt.drop()


def test_one_more_than_can_be_watched_goes_on_a_thread(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_up(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Peer(Site(full(SMALL))) as origin:
        warm(worker, origin.url)
        counted = Threads(worker)
        with monkeypatch.context() as full_house:
            full_house.setattr(worker.handler._exchanges, "_epoll", SimpleNamespace(register=full_up))
            worker.ask(origin.url)
        assert worker.next().complete
        assert (counted.jobs, origin.accepted) == (1, 1)


def test_a_request_that_cannot_be_sent_at_once_goes_on_a_thread(worker: Worker) -> None:
    """It is longer than what the socket takes, as nobody reads."""
    with Peer(Site(full(SMALL))) as origin:
        warm(worker, origin.url)
        (pool,) = worker.transport._pools.values()
        connection: Any = pool.kept()
        connection.handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        pool.put_back(connection)
        counted = Threads(worker)
        worker.ask(origin.url, headers=tuple((f"X-{number}", "x" * 4000) for number in range(10)))
        assert worker.next().complete
        assert counted.jobs == 1


@pytest.mark.parametrize("host", ["music.test.", "[fe80::1%25lo]"])
def test_the_server_is_named_as_on_a_thread(worker: Worker, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """The dot and the zone are for the resolver alone."""
    look_up = socket.getaddrinfo

    def here(_: Any, *args: Any, **more: Any) -> Any:
        return look_up("127.0.0.1", *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", here)
    site = Site(full(SMALL))
    with Peer(site) as origin:
        url = origin.url.replace("127.0.0.1", host)
        warm(worker, url)
        warm(worker, url)
        assert origin.accepted == 1
    assert site.heads[0] == site.heads[1]


def test_the_meters_are_not_taken_for_the_place_of_a_body(worker: Worker) -> None:
    """Where a worker is at its limit of descriptors they arrive alone."""
    with Peer(Site(full(SMALL))) as origin:
        warm(worker, origin.url)
        counted = Threads(worker)
        worker.ask(origin.url, meter=0)
        ended = worker.next()
        assert (ended.complete, counted.jobs) == (False, 1)
        assert worker.body() == b""


def test_what_breaks_over_an_answer_ends_no_worker(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on a thread, where each attempt is answered whatever breaks."""

    def broken(*_: Any) -> Any:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(exchanges, "check_collected", broken)
    with Peer(Site(full(SMALL))) as origin:
        warm(worker, origin.url)
        counted = Threads(worker)
        warm(worker, origin.url)
        assert counted.jobs == 1


# --- Pieces


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(AT_ONCE - {"closes", "says to close and does not"})), st.data())
def test_an_answer_may_come_in_any_pieces(case: str, data: st.DataObject) -> None:
    site, changes = CASES[case]
    (whole,) = site._pieces
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=4)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    worker = Worker(inactivity_timeout=HANG)
    try:
        with Peer(Site(*pieces)) as origin:
            warm(worker, origin.url)
            worker.ask(origin.url, **changes)
            said, _ = result(worker)
            assert said[-1].complete
            worker.ask(origin.url)
            assert worker.next().complete
            assert origin.accepted == 1
    finally:
        worker.close()
