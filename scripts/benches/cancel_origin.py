#!/usr/bin/env python3
"""A server whose answers never end, and a watcher that notes when each of its clients shuts its socket down.

    cancel_origin.py CERTIFICATE LISTENERS NICENESS

Two processes. The server is nice and leaves the processors to the others: what it sends as fast as it can is load,
and in the world comes from another machine. The watcher has a duplicate of every socket and nothing else to do, so
that its clock is read at once. The path of a request is /PHASE/NUMBER, the phase one of `PHASES`. The watcher says
the ports on its standard output, as one line of JSON; each line on its standard input is answered by one: `report` by
what became of the connections, `forget` after all are closed and forgotten. Both end with its standard input. Times
are of CLOCK_MONOTONIC, the same in every process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator

__all__ = ["PHASES"]

PHASES = ("backoff", "headers", "header", "trickle", "full", "chunked")

LENGTH = 1 << 30
_SENT_AT_MOST = 1 << 28
"""Bytes to one client, who keeps them in memory."""
_PIECE = 64 * 1024
_CHUNKS = b"".join(b"%x\r\n%b\r\n" % (_PIECE, bytes(_PIECE)) for _ in range(4))
_BYTES = bytes(256 * 1024)
_TRICKLE_SECONDS = 0.02
_MESSAGE = 16 * 1024
_GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Client:
    """One connection. `number` is the transfer it serves, known from the request or from the port."""

    def __init__(self, sock: socket.socket, number: str, *, silent: bool) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.number = number
        self.silent = silent
        self.phase = ""
        self.sent = 0
        self.shaken = not isinstance(sock, ssl.SSLSocket)
        self.mask = 0
        self.over = False
        self._head = b""
        self._source = b""
        self._at = 0

    @property
    def pours(self) -> bool:
        return bool(self._source) and self.phase != "trickle" and self.sent < _SENT_AT_MOST

    def hear(self) -> bool:
        """Take what has come; whether a request was among it, which has been answered then."""
        if isinstance(self.sock, ssl.SSLSocket) and not self.shaken:
            self.sock.do_handshake()
            self.shaken = True
        self._head += self.sock.recv(65536)
        if b"\r\n\r\n" not in self._head:
            return False
        _, self.phase, self.number = self._head.split(b" ", 2)[1].decode().split("/")
        self._head = b""
        self._answer()
        return True

    def _answer(self) -> None:
        head = b'HTTP/1.1 200 OK\r\nContent-Type: audio/flac\r\nETag: "1"\r\n'
        match self.phase:
            case "headers":
                pass
            case "header":
                self.sock.send(head[:30])
            case "backoff":
                self.sock.send(b"HTTP/1.1 503 Busy\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n")
            case "chunked":
                self.sock.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
                self._source = _CHUNKS
            case "full" | "trickle":
                self.sock.send(head + b"Content-Length: %d\r\n\r\n" % LENGTH)
                self._source = _BYTES
            case _:
                raise ValueError(self.phase)

    def pour(self, count: int) -> None:
        """Send on, at most `count` bytes."""
        done = self.sock.send(memoryview(self._source)[self._at : self._at + count])
        self.sent += done
        self._at = (self._at + done) % len(self._source)


class _Server:
    """Answers; tells the watcher by `channel` of each connection whose end is to be seen, and when its body comes."""

    def __init__(self, certificate: str, listeners: int, channel: socket.socket) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._poll = select.epoll()
        self._clients: dict[int, _Client] = {}
        self._accepting: dict[int, Callable[[], None]] = {}
        self._held: list[socket.socket] = []
        self._channel = channel
        self._poll.register(channel, select.EPOLLIN)
        ports = {
            "plain": self._listen(secure=False),
            "secure": self._listen(secure=True),
            "deaf": self._deaf(),
            "silent": [self._listen(silent=True) for _ in range(listeners)],
        }
        channel.send(json.dumps(ports).encode())

    def run(self) -> None:
        trickle_at = time.monotonic()
        while True:
            for fd, mask in self._poll.poll(max(0.0, trickle_at - time.monotonic())):
                if fd == self._channel.fileno():
                    if not self._channel.recv(100):
                        return
                    for client in list(self._clients.values()):
                        self._end(client)
                    self._channel.send(b"{}")
                elif fd in self._accepting:
                    self._accepting[fd]()
                elif fd in self._clients:
                    self._serve(self._clients[fd], mask)
            if time.monotonic() >= trickle_at:
                trickle_at = time.monotonic() + _TRICKLE_SECONDS
                for client in [each for each in self._clients.values() if each.phase == "trickle"]:
                    self._pour(client, 100)

    def _listen(self, *, secure: bool = False, silent: bool = False) -> int:
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        listener.setblocking(False)
        port: int = listener.getsockname()[1]

        def accept() -> None:
            sock, _ = listener.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if secure:
                sock = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            client = _Client(sock, str(port) if silent else "", silent=silent)
            self._clients[client.fd] = client
            # What a silent one is sent stays where it is; level-triggered it would be told for ever.
            client.mask = select.EPOLLRDHUP | (0 if silent else select.EPOLLIN)
            self._poll.register(sock, client.mask)
            if silent:
                self._tell(client)

        self._accepting[listener.fileno()] = accept
        self._held.append(listener)
        self._poll.register(listener, select.EPOLLIN)
        return port

    def _deaf(self) -> int:
        """A port whose backlog is full: a connect to it hangs."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self._held.append(listener)
        address = listener.getsockname()
        for _ in range(16):
            filler = socket.socket()
            self._held.append(filler)
            filler.setblocking(False)
            filler.connect_ex(address)
            if not select.select([], [filler], [], 0.2)[1]:
                port: int = address[1]
                return port
        raise SystemExit("the backlog of a listener does not fill")

    def _serve(self, client: _Client, mask: int) -> None:
        if mask & _GONE:
            self._end(client)
            return
        if mask & select.EPOLLIN:
            with self._guard(client):
                if client.hear() and client.phase != "backoff":
                    self._tell(client)
        if mask & select.EPOLLOUT and not client.over:
            self._pour(client, _PIECE)
        wanted = (client.mask & ~select.EPOLLOUT) | (select.EPOLLOUT if client.pours else 0)
        if not client.over and wanted != client.mask:
            client.mask = wanted
            self._poll.modify(client.sock, wanted)

    def _pour(self, client: _Client, count: int) -> None:
        first = client.sent == 0
        with self._guard(client):
            client.pour(count)
        if first and client.sent:
            self._channel.send(json.dumps({"pours": client.number}).encode())

    def _tell(self, client: _Client) -> None:
        socket.send_fds(self._channel, [json.dumps({"number": client.number}).encode()], [client.fd])

    @contextlib.contextmanager
    def _guard(self, client: _Client) -> Iterator[None]:
        try:
            yield
        except _AGAIN:
            pass
        except OSError:
            self._end(client)

    def _end(self, client: _Client) -> None:
        client.over = True
        self._poll.unregister(client.sock)
        client.sock.close()
        del self._clients[client.fd]


class _Watched:
    """A duplicate of a connection of the server's, and when its other end was shut down."""

    def __init__(self, number: str, fd: int) -> None:
        self.number = number
        self.fd = fd
        self.gone: float | None = None


class _Watcher:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._poll = select.epoll()
        self._watched: dict[int, _Watched] = {}
        self._left: list[_Watched] = []
        self._pouring: set[str] = set()
        self._orders = b""
        print(self._channel.recv(_MESSAGE).decode(), flush=True)
        os.set_blocking(0, False)
        for source in (0, channel.fileno()):
            self._poll.register(source, select.EPOLLIN)

    def run(self) -> None:
        while True:
            ready = self._poll.poll()
            now = time.monotonic()
            for fd, mask in ready:
                if mask & _GONE and (watched := self._watched.pop(fd, None)) is not None:
                    watched.gone = now
                    self._left.append(watched)
                    os.close(fd)
            for fd, _ in ready:
                if fd == self._channel.fileno():
                    if self._hear() is None:
                        return
                elif fd == 0 and not self._obey():
                    return

    def _hear(self) -> dict[str, str] | None:
        message, fds, _, _ = socket.recv_fds(self._channel, _MESSAGE, 1)
        if not message:
            return None
        told: dict[str, str] = json.loads(message)
        for fd in fds:
            self._watched[fd] = _Watched(told["number"], fd)
            self._poll.register(fd, select.EPOLLRDHUP)
        if "pours" in told:
            self._pouring.add(told["pours"])
        return told

    def _obey(self) -> bool:
        data = os.read(0, 4096)
        self._orders += data
        *lines, self._orders = self._orders.split(b"\n")
        for line in lines:
            if line == b"forget":
                self._forget()
            print(json.dumps([self._told(each) for each in (*self._left, *self._watched.values())]), flush=True)
        return bool(data)

    def _forget(self) -> None:
        self._channel.send(b"forget")
        while self._hear():  # what it says of those before comes before its answer, which is empty
            pass
        for fd in self._watched:
            os.close(fd)
        self._watched.clear()
        self._left.clear()
        self._pouring.clear()

    def _told(self, watched: _Watched) -> dict[str, object]:
        return {"number": watched.number, "gone": watched.gone, "pours": watched.number in self._pouring}


def main() -> None:
    """Be both."""
    channel, server_channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        server_channel.close()
        _Watcher(channel).run()
        return
    channel.close()
    os.close(0)
    os.nice(int(sys.argv[3]))
    _Server(sys.argv[1], int(sys.argv[2]), server_channel).run()


if __name__ == "__main__":
    main()
