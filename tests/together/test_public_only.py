"""Addresses that are not public get no connection: checked behind the lookup, on the address that is connected to."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

from kithara_actors import ActorSystem, PolicyError, public_only
from kithara_actors.errors import ConnectError, ProtocolError
from kithara_actors.logic.response import Asked
from kithara_actors.testing.origin import Fault, Origin, Resource, body
from kithara_actors.worker.attempt import Attempt, Dialer
from kithara_actors.worker.connections import PlainPool
from kithara_actors.worker.fetcher import End, Order, run
from kithara_actors.worker.http import Transport, TransportSettings
from kithara_actors.worker.sink import Sink

SIZE = 50_000
STREAM = (socket.AF_INET, socket.SOCK_STREAM, 6, "")


def only_first(address: str) -> str | None:
    """A refusal for tests, where all addresses are loopback: 127.0.0.1 is public, its neighbours are not."""
    return None if address == "127.0.0.1" else "not for us"


class Proxy:
    """Serves every absolute URL that it is asked for, or redirects from it, and keeps what was asked."""

    def __init__(self, location: str | None = None) -> None:
        self.asked: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy.asked.append(self.path)
                self.send_response(200 if location is None else 302)
                if location is not None:
                    self.send_header("Location", location)
                self.send_header("Content-Length", "5")
                self.end_headers()
                self.wfile.write(b"bytes")

            def log_message(self, *_: object) -> None:
                """Nothing to the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def neighbour() -> Iterator[Origin]:
    """An origin at an address that `only_first` refuses."""
    with Origin("127.0.0.2") as server:
        yield server


def lookups(monkeypatch: pytest.MonkeyPatch, *answers: list[tuple[str, int]]) -> list[str]:
    """Have names resolved to one answer after another; returns the names that are looked up."""
    real = socket.getaddrinfo
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> Any:
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            return real(host, port, *args, **options)
        asked.append(host)
        return [(*STREAM, address) for address in answers[min(len(asked), len(answers)) - 1]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def port_of(server: Origin) -> int:
    return int(server.base.rpartition(":")[2])


@contextlib.contextmanager
def transport(refusal: Callable[[str], str | None] | None = None, **settings: Any) -> Iterator[Transport]:
    made = Transport(TransportSettings(**{"trust_env": False, "connect_timeout": 5.0, **settings}))
    if refusal is not None:
        made._dialer = Dialer(5.0, refusal)
    try:
        yield made
    finally:
        made.close()


def fetch(via: Transport, url: str) -> End:
    fd = os.memfd_create("test")
    try:
        sink = Sink(fd, lambda _: None)
        return run(via, Attempt(), Order(url, (), Asked(0, None)), sink, lambda *_: None)
    finally:
        os.close(fd)


# --- The dialer


def test_what_was_allowed_is_what_is_connected_to(
    origin: Origin, neighbour: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer changes behind the check: a second lookup would lead elsewhere, so there is none."""
    good, bad = ("127.0.0.1", port_of(origin)), ("127.0.0.2", port_of(neighbour))
    asked = lookups(monkeypatch, [good], [bad])
    origin.add("/a", Resource(size=SIZE))
    neighbour.add("/a", Resource(size=SIZE))
    with transport(only_first) as via:
        assert fetch(via, f"http://music.test:{good[1]}/a").end == SIZE
    assert asked == ["music.test"]
    assert (len(origin.requests), len(neighbour.requests)) == (1, 0)


def test_a_later_connection_is_checked_anew(origin: Origin, neighbour: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = ("127.0.0.1", port_of(origin)), ("127.0.0.2", port_of(neighbour))
    lookups(monkeypatch, [good], [bad])
    origin.add("/a", Resource(size=SIZE, headers={"Connection": "close"}))
    neighbour.add("/a", Resource(size=SIZE))
    with transport(only_first) as via:
        assert fetch(via, f"http://music.test:{good[1]}/a").end == SIZE
    with transport(only_first) as via, pytest.raises(PolicyError, match=r"music\.test.*127\.0\.0\.2 is not for us"):
        fetch(via, f"http://music.test:{good[1]}/a")
    assert neighbour.requests == []


def test_one_address_that_is_refused_refuses_the_host(
    origin: Origin, neighbour: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups(monkeypatch, [("127.0.0.1", port_of(origin)), ("127.0.0.2", port_of(neighbour))])
    dialer = Dialer(5.0, only_first)
    with pytest.raises(PolicyError, match=r"127\.0\.0\.2 is not for us"):
        dialer.dial(Attempt(), "music.test", port_of(origin), ())
    assert origin.requests == neighbour.requests == []


def test_a_redirect_to_a_refused_address_is_not_followed(origin: Origin, neighbour: Origin) -> None:
    target = neighbour.add("/b", Resource(size=SIZE))
    url = origin.add("/a", Resource(always=Fault(redirect=target)))
    with transport(only_first) as via, pytest.raises(PolicyError, match=r"public_only refuses 127\.0\.0\.2:") as caught:
        fetch(via, url)
    assert not caught.value.retryable
    assert (len(origin.requests), neighbour.requests) == (1, [])


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.0x1",
        "0",
        "0.0.0.0",
        "[::]",
        "[::1]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "1.1.1.1@127.0.0.1",
        "1.1.1.1:80@localhost",
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "loc\u00adalhost",
    ],
)
def test_no_spelling_reaches_this_machine(origin: Origin, host: str) -> None:
    origin.add("/a", Resource(size=SIZE))
    # A name in odd characters may be none to urllib3, before it is looked up.
    refused = PolicyError if host.isascii() else (PolicyError, ProtocolError)
    with transport(public_only=True) as via, pytest.raises(refused):
        fetch(via, f"http://{host}:{port_of(origin)}/a?token=secret")
    assert origin.requests == []


@pytest.mark.parametrize(
    "location",
    [
        "//127.0.0.1:{port}/a",
        " http://127.0.0.1:{port}/a",
        "http:127.0.0.1:{port}/a",
        "http:/127.0.0.1:{port}/a",
        "http:///127.0.0.1:{port}/a",
        "\\\\127.0.0.1:{port}/a",
        "/\\127.0.0.1:{port}/a",
        "http:\\\\127.0.0.1:{port}/a",
        "http://1.1.1.1\\@127.0.0.1:{port}/a",
        "http://1.1.1.1\t@127.0.0.1:{port}/a",
        "http://1.1.1.1#@127.0.0.1:{port}/a",
        "http://1.1.1.1?@127.0.0.1:{port}/a",
        "http://u:p@127.0.0.1:{port}/a",
        "http://[::1]1.1.1.1:{port}/a",
        "http://[::ffff:127.0.0.1%25lo]:{port}/a",
        "http://localhost.:{port}/a",
        "gopher://127.0.0.1:{port}/a",
    ],
)
def test_what_readers_of_urls_disagree_about_leads_nowhere(origin: Origin, location: str) -> None:
    """A Location is refused, or read as one on the host that sent it; at the end of ten of these it is over."""
    origin.add("/a", Resource(size=SIZE))
    with (
        Proxy(location.format(port=port_of(origin))) as proxy,
        transport(public_only=True, proxies={"http": proxy.url}) as via,
        pytest.raises((PolicyError, ProtocolError, ConnectError)),
    ):
        fetch(via, "http://1.1.1.1/x/")
    assert {url[:15] for url in proxy.asked} == {"http://1.1.1.1/"}
    assert origin.requests == []


def test_nothing_connects_by_itself(origin: Origin) -> None:
    """A connection that urllib3 opened outside of an attempt would be to an address that nobody has checked."""
    pool = PlainPool("127.0.0.1", port_of(origin))
    with pytest.raises(RuntimeError, match="only be opened for an attempt"):
        pool.urlopen("GET", "/a", retries=False)
    pool.close()
    assert origin.requests == []


# --- Proxies


def test_behind_a_proxy_names_are_looked_up_and_refused_here(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = lookups(monkeypatch, [("10.0.0.1", 80)])
    with Proxy() as proxy, transport(public_only=True, proxies={"http": proxy.url}) as via:
        for url in ("http://music.test/a", "http://127.0.0.1/a", "http://169.254.169.254/latest/meta-data/"):
            with pytest.raises(PolicyError, match="public_only refuses"):
                fetch(via, url)
        assert proxy.asked == []
        assert fetch(via, "http://1.1.1.1/a").end == 5
        assert proxy.asked == ["http://1.1.1.1/a"]
    assert asked == ["music.test"]


@pytest.mark.parametrize("besides", ["", "127.0.0.1,localhost"])
def test_the_environment_opens_no_way_around(origin: Origin, monkeypatch: pytest.MonkeyPatch, besides: str) -> None:
    url = origin.add("/a", Resource(size=SIZE))
    with Proxy(url) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", besides)
        with transport(public_only=True, trust_env=True) as via:
            for one in (url, "http://1.1.1.1/a"):
                with pytest.raises(PolicyError, match=r"127\.0\.0\.1 is a loopback address"):
                    fetch(via, one)
        assert proxy.asked == ["http://1.1.1.1/a"]
    assert origin.requests == []


def test_behind_a_proxy_a_redirect_is_refused_too(origin: Origin) -> None:
    target = origin.add("/a", Resource(size=SIZE))
    with Proxy(target) as proxy, transport(public_only=True, proxies={"http": proxy.url}) as via:
        with pytest.raises(PolicyError, match=r"127\.0\.0\.1 is a loopback address"):
            fetch(via, "http://1.1.1.1/a")
        assert proxy.asked == ["http://1.1.1.1/a"]
    assert origin.requests == []


@pytest.mark.parametrize("host", ["010.0.0.1", "01.01.01.01", "0x08.0.0.1", "1.1", "16843009"])
def test_behind_a_proxy_an_address_is_written_so_that_all_read_the_same(host: str) -> None:
    """`010.0.0.1` is 8.0.0.1, which is public, to the C library, and 10.0.0.1 to many a proxy."""
    with Proxy() as proxy:
        with transport(public_only=True, proxies={"http": proxy.url}) as via:
            with pytest.raises(PolicyError, match=r"through a proxy: write it as (8\.0\.0\.1|1\.(0\.0|1\.1)\.1)$"):
                fetch(via, f"http://{host}/a")
            assert proxy.asked == []
        with transport(proxies={"http": proxy.url}) as via:
            assert fetch(via, f"http://{host}/a").end == 5


def test_behind_a_proxy_a_name_is_looked_up_as_the_proxy_is_told_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encodings of names in other scripts differ: to Python's own this would be `fass.test`, another host."""
    asked = lookups(monkeypatch, [("10.0.0.1", 443)])
    with Proxy() as proxy, transport(public_only=True, proxies={"https": proxy.url}) as via:
        with pytest.raises(PolicyError, match=r"10\.0\.0\.1 is a private address"):
            fetch(via, "https://fa\u00df.test/a")
        assert proxy.asked == []
    assert asked == ["xn--fa-hia.test"]


def test_behind_a_proxy_a_name_in_another_script_is_asked_for() -> None:
    with Proxy() as proxy, transport(proxies={"http": proxy.url}) as via:
        assert fetch(via, "http://b\u00fccher.test/a").end == 5
        assert fetch(via, "http://B\u00dcCHER.test:81/a").end == 5
        assert proxy.asked == ["http://xn--bcher-kva.test/a", "http://xn--bcher-kva.test:81/a"]


def test_a_name_that_only_the_proxy_knows_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> Any:
        if host == "music.test":
            raise socket.gaierror(socket.EAI_NONAME, "no such thing")
        return real(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with Proxy() as proxy, transport(public_only=True, proxies={"http": proxy.url}) as via:
        with pytest.raises(ConnectError, match="cannot resolve host"):
            fetch(via, "http://music.test/a")
        assert proxy.asked == []


# --- The whole system


def test_a_system_that_is_public_only_asks_nobody_here(origin: Origin, tmp_path: Path) -> None:
    url = origin.add("/a", Resource(size=SIZE))
    port = port_of(origin)
    file = tmp_path / "a.mp3"
    file.write_bytes(b"local")
    with ActorSystem.start(workers=1, url_policy=public_only) as system:
        for source in (url, f"http://localhost:{port}/a", f"http://2130706433:{port}/a"):
            with system.open(source) as stream:
                for _ in range(2):
                    with pytest.raises(PolicyError, match="is a loopback address"):
                        stream.read(1)
        with system.open("http://music.test/a", resolve=lambda _: url) as stream:
            with pytest.raises(PolicyError, match="is a loopback address"):
                stream.read(1)
        for path in (file, str(file)):
            with pytest.raises(PolicyError, match="it is a local path"):
                system.open(path)
    assert origin.requests == []


def test_a_system_that_is_public_only_reads_what_is_public(origin: Origin) -> None:
    inner = origin.add("/a", Resource(size=SIZE))
    with Proxy() as proxy, Proxy(inner) as leading:
        with ActorSystem.start(workers=1, url_policy=public_only, proxies={"http": proxy.url}) as system:
            with system.open("http://1.1.1.1/a") as stream:
                assert stream.read() == b"bytes"
        with ActorSystem.start(workers=1, url_policy=public_only, proxies={"http": leading.url}) as system:
            with system.open("http://1.1.1.1/a") as stream, pytest.raises(PolicyError, match="loopback"):
                stream.read()
    assert origin.requests == []


def test_without_a_policy_this_machine_is_asked(origin: Origin) -> None:
    with ActorSystem.start(workers=1) as system, system.open(origin.add("/a", Resource(size=SIZE, seed=3))) as stream:
        assert stream.read() == body(3, 0, SIZE)
