"""Later ranges go to where redirects have led, and back to the original when that place is none any more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from actor_kit import request_spec
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.errors import Failure
from kithara_actors.logic.fetch import (
    RENEWED,
    RETURNED,
    WORKER_LOST,
    Action,
    Answered,
    Ask,
    AskSlot,
    BackOff,
    DelayOver,
    End,
    Ended,
    FetchBook,
    Lost,
    Run,
    Start,
    Told,
)
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.messages.records import FetchSpec, Place
from kithara_actors.values import RequestId, Validator

ONE = RequestId(1)
THERE = Place("http://two/signed?until=1", bare=True)
ELSEWHERE = Place("http://three/signed?until=2", bare=True)
SERVER = Failure("StatusError", "503", retryable=True, status=503)
BROKEN = Failure("ConnectError", "broken", retryable=True)


def refused(status: int) -> Failure:
    return Failure("StatusError", str(status), status=status)


def begun(spec: FetchSpec | None = None) -> tuple[FetchBook, Run]:
    book = FetchBook(RetryPolicy(max_retries=2))
    _, run = book.handle(Start(spec or request_spec(place=THERE)), 1.0)
    assert isinstance(run, Run)
    return book, run


def ended(book: FetchBook, attempt: int, failure: Failure, end: int = 1000, **how: bool) -> list[Action]:
    return book.handle(Ended(ONE, attempt, end, complete=False, failure=failure, **how), 1.0)


def test_what_an_answer_said_holds_for_the_attempts_that_follow() -> None:
    book, run = begun(request_spec())
    assert (run.spec.place, run.spec.ranged) == (None, True)
    book.handle(Answered(ONE, 1, 9000, Validator(), ranged=False, place=THERE), 1.0)
    _, again = book.handle(Lost(ONE, 1, 2000), 1.0)
    assert isinstance(again, Run)
    assert (again.spec.place, again.spec.ranged, again.start) == (THERE, False, 2000)
    # Who was once asked without a Range is not asked with one again.
    book.handle(Answered(ONE, 2, 9000, Validator(), ranged=True, place=ELSEWHERE), 1.0)
    _, again = book.handle(Lost(ONE, 2, 3000), 1.0)
    assert isinstance(again, Run)
    assert (again.spec.place, again.spec.ranged) == (ELSEWHERE, False)


@pytest.mark.parametrize("failure", [*map(refused, (401, 403, 404, 410)), Failure("InvalidContentType", "a page")])
def test_a_place_that_is_gone_costs_no_budget(failure: Failure) -> None:
    book, run = begun()
    there, original = run.spec, replace(run.spec, place=None)
    assert there.place == THERE
    back, again = ended(book, 1, failure)
    assert back == BackOff(original, 1, 1, 0.0, RETURNED)
    assert again == Run(original, 2, 1000)
    # Once: what the original refuses as well is refused.
    (end,) = ended(book, 2, failure)
    assert isinstance(end, End)
    assert (end.failure, end.attempts) == (failure, 2)


@pytest.mark.parametrize("failure", [refused(402), refused(416), Failure("ProtocolError", "nonsense")])
def test_other_refusals_are_the_end(failure: Failure) -> None:
    book, _ = begun()
    (end,) = ended(book, 1, failure)
    assert isinstance(end, End)
    assert end.failure == failure


@pytest.mark.parametrize("failure", [SERVER, BROKEN])
def test_who_gives_nothing_is_not_asked_again_but_on_the_budget(failure: Failure) -> None:
    book, _ = begun()
    (delayed,) = ended(book, 1, failure)
    assert isinstance(delayed, BackOff)
    assert (delayed.retry, delayed.delay) == (1, 0.1)
    assert book.handle(DelayOver(ONE, 1), 1.0) == [AskSlot(ONE)]
    (run,) = book.handle(Start(delayed.spec, again=True), 1.0)
    assert isinstance(run, Run)
    assert run.spec.place is None


def test_a_place_that_gave_something_is_asked_for_the_rest() -> None:
    book, run = begun()
    (delayed,) = ended(book, 1, BROKEN, end=1500, broke=True)
    assert isinstance(delayed, BackOff)
    book.handle(DelayOver(ONE, 1), 1.0)
    assert book.handle(Start(run.spec, again=True), 1.0) == [Run(run.spec, 2, 1500)]


def test_a_lost_worker_is_not_the_fault_of_the_place() -> None:
    book, run = begun()
    assert book.handle(Lost(ONE, 1, 1000), 1.0) == [
        BackOff(run.spec, 1, 1, 0.0, WORKER_LOST),
        Run(run.spec, 2, 1000),
    ]


def test_the_callables_are_asked_after_the_original() -> None:
    book = FetchBook(RetryPolicy(max_retries=2))
    spec = request_spec(place=THERE, calls=7)
    assert book.handle(Start(spec), 1.0)[1:] == [Ask(spec, 1)]
    book.handle(Told(ONE, 1), 1.0)
    original = replace(spec, place=None)
    assert ended(book, 1, refused(403), renewable=True) == [BackOff(original, 1, 1, 0.0, RETURNED), Ask(original, 2)]
    book.handle(Told(ONE, 2), 1.0)
    assert ended(book, 2, refused(403), renewable=True) == [
        BackOff(original, 2, 1, 0.0, RENEWED),
        Ask(original, 3, renew=True),
    ]


@given(st.lists(st.sampled_from(["gone", "broke", "landed", "answered", "lost"]), max_size=80))
def test_it_ends_whatever_the_places_do(steps: list[str]) -> None:
    """The ways back cost no budget, so that something else has to bound them: bytes, or an attempt at the original."""
    book, run = begun()
    landed, attempt, free = 1000, run.attempt, 0
    place = run.spec.place
    for step in steps:
        if book.state(ONE) is None:
            break
        before = place
        match step:
            case "answered":
                book.handle(Answered(ONE, attempt, None, Validator(), place=THERE), 1.0)
                place = THERE
                continue
            case "lost":
                actions = book.handle(Lost(ONE, attempt, landed), 1.0)
            case _:
                landed += step == "landed"
                actions = ended(book, attempt, refused(403) if step == "gone" else BROKEN, end=landed)
        for action in actions:
            if isinstance(action, BackOff):
                free += action.cause == RETURNED
                assert action.cause != RETURNED or before is not None
                if action.cause not in (RETURNED, WORKER_LOST):
                    book.handle(DelayOver(ONE, attempt), 1.0)
                    (again,) = book.handle(Start(action.spec, again=True), 1.0)
                    assert isinstance(again, Run)
                    attempt, place = again.attempt, again.spec.place
            elif isinstance(action, Run):
                attempt, place = action.attempt, action.spec.place
    assert free <= 1 + steps.count("answered")
