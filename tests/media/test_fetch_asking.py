"""Requests that the application's callables are asked about: before each attempt, and anew after a refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from actor_kit import request_spec
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.errors import Failure
from kithara_actors.logic.fetch import (
    RENEWED,
    WORKER_LOST,
    Action,
    Answered,
    Ask,
    AskSlot,
    BackOff,
    Begin,
    Cancel,
    DelayOver,
    End,
    Ended,
    FetchBook,
    Lost,
    Run,
    Start,
    State,
    StopAttempt,
    Told,
)
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.values import CancelReason, RequestId, Validator

ONE = RequestId(1)
SPEC = request_spec(calls=7)
SERVER = Failure("StatusError", "503", retryable=True, status=503)
DENIED = Failure("StatusError", "401", status=401)
FORBIDDEN = Failure("PolicyError", "no")


def book_of(spec: object = SPEC, *, asks: bool = False) -> FetchBook:
    book = FetchBook(RetryPolicy(max_retries=2), asks=asks)
    begin, ask = book.handle(Start(SPEC if spec is SPEC else request_spec()), 1.0)
    assert isinstance(begin, Begin)
    assert ask == Ask(begin.spec, 1)
    return book


def running() -> FetchBook:
    book = book_of()
    assert book.handle(Told(ONE, 1), 1.0) == [Run(SPEC, 1, 1000)]
    return book


def denied(book: FetchBook, attempt: int, end: int = 1000) -> list[Action]:
    return book.handle(Ended(ONE, attempt, end, complete=False, failure=DENIED, renewable=True), 1.0)


@pytest.mark.parametrize("asks", [False, True])
def test_nothing_runs_before_the_answer(asks: bool) -> None:
    book = book_of(None if asks else SPEC, asks=asks)
    assert book.state(ONE) is State.ASKING
    for early in (
        Ended(ONE, 1, 99999, complete=True),
        Lost(ONE, 1, 99999),
        Answered(ONE, 1, 1, Validator('"x"')),
        DelayOver(ONE, 1),
        Told(ONE, 0),
        Told(ONE, 2),
        Told(RequestId(9), 1),
    ):
        assert book.handle(early, 1.0) == []
        assert book.state(ONE) is State.ASKING
    (run,) = book.handle(Told(ONE, 1), 1.0)
    assert isinstance(run, Run)
    assert (run.attempt, run.start) == (1, 1000)
    assert book.handle(Told(ONE, 1), 1.0) == []


@pytest.mark.parametrize("start", [0, 1000])
def test_a_refusal_ends_the_request(start: int) -> None:
    """What has landed was allowed, and stays: only where there is nothing yet is it the end of the asset."""
    spec = request_spec(calls=7, start=start)
    book = FetchBook(RetryPolicy(max_retries=2))
    book.handle(Start(spec), 1.0)
    assert book.handle(Told(ONE, 1, FORBIDDEN), 1.0) == [
        End(spec, start, failure=FORBIDDEN, gave_up=start > 0, attempts=1)
    ]
    assert book.requests() == []
    assert book.handle(Told(ONE, 1), 1.0) == []


@pytest.mark.parametrize("start", [0, 1000])
def test_a_refusal_at_a_redirect_is_the_same(start: int) -> None:
    spec = request_spec(start=start)
    book = FetchBook(RetryPolicy(max_retries=2))
    book.handle(Start(spec), 1.0)
    (end,) = book.handle(Ended(ONE, 1, start, complete=False, failure=FORBIDDEN), 1.0)
    assert end == End(spec, start, failure=FORBIDDEN, gave_up=start > 0, attempts=1)


def test_a_passing_want_of_a_thread_costs_no_bytes() -> None:
    book = running()
    book.handle(Lost(ONE, 1, 2000), 1.0)
    short = Failure("ConnectError", "no thread", retryable=True)
    assert book.handle(Told(ONE, 2, short), 1.0) == [End(SPEC, 2000, failure=short, gave_up=True, attempts=2)]


def test_a_cancel_does_not_wait_for_the_answer() -> None:
    book = book_of()
    assert book.handle(Cancel(ONE, CancelReason.PEER_CANCEL), 1.0) == [
        End(SPEC, 1000, reason=CancelReason.PEER_CANCEL, attempts=1)
    ]
    assert book.handle(Told(ONE, 1), 1.0) == []
    assert book.requests() == []


def test_every_later_attempt_is_asked_about_too() -> None:
    book = running()
    assert book.handle(Lost(ONE, 1, 2000), 1.0) == [BackOff(SPEC, 1, 1, 0.0, WORKER_LOST), Ask(SPEC, 2)]
    assert book.handle(Told(ONE, 2), 1.0) == [Run(SPEC, 2, 2000)]
    (delayed,) = book.handle(Ended(ONE, 2, 2000, complete=False, failure=SERVER), 1.0)
    assert isinstance(delayed, BackOff)
    assert book.handle(DelayOver(ONE, 2), 1.0) == [AskSlot(ONE)]
    assert book.handle(Start(SPEC, again=True), 1.0) == [Ask(SPEC, 3)]
    assert book.handle(Told(ONE, 3), 1.0) == [Run(SPEC, 3, 2000)]


def test_a_renewal_costs_no_budget_and_keeps_the_slot() -> None:
    book = running()
    assert denied(book, 1) == [BackOff(SPEC, 1, 1, 0.0, RENEWED), Ask(SPEC, 2, renew=True)]
    book.handle(Told(ONE, 2), 1.0)
    for retry in (1, 2):
        (delayed,) = book.handle(Ended(ONE, 1 + retry, 1000, complete=False, failure=SERVER), 1.0)
        assert isinstance(delayed, BackOff)
        assert delayed.retry == retry
        book.handle(DelayOver(ONE, 1 + retry), 1.0)
        book.handle(Start(SPEC, again=True), 1.0)
        book.handle(Told(ONE, 2 + retry), 1.0)
    (end,) = book.handle(Ended(ONE, 4, 1000, complete=False, failure=SERVER), 1.0)
    assert isinstance(end, End)
    assert end.failure is not None
    assert (end.failure.kind, end.attempts) == ("RetryExhausted", 4)


def test_it_is_renewed_once() -> None:
    book = running()
    denied(book, 1)
    book.handle(Told(ONE, 2), 1.0)
    assert denied(book, 2) == [End(SPEC, 1000, failure=DENIED, gave_up=True, attempts=2)]


def test_it_is_renewed_once_whatever_comes_between() -> None:
    book = running()
    denied(book, 1)
    book.handle(Told(ONE, 2), 1.0)
    book.handle(Ended(ONE, 2, 1000, complete=False, failure=SERVER), 1.0)
    book.handle(DelayOver(ONE, 2), 1.0)
    book.handle(Start(SPEC, again=True), 1.0)
    book.handle(Told(ONE, 3), 1.0)
    (end,) = denied(book, 3)
    assert isinstance(end, End)
    assert end.failure == DENIED


def test_bytes_that_landed_make_it_renewable_again() -> None:
    """A transfer of hours outlives many tokens."""
    book = running()
    for attempt in range(1, 20):
        assert denied(book, attempt, 1000 + attempt)[1] == Ask(SPEC, attempt + 1, renew=True)
        assert book.handle(Told(ONE, attempt + 1), 1.0) == [Run(SPEC, attempt + 1, 1000 + attempt)]


def test_a_cancelled_attempt_is_not_renewed() -> None:
    book = running()
    assert book.handle(Cancel(ONE, CancelReason.EPOCH_CANCEL), 1.0) == [StopAttempt(ONE, 1)]
    (end,) = denied(book, 1)
    assert isinstance(end, End)
    assert end.reason is CancelReason.EPOCH_CANCEL


def test_without_callables_nothing_is_renewed_by_itself() -> None:
    book = FetchBook(RetryPolicy(max_retries=2))
    begin, run = book.handle(Start(request_spec()), 1.0)
    assert (type(begin), type(run)) == (Begin, Run)
    (end,) = book.handle(Ended(ONE, 1, 1000, complete=False, failure=DENIED), 1.0)
    assert isinstance(end, End)


EVENTS = st.sampled_from(["told", "refused", "denied", "broke", "lost", "over", "slot", "cancel", "landed"])


@given(st.lists(EVENTS, max_size=60))
def test_whatever_comes_it_ends_once_and_runs_only_what_was_answered(steps: list[str]) -> None:
    book = FetchBook(RetryPolicy(max_retries=3))
    spec = replace(SPEC)
    asked = ran = landed = 0
    ends = 0
    for action in book.handle(Start(spec), 0.5):
        asked = action.attempt if isinstance(action, Ask) else asked
    for step in steps:
        current = max(asked, ran)
        match step:
            case "told":
                event: object = Told(ONE, current)
            case "refused":
                event = Told(ONE, current, FORBIDDEN)
            case "denied":
                event = Ended(ONE, current, 1000 + landed, complete=False, failure=DENIED, renewable=True)
            case "broke" | "landed":
                landed += step == "landed"
                event = Ended(ONE, current, 1000 + landed, complete=False, failure=SERVER)
            case "lost":
                event = Lost(ONE, current, 1000 + landed)
            case "over":
                event = DelayOver(ONE, current)
            case "slot" if book.state(ONE) is State.QUEUED_AGAIN:
                event = Start(spec, again=True)
            case "cancel":
                event = Cancel(ONE, CancelReason.PEER_CANCEL)
            case _:
                continue
        was = book.state(ONE)
        for action in book.handle(event, 0.5):  # type: ignore[arg-type]
            match action:
                case Ask(_, attempt):
                    assert attempt > current
                    asked = attempt
                case Run(_, attempt):
                    assert (step, was, attempt) == ("told", State.ASKING, asked)
                    ran = attempt
                case End():
                    ends += 1
    assert ends == (book.state(ONE) is None)
