"""urllib3's connections and pools, taught to serve an `Attempt`.

The overridden methods named with an underscore are the ones that urllib3's own SOCKS support overrides or
that its documentation of pools describes; tests notice if one of them is no longer called.
"""

from __future__ import annotations

import http.client
import socket
import sys
import threading
from typing import Any, cast

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse

from kithara_actors.worker.attempt import Attempt, Dialer

__all__ = ["POOLS", "PlainPool", "SecurePool", "active"]

_INTERIM_LIMIT = 16


class Active(threading.local):
    """What the thread is sending: urllib3 has no way to hand it to the connection."""

    attempt: Attempt | None = None
    dialer: Dialer | None = None
    fresh_only = False


active = Active()


class _Lines:
    """The reader under a response while its head is read; remembers whether the head was cut short."""

    def __init__(self, reader: Any) -> None:
        self.reader = reader
        self.cut = False

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self.reader.readline(limit)
        self.cut = not line.endswith(b"\n") and (limit < 0 or len(line) < limit)
        return line

    def close(self) -> None:
        self.reader.close()

    def flush(self) -> None:
        """http.client flushes what it closes."""


class _Response(http.client.HTTPResponse):
    """Mends http.client, which takes a cut in the headers for their end, and an early hint for the answer."""

    fp: Any

    def begin(self) -> None:
        lines = _Lines(self.fp)
        self.fp = lines
        try:
            super().begin()
            for _ in range(_INTERIM_LIMIT):
                if not 101 < self.status < 200:
                    break
                self.headers = self.msg = cast("Any", None)
                super().begin()
        except http.client.HTTPException:
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
            raise http.client.HTTPException("two values of Content-Length")


class _Plain(HTTPConnection):
    """A connection whose socket the running attempt can shut down while it connects, waits and reads."""

    attempt: Attempt | None = None
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        attempt, dialer = active.attempt, active.dialer
        if attempt is None or dialer is None:
            # What connects by itself would pass by the check of its address, and no cancel could reach it.
            raise RuntimeError("a connection can only be opened for an attempt")
        attempt.fresh = True
        # With the final dot, where there is one: it keeps the resolver from trying its search domains.
        host = getattr(self, "_dns_host", self.host)
        sock = dialer.dial(attempt, host, self.port, self.socket_options or ())
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        self.attempt = attempt = active.attempt
        if attempt is not None:
            if not attempt.fresh and self.sock is not None:
                attempt.bind(self.sock.fileno())
            url = attempt.target  # urlopen changes the case of percent escapes, which breaks signed URLs
        super().request(method, url, *args, **kwargs)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        if self.attempt is not None:
            self.attempt.answered_by(self.sock)
        return super().getresponse()


class _Secure(_Plain, HTTPSConnection):
    pass


class PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain

    def _get_conn(self, timeout: float | None = None) -> Any:
        conn = super()._get_conn(timeout)
        if active.fresh_only:
            conn.close()
        return conn

    def _put_conn(self, conn: Any) -> None:
        # A late cancel must not reach the connection once another attempt can take it from the pool.
        attempt = getattr(conn, "attempt", None)
        if attempt is not None:
            conn.attempt = None
            attempt.unbind()
        super()._put_conn(conn)


class SecurePool(PlainPool, HTTPSConnectionPool):
    ConnectionCls = _Secure


POOLS: dict[str, type[HTTPConnectionPool]] = {"http": PlainPool, "https": SecurePool}
