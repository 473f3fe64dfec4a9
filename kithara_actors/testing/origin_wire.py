"""How the test origin talks on one connection, and what it writes down about it.

Every wait here is a poll that also watches the peer and the origin's stop signal, so neither a departed
client nor a closing origin goes unnoticed.
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from kithara_actors.testing.faults import Answer, Ending, Fault, Request, parse_request, plan
from kithara_actors.testing.origin_body import VIEW, Resource

__all__ = ["Connection", "Gone", "Log", "Seen", "Stopped", "Wire"]

_HEADER_LIMIT: Final = 64 * 1024
_PIECE_SECONDS: Final = 0.02
_GONE: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as the origin saw it, and how far its answer had come when this snapshot was taken."""

    method: str
    target: str
    """The request target as it came: percent-encoding and query string included."""
    path: str
    """`target` without the query string."""
    headers: dict[str, str]
    """By lower-case name; repeated ones joined with a comma. Not to be changed."""
    range: tuple[int, int | None] | None
    """(first, last or None); (-n, None) for the last n bytes; None for no single valid byte range."""
    connection: int
    """Which connection it came on: 1 for the first the origin accepted."""
    status: int | None = None
    """Known once the answer begins; None for a raw one."""
    sent: int = 0
    """Body bytes (after compression, before chunking) handed to the kernel, which buffers some."""
    ended: bool = False
    """The last byte was handed over, or the connection is gone."""
    client_closed: bool = False
    """The peer closed, half-closed or reset the connection before the answer was complete."""


class Gone(Exception):
    """The peer closed the connection."""


class Stopped(Exception):
    """The origin is closing."""


class Log:
    """What was asked, in order of arrival, and how many requests are being answered."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.seen: list[Seen] = []
        self.active = 0
        self.peak = 0
        self._unsent: set[int] = set()

    def begin(self, request: Request, connection: int) -> int:
        with self.changed:
            self.seen.append(
                Seen(request.method, request.target, request.path, request.headers, request.range, connection)
            )
            number = len(self.seen) - 1
            self.active += 1
            self._unsent.add(number)
            self.peak = max(self.peak, len(self._unsent))
            self.changed.notify_all()
            return number

    def last_piece(self, number: int) -> None:
        """What is sent now is the end of the answer: before that is noted, its client may have asked for more."""
        with self.changed:
            self._unsent.discard(number)

    def note(self, number: int, **changes: Any) -> None:
        with self.changed:
            self.seen[number] = replace(self.seen[number], **changes)
            self.changed.notify_all()

    def end(self, number: int, *, client_closed: bool) -> None:
        with self.changed:
            self.active -= 1
            self._unsent.discard(number)
            self.note(number, ended=True, client_closed=client_closed)


class Wire:
    """A non-blocking socket with waits that end when the origin stops."""

    def __init__(self, sock: socket.socket, stop: int) -> None:
        self._sock = sock
        self._stop = stop
        self._poll = select.poll()
        self._poll.register(stop, select.POLLIN)
        self._poll.register(sock, 0)

    def wait(self, events: int, seconds: float | None = None) -> int:
        """What happened on the socket, 0 after `seconds`. Raises Stopped."""
        self._poll.modify(self._sock, events)
        ready = dict(self._poll.poll(None if seconds is None else max(0.0, seconds * 1000)))
        if self._stop in ready:
            raise Stopped
        return ready.get(self._sock.fileno(), 0)

    def pause(self, seconds: float | None) -> None:
        """Let time pass, without end for None. Raises Gone and Stopped as soon as they are so."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if end is None else end - time.monotonic()
            if self.wait(select.POLLRDHUP, left) & _GONE:
                raise Gone
            if left is not None and left <= 0:
                return

    def send(self, data: memoryview) -> int:
        """Hand over at least one byte of `data`. Raises Gone and Stopped."""
        while True:
            try:
                return self._sock.send(data)
            except BlockingIOError:
                if self.wait(select.POLLOUT | select.POLLRDHUP) & _GONE:
                    raise Gone from None
            except OSError:
                raise Gone from None

    def send_all(self, data: bytes | memoryview) -> None:
        """Hand over all of `data`. Raises Gone and Stopped."""
        view = memoryview(data)
        while view:
            view = view[self.send(view) :]

    def receive(self) -> bytes:
        """Some bytes, b"" at the end of the connection. Raises Stopped."""
        while True:
            self.wait(select.POLLIN)
            try:
                return self._sock.recv(_HEADER_LIMIT)
            except BlockingIOError:
                continue
            except OSError:
                return b""

    def arrived(self, seconds: float) -> None:
        """Wait until the peer's kernel has all that was sent, or for `seconds`. Raises Gone and Stopped."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            (queued,) = struct.unpack("i", fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(4)))
            if not queued:
                return
            self.pause(0.002)


class Connection:
    """Serves the requests of one connection, in its own thread."""

    def __init__(
        self,
        sock: socket.socket,
        stop: int,
        log: Log,
        admit: Callable[[Request], tuple[int, Resource | None, Fault | None]],
    ) -> None:
        self._sock = sock
        self._wire = Wire(sock, stop)
        self._log = log
        self._admit = admit
        self._pending = b""
        self._reset = False

    def run(self) -> None:
        with self._sock:
            try:
                while self._serve():
                    pass
            except (Gone, Stopped):
                pass
            self._hang_up()

    def _hang_up(self) -> None:
        # The end is said aloud: a bare close() says nothing while a forked child holds a copy of the socket.
        # And unread bytes would turn the close into a reset, which can overtake the end of the answer.
        with contextlib.suppress(OSError):
            if not self._reset:
                self._sock.shutdown(socket.SHUT_WR)
            while self._sock.recv(_HEADER_LIMIT):
                pass

    def _header(self) -> bytes | None:
        """The next request header; None at the end of the connection."""
        while b"\r\n\r\n" not in self._pending:
            received = self._wire.receive()
            if not received or len(self._pending) > _HEADER_LIMIT:
                return None
            self._pending += received
        head, _, self._pending = self._pending.partition(b"\r\n\r\n")
        return head

    def _serve(self) -> bool:
        """Answer one request; whether another may follow."""
        head = self._header()
        if head is None:
            return False
        try:
            request = parse_request(head)
        except ValueError:
            self._wire.send_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return False
        number, resource, fault = self._admit(request)
        gone = False
        try:
            return self._answer(number, plan(request, resource, fault))
        except Gone:
            gone = True
            raise
        finally:
            self._log.end(number, client_closed=gone)

    def _answer(self, number: int, answer: Answer) -> bool:
        if answer.hold_after is None:
            self._held(answer)
        if answer.silent:
            self._wire.pause(None)
        if answer.delay:
            self._wire.pause(answer.delay)
        self._log.note(number, status=answer.status)
        ends = answer.ending is not Ending.STALL
        if ends and not answer.count and not answer.tail:
            self._log.last_piece(number)
        self._wire.send_all(answer.head)
        self._send_body(number, answer, ends=ends and not answer.tail)
        if ends and answer.tail:
            self._log.last_piece(number)
        self._wire.send_all(answer.tail)
        if answer.ending is Ending.STALL:
            self._wire.pause(None)
        if answer.ending is Ending.RESET:
            self._wire.arrived(1.0)
            self._reset = True
            # Lingering for no time at all makes close() a reset.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return answer.ending is Ending.KEEP

    def _held(self, answer: Answer) -> None:
        if answer.hold is not None:
            # An event cannot be polled together with a socket: a look at each in turn.
            while not answer.hold.wait(0.01):
                self._wire.pause(0)

    def _send_body(self, number: int, answer: Answer, *, ends: bool) -> None:
        sent = 0
        for piece in self._paced(answer):
            if answer.chunked:
                self._wire.send_all(b"%x\r\n" % len(piece))
            rest = piece
            if ends and sent + len(piece) == answer.count:
                self._log.last_piece(number)
            while rest:
                count = self._wire.send(rest)
                sent += count
                self._log.note(number, sent=sent)
                rest = rest[count:]
            if answer.chunked:
                self._wire.send_all(b"\r\n")

    def _paced(self, answer: Answer) -> Iterator[memoryview]:
        """The body in pieces, each at the time its last byte would be through at the rate."""
        position, end, rate = answer.first, answer.first + answer.count, answer.rate
        gate = end if answer.hold_after is None else min(end, position + answer.hold_after)
        step = VIEW if rate is None else max(1, int(rate * _PIECE_SECONDS))
        due = time.monotonic()
        while position < end:
            if position == gate:
                self._held(answer)
                gate = end
            piece = answer.view(position, min(gate, position + step))
            if rate is None:
                # A reader fast enough would never let the origin wait, and so never stop.
                self._wire.pause(0)
            else:
                # A reader that fell behind gets no burst to catch up with: the rate stays a maximum.
                due = max(due, time.monotonic() - 2 * _PIECE_SECONDS) + len(piece) / rate
                self._wire.pause(due - time.monotonic())
            yield piece
            position += len(piece)
