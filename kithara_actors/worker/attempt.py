"""One HTTP attempt as something that another thread can cut, from the name lookup to the last byte."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from actors.clock import monotonic
from kithara_actors.errors import Cancelled, ConnectError, KitharaError, PolicyError, ProtocolError

if TYPE_CHECKING:
    from kithara_actors.worker.pace import Pace

__all__ = ["Attempt", "Dialer"]

_UNRESOLVABLE = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})

_Address = tuple[Any, ...]


class Attempt:
    """The switch that cuts one HTTP attempt.

    `cancel` may come from any thread at any moment and does not block; everything else belongs to the
    attempt's own thread. The switch holds a duplicate of the socket's descriptor: whatever closes the
    original (urllib3, or ssl after a failed handshake), its number cannot be shut down after it went to
    someone else. And because the duplicate is a plain socket, shutting it down leaves the TLS state of the
    original to its owner.
    """

    __slots__ = ("_cancelled", "_handle", "_lock", "_source", "_wake", "fresh", "pace", "plain", "target", "where")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._handle: socket.socket | None = None
        self._wake: threading.Event | None = None
        self._source: socket.socket | None = None
        self.where = ""
        """Host and port, for error texts."""
        self.target = ""
        """The request target, byte for byte."""
        self.fresh = False
        """The connection was opened by this attempt."""
        self.plain = False
        """The connection carries the body as it is: no TLS."""
        self.pace: Pace | None = None
        """Who has to be asked before bytes of a body are received; None if nobody."""

    def cancel(self) -> None:
        """End the attempt: its thread raises `Cancelled` from wherever it blocks. Idempotent."""
        with self._lock:
            self._cancelled = True
            if self._handle is not None:
                with contextlib.suppress(OSError):  # the peer was quicker
                    self._handle.shutdown(socket.SHUT_RDWR)
            if self._wake is not None:
                self._wake.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def check(self) -> None:
        """Raise `Cancelled` if the attempt was cancelled."""
        if self._cancelled:
            raise Cancelled("the transfer was cancelled")

    def bind(self, fd: int) -> None:
        """Let `cancel` reach the socket under `fd` from now on; raises `Cancelled` if it came before."""
        handle = socket.socket(fileno=os.dup(fd))
        with self._lock:
            before, self._handle = self._handle, handle
        if before is not None:
            before.close()
        self.check()

    def unbind(self) -> None:
        """Take the socket out of reach: it is about to be closed, or to serve another attempt. Idempotent."""
        with self._lock:
            handle, self._handle = self._handle, None
        self._source = None
        if handle is not None:
            handle.close()

    def wake_by(self, event: threading.Event | None) -> None:
        """Have `cancel` set `event` (None: nothing); raises `Cancelled` if it came before."""
        with self._lock:
            self._wake = event
        self.check()

    def answered_by(self, source: Any) -> None:
        """Note the socket that the response will come from."""
        self._source = source
        self.plain = type(source) is socket.socket

    def fileno(self) -> int:
        """The duplicate of the connection's descriptor; -1 if the attempt has no connection."""
        handle = self._handle
        return -1 if handle is None else handle.fileno()

    def limit_reads(self, seconds: float) -> None:
        """Bound every single read of the body from now on."""
        if self._source is not None:
            self._source.settimeout(seconds)


class Dialer:
    """Opens TCP connections that an `Attempt` can interrupt. Safe from any thread.

    `refusal` says of an address why nothing may connect to it, or None. `receive_buffer` is what the system may
    buffer of a connection, in bytes; None leaves that to it.
    """

    def __init__(
        self,
        connect_timeout: float,
        refusal: Callable[[str], str | None] | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        self._timeout = connect_timeout
        # Before the connect: the window that the handshake offers follows from it.
        self._own_options = () if receive_buffer is None else ((socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer),)
        self._refusal = refusal
        self._lock = threading.Lock()
        self.abandoned = 0
        """Lookups, cancelled or late, whose thread was left behind: getaddrinfo cannot be interrupted."""

    def dial(self, attempt: Attempt, host: str, port: int, options: Iterable[tuple[Any, ...]]) -> socket.socket:
        """A connected socket with the rest of the connect time-out set on it, bound to `attempt`.

        Tries every address of `host` in turn; each gets an equal share of the time that is left, so that one
        silent address does not use up all of it. Raises ConnectError, ProtocolError (not a host name),
        PolicyError (an address that is refused: then none is tried), Cancelled.
        """
        deadline = monotonic() + self._timeout
        options = (*options, *self._own_options)
        addresses = self._permitted(attempt, host, port, deadline)
        problem: OSError | None = None
        for index, (family, kind, protocol, _name, address) in enumerate(addresses):
            share = (deadline - monotonic()) / (len(addresses) - index)
            try:
                sock = _connect(attempt, (family, kind, protocol), address, options, share)
            except KitharaError:
                raise
            except OSError as error:
                problem = error
            else:
                # Zero would mean non-blocking; the TLS handshake fails at once either way.
                sock.settimeout(max(deadline - monotonic(), 0.001))
                return sock
        if isinstance(problem, TimeoutError):
            raise ConnectError(f"no connection to {host}:{port} within {self._timeout:g} s")
        reason = "no address" if problem is None else problem.strerror
        raise ConnectError(f"cannot connect to {host}:{port}: {reason}")

    def permit(self, attempt: Attempt, host: str, port: int) -> None:
        """Look `host` up, only to raise what `dial` would raise without connecting."""
        if self._refusal is not None:
            self._permitted(attempt, host, port, monotonic() + self._timeout)

    def _permitted(self, attempt: Attempt, host: str, port: int, deadline: float) -> list[_Address]:
        addresses = self._resolve(attempt, host, port, deadline)
        for *_, address in addresses:
            why = None if self._refusal is None else self._refusal(str(address[0]))
            if why is not None:
                raise PolicyError(f"public_only refuses {host}:{port}: {address[0]} is {why}")
        # What was looked at is what is connected to: a second lookup could say something else.
        return addresses

    def _resolve(self, attempt: Attempt, host: str, port: int, deadline: float) -> list[_Address]:
        kind = socket.SOCK_STREAM
        try:
            return list(socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST))
        except socket.gaierror:
            pass
        except UnicodeError:  # a label that is empty or too long
            raise ProtocolError(f"not a host name: {host}") from None
        done = threading.Event()
        answer: list[list[_Address] | OSError] = []

        def look_up() -> None:
            try:
                answer.append(list(socket.getaddrinfo(host, port, type=kind)))
            except OSError as error:
                answer.append(error)
            finally:
                done.set()

        attempt.wake_by(done)
        try:
            threading.Thread(target=look_up, name="kithara-lookup", daemon=True).start()
            done.wait(max(deadline - monotonic(), 0.0))
            if not answer:
                with self._lock:
                    self.abandoned += 1
        finally:
            with contextlib.suppress(Cancelled):
                attempt.wake_by(None)
        attempt.check()
        if not answer:
            raise ConnectError(f"host {host} was not resolved within {self._timeout:g} s")
        found = answer[0]
        if isinstance(found, OSError):
            if isinstance(found, socket.gaierror) and found.errno in _UNRESOLVABLE:
                raise ConnectError(f"cannot resolve host {host}", retryable=False)
            raise ConnectError(f"cannot resolve host {host}: {found.strerror}")
        return found


def _connect(
    attempt: Attempt,
    kind: tuple[int, int, int],
    address: Any,
    options: Iterable[tuple[Any, ...]],
    seconds: float,
) -> socket.socket:
    attempt.check()
    sock = socket.socket(*kind)
    try:
        for option in options:
            sock.setsockopt(*option)
        sock.setblocking(False)
        code = sock.connect_ex(address)
        # Bound only now: a shutdown before the connect began would be lost, one during SYN-SENT wakes the
        # poll.
        attempt.bind(sock.fileno())
        if code == errno.EINPROGRESS:
            poller = select.poll()
            poller.register(sock, select.POLLOUT)
            if not poller.poll(max(seconds, 0.0) * 1000):
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        attempt.check()
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        attempt.unbind()
        sock.close()
        raise
    return sock
