"""The callables of one source are never called twice at a time: all its requests wait for the one answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from asking_kit import NO, ONE, URL, House
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.messages.commands import CancelAdmitted, FetchCancelled, FetchFailed
from kithara_actors.messages.records import Place
from kithara_actors.messages.worker import AttemptEnded, CancelAttempt, RunAttempt
from kithara_actors.values import CancelReason, RequestId

FRESH = {"Authorization": "Bearer 1"}
RENEWED = {"Authorization": "Bearer 2"}


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    made.keep(headers=True)
    yield made
    close(made)


def close(house: House) -> None:
    """Nothing may be remembered of requests that have ended."""
    house.contents.discard(house.content)
    for name in ("_pending", "_finding", "_taken"):
        assert not getattr(house.enquiries, name), name


def cancel(house: House, *requests: int) -> None:
    for request in requests:
        house.tell(CancelAdmitted(RequestId(request), CancelReason.EPOCH_CANCEL))


def over(house: House, request: int, attempt: int) -> None:
    house.tell(AttemptEnded(RequestId(request), attempt, 3000, True, 3000, False, False, None))


def test_two_first_requests_ask_once(house: House) -> None:
    house.admit(1)
    house.admit(2)
    assert len(house.callables.asked) == 1
    house.answer()
    assert house.ran() == [(1, URL, FRESH), (2, URL, FRESH)]
    over(house, 1, 1)
    over(house, 2, 2)


def test_two_that_are_refused_ask_once_also_while_the_question_is_open(house: House) -> None:
    house.admit(1)
    house.answer()
    house.admit(2)
    house.ran()
    house.denied(1, 1)
    house.denied(2, 2)
    assert len(house.callables.asked) == 2
    house.answer()
    assert house.ran() == [(3, URL, RENEWED), (4, URL, RENEWED)]
    assert len(house.told) == 2
    over(house, 1, 3)
    over(house, 2, 4)


def test_a_new_request_waits_for_a_renewal_that_is_under_way(house: House) -> None:
    house.admit(1)
    house.answer()
    house.ran()
    house.denied(1, 1)
    house.admit(2)
    assert house.pool.take() == []
    house.answer()
    assert [headers for _, _, headers in house.ran()] == [RENEWED, RENEWED]
    over(house, 1, 2)
    over(house, 2, 3)


def test_what_went_wrong_is_told_to_all(house: House) -> None:
    house.admit(1)
    house.admit(2)
    house.later(5.1)
    for end in house.source.take():
        assert isinstance(end, FetchFailed)
        assert end.failure.kind == "PolicyError"
    assert house.callables.asked[0][1].dropped


def test_one_that_leaves_does_not_take_the_question_along(house: House) -> None:
    house.admit(1)
    house.admit(2)
    cancel(house, 1)
    assert house.source.take() == [FetchCancelled(ONE, 1000, CancelReason.EPOCH_CANCEL)]
    assert not house.callables.asked[0][1].dropped
    house.answer()
    assert house.ran() == [(2, URL, FRESH)]
    over(house, 2, 2)


def test_each_has_its_own_five_seconds(house: House) -> None:
    house.callables.hangs = True
    house.admit(1)
    house.later(3.0)
    house.admit(2)
    house.later(3.0)
    (failed,) = house.source.take()
    assert isinstance(failed, FetchFailed)
    assert failed.request == ONE
    house.answer()
    assert house.ran() == [(2, URL, FRESH)]
    over(house, 2, 2)


@pytest.mark.parametrize("leaves", [lambda house: house.later(5.1), lambda house: cancel(house, 1)])
def test_a_callable_that_still_runs_is_not_called_again(house: House, leaves: Callable[[House], None]) -> None:
    """A seek while a token is fetched, or a token that takes too long: what comes next has use for the answer."""
    house.callables.hangs = True
    house.admit(1)
    leaves(house)
    house.admit(2)
    assert len(house.callables.asked) == 1
    house.answer()
    assert house.ran() == [(2, URL, FRESH)]
    over(house, 2, 2)


def test_an_answer_that_nobody_waits_for_is_good_for_the_next(house: House) -> None:
    house.callables.hangs = True
    house.admit(1)
    cancel(house, 1)
    house.answer()
    house.admit(2)
    assert house.ran() == [(2, URL, FRESH)]
    over(house, 2, 2)


def test_a_question_that_waited_in_vain_is_asked_anew(house: House) -> None:
    house.admit(1)
    cancel(house, 1)
    house.admit(2)
    assert len(house.callables.asked) == 2
    house.answer()
    assert house.ran() == [(2, URL, FRESH)]
    over(house, 2, 2)


def test_two_sources_do_not_wait_for_each_other(house: House) -> None:
    house.admit(1)
    first = house.calls
    house.keep(headers=True)
    assert first is not house.calls
    house.admit(2)
    assert len(house.callables.asked) == 2
    house.answer()
    assert [attempt for attempt, _, _ in house.ran()] == [2]
    house.answer(0)
    over(house, 1, 1)
    over(house, 2, 2)


# --- Where redirects have led


def led(url: str, *, bare: bool = False) -> Place:
    return Place(url, bare)


def test_who_joins_on_the_way_elsewhere_is_judged_there() -> None:
    """The first has not been anywhere yet; what the policy said of its URL is not good for the place of another."""
    asked: list[str] = []
    house = House(lambda url: asked.append(url) or True)
    house.keep(headers=True)
    house.admit(1)
    house.admit(2, place=led("http://one/three"))
    house.admit(3, place=led("http://one/four"))
    house.answer()
    assert house.ran() == [(1, URL, FRESH)]
    house.answer(-2, NO)
    house.answer(-1)
    assert house.ran() == [(3, "http://one/four", FRESH)]
    assert asked == [URL, "http://one/three", "http://one/four"]
    assert house.failure().kind == "PolicyError"
    assert len(house.told) == 1
    over(house, 1, 1)
    over(house, 3, 3)
    close(house)


def test_headers_of_a_renewed_way_are_not_told_to_the_place_of_the_old_one() -> None:
    """Signed URLs may lead from one host to another, and each has its own credentials."""
    house = House()
    house.calls = house.callables.keep(lambda _: {"Authorization": "for two", "Accept": "*/*"}, lambda _: "http://two/")
    house.admit(1, place=led("http://one/place"))
    house.admit(2, place=led("http://two/place"))
    house.answer()
    assert house.ran() == [
        (1, "http://one/place", {"Accept": "*/*"}),
        (2, "http://two/place", {"Authorization": "for two", "Accept": "*/*"}),
    ]
    over(house, 1, 1)
    over(house, 2, 2)
    close(house)


@given(st.lists(st.sampled_from(["admit", "answer", "cancel", "late", "deny", "hang"]), max_size=40))
def test_whatever_comes_one_question_is_open_and_nothing_is_remembered(steps: list[str]) -> None:
    house = House()
    house.keep(headers=True)
    live: dict[int, int] = {}
    answered = request = 0
    for step in steps:
        request += step == "admit"
        match step:
            case "admit":
                house.admit(request, lane=request % 8)
                live[request] = 0
            case "answer" if len(house.callables.asked) > answered:
                answered = len(house.callables.asked)
                house.answer()
            case "cancel" if live:
                cancel(house, min(live))
            case "late":
                house.later(5.1)
            case "deny":
                for one, attempt in list(live.items()):
                    if attempt:
                        live[one] = 0
                        house.denied(one, attempt)
            case "hang":
                house.callables.hangs = True
        for _, command in house.pool.take():
            match command:
                case RunAttempt(attempt, _, spec):
                    live[spec.request] = attempt
                case CancelAttempt(attempt):
                    (one,) = (one for one, runs in live.items() if runs == attempt)
                    house.tell(AttemptEnded(RequestId(one), attempt, 1000, False, None, False, True, None))
        for end in house.source.take():
            del live[end.request]
        waiting = [question for _, question, _ in house.callables.asked[answered:] if not question.dropped]
        assert len(waiting) <= 1
    cancel(house, *live)
    for one, attempt in live.items():
        house.tell(AttemptEnded(RequestId(one), attempt, 1000, False, None, False, True, None))
    if len(house.callables.asked) > answered:
        house.answer()
    assert len(house.source.take()) == len(live)
    close(house)
