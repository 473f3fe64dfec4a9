"""Small requests on connections that wait for one: sent and answered by the control thread, without a thread each.

A thread for a request costs more than the request, where that is small: it is woken, and takes the interpreter's
lock from the others, at each step. So what can be sent at once, on a kept connection, is; and an answer that is there
as a whole when its first byte is, is taken at once. Everything else (no such connection, TLS, a proxy, a redirect,
an error, a body that is still to come) goes on where it would have begun, on a thread.
"""

from __future__ import annotations

import functools
import re
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass

from actors.clock import monotonic
from kithara_actors.errors import Failure
from kithara_actors.logic.collecting import HEAD_LIMIT, asked_of, check_collected, collected_headers
from kithara_actors.logic.response import Accepted, Asked
from kithara_actors.messages.worker import AttemptEnded, AttemptHeaders, RunAttempt
from kithara_actors.worker.attempt import Attempt
from kithara_actors.worker.collecting import Basket, head_of
from kithara_actors.worker.connections import PlainConnection, PlainPool
from kithara_actors.worker.fetcher import FirstByte
from kithara_actors.worker.heads import usual_head
from kithara_actors.worker.http import Transport, translate
from kithara_actors.worker.targets import completed

__all__ = ["Exchanges"]

_ANSWER = 32 * 1024
"""Bytes of the largest answer that is taken at once, its head included: it is looked at in one piece."""
_LOOK = socket.MSG_PEEK | socket.MSG_DONTWAIT
_SEND = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t -~]*")
_OWN = frozenset({"host", "content-length", "transfer-encoding", "connection", "expect", "te", "upgrade"})
"""Fields that change what a request is; urllib3 knows what to do with them."""


@dataclass(slots=True)
class _Exchange:
    """A request that was sent; `fields` are its header fields."""

    order: RunAttempt
    attempt: Attempt
    data: int
    asked: Asked
    fields: dict[str, str]
    pool: PlainPool
    connection: PlainConnection
    handle: socket.socket
    began: float


class Exchanges:
    """What waits for its answer, by attempt. Belongs to the control thread; nothing here blocks."""

    def __init__(
        self,
        transport: Transport,
        ended: Callable[[int, AttemptEnded], None],
        resume: Callable[[int], None],
    ) -> None:
        """`ended` takes how an attempt has; `resume` one that has to go on, on a thread."""
        self._transport = transport
        self._ended = ended
        self._resume = resume
        self._epoll = select.epoll()
        self._waiting: dict[int, _Exchange] = {}
        self._by_fd: dict[int, int] = {}

    def fileno(self) -> int:
        """Readable when there is something for `look`."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Close the connections of what waits, and be readable no more."""
        for exchange in self._waiting.values():
            exchange.connection.close()
        self._waiting.clear()
        self._by_fd.clear()
        self._epoll.close()

    def begin(self, order: RunAttempt, attempt: Attempt, data: int) -> bool:
        """Send the request, whose answer goes into the descriptor `data`; False if a thread has to."""
        spec = order.spec
        if spec.collection is None:
            return False
        began = monotonic()
        taken = self._transport.kept(attempt, spec.url)
        if taken is None:
            return False
        pool, connection = taken
        asked, handle = asked_of(spec), connection.handle
        try:
            head, fields = _request(
                asked, spec.collection.method, spec.headers, attempt.where, self._transport.settings.user_agent
            )
        except ValueError:
            head, fields = None, {}  # told of on a thread
        if head is None or handle is None:
            pool.put_back(connection)
            return False
        request = f"{spec.collection.method} {attempt.target} HTTP/1.1\r\n{head}".encode("ascii")
        try:
            sent = handle.send(request, _SEND)
        except OSError:
            sent = 0
        if sent < len(request):
            # The server has closed it, or does not read: another will do.
            connection.close()
            return False
        try:
            self._epoll.register(handle, select.EPOLLIN)
        except OSError:  # no room to watch one more
            attempt.ahead, attempt.began = connection, began
            return False
        self._waiting[order.attempt] = _Exchange(order, attempt, data, asked, fields, pool, connection, handle, began)
        self._by_fd[handle.fileno()] = order.attempt
        return True

    def cancel(self, number: int) -> bool:
        """End the attempt, if it is here."""
        if number not in self._waiting:
            return False
        exchange = self._withdraw(number)
        exchange.connection.close()
        self._ended(number, _ended(exchange, cancelled=True))
        return True

    def look(self) -> None:
        """Take the answers that are there, and give up those that are late."""
        for fd, _ in self._epoll.poll(0):
            number = self._by_fd[fd]
            exchange = self._waiting[number]
            try:
                received = exchange.handle.recv(_ANSWER, _LOOK)
            except BlockingIOError:
                continue
            except OSError:
                received = b""
            self._withdraw(number)
            ended = self._take(exchange, received)
            if ended is not None:
                self._ended(number, ended)
                continue
            exchange.attempt.ahead, exchange.attempt.began = exchange.connection, exchange.began
            self._resume(number)
        now = monotonic()
        while self._waiting and self._due() <= now:
            self._give_up(next(iter(self._waiting)))

    def pause(self) -> float | None:
        """Seconds until `look` has something to do in any case."""
        return max(self._due() - monotonic(), 0.0) if self._waiting else None

    def _due(self) -> float:
        # All may take equally long: the first is the next.
        return next(iter(self._waiting.values())).began + self._transport.settings.inactivity_timeout

    def _give_up(self, number: int) -> None:
        exchange = self._withdraw(number)
        exchange.connection.close()
        exchange.attempt.asked = True
        late = translate(TimeoutError(), exchange.attempt, self._transport.settings.inactivity_timeout)
        self._ended(number, _ended(exchange, failure=late.failure))

    def _withdraw(self, number: int) -> _Exchange:
        exchange = self._waiting.pop(number)
        fd = exchange.handle.fileno()
        self._epoll.unregister(fd)
        del self._by_fd[fd]
        return exchange

    def _take(self, exchange: _Exchange, received: bytes) -> AttemptEnded | None:
        """What came of it; None if that is not there yet, or is no matter of a moment."""
        head = usual_head(received)
        if head is None or not 200 <= head.status < 300 or head.repeats or head.chunked:
            return None
        order = exchange.order
        assert order.spec.collection is not None
        method = order.spec.collection.method
        length = 0 if method == "HEAD" or head.status == 204 else head.length
        if length is None or head.size + length != len(received) or len(order.spec.url) + head.size > HEAD_LIMIT // 2:
            return None
        try:
            accepted = check_collected(exchange.asked, method, exchange.fields, head.status, head.fields)
            if not isinstance(accepted, Accepted) or not _fits(accepted, length, method):
                return None
            first = FirstByte(
                head.status,
                order.spec.url,
                monotonic() - exchange.began,
                ranged=exchange.asked.ranged,
                headers=tuple(head.lines),
            )
            basket = Basket(exchange.data, order.spec.limit or 0)
            if length:
                basket.write(memoryview(received)[head.size :], 0)
            if len(exchange.handle.recv(len(received), socket.MSG_DONTWAIT)) < len(received):
                return None
        except Exception:  # noqa: BLE001 - whatever breaks over an answer, the other attempts go on
            return None  # told of once it happens again
        if head.closes:
            exchange.connection.close()
        else:
            exchange.pool.put_back(exchange.connection)
        return _ended(exchange, landed=basket.landed, complete=True, head=head_of(order, accepted, first))


def _fits(accepted: Accepted, length: int, method: str) -> bool:
    """Whether the `length` bytes that came are the body, as they are."""
    return method == "HEAD" or (accepted.end is not None and accepted.end - accepted.start == length)


def _ended(
    exchange: _Exchange,
    *,
    landed: int = 0,
    complete: bool = False,
    cancelled: bool = False,
    failure: Failure | None = None,
    head: AttemptHeaders | None = None,
) -> AttemptEnded:
    order = exchange.order
    return AttemptEnded(
        order.spec.request,
        order.attempt,
        order.spec.start + landed,
        complete,
        None,
        False,
        cancelled,
        failure,
        head=head,
    )


@functools.lru_cache(maxsize=64)
def _request(
    asked: Asked, method: str, headers: tuple[tuple[str, str], ...], where: str, user_agent: str
) -> tuple[str | None, dict[str, str]]:
    """The head of a request behind its first line, None if that is better left to urllib3; and its fields."""
    fields = completed(collected_headers(asked, method, dict(headers)), user_agent)
    if "%" in where or ".:" in where:
        return None, fields  # a zone, and the dot behind a name, are for who looks it up, and not sent
    lines = [f"{name}: {value}" for name, value in fields.items()]
    if any(name.lower() in _OWN for name in fields) or not all(_FIELD.fullmatch(line) for line in lines):
        return None, fields
    return "\r\n".join([f"Host: {where.removesuffix(':80')}", *lines, "", ""]), fields
