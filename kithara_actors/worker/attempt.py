"""One HTTP attempt as something that another thread can cut, from the name lookup to the last byte."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from actors.clock import monotonic
from kithara_actors.errors import Cancelled, ConnectError, KitharaError, PolicyError, ProtocolError

if TYPE_CHECKING:
    from kithara_actors.worker.connections import PlainConnection
    from kithara_actors.worker.pace import Pace

__all__ = ["Attempt", "Dialer"]

_UNRESOLVABLE = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})

_SHARED_FOR = 1.0
"""Seconds for which others join a lookup: threads that nobody can end do not pile up behind one name, and a question
that went into a dead network is asked again when that is back."""

_Address = tuple[Any, ...]


class Attempt:
    """The switch that cuts one HTTP attempt.

    `cancel` may come from any thread at any moment and does not block; everything else belongs to the
    attempt's own thread. The switch holds a duplicate of the socket's descriptor: whatever closes the
    original (urllib3, or ssl after a failed handshake), its number cannot be shut down after it went to
    someone else. And because the duplicate is a plain socket, shutting it down leaves the TLS state of the
    original to its owner.
    """

    __slots__ = (
        "_cancelled",
        "_handle",
        "_lock",
        "_source",
        "_wake",
        "ahead",
        "asked",
        "began",
        "deadline",
        "fresh",
        "pace",
        "plain",
        "refused",
        "target",
        "via",
        "where",
    )

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._handle: socket.socket | None = None
        self._wake: threading.Event | None = None
        self._source: socket.socket | None = None
        self.where = ""
        """Host and port, for error texts."""
        self.via = ""
        """Host and port of the proxy, for error texts; empty without one."""
        self.target = ""
        """The request target, byte for byte."""
        self.fresh = False
        """The connection was opened by this attempt."""
        self.refused: tuple[int, float] | None = None
        """Status of an answer that is not accepted, or not yet, and the seconds that it took."""
        self.plain = False
        """The connection carries the body as it is: no TLS."""
        self.deadline = 0.0
        """When a connection must stand, proxies passed; on the monotonic clock, 0 if that is not said."""
        self.asked = False
        """The request is sent: what is waited for now is the answer."""
        self.ahead: PlainConnection | None = None
        """The connection on which the request is on its way already."""
        self.began: float | None = None
        """When that began; None: not before the attempt itself."""
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
        self.take(socket.socket(fileno=os.dup(fd)))

    def unbind(self) -> None:
        """Take the socket out of reach: it is about to be closed. Idempotent."""
        handle = self.release()
        if handle is not None:
            handle.close()

    def release(self) -> socket.socket | None:
        """Take the socket out of reach and give the handle away, for `take`: it is about to serve another attempt."""
        with self._lock:
            handle, self._handle = self._handle, None
        self._source = None
        return handle

    def take(self, handle: socket.socket) -> None:
        """As `bind`, by a handle that another attempt has released."""
        with self._lock:
            before, self._handle = self._handle, handle
        if before is not None:
            before.close()
        self.check()

    def drop(self) -> None:
        """Close the connection on which the request is on its way, if nobody has taken it."""
        ahead, self.ahead = self.ahead, None
        if ahead is not None:
            ahead.close()

    def wake_by(self, event: threading.Event | None) -> None:
        """Have `cancel` set `event` (None: nothing); raises `Cancelled` if it came before."""
        with self._lock:
            self._wake = event
        self.check()

    def answered_by(self, source: Any) -> None:
        """Note the socket that the response will come from: the request is sent."""
        self._source = source
        self.asked = True
        self.plain = isinstance(source, socket.socket) and not isinstance(source, ssl.SSLSocket)

    @property
    def records(self) -> ssl.SSLSocket | None:
        """The socket that the response comes from, if that is TLS over TCP."""
        return self._source if isinstance(self._source, ssl.SSLSocket) else None

    def time_to_connect(self) -> float:
        """Seconds left until `deadline`; raises TimeoutError when there are none, Cancelled after a cancel."""
        self.check()
        left = self.deadline - monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        return left

    def fileno(self) -> int:
        """The duplicate of the connection's descriptor; -1 if the attempt has no connection."""
        handle = self._handle
        return -1 if handle is None else handle.fileno()

    def limit_reads(self, seconds: float) -> None:
        """Bound every single read of the body from now on."""
        if self._source is not None:
            self._source.settimeout(seconds)


class _Lookup:
    """A name that is being looked up, and who waits for the answer."""

    __slots__ = ("answer", "began", "waiting")

    def __init__(self, began: float) -> None:
        self.began = began
        self.answer: list[_Address] | OSError | None = None
        self.waiting: set[threading.Event] = set()


class Dialer:
    """Opens TCP connections that an `Attempt` can interrupt. Safe from any thread.

    `refusal` says of an address why nothing may connect to it, or None. `receive_buffer` is what the system may
    buffer of a connection, in bytes; None leaves that to it. `what` stands before hosts in error texts.
    """

    def __init__(
        self,
        connect_timeout: float,
        refusal: Callable[[str], str | None] | None = None,
        receive_buffer: int | None = None,
        what: str = "",
    ) -> None:
        self._timeout = connect_timeout
        # Before the connect: the window that the handshake offers follows from it.
        self._own_options = () if receive_buffer is None else ((socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer),)
        self._refusal = refusal
        self._what = what
        self._lock = threading.Lock()
        self._lookups: dict[tuple[str, int], _Lookup] = {}
        self.abandoned = 0
        """Lookups, cancelled or late, whose thread was left behind: getaddrinfo cannot be interrupted."""

    def dial(self, attempt: Attempt, host: str, port: int, options: Iterable[tuple[Any, ...]]) -> socket.socket:
        """A connected socket with the rest of the connect time-out set on it, bound to `attempt`.

        `attempt.deadline` ends that time where it is set, else it begins now. Tries every address of `host` in
        turn; each gets an equal share of the time that is left, so that one silent address does not use up all
        of it. Raises ConnectError (a proxy with a bad name too), ProtocolError (not a host name), PolicyError (an
        address that is refused: then none is tried), Cancelled.
        """
        deadline = self._deadline(attempt)
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
            raise ConnectError(f"no connection to {self._what}{host}:{port} within {self._timeout:g} s")
        reason = "no address" if problem is None else problem.strerror
        raise ConnectError(f"cannot connect to {self._what}{host}:{port}: {reason}")

    def permit(self, attempt: Attempt, host: str, port: int) -> None:
        """Look `host` up, only to raise what `dial` would raise without connecting: somebody else will connect.

        An IPv4 address is refused in any form but four decimal numbers: `010.0.0.1` is 8.0.0.1 here and 10.0.0.1
        elsewhere.
        """
        if self._refusal is None:
            return
        addresses = self._permitted(attempt, host, port, monotonic() + self._timeout)
        if _is_odd_spelling(host):
            raise PolicyError(f"public_only refuses {host}:{port} through a proxy: write it as {addresses[0][4][0]}")

    @property
    def refuses(self) -> bool:
        """There are addresses that nothing may connect to."""
        return self._refusal is not None

    def look_up(self, attempt: Attempt, host: str, port: int) -> list[tuple[int, str]]:
        """Address family and address of all that `host` has; takes time and raises as `dial` does."""
        found = self._permitted(attempt, host, port, self._deadline(attempt))
        return [(family, str(address[0])) for family, _, _, _, address in found]

    def _deadline(self, attempt: Attempt) -> float:
        attempt.deadline = attempt.deadline or monotonic() + self._timeout
        return attempt.deadline

    def _permitted(self, attempt: Attempt, host: str, port: int, deadline: float) -> list[_Address]:
        addresses = self._resolve(attempt, host, port, deadline)
        for *_, address in addresses:
            why = None if self._refusal is None else self._refusal(str(address[0]))
            if why is not None:
                raise PolicyError(f"public_only refuses {host}:{port}: {address[0]} is {why}")
        # What was looked at is what is connected to: a second lookup could say something else.
        return addresses

    def _resolve(self, attempt: Attempt, host: str, port: int, deadline: float) -> list[_Address]:
        try:
            return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
        except socket.gaierror:
            pass
        except UnicodeError:  # a label that is empty or too long
            if self._what:
                raise ConnectError(f"{self._what}{host} cannot be used: not a host name", retryable=False) from None
            raise ProtocolError(f"not a host name: {host}") from None
        done = threading.Event()
        attempt.wake_by(done)
        try:
            lookup = self._join(host, port, done)
            done.wait(max(deadline - monotonic(), 0.0))
            with self._lock:
                lookup.waiting.discard(done)
                found = lookup.answer
                if found is None and not lookup.waiting:
                    self.abandoned += 1
        finally:
            with contextlib.suppress(Cancelled):
                attempt.wake_by(None)
        attempt.check()
        what = self._what or "host "
        if found is None:
            raise ConnectError(f"{what}{host} was not resolved within {self._timeout:g} s")
        if isinstance(found, OSError):
            if isinstance(found, socket.gaierror) and found.errno in _UNRESOLVABLE:
                raise ConnectError(f"cannot resolve {what}{host}", retryable=False)
            raise ConnectError(f"cannot resolve {what}{host}: {found.strerror}")
        return found

    def _join(self, host: str, port: int, done: threading.Event) -> _Lookup:
        """Have `done` set by a lookup of `host`: one that has just begun, or a new one."""
        now = monotonic()
        with self._lock:
            lookup = self._lookups.get((host, port))
            if lookup is None or now - lookup.began > _SHARED_FOR:
                lookup = self._lookups[host, port] = _Lookup(now)
                thread = threading.Thread(
                    target=self._look_up, args=(lookup, host, port), name="kithara-lookup", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:
                    del self._lookups[host, port]
                    raise ConnectError(f"no thread to look up {host} with: {error}") from None
            lookup.waiting.add(done)
        return lookup

    def _look_up(self, lookup: _Lookup, host: str, port: int) -> None:
        answer: list[_Address] | OSError = socket.gaierror(socket.EAI_NONAME, "not a host name")
        try:
            answer = list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            answer = error
        except ValueError:
            pass  # a label, or a character, that no name has
        finally:
            with self._lock:
                lookup.answer = answer
                if self._lookups.get((host, port)) is lookup:
                    del self._lookups[host, port]
                for done in lookup.waiting:
                    done.set()


def _is_odd_spelling(host: str) -> bool:
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


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
