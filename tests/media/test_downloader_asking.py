"""The downloader asks the application's callables: what runs is what they said, and nothing that they refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from asking_kit import NO, ONE, SHOWN, TWO, URL, House

from kithara_actors.messages.commands import (
    CancelAdmitted,
    Done,
    EndRequests,
    FetchCancelled,
    FetchDone,
    Released,
    WorkerGone,
)
from kithara_actors.messages.events import RequestFailed, RequestRetrying
from kithara_actors.messages.worker import AskRedirect, AttemptEnded, RedirectJudged
from kithara_actors.values import CancelReason


@pytest.fixture
def made() -> Iterator[list[House]]:
    houses: list[House] = []
    yield houses
    for house in houses:
        house.contents.discard(house.content)
        assert len(house.contents) == 0


@pytest.fixture
def house(made: list[House]) -> House:
    made.append(House())
    return made[-1]


def judging(made: list[House], policy: Callable[[str], object] = lambda _: True) -> House:
    made.append(House(policy))
    return made[-1]


# --- Before an attempt


def test_nothing_runs_until_the_callable_has_answered(house: House) -> None:
    house.keep(headers=True)
    house.admit(headers=(("Accept", "x"), ("authorization", "old")))
    assert house.pool.take() == []
    assert house.told == []
    house.answer()
    assert house.ran() == [(1, URL, {"Accept": "x", "Authorization": "Bearer 1"})]
    house.tell(AttemptEnded(ONE, 1, 3000, True, 3000, False, False, None))
    assert house.source.take() == [FetchDone(ONE, 3000, 3000)]


def test_later_requests_of_the_source_take_the_same_way(house: House) -> None:
    house.keep(resolve=True)
    house.admit(1)
    house.answer()
    house.admit(2)
    assert house.ran() == [(1, "http://two/1", {}), (2, "http://two/1", {})]
    assert house.told == [URL]


def test_what_the_callables_raise_fails_the_request(house: House) -> None:
    house.keep(headers=True)
    house.admit()
    house.answer(failure=NO)
    assert house.failure() == replace(NO, text=f"{SHOWN}: no")
    assert isinstance(house.events.take()[-1], RequestFailed)
    assert house.pool.take() == []
    assert house.step.ask(EndRequests()) == Done(0)


@pytest.mark.parametrize("who", [None, "headers hook"])
def test_after_five_seconds_it_is_given_up(house: House, who: str | None) -> None:
    house.keep(headers=True)
    house.admit()
    house.callables.asked[0][1].label = who
    house.later(4.9)
    assert house.source.take() == []
    house.later(0.2)
    failure = house.failure()
    # Where others were in the way, it may go better the next time.
    assert (failure.kind, failure.retryable) == ("PolicyError", who is None)
    said = "no thread was free for the callables" if who is None else "headers hook did not answer"
    assert failure.text.endswith(f"{said} for {SHOWN} within 5 s")
    assert house.callables.asked[0][1].dropped
    house.answer()
    assert (house.pool.take(), house.source.take()) == ([], [])


def test_the_limit_of_a_question_that_was_answered_means_nothing(house: House) -> None:
    house.keep(headers=True)
    house.admit()
    house.answer()
    house.later(6.0)
    assert house.source.take() == []
    assert len(house.ran()) == 1


def test_a_cancel_does_not_wait(house: House) -> None:
    house.keep(headers=True)
    house.admit()
    house.tell(CancelAdmitted(ONE, CancelReason.PEER_CANCEL))
    assert house.source.take() == [FetchCancelled(ONE, 1000, CancelReason.PEER_CANCEL)]
    assert house.around["registry"].take() == [Released(ONE)]
    assert house.callables.asked[0][1].dropped
    house.answer()
    assert house.pool.take() == []


def test_at_the_end_nothing_waits_for_a_callable(house: House) -> None:
    house.keep(headers=True)
    house.admit()
    assert house.step.ask(EndRequests()) == Done(0)
    assert house.source.take() == [FetchCancelled(ONE, 1000, CancelReason.DOWNLOADER_SHUTDOWN)]


def test_a_source_that_is_gone_is_asked_nothing(house: House) -> None:
    house.admit(calls=77)
    assert house.callables.asked == []
    assert house.source.take() == [FetchCancelled(ONE, 1000, CancelReason.EPOCH_CANCEL)]


def test_a_lost_worker_asks_nothing_again(house: House) -> None:
    house.keep(headers=True)
    house.admit()
    house.answer()
    house.ran()
    house.pool.up.discard(1)
    house.tell(WorkerGone(1, 4001, "killed", 0))
    assert house.ran() == [(2, URL, {"Authorization": "Bearer 1"})]


# --- After a refusal


@pytest.mark.parametrize("status", [401, 403])
def test_headers_are_asked_for_again_once(house: House, status: int) -> None:
    house.keep(headers=True)
    house.admit()
    house.answer()
    house.denied(1, 1, status)
    pending = [each for each in house.timers.delays if each != 1.0]  # but for the looks at what runs
    assert pending == [pytest.approx(5.0)] * 2  # the limits of both questions, and no back-off
    house.answer()
    assert [headers for _, _, headers in house.ran()] == [{"Authorization": f"Bearer {at}"} for at in (1, 2)]
    (retrying,) = [event for event in house.events.take() if isinstance(event, RequestRetrying)]
    assert retrying == RequestRetrying(ONE, 1, 2, 0.0, "RENEWED")
    assert house.around["registry"].take() == []
    house.denied(1, 2, status)
    assert house.failure(gave_up=True).status == status
    assert len(house.told) == 2


@pytest.mark.parametrize(
    ("resolve", "status", "again"),
    [(True, 401, 1), (True, 403, 1), (True, 404, 1), (True, 410, 1), (True, 400, 0), (False, 404, 0), (False, 410, 0)],
)
def test_which_refusals_are_worth_another_question(house: House, resolve: bool, status: int, again: int) -> None:
    house.keep(resolve=resolve, headers=not resolve)
    house.admit()
    house.answer()
    house.denied(1, 1, status)
    assert len(house.callables.asked) == 1 + again


def test_without_callables_a_refusal_is_the_end(house: House) -> None:
    house.admit()
    assert house.ran() == [(1, URL, {})]
    house.denied(1, 1)
    assert house.failure(gave_up=True).status == 401


def test_two_requests_that_are_refused_together_ask_once(house: House) -> None:
    house.keep(headers=True)
    house.admit(1)
    house.answer()
    house.admit(2)
    house.denied(1, 1)
    house.answer()
    house.ran()
    house.denied(2, 2)
    assert house.ran() == [(4, URL, {"Authorization": "Bearer 2"})]
    assert len(house.told) == 2


# --- The policy


def test_a_policy_is_asked_about_every_attempt(made: list[House]) -> None:
    asked: list[str] = []
    house = judging(made, lambda url: asked.append(url) or True)
    house.admit()
    assert house.pool.take() == []
    house.answer()
    assert house.ran() == [(1, URL, {})]
    house.tell(WorkerGone(1, 4001, "killed", 0))
    assert house.pool.take() == []
    house.answer()
    assert house.ran() == [(2, URL, {})]
    assert asked == [URL, URL]


def test_a_policy_is_asked_about_what_was_resolved(made: list[House]) -> None:
    asked: list[str] = []
    house = judging(made, lambda url: asked.append(url) or True)
    house.keep(resolve=True)
    house.admit(1)
    house.answer()
    house.admit(2)
    assert len(house.callables.asked) == 2
    house.answer()
    assert asked == ["http://two/1", "http://two/1"]
    assert house.told == [URL]
    assert [url for _, url, _ in house.ran()] == ["http://two/1", "http://two/1"]


def redirected(house: House, attempt: int = 1) -> None:
    house.tell(AskRedirect(ONE, attempt, "http://three/?token=secret"))


def test_a_redirect_is_judged_for_the_worker_that_asks(made: list[House]) -> None:
    asked: list[str] = []
    house = judging(made, lambda url: asked.append(url) or True)
    house.admit()
    house.answer()
    house.ran()
    redirected(house)
    assert house.pool.take() == []
    house.answer()
    assert house.pool.take() == [(1, RedirectJudged(1, None))]
    redirected(house)
    house.answer(failure=NO)
    assert house.pool.take() == [(1, RedirectJudged(1, NO))]
    assert asked == [URL, "http://three/?token=secret", "http://three/?token=secret"]
    assert house.source.take() == []  # the worker says how it ends


def test_a_redirect_that_nobody_judges_in_time_is_refused(made: list[House]) -> None:
    house = judging(made)
    house.admit()
    house.answer()
    house.ran()
    redirected(house)
    house.later(5.1)
    ((worker, verdict),) = house.pool.take()
    assert (worker, verdict.attempt, verdict.failure.kind) == (1, 1, "PolicyError")
    assert "http://three/?token=…" in verdict.failure.text


def test_a_redirect_of_an_older_attempt_is_not_judged(made: list[House]) -> None:
    house = judging(made)
    house.admit()
    house.answer()
    redirected(house, attempt=9)
    house.tell(replace(AskRedirect(TWO, 1, "http://three/")))
    assert len(house.callables.asked) == 1


def test_a_request_that_ends_takes_its_questions_along(made: list[House]) -> None:
    house = judging(made)
    house.admit()
    house.answer()
    house.ran()
    redirected(house)
    house.tell(CancelAdmitted(ONE, CancelReason.PEER_CANCEL))
    house.tell(AttemptEnded(ONE, 1, 1000, False, None, False, True, None))
    assert house.callables.asked[-1][1].dropped
    house.pool.take()
    house.answer()
    assert house.pool.take() == []
