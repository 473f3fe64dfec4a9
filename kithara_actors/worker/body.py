"""The byte path of a worker: a response body moved into a descriptor, its progress published on the way.

Plain bodies are spliced from the socket into the file; TLS bodies are read into one hot buffer and written.
Each piece is published as soon as it is stored, the first one without waiting for more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
from typing import TYPE_CHECKING

import urllib3.exceptions

from actors.clock import monotonic
from kithara_actors.errors import (
    Cancelled,
    ConnectError,
    Failure,
    KitharaError,
    ProtocolError,
    ResourceChanged,
)
from kithara_actors.worker.framing import CHUNK, CutShort, Framing, framing_of, inner
from kithara_actors.worker.http import Attempt, causes, translate
from kithara_actors.worker.sink import Sink

if TYPE_CHECKING:
    from urllib3.response import HTTPResponse

    from kithara_actors.worker.pace import Pace

__all__ = ["BodyBroken", "BodyStalled", "Sink", "close", "discard", "store"]

_SPLICE_FROM = 512 * 1024
"""For fewer bytes a pipe of 1 MiB, 50 µs to make, costs more than the copy that it saves."""

_SOON = 0.02
"""Seconds for which an idle pipe is kept."""

_GRACE = 1.0
"""Seconds that a body whose bytes are all there may take to end by itself."""

_DRAIN = 32 * 1024
"""A remainder of at most so many bytes is read so that the connection can be used again."""

_FOREIGN = (CutShort, OSError, http.client.HTTPException, urllib3.exceptions.HTTPError)


class BodyBroken(ConnectError):
    """The body ended early; what was published is stored. To other processes it is a ConnectError."""

    @property
    def failure(self) -> Failure:
        return dataclasses.replace(super().failure, kind=ConnectError.__name__)


class BodyStalled(BodyBroken):
    """Nothing of the body came for the inactivity limit."""


def store(
    response: HTTPResponse,
    attempt: Attempt,
    sink: Sink,
    at: int,
    expected: int | None,
    skip: int,
    inactivity: float,
    framing: Framing | None = None,
) -> int:
    """Store the body of `response` at the absolute offset `at` and return where it ends.

    The first `skip` bytes are dropped, once compared with what the sink holds. `expected` bytes are stored after them,
    or (None) all that come; a 200 without a length may be shorter than `expected`. `framing` replaces the plain one.
    Blocks, at most `inactivity` seconds for each piece. On return the connection is back in its pool, or closed if it
    could not be; after an error it is closed.

    Raises BodyBroken (BodyStalled), ProtocolError (malformed, or a 206 longer than `expected`),
    ResourceChanged (shorter than `skip`, or other bytes), StorageFull, InternalError (the file), Cancelled.
    """
    end = None if expected is None else at + expected
    sink.landed, sink.stopped = at, False
    # What replaces the plain framing counts its bytes itself: those that come, not those that they become.
    pace = attempt.pace if framing is None else None
    framing = framing or framing_of(response, inactivity, attempt.records)
    try:
        attempt.limit_reads(inactivity)
        _skip(framing, attempt, sink, at - skip, skip, pace)
        landed = _move(framing, attempt, sink, at, end, inactivity, pace)
        if landed == end:
            _finish(framing, response.status == 206, attempt, inactivity)
        elif sink.stopped:
            close(response, attempt)  # another writes the rest
            return landed
        elif end is not None and (response.status == 206 or response.length_remaining is not None):
            raise CutShort
        _settle(response, framing, attempt)
        return landed
    except KitharaError:
        close(response, attempt)
        raise
    except _FOREIGN as error:
        close(response, attempt)
        raise _explain(error, attempt, sink.landed - at, expected, inactivity) from error
    except BaseException:
        close(response, attempt)
        raise
    finally:
        sink.release()
        if attempt.pace is not None:
            attempt.pace.settle()


def discard(response: HTTPResponse, attempt: Attempt) -> None:
    """Be done with a response: a short body is read to keep the connection, else that is closed.

    Blocks for two seconds at most. Raises nothing.
    """
    framing = framing_of(response, _GRACE, attempt.records)
    try:
        _drain(framing, attempt)
        _settle(response, framing, attempt)
    except _FOREIGN:  # among them KitharaError: a malformed body of no interest
        close(response, attempt)


def close(response: HTTPResponse, attempt: Attempt) -> None:
    """Close the connection of `response`, unless it is back in its pool. Idempotent, raises nothing."""
    with contextlib.suppress(OSError):
        response.close()
    attempt.unbind()


def _skip(framing: Framing, attempt: Attempt, sink: Sink, at: int, count: int, pace: Pace | None) -> None:
    """Pass by `count` bytes of the representation from `at` on; those that are stored already have to be the same."""
    left = count
    while left:
        attempt.check()
        wanted = min(left, CHUNK)
        if pace is not None:
            wanted, seconds = pace.allow(wanted)
            if seconds > 0:
                pace.wait(seconds)
                continue
        data = framing.take(wanted)
        if pace is not None:
            pace.took(len(data))
        if not data:
            attempt.check()
            raise ResourceChanged(f"the body ended after {count - left} bytes, {count} are held already")
        if sink.differs(data, at):
            raise ResourceChanged("the body is no longer the one of which a part has landed")
        at += len(data)
        left -= len(data)


def _move(
    framing: Framing, attempt: Attempt, sink: Sink, at: int, end: int | None, inactivity: float, pace: Pace | None
) -> int:
    while True:
        goal = sink.goal(end)
        if goal is not None and at >= goal:
            # Noted here, once: by the next look the goal may have moved again.
            sink.stopped = goal != end
            break
        # After the shutdown of a cancel the kernel still hands out what it had received.
        attempt.check()
        wanted = CHUNK if goal is None else goal - at
        if pace is not None:
            wanted, seconds = pace.allow(wanted)
            if seconds > 0:
                if seconds > _SOON:
                    sink.release()
                # Then look again: another may have taken over.
                pace.wait(seconds)
                continue
        if attempt.plain and sink.splices:
            count = framing.unread if goal is None and pace is None else min(framing.unread, wanted)
            if count >= _SPLICE_FROM:
                moved = sink.pull(attempt.fileno(), at, count, inactivity)
                if moved is not None:
                    framing.skipped(moved)
                    at += moved
                    if pace is not None:
                        pace.took(moved)
                    if moved == 0:
                        break
                    continue
        data = framing.take(min(wanted, CHUNK))
        if not data:
            break
        if pace is not None:
            pace.took(len(data))
        at = sink.write(data, at)
    attempt.check()
    return at


def _finish(framing: Framing, exact: bool, attempt: Attempt, inactivity: float) -> None:
    """All bytes wanted are stored: let the body end, if it does so soon."""
    if framing.ended or not exact:
        _drain(framing, attempt)
        return
    attempt.limit_reads(min(_GRACE, inactivity))
    try:
        more = framing.take(1)
    except _FOREIGN:
        return
    if more:
        raise ProtocolError("the body goes on past the interval that its Content-Range names")


def _drain(framing: Framing, attempt: Attempt) -> None:
    if framing.ended or framing.left is None or framing.left > _DRAIN:
        return
    attempt.limit_reads(_GRACE)
    end = monotonic() + _GRACE  # a server may send a byte now and then for hours
    with contextlib.suppress(*_FOREIGN):
        while (data := framing.take(_DRAIN)) and monotonic() < end:
            if attempt.pace is not None:
                attempt.pace.took(len(data))


def _settle(response: HTTPResponse, framing: Framing, attempt: Attempt) -> None:
    """Give the connection back if it can carry another response."""
    reusable = framing.ended and not attempt.cancelled
    if reusable and not (attempt.plain and framing.spent):
        # What a server sent behind its body would be taken for the head of the next response. urllib3 looks
        # at the socket for it, and does not see what was decrypted or buffered already.
        attempt.limit_reads(0.0)
        try:
            reusable = not framing.surplus()
        except OSError:
            reusable = False  # it broke, but not before the body was there
    if reusable:
        # The body was read below urllib3, which therefore does not know that it is over. Closing
        # http.client's response tells both; the connection itself stays open unless the server asked for
        # the contrary.
        below = inner(response)
        if below is not None:
            below.close()
        response.release_conn()
    close(response, attempt)


def _explain(
    error: BaseException, attempt: Attempt, stored: int, expected: int | None, inactivity: float
) -> KitharaError:
    told = translate(error, attempt, inactivity)
    if isinstance(told, Cancelled | ProtocolError):
        return told
    progress = f"{stored} of {'unknown' if expected is None else expected} bytes"
    if any(isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError) for cause in causes(error)):
        return BodyStalled(f"nothing came from {attempt.where} for {inactivity:g} s, after {progress}")
    return BodyBroken(f"connection to {attempt.where} closed after {progress}")
