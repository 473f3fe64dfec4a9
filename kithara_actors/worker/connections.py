"""urllib3's connections and pools, taught to serve an `Attempt`.

The overridden methods named with an underscore are the ones that urllib3's own SOCKS support overrides or
that its documentation of pools describes; tests notice if one of them is no longer called.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import logging
import os
import re
import socket
import ssl
import sys
import threading
from collections.abc import Mapping
from typing import Any, cast

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ClosedPoolError
from urllib3.response import HTTPResponse

from actors.clock import monotonic
from kithara_actors.errors import ConnectError, PolicyError
from kithara_actors.worker.attempt import Attempt, Dialer
from kithara_actors.worker.heads import usual_head
from kithara_actors.worker.tunnel import open_tunnel

__all__ = ["POOLS", "Malformed", "PlainConnection", "PlainPool", "SecureConnection", "SecurePool", "active"]

_INTERIM_LIMIT = 16
_STATUS = re.compile(rb"[1-9][0-9]{2}")
_FIELD = re.compile(rb"(?:[!-9;-~]+:|[ \t])[^\x00\r\n]*\r?\n|\r?\n")
_HEAD = re.compile(
    rb"HTTP/1\.[01] [1-9][0-9]{2}(?: [^\x00\r\n]*)?\r\n"
    rb"(?:[!-9;-~]+:[^\x00\r\n]*\r\n(?:[ \t][^\x00\r\n]*\r\n)*)*\r\n"
)
"""A whole head of which every line would pass: one look at it costs less than one at each line."""


class Active(threading.local):
    """What the thread is sending: urllib3 has no way to hand it to the connection."""

    attempt: Attempt | None = None
    dialer: Dialer | None = None
    """Opens the connection: to the origin, or to its proxy."""
    names: Dialer | None = None
    """Looks the origin up, where a proxy is told its address."""
    fresh_only = False


active = Active()


class _Quiet(logging.Filter):
    """urllib3 logs each request with its query; what is sent for an attempt is not for logs."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - as it is called
        return active.attempt is None


for _name in ("connection", "connectionpool"):
    logging.getLogger(f"urllib3.{_name}").addFilter(_Quiet())


class Malformed(http.client.HTTPException):
    """A head that breaks HTTP's rules; the text is ours and shows nothing of it."""


class _Lines:
    """The reader under a response while its head is read: it has to come within the socket's time-out as a whole.

    http.client bounds each read alone, takes any number of interim answers, and stops to parse at a line that is no
    header field: what the lines behind it say, such as a content coding, would be lost without a word. Here such a
    line is refused, as are NUL and bare CR in one (RFC 9112 section 2.2, RFC 9110 section 5.5).
    """

    def __init__(self, sock: Any, reader: Any) -> None:
        self.reader = reader
        self.cut = False
        """The connection ended within a line that was well so far."""
        self.foreign = False
        """What came where an answer begins does not begin as one."""
        self._sock = sock
        self._seconds: float | None = sock.gettimeout()
        self._end = monotonic() + (self._seconds or 0.0)
        self._held = 0
        self._answers = 0
        self._at_status = True
        self._at_field = False
        self._passed = False

    def readline(self, limit: int = -1) -> bytes:
        if self._at_status and not self._answers:
            self._passed = _HEAD.match(self.reader.peek(1)) is not None
        if self._passed:
            line: bytes = self.reader.readline(limit)
            self._at_status = line == b"\r\n"
            self._passed = not self._at_status
            self._answers += self._at_status
            return line
        line = self._next(limit)
        whole = line.endswith(b"\n")
        self.cut = not whole and (limit < 0 or len(line) < limit)
        if self._at_status:
            self._check_status(line, whole)
        elif whole:
            self._check_field(line)
        return line

    def _next(self, limit: int) -> bytes:
        line = b""
        while not line.endswith(b"\n") and (limit < 0 or len(line) < limit):
            if not self._held and self._seconds is not None:
                left = self._end - monotonic()
                if left <= 0:
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
                self._sock.settimeout(left)
            held = self.reader.peek(1)
            count = held.find(b"\n") + 1 or len(held)
            if limit >= 0:
                count = min(count, limit - len(line))
            if not count:
                break
            line += self.reader.read(count)
            self._held = len(held) - count
        return line

    def _check_status(self, line: bytes, whole: bool) -> None:
        # What cannot become a status line any more is no answer cut short.
        begun = line[:5] == b"HTTP/"[: len(line)]
        self.cut = self.cut and begun
        self.foreign = not begun
        self._answers += 1
        if self._answers > _INTERIM_LIMIT + 1:
            raise Malformed(f"more than {_INTERIM_LIMIT} interim answers")
        if whole:
            parts = line.split(None, 2)
            if line.startswith(b"HTTP/") and len(parts) > 1 and not _STATUS.fullmatch(parts[1]):
                raise Malformed("a status that is no number from 100 to 999")
            self._at_status, self._at_field = False, False

    def _check_field(self, line: bytes) -> None:
        folded = line[:1] in (b" ", b"\t")
        if not _FIELD.fullmatch(line) or (folded and not self._at_field):
            raise Malformed("a line in its head that is no header field")
        self._at_field = True
        self._at_status = line in (b"\r\n", b"\n")

    def release(self) -> None:
        """The head is over: the time-out of the socket is again what it was."""
        if self._seconds is not None:
            self._sock.settimeout(self._seconds)

    def close(self) -> None:
        self.reader.close()

    def flush(self) -> None:
        """http.client flushes what it closes."""


class _Response(http.client.HTTPResponse):
    """Mends http.client, which takes a cut in the headers for their end, and an early hint for the answer."""

    fp: Any
    behind: int | None = None
    """How many bytes of what was received come behind the head; None if that is not known."""

    def __init__(self, sock: Any, debuglevel: int = 0, method: str | None = None, url: str | None = None) -> None:
        super().__init__(sock, debuglevel, method, url)
        self._sock = sock
        self._asked = method

    def begin(self) -> None:
        try:
            if not self._begin_at_once():
                self._begin_by_lines()
        finally:
            del self._sock

    def _begin_at_once(self) -> bool:
        """Do as http.client does with a head that came in one piece and is as usual; False for any other.

        http.client has the parser of e-mails read the head, which takes a third of what a small request costs.
        """
        received = self.fp.peek(1)
        head = usual_head(received)
        if head is None:
            return False
        self.fp.read(head.size)
        self.behind = len(received) - head.size
        self.code = self.status = head.status
        self.reason = head.reason
        self.version = 11
        self.headers = self.msg = http.client.HTTPMessage()
        for name, value in head.lines:
            self.headers.set_raw(name, value)
        self.chunked = head.chunked
        if self.chunked:
            self.chunk_left = None
        self.length = head.length
        if self.status in (204, 304) or self._asked == "HEAD":
            self.length = 0
        self.will_close = head.closes or (self.length is None and not self.chunked)
        return True

    def _begin_by_lines(self) -> None:
        lines = _Lines(self._sock, self.fp)
        self.fp = lines
        try:
            super().begin()
            for _ in range(_INTERIM_LIMIT):
                if not 101 < self.status < 200:
                    break
                self.headers = self.msg = cast("Any", None)
                super().begin()
            lines.release()
        except http.client.HTTPException as error:
            if lines.foreign and isinstance(error, http.client.LineTooLong):
                # What a long header field raises too; a short line that is no answer raises this.
                raise http.client.BadStatusLine("") from error
            if not lines.cut:
                raise
        finally:
            if self.fp is lines:
                self.fp = lines.reader
        if lines.cut:
            raise http.client.RemoteDisconnected("the connection was closed within the headers")
        lengths = ",".join(self.headers.get_all("Content-Length", ())).split(",")
        if len({length.strip() for length in lengths}) > 1:
            # urllib3 refuses it too, but leaves the socket to the collector; http.client closes it here.
            raise Malformed("two different values of Content-Length")


class PlainConnection(HTTPConnection):
    """A connection whose socket the running attempt can shut down while it connects, waits and reads."""

    attempt: Attempt | None = None
    handle: socket.socket | None = None
    """By which the next attempt can shut the socket down; the connection's own while it waits for one."""
    response_class = _Response
    indirect = False
    """Never to be opened to the origin itself."""
    sent_ahead = False
    """The request is on its way already: what http.client would send now goes nowhere."""

    def dial(self, attempt: Attempt, dialer: Dialer) -> socket.socket:
        """The TCP connection, bound to `attempt`."""
        # With the final dot, where there is one: it keeps the resolver from trying its search domains.
        host = getattr(self, "_dns_host", self.host)
        return dialer.dial(attempt, host, self.port, self.socket_options or ())

    def _new_conn(self) -> socket.socket:
        attempt, dialer = active.attempt, active.dialer
        if attempt is None or dialer is None:
            # What connects by itself would pass by the check of its address, and no cancel could reach it.
            raise RuntimeError("a connection can only be opened for an attempt")
        attempt.fresh = True
        sock = self.dial(attempt, dialer)
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock

    def connect(self) -> None:
        super().connect()
        attempt, dialer = active.attempt, active.dialer
        if attempt is None or dialer is None or attempt.fresh:
            return
        # urllib3 no longer calls `_new_conn`. What it connected to nobody has looked at.
        attempt.fresh = True
        if dialer.refuses:
            raise PolicyError("public_only cannot be kept with this release of urllib3: install an older one")
        if self.indirect:
            raise ConnectError("this release of urllib3 goes past SOCKS proxies: install an older one", retryable=False)
        attempt.bind(self.sock.fileno())

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        self.attempt = attempt = active.attempt
        if attempt is not None:
            handle, self.handle = self.handle, None
            if handle is not None:
                attempt.take(handle)
            elif not attempt.fresh and self.sock is not None:
                attempt.bind(self.sock.fileno())
            url = attempt.target  # urlopen changes the case of percent escapes, which breaks signed URLs
        super().request(method, url, *args, **kwargs)

    def send(self, data: Any) -> None:
        if not self.sent_ahead:
            super().send(data)

    def close(self) -> None:
        self.sent_ahead = False
        handle, self.handle = self.handle, None
        if handle is not None:
            handle.close()
        super().close()

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        self.sent_ahead = False
        if self.attempt is not None:
            self.attempt.answered_by(self.sock)
        return super().getresponse()


class SecureConnection(PlainConnection, HTTPSConnection):
    """The same over TLS, and through a tunnel where there is an HTTP proxy."""

    _tunnel_to: tuple[str, int, Mapping[str, str]] | None = None

    def connect(self) -> None:
        super().connect()
        # A body that ends with the connection ends with a closure alert, or it was cut (RFC 9112 section 9.8).
        cast("Any", self.sock).suppress_ragged_eofs = False

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        try:
            super().request(method, url, *args, **kwargs)
        except (ConnectionError, ssl.SSLEOFError):
            # In TLS 1.3 a server that wants a client certificate says so after the handshake, and may be gone
            # before the request is sent. What it said is there still.
            if self.sock is not None:
                with contextlib.suppress(ssl.SSLEOFError, ConnectionError, TimeoutError):
                    self.sock.recv(1)
            raise

    def set_tunnel(
        self, host: str, port: int | None = None, headers: Mapping[str, str] | None = None, scheme: str = "http"
    ) -> None:
        super().set_tunnel(host, port, headers, scheme)
        self._tunnel_to = host, port or 443, headers or {}

    def _tunnel(self) -> None:
        if active.attempt is None or self._tunnel_to is None:
            super()._tunnel()
        else:
            open_tunnel(self.sock, active.attempt, *self._tunnel_to)


class PlainPool(HTTPConnectionPool):
    ConnectionCls: type[PlainConnection] = PlainConnection

    @property
    def via(self) -> str:
        """Host and port of the proxy; empty if there is none."""
        proxy = self.proxy
        if proxy is None:
            return ""
        port = proxy.port or (443 if proxy.scheme == "https" else 80)
        return f"{proxy.host}:{port}"

    def kept(self) -> PlainConnection | None:
        """A connection that waits for its next request, out of the pool; None if there is none."""
        with contextlib.suppress(ClosedPoolError):
            conn: PlainConnection = self._get_conn()
            if conn.sock is not None and conn.handle is not None:
                return conn
            self.put_back(conn)
        return None

    def put_back(self, conn: PlainConnection) -> None:
        """Take what `kept` gave, fit for another request or closed."""
        self._put_conn(conn)

    def _get_conn(self, timeout: float | None = None) -> Any:
        attempt = active.attempt
        if attempt is not None and attempt.ahead is not None:
            ahead, attempt.ahead = attempt.ahead, None
            ahead.sent_ahead = True
            return ahead
        conn: Any = super()._get_conn(timeout)
        # What came behind the last answer is dropped with it; urllib3 does not see what is decrypted already.
        late = isinstance(conn.sock, ssl.SSLSocket) and conn.sock.pending()
        if active.fresh_only or late:
            conn.close()
        return conn

    def _put_conn(self, conn: Any) -> None:
        # A late cancel must not reach the connection once another attempt can take it from the pool.
        attempt = getattr(conn, "attempt", None)
        if attempt is not None:
            conn.attempt = None
            if conn.sock is None:
                attempt.unbind()
            else:
                conn.handle = attempt.release()
        super()._put_conn(conn)


class SecurePool(PlainPool, HTTPSConnectionPool):
    ConnectionCls: type[SecureConnection] = SecureConnection


POOLS: dict[str, type[PlainPool]] = {"http": PlainPool, "https": SecurePool}
