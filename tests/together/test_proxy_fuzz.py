"""Whatever a proxy answers, and however it is cut: the package's own errors, or a connection with no byte lost."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator

import pytest
import socks as pysocks
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.clock import monotonic
from kithara_actors.errors import KitharaError, ProtocolError
from kithara_actors.worker.attempt import Attempt
from kithara_actors.worker.socks import Server
from kithara_actors.worker.tunnel import open_tunnel

LIMIT = 30.0


@contextlib.contextmanager
def answered(data: bytes) -> Iterator[tuple[socket.socket, Attempt]]:
    """A connection at whose other end everything is said already, and an attempt bound to it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        attempt = Attempt()
        attempt.where, attempt.via, attempt.deadline = "music.test:443", "proxy.test:3128", monotonic() + LIMIT
        attempt.bind(ours.fileno())
        try:
            yield ours, attempt
        finally:
            attempt.unbind()


heads = st.builds(
    lambda version, status, reason, fields, end, rest: b"".join(
        (b"HTTP/", version, b" %d" % status, reason, b"\r\n", *fields, end, rest)
    ),
    st.sampled_from([b"1.1", b"1.0", b"2", b"1.11"]),
    st.integers(0, 9999),
    st.sampled_from([b"", b" ", b" OK", b"OK", b" \xff"]),
    st.lists(st.sampled_from([b"X: y\r\n", b"\x00\r\n", b"X: y\n", b": \r\n"]), max_size=3),
    st.sampled_from([b"\r\n", b"\n", b""]),
    st.sampled_from([b"", b"\x16", b"HTTP/1.1 200 OK\r\n\r\n"]),
)
END = re.compile(rb"\r?\n\r?\n")


@given(st.one_of(st.binary(max_size=300), heads, st.lists(heads, max_size=3).map(b"".join)))
@example(b"HTTP/1.1 200 OK\r\n\r\n")
@example(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
def test_any_answer_to_connect_opens_the_tunnel_or_is_a_typed_error(data: bytes) -> None:
    with answered(data) as (sock, attempt):
        problem: KitharaError | None = None
        try:
            open_tunnel(sock, attempt, "music.test", 443, {"Proxy-Authorization": "Basic x"})
        except KitharaError as error:
            problem = error
        if problem is not None:
            assert "proxy.test:3128" in str(problem)
            return
        *interim, last, rest = END.split(data)
        assert re.match(rb"HTTP/1\.\d 2\d\d\s", last + b"\n")
        assert all(re.match(rb"HTTP/1\.\d 1\d\d\s", head + b"\n") for head in interim)
        assert rest == sock.recv(100) == b""


@settings(max_examples=30)
@given(st.lists(st.binary(min_size=1, max_size=20), max_size=20))
def test_the_end_of_a_head_is_found_however_it_is_cut(fields: list[bytes]) -> None:
    lines = [b"X: " + field.hex().encode() for field in fields]
    head = b"\r\n".join((b"HTTP/1.1 200 OK", *lines, b"", b""))

    class Dripping:
        """A socket that gives one byte at a time."""

        def __init__(self) -> None:
            self.at = 0

        def settimeout(self, seconds: float) -> None:
            assert 0 < seconds <= LIMIT

        def sendall(self, data: bytes) -> None:
            assert data.endswith(b"\r\n\r\n")

        def recv(self, _: int) -> bytes:
            self.at += 1
            return head[self.at - 1 : self.at]

    sock = Dripping()
    attempt = Attempt()
    attempt.deadline = monotonic() + LIMIT
    open_tunnel(sock, attempt, "music.test", 443, {})  # type: ignore[arg-type]
    assert sock.at == len(head)


@pytest.mark.parametrize("host", ["a b", "a\r\nX: y", "a\x00", "x" * 64])
def test_a_host_that_could_end_the_line_is_not_sent(host: str) -> None:
    with answered(b"HTTP/1.1 200 OK\r\n\r\n") as (sock, attempt):
        with pytest.raises(ProtocolError, match="not a host name"):
            open_tunnel(sock, attempt, host, 443, {})


replies = st.builds(
    lambda method, login, status, bound, rest: method + login + b"\x05" + status + b"\x00" + bound + rest,
    st.sampled_from([b"\x05\x00", b"\x05\x02", b"\x05\xff", b"\x04\x00"]),
    st.sampled_from([b"", b"\x01\x00", b"\x01\x01", b"\x05\x00"]),
    st.binary(min_size=1, max_size=1),
    st.one_of(
        st.just(b"\x01" + bytes(6)),
        st.just(b"\x03\x02ab\x00\x50"),
        st.just(b"\x04" + bytes(18)),
        st.binary(max_size=8),
    ),
    st.binary(max_size=20),
)


@pytest.mark.parametrize("version", [pysocks.SOCKS5, pysocks.SOCKS4])
@given(data=st.one_of(st.binary(max_size=60), replies, st.binary(max_size=12).map(lambda rest: b"\x00\x5a" + rest)))
@example(data=b"\x05\x00\x05\x00\x00\x01" + bytes(6) + b"rest")
@example(data=b"\x05\x02\x01\x00\x05\x00\x00\x03\x02ab\x00\x50rest")
@example(data=b"\x00\x5a" + bytes(6) + b"rest")
def test_any_answer_in_the_socks_handshake_connects_or_is_a_typed_error(version: int, data: bytes) -> None:
    server = Server(version, "proxy.test", 1080, "me", "s3cr3t", names=True)
    with answered(data) as (sock, attempt):
        problem: KitharaError | None = None
        try:
            connected = server._shake_hands(sock, attempt, "music.test", 443)
        except KitharaError as error:
            problem = error
        if problem is not None:
            assert "proxy.test:1080" in str(problem)
            assert "s3cr3t" not in f"{problem!r}{problem.__cause__!r}"
            return
        with connected:
            assert type(connected) is socket.socket
            rest = b"".join(iter(lambda: connected.recv(100), b""))
        assert data.endswith(rest)
        shaken = data[: len(data) - len(rest)]
        if version == pysocks.SOCKS4:
            assert shaken[:2] == b"\x00\x5a"
            assert len(shaken) == 8
        else:
            reply = shaken.removeprefix(b"\x05\x00") if shaken[1] == 0 else shaken[4:]
            assert reply[:2] == b"\x05\x00"
            assert len(reply) == {1: 10, 3: 7 + (reply[4] if reply[3] == 3 else 0), 4: 22}[reply[3]]
