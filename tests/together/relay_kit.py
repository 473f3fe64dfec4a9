"""A network that can be cut: hands every connection on to a server, until it is told not to."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

__all__ = ["Relay"]

_JOIN_SECONDS = 10.0


class Relay:
    """Between clients and the server at `target`; its own address stays, whether it is cut or not."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        # Bound and never listening: the port stays ours while the network is down.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self._port = int(self._place.getsockname()[1])
        self._closed = False

    def __enter__(self) -> Self:
        self.mend()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self.cut()
        self._place.close()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
        assert not any(thread.is_alive() for thread in self._threads), "the relay does not end"

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def mend(self) -> None:
        """Listen; nothing if it is being closed."""
        listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        with self._lock:
            if self._closed:
                listener.close()
                return
            self._open.append(listener)
            self._run(self._accept, listener)

    def cut(self) -> None:
        """End every connection and refuse new ones."""
        with self._lock:
            ends, self._open = self._open, []
            for end in ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _run(self, work: object, *sockets: socket.socket) -> None:
        thread = threading.Thread(target=work, args=sockets, name="relay")  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with listener, contextlib.suppress(OSError):
            while True:
                client = listener.accept()[0]
                server = socket.create_connection(self._target)
                with self._lock:
                    if listener not in self._open:
                        client.close()
                        server.close()
                        return
                    self._open += [client, server]
                    done = threading.Barrier(2)
                    for one, other in ((client, server), (server, client)):
                        self._run(lambda one, other, done=done: self._carry(one, other, done), one, other)

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket, done: threading.Barrier) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        # Closed when neither direction uses it any more.
        if done.wait(_JOIN_SECONDS) == 0:
            source.close()
            sink.close()
