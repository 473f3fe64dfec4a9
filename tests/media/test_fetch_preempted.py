"""A request that is cut for another: it keeps its id and its budget, queues again, and goes on from its last byte."""

from __future__ import annotations

from typing import Any

import pytest
from actor_kit import call_spec, request_spec
from test_downloader import House, house

from kithara_actors.errors import Failure
from kithara_actors.logic import fetch
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.messages.commands import Admitted, CancelAdmitted, Parked, Preempt, Recount, Recounted, Requeue
from kithara_actors.messages.events import FirstByte, RequestCancelled, RequestRetrying, RequestStarted
from kithara_actors.messages.records import FetchSpec, InHand, Standing
from kithara_actors.messages.worker import CancelAttempt, RunAttempt
from kithara_actors.values import CancelReason, RequestId, Validator

__all__ = ["house"]

ONE = RequestId(1)
BROKEN = Failure("ConnectError", "broken", retryable=True)
DENIED = Failure("StatusError", "401", status=401)


class Book:
    """One admitted request whose first attempt runs."""

    def __init__(self, spec: FetchSpec | None = None, *, asks: bool = False) -> None:
        self.book = fetch.FetchBook(RetryPolicy(max_retries=2), asks=asks)
        self.spec = spec or request_spec()
        self.do(fetch.Start(self.spec))

    def do(self, event: fetch.Event) -> list[Any]:
        return self.book.handle(event, 1.0)

    def ended(self, attempt: int, at: int, **how: Any) -> list[Any]:
        return self.do(fetch.Ended(ONE, attempt, at, **{"complete": False, **how}))

    def back(self, attempt: int, **changes: Any) -> list[Any]:
        """What is done with one that gives its slot to another."""
        spec = changes.pop("spec", self.spec)
        return [fetch.BackOff(spec, attempt, changes.pop("retry", 1), 0.0, fetch.PREEMPTED), fetch.AskSlot(ONE)]

    def again(self) -> list[Any]:
        return self.do(fetch.Start(self.spec, again=True))


def test_it_goes_on_from_its_last_byte_and_no_budget_is_spent() -> None:
    book = Book()
    for attempt, at in ((1, 2000), (2, 3000), (3, 3000), (4, 4000), (5, 4000)):
        assert book.do(fetch.Preempt(ONE)) == [fetch.StopAttempt(ONE, attempt)]
        assert book.do(fetch.Preempt(ONE)) == []  # told again
        assert book.ended(attempt, at, cancelled=True) == book.back(attempt)
        assert book.again() == [fetch.Run(book.spec, attempt + 1, at)]
    (back,) = book.ended(6, 4000, failure=BROKEN)
    assert back.retry == 1


def test_it_is_cut_before_its_answer_too() -> None:
    """Its server is known to have ranges by an earlier request of the asset."""
    book = Book()
    book.do(fetch.Preempt(ONE))
    assert book.ended(1, 1000, cancelled=True) == book.back(1)
    assert book.again() == [fetch.Run(book.spec, 2, 1000)]


@pytest.mark.parametrize("why", ["collected", "ranges refused", "answered with all of it", "unknown"])
def test_what_would_begin_anew_is_not_cut(why: str) -> None:
    book = Book(call_spec() if why == "collected" else None)
    if why == "ranges refused":
        book.do(fetch.Answered(ONE, 1, 9000, Validator(), ranged=False))
    if why == "answered with all of it":
        book.do(fetch.Answered(ONE, 1, 9000, Validator(), partial=False))
    assert book.do(fetch.Preempt(RequestId(9) if why == "unknown" else ONE)) == []


@pytest.mark.parametrize("state", [fetch.State.BACKING_OFF, fetch.State.QUEUED_AGAIN, fetch.State.CANCELLING])
def test_one_that_gives_its_slot_back_anyway_is_left_alone(state: fetch.State) -> None:
    book = Book()
    if state is fetch.State.CANCELLING:
        book.do(fetch.Cancel(ONE, CancelReason.EPOCH_CANCEL))
    else:
        book.ended(1, 1000, failure=BROKEN)
    if state is fetch.State.QUEUED_AGAIN:
        book.do(fetch.DelayOver(ONE, 1))
    assert book.do(fetch.Preempt(ONE)) == []
    assert book.book.state(ONE) is state


@pytest.mark.parametrize("how", ["complete", "all there", "failed", "fatal", "cancelled by its source", "lost"])
def test_what_happens_to_it_meanwhile_comes_first(how: str) -> None:
    book = Book(request_spec(end=5000))
    book.do(fetch.Preempt(ONE))
    match how:
        case "complete":
            (end,) = book.ended(1, 5000, complete=True)
            assert (end.end, end.failure, end.reason) == (5000, None, None)
        case "all there":
            (end,) = book.ended(1, 5000, cancelled=True)
            assert (end.end, end.failure, end.reason) == (5000, None, None)
        case "failed":
            (back,) = book.ended(1, 2000, failure=BROKEN)
            assert (back.cause, back.delay > 0) == ("ConnectError", True)
            assert book.do(fetch.DelayOver(ONE, 1)) == [fetch.AskSlot(ONE)]
            assert book.again() == [fetch.Run(book.spec, 2, 2000)]
            assert book.ended(2, 2000, cancelled=True) == [fetch.Run(book.spec, 3, 2000)]  # the promise was kept
        case "fatal":
            (end,) = book.ended(1, 2000, failure=DENIED)
            assert end.failure == DENIED
        case "cancelled by its source":
            assert book.do(fetch.Cancel(ONE, CancelReason.EPOCH_CANCEL)) == [fetch.StopAttempt(ONE, 1)]
            (end,) = book.ended(1, 2000, cancelled=True)
            assert (end.reason, end.end) == (CancelReason.EPOCH_CANCEL, 2000)
        case "lost":
            lost, *rest = book.do(fetch.Lost(ONE, 1, 2000))
            assert lost.cause == fetch.WORKER_LOST
            assert rest == book.back(1)
            assert book.again() == [fetch.Run(book.spec, 2, 2000)]


def test_one_that_is_asked_about_yields_when_it_has_its_answer() -> None:
    book = Book(asks=True)
    assert book.do(fetch.Preempt(ONE)) == []
    assert book.do(fetch.Told(ONE, 1)) == book.back(1)
    assert book.again() == [fetch.Ask(book.spec, 2)]
    assert book.do(fetch.Told(ONE, 2)) == [fetch.Run(book.spec, 2, 1000)]


def test_a_renewal_that_meets_it_is_not_forgotten() -> None:
    book = Book(asks=True)
    book.do(fetch.Told(ONE, 1))
    book.do(fetch.Preempt(ONE))
    renewal, *rest = book.ended(1, 1000, failure=DENIED, renewable=True)
    assert renewal.cause == fetch.RENEWED
    assert rest == book.back(1)
    assert book.again() == [fetch.Ask(book.spec, 2, renew=True)]


# --- The actor


def test_its_slot_is_given_back_and_another_asked_for(house: House) -> None:
    house.up(1)
    house.admit()
    house.answer()
    house.pool.take()
    house.registry.take()
    house.events.take()
    house.tell(Preempt(ONE))
    assert house.pool.take() == [(1, CancelAttempt(1))]
    assert house.registry.take() == []  # not before it writes no more
    house.end(at=2000, cancelled=True)
    assert house.registry.take() == [Parked(ONE), Requeue(ONE)]
    assert house.events.take() == [RequestRetrying(ONE, 1, 2, 0.0, "PREEMPTED")]
    house.back_off()  # and no timer comes later
    assert house.registry.take() == []
    house.tell(Admitted(house.spec(), 0.0, again=True))
    ((worker, order),) = house.pool.take()
    assert isinstance(order, RunAttempt)
    assert (worker, order.attempt, order.start) == (1, 2, 2000)
    assert not [event for event in house.events.take() if isinstance(event, RequestStarted | FirstByte)]


def test_one_that_waits_for_a_worker_yields_at_once(house: House) -> None:
    house.admit()
    house.tell(Preempt(ONE))
    assert house.registry.take() == [Parked(ONE), Requeue(ONE)]
    house.up(1)
    assert house.pool.take() == []


def test_a_cancel_after_it_ends_the_request_between_two_slots(house: House) -> None:
    house.up(1)
    house.admit()
    house.tell(Preempt(ONE))
    house.end(at=2000, cancelled=True)
    house.events.take()
    house.tell(CancelAdmitted(ONE, CancelReason.PEER_CANCEL))
    assert house.events.take() == [RequestCancelled(ONE, 1000, CancelReason.PEER_CANCEL)]


def test_a_registry_that_begins_anew_meanwhile_is_told_where_it_is(house: House) -> None:
    house.up(1)
    house.admit()
    house.tell(Preempt(ONE), Recount())
    assert house.registry.take()[-1] == Recounted((InHand(house.spec(), Standing.RUNNING),))
    house.end(at=2000, cancelled=True)
    house.registry.take()
    house.tell(Recount())
    assert house.registry.take() == [Recounted((InHand(house.spec(), Standing.RETURNING),))]
