"""Proxies for tests: HTTP with CONNECT, SOCKS4a and SOCKS5; they relay, refuse, lie or keep silent as told."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Mapping
from typing import Any

from transport_kit import Peer, read_head, sees_the_end

__all__ = ["HttpProxy", "SocksProxy", "relay"]


def relay(client: socket.socket, server: socket.socket) -> None:
    """Move bytes both ways until one side ends."""
    ends = {client: server, server: client}
    poller = select.poll()
    numbers = {one.fileno(): one for one in ends}
    for one in ends:
        poller.register(one, select.POLLIN)
    while True:
        decrypted = isinstance(client, ssl.SSLSocket) and client.pending()
        for number in [client.fileno()] if decrypted else [number for number, _ in poller.poll()]:
            source = numbers[number]
            data = source.recv(65536)
            if not data:
                return
            ends[source].sendall(data)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise ConnectionError
        data += piece
    return data


class _Proxy(Peer):
    """`hosts` says where names lead; what they lead to at another port is found by `ports`."""

    def __init__(self, silent: str = "", hosts: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(self.serve, **options)
        self.asked: list[tuple[str, int]] = []
        self.reached = threading.Event()
        self.left = threading.Event()
        self.silent = silent
        self._hosts = hosts or {}

    def serve(self, sock: socket.socket) -> None:
        try:
            self.shake(sock)
        finally:
            self.left.set()

    def shake(self, sock: socket.socket) -> None:
        raise NotImplementedError

    def stop_at(self, phase: str, sock: socket.socket) -> None:
        """Say nothing more from `phase` on, where that was told."""
        if self.silent == phase:
            self.reached.set()
            sees_the_end(sock)
            raise ConnectionError("the client has left")

    def reach(self, host: str, port: int) -> socket.socket:
        self.asked.append((host, port))
        return socket.create_connection((self._hosts.get(host, host), port), 10)


class HttpProxy(_Proxy):
    """Tunnels by CONNECT. `answers` are sent instead, one for each connection; `login` is what it wants."""

    def __init__(self, *, login: str = "", answers: tuple[bytes, ...] = (), **options: Any) -> None:
        super().__init__(**options)
        self.heads: list[bytes] = []
        self._login = login
        self._answers = list(answers)

    def shake(self, sock: socket.socket) -> None:
        head = read_head(sock)
        self.heads.append(head)
        self.stop_at("connect", sock)
        if self._answers:
            sock.sendall(self._answers.pop(0))
            sees_the_end(sock)
            return
        wanted = b"Proxy-Authorization: Basic " + base64.b64encode(self._login.encode())
        if self._login and wanted not in head:
            sock.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        with self.reach(host.strip("[]"), int(port)) as server:
            sock.sendall(b"HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n")
            relay(sock, server)


class SocksProxy(_Proxy):
    """Both versions. `reply` is the code of its answer, `bound` the address and port that it claims to use."""

    def __init__(
        self,
        *,
        login: str = "",
        reply: int | tuple[int, ...] = 0,
        bound: bytes = b"\x01\x00\x00\x00\x00\x00\x00",
        says: bytes = b"",
        pieces: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._login = login
        self._replies = [reply] if isinstance(reply, int) else list(reply)
        self._bound = bound
        self._says = says
        self._pieces = pieces
        self.kinds: list[str] = []
        """How the target was named: IPv4, IPv6 or name."""

    def shake(self, sock: socket.socket) -> None:
        self.stop_at("greeting", sock)
        version = _exactly(sock, 1)
        if self._says:
            sock.sendall(self._says)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
            sees_the_end(sock)
            return
        host, port = self._five(sock) if version == b"\x05" else self._four(sock)
        self.stop_at("reply", sock)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if reply:
            self.asked.append((host, port))
            self._tell(sock, self._answer(version, reply))
            sees_the_end(sock)
            return
        with self.reach(host, port) as server:
            self._tell(sock, self._answer(version, 0))
            relay(sock, server)

    def _tell(self, sock: socket.socket, data: bytes) -> None:
        for at in range(0, len(data), 1 if self._pieces else len(data)):
            sock.sendall(data[at : at + 1] if self._pieces else data)

    def _answer(self, version: bytes, reply: int) -> bytes:
        if version == b"\x05":
            return bytes((5, reply, 0)) + self._bound
        return bytes((0, reply or 0x5A)) + self._bound[-6:]

    def _five(self, sock: socket.socket) -> tuple[str, int]:
        offered = _exactly(sock, _exactly(sock, 1)[0])
        self.stop_at("method", sock)
        method = 2 if self._login else 0
        if method not in offered:
            self._tell(sock, b"\x05\xff")
            sees_the_end(sock)
            raise ConnectionError
        self._tell(sock, bytes((5, method)))
        if self._login:
            _exactly(sock, 1)
            user = _exactly(sock, _exactly(sock, 1)[0])
            password = _exactly(sock, _exactly(sock, 1)[0])
            self.stop_at("login", sock)
            right = user + b":" + password == self._login.encode()
            self._tell(sock, b"\x01\x00" if right else b"\x01\x01")
            if not right:
                sees_the_end(sock)
                raise ConnectionError
        kind = _exactly(sock, 4)[3]
        self.kinds.append({1: "IPv4", 3: "name", 4: "IPv6"}[kind])
        if kind == 3:
            host = _exactly(sock, _exactly(sock, 1)[0]).decode()
        elif kind == 1:
            host = socket.inet_ntop(socket.AF_INET, _exactly(sock, 4))
        else:
            host = socket.inet_ntop(socket.AF_INET6, _exactly(sock, 16))
        return host, struct.unpack(">H", _exactly(sock, 2))[0]

    def _four(self, sock: socket.socket) -> tuple[str, int]:
        _command, port, address = struct.unpack(">BH4s", _exactly(sock, 7))
        while _exactly(sock, 1) != b"\x00":
            pass
        if address[:3] != bytes(3):
            self.kinds.append("IPv4")
            return socket.inet_ntoa(address), port
        self.kinds.append("name")
        name = b""
        while (letter := _exactly(sock, 1)) != b"\x00":
            name += letter
        return name.decode(), port
