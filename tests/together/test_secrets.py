"""No secret that an application or a server hands over is in a log line, an event, an error, or a place to be seen."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgpack
import pytest
import urllib3
from bad_answers import FINAL, OK
from bad_answers_kit import BadServer, then
from http_matrix_faults import FAMILIES
from http_matrix_kit import Cell, entity
from secrets_kit import HEADERS, QUERY, Surfaces, credentials, fails, leaked, raised_by, secret
from stream_kit import HANG

from kithara_actors import InternalError
from kithara_actors.actor.source import Source
from kithara_actors.events import DeadLetter, FileError
from kithara_actors.testing.origin import Fault, Origin, Resource, body
from kithara_actors.worker.attempt import Attempt
from kithara_actors.worker.http import Transport, TransportSettings

pytestmark = pytest.mark.long

SIZE = 50_000


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as one:
        yield one


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as one:
        yield one


@pytest.fixture
def surfaces(capfd: pytest.CaptureFixture[str]) -> Surfaces:
    return Surfaces(capfd)


def test_what_is_looked_for_is_found() -> None:
    """The search itself: what it does not find would prove nothing."""
    assert leaked(f"GET /?{QUERY}")[0].startswith("query: ")
    assert len(leaked(f"{credentials('http://h/')} {HEADERS}")) >= 12
    assert leaked("https://…@h/a?token=…&token=…;sig=…&…") == []


def test_a_transfer_that_succeeds_says_nothing(surfaces: Surfaces, origin: Origin, tmp_path: Path) -> None:
    url = origin.add("/a.mp3", Resource(SIZE, seed=2, etag='"v"', script=(Fault(cut_after=20_000),)))
    target = tmp_path / "saved"
    with surfaces.of(cache_dir=tmp_path / "cache") as system:
        with system.open(credentials(url), headers=HEADERS, discriminator=secret("discriminator")) as stream:
            assert stream.read() == body(2, 0, SIZE)
            assert stream.wait_complete(HANG)
            surfaces.stream(stream)
        with system.save(credentials(url), target, headers=HEADERS) as stream:
            assert stream.wait_complete(HANG)
    assert leaked(surfaces.text) == []
    # They did reach the server.
    first = origin.requests[0]
    assert first.headers["x-api-key"] == secret("api-key")
    assert leaked(first.target)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_fault_makes_a_secret_known(surfaces: Surfaces, origin: Origin, family: str) -> None:
    """Every fault of the HTTP matrix, in the first answer, in every answer, and in a resume."""
    for hop in range(1, 6):
        origin.add(f"/loop/{hop}", Resource(1, always=Fault(redirect=f"/loop/{hop % 5 + 1}?t={secret('location')}")))
    limit = 1.0 if family == "silence" else HANG
    todo = []
    for row, phase in itertools.product(FAMILIES[family], ("first", "resume")):
        cell = Cell(row.name, "ranges", phase, "strong", True)
        if row.fits(cell):
            lead = [] if phase == "first" else [Fault(cut_after=20_000)]
            served = replace(entity(cell), script=[*lead, *row.before(cell)], always=row.fault(cell))
            todo.append(origin.add(f"/{phase}/{len(todo)}/a.mp3", served))
    assert len(todo) > 5
    with surfaces.of(inactivity_timeout=limit, max_per_host=64, proxies={}) as system:

        def play(url: str) -> None:
            with system.open(credentials(url), headers=HEADERS) as stream:
                error = raised_by(lambda: [stream.read(10), stream.read()])
                if error is not None:
                    surfaces.error(error)
                surfaces.stream(stream)

        with ThreadPoolExecutor(32) as pool:
            list(pool.map(play, todo))
    assert surfaces.errors
    assert leaked(surfaces.text) == []


@pytest.mark.parametrize("family", FINAL)
def test_no_malformed_answer_makes_a_secret_known(surfaces: Surfaces, server: BadServer, family: str) -> None:
    with surfaces.of(proxies={}) as system:
        for number, (answer, _) in enumerate(FINAL[family].values()):
            fails(surfaces, system, credentials(server.add(f"/{number}", answer)), headers=HEADERS)
    assert leaked(surfaces.text) == []


LOCATION = f"{quote(secret('location-user'), safe='')}:{quote(secret('location-password'), safe='')}"
LOCATIONS = [
    f"http://{secret('location-user')}:{secret('location-password')}@HOST/gone?t=",
    "http://127.0.0.1:1/gone?t=",
    "/gone;v=1?t=",
    "gone?",
    "?t=",
    "//HOST/gone?t=1;u=",
    f"http://{LOCATION}@HOST/gone?t=",
    f"http://{LOCATION}@[/gone?t=",
    f"http:/{LOCATION}@HOST/gone?t=",
    f"https://{LOCATION}@HOST:x/gone?t=",
    f"ftp://{LOCATION}@HOST/gone?t=",
    f"{LOCATION}@HOST/gone?t=",
    "http://a..b/gone?t=",
    "http://does-not-exist.invalid/gone?t=",
    "javascript:alert('",
    "data:audio/mpeg;base64,",
    "http://HOST/gone#",
    "http://HOST/\x07gone?",
]


@pytest.mark.parametrize("policy", [None, lambda url: "gone" not in url], ids=["no policy", "policy"])
def test_where_a_redirect_leads_is_told_without_its_secrets(
    surfaces: Surfaces, origin: Origin, server: BadServer, policy: Any
) -> None:
    origin.add("/gone", Resource(always=Fault(status=410)))
    host = origin.base.removeprefix("http://")
    with surfaces.of(url_policy=policy, proxies={}) as system:
        for number, location in enumerate(LOCATIONS):
            value = location.replace("HOST", host) + quote(secret("location"), safe="")
            head = f"HTTP/1.1 302 Found\r\nLocation: {value}\r\nContent-Length: 0\r\n\r\n"
            fails(surfaces, system, credentials(server.add(f"/{number}", then(head.encode()))), headers=HEADERS)
    text = surfaces.text
    assert leaked(text) == []
    # Useful all the same: where it led is said where it is what failed.
    if policy is not None:
        assert f"refuses http://{host}/gone?t=…" in text


def test_redirects_that_were_followed_are_shown_without_secrets(surfaces: Surfaces, origin: Origin) -> None:
    target = origin.add("/b.mp3", Resource(SIZE))
    away = f"{credentials(target, userinfo=LOCATION)}&t={quote(secret('location'), safe='')}"
    url = origin.add("/a.mp3", Resource(always=Fault(redirect=away)))
    with surfaces.of() as system, system.open(credentials(url), headers=HEADERS) as stream:
        assert len(stream.read()) == SIZE
        assert stream.answer is not None
        assert stream.answer.redirects == (f"{target}?token=?&token=?;sig=?&?",)
        surfaces.stream(stream)
    assert leaked(surfaces.text) == []


SAID_BY_SERVERS = [
    f"Content-Range: bytes 0-5/{secret('server')}",
    f"Content-Length: {secret('server')}",
    f"Content-Encoding: {secret('server')}",
    f"Transfer-Encoding: {secret('server')}",
    f"Content-Type: text/html; {secret('server')}\r\nContent-Length: 6",
    f"{secret('server')} nothing",
    f"{secret('server')} : nothing",
    f"X: {secret('server')}\0",
    f"Set-Cookie: {secret('server')}\rX",
]


def test_what_a_server_says_is_not_repeated(surfaces: Surfaces, server: BadServer) -> None:
    """A server may send back what it was sent."""
    answers = [OK.replace(b"200", b"206") + line.encode() + b"\r\n\r\nabcdef" for line in SAID_BY_SERVERS]
    answers += [
        f"HTTP/1.1 404 {secret('server')}\r\nContent-Length: 0\r\n\r\n".encode(),
        f"HTTP/1.1 {secret('server')} OK\r\nContent-Length: 0\r\n\r\n".encode(),
        f"{secret('server')}\r\n\r\n".encode(),
        f"HTTP/{secret('server')} 200 OK\r\n\r\n".encode(),
        OK + f"Transfer-Encoding: chunked\r\n\r\n{secret('server')}\r\n".encode(),
    ]
    with surfaces.of(proxies={}) as system:
        for number, answer in enumerate(answers):
            fails(surfaces, system, server.add(f"/{number}", then(answer)))
    assert leaked(surfaces.text) == []


PROXY_USERINFO = f"{quote(secret('proxy-user'), safe='')}:{quote(secret('proxy-password'), safe='')}"


PROXIES = {
    "plain": f"http://{PROXY_USERINFO}@127.0.0.1:1",
    "over TLS": f"https://{PROXY_USERINFO}@127.0.0.1:1",
    "one that refuses": f"http://{PROXY_USERINFO}@SERVER",
    "a bad port": f"http://{PROXY_USERINFO}@127.0.0.1:port",
    "a bad address": f"http://{PROXY_USERINFO}@[::1",
    "not encoded": f"http://{secret('proxy-user')}:{secret('proxy-password')}@127.0.0.1:1",
    "no scheme": f"{PROXY_USERINFO}@127.0.0.1:1",
    "another scheme": f"nonsense://{PROXY_USERINFO}@127.0.0.1:1",
    "one slash": f"http:/{PROXY_USERINFO}@127.0.0.1:1",
}


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_is_not_named_with_its_password(surfaces: Surfaces, server: BadServer, proxy: str, scheme: str) -> None:
    """However the setting is written, and whatever the proxy says: here it refuses, and repeats what it was told."""
    said = f"HTTP/1.1 407 {secret('proxy-password')}\r\nContent-Length: 0\r\n\r\n".encode()
    for target in ("http://music.test/a", "music.test:443"):
        server.add(target, then(said))
    proxies = {scheme: PROXIES[proxy].replace("SERVER", server.host)}
    with surfaces.of(proxies=proxies, connect_timeout=HANG) as system:
        fails(surfaces, system, credentials(f"{scheme}://music.test/a"), headers=HEADERS)
    assert leaked(surfaces.text) == []


# --- What fails in the system itself


def test_an_actor_that_crashes_takes_no_secret_along(
    surfaces: Surfaces, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(self: Source, headers: Any) -> None:
        try:
            raise KeyError(credentials(self._spec.url), self._spec)
        except KeyError as error:
            raise RuntimeError(f"{self._spec!r} at {credentials(self._spec.url)}") from error

    monkeypatch.setattr(Source, "_headers", crash)
    with surfaces.of() as system, system.subscribe() as events:
        url = origin.add("/a", Resource(SIZE, always=Fault(stall_after=10_000)))
        error = fails(surfaces, system, credentials(url), headers=HEADERS)
        assert isinstance(error, InternalError)
        failed = next(each.event for each in events if isinstance(each.event, FileError))
        assert "failed too often: RuntimeError" in failed.error.text
    text = surfaces.text
    assert f"{url[:7]}…@{url[7:]}?token=…" in text
    assert "Traceback" in text
    assert leaked(text) == []


def test_a_message_that_nobody_can_read_is_not_repeated(surfaces: Surfaces) -> None:
    lost = [(200, 1, secret("foreign")), (64, secret("foreign")), (secret("foreign"), 1), (65, 1, 1, secret("foreign"))]
    with surfaces.of() as system, system.subscribe() as events:
        registry = system._assembly._runtime.address("registry")
        assert registry is not None
        for frame in lost:
            registry.forward(msgpack.packb(frame))
            assert any(isinstance(each.event, DeadLetter) for each in events)
    assert leaked(surfaces.text) == []


def test_what_a_library_in_a_worker_raises_is_told_by_kind_and_place(
    surfaces: Surfaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "__init__.py").write_text(
        "try:\n"
        f"    raise KeyError(bytes({list(secret('foreign').encode())}).decode())\n"
        "except KeyError as error:\n"
        "    raise RuntimeError(error.args[0]) from error\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with surfaces.of(proxies={"http": "http://127.0.0.1:1"}) as system:
        workers = system.workers()
        error = fails(surfaces, system, credentials("http://h.test/a"), headers=HEADERS)
        assert isinstance(error, InternalError)
        assert str(error).endswith("the worker failed: RuntimeError in __init__.py, line 4; please report it")
        assert system.workers() == workers
    text = surfaces.text
    assert "Traceback" in text
    assert "in _proxy_settings" in text
    assert [line for line in text.splitlines() if line in ("KeyError", "RuntimeError")] == ["KeyError", "RuntimeError"]
    assert leaked(text) == []


# --- The log of urllib3


def test_urllib3_logs_nothing_of_our_requests_and_all_of_others(
    origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"{origin.add('/a', Resource(10))}?token={secret('query')}"
    transport = Transport(TransportSettings(trust_env=False))
    try:
        attempt = Attempt()
        response = transport.open(attempt, url, {})
        response.close()
        attempt.unbind()
    finally:
        transport.close()
    assert "GET" not in caplog.text
    assert leaked(caplog.text) == []
    with urllib3.PoolManager() as pool:
        assert len(pool.request("GET", origin.url("/a")).data) == 10
    assert "GET /a" in caplog.text
