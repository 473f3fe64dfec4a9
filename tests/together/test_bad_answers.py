"""Answers that break HTTP, through the whole system: one typed error in time that says what is wrong and where.

After each the same worker serves the next request. Faults within the phases of a transfer are in `http_matrix_faults`.
"""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from bad_answers import CHUNKED, FINAL, OK, redirect
from bad_answers_kit import BadServer, endless, then
from stream_kit import HANG, Watch, blocking, waiting
from test_worker_http import CERTIFICATE, KEY

from actors.clock import monotonic
from kithara_actors import ActorSystem, Cancelled, ConnectError, KitharaError, PolicyError, ProtocolError, StatusError
from kithara_actors.events import RequestFailed
from kithara_actors.testing.origin import Origin, Resource, body

T = TypeVar("T")
TOKEN = "s3cr3t"
SETTINGS: dict[str, Any] = {
    "workers": 1,
    "inactivity_timeout": 1.0,
    "max_retries": 1,
    "retry_base": 0.01,
    "read_timeout": HANG,
    "proxies": {},
}


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as one:
        yield one


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as one:
        yield one


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(**SETTINGS) as one:
        yield one


@pytest.fixture
def certificate(tmp_path: Path) -> ssl.SSLContext:
    """A server's, self-signed, for 127.0.0.1."""
    path = tmp_path / "server.pem"
    path.write_text(KEY + CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def failing(system: ActorSystem, url: str) -> KitharaError:
    """What a reader of `url` gets; that it may be shown to anybody is checked here."""
    workers = system.workers()
    began = monotonic()
    with system.open(f"{url}?token={TOKEN}", subscribe=True) as stream:
        assert stream.events is not None
        with pytest.raises(KitharaError) as caught:
            stream.read()
        failed = Watch(stream.events).first(RequestFailed).error
    assert monotonic() - began < HANG, "it takes too long"
    assert str(caught.value).startswith(f"{url}?token=…: ")
    assert failed == caught.value.failure
    assert TOKEN not in repr(caught.value)
    assert len(str(caught.value)) < 4_000
    assert system.workers() == workers
    return caught.value


def serves(system: ActorSystem, origin: Origin) -> None:
    """The worker does its work."""
    url = origin.add(f"/good/{len(origin.requests)}", Resource(100_000, seed=3))
    with system.open(url) as stream:
        assert stream.read() == body(3, 0, 100_000)


def read(system: ActorSystem, url: str) -> bytes:
    with system.open(url) as stream:
        return stream.read()


def at_once(check: Callable[[T], object], cases: Iterable[T]) -> None:
    """Check all `cases` at the same time: they wait for limits to pass."""
    with ThreadPoolExecutor(32) as pool:
        for _ in pool.map(check, cases):
            pass


@pytest.mark.parametrize("family", FINAL)
def test_what_breaks_the_protocol_is_final_and_said_in_words(
    system: ActorSystem, origin: Origin, server: BadServer, family: str
) -> None:
    wrong = []
    for number, (name, (answer, words)) in enumerate(FINAL[family].items()):
        url = server.add(f"/{number}", answer)
        error = failing(system, url)
        if type(error) is not ProtocolError or error.retryable or words not in str(error):
            wrong.append(f"{name}: {error!r}")
        serves(system, origin)
    assert wrong == []
    assert len(server.asked) == len(FINAL[family]), "a final error was tried again"


# --- What is wrong and harmless

CLEAR = [
    OK + b"Content-Length:   6\t \r\n\r\nabcdef",
    OK + b"Content-Length: 6, 6\r\n\r\nabcdef",
    OK + b"Content-Length: 6\r\nContent-Length: 6\r\n\r\nabcdef",
    OK + b"Content-Length:\r\n 6\r\n\r\nabcdef",
    OK + b"X: y\r\n z\r\n\tz\r\nContent-Length: 6\r\n\r\nabcdef",
    OK + b"X: \xe9\xff\x7f\r\nContent-Length: 6\r\n\r\nabcdef",
    OK + b"From: someone\r\nContent-Length: 6\r\n\r\nabcdef",
    OK + b"Content-Type: multipart/mixed; boundary=x\r\nContent-Length: 6\r\n\r\nabcdef",
    OK + b"Content-Type: message/rfc822\r\nContent-Length: 6\r\n\r\nabcdef",
    OK.replace(b"\r", b"") + b"Content-Length: 6\n\nabcdef",
    b"HTTP/1.1 200\r\nContent-Length: 6\r\n\r\nabcdef",
    b"HTTP/1.0 200 OK\r\n\r\nabcdef",
    b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" * 16 + OK + b"Content-Length: 6\r\n\r\nabcdef",
    *(
        OK + b"Transfer-Encoding: " + coding + b"\r\n\r\n6;x\r\nabcdef\r\n0\r\nX: y\r\n\r\n"
        for coding in (b"identity, chunked", b"chunked, chunked", b"chunked\r\nContent-Length: 3", b"Chunked")
    ),
]


def test_what_can_only_mean_one_thing_is_read(system: ActorSystem, server: BadServer) -> None:
    for number, answer in enumerate(CLEAR):
        assert read(system, server.add(f"/{number}", then(answer))) == b"abcdef", answer


# --- What goes on for ever

ENDLESS = ((b"x" * 65_536,), (b"x", b""))
"""As fast as it can, or a little now and then."""


def test_a_body_that_goes_on_past_its_length_ends_there(system: ActorSystem, origin: Origin, server: BadServer) -> None:
    def check(case: tuple[int, bytes, tuple[bytes, ...]]) -> None:
        number, head, more = case
        answer = then(head + b"Content-Length: 6\r\n\r\nabcdef", endless(*more))
        with system.open(server.add(f"/{number}", answer)) as stream:
            assert stream.read() == b"abcdef"
            assert stream.wait_complete(HANG)

    heads = (OK, b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-5/6\r\n")
    at_once(check, [(at, *pair) for at, pair in enumerate(itertools.product(heads, ENDLESS))])
    serves(system, origin)


def test_a_body_that_trickles_is_read_as_it_comes_and_can_be_left(
    system: ActorSystem, origin: Origin, server: BadServer
) -> None:
    """Whoever sends something is not stalled; how long that may take is the reader's to say."""
    head = OK + b"Content-Length: 1000000\r\n\r\nabc"
    with system.open(server.add("/a", then(head, endless(b"x", b"")))) as stream:
        assert stream.read(6) == b"abcxxx"
        waits = blocking(stream)
        with waiting(stream, stream.read) as reading:
            assert waits.wait(HANG)
            stream.close()
            with pytest.raises(Cancelled):
                reading.result()
    serves(system, origin)


TRICKLES = {
    "a status line": then(endless(b"H", b"")),
    "a status line that fits": then(b"HTTP/1.1 200 ", endless(b"O", b"")),
    "a header field": then(OK + b"X: ", endless(b"y", b"")),
    "header fields": then(OK, [b"X: y\r\n", *[b""] * 4] * 90),
    "a chunk's size": then(CHUNKED + b"6;", endless(b"x", b"")),
    "a trailer": then(CHUNKED + b"0\r\nX: ", endless(b"y", b"")),
    "silence": then(endless(b"")),
    "silence in the head": then(OK, endless(b"")),
    "silence before the trailers": then(CHUNKED + b"0\r\n", endless(b"")),
}


def test_what_is_not_the_body_has_to_come_within_the_limit(
    system: ActorSystem, origin: Origin, server: BadServer
) -> None:
    def check(case: tuple[int, str]) -> None:
        number, name = case
        error = failing(system, server.add(f"/{number}", TRICKLES[name]))
        assert (type(error).__name__, error.cause, error.attempts) == ("RetryExhausted", "ConnectError", 2), name
        assert server.host in str(error), name
        assert "1 s" in str(error), f"{name}: {error}"

    at_once(check, enumerate(TRICKLES))
    serves(system, origin)


def test_over_tls_too(origin: Origin, certificate: ssl.SSLContext) -> None:
    with BadServer(certificate) as server, ActorSystem.start(**SETTINGS, verify=False) as system:
        error = failing(system, server.add("/a", TRICKLES["a header field"]))
        assert "within 1 s" in str(error)
        error = failing(system, server.add("/b", FINAL["header fields"]["field b'junk'"][0]))
        assert type(error) is ProtocolError
        with system.open(server.add("/c", then(OK, b"Content-Length: 6\r\n", b"", b"\r\nabc", b"", b"def"))) as stream:
            assert stream.read() == b"abcdef"
        serves(system, origin)


def test_a_body_of_no_interest_is_not_waited_for(system: ActorSystem, server: BadServer) -> None:
    server.add("/b", then(OK + b"Content-Length: 6\r\n\r\nabcdef"))

    def check(case: tuple[int, str, str, tuple[bytes, ...]]) -> None:
        number, status, framing, more = case
        head = f"HTTP/1.1 {status}\r\nLocation: /b\r\n{framing}\r\n\r\n7530\r\n".encode()
        answers = iter([then(head, endless(*more)), then(OK + b"Content-Length: 6\r\n\r\nabcdef")])
        began = monotonic()
        assert read(system, server.add(f"/{number}", lambda: next(answers)())) == b"abcdef"
        assert monotonic() - began < HANG, case

    statuses = ("302 Found", "308 Permanent Redirect", "416 Range Not Satisfiable")
    framings = ("Content-Length: 30000", "Transfer-Encoding: chunked", "Connection: close")
    at_once(check, [(at, *rest) for at, rest in enumerate(itertools.product(statuses, framings, ENDLESS))])


@pytest.mark.parametrize("size", [255, 256, 257, 511, 512, 513, 60_000])
def test_long_header_values_have_room_or_are_left_out(system: ActorSystem, server: BadServer, size: int) -> None:
    """Readers are told of them in a block of limited room, where a character may take two bytes."""
    for hop in range(10):
        server.add(f"/{hop}", then(redirect(f"/{hop + 1}?{'x' * 300}")))
    names = (b"Content-Type", b"ETag", b"Last-Modified", b"Date")
    for value in (b"x" * size, b"\xe9" * size):
        lines = b"".join(name + b": " + value + b"\r\n" for name in names)
        server.add("/10", then(OK + lines + b"Content-Length: 6\r\n\r\nabcdef"))
        with system.open(f"{server.base}/0?{len(value)}&{value[0]}") as stream:
            assert stream.read() == b"abcdef"
            answer = stream.answer
        assert answer is not None
        assert answer.content_type is not None
        assert value.decode("latin-1").startswith(answer.content_type)
        fits = len(value.decode("latin-1").encode()) <= 512
        assert answer.validator.etag == (value.decode("latin-1") if fits else None)


# --- Redirects


def test_redirects_are_followed_ten_times(system: ActorSystem, origin: Origin, server: BadServer) -> None:
    for hop in range(50):
        server.add(f"/{hop}", then(redirect(f"{hop + 1}?token={TOKEN}")))
    error = failing(system, f"{server.base}/0")
    assert type(error) is ProtocolError
    assert "more than 10 redirects" in str(error)
    assert len(server.asked) == 11
    serves(system, origin)


def test_a_circle_of_redirects_is_left(system: ActorSystem, server: BadServer) -> None:
    for steps, code in itertools.product((1, 2), (301, 302, 303, 307, 308)):
        for step in range(steps):
            answer = redirect(f"/{code}/{steps}/{(step + 1) % steps}?token={TOKEN}")
            server.add(f"/{code}/{steps}/{step}", then(answer.replace(b"302 Found", f"{code} Go".encode())))
        error = failing(system, f"{server.base}/{code}/{steps}/0")
        assert type(error) is ProtocolError
        assert "more than 10 redirects" in str(error)


def test_a_redirect_to_40000_characters_is_followed(system: ActorSystem, server: BadServer) -> None:
    server.add("/b", then(OK + b"Content-Length: 6\r\n\r\nabcdef"))
    assert read(system, server.add("/a", then(redirect("/b?" + "x" * 40_000)))) == b"abcdef"
    assert len(server.asked[-1]) == 40_003


def test_a_long_redirect_that_a_policy_cannot_be_asked_about_is_refused(origin: Origin, server: BadServer) -> None:
    with ActorSystem.start(url_policy=lambda url: True, **SETTINGS) as system:
        error = failing(system, server.add("/a", then(redirect("/b?" + "x" * 60_000))))
        assert type(error) is PolicyError
        assert "too long to be judged" in str(error)
        serves(system, origin)


def test_what_a_policy_says_of_a_long_redirect_reaches_the_reader(origin: Origin, server: BadServer) -> None:
    """And not a worker alone: what is sent to one has a limit, and a message that is cut short would end it."""

    def policy(url: str) -> None:
        if "/b" in url:
            raise PolicyError(f"not {url}")

    with ActorSystem.start(url_policy=policy, **SETTINGS) as system:
        error = failing(system, server.add("/a", then(redirect("/b" + "x" * 45_000))))
        assert type(error) is PolicyError
        assert f"refuses {server.base}/bxxx" in str(error)
        serves(system, origin)


def test_a_long_url_is_cut_short_in_errors(system: ActorSystem, server: BadServer) -> None:
    with system.open(server.base + "/c" * 20_000) as stream, pytest.raises(StatusError) as caught:
        stream.read()
    assert str(caught.value).startswith(f"{server.base}/c/c")
    assert str(caught.value).endswith("/c…: the server answered 404 Not Found")
    assert len(str(caught.value)) < 600


# --- Certificates


@pytest.mark.parametrize(
    ("verify", "words"),
    [(True, "self-signed certificate"), ("itself", "not valid for '127.0.0.2'")],
    ids=["issuer", "name"],
)
def test_a_certificate_that_does_not_fit_is_final(
    origin: Origin, tmp_path: Path, certificate: ssl.SSLContext, verify: bool | str, words: str
) -> None:
    trusted = verify if verify is True else str(tmp_path / "server.pem")
    with BadServer(certificate) as server, ActorSystem.start(**SETTINGS, verify=trusted) as system:
        url = server.add("/a", then(OK + b"Content-Length: 6\r\n\r\nabcdef"))
        url = url if verify is True else url.replace("127.0.0.1", "127.0.0.2")
        error = failing(system, url)
        assert type(error) is ConnectError
        assert not error.retryable
        assert words in str(error)
        assert server.asked == []
        serves(system, origin)
