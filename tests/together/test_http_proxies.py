"""HTTP proxies: the tunnel through one, and what is said of one that refuses, lies or is silent."""

from __future__ import annotations

import logging
import socket
import threading

import pytest
from proxy_kit import HttpProxy
from transport_kit import HANG, Bench, Papers, Peer, bench, full, media, papers, ranged, read_head, sees_the_end

from kithara_actors import ActorSystem
from kithara_actors.errors import Cancelled, ConnectError, ProtocolError, StatusError
from kithara_actors.logic.response import Asked

__all__ = ["bench", "papers"]

DATA = media(300_000)
HOSTS = {"music.test": "127.0.0.1"}


# --- Through the tunnel


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("login", ["", "me:s3cr3t"])
def test_bodies_and_ranges_come_through_a_tunnel(bench: Bench, papers: Papers, secure: bool, login: str) -> None:
    """TLS within TLS where the proxy itself is asked over TLS."""
    data = media(2 << 20)
    with (
        Peer(ranged(data), tls=papers.server()) as origin,
        HttpProxy(hosts=HOSTS, login=login, tls=papers.server() if secure else None) as proxy,
    ):
        url = proxy.url.replace("//", f"//{login}@") if login else proxy.url
        via = bench.transport(proxies={"https": url}, verify=papers.bundle)
        whole = bench.fetch(via, f"https://music.test:{origin.port}/a")
        assert whole.run().end == len(data)
        assert whole.bytes() == data
        part = bench.fetch(via, f"https://music.test:{origin.port}/a", Asked(1000, 900_000, total=len(data)))
        end = part.run()
        assert (end.end, end.reused) == (900_000, True)
        assert part.bytes()[1000:] == data[1000:900_000]
        via.close()
        assert proxy.asked == [("music.test", origin.port)]
        lines = proxy.heads[0].split(b"\r\n")
        assert lines[0] == b"CONNECT music.test:%d HTTP/1.1" % origin.port
        assert lines[1] == b"Host: music.test:%d" % origin.port
        assert b"range" not in proxy.heads[0].lower()


def test_an_address_of_ipv6_is_tunnelled_to(bench: Bench, papers: Papers) -> None:
    with Peer(ranged(DATA), tls=papers.server("::1"), host="::1") as origin, HttpProxy() as proxy:
        via = bench.transport(proxies={"https": proxy.url}, verify=papers.bundle)
        assert bench.fetch(via, f"https://[::1]:{origin.port}/").run().end == len(DATA)
        assert proxy.heads[0].startswith(b"CONNECT [::1]:%d " % origin.port)
        via.close()


def test_a_stream_through_a_tunnel_is_resumed_where_it_broke(papers: Papers) -> None:
    asked: list[bytes] = []
    serve = ranged(DATA)

    def handler(sock: socket.socket) -> None:
        if asked:
            serve(sock)
            return
        asked.append(read_head(sock))
        head = f'HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-{len(DATA) - 1}/{len(DATA)}\r\nETag: "1"\r\n'
        sock.sendall(f"{head}Content-Length: {len(DATA)}\r\n\r\n".encode() + DATA[:100_000])

    with Peer(handler, tls=papers.server()) as origin, HttpProxy(login="me:s3cr3t") as proxy:
        proxies = {"https": proxy.url.replace("//", "//me:s3cr3t@")}
        with ActorSystem.start(workers=1, verify=papers.bundle, proxies=proxies, retry_base=0.01) as system:
            with system.open(origin.url) as stream:
                assert stream.read() == DATA
        assert len(proxy.asked) == 2


def test_interim_answers_to_connect_are_passed_over(bench: Bench, papers: Papers) -> None:
    with Peer(ranged(DATA), tls=papers.server()) as origin:

        class Hinting(HttpProxy):
            def reach(self, host: str, port: int) -> socket.socket:
                self.client.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
                return super().reach(host, port)

            def shake(self, sock: socket.socket) -> None:
                self.client = sock
                super().shake(sock)

        with Hinting() as proxy:
            via = bench.transport(proxies={"https": proxy.url}, verify=papers.bundle)
            assert bench.fetch(via, origin.url).run().end == len(DATA)
            via.close()


# --- Proxies that refuse


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        (400, False),
        (403, False),
        (404, False),
        (302, False),
        (408, True),
        (429, True),
        (502, True),
        (503, True),
        (504, True),
    ],
)
def test_a_tunnel_that_is_refused_is_told_by_its_status(bench: Bench, status: int, retryable: bool) -> None:
    with HttpProxy(answers=(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status,)) as proxy:
        via = bench.transport(proxies={"https": proxy.url})
        error = bench.fetch(via, "https://music.test/?token=secret").failure()
        assert isinstance(error, ConnectError)
        where = f"127.0.0.1:{proxy.port}"
        assert str(error) == f"the proxy {where} does not connect to music.test:443: it answers {status}"
        assert error.retryable is retryable
        assert proxy.accepted == 1


@pytest.mark.parametrize(("login", "what"), [("", "wants a user and password"), ("me:s3cr3t@", "does not accept")])
def test_a_proxy_that_wants_another_login_is_final(
    bench: Bench, caplog: pytest.LogCaptureFixture, login: str, what: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with HttpProxy(login="me:other") as proxy:
        via = bench.transport(proxies={"all": proxy.url.replace("//", f"//{login}")})
        error = bench.fetch(via, "https://music.test/").failure()
        assert isinstance(error, ConnectError)
        assert not error.retryable
        assert what in str(error)
        assert f"the proxy 127.0.0.1:{proxy.port}" in str(error)
        assert "s3cr3t" not in f"{error!r} {error.__cause__!r} {caplog.text}"
        assert "bWU6" not in f"{error!r} {caplog.text}"
        status = bench.fetch(via, "http://music.test/").failure()
        assert isinstance(status, StatusError)
        assert (status.status, status.retryable) == (407, False)


@pytest.mark.parametrize(
    ("answer", "text", "kind"),
    [
        (b"SSH-2.0-x\r\n\r\n", "it is no HTTP proxy", ProtocolError),
        (b"HTTP/1.1 two\r\n\r\n", "malformed answer", ProtocolError),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "has no end", ProtocolError),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK", "bytes of its own in the tunnel", ProtocolError),
    ],
)
def test_a_proxy_that_does_not_speak_http_is_final(bench: Bench, answer: bytes, text: str, kind: type) -> None:
    with HttpProxy(answers=(answer,)) as proxy:
        error = bench.fetch(bench.transport(proxies={"https": proxy.url}), "https://music.test/").failure()
        assert isinstance(error, kind)
        assert text in str(error)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nX: y\r\n"])
def test_a_proxy_that_leaves_is_tried_again(bench: Bench, answer: bytes) -> None:
    def leave(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(answer)

    with Peer(leave) as proxy:
        error = bench.fetch(bench.transport(proxies={"https": proxy.url}), "https://music.test/").failure()
        assert isinstance(error, ConnectError)
        assert error.retryable
        assert f"the proxy 127.0.0.1:{proxy.port} closed the connection" in str(error)


def test_a_proxy_that_is_not_there_is_named(bench: Bench) -> None:
    with socket.socket() as place:  # bound, so that nobody else takes it, and never listening
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
        via = bench.transport(proxies={"all": f"http://me:s3cr3t@127.0.0.1:{port}"})
        errors = [bench.fetch(via, f"{scheme}://music.test/").failure() for scheme in ("http", "https")]
    for error in errors:
        assert isinstance(error, ConnectError)
        assert error.retryable
        assert str(error).startswith(f"cannot connect to the proxy 127.0.0.1:{port}: ")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_certificate_of_a_proxy_is_told_from_that_of_an_origin(bench: Bench, papers: Papers, scheme: str) -> None:
    with HttpProxy(tls=papers.server("other.test")) as proxy:
        via = bench.transport(proxies={"all": proxy.url}, verify=papers.bundle)
        error = bench.fetch(via, f"{scheme}://music.test/").failure()
        assert isinstance(error, ConnectError)
        assert not error.retryable
        assert f"the certificate of the proxy 127.0.0.1:{proxy.port} is not accepted" in str(error)


# --- Time, and cancelling


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("cancel", [False, True])
def test_a_proxy_that_hangs_in_connect(bench: Bench, papers: Papers, secure: bool, cancel: bool) -> None:
    with HttpProxy(silent="connect", tls=papers.server() if secure else None) as proxy:
        limit = HANG if cancel else 1.0
        via = bench.transport(proxies={"all": proxy.url}, connect_timeout=limit, verify=papers.bundle)
        fetch = bench.fetch(via, "https://music.test/").start()
        if cancel:
            assert proxy.reached.wait(HANG)
            fetch.attempt.cancel()
            assert isinstance(fetch.failure(), Cancelled)
        else:
            error = fetch.failure()
            assert isinstance(error, ConnectError)
            where = f"127.0.0.1:{proxy.port}"
            assert str(error) == f"no connection to music.test:443 through the proxy {where} within 1 s"
        assert proxy.left.wait(HANG)
        assert fetch.attempt.fileno() == -1


def test_a_proxy_that_trickles_has_the_time_to_connect_and_no_more(bench: Bench) -> None:
    """Each byte comes in time; a limit for each read alone would never end it."""
    done = threading.Event()

    def trickle(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        try:
            while not done.wait(0.02):
                sock.sendall(b"y")
        finally:
            done.set()

    with Peer(trickle) as proxy:
        via = bench.transport(proxies={"https": proxy.url}, connect_timeout=1.0)
        assert "within 1 s" in str(bench.fetch(via, "https://music.test/").failure())
        assert done.wait(HANG)


def test_the_handshake_behind_the_tunnel_has_what_is_left_of_the_time(bench: Bench) -> None:
    def stall(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        sees_the_end(sock)

    with Peer(stall) as proxy:
        via = bench.transport(proxies={"https": proxy.url}, connect_timeout=0.2, inactivity_timeout=60.0)
        error = bench.fetch(via, "https://music.test/").failure()
        assert str(error).startswith("no connection to music.test:443 through the proxy ")


def test_a_kept_connection_to_a_proxy_serves_other_hosts(bench: Bench) -> None:
    def twice(sock: socket.socket) -> None:
        for _ in range(2):
            heads.append(read_head(sock))
            sock.sendall(full(b"abc"))

    heads: list[bytes] = []
    with Peer(twice) as proxy:
        via = bench.transport(proxies={"http": proxy.url})
        assert not bench.fetch(via, "http://music.test/").run().reused
        assert bench.fetch(via, "http://other.test/").run().reused
        assert [head.split()[1] for head in heads] == [b"http://music.test/", b"http://other.test/"]
        via.close()
