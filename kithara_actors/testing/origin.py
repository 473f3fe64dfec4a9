"""A loopback HTTP/1.1 origin for tests, the demo and benchmarks: honest by default, misbehaving on request.

One thread accepts, one thread serves each connection.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from kithara_actors.testing.faults import Fault, Request
from kithara_actors.testing.origin_body import Resource, body
from kithara_actors.testing.origin_wire import Connection, Log, Seen, Stopped, Wire

__all__ = ["Fault", "Origin", "Resource", "Seen", "body"]

_CLOSE_DEADLINE: Final = 10.0
_SAFE: Final = "/%?:@!$&'()*+,;=~[]"


class _Site:
    """A resource under its path, and how much of its script is spent."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.used = 0

    def next_fault(self) -> Fault | None:
        if self.used < len(self.resource.script):
            self.used += 1
            return self.resource.script[self.used - 1]
        return self.resource.always


class Origin:
    """An HTTP/1.1 server on a loopback port of its own choice, for use in a with statement.

    It serves GET and HEAD of the resources added to it and records what it was asked. All methods may be
    called from any thread. An answer can reach the client before the record of it is complete: use `wait_for`
    to look at `Seen.sent` and what follows it.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self._log = Log()
        self._sites: dict[tuple[str, str], _Site] = {}
        self._listener: socket.socket | None = None
        self._base: str | None = None
        self._stop = -1
        self._closed = False
        self._acceptor: threading.Thread | None = None
        # Touched by the accepting thread, and by close() after that has ended.
        self._threads: list[threading.Thread] = []
        self._silent: list[socket.socket] = []

    def __enter__(self) -> Self:
        """Start, unless started."""
        if self._acceptor is None:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def start(self) -> Self:
        """Bind a free port and begin to accept. RuntimeError the second time, OSError without a port."""
        if self._acceptor is not None or self._closed:
            raise RuntimeError("an origin starts once")
        self._listener = self._bind(backlog=1024)
        self._base = _base(self._listener)
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._acceptor = threading.Thread(
            target=self._accept, args=(self._listener, self._stop), name="origin-accept", daemon=True
        )
        self._acceptor.start()
        return self

    def close(self) -> None:
        """End every connection and wait (up to 10 s, usually milliseconds) for every thread. Idempotent.

        Raises RuntimeError if a thread is still there after that.
        """
        with self._log.changed:
            if self._closed:
                return
            self._closed = True
            silent, self._silent = self._silent, []
        for sock in silent:
            sock.close()
        if self._acceptor is None or self._listener is None:
            return
        end = time.monotonic() + _CLOSE_DEADLINE
        # Never read again, so it stays readable for every thread that polls it.
        os.eventfd_write(self._stop, 1)
        self._acceptor.join(_CLOSE_DEADLINE)
        self._listener.close()
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        left = [thread.name for thread in (self._acceptor, *self._threads) if thread.is_alive()]
        if left:
            # The stop signal stays open for them: its number must not become another file's.
            raise RuntimeError(f"the origin's threads did not end: {', '.join(left)}")
        os.close(self._stop)

    def add(self, path: str, resource: Resource) -> str:
        """Serve `resource` under `path` and return its URL.

        A path with a query string is found only with that; one without is found with any. Percent-encoding
        may be left to the origin, and a request may encode differently. Raises ValueError if the path is
        taken.
        """
        with self._log.changed:
            if _key(path) in self._sites:
                raise ValueError(f"the origin has this path already: {path}")
            self._sites[_key(path)] = _Site(resource)
        return self.url(path)

    def replace(self, path: str, resource: Resource) -> None:
        """Serve a changed entity, with its own script, from the next request on. KeyError for a new path."""
        with self._log.changed:
            if _key(path) not in self._sites:
                raise KeyError(path)
            self._sites[_key(path)] = _Site(resource)

    def url(self, path: str) -> str:
        """The URL of a path, served or not. RuntimeError before `start`, ValueError without the slash."""
        if not path.startswith("/"):
            raise ValueError(f"a path begins with a slash: {path!r}")
        return self.base + quote(path, safe=_SAFE)

    @property
    def base(self) -> str:
        """Scheme, host and port, also after `close`. Raises RuntimeError before `start`."""
        if self._base is None:
            raise RuntimeError("the origin has not been started")
        return self._base

    @property
    def requests(self) -> list[Seen]:
        """What was asked so far, in order of arrival."""
        with self._log.changed:
            return list(self._log.seen)

    @property
    def active(self) -> int:
        """Requests in progress: from the parsed header to the last byte handed over or the peer gone."""
        with self._log.changed:
            return self._log.active

    @property
    def peak(self) -> int:
        """The most requests that were in progress at once, not counting those whose last piece was being sent."""
        with self._log.changed:
            return self._log.peak

    def wait_for(self, predicate: Callable[[list[Seen]], bool], timeout: float = 10.0) -> bool:
        """Block until `predicate` holds for the requests so far, at most `timeout` seconds; whether it does.

        It is called on every change with the origin's lock held, so it may read the origin but not block.
        """
        with self._log.changed:
            return self._log.changed.wait_for(lambda: predicate(list(self._log.seen)), timeout)

    def silent_address(self) -> str:
        """The URL of a listener that accepts nothing and has its backlog full: a connect to it hangs.

        Takes a moment to fill the backlog; cleaned up by `close`. Raises RuntimeError if the backlog does not
        fill or the origin is closed.
        """
        listener = self._bind(backlog=0)
        sockets = [listener]
        try:
            for _ in range(16):
                filler = socket.socket(listener.family)
                sockets.append(filler)
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
                poll = select.poll()
                poll.register(filler, select.POLLOUT)
                if not poll.poll(200):
                    # This one hangs, and so will all that follow while it and its like stay open.
                    with self._log.changed:
                        if self._closed:
                            break
                        self._silent += sockets
                        sockets = []
                    return _base(listener) + "/"
            raise RuntimeError("the origin is closed, or the backlog of its silent listener does not fill")
        finally:
            for sock in sockets:
                sock.close()

    def _bind(self, backlog: int) -> socket.socket:
        listener = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
        try:
            listener.bind((self._host, 0))
            listener.listen(backlog)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        return listener

    def _accept(self, listener: socket.socket, stop: int) -> None:
        wire = Wire(listener, stop)
        try:
            for number in itertools.count(1):
                sock = self._accept_one(listener, wire)
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                thread = threading.Thread(
                    target=self._serve, args=(sock, stop, number), name=f"origin-{number}", daemon=True
                )
                self._threads.append(thread)
                thread.start()
        except Stopped:
            return

    @staticmethod
    def _accept_one(listener: socket.socket, wire: Wire) -> socket.socket:
        while True:
            wire.wait(select.POLLIN)
            try:
                return listener.accept()[0]
            except BlockingIOError:
                continue
            except OSError:
                # The client gave up already, or there is no descriptor left: then one may come free.
                wire.wait(0, 0.05)

    def _serve(self, sock: socket.socket, stop: int, connection: int) -> None:
        def admit(request: Request) -> tuple[int, Resource | None, Fault | None]:
            # One step, so that the order of the log is the order of the scripts.
            with self._log.changed:
                site = self._site(request.target)
                number = self._log.begin(request, connection)
                if site is None or request.method not in ("GET", "HEAD"):
                    return number, None, None
                return number, site.resource, site.next_fault()

        Connection(sock, stop, self._log, admit).run()

    def _site(self, target: str) -> _Site | None:
        path, query = _key(target)
        return self._sites.get((path, query)) or self._sites.get((path, ""))


def _base(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _key(target: str) -> tuple[str, str]:
    """The path in one spelling, an encoded slash staying one, and the query string as `url` writes it."""
    path, _, query = target.partition("?")
    spelt = "/".join(quote_from_bytes(unquote_to_bytes(segment), safe="") for segment in path.split("/"))
    return spelt, quote(query, safe=_SAFE)
