"""The answers to one-off requests: the bytes of one answer as they were before any coding, or one typed error."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stream_kit import HANG, watching

from kithara_actors import (
    ActorSystem,
    BodyTooLarge,
    FetchCommand,
    InvalidContentType,
    ProtocolError,
    RetryExhausted,
    StatusError,
)
from kithara_actors.messages.events import (
    FirstByte,
    RequestFailed,
)
from kithara_actors.testing.origin import Fault, Origin, Resource, body

HELLO = b"Hello, World!"
LIMIT = 256 * 1024
get, head = FetchCommand.get, FetchCommand.head


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(
        workers=1, retry_base=0.01, max_retries=2, execute_limit=LIMIT, inactivity_timeout=5.0
    ) as running:
        yield running


def raw(head: str, data: bytes = b"") -> Resource:
    return Resource(always=Fault(raw=f"HTTP/1.1 {head}\r\n\r\n".encode() + data))


def coded(coding: str, data: bytes, length: int | None = None, **fault: Any) -> Resource:
    """Says of `data` that it is in `coding`."""
    return Resource(data=data, always=Fault(headers={"Content-Encoding": coding}, **fault))


# --- Bodies and ranges


@pytest.mark.parametrize(
    ("given", "sent", "part"),
    [
        ((7, 11), "bytes=7-11", b"World"),
        ((0, 4), "bytes=0-4", b"Hello"),
        ((7, None), "bytes=7-", b"World!"),
        ((12, 12), "bytes=12-12", b"!"),
        ((5, 100), "bytes=5-100", b", World!"),
    ],
)
def test_ranges(origin: Origin, system: ActorSystem, given: Any, sent: str, part: bytes) -> None:
    result = system.execute(get(origin.add("/a", Resource(data=HELLO)), range=given), HANG)
    assert (result.status, result.body, result.partial, result.total) == (206, part, True, 13)
    (seen,) = origin.requests
    assert (seen.headers["range"], seen.headers["accept-encoding"]) == (sent, "identity")
    assert "if-range" not in seen.headers


def test_a_range_that_is_ignored_brings_the_whole(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", Resource(data=HELLO, ranges=False))
    for given in ((0, 5), (7, 11)):
        result = system.execute(get(url, range=given), HANG)
        assert (result.status, result.body, result.partial, result.total) == (200, HELLO, False, 13)


def test_a_range_far_out_takes_no_more_room_than_its_bytes(origin: Origin, system: ActorSystem) -> None:
    size = 1 << 40
    url = origin.add("/a", Resource(size=size, seed=3))
    result = system.execute(get(url, range=(size - 5, None)), HANG)
    assert (result.body, result.total) == (body(3, size - 5, size), size)


def test_a_whole_body_and_what_is_told_of_it(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", Resource(data=b'{"tracks": [1]}', content_type="application/json", etag='"v"'))
    result = system.execute(get(f"{url}?q=1"))
    assert (result.status, result.reason, result.url) == (200, "OK", f"{url}?q=1")
    assert result.json() == {"tracks": [1]}
    assert result.headers["etag"] == '"v"'
    assert (result.partial, result.total, result.content_type) == (False, 15, "application/json")
    assert result.elapsed > 0
    (seen,) = origin.requests
    assert (seen.target, seen.range, seen.headers["accept-encoding"]) == ("/a?q=1", None, "gzip, deflate")


@pytest.mark.parametrize("shape", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [0, 1, LIMIT - 1, LIMIT])
def test_bodies_of_every_shape(origin: Origin, system: ActorSystem, shape: str, size: int) -> None:
    url = origin.add("/a", Resource(size=size, chunked=shape == "chunked", length=shape == "length"))
    result = system.execute(get(url), HANG)
    assert result.body == body(0, 0, size)
    assert result.total == (size if shape == "length" else None)


@pytest.mark.parametrize("shape", ["length", "chunked", "close"])
def test_one_byte_too_many_is_too_large(origin: Origin, system: ActorSystem, shape: str) -> None:
    url = origin.add("/a", Resource(size=LIMIT + 1, chunked=shape == "chunked", length=shape == "length"))
    with pytest.raises(BodyTooLarge, match=rf"^{url}: .*larger than execute_limit, {LIMIT} bytes: raise") as caught:
        system.execute(get(url), HANG)
    assert not caught.value.retryable
    assert len(origin.requests) == 1
    assert system.execute(get(url, range=(1, LIMIT)), HANG).body == body(0, 1, LIMIT + 1)
    with pytest.raises(BodyTooLarge):
        system.execute(get(url, range=(0, None)), HANG)


@pytest.mark.parametrize("given", [None, (5, None)])
def test_what_is_announced_as_too_large_is_not_read(origin: Origin, system: ActorSystem, given: Any) -> None:
    url = origin.add("/a", Resource(size=10 * LIMIT, always=Fault(stall_after=0)))
    with watching(system) as watch:
        with pytest.raises(BodyTooLarge):
            system.execute(get(url, range=given), HANG)
        assert watch.first(RequestFailed).bytes == 0
        assert len(watch.of(FirstByte)) == 1


def test_a_body_without_end_ends(origin: Origin, system: ActorSystem) -> None:
    with pytest.raises(BodyTooLarge):
        system.execute(get(origin.add("/a", Resource(size=1 << 40, length=False))), HANG)


# --- Codings


@pytest.mark.parametrize("shape", ["length", "chunked", "close"])
@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "raw deflate"])
def test_codings_are_undone(origin: Origin, system: ActorSystem, shape: str, coding: str) -> None:
    text = json.dumps(list(range(20_000))).encode()
    packer = zlib.compressobj(wbits=-15)
    data = {
        "deflate": zlib.compress(text),
        "raw deflate": packer.compress(text) + packer.flush(),
    }.get(coding, gzip.compress(text))
    how = {"chunked": shape == "chunked", "no_length": shape == "close"}
    url = origin.add("/a", coded(coding.removeprefix("raw "), data, **how))
    result = system.execute(get(url), HANG)
    assert (result.body, result.total) == (text, None)
    assert result.headers["content-encoding"] == coding.removeprefix("raw ")
    if shape != "close":
        system.execute(get(url), HANG)
        assert len({seen.connection for seen in origin.requests}) == 1


def test_an_encoded_part_is_refused(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", Resource(data=HELLO, always=Fault(encoding="gzip")))
    with pytest.raises(ProtocolError, match="identity was asked for"):
        system.execute(get(url, range=(0, 4)), HANG)


def test_a_bomb_stops_at_the_limit(origin: Origin, system: ActorSystem) -> None:
    """What counts is what it would become: 64 MiB are announced as 64 KiB."""
    bomb = gzip.compress(bytes(64 << 20))
    assert len(bomb) < LIMIT
    with pytest.raises(BodyTooLarge):
        system.execute(get(origin.add("/a", coded("gzip", bomb))), HANG)
    fits = gzip.compress(bytes(LIMIT))
    assert system.execute(get(origin.add("/b", coded("gzip", fits))), HANG).body == bytes(LIMIT)
    with pytest.raises(BodyTooLarge):
        system.execute(get(origin.add("/c", coded("gzip", gzip.compress(bytes(LIMIT + 1))))), HANG)


def test_a_bomb_takes_no_memory(origin: Origin, system: ActorSystem) -> None:
    def peak() -> int:
        """KiB that the worker has had at most."""
        (pid,) = system.workers().values()
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    bomb = origin.add("/bomb", coded("gzip", gzip.compress(bytes(128 << 20))))
    # What a first decoding loads is not the bomb's.
    system.execute(get(origin.add("/a", coded("gzip", gzip.compress(bytes(LIMIT))))), HANG)
    before = peak()
    for _ in range(3):
        with pytest.raises(BodyTooLarge):
            system.execute(get(bomb), HANG)
    assert peak() - before < 16 * 1024


def test_nothing_coded_without_end_is_read_for_ever(origin: Origin, system: ActorSystem) -> None:
    empty = gzip.compress(b"")
    with pytest.raises(BodyTooLarge):
        system.execute(get(origin.add("/a", coded("gzip", empty * (2 * LIMIT // len(empty))))), HANG)
    with pytest.raises(BodyTooLarge):
        system.execute(get(origin.add("/b", coded("gzip", gzip.compress(b"a") + bytes(2 * LIMIT)))), HANG)


@pytest.mark.parametrize("shape", ["cut short", "labelled short", "close"])
def test_a_coded_body_that_is_cut_short_is_broken(origin: Origin, system: ActorSystem, shape: str) -> None:
    whole = gzip.compress(body(0, 0, 5000))
    script = {
        "cut short": coded("gzip", whole, cut_after=3000),
        "labelled short": coded("gzip", whole[:-1]),
        "close": coded("gzip", whole[:-9], no_length=True),
    }
    url = origin.add("/a", script[shape])
    with pytest.raises(RetryExhausted) as caught:
        system.execute(get(url), HANG)
    assert caught.value.cause == "ConnectError"
    assert len(origin.requests) == 3


@pytest.mark.parametrize("data", [b"not gzip at all", b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"\xff" * 50])
def test_what_is_not_what_it_is_labelled_breaks_the_protocol(origin: Origin, system: ActorSystem, data: bytes) -> None:
    with pytest.raises(ProtocolError, match="is not the gzip that its Content-Encoding promises"):
        system.execute(get(origin.add("/a", coded("gzip", data))), HANG)
    assert len(origin.requests) == 1


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
def test_codings_that_were_not_asked_for_are_refused(origin: Origin, system: ActorSystem, coding: str) -> None:
    with pytest.raises(ProtocolError, match="not asked for"):
        system.execute(get(origin.add("/a", coded(coding, b"abc"))), HANG)


def test_an_empty_body_may_be_labelled(origin: Origin, system: ActorSystem) -> None:
    assert system.execute(get(origin.add("/a", coded("gzip", b""))), HANG).body == b""


# --- HEAD and other statuses


@pytest.mark.parametrize("shape", ["length", "chunked"])
def test_head_has_a_length_and_no_body(origin: Origin, system: ActorSystem, shape: str) -> None:
    url = origin.add("/a", Resource(size=1 << 40, chunked=shape == "chunked"))
    for _ in range(2):
        result = system.execute(head(url), HANG)
        assert (result.status, result.body, result.partial) == (200, b"", False)
        assert result.total == (1 << 40 if shape == "length" else None)
    assert [seen.method for seen in origin.requests] == ["HEAD", "HEAD"]
    assert origin.requests[0].headers["accept-encoding"] == "identity"
    assert len({seen.connection for seen in origin.requests}) == 1


def test_head_of_what_is_coded_is_told_as_it_is(origin: Origin, system: ActorSystem) -> None:
    result = system.execute(head(origin.add("/a", coded("br", b"abc"))), HANG)
    assert (result.headers["content-encoding"], result.total) == ("br", 3)


@pytest.mark.parametrize("make", [get, head])
@pytest.mark.parametrize("status", [400, 404, 410, 416])
def test_what_is_not_there_is_said_at_once(origin: Origin, system: ActorSystem, make: Any, status: int) -> None:
    url = origin.add("/a", Resource(always=Fault(status=status)))
    with pytest.raises(StatusError, match=rf"^{url}\?k=…: the server answered {status}") as caught:
        system.execute(make(f"{url}?k=secret"), HANG)
    assert (caught.value.status, caught.value.retryable) == (status, False)
    assert len(origin.requests) == 1


@pytest.mark.parametrize("status", ["204 No Content", "204 No Content\r\nContent-Length: 5", "201 Created"])
def test_success_without_a_body(origin: Origin, system: ActorSystem, status: str) -> None:
    url = origin.add("/a", raw(status))
    result = system.execute(get(url), HANG)
    assert (result.status, result.body) == (int(status[:3]), b"")
    with pytest.raises(ProtocolError, match="where 200 or 206 was due"):
        system.execute(get(url, range=(0, 4)), HANG)


def test_not_modified_answers_a_condition_and_nothing_else(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", raw('304 Not Modified\r\nETag: "v"'))
    result = system.execute(get(url, headers={"If-None-Match": '"v"'}), HANG)
    assert (result.status, result.body, result.headers["ETag"]) == (304, b"", '"v"')
    with pytest.raises(ProtocolError, match="304"):
        system.execute(get(url), HANG)


def test_a_part_that_nobody_asked_for_is_refused(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", Resource(data=HELLO, always=Fault(unsolicited_206=True)))
    with pytest.raises(ProtocolError, match="to a request without Range"):
        system.execute(get(url), HANG)


def test_another_part_than_that_asked_for_is_refused(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", Resource(size=60, always=Fault(wrong_range=(0, 7, 60))))
    with pytest.raises(ProtocolError, match="does not begin at 8"):
        system.execute(get(url, range=(8, 15)), HANG)
    assert len(origin.requests) == 1


def test_pages_are_refused_on_demand(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", Resource(always=Fault(html=True)))
    assert "Log in" in system.execute(get(url), HANG).text
    with pytest.raises(InvalidContentType):
        system.execute(get(url, refuse_html=True), HANG)


def test_an_empty_file_has_no_range(origin: Origin, system: ActorSystem) -> None:
    result = system.execute(get(origin.add("/a", Resource(size=0)), range=(0, 100)), HANG)
    assert (result.status, result.body, result.partial, result.total) == (200, b"", False, 0)
    assert [seen.range for seen in origin.requests] == [(0, 100), None]


def test_a_head_that_fits_no_message_is_refused(origin: Origin, system: ActorSystem) -> None:
    lines = "\r\n".join(f"X-{n}: {'v' * 1000}" for n in range(60))
    with pytest.raises(ProtocolError, match=r"headers of the answer and its URL have 6\d{4} bytes: at most"):
        system.execute(get(origin.add("/a", raw(f"200 OK\r\nContent-Length: 0\r\n{lines}"))), HANG)
    fits = "\r\n".join(f"X-{n}: {'v' * 1000}" for n in range(40))
    result = system.execute(get(origin.add("/b", raw(f"200 OK\r\nContent-Length: 2\r\n{fits}", b"ok"))), HANG)
    assert (len(result.headers), result.body) == (41, b"ok")
