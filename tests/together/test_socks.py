"""SOCKS proxies: what they are told, what they may answer, and that nothing waits for them past its time."""

from __future__ import annotations

import importlib.util
import logging
import socket
import threading
from typing import Any

import pytest
from proxy_kit import SocksProxy
from transport_kit import HANG, Bench, Papers, Peer, bench, full, media, papers, ranged, read_head

from kithara_actors import ActorSystem
from kithara_actors.errors import Cancelled, ConnectError, PolicyError, ProtocolError
from kithara_actors.logic.response import Asked
from kithara_actors.worker import connections
from kithara_actors.worker.attempt import Dialer

__all__ = ["bench", "papers"]

DATA = media(300_000)
HOSTS = {"music.test": "127.0.0.1"}
STREAM = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
SCHEMES = ["socks5", "socks5h", "socks4", "socks4a"]


def through(bench: Bench, proxy: SocksProxy, scheme: str = "socks5h", login: str = "", **settings: Any) -> Any:
    login = f"{login}@" if login else ""
    return bench.transport(proxies={"all": f"{scheme}://{login}{proxy.host}:{proxy.port}"}, **settings)


def resolver(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Have every name resolved to `addresses`; returns the names that are looked up here."""
    real = socket.getaddrinfo
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> Any:
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            return real(host, port, *args, **options)
        if host.startswith("127."):
            return real(host, port, *args, **options)  # of the proxies here
        asked.append(host)
        kinds = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(kinds[":" in address], socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


# --- What goes through


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_bodies_and_ranges_come_through(
    bench: Bench, papers: Papers, monkeypatch: pytest.MonkeyPatch, scheme: str, secure: bool
) -> None:
    asked = resolver(monkeypatch, "127.0.0.1")
    with Peer(ranged(DATA), tls=papers.server() if secure else None) as origin, SocksProxy(hosts=HOSTS) as proxy:
        via = through(bench, proxy, scheme, verify=papers.bundle)
        url = f"http{'s' if secure else ''}://music.test:{origin.port}/a"
        whole = bench.fetch(via, url)
        assert whole.run().end == len(DATA)
        assert whole.bytes() == DATA
        part = bench.fetch(via, url, Asked(1000, 250_000, total=len(DATA)))
        end = part.run()
        assert (end.end, end.reused) == (250_000, True)
        assert part.bytes()[1000:] == DATA[1000:250_000]
        here = scheme in ("socks5", "socks4")
        assert asked == (["music.test"] if here else [])
        assert proxy.asked == [("127.0.0.1" if here else "music.test", origin.port)]
        assert proxy.kinds == ["IPv4" if here else "name"]
        via.close()


def test_a_large_plain_body_is_spliced_through(bench: Bench) -> None:
    data = media(3 << 20)
    with Peer(ranged(data)) as origin, SocksProxy() as proxy:
        fetch = bench.fetch(via := through(bench, proxy), origin.url)
        assert fetch.run().end == len(data)
        assert fetch.attempt.plain
        assert fetch.bytes() == data
        via.close()


def test_a_stream_through_socks_is_resumed_where_it_broke() -> None:
    cut = threading.Event()
    serve = ranged(DATA)

    def broken_once(sock: socket.socket) -> None:
        if not cut.is_set():
            cut.set()
            read_head(sock)
            size = len(DATA)
            head = f'HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-{size - 1}/{size}\r\nETag: "1"\r\n'
            sock.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode() + DATA[:100_000])
            return
        serve(sock)

    with Peer(broken_once) as origin, SocksProxy(login="me:s3cr3t") as proxy:
        proxies = {"http": f"socks5h://me:s3cr3t@{proxy.host}:{proxy.port}"}
        with ActorSystem.start(workers=1, proxies=proxies, retry_base=0.01) as system:
            with system.open(origin.url) as stream:
                assert stream.read() == DATA
        assert proxy.asked == [("127.0.0.1", origin.port)] * 2


def test_an_address_goes_as_an_address(bench: Bench) -> None:
    """Whichever side looks names up: there is nothing to look up."""
    with Peer(ranged(DATA), host="::1") as origin, SocksProxy() as proxy:
        for scheme in ("socks5", "socks5h"):
            via = through(bench, proxy, scheme)
            assert bench.fetch(via, f"http://[::1]:{origin.port}/").run().end == len(DATA)
            via.close()
        assert proxy.kinds == ["IPv6", "IPv6"]


@pytest.mark.parametrize("scheme", ["socks4", "socks4a"])
def test_socks4_has_no_ipv6(bench: Bench, scheme: str) -> None:
    with SocksProxy() as proxy:
        error = bench.fetch(through(bench, proxy, scheme), "http://[::1]:81/").failure()
        assert isinstance(error, ConnectError)
        assert not error.retryable
        assert "SOCKS4, which has no IPv6" in str(error)
        assert proxy.accepted == 0


def test_a_second_address_is_tried_where_the_proxy_does_not_reach_the_first(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver(monkeypatch, "127.0.0.9", "127.0.0.1")
    with Peer(ranged(DATA)) as origin, SocksProxy(reply=(4, 0)) as proxy:
        via = through(bench, proxy, "socks5")
        assert bench.fetch(via, f"http://music.test:{origin.port}/").run().end == len(DATA)
        assert [host for host, _ in proxy.asked] == ["127.0.0.9", "127.0.0.1"]
        via.close()


@pytest.mark.parametrize(
    "bound",
    [
        b"\x01\xff\xff\xff\xff\xff\xff",
        b"\x04" + bytes(16) + b"\x00\x01",
        b"\x03\x04name\x00\x07",
    ],
)
def test_what_the_proxy_says_of_its_own_address_is_of_no_interest(bench: Bench, bound: bytes) -> None:
    with Peer(ranged(DATA)) as origin, SocksProxy(bound=bound, pieces=True) as proxy:
        via = through(bench, proxy)
        assert bench.fetch(via, origin.url).run().end == len(DATA)
        via.close()


# --- What it refuses


@pytest.mark.parametrize(
    ("scheme", "login", "what"), [("socks5h", "me:s3cr3t", "does not accept"), ("socks5", "", "wants")]
)
def test_a_login_that_is_wrong_or_missing_is_final(
    bench: Bench, caplog: pytest.LogCaptureFixture, scheme: str, login: str, what: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with SocksProxy(login="me:other") as proxy:
        error = bench.fetch(through(bench, proxy, scheme, login), "http://127.0.0.1:9/").failure()
        assert isinstance(error, ConnectError)
        assert not error.retryable
        assert what in str(error)
        assert f"{proxy.host}:{proxy.port}" in str(error)
        assert "s3cr3t" not in f"{error!r} {error.__cause__!r} {caplog.text}"
        assert proxy.asked == []


@pytest.mark.parametrize(
    ("scheme", "reply", "text", "retryable"),
    [
        ("socks5h", 1, "general socks server failure", True),
        ("socks5h", 2, "connection not allowed by ruleset", False),
        ("socks5h", 4, "host unreachable", True),
        ("socks5h", 5, "connection refused", True),
        ("socks5h", 8, "address type not supported", False),
        ("socks5h", 0x63, "code 99", True),
        ("socks4a", 0x5B, "request rejected or failed", True),
        ("socks4a", 0x5C, "request rejected because", False),
    ],
)
def test_a_refusal_is_told(bench: Bench, scheme: str, reply: int, text: str, retryable: bool) -> None:
    with SocksProxy(reply=reply) as proxy:
        error = bench.fetch(through(bench, proxy, scheme), "http://music.test:81/?token=secret").failure()
        assert isinstance(error, ConnectError)
        assert text in str(error)
        assert "does not connect to music.test:81" in str(error)
        assert error.retryable is retryable
        assert "secret" not in str(error)
        assert proxy.accepted == 1


@pytest.mark.parametrize(
    ("says", "retryable"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", False), (b"\x05", True), (b"\x05\x09", False), (b"", True)],
)
def test_a_proxy_that_does_not_speak_socks(bench: Bench, says: bytes, retryable: bool) -> None:
    def speaks(sock: socket.socket) -> None:
        sock.recv(1)
        sock.sendall(says)

    with Peer(speaks) as proxy:
        via = bench.transport(proxies={"all": f"socks5h://127.0.0.1:{proxy.port}"})
        error = bench.fetch(via, "http://music.test/").failure()
        assert isinstance(error, ConnectError)
        assert error.retryable is retryable


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_proxy_that_is_not_there_is_named(bench: Bench, scheme: str) -> None:
    with socket.socket() as place:  # bound, so that nobody else takes it, and never listening
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
        via = bench.transport(proxies={"all": f"{scheme}://me:s3cr3t@127.0.0.1:{port}"})
        error = bench.fetch(via, "http://127.0.0.1:9/").failure()
    assert isinstance(error, ConnectError)
    assert error.retryable
    assert f"cannot connect to the proxy 127.0.0.1:{port}" in str(error)


def test_what_pysocks_would_send_wrongly_is_not_sent(bench: Bench) -> None:
    """It writes the length of what is longer than 127 bytes as two."""
    with SocksProxy() as proxy:
        name = ".".join(["x" * 60] * 3) + ".test"
        error = bench.fetch(through(bench, proxy), f"http://{name}/").failure()
        assert "cannot send more than 127" in str(error)
        error = bench.fetch(through(bench, proxy, login="me:" + "w" * 128), "http://music.test/").failure()
        assert "has more than 127 bytes" in str(error)
        assert "www" not in str(error)
        error = bench.fetch(through(bench, proxy), f"http://{'x' * 64}.test/").failure()
        assert isinstance(error, ProtocolError)
        assert proxy.accepted == 0


def test_without_pysocks_the_error_says_what_to_install(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "socks" else real(name, *rest))
    via = bench.transport(proxies={"all": "socks5h://me:s3cr3t@127.0.0.1:9"})
    error = bench.fetch(via, "http://music.test/").failure()
    assert isinstance(error, ConnectError)
    assert not error.retryable
    assert "pip install 'kithara-actors[socks]'" in str(error)
    assert "s3cr3t" not in str(error)


# --- public_only


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_private_is_named_to_the_proxy(bench: Bench, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    asked = resolver(monkeypatch, "10.0.0.1")
    with SocksProxy() as proxy:
        via = through(bench, proxy, scheme, public_only=True)
        for url in ("http://music.test/", "https://music.test/", "http://127.0.0.1/", "http://169.254.169.254/"):
            error = bench.fetch(via, url).failure()
            assert isinstance(error, PolicyError)
            assert "public_only refuses" in str(error)
        assert (proxy.accepted, proxy.asked) == (0, [])
    assert asked == ["music.test"] * 2


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_proxy_is_told_the_address_that_was_allowed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """A name could lead elsewhere by the time the proxy looks it up."""
    resolver(monkeypatch, "127.0.0.1")
    with Peer(ranged(DATA)) as origin, SocksProxy(hosts={"music.test": "127.0.0.2"}) as proxy:
        via = through(bench, proxy, scheme)
        via._dialer = Dialer(5.0, lambda address: None if address == "127.0.0.1" else "not for us")
        assert bench.fetch(via, f"http://music.test:{origin.port}/").run().end == len(DATA)
        assert proxy.asked == [("127.0.0.1", origin.port)]
        via.close()


# --- Time, and cancelling


@pytest.mark.parametrize(
    ("scheme", "phase"),
    [("socks5h", "greeting"), ("socks5h", "method"), ("socks5h", "login"), ("socks5h", "reply"), ("socks4a", "reply")],
)
@pytest.mark.parametrize("cancel", [False, True])
def test_a_proxy_that_falls_silent(bench: Bench, scheme: str, phase: str, cancel: bool) -> None:
    with SocksProxy(silent=phase, login="me:s3cr3t") as proxy:
        via = through(bench, proxy, scheme, "me:s3cr3t", connect_timeout=HANG if cancel else 0.5)
        fetch = bench.fetch(via, "http://music.test/").start()
        assert proxy.reached.wait(HANG)
        if cancel:
            fetch.attempt.cancel()
        error = fetch.failure()
        if cancel:
            assert isinstance(error, Cancelled)
        else:
            assert isinstance(error, ConnectError)
            where = f"127.0.0.1:{proxy.port}"
            assert str(error) == f"no connection to music.test:80 through the proxy {where} within 0.5 s"
        assert proxy.left.wait(HANG)
        assert fetch.attempt.fileno() == -1


def test_a_proxy_that_trickles_has_the_time_to_connect_and_no_more(bench: Bench) -> None:
    """Each byte comes in time; a limit for each read alone would have it come to the end of its answer."""
    done = threading.Event()
    sent = 0

    def trickle(sock: socket.socket) -> None:
        nonlocal sent
        sock.recv(100)
        sock.sendall(b"\x05\x00")
        sock.recv(100)
        sock.sendall(b"\x05\x00\x00\x03\xff")
        try:
            while sent < 257 and not done.wait(0.02):
                sock.sendall(b"x")
                sent += 1
        finally:
            done.set()

    with Peer(trickle) as proxy:
        via = bench.transport(proxies={"all": f"socks5h://127.0.0.1:{proxy.port}"}, connect_timeout=1.0)
        error = bench.fetch(via, "http://music.test/").failure()
        assert "within 1 s" in str(error)
        assert done.wait(HANG)
        assert sent < 257


def test_the_host_is_looked_up_where_a_cancel_reaches(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> Any:
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            return real(host, port, *args, **options)
        asked.set()
        answer.wait(HANG)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with SocksProxy() as proxy:
        via = through(bench, proxy, "socks5")
        fetch = bench.fetch(via, "http://music.test/").start()
        assert asked.wait(HANG)
        fetch.attempt.cancel()
        assert isinstance(fetch.failure(), Cancelled)
        assert via.abandoned_lookups == 1
        assert proxy.asked == []
    answer.set()


def test_a_urllib3_that_opens_connections_by_itself_is_not_let_past_the_proxy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`_new_conn` is private: where it is no longer called, SOCKS fails and nothing goes out in the open."""
    monkeypatch.delattr(connections.PlainConnection, "_new_conn")

    def once(sock: socket.socket) -> None:
        heads.append(read_head(sock))
        sock.sendall(full(b"abc"))

    heads: list[bytes] = []
    with Peer(once) as origin, SocksProxy() as proxy:
        error = bench.fetch(through(bench, proxy), origin.url).failure()
        assert isinstance(error, ConnectError)
        assert not error.retryable
        assert "past SOCKS proxies" in str(error)
        assert (heads, proxy.accepted) == ([], 0)
