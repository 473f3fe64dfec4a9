"""Which proxy is used for an origin, by the settings and by the environment, and that none shows its password."""

from __future__ import annotations

import base64
import logging
import os
import socket
from typing import Any

import pytest
from proxy_kit import HttpProxy, SocksProxy
from transport_kit import Bench, Peer, bench, media, papers, ranged, read_head

from kithara_actors import ActorSystem
from kithara_actors.errors import ConnectError, RetryExhausted, StatusError
from kithara_actors.worker.connections import POOLS
from kithara_actors.worker.proxies import Proxies

__all__ = ["bench", "papers"]

DATA = media(300_000)
HOSTS = {"music.test": "127.0.0.1"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without proxies, to begin with."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return monkeypatch


def chosen(origin: str, proxies: dict[str, str] | None = None, *, trust_env: bool = True) -> str:
    """Host and port of the proxy for `origin`."""

    def no_tls() -> Any:
        raise AssertionError("not for this")

    made = Proxies(POOLS, no_tls, proxies=proxies, trust_env=trust_env, size=1)
    try:
        return made.pool(origin).via
    finally:
        made.close()


# --- Which one


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_the_environment_names_a_proxy(environment: pytest.MonkeyPatch, name: str) -> None:
    if name == "HTTP_PROXY":
        environment.delenv("REQUEST_METHOD", raising=False)
    environment.setenv(name, "http://me:s3cr3t@proxy.test:3128")
    assert chosen("http://music.test:80/") == "proxy.test:3128"
    assert chosen("http://music.test:80/", trust_env=False) == ""


@pytest.mark.parametrize(
    ("no_proxy", "origin", "listed"),
    [
        ("music.test", "http://music.test:80/", True),
        ("music.test", "http://a.music.test:80/", True),
        ("music.test", "http://unmusic.test:80/", False),
        (".music.test", "http://a.music.test:80/", True),
        ("other.test, music.test", "http://music.test:80/", True),
        ("music.test:8080", "http://music.test:8080/", True),
        ("music.test:8080", "http://music.test:80/", False),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/", True),
        ("127.0.0.1:8080", "http://127.0.0.1:80/", False),
        ("127.0.0.1", "http://127.0.0.1:80/", True),
        ("10.0.0.0/8", "http://10.1.2.3:80/", True),
        ("10.0.0.0/8", "http://11.1.2.3:80/", False),
        ("::1", "http://[::1]:80/", True),
        ("[::1]", "http://[::1]:80/", True),
        ("*", "http://music.test:80/", True),
        ("", "http://music.test:80/", False),
    ],
)
@pytest.mark.parametrize("where", ["no_proxy", "NO_PROXY", "settings"])
def test_no_proxy_lists_who_is_asked_directly(
    environment: pytest.MonkeyPatch, no_proxy: str, origin: str, listed: bool, where: str
) -> None:
    settings = {"http": "http://proxy.test:3128", "no_proxy": no_proxy} if where == "settings" else None
    if where != "settings":
        environment.setenv("http_proxy", "http://proxy.test:3128")
        environment.setenv(where, no_proxy)
    assert (chosen(origin, settings) == "") is listed


@pytest.mark.parametrize(
    ("settings", "proxy"),
    [
        ({"http": "http://mine.test:1"}, "mine.test:1"),
        ({"all": "http://mine.test:1"}, "mine.test:1"),
        ({"http://music.test": "http://mine.test:1", "http": "http://mine.test:2"}, "mine.test:1"),
        ({"http://music.test": ""}, ""),
        ({"https": "http://mine.test:1"}, "theirs.test:3128"),
        ({}, "theirs.test:3128"),
    ],
)
def test_what_is_set_goes_before_the_environment(
    environment: pytest.MonkeyPatch, settings: dict[str, str], proxy: str
) -> None:
    environment.setenv("http_proxy", "http://theirs.test:3128")
    assert chosen("http://music.test:80/", settings) == proxy


@pytest.mark.parametrize(
    ("proxy", "reason"),
    [
        ("ftp://me:s3cr3t@proxy.test", "its scheme must be one of http, https, socks4, socks4a, socks5, socks5h"),
        ("socks://me:s3cr3t@proxy.test", "its scheme must be one of"),
        ("http://me:s3cr3t@:80", "not the URL of a proxy"),
        ("http://me:s3cr3t@proxy.test:port", "not the URL of a proxy"),
        ("me:s3cr3t@[::1", "not the URL of a proxy"),
        ("socks5h://me:s3cr3t@", "not the URL of a proxy"),
        ("http://me:s3cr3t@proxy..test:3128", "the proxy proxy..test cannot be used: not a host name"),
        ("socks5h://me:s3cr3t@proxy..test", "the proxy proxy..test cannot be used: not a host name"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_final_and_shows_no_password(bench: Bench, proxy: str, reason: str) -> None:
    error = bench.fetch(bench.transport(proxies={"all": proxy}), "http://music.test/").failure()
    assert isinstance(error, ConnectError)
    assert not error.retryable
    assert reason in str(error)
    assert "s3cr3t" not in f"{error} {error.__cause__!r} {error.__context__!r}"


def test_a_redirect_to_a_host_without_a_proxy_goes_there_directly(
    bench: Bench, environment: pytest.MonkeyPatch
) -> None:
    with Peer(ranged(DATA)) as origin:

        def redirects(sock: socket.socket) -> None:
            heads.append(read_head(sock))
            sock.sendall(f"HTTP/1.1 302 Found\r\nLocation: {origin.url}b\r\nContent-Length: 0\r\n\r\n".encode())

        heads: list[bytes] = []
        with Peer(redirects) as proxy:
            environment.setenv("http_proxy", proxy.url.replace("//", "//me:s3cr3t@"))
            environment.setenv("no_proxy", f"127.0.0.1:{origin.port}")
            via = bench.transport(trust_env=True)
            fetch = bench.fetch(via, "http://music.test/a")
            assert fetch.run().end == len(DATA)
            assert fetch.attempt.via == ""
            assert [head.split(b"\r\n")[0] for head in heads] == [b"GET http://music.test/a HTTP/1.1"]
            via.close()


# --- The whole system


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", ["http", "socks5h", "socks5", "socks4a", "socks"])
def test_no_event_log_or_error_shows_the_password_of_a_proxy(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], kind: str, scheme: str
) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[object] = []
    with HttpProxy(login="me:other") if kind == "http" else SocksProxy(login="me:other", reply=0x5B) as proxy:
        proxies = {"all": f"{kind}://me:s3cr3t@127.0.0.1:{proxy.port}"}
        with ActorSystem.start(workers=1, proxies=proxies, retry_base=0.01, max_retries=1) as system:
            events = system.subscribe(callback=seen.append)
            with system.open(f"{scheme}://127.0.0.1:9/?token=s3cr3t") as stream:
                with pytest.raises((ConnectError, RetryExhausted, StatusError)) as caught:
                    stream.read()
                seen += [stream.error, caught.value]
        events.close()
    said = capfd.readouterr()
    assert len(seen) > 2
    everything = f"{seen!r} {[str(one) for one in seen]} {caplog.text} {said.out} {said.err}"
    assert "s3cr3t" not in everything
    assert base64.b64encode(b"me:s3cr3t").decode() not in everything
