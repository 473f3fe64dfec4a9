"""The worker's part of a one-off request: one answer, decoded, into a descriptor of its own from position 0 on."""

from __future__ import annotations

import os
from collections.abc import Callable

from kithara_actors.errors import Cancelled, Failure, KitharaError, StorageFull
from kithara_actors.logic.collecting import asked_of, check_head_size, too_large
from kithara_actors.logic.response import Accepted
from kithara_actors.messages.worker import AttemptEnded, AttemptHeaders, RunAttempt
from kithara_actors.values import Validator
from kithara_actors.worker.body import BodyBroken, BodyStalled
from kithara_actors.worker.fetcher import FirstByte, Order
from kithara_actors.worker.sink import Sink

__all__ = ["Basket", "collect", "head_of", "order_of"]


class Basket(Sink):
    """What a collected body lands in; one byte more than `limit` is BodyTooLarge."""

    __slots__ = ()

    def __init__(self, fd: int, limit: int) -> None:
        super().__init__(fd, _nobody, limit)
        # Most are smaller than what splicing pays for.
        self.splices = False

    def room(self, at: int, wanted: int) -> int:
        try:
            return super().room(at, wanted)
        except StorageFull:
            assert self.limit is not None
            raise too_large(self.limit) from None


def order_of(run: RunAttempt) -> Order:
    """What the attempt of a request that is collected is to fetch."""
    spec = run.spec
    return Order(spec.url, spec.headers, asked_of(spec), spec.method, whole=True)


def collect(
    run: RunAttempt,
    data: int,
    transfer: Callable[[Sink, Callable[[Accepted, FirstByte], None]], object],
    report: Callable[[AttemptHeaders], None],
    refused: Callable[[], tuple[int, float] | tuple[()]],
) -> AttemptEnded:
    """Make the attempt `run` into the descriptor `data` (HEAD: -1) by `transfer`; how it ended. Blocks until then."""
    spec = run.spec
    assert spec.limit is not None
    basket = Basket(data, spec.limit)
    if data >= 0:
        os.lseek(data, 0, os.SEEK_SET)  # from an attempt before

    def counted(end: int) -> None:
        # The host has the same position, and reads how far a slow body has come there.
        os.lseek(data, end, os.SEEK_SET)

    untold: AttemptHeaders | None = None

    def answered(accepted: Accepted, first: FirstByte) -> None:
        nonlocal untold
        check_head_size(first.url, first.headers)
        head = head_of(run, accepted, first)
        if first.received:
            untold = head  # the end comes in a moment: one message does for both
        else:
            report(head)
            basket.publish = counted

    failure: Failure | None = None
    complete = broke = cancelled = stalled = False
    try:
        transfer(basket, answered)
        complete = True
    except Cancelled:
        cancelled = True
    except KitharaError as error:
        failure = error.failure
        broke = isinstance(error, BodyBroken)
        stalled = isinstance(error, BodyStalled)
    end = spec.start + basket.landed
    status, seconds = refused() or (None, 0.0)
    return AttemptEnded(
        spec.request, run.attempt, end, complete, None, broke, cancelled, failure, status, seconds, stalled, untold
    )


def head_of(run: RunAttempt, accepted: Accepted, first: FirstByte) -> AttemptHeaders:
    """What is told of the answer to the attempt `run`."""
    # Validator and type are among the headers; twice they might not fit the message.
    return AttemptHeaders(
        run.spec.request,
        run.attempt,
        first.status,
        accepted.partial,
        accepted.end,
        accepted.total,
        Validator(),
        None,
        first.url,
        first.seconds,
        first.bare,
        first.ranged,
        first.headers,
    )


def _nobody(end: int) -> None:
    """Nobody looks at a collected body before it is complete."""
