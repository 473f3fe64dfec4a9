"""What a small answer costs a worker is bounded: one message when all has come at once, one descriptor for a
connection, no look at a socket that will be looked at anyway. And what that must not cost: a connection on which
something came behind an answer is not used again, and a late cancel reaches nobody else.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from transport_kit import HANG, Bench, Papers, Peer, bench, full, papers, read_head, sees_the_end
from worker_kit import Worker

from kithara_actors.errors import Cancelled
from kithara_actors.messages.worker import AttemptEnded, AttemptHeaders
from kithara_actors.worker import main
from kithara_actors.worker.body import discard

__all__ = ["bench", "papers"]

SMALL = b"Hello, World!"


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setattr(main, "_IDLE", 0.01)
    made = Worker()
    yield made
    made.close()


def serving(*answers: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    """One of `answers` for each request on a connection."""

    def serve(sock: socket.socket) -> None:
        for answer in answers:
            read_head(sock)
            answer(sock)
        sees_the_end(sock)

    return serve


# --- Messages


@pytest.mark.parametrize(
    ("method", "answer", "body"),
    [
        ("GET", full(SMALL, "X-One: 1"), SMALL),
        ("HEAD", full(b"", "X-One: 1").replace(b"Length: 0", b"Length: 500"), b""),
        ("GET", b"HTTP/1.1 204 No Content\r\nX-One: 1\r\n\r\n", b""),
    ],
)
def test_what_came_at_once_is_told_in_one_message(worker: Worker, method: str, answer: bytes, body: bytes) -> None:
    with Peer(serving(lambda sock: sock.sendall(answer))) as origin:
        attempt = worker.ask(origin.url, method)
        ended = worker.next()
        assert isinstance(ended, AttemptEnded)
        assert (ended.attempt, ended.complete, ended.end, worker.body()) == (attempt, True, len(body), body)
        assert ended.head is not None
        assert ended.head.attempt == attempt
        assert ("X-One", "1") in ended.head.headers
        assert ended.head.status in (200, 204)
        assert ended.status is None


def test_a_head_is_told_before_the_body_is_waited_for(worker: Worker) -> None:
    rest = threading.Event()

    def slowly(sock: socket.socket) -> None:
        sock.sendall(full(SMALL)[:-5])
        assert rest.wait(HANG)
        sock.sendall(SMALL[-5:])

    with Peer(serving(slowly)) as origin:
        worker.ask(origin.url)
        head = worker.next()
        assert isinstance(head, AttemptHeaders)
        assert head.total == len(SMALL)
        rest.set()
        ended = worker.next()
        assert (ended.complete, ended.head, worker.body()) == (True, None, SMALL)


def test_a_body_of_unknown_length_is_waited_for(worker: Worker) -> None:
    """It came whole, but nobody knows that before the connection ends."""
    rest = threading.Event()

    def closes(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + SMALL)
        assert rest.wait(HANG)

    with Peer(closes) as origin:
        worker.ask(origin.url)
        assert isinstance(worker.next(), AttemptHeaders)
        rest.set()
        ended = worker.next()
        assert (ended.complete, ended.head, worker.body()) == (True, None, SMALL)


def test_an_answer_that_fails_behind_its_head_tells_both(worker: Worker) -> None:
    with Peer(serving(lambda sock: sock.sendall(full(SMALL)))) as origin:
        worker.ask(origin.url, limit=5)
        ended = worker.next()
        assert isinstance(ended, AttemptEnded)
        assert ended.failure is not None
        assert (ended.failure.kind, ended.complete) == ("BodyTooLarge", False)
        assert ended.head is not None
        assert ended.head.total == len(SMALL)


# --- Connections


@pytest.mark.parametrize("secure", [False, True])
def test_a_kept_connection_keeps_what_cuts_it(
    bench: Bench, papers: Papers, monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    made: list[int] = []
    dup = os.dup

    def counted(fd: int) -> int:
        made.append(fd)
        return dup(fd)

    waits = threading.Event()

    def half(sock: socket.socket) -> None:
        sock.sendall(full(SMALL)[:-5])
        waits.set()
        sees_the_end(sock)

    answer = serving(*[lambda sock: sock.sendall(full(SMALL))] * 5, half)
    with Peer(answer, tls=papers.server() if secure else None) as origin:
        via = bench.transport(verify=papers.bundle)
        monkeypatch.setattr(os, "dup", counted)
        for turn in range(5):
            fetch = bench.fetch(via, origin.url)
            assert fetch.run().reused is (turn > 0)
            assert fetch.attempt.fileno() == -1
            fetch.attempt.cancel()  # too late for it, and not for the next
        last = bench.fetch(via, origin.url).start()
        assert last.byte_came.wait(HANG)
        assert waits.wait(HANG)
        last.attempt.cancel()
        assert isinstance(last.failure(), Cancelled)
        assert len(made) == 1
        assert origin.accepted == 1


SECOND = full(b"not what was asked for")


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("apart", [False, True])
def test_what_came_behind_an_answer_is_not_the_next_one(
    bench: Bench, papers: Papers, secure: bool, method: str, apart: bool
) -> None:
    """Neither with it nor after it: such an answer is made up for somebody else (RFC 9112 section 11.1)."""
    late, came = threading.Event(), threading.Event()
    first = full(SMALL) if method == "GET" else full(b"")
    serves = [0]

    def serve(sock: socket.socket) -> None:
        read_head(sock)
        serves[0] += 1
        if serves[0] > 1:
            sock.sendall(full(SMALL))
            sees_the_end(sock)
            return
        if apart:
            sock.sendall(first)
            assert late.wait(HANG)
            sock.sendall(SECOND)
        else:
            sock.sendall(first + SECOND)
        came.set()
        sees_the_end(sock)

    with Peer(serve, tls=papers.server() if secure else None) as origin:
        via = bench.transport(verify=papers.bundle)
        fetch = bench.fetch(via, origin.url)
        if method == "HEAD":
            response = via.open(fetch.attempt, origin.url, {}, "HEAD")
            discard(response, fetch.attempt)
        else:
            assert fetch.run().end == len(SMALL)
        assert bench.idle(via) == (1 if apart else 0)
        late.set()
        assert came.wait(HANG)
        again = bench.fetch(via, origin.url)
        assert again.run().reused is False
        assert again.bytes() == SMALL


def test_what_was_decrypted_behind_an_answer_is_seen_at_once(bench: Bench, papers: Papers) -> None:
    """More than a buffer holds, in one record: urllib3 looks at the socket, where nothing is left of it."""
    data = bytes(10_000)
    answer = serving(lambda sock: sock.sendall(full(data) + SECOND))
    with Peer(answer, tls=papers.server()) as origin:
        via = bench.transport(verify=papers.bundle)
        assert bench.fetch(via, origin.url).run().end == len(data)
        assert bench.idle(via) == 0
