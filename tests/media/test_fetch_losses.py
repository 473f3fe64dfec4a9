"""Workers that are lost under a request: when it runs alone, when it is refused, and what clears it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_fetch_book import FATAL, KIB64, ONE, SERVER, SPEC, Book, back_off, end_of

from kithara_actors.errors import Failure, InternalError, PoisonRequest, restore
from kithara_actors.logic.fetch import (
    CLEARED,
    WORKER_LOST,
    Action,
    Ask,
    AskSlot,
    BackOff,
    Cancel,
    Cleared,
    DelayOver,
    FetchBook,
    Lost,
    Run,
    Start,
    State,
    StopAttempt,
    Told,
)
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.logic.suspicion import Blame
from kithara_actors.messages.records import Collection, FetchSpec
from kithara_actors.values import CancelReason


def lose(book: Book, blame: Blame, landed: int = 1000) -> list[Action]:
    """The worker that runs the attempt is lost."""
    return book.do(Lost(ONE, book.run.attempt, landed, blame))


def failure_of(actions: list[Action]) -> Failure:
    failure = end_of(actions).failure
    assert failure is not None
    return failure


def test_two_losses_alone_are_its_own_fault() -> None:
    book = Book()
    assert lose(book, Blame.ALONE) == [BackOff(SPEC, 1, 1, 0.0, WORKER_LOST), Run(SPEC, 2, 1000, alone=True)]
    end = end_of(lose(book, Blame.ALONE, 1001))
    assert end.failure is not None
    assert (end.failure.kind, end.failure.retryable, end.end, end.gave_up) == ("PoisonRequest", False, 1001, False)
    error = restore(end.failure)
    assert type(error) is PoisonRequest
    assert isinstance(error, InternalError)
    assert str(error) == "refused: it ended 2 worker processes, each time running alone"


def test_two_losses_in_company_make_it_run_alone_and_no_more() -> None:
    book = Book()
    assert lose(book, Blame.SHARED)[1] == Run(SPEC, 2, 1000)
    for attempt in range(3, 11):
        assert lose(book, Blame.SHARED)[1] == Run(SPEC, attempt, 1000, alone=True)
    assert failure_of(lose(book, Blame.SHARED)).kind == "InternalError"


def test_a_suspect_stays_one_over_retries_and_questions() -> None:
    book = Book()
    lose(book, Blame.ALONE)
    back_off(book.ended(1500, failure=SERVER))
    assert book.do(DelayOver(ONE, 2)) == [AskSlot(ONE)]
    assert book.do(Start(SPEC, again=True)) == [Run(SPEC, 3, 1500, alone=True)]
    asked = FetchBook(RetryPolicy(max_retries=3), asks=True)
    asked.handle(Start(SPEC), 1.0)
    asked.handle(Told(ONE, 1), 1.0)
    assert asked.handle(Lost(ONE, 1, 1000, Blame.ALONE), 1.0)[1] == Ask(SPEC, 2)
    assert asked.handle(Told(ONE, 2), 1.0) == [Run(SPEC, 2, 1000, alone=True)]


def test_a_worker_that_died_before_it_took_the_request_up_counts_little() -> None:
    """Many workers may die at once, and a request be sent from one that is dying to another; not for ever, though."""
    book = Book()
    for attempt in range(1, 10):
        assert lose(book, Blame.NONE)[1] == Run(SPEC, attempt + 1, 1000)
    assert failure_of(lose(book, Blame.NONE)).kind == "InternalError"


def test_what_landed_in_between_clears_it() -> None:
    book = Book()
    for step in range(1, 16):
        assert len(lose(book, Blame.ALONE, 1000 + step * KIB64)) == 2
    # In pieces, and over attempts, too: it is the bytes since the loss that count.
    book = Book()
    lose(book, Blame.ALONE, 5000)
    for piece in (1, 2):
        book.ended(5000 + piece * KIB64 // 2, failure=SERVER)
        book.do(DelayOver(ONE, book.run.attempt))
        book.do(Start(SPEC, again=True))
    assert not book.run.alone
    assert len(lose(book, Blame.ALONE, 5000 + KIB64)) == 2
    assert failure_of(lose(book, Blame.ALONE, 5000 + 2 * KIB64 - 1)).kind == "PoisonRequest"


def test_a_report_in_between_clears_only_what_was_forgiven() -> None:
    book = Book(100)
    for _ in range(20):
        lose(book, Blame.NONE)
        back_off(book.ended(failure=SERVER))
        book.again()
    lose(book, Blame.ALONE)
    back_off(book.ended(failure=SERVER))
    book.do(DelayOver(ONE, book.run.attempt))
    book.do(Start(SPEC, again=True))
    assert failure_of(lose(book, Blame.ALONE)).kind == "PoisonRequest"


def test_what_is_collected_again_from_the_start_clears_nothing() -> None:
    book = Book(spec=replace(SPEC, collection=Collection("collector", "GET", refuse_html=False)))
    assert lose(book, Blame.ALONE)[1] == Run(book.spec, 2, 1000, alone=True)
    back_off(book.ended(1000 + 9 * KIB64, failure=SERVER))
    book.do(DelayOver(ONE, 2))
    assert book.do(Start(SPEC, again=True)) == [Run(book.spec, 3, 1000, alone=True)]
    assert failure_of(lose(book, Blame.ALONE, 1000 + KIB64)).kind == "PoisonRequest"


# --- A suspect that runs well makes room


def test_a_suspect_that_has_landed_enough_moves_on() -> None:
    book = Book()
    lose(book, Blame.ALONE)
    assert book.do(Cleared(ONE, 2, 1000 + KIB64 - 1)) == []
    assert book.do(Cleared(ONE, 2, 1000 + KIB64)) == [StopAttempt(ONE, 2)]
    assert book.do(Cleared(ONE, 2, 1000 + 2 * KIB64)) == []
    at = 1000 + 3 * KIB64
    assert book.ended(at, cancelled=True) == [BackOff(SPEC, 2, 1, 0.0, CLEARED), Run(SPEC, 3, at)]
    assert back_off(book.ended(at, failure=SERVER)).retry == 1  # it cost no budget


@pytest.mark.parametrize(
    "spec",
    [replace(SPEC, ranged=False), replace(SPEC, collection=Collection("collector", "GET", refuse_html=False))],
    ids=["no ranges", "collected"],
)
def test_what_cannot_go_on_in_the_middle_stays_where_it_is(spec: FetchSpec) -> None:
    book = Book(spec=spec)
    lose(book, Blame.ALONE)
    assert book.do(Cleared(ONE, 2, 1000 + KIB64)) == []


def test_what_ends_before_it_is_cut_has_ended() -> None:
    def moving() -> Book:
        book = Book()
        lose(book, Blame.ALONE)
        assert book.do(Cleared(ONE, 2, 1000 + KIB64)) == [StopAttempt(ONE, 2)]
        return book

    assert end_of(moving().ended(99_999, complete=True)).failure is None
    assert end_of(moving().ended(99_999, failure=FATAL)).failure == FATAL
    book = moving()
    assert book.do(Lost(ONE, 2, 1000 + KIB64))[1] == Run(SPEC, 3, 1000 + KIB64)
    book = moving()
    assert book.do(Cancel(ONE, CancelReason.PEER_CANCEL)) == [StopAttempt(ONE, 2)]
    assert end_of(book.ended(99_999, cancelled=True)).reason is CancelReason.PEER_CANCEL
    book = moving()
    back_off(book.ended(1000 + KIB64, failure=SERVER))
    book.do(DelayOver(ONE, 2))
    book.do(Start(SPEC, again=True))
    lose(book, Blame.ALONE, 1000 + KIB64)
    assert book.do(Cleared(ONE, 4, 1000 + 2 * KIB64)) == [StopAttempt(ONE, 4)]
    book = Book()
    book.to(State.CANCELLING)
    assert book.do(Cleared(ONE, 1, 1000 + KIB64)) == []
