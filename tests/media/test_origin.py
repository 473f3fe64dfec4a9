from __future__ import annotations

import contextlib
import dataclasses
import gzip
import http.client
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import pytest
import urllib3

from kithara_actors.testing.faults import LOGIN_PAGE, parse_range, parse_request
from kithara_actors.testing.origin import Fault, Origin, Resource, Seen, body
from kithara_actors.testing.origin_body import PERIOD, VIEW

DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as one:
        yield one


def address(origin: Origin) -> tuple[str, int]:
    parts = urlsplit(origin.base)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


@contextlib.contextmanager
def client(origin: Origin) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(*address(origin), timeout=10)
    try:
        yield connection
    finally:
        connection.close()


@dataclasses.dataclass
class Got:
    status: int
    headers: dict[str, str]
    body: bytes


def ask(connection: http.client.HTTPConnection, path: str, method: str = "GET", **headers: str) -> Got:
    connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    return Got(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def get(origin: Origin, path: str, method: str = "GET", **headers: str) -> Got:
    with client(origin) as connection:
        return ask(connection, path, method, **headers)


def dial(origin: Origin, path: str, method: str = "GET", extra: str = "") -> socket.socket:
    """A raw connection with one request sent."""
    sock = socket.create_connection(address(origin), timeout=10)
    sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode())
    return sock


def read_all(sock: socket.socket) -> bytes:
    """Everything up to the end of the connection."""
    pieces = []
    while piece := sock.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def read_some(sock: socket.socket, count: int) -> bytes:
    """The body of an answer up to `count` bytes."""
    data = b""
    while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < count:
        piece = sock.recv(1 << 16)
        assert piece, "the connection ended early"
        data += piece
    return data.partition(b"\r\n\r\n")[2]


def all_ended(count: int = 1):
    return lambda seen: len(seen) == count and all(each.ended for each in seen)


# --- bodies ---------------------------------------------------------------------------------------------


def test_a_slice_of_a_body_is_the_same_as_the_slice_of_the_whole():
    whole = body(7, 0, 3 * PERIOD + 17)
    for start, end in (
        (0, 0), (0, 1), (5, 99), (PERIOD - 1, PERIOD + 1), (PERIOD - 3, 3 * PERIOD), (12, 12 + VIEW + 1),
    ):  # fmt: skip
        assert body(7, start, end) == whole[start:end]
    assert len(body(7, 10**15, 10**15 + 5)) == 5


def test_bodies_differ_by_seed_and_by_position():
    assert body(1, 0, 64) != body(2, 0, 64)
    one = body(3, 0, 1 << 21)
    for shift in (1, 512, 4096, 65536, 1 << 20):
        assert one[:64] != one[shift : shift + 64]


@pytest.mark.parametrize(("start", "end"), [(-1, 4), (5, 4)])
def test_a_body_has_no_impossible_slices(start, end):
    with pytest.raises(ValueError, match="not a slice"):
        body(0, start, end)


def test_the_derived_etag_follows_the_content_through_replace():
    one = Resource(size=10, seed=1)
    assert one.etag == Resource(size=10, seed=1).etag
    assert one.etag
    assert one.etag.startswith('"')
    assert dataclasses.replace(one, seed=2).etag != one.etag
    assert dataclasses.replace(one, size=11).etag != one.etag
    assert Resource(data=b"a").etag != Resource(data=b"b").etag
    assert Resource(data=b"abc").size == 3
    assert dataclasses.replace(Resource(size=1, etag='"x"'), seed=3).etag == '"x"'
    assert Resource(size=1, etag=None).etag is None


@pytest.mark.parametrize("wrong", [{"size": -1}, {"rate": 0.0}, {"delay": -1.0}])
def test_impossible_resources_are_refused(wrong):
    with pytest.raises(ValueError, match="not a resource"):
        Resource(**wrong)


@pytest.mark.parametrize("field", ["cut_after", "reset_after", "stall_after", "short_by", "delay"])
def test_negative_faults_are_refused(field):
    with pytest.raises(ValueError, match="no negative"):
        Fault(**{field: -1})


# --- honest answers -------------------------------------------------------------------------------------


def test_get_gives_the_whole_body_with_its_headers(origin):
    resource = Resource(size=300_000, seed=5, last_modified=DATE, headers={"icy-name": "x", "content-type": "a/b"})
    origin.add("/a", resource)
    got = get(origin, "/a")
    assert got.status == 200
    assert got.body == body(5, 0, 300_000) == resource.read()
    assert got.headers["content-length"] == "300000"
    assert got.headers["accept-ranges"] == "bytes"
    assert got.headers["etag"] == resource.etag
    assert got.headers["last-modified"] == DATE
    assert got.headers["content-type"] == "a/b"
    assert got.headers["icy-name"] == "x"
    parsedate_to_datetime(got.headers["date"])


def test_explicit_data_is_served(origin):
    origin.add("/a", Resource(data=b"hello world", content_type="text/plain"))
    assert get(origin, "/a").body == b"hello world"
    assert get(origin, "/a", range="bytes=6-").body == b"world"


def test_an_empty_resource(origin):
    origin.add("/a", Resource(size=0))
    got = get(origin, "/a")
    assert (got.status, got.body, got.headers["content-length"]) == (200, b"", "0")
    assert get(origin, "/a", range="bytes=0-").status == 416


def test_head_announces_and_sends_nothing(origin):
    origin.add("/a", Resource(size=1000))
    with client(origin) as connection:
        got = ask(connection, "/a", "HEAD")
        assert (got.status, got.headers["content-length"], got.body) == (200, "1000", b"")
        assert ask(connection, "/a").body == body(0, 0, 1000)
    assert [(each.method, each.connection) for each in origin.requests] == [("HEAD", 1), ("GET", 1)]


@pytest.mark.parametrize(
    ("asked", "first", "last", "logged"),
    [
        ("bytes=0-0", 0, 0, (0, 0)),
        ("bytes=10-19", 10, 19, (10, 19)),
        ("bytes=990-5000", 990, 999, (990, 5000)),
        ("bytes=400-", 400, 999, (400, None)),
        ("bytes=-1", 999, 999, (-1, None)),
        ("bytes=-5000", 0, 999, (-5000, None)),
    ],
)
def test_a_range_is_answered_with_206(origin, asked, first, last, logged):
    origin.add("/a", Resource(size=1000, seed=3))
    got = get(origin, "/a", range=asked)
    assert got.status == 206
    assert got.headers["content-range"] == f"bytes {first}-{last}/1000"
    assert got.headers["content-length"] == str(last - first + 1)
    assert got.body == body(3, first, last + 1)
    assert origin.requests[0].range == logged


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=1000-2000", "bytes=-0"])
def test_an_unsatisfiable_range_is_answered_with_416(origin, asked):
    origin.add("/a", Resource(size=1000))
    got = get(origin, "/a", range=asked)
    assert (got.status, got.headers["content-range"]) == (416, "bytes */1000")


@pytest.mark.parametrize("asked", ["bytes=5-4", "bytes=0-1,5-6", "lines=0-1", "bytes=-", "bytes=a-b", "bytes="])
def test_a_range_that_is_none_is_ignored(origin, asked):
    origin.add("/a", Resource(size=1000))
    got = get(origin, "/a", range=asked)
    assert (got.status, len(got.body)) == (200, 1000)
    assert origin.requests[0].range is None
    assert parse_range(asked) is None


def test_a_resource_without_ranges_ignores_them(origin):
    origin.add("/a", Resource(size=1000, ranges=False))
    got = get(origin, "/a", range="bytes=5-9")
    assert (got.status, len(got.body)) == (200, 1000)
    assert "accept-ranges" not in got.headers
    assert origin.requests[0].range == (5, 9)


@pytest.mark.parametrize(
    ("etag", "condition", "status"),
    [
        ('"x"', '"x"', 206),
        ('"x"', '"y"', 200),
        ('W/"x"', 'W/"x"', 200),
        ('W/"x"', '"x"', 200),
        (None, '"x"', 200),
        ('"x"', DATE, 206),
        ('"x"', "Wed, 21 Oct 2015 07:28:01 GMT", 200),
    ],
)
def test_if_range_compares_strongly(origin, etag, condition, status):
    origin.add("/a", Resource(size=1000, etag=etag, last_modified=DATE))
    got = get(origin, "/a", range="bytes=5-9", if_range=condition)
    assert got.status == status
    assert len(got.body) == (5 if status == 206 else 1000)


def test_a_replaced_resource_fails_the_condition_of_the_old_one(origin):
    old = Resource(size=1000, seed=1)
    origin.add("/a", old)
    origin.replace("/a", Resource(size=1000, seed=2))
    got = get(origin, "/a", range="bytes=5-9", if_range=old.etag)
    assert (got.status, got.body) == (200, body(2, 0, 1000))


def test_paths_are_taken_once_and_replaced_only_when_there(origin):
    origin.add("/a", Resource(size=1))
    with pytest.raises(ValueError, match="already"):
        origin.add("/a", Resource(size=1))
    with pytest.raises(KeyError):
        origin.replace("/b", Resource(size=1))
    with pytest.raises(ValueError, match="slash"):
        origin.url("b")


def test_paths_are_found_however_encoded_and_logged_as_they_came(origin):
    url = origin.add("/søng one?b=%2f&c=d e", Resource(size=3))
    assert url == origin.base + "/s%C3%B8ng%20one?b=%2f&c=d%20e"
    origin.add("/x%2Fy", Resource(size=4))
    origin.add("/x/y", Resource(size=5))
    origin.add("/~u", Resource(size=6))
    assert len(get(origin, "/x%2fy?any=%7e").body) == 4
    assert len(get(origin, "/x/y").body) == 5
    assert len(get(origin, "/%7Eu").body) == 6
    assert get(origin, "/nothing%21?q").status == 404
    assert [each.target for each in origin.requests] == ["/x%2fy?any=%7e", "/x/y", "/%7Eu", "/nothing%21?q"]
    assert [each.path for each in origin.requests] == ["/x%2fy", "/x/y", "/%7Eu", "/nothing%21"]


def test_a_path_with_a_query_is_found_only_with_it(origin):
    url = origin.add("/a?token=1 2", Resource(size=3))
    assert len(get(origin, url.removeprefix(origin.base)).body) == 3
    assert get(origin, "/a?token=2").status == 404
    origin.add("/a", Resource(size=7))
    assert len(get(origin, "/a?token=2").body) == 7


def test_other_methods_are_refused_and_spend_no_script(origin):
    origin.add("/a", Resource(size=3, script=[Fault(status=500)]))
    assert get(origin, "/a", "DELETE").status == 405
    assert get(origin, "/a").status == 500


def test_a_request_body_is_not_taken_for_a_request(origin):
    origin.add("/a", Resource(size=3))
    with dial(origin, "/a", "POST", "Content-Length: 5\r\n") as sock:
        sock.sendall(b"hello")
        assert read_all(sock).startswith(b"HTTP/1.1 405 ")


def test_keep_alive_pipelining_and_close(origin):
    origin.add("/a", Resource(data=b"abc"))
    with socket.create_connection(address(origin), timeout=10) as sock:
        one = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
        sock.sendall(one + one + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        answers = read_all(sock)
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert answers.count(b"Connection: close") == 1
    assert {each.connection for each in origin.requests} == {1}


def test_http_1_0_is_answered_and_closed(origin):
    origin.add("/a", Resource(data=b"abc"))
    with socket.create_connection(address(origin), timeout=10) as sock:
        sock.sendall(b"GET /a HTTP/1.0\r\n\r\n")
        assert read_all(sock).endswith(b"\r\n\r\nabc")


@pytest.mark.parametrize(
    "rubbish",
    [
        b"hello\r\n\r\n",
        b"GET a HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"G / HTTP/2\r\n\r\n",
    ],
)
def test_rubbish_is_refused_and_not_logged(origin, rubbish):
    with socket.create_connection(address(origin), timeout=10) as sock:
        sock.sendall(rubbish)
        assert read_all(sock).startswith(b"HTTP/1.1 400 ")
    assert origin.requests == []


def test_repeated_headers_are_joined():
    request = parse_request(b"GET /a HTTP/1.1\r\nX-A: 1\r\nx-a:  2 ")
    assert request.headers == {"x-a": "1, 2"}


@pytest.mark.parametrize("how", [{"resource": {"chunked": True}}, {"fault": {"chunked": True}}])
def test_a_chunked_answer_has_no_length_and_leaves_the_connection(origin, how):
    fault = Fault(**how["fault"]) if "fault" in how else None
    origin.add("/a", Resource(size=700_000, always=fault, **how.get("resource", {})))
    with client(origin) as connection:
        for _ in range(2):
            got = ask(connection, "/a")
            assert got.body == body(0, 0, 700_000)
            assert got.headers["transfer-encoding"] == "chunked"
            assert "content-length" not in got.headers
    assert {each.connection for each in origin.requests} == {1}


@pytest.mark.parametrize("how", [{"resource": {"length": False}}, {"fault": {"no_length": True}}])
def test_an_answer_without_length_ends_with_the_connection(origin, how):
    fault = Fault(**how["fault"]) if "fault" in how else None
    origin.add("/a", Resource(size=700_000, always=fault, **how.get("resource", {})))
    with dial(origin, "/a") as sock:
        head, _, rest = read_all(sock).partition(b"\r\n\r\n")
    assert rest == body(0, 0, 700_000)
    assert b"Content-Length" not in head
    assert b"Connection: close" in head


def test_a_real_client_keeps_its_connection(origin):
    url = origin.add("/a", Resource(size=2_000_000, seed=4))
    with urllib3.PoolManager(retries=False) as pool:
        for first in (0, 1_000_000):
            answer = pool.request("GET", url, headers={"Range": f"bytes={first}-{first + 999_999}"})
            assert answer.status == 206
            assert answer.data == body(4, first, first + 1_000_000)
    assert {each.connection for each in origin.requests} == {1}


# --- time -----------------------------------------------------------------------------------------------


def test_a_rate_holds_on_each_connection(origin):
    url = origin.add("/a", Resource(size=150_000, rate=100_000.0))
    before = time.monotonic()
    with urllib3.PoolManager(retries=False, maxsize=2) as pool:
        results: list[bytes] = []
        threads = [threading.Thread(target=lambda: results.append(pool.request("GET", url).data)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert time.monotonic() - before > 1.4
    assert results == [body(0, 0, 150_000)] * 2
    assert origin.peak == 2


def test_a_throttled_body_comes_in_small_pieces(origin):
    origin.add("/a", Resource(size=1_000_000, rate=100_000.0))
    with dial(origin, "/a") as sock:
        assert origin.wait_for(lambda seen: bool(seen) and seen[0].sent > 0)
        assert len(read_some(sock, 1)) < 50_000
    assert origin.wait_for(all_ended())
    assert origin.requests[0].client_closed


@pytest.mark.parametrize(
    "slow", [{"delay": 60.0}, {"always": Fault(delay=60.0)}, {"always": Fault(stall_headers=True)}]
)
def test_a_client_that_leaves_before_the_header_is_noticed(origin, slow):
    origin.add("/a", Resource(size=10, **slow))
    with dial(origin, "/a"):
        assert origin.wait_for(lambda seen: len(seen) == 1)
        assert origin.active == 1
    assert origin.wait_for(all_ended())
    assert origin.requests[0] == dataclasses.replace(
        origin.requests[0], status=None, sent=0, ended=True, client_closed=True
    )
    assert origin.active == 0


def test_a_faults_delay_replaces_the_resources(origin):
    origin.add("/a", Resource(size=10, delay=60.0, script=[Fault(delay=0.0)]))
    assert len(get(origin, "/a").body) == 10


def test_a_gate_holds_the_answer(origin):
    gate = threading.Event()
    origin.add("/a", Resource(size=10, always=Fault(hold=gate)))
    with dial(origin, "/a", extra="Connection: close\r\n") as sock:
        assert origin.wait_for(lambda seen: len(seen) == 1)
        assert origin.requests[0].status is None
        gate.set()
        assert read_all(sock).endswith(body(0, 0, 10))
    assert origin.wait_for(all_ended())
    assert (origin.requests[0].status, origin.requests[0].sent) == (200, 10)
    assert not origin.requests[0].client_closed


def test_a_client_that_leaves_at_the_gate_is_noticed(origin):
    origin.add("/a", Resource(size=10, always=Fault(hold=threading.Event())))
    with dial(origin, "/a"):
        assert origin.wait_for(lambda seen: len(seen) == 1)
    assert origin.wait_for(all_ended())
    assert origin.requests[0].client_closed


# --- faults ---------------------------------------------------------------------------------------------


def test_a_script_is_spent_in_order_and_then_always_applies(origin):
    script = [Fault(status=503, headers={"Retry-After": "7"}), None]
    origin.add("/a", Resource(size=10, script=script, always=Fault(status=404)))
    with client(origin) as connection:
        first = ask(connection, "/a", "HEAD")
        assert (first.status, first.headers["retry-after"]) == (503, "7")
        assert ask(connection, "/a").status == 200
        assert ask(connection, "/a").status == 404
        script.append(Fault(status=410))
        assert ask(connection, "/a").body == b"410 Gone\n"
        assert ask(connection, "/a").status == 404
    assert [each.status for each in origin.requests] == [503, 200, 404, 410, 404]
    assert {each.connection for each in origin.requests} == {1}


def test_headers_are_changed_and_taken_out(origin):
    fault = Fault(headers={"etag": None, "accept-ranges": "none", "X-New": "1"})
    origin.add("/a", Resource(size=10, always=fault))
    got = get(origin, "/a")
    assert "etag" not in got.headers
    assert (got.headers["accept-ranges"], got.headers["x-new"]) == ("none", "1")


@pytest.mark.parametrize("length", [None, "7", "20"])
def test_a_bent_content_length_closes_the_connection(origin, length):
    origin.add("/a", Resource(size=10, always=Fault(headers={"Content-Length": length})))
    with dial(origin, "/a") as sock:
        head, _, rest = read_all(sock).partition(b"\r\n\r\n")
    assert rest == body(0, 0, 10)
    assert (b"Content-Length" in head) is (length is not None)


@pytest.mark.parametrize("after", [0, 1, 100_000])
def test_cut_after(origin, after):
    origin.add("/a", Resource(size=300_000, script=[Fault(cut_after=after)]))
    with client(origin) as connection:
        connection.request("GET", "/a")
        answer = connection.getresponse()
        with pytest.raises(http.client.IncompleteRead) as caught:
            answer.read()
    assert caught.value.partial == body(0, 0, after)
    assert origin.wait_for(all_ended())
    assert (origin.requests[0].sent, origin.requests[0].client_closed) == (after, False)
    assert get(origin, "/a").body == body(0, 0, 300_000)


def test_a_cut_range_counts_from_its_own_start(origin):
    origin.add("/a", Resource(size=1000, always=Fault(cut_after=10)))
    with dial(origin, "/a", extra="Range: bytes=500-\r\n") as sock:
        assert read_all(sock).partition(b"\r\n\r\n")[2] == body(0, 500, 510)


def test_a_cut_chunked_answer_lacks_its_last_chunk(origin):
    origin.add("/a", Resource(size=1000, chunked=True, always=Fault(cut_after=10)))
    with dial(origin, "/a") as sock:
        assert read_all(sock).partition(b"\r\n\r\n")[2] == b"a\r\n" + body(0, 0, 10) + b"\r\n"


def test_reset_after(origin):
    origin.add("/a", Resource(size=300_000, always=Fault(reset_after=5000)))
    with dial(origin, "/a") as sock:
        assert read_some(sock, 5000) == body(0, 0, 5000)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


@pytest.mark.parametrize("after", [0, 5000])
def test_stall_after(origin, after):
    origin.add("/a", Resource(size=300_000, always=Fault(stall_after=after)))
    with dial(origin, "/a") as sock:
        assert read_some(sock, after) == body(0, 0, after)
        assert origin.wait_for(lambda seen: seen[0].sent == after)
        assert not origin.requests[0].ended
        assert origin.active == 1
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
    assert origin.wait_for(all_ended())
    assert origin.requests[0].client_closed
    assert origin.active == 0


def test_a_clients_shutdown_ends_a_stall(origin):
    origin.add("/a", Resource(size=300_000, always=Fault(stall_after=10)))
    with dial(origin, "/a") as sock:
        assert read_some(sock, 10) == body(0, 0, 10)
        sock.shutdown(socket.SHUT_RDWR)
        assert origin.wait_for(lambda seen: seen[0].client_closed)


def test_a_client_that_stops_reading_and_leaves_is_noticed(origin):
    origin.add("/a", Resource(size=1 << 30))
    with dial(origin, "/a"):
        assert origin.wait_for(lambda seen: bool(seen) and seen[0].sent > 0)
    assert origin.wait_for(all_ended())
    assert origin.requests[0].client_closed
    assert origin.requests[0].sent < 1 << 30


def test_short_by(origin):
    origin.add("/a", Resource(size=1000, always=Fault(short_by=3)))
    with client(origin) as connection:
        assert ask(connection, "/a", "HEAD").headers["content-length"] == "1000"
        connection.request("GET", "/a")
        answer = connection.getresponse()
        assert answer.headers["content-length"] == "1000"
        with pytest.raises(http.client.IncompleteRead) as caught:
            answer.read()
    assert caught.value.partial == body(0, 0, 997)
    assert [each.connection for each in origin.requests] == [1, 1]


@pytest.mark.parametrize("total", [1000, 77, None])
@pytest.mark.parametrize("resource", [Resource(size=1000), Resource(data=body(0, 0, 1000))])
def test_wrong_range(origin, total, resource):
    origin.add("/a", dataclasses.replace(resource, always=Fault(wrong_range=(990, 1009, total))))
    for headers in ({}, {"range": "bytes=5-9"}, {"range": "bytes=5000-"}):
        got = get(origin, "/a", **headers)
        assert (got.status, len(got.body)) == (206, 20)
        assert got.headers["content-range"] == f"bytes 990-1009/{total or '*'}"
        assert got.body[:10] == body(0, 990, 1000)


def test_no_content_range(origin):
    origin.add("/a", Resource(size=1000, always=Fault(no_content_range=True)))
    got = get(origin, "/a", range="bytes=5-9")
    assert (got.status, got.body) == (206, body(0, 5, 10))
    assert "content-range" not in got.headers


def test_unsolicited_206(origin):
    origin.add("/a", Resource(size=1000, always=Fault(unsolicited_206=True)))
    got = get(origin, "/a")
    assert (got.status, got.headers["content-range"], len(got.body)) == (206, "bytes 0-999/1000", 1000)


def test_redirect(origin):
    target = origin.add("/b", Resource(size=5))
    url = origin.add("/a", Resource(size=1, script=[Fault(redirect=target), Fault(redirect="/b", redirect_status=307)]))
    with urllib3.PoolManager() as pool:
        assert pool.request("GET", url).data == body(0, 0, 5)
        assert pool.request("GET", url).data == body(0, 0, 5)
    assert [each.status for each in origin.requests] == [302, 200, 307, 200]


def test_gzip_is_real_and_other_encodings_only_labelled(origin):
    origin.add("/a", Resource(data=b"a" * 5000, script=[Fault(encoding="gzip"), Fault(encoding="br")]))
    got = get(origin, "/a")
    assert got.headers["content-encoding"] == "gzip"
    assert gzip.decompress(got.body) == b"a" * 5000
    assert int(got.headers["content-length"]) == len(got.body) < 5000
    got = get(origin, "/a")
    assert (got.headers["content-encoding"], got.body) == ("br", b"a" * 5000)


def test_html(origin):
    origin.add("/a", Resource(size=1000, always=Fault(html=True)))
    got = get(origin, "/a", range="bytes=5-")
    assert (got.status, got.body) == (200, LOGIN_PAGE)
    assert got.headers["content-type"].startswith("text/html")


def test_an_answer_from_another_entity(origin):
    other = Resource(size=500, seed=9)
    origin.add("/a", Resource(size=1000, script=[None, Fault(entity=other)]))
    with client(origin) as connection:
        ask(connection, "/a", range="bytes=0-9")
        got = ask(connection, "/a", range="bytes=10-19")
    assert got.body == body(9, 10, 20)
    assert got.headers["content-range"] == "bytes 10-19/500"
    assert got.headers["etag"] == other.etag


def test_raw(origin):
    origin.add(
        "/a",
        Resource(size=1000, script=[Fault(raw=b"ICY 200 OK\r\n\r\nabc"), Fault(raw=b"HTTP/1.1 2", stall_after=9)]),
    )
    with dial(origin, "/a") as sock:
        assert read_all(sock) == b"ICY 200 OK\r\n\r\nabc"
    with dial(origin, "/a") as sock:
        assert sock.recv(100)
        assert origin.wait_for(lambda seen: len(seen) == 2 and seen[1].sent == 9)
        assert not origin.requests[1].ended


@pytest.mark.parametrize("chunked", [False, True])
def test_extra_bytes_follow_the_body(origin, chunked):
    origin.add("/a", Resource(data=b"abc", chunked=chunked, always=Fault(extra=b"SURPRISE")))
    with dial(origin, "/a", extra="Connection: close\r\n") as sock:
        rest = read_all(sock).partition(b"\r\n\r\n")[2]
    assert rest == (b"3\r\nabc\r\n0\r\n\r\nSURPRISE" if chunked else b"abcSURPRISE")


def test_the_earliest_end_takes_effect(origin):
    origin.add("/a", Resource(size=1000, always=Fault(cut_after=700, short_by=400)))
    with dial(origin, "/a") as sock:
        assert read_all(sock).partition(b"\r\n\r\n")[2] == body(0, 0, 600)


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_body_leaves_the_connection(origin, status):
    origin.add("/a", Resource(size=1000, script=[Fault(status=status)]))
    with client(origin) as connection:
        assert ask(connection, "/a").status == status
        assert ask(connection, "/a").status == 200
    assert {each.connection for each in origin.requests} == {1}


# --- the record, and the end ----------------------------------------------------------------------------


def test_the_record_is_a_snapshot(origin):
    gate = threading.Event()
    origin.add("/a", Resource(size=10, always=Fault(hold=gate)))
    with dial(origin, "/a", extra="X-Test: Yes\r\n") as sock:
        assert origin.wait_for(lambda seen: len(seen) == 1)
        before = origin.requests
        gate.set()
        read_some(sock, 10)
        assert origin.wait_for(all_ended())
    assert before == [Seen("GET", "/a", "/a", {"host": "x", "x-test": "Yes"}, None, 1)]
    assert origin.requests[0].ended


def test_wait_for_says_when_nothing_came(origin):
    assert not origin.wait_for(lambda seen: bool(seen), timeout=0.01)


def test_requests_in_parallel_are_counted(origin):
    gate = threading.Event()
    origin.add("/a", Resource(size=10, always=Fault(hold=gate)))
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(dial(origin, "/a")) for _ in range(5)]
        assert origin.wait_for(lambda seen: len(seen) == 5)
        assert (origin.active, origin.peak) == (5, 5)
        gate.set()
        for sock in socks:
            read_some(sock, 10)
        assert origin.wait_for(all_ended(5))
    assert (origin.active, origin.peak) == (0, 5)
    assert {each.connection for each in origin.requests} == {1, 2, 3, 4, 5}


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("origin-")}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_close_ends_everything_at_once():
    assert threads() == set()
    before = descriptors()
    faults = [
        None,
        Fault(stall_after=10),
        Fault(stall_headers=True),
        Fault(delay=600.0),
        Fault(hold=threading.Event()),
    ]
    with contextlib.ExitStack() as stack:
        origin = Origin().start()
        origin.add("/a", Resource(size=1 << 40, script=faults))
        origin.add("/slow", Resource(size=1 << 30, rate=1.0))
        for index in range(len(faults)):
            stack.enter_context(dial(origin, "/a"))
            assert origin.wait_for(lambda seen, index=index: len(seen) == index + 1)
        stack.enter_context(dial(origin, "/slow"))
        stack.enter_context(socket.create_connection(address(origin), timeout=10))
        assert origin.wait_for(lambda seen: len(seen) == 6)
        origin.silent_address()
        begun = time.monotonic()
        origin.close()
        assert time.monotonic() - begun < 5
        origin.close()
        assert threads() == set()
        assert all(each.ended and not each.client_closed for each in origin.requests)
        assert origin.active == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address(origin), timeout=10)
    assert descriptors() <= before


def test_close_stops_a_body_that_is_read_as_fast_as_it_comes():
    origin = Origin().start()
    origin.add("/a", Resource(size=1 << 50))
    ended = threading.Event()

    def drain() -> None:
        with dial(origin, "/a") as sock, contextlib.suppress(ConnectionError):
            while sock.recv(1 << 20):
                pass
        ended.set()

    reader = threading.Thread(target=drain)
    reader.start()
    try:
        assert origin.wait_for(lambda seen: bool(seen) and seen[0].sent > 1 << 24)
    finally:
        origin.close()
        reader.join(10)
    assert ended.is_set()


def test_an_origin_starts_once():
    origin = Origin()
    with pytest.raises(RuntimeError, match="not been started"):
        origin.url("/")
    with origin, pytest.raises(RuntimeError, match="once"):
        origin.start()
    with pytest.raises(RuntimeError, match="once"):
        origin.start()
    never = Origin()
    never.close()
    with pytest.raises(RuntimeError, match="once"):
        never.start()


def test_a_client_that_connects_and_leaves_disturbs_nobody(origin):
    origin.add("/a", Resource(size=10))
    for sent in (b"", b"GET /a HT"):
        with socket.create_connection(address(origin), timeout=10) as sock:
            sock.sendall(sent)
    assert len(get(origin, "/a").body) == 10
    assert len(origin.requests) == 1


def test_the_silent_address_lets_a_connect_hang(origin):
    parts = urlsplit(origin.silent_address())
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex((parts.hostname, parts.port))
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        assert poll.poll(300) == []


def test_the_silent_address_of_a_closed_origin():
    origin = Origin().start()
    origin.close()
    with pytest.raises(RuntimeError, match="closed"):
        origin.silent_address()


def loopback_hosts() -> list[str]:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return ["127.0.0.1"]
    return ["127.0.0.1", "::1"]


@pytest.mark.parametrize("host", loopback_hosts())
def test_an_origin_on_each_loopback_address(host):
    with Origin(host) as origin:
        url = origin.add("/a", Resource(size=10))
        assert url.startswith("http://[::1]:" if ":" in host else "http://127.0.0.1:")
        with urllib3.PoolManager(retries=False) as pool:
            assert pool.request("GET", url).data == body(0, 0, 10)
