"""TLS that stalls, is garbage or is cut, with a closure alert and without: what becomes of handshakes and bodies."""

from __future__ import annotations

import io
import os
import socket
import ssl
import threading
from typing import Any

import pytest
from transport_kit import HANG, Bench, Papers, Peer, bench, full, media, papers, ranged, read_head, sees_the_end

from kithara_actors import ActorSystem
from kithara_actors.errors import Cancelled, ConnectError
from kithara_actors.worker import body as byte_path
from kithara_actors.worker import framing, http
from kithara_actors.worker.body import BodyBroken
from kithara_actors.worker.fetcher import End
from kithara_actors.worker.sink import Sink

__all__ = ["bench", "papers"]

DATA = media(200_000)


def once(data: bytes) -> Any:
    def handler(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(full(data))

    return handler


@pytest.fixture(params=["buffered", "public"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways that a body over TLS can take."""
    if request.param == "public":
        monkeypatch.setattr(byte_path, "framing_of", lambda response, *_: framing._Public(response))
    return str(request.param)


# --- Handshakes and records that go wrong


@pytest.mark.parametrize("cancel", [False, True])
def test_a_handshake_that_stalls(bench: Bench, cancel: bool) -> None:
    hello, gone = threading.Event(), threading.Event()

    def stall(sock: socket.socket) -> None:
        if sock.recv(1):
            hello.set()
        sees_the_end(sock)
        gone.set()

    with Peer(stall) as server:
        via = bench.transport(connect_timeout=HANG if cancel else 0.5, inactivity_timeout=60.0)
        fetch = bench.fetch(via, f"https://127.0.0.1:{server.port}/").start()
        assert hello.wait(HANG)
        if cancel:
            fetch.attempt.cancel()
            assert isinstance(fetch.failure(), Cancelled)
        else:
            error = fetch.failure()
            assert isinstance(error, ConnectError)
            assert str(error) == f"no connection to 127.0.0.1:{server.port} within 0.5 s"
        assert gone.wait(HANG)


@pytest.mark.parametrize(
    ("says", "retryable"),
    [
        (b"", True),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
        (b"\x15\x03\x03\x00\x02\x02\x28", False),  # handshake failure
        (b"\x15\x03\x03\x00\x02\x02\x50", True),  # internal error
        (b"\x15\x03\x03\x00\x02\x02\x46", False),  # protocol version
        (b"\x15\x03\x03\x00\x02\x02\x70", False),  # unrecognized name
        (b"\x16\x03\x03\x00\x04" + bytes(4), True),
        (bytes(range(256)) * 40, False),
    ],
)
def test_a_handshake_that_fails_is_tried_again_if_that_can_help(bench: Bench, says: bytes, retryable: bool) -> None:
    def speak(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(says)

    with Peer(speak) as server:
        error = bench.fetch(bench.transport(), f"https://127.0.0.1:{server.port}/").failure()
        assert isinstance(error, ConnectError)
        assert f"TLS with 127.0.0.1:{server.port}" in str(error)
        assert error.retryable is retryable, str(error)
        assert server.accepted == 1


def spoil(sock: socket.socket, data: bytes) -> None:
    """Write below TLS."""
    with socket.socket(fileno=os.dup(sock.fileno())) as raw:
        raw.sendall(data)


@pytest.mark.parametrize(
    "garbage", [b"\x17\x03\x03\x00\x20" + bytes(32), b"GET / HTTP/1.1\r\n\r\n", b"\x17\x03\x03\xff\xff"]
)
@pytest.mark.parametrize("sent", [1_000, 150_000])
def test_garbage_within_a_body_is_a_broken_body(
    bench: Bench, papers: Papers, way: str, garbage: bytes, sent: int
) -> None:
    def handler(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(full(DATA)[: sent + len(full(DATA)) - len(DATA)])
        spoil(sock, garbage)

    with Peer(handler, tls=papers.server()) as server:
        fetch = bench.fetch(bench.transport(verify=papers.bundle), server.url)
        error = fetch.failure()
        assert isinstance(error, BodyBroken)
        assert error.retryable
        assert fetch.sink.landed == sent
        assert fetch.bytes() == DATA[:sent]


# --- Where a body ends


def cut(sock: socket.socket) -> None:
    """End the connection without an alert."""
    with socket.socket(fileno=os.dup(sock.fileno())) as raw:
        raw.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("shape", ["length", "chunked", "close"])
@pytest.mark.parametrize("there", [0, 10, 150_000])
def test_a_body_that_is_cut_without_an_alert_is_broken(
    bench: Bench, papers: Papers, way: str, shape: str, there: int
) -> None:
    def handler(sock: socket.socket) -> None:
        read_head(sock)
        head = b"HTTP/1.1 200 OK\r\n"
        head += {"length": b"Content-Length: 200000\r\n", "chunked": b"Transfer-Encoding: chunked\r\n"}.get(shape, b"")
        data = DATA[:there]
        if shape == "chunked" and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        sock.sendall(head + b"\r\n" + data)
        cut(sock)

    with Peer(handler, tls=papers.server()) as server:
        fetch = bench.fetch(bench.transport(verify=papers.bundle), server.url)
        error = fetch.failure()
        assert isinstance(error, BodyBroken)
        assert fetch.bytes() == DATA[:there]


def test_no_setting_of_openssl_turns_a_cut_into_an_end(
    bench: Bench, papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its configuration file can, for all programs of a machine."""
    real = http.create_urllib3_context

    def lenient(**options: Any) -> ssl.SSLContext:
        context = real(**options)
        context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
        return context

    def handler(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nabc")
        cut(sock)

    monkeypatch.setattr(http, "create_urllib3_context", lenient)
    with Peer(handler, tls=papers.server()) as server:
        assert isinstance(bench.fetch(bench.transport(verify=papers.bundle), server.url).failure(), BodyBroken)


@pytest.mark.parametrize("size", [0, 10, 150_000])
def test_a_closure_alert_ends_a_body_without_length(bench: Bench, papers: Papers, way: str, size: int) -> None:
    def handler(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + DATA[:size])
        assert isinstance(sock, ssl.SSLSocket)
        sock.unwrap()

    with Peer(handler, tls=papers.server()) as server:
        fetch = bench.fetch(bench.transport(verify=papers.bundle), server.url)
        assert fetch.run() == End(size, True, size, False)
        assert fetch.bytes() == DATA[:size]


@pytest.mark.parametrize("shape", ["length", "chunked", "interval"])
def test_a_body_that_is_whole_needs_no_alert(bench: Bench, papers: Papers, way: str, shape: str) -> None:
    def handler(sock: socket.socket) -> None:
        read_head(sock)
        if shape == "length":
            sock.sendall(full(DATA))
        elif shape == "chunked":
            wire = b"%x\r\n%b\r\n0\r\n\r\n" % (len(DATA), DATA)
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + wire)
        else:
            sock.sendall(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-199999/200000\r\n\r\n" + DATA)
        cut(sock)

    with Peer(handler, tls=papers.server()) as server:
        fetch = bench.fetch(bench.transport(verify=papers.bundle), server.url)
        assert fetch.run().end == len(DATA)
        assert fetch.bytes() == DATA


def test_a_stream_over_tls_is_resumed_where_it_was_cut(papers: Papers) -> None:
    asked: list[bytes] = []
    serve = ranged(DATA)

    def handler(sock: socket.socket) -> None:
        if asked:
            serve(sock)
            return
        asked.append(read_head(sock))
        head = 'HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-199999/200000\r\nETag: "1"\r\n'
        sock.sendall(f"{head}Content-Length: 200000\r\n\r\n".encode() + DATA[:100_000])
        cut(sock)

    with Peer(handler, tls=papers.server()) as server:
        with ActorSystem.start(workers=1, verify=papers.bundle, retry_base=0.01) as system:
            with system.open(server.url) as stream:
                assert stream.read() == DATA
        assert server.accepted == 2


def test_bytes_behind_a_body_are_not_taken_for_the_next_answer(bench: Bench, papers: Papers, way: str) -> None:
    """urllib3 looks at the socket for them, and these are decrypted already: what a buffer did not take of a record
    would be the head of the next answer."""

    def rude(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(full(b"one").ljust(io.DEFAULT_BUFFER_SIZE) + full(b"two"))
        sees_the_end(sock)

    with Peer(rude, tls=papers.server()) as server:
        via = bench.transport(verify=papers.bundle)
        for _ in range(2):
            fetch = bench.fetch(via, server.url)
            assert fetch.run() == End(3, True, 3, False)
            assert fetch.bytes() == b"one"


def test_many_records_are_taken_at_a_time(bench: Bench, papers: Papers) -> None:
    """One of 16 KiB after the other costs a good tenth more processor time."""
    data = media(8 << 20)
    writes: list[int] = []
    gate = threading.Event()

    class Slow(Sink):
        def write(self, part: bytes | memoryview, at: int) -> int:
            writes.append(len(part))
            gate.wait(0.001)  # for the server to fill the socket
            return super().write(part, at)

    with Peer(once(data), tls=papers.server()) as server:
        fetch = bench.fetch(bench.transport(verify=papers.bundle), server.url)
        fetch.sink = Slow(fetch.fd, lambda _: None)
        assert fetch.run().end == len(data)
        assert fetch.bytes() == data
    assert len(writes) < len(data) / 16384 / 2


def test_a_server_that_says_nothing_is_left_within_a_tls_body(bench: Bench, papers: Papers, way: str) -> None:
    def half(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(full(DATA)[:-50_000])
        sees_the_end(sock)

    with Peer(half, tls=papers.server()) as server:
        via = bench.transport(verify=papers.bundle, inactivity_timeout=1.5)
        fetch = bench.fetch(via, server.url)
        assert "nothing came" in str(fetch.failure())
        assert fetch.bytes() == DATA[:-50_000]
