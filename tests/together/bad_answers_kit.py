"""A server that says anything, byte by byte and without end if need be, to whoever asks for a path."""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

__all__ = ["PAUSE", "Answer", "BadServer", "endless", "then"]

Answer = Callable[[], Iterable[bytes]]
"""The pieces of an answer; an empty one waits for a moment."""

PAUSE = 0.02
"""Seconds that an empty piece waits."""
_JOIN_SECONDS = 30.0


def then(*pieces: bytes | Iterable[bytes]) -> Answer:
    """An answer of all these pieces, one after the other."""

    def play() -> Iterable[bytes]:
        for piece in pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                yield from piece

    return play


class _Endless:
    def __init__(self, pieces: tuple[bytes, ...]) -> None:
        self._pieces = pieces

    def __iter__(self) -> itertools.cycle[bytes]:
        return itertools.cycle(self._pieces)


def endless(*pieces: bytes) -> Iterable[bytes]:
    """These pieces again and again, until the client has gone."""
    return _Endless(pieces)


_MISSING = then(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


class BadServer:
    """For use in a with statement. Each connection carries one answer and is closed behind it; `tls` encrypts."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[str] = []
        """Targets in the order of their requests."""
        self._tls = tls
        self._answers: dict[str, Answer] = {}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("", 0), backlog=128)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.base = f"{'https' if tls else 'http'}://{self.host}"

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
        self._listener.close()
        assert not any(thread.is_alive() for thread in self._threads), "the server does not end"

    def add(self, path: str, answer: Answer) -> str:
        """Answer so to whoever asks for `path`, with any query; returns the URL."""
        self._answers[path] = answer
        return self.base + path

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="bad-server")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._run(self._serve, self._listener.accept()[0])

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain:
            plain.settimeout(_JOIN_SECONDS)
            if self._tls is None:
                self._answer(plain)
            else:
                with self._tls.wrap_socket(plain, server_side=True) as secure:
                    self._answer(secure)

    def _answer(self, sock: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = sock.recv(65536)
            if not piece:
                return
            head += piece
        target = head.split(b" ", 2)[1].decode()
        self.asked.append(target)
        for piece in self._answers.get(target.partition("?")[0], _MISSING)():
            if self._stop.is_set():
                return
            if piece:
                sock.sendall(piece)
            elif self._gone(sock):
                return
        # The end is said before the socket goes: what the client has not read would make it a reset.
        sock.shutdown(socket.SHUT_WR)
        while not self._stop.is_set() and not self._gone(sock):
            pass

    @staticmethod
    def _gone(sock: socket.socket) -> bool:
        """Whether the client has closed, after a moment of waiting for it."""
        poll = select.poll()
        poll.register(sock, select.POLLRDHUP)
        return bool(poll.poll(PAUSE * 1000))
