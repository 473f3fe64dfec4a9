"""One HTTP attempt: redirects, the one request without Range where that was refused, and the body."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from actors.clock import monotonic
from kithara_actors.errors import ProtocolError
from kithara_actors.logic.collecting import check_collected, coding_of, collected_headers, fields_of, too_large
from kithara_actors.logic.response import (
    MAX_REDIRECTS,
    Accepted,
    Asked,
    check,
    redirect,
    request_headers,
)
from kithara_actors.worker.attempt import Attempt
from kithara_actors.worker.body import close, discard, store
from kithara_actors.worker.decoded import Decoded
from kithara_actors.worker.framing import Framing, framing_of, is_received
from kithara_actors.worker.http import Transport
from kithara_actors.worker.pace import PacedFraming
from kithara_actors.worker.sink import Sink

if TYPE_CHECKING:
    from urllib3.response import HTTPResponse

__all__ = ["End", "FirstByte", "Order", "run"]


@dataclass(frozen=True, slots=True)
class Order:
    """What one attempt is to fetch. `headers` are the caller's.

    A 200 to a range is stored from `asked.start` up to `asked.end`. With `whole` the body of whatever answer there
    is is stored from 0 to its end, decoded, if it fits the sink's limit. HEAD stores nothing.
    """

    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    asked: Asked
    method: str = "GET"
    whole: bool = False


@dataclass(frozen=True, slots=True)
class FirstByte:
    """How the answer came: `url` is the final one, `redirects` are all that were followed to it, itself included;
    `seconds` run from the start of the attempt; `bare`: headers of the caller were dropped at a redirect; `ranged`: it
    answers a request with a Range. `headers` are all of the answer's, for an order that is `whole`; with `received` its
    body is there already."""

    status: int
    url: str = field(repr=False)
    seconds: float
    redirects: tuple[str, ...] = field(default=(), repr=False)
    bare: bool = False
    ranged: bool = True
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    received: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """How the attempt ended well: the bytes are stored up to the absolute offset `end`.

    `complete`: the body ran to the end that was announced, or past what was asked; an answer may announce
    less than was asked. `total` is the length of the representation if it is known now. `reused`: on a kept
    connection.
    """

    end: int
    complete: bool
    total: int | None
    reused: bool


def run(
    transport: Transport,
    attempt: Attempt,
    order: Order,
    sink: Sink,
    on_headers: Callable[[Accepted, FirstByte], None],
    allow_downgrade: bool = False,
    judge: Callable[[str], None] | None = None,
) -> End:
    """Carry out `order`; returns when its bytes are stored. Blocks; `attempt.cancel` ends it.

    `judge` is called with where each redirect leads, and raises what forbids to follow it.
    `on_headers` is called once, after validation and before the first byte is stored. Raises what `check`,
    `redirect`, `Transport.open` and `store` raise; the connection is closed then, else it goes back to its
    pool.
    """
    began = monotonic() if attempt.began is None else attempt.began
    url, caller, asked = order.url, dict(order.headers), order.asked
    followed: list[str] = []
    while True:
        sent = collected_headers(asked, order.method, caller) if order.whole else request_headers(asked, caller)
        attempt.refused = None
        response = transport.open(attempt, url, sent, order.method)
        attempt.refused = response.status, monotonic() - began
        try:
            status = response.status
            location = response.headers.get("location") if 300 <= status < 400 else None
            following = redirect(url, status, location, allow_downgrade=allow_downgrade, headers=caller)
            if following is not None:
                if len(followed) == MAX_REDIRECTS:
                    raise ProtocolError(f"more than {MAX_REDIRECTS} redirects")
                url, caller = following
                if judge is not None:
                    judge(url)
                followed.append(url)
            else:
                fields: tuple[tuple[str, str], ...] = ()
                if order.whole:
                    answer = check_collected(asked, order.method, sent, status, response.headers)
                    fields = fields_of(response.headers.items())
                else:
                    answer = check(asked, status, response.headers)
                if isinstance(answer, Accepted):
                    bare = len(caller) < len(order.headers)
                    seconds = monotonic() - began
                    at_once = order.whole and attempt.pace is None and is_received(response)
                    on_headers(
                        answer, FirstByte(status, url, seconds, tuple(followed), bare, asked.ranged, fields, at_once)
                    )
                    attempt.refused = None
                    receive = _receive_whole if order.whole else _receive
                    return receive(transport, attempt, response, order, answer, sink)
                asked = dataclasses.replace(asked, ranged=False)
            discard(response, attempt)
        except BaseException:
            close(response, attempt)
            raise


def _receive(
    transport: Transport,
    attempt: Attempt,
    response: HTTPResponse,
    order: Order,
    accepted: Accepted,
    sink: Sink,
) -> End:
    reused = not attempt.fresh
    start, end = order.asked.start, order.asked.end
    if order.method == "HEAD":
        discard(response, attempt)
        return End(start, True, accepted.total, reused)
    skip = 0
    if accepted.partial:
        start, end = accepted.start, accepted.end
    else:
        skip = start
        end = min((known for known in (end, accepted.end) if known is not None), default=None)
    expected = None if end is None else max(end - start, 0)
    landed = store(response, attempt, sink, start, expected, skip, transport.settings.inactivity_timeout)
    total = accepted.total
    if total is None and (end is None or landed < end) and not sink.stopped:
        total = landed
    return End(landed, True, total, reused)


def _receive_whole(
    transport: Transport,
    attempt: Attempt,
    response: HTTPResponse,
    order: Order,
    accepted: Accepted,
    sink: Sink,
) -> End:
    reused = not attempt.fresh
    if order.method == "HEAD":
        discard(response, attempt)
        return End(0, True, accepted.total, reused)
    expected = None if accepted.end is None else accepted.end - accepted.start
    if expected is not None and sink.limit is not None and expected > sink.limit:
        raise too_large(sink.limit)
    inactivity = transport.settings.inactivity_timeout
    coding = coding_of(response.headers.items()) if expected is None else None
    framing: Framing | None = None
    if coding is not None:
        coded = framing_of(response, inactivity, attempt.records)
        framing = Decoded(coded if attempt.pace is None else PacedFraming(coded, attempt.pace), coding, sink.limit)
    landed = store(response, attempt, sink, 0, expected, 0, inactivity, framing)
    return End(landed, True, accepted.total, reused)
