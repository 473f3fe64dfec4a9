"""A cancel in every phase of an attempt, over every kind of connection: it ends, and the server sees it end."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from proxy_kit import HttpProxy, SocksProxy
from transport_kit import HANG, Bench, Fetch, Papers, Peer, bench, media, papers, read_head, sees_the_end

from kithara_actors.errors import Cancelled
from kithara_actors.testing.origin import Origin
from kithara_actors.worker import body as byte_path
from kithara_actors.worker import framing
from kithara_actors.worker.fetcher import run
from kithara_actors.worker.http import Transport

__all__ = ["bench", "papers"]

DATA = media(2 << 20)
KINDS = ["plain", "tls", "proxy", "tunnel", "tunnel over tls", "socks", "socks and tls"]
OK = b"HTTP/1.1 200 OK\r\n"
SIZED = b"%bContent-Length: %d\r\n\r\n" % (OK, len(DATA))


@dataclass
class Stage:
    """An origin that serves one phase of an answer, and what happened there."""

    phase: str
    reached: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    later: int = 0
    """Requests that came after the one that was cancelled."""

    def serve(self, sock: socket.socket) -> None:
        read_head(sock)
        if self.reached.is_set():
            self.later += 1
            return
        try:
            self._answer(sock)
        finally:
            self.left.set()

    def _answer(self, sock: socket.socket) -> None:
        match self.phase:
            case "headers byte by byte":
                gate = threading.Event()
                sock.sendall(OK + b"X: ")
                self.reached.set()
                while not gate.wait(0.005):
                    sock.sendall(b"x")
            case "body byte by byte":
                gate = threading.Event()
                sock.sendall(SIZED + DATA[:20_000])
                self.reached.set()
                for at in range(20_000, len(DATA)):
                    sock.sendall(DATA[at : at + 1])
                    gate.wait(0.005)
        begun = {
            "no headers": b"",
            "headers": OK + b"Content-Type: audio/mpeg\r\nX: y",
            "interim": b"HTTP/1.1 103 Early Hints\r\n\r\n",
            "body": SIZED + DATA[:1000],
            "large body": SIZED + DATA[:1_500_000],
            "body without length": OK + b"\r\n" + DATA[:1000],
            "in a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n10\r\n12345",
            "in a chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1",
            "in a trailer": OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y",
            "body of a redirect": b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 500\r\n\r\n123",
            "body of a refusal": b"HTTP/1.1 416 No\r\nContent-Length: 500\r\n\r\n123",
        }
        sock.sendall(begun[self.phase])
        self.reached.set()
        sees_the_end(sock)


@contextlib.contextmanager
def connection(kind: str, bench: Bench, papers: Papers, stage: Stage) -> Iterator[tuple[Transport, str]]:
    """A transport and a URL that leads to `stage` by a connection of this kind."""
    with contextlib.ExitStack() as stack:
        secure = kind not in ("plain", "proxy", "socks")
        origin = stack.enter_context(Peer(stage.serve, tls=papers.server() if secure else None))
        settings: dict[str, Any] = {"connect_timeout": HANG, "inactivity_timeout": HANG, "verify": papers.bundle}
        match kind:
            case "proxy":
                settings["proxies"] = {"http": origin.url}
            case "tunnel" | "tunnel over tls":
                tls = papers.server() if kind == "tunnel over tls" else None
                settings["proxies"] = {"https": stack.enter_context(HttpProxy(tls=tls)).url}
            case "socks" | "socks and tls":
                settings["proxies"] = {"all": f"socks5h://127.0.0.1:{stack.enter_context(SocksProxy()).port}"}
        via = bench.transport(**settings)
        yield via, f"{origin.url}a"
        via.close()


def cancelled(fetch: Fetch) -> None:
    fetch.attempt.cancel()
    assert isinstance(fetch.failure(), Cancelled), repr(fetch.error)
    assert fetch.attempt.fileno() == -1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "phase",
    [
        "no headers",
        "interim",
        "headers",
        "headers byte by byte",
        "body",
        "body byte by byte",
        "large body",
        "body without length",
        "in a chunk",
        "in a chunk size",
        "in a trailer",
        "body of a redirect",
        "body of a refusal",
    ],
)
def test_cancel_while_the_answer_comes(
    bench: Bench, papers: Papers, monkeypatch: pytest.MonkeyPatch, kind: str, phase: str
) -> None:
    monkeypatch.setattr(byte_path, "_SPLICE_FROM", 1 if phase == "large body" else 1 << 60)
    stage = Stage(phase)
    with connection(kind, bench, papers, stage) as (via, url):
        fetch = bench.fetch(via, url).start()
        assert stage.reached.wait(HANG)
        if "body" in phase and "of a" not in phase:
            assert fetch.byte_came.wait(HANG)
        cancelled(fetch)
        assert stage.left.wait(HANG)
        assert bench.idle(via) == 0
        assert stage.later == 0
        stored = fetch.bytes()
        assert stored == (DATA[: len(stored)] if "chunk" not in phase and "trailer" not in phase else stored)


@pytest.mark.parametrize("kind", KINDS)
def test_cancel_in_a_body_read_by_documented_calls_alone(
    bench: Bench, papers: Papers, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(byte_path, "framing_of", lambda response, *_: framing._Public(response))
    stage = Stage("large body")
    with connection(kind, bench, papers, stage) as (via, url):
        fetch = bench.fetch(via, url).start()
        assert fetch.byte_came.wait(HANG)
        cancelled(fetch)
        assert stage.left.wait(HANG)
        assert bench.idle(via) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["chunked", "interval"])
def test_cancel_when_all_bytes_are_there_but_not_the_end(bench: Bench, papers: Papers, kind: str, shape: str) -> None:
    """What was asked for has landed: the attempt may as well have come to its end."""
    stage = Stage("body")
    sent = threading.Event()

    def answer(sock: socket.socket) -> None:
        head = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-999/1000\r\n"
        if shape == "chunked":
            sock.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + DATA[:1000] + b"\r\n")
        else:
            sock.sendall(head + b"\r\n" + DATA[:1000])
        sent.set()
        sees_the_end(sock)

    stage._answer = answer  # type: ignore[method-assign]
    with connection(kind, bench, papers, stage) as (via, url):
        fetch = bench.fetch(via, url).start()
        assert fetch.byte_came.wait(HANG)
        fetch.attempt.cancel()
        fetch.join()
        assert fetch.end is not None or isinstance(fetch.error, Cancelled), repr(fetch.error)
        assert fetch.bytes() == DATA[:1000]
        assert stage.left.wait(HANG)
        assert bench.idle(via) == 0
        assert fetch.attempt.fileno() == -1


@pytest.mark.parametrize("kind", KINDS)
def test_cancel_between_two_redirects(bench: Bench, papers: Papers, kind: str) -> None:
    """The first answer is done with: its connection is shut down all the same, and must not wait for another."""
    stage = Stage("body")

    def redirect(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n")
        stage.reached.set()
        sees_the_end(sock)

    stage._answer = redirect  # type: ignore[method-assign]
    with connection(kind, bench, papers, stage) as (via, url):
        fetch = bench.fetch(via, url)
        with pytest.raises(Cancelled):
            run(via, fetch.attempt, fetch.order, fetch.sink, lambda *_: None, judge=lambda _: fetch.attempt.cancel())
        assert stage.left.wait(HANG)
        assert (stage.later, bench.idle(via), fetch.attempt.fileno()) == (0, 0, -1)


# --- Before there is a connection


@pytest.mark.parametrize("proxy", ["", "http", "https", "socks5", "socks5h", "socks4", "socks4a"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_cancel_while_the_connection_is_made(bench: Bench, proxy: str, scheme: str) -> None:
    with Origin() as origin:
        silent = origin.silent_address().removeprefix("http://").strip("/")
        proxies = {"all": f"{proxy}://{silent}"} if proxy else None
        via = bench.transport(proxies=proxies, connect_timeout=HANG)
        fetch = bench.fetch(via, f"{scheme}://{'127.0.0.1:9' if proxy else silent}/").start()
        fetch.wait_until_bound()
        cancelled(fetch)


@pytest.mark.parametrize("proxy", ["", "http", "https", "socks5", "socks5h", "socks4", "socks4a"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_cancel_while_a_name_is_looked_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, proxy: str, scheme: str
) -> None:
    real = socket.getaddrinfo
    asked, answer = threading.Event(), threading.Event()

    def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> Any:
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            return real(host, port, *args, **options)
        asked.set()
        answer.wait(HANG)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    via = bench.transport(proxies={"all": f"{proxy}://proxy.test:9"} if proxy else None, connect_timeout=HANG)
    fetch = bench.fetch(via, f"{scheme}://music.test/").start()
    assert asked.wait(HANG)
    cancelled(fetch)
    assert via.abandoned_lookups == 1
    answer.set()


@pytest.mark.parametrize("kind", ["tls", "tunnel", "socks and tls"])
@pytest.mark.parametrize("sent", [0, 60])
def test_cancel_in_the_tls_handshake(bench: Bench, papers: Papers, kind: str, sent: int) -> None:
    """Silence, or the beginning of a server's answer and then silence."""
    hello, left = threading.Event(), threading.Event()

    def stall(sock: socket.socket) -> None:
        sock.recv(1)
        sock.sendall((b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76" + bytes(100))[:sent])
        hello.set()
        sees_the_end(sock)
        left.set()

    with Peer(stall) as origin, HttpProxy() as tunnel, SocksProxy() as through:
        proxies = {
            "tls": None,
            "tunnel": {"all": tunnel.url},
            "socks and tls": {"all": f"socks5h://127.0.0.1:{through.port}"},
        }[kind]
        via = bench.transport(proxies=proxies, connect_timeout=HANG)
        fetch = bench.fetch(via, f"https://127.0.0.1:{origin.port}/").start()
        assert hello.wait(HANG)
        cancelled(fetch)
        assert left.wait(HANG)


@pytest.mark.parametrize("kind", KINDS)
def test_cancel_before_the_start_opens_nothing(bench: Bench, papers: Papers, kind: str) -> None:
    stage = Stage("body")
    with connection(kind, bench, papers, stage) as (via, url):
        fetch = bench.fetch(via, url)
        fetch.attempt.cancel()
        assert isinstance(fetch.failure(), Cancelled)
        assert not stage.reached.is_set()
