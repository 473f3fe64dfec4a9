"""The private names of urllib3, http.client and PySocks that a worker uses: each is noticed when it goes, and
missed by nobody but for speed: without it the right bytes come, or a typed error.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from proxy_kit import HttpProxy, SocksProxy
from transport_kit import HANG, Bench, Papers, Peer, bench, full, media, papers, ranged, read_head, sees_the_end

from kithara_actors.errors import Cancelled, ConnectError, PolicyError
from kithara_actors.worker import body as byte_path
from kithara_actors.worker import connections, framing, socks
from kithara_actors.worker.attempt import Attempt, Dialer

__all__ = ["bench", "papers"]

DATA = media(2 << 20)
WORKER = Path(framing.__file__).parent
OVERRIDDEN = [
    (connections.PlainConnection, "_new_conn"),
    (connections.PlainPool, "_get_conn"),
    (connections.PlainPool, "_put_conn"),
    (connections.SecureConnection, "_tunnel"),
    (connections._Response, "begin"),
]
KNOWN = {"_fp", "_dns_host", "_socks_options", *(name for _, name in OVERRIDDEN)}


def test_every_private_name_is_known_here() -> None:
    """One more needs its fallback and its tests."""
    used = set()
    for path in (path for path in WORKER.glob("*.py") if path.stem not in ("main", "parser")):
        text = path.read_text()
        own = {f"_{name}" for name in re.findall(r"(?:def |class )_(\w+)", text)}
        own |= {f"_{name}" for name in re.findall(r"\bself\._(\w+)(?:: [^=\n]+)? = ", text)}
        own |= {f"_{name}" for name in re.findall(r"^\s*_(\w+)(?:: [^=\n]+)? = ", text, re.MULTILINE)}
        used |= {name for name in re.findall(r"(?:\.|\")(_[a-z]\w+)\b", text) if name not in own}
        used |= {name for _, name in OVERRIDDEN if f"def {name}(" in text}
    assert used == KNOWN


def reach(bench: Bench, papers: Papers, kind: str, run: Callable[[Any, str], None], **settings: Any) -> None:
    """Have `run` use a transport that leads to an origin by a connection of this kind."""
    secure = kind in ("tls", "tunnel")
    with Peer(ranged(DATA), tls=papers.server() if secure else None) as origin, HttpProxy() as tunnel:
        proxies = {"https": tunnel.url} if kind == "tunnel" else None
        via = bench.transport(verify=papers.bundle, proxies=proxies, **settings)
        run(via, origin.url)
        via.close()


@pytest.mark.parametrize(("owner", "name"), OVERRIDDEN)
def test_what_is_overridden_is_still_called(
    bench: Bench, papers: Papers, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    called: list[str] = []
    real = getattr(owner, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        called.append(name)
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)
    reach(bench, papers, "tunnel", lambda via, url: bench.fetch(via, url).run())
    assert called


@pytest.mark.parametrize("kind", ["plain", "tls", "tunnel"])
@pytest.mark.parametrize(("owner", "name"), OVERRIDDEN)
def test_without_an_override_the_bytes_come(
    bench: Bench, papers: Papers, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, kind: str
) -> None:
    monkeypatch.delattr(owner, name)

    def twice(via: Any, url: str) -> None:
        for turn in range(2):
            fetch = bench.fetch(via, url)
            end = fetch.run()
            assert (end.end, end.reused) == (len(DATA), turn == 1)
            assert fetch.bytes() == DATA
            fetch.attempt.cancel()  # too late for it, and not for the next

    reach(bench, papers, kind, twice)


@pytest.mark.parametrize("kind", ["plain", "tls", "tunnel"])
def test_without_the_response_below_bodies_are_read_by_documented_calls(
    bench: Bench, papers: Papers, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(framing, "inner", lambda _: None)
    monkeypatch.setattr(byte_path, "inner", lambda _: None)

    def twice(via: Any, url: str) -> None:
        for turn in range(2):
            fetch = bench.fetch(via, url)
            assert fetch.run().reused is (turn == 1)
            assert fetch.bytes() == DATA

    reach(bench, papers, kind, twice)


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_the_response_below_is_there(bench: Bench, papers: Papers, kind: str) -> None:
    """Without it all is slower, and nothing else would tell."""

    def look(via: Any, url: str) -> None:
        attempt = Attempt()
        response = via.open(attempt, url, {})
        assert not isinstance(framing.framing_of(response, 1.0), framing._Public)
        byte_path.close(response, attempt)

    reach(bench, papers, kind, look)


def test_a_final_dot_reaches_the_resolver(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `_dns_host`; without the dot the resolver would try its search domains as well."""
    real = socket.getaddrinfo
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> Any:
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            return real(host, port, *args, **options)
        asked.append(host)
        return real("127.0.0.1", port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with Peer(ranged(DATA)) as origin:
        via = bench.transport()
        assert bench.fetch(via, f"http://music.test.:{origin.port}/").run().end == len(DATA)
        via.close()
    assert asked == ["music.test."]


def test_socks_still_finds_its_options_and_its_connection(bench: Bench) -> None:
    """`_socks_options` from urllib3, and the place of our `connect` below that of PySocks."""
    order = socks._Handshake.__mro__
    assert order.index(socks._Connected) < order.index(socket.socket)
    assert order[1].__module__ == "socks"
    with Peer(ranged(DATA)) as origin, SocksProxy() as proxy:
        via = bench.transport(proxies={"all": f"socks5h://127.0.0.1:{proxy.port}"})
        assert bench.fetch(via, origin.url).run().end == len(DATA)
        assert proxy.asked == [("127.0.0.1", origin.port)]
        via.close()


# --- Where a connection is opened that nobody has looked at


def test_a_connection_that_urllib3_opened_can_be_cancelled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(connections.PlainConnection, "_new_conn")
    left = threading.Event()

    def half(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(full(DATA)[:100_000])
        sees_the_end(sock)
        left.set()

    with Peer(half) as origin:
        fetch = bench.fetch(bench.transport(), origin.url).start()
        assert fetch.byte_came.wait(HANG)
        fetch.attempt.cancel()
        assert isinstance(fetch.failure(), Cancelled)
        assert left.wait(HANG)


@pytest.mark.parametrize("secure", [False, True])
def test_what_urllib3_connects_to_by_itself_is_not_public(
    bench: Bench, papers: Papers, monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    monkeypatch.delattr(connections.PlainConnection, "_new_conn")
    heads: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        heads.append(read_head(sock))
        sock.sendall(full(b"secret"))

    with Peer(serve, tls=papers.server() if secure else None) as origin:
        via = bench.transport(verify=papers.bundle)
        via._dialer = Dialer(HANG, lambda _: None)
        error = bench.fetch(via, origin.url).failure()
        assert isinstance(error, PolicyError)
        assert "release of urllib3" in str(error)
        assert heads == []


def test_without_our_tunnel_a_refusal_is_an_error_still(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(connections.SecureConnection, "_tunnel")
    with HttpProxy(login="me:word") as proxy:
        error = bench.fetch(bench.transport(proxies={"https": proxy.url}), "https://music.test/").failure()
        assert isinstance(error, ConnectError)
