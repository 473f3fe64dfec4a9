"""One attempt on a thread of its own, servers that follow a script, and certificates, for tests of the transport."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import trustme

from kithara_actors.logic.response import Asked
from kithara_actors.testing.origin import body
from kithara_actors.worker.attempt import Attempt
from kithara_actors.worker.fetcher import End, Order, run
from kithara_actors.worker.http import Transport, TransportSettings
from kithara_actors.worker.sink import Sink

__all__ = [
    "HANG",
    "Bench",
    "Fetch",
    "Papers",
    "Peer",
    "bench",
    "full",
    "media",
    "papers",
    "ranged",
    "read_head",
    "sees_the_end",
]

HANG = 30.0
Handler = Callable[[socket.socket], None]


class Fetch:
    """One attempt, and where it has got to."""

    def __init__(self, transport: Transport, url: str, asked: Asked | None = None) -> None:
        self.attempt = Attempt()
        self.transport = transport
        self.order = Order(url, (), asked or Asked(0, None))
        self.fd = os.memfd_create("test")
        self.byte_came = threading.Event()
        self.sink = Sink(self.fd, lambda _: self.byte_came.set())
        self.end: End | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._work)

    def run(self) -> End:
        return run(self.transport, self.attempt, self.order, self.sink, lambda *_: None)

    def start(self) -> Self:
        self._thread.start()
        return self

    def join(self) -> None:
        self._thread.join(HANG)
        assert not self._thread.is_alive(), "the attempt hangs"

    def failure(self) -> BaseException:
        """What the attempt ends with, started or not."""
        if not self._thread.ident:
            self.start()
        self.join()
        assert self.error is not None, f"no error but {self.end}"
        return self.error

    def bytes(self) -> bytes:
        return os.pread(self.fd, os.fstat(self.fd).st_size, 0)

    def wait_until_bound(self) -> None:
        """Until it has a socket: polled, as connecting tells nobody."""
        gate = threading.Event()
        for _ in range(int(HANG / 0.002)):
            if self.attempt.fileno() >= 0:
                return
            gate.wait(0.002)
        raise AssertionError("the attempt has no connection")

    def _work(self) -> None:
        try:
            self.end = self.run()
        except BaseException as error:
            self.error = error


class Bench:
    """Makes transports and attempts, and clears them away."""

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()

    def transport(self, **settings: Any) -> Transport:
        made = Transport(TransportSettings(**{"trust_env": False, **settings}))
        self.stack.callback(made.close)
        return made

    def fetch(self, via: Transport, url: str, asked: Asked | None = None) -> Fetch:
        fetch = Fetch(via, url, asked)
        self.stack.callback(os.close, fetch.fd)
        return fetch

    @staticmethod
    def idle(via: Transport) -> int:
        """Connections that wait for another request."""
        waiting = [
            connection for pool in via._pools.values() for connection in list(pool.pool.queue if pool.pool else ())
        ]
        return sum(1 for connection in waiting if connection is not None and connection.sock is not None)


class Peer:
    """A server on loopback that runs `handler` for each connection on a thread of its own."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.accepted = 0
        self.failed: list[OSError] = []
        """What broke connections, TLS handshakes among it."""
        self.leave = threading.Event()
        self._handler = handler
        self._tls = tls
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.host, self.port = self._listener.getsockname()[:2]
        self.url = f"{'https' if tls else 'http'}://{self.host}:{self.port}/"
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(HANG)
        self._listener.close()
        with self._lock:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(HANG)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                sock = self._listener.accept()[0]
            except OSError:
                return
            self.accepted += 1
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(HANG)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A duplicate: what TLS closes on its own is not shut down under another name.
        handle = sock.dup()
        with self._lock:
            self._sockets.add(handle)
        try:
            with sock:
                if self._tls is None:
                    self._handler(sock)
                else:
                    with self._tls.wrap_socket(sock, server_side=True) as secure:
                        self._handler(secure)
        except ssl.SSLError as error:
            self.failed.append(error)
            # To close with a request unread would reset the connection, and may take our alert along.
            with contextlib.suppress(OSError):
                handle.shutdown(socket.SHUT_WR)
            sees_the_end(handle)
        except OSError as error:
            self.failed.append(error)
        finally:
            with self._lock:
                self._sockets.discard(handle)
            handle.close()


def read_head(sock: socket.socket) -> bytes:
    """A request; ConnectionError if there is none."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = sock.recv(65536)
        if not piece:
            raise ConnectionError("no request")
        head += piece
    return head


def sees_the_end(sock: socket.socket) -> None:
    """Return when the client has gone."""
    with contextlib.suppress(OSError):
        while sock.recv(65536):
            pass


def full(data: bytes, *fields: str) -> bytes:
    return "\r\n".join(("HTTP/1.1 200 OK", f"Content-Length: {len(data)}", *fields, "", "")).encode() + data


def ranged(data: bytes) -> Handler:
    """Serves `data` and its ranges, kept alive."""

    def serve(sock: socket.socket) -> None:
        while True:
            head = read_head(sock).decode("latin-1").lower()
            start, _, last = (head.partition("range: bytes=")[2].partition("\r\n")[0] or "0-").partition("-")
            part = data[int(start) : int(last) + 1 if last else None]
            end = int(start) + len(part) - 1
            fields = (
                "HTTP/1.1 206 Partial Content",
                f"Content-Range: bytes {start}-{end}/{len(data)}",
                f"Content-Length: {len(part)}",
                'ETag: "1"',
            )
            sock.sendall("\r\n".join((*fields, "", "")).encode() + part)

    return serve


class Papers:
    """A certificate authority of the tests, and files made with it under `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.bundle = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.bundle)

    def server(self, *names: str, **issue: Any) -> ssl.SSLContext:
        """A server's context, for 127.0.0.1, localhost and music.test unless `names` are given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued = self.ca.issue_cert(*(names or ("127.0.0.1", "localhost", "music.test")), **issue)
        issued.configure_cert(context)
        return context

    def pair(self, name: str = "client") -> tuple[str, str]:
        """Files of a client certificate and of its key."""
        issued = self.ca.issue_cert(f"{name}@music.test")
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return str(cert), str(key)


@pytest.fixture
def bench() -> Iterator[Bench]:
    one = Bench()
    with one.stack:
        yield one


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path)


def media(size: int, seed: int = 5) -> bytes:
    return body(seed, 0, size)
