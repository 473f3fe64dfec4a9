"""A Downloader that begins anew takes over what runs, in whatever order it hears of it, and runs the rest again."""

from __future__ import annotations

from actor_kit import request_spec
from hypothesis import given
from hypothesis import strategies as st

from actors.messages.command import Command
from kithara_actors.logic.adoption import Adoption, Found, Placed
from kithara_actors.messages.records import InHand
from kithara_actors.messages.worker import AskRedirect, AttemptEnded, InFlight
from kithara_actors.values import CancelReason, RequestId

ONE, TWO = RequestId(1), RequestId(2)


def hand(request: int, reason: CancelReason | None = None) -> InHand:
    return InHand(request_spec(request), reason=reason)


def flight(request: int, attempt: int = 0) -> InFlight:
    return InFlight(RequestId(request), attempt or 10 * request, 1000)


def ended(request: int, attempt: int = 0) -> AttemptEnded:
    return AttemptEnded(RequestId(request), attempt or 10 * request, 2000, True, 2000, False, False, None)


def test_what_a_worker_runs_is_taken_over_at_once() -> None:
    adoption = Adoption({1, 2})
    adoption.readmitted([hand(1), hand(2)])
    assert adoption.place() == []
    adoption.reported(1, [flight(1)], last=True)
    assert adoption.place() == [Placed(hand(1), Found(1, flight(1)))]
    assert adoption.waiting() == [hand(2)]


def test_what_no_worker_runs_is_run_again_when_all_have_answered() -> None:
    adoption = Adoption({1, 2})
    adoption.readmitted([hand(1)])
    adoption.reported(1, [], last=True)
    assert adoption.place() == []
    adoption.gone(2)
    assert adoption.place() == [Placed(hand(1), None)]
    assert adoption.over


def test_a_report_in_parts_counts_when_it_is_whole() -> None:
    adoption = Adoption({1})
    adoption.readmitted([hand(1), hand(2)])
    adoption.reported(1, [flight(2)], last=False)
    assert adoption.place() == [Placed(hand(2), Found(1, flight(2)))]
    adoption.reported(1, [flight(1)], last=True)
    assert adoption.place() == [Placed(hand(1), Found(1, flight(1)))]


def test_the_last_words_of_an_attempt_are_not_lost() -> None:
    """Said before the question came: it is in no report, and what it did need not be done again."""
    adoption = Adoption({1})
    assert adoption.says(ONE, AskRedirect(ONE, 9, "http://two/"))
    assert adoption.says(ONE, ended(1))
    adoption.readmitted([hand(1)])
    adoption.reported(1, [], last=True)
    (placed,) = adoption.place()
    assert placed.found == Found(0, InFlight(ONE, 10, 2000), (ended(1),))


def test_words_of_an_attempt_that_runs_are_heard_after_it_is_taken_over() -> None:
    adoption = Adoption({1})
    question = AskRedirect(ONE, 10, "http://two/")
    assert adoption.says(ONE, question)
    adoption.reported(1, [flight(1)], last=True)
    assert adoption.says(ONE, ended(1))
    adoption.readmitted([hand(1)])
    assert adoption.place() == [Placed(hand(1), Found(1, flight(1), (question, ended(1))))]
    assert not adoption.says(ONE, ended(1))


def test_an_attempt_that_nobody_has_claimed_waits_for_who_does() -> None:
    """The Registry has begun anew as well: it hears of the request later."""
    adoption = Adoption({1})
    adoption.readmitted([])
    adoption.reported(1, [flight(1)], last=True)
    assert adoption.place() == []
    assert adoption.unclaimed() == [ONE]
    assert adoption.claim(ONE) == Found(1, flight(1))
    assert adoption.claim(ONE) is None
    assert adoption.over


def test_the_attempts_of_a_lost_worker_are_lost() -> None:
    adoption = Adoption({1, 2})
    adoption.reported(1, [flight(1)], last=True)
    adoption.gone(1)
    adoption.reported(2, [], last=True)
    adoption.readmitted([hand(1)])
    assert adoption.place() == [Placed(hand(1), None)]


def test_a_cancel_is_kept_until_there_is_a_place() -> None:
    adoption = Adoption({1}, unanswered=True)
    assert adoption.cancel(ONE, CancelReason.PEER_CANCEL)
    assert adoption.cancel(TWO, CancelReason.PEER_CANCEL)
    adoption.readmitted([hand(1)])
    assert adoption.late() == [(TWO, CancelReason.PEER_CANCEL)]
    adoption.reported(1, [], last=True)
    assert adoption.place() == [Placed(hand(1, CancelReason.PEER_CANCEL), None)]
    assert not adoption.cancel(ONE, CancelReason.PEER_CANCEL)


WORKERS = (1, 2, 3)


@given(
    st.dictionaries(st.integers(1, 8), st.sampled_from(["queued", "ended", *WORKERS]), max_size=8),
    st.sets(st.sampled_from(WORKERS)),
    st.data(),
)
def test_whatever_the_order_each_request_gets_one_place_and_the_right_one(
    where: dict[int, str | int], dead: set[int], data: st.DataObject
) -> None:
    """`where` each admitted request is: with a worker, in no worker, or ended a moment ago."""
    steps: list[tuple[str, int]] = [("registry", 0)]
    steps += [("gone" if worker in dead else "report", worker) for worker in WORKERS]
    adoption = Adoption(set(WORKERS), unanswered=True)
    placed: list[Placed] = []
    for request, place in where.items():
        if place == "ended":  # it was said before anything was asked
            assert adoption.says(RequestId(request), ended(request))
    for what, worker in data.draw(st.permutations(steps)):
        if what == "registry":
            adoption.readmitted(hand(request) for request in where)
        elif what == "report":
            adoption.reported(worker, [flight(each) for each, at in where.items() if at == worker], last=True)
        else:
            adoption.gone(worker)
        placed += adoption.place()
    assert sorted(each.hand.spec.request for each in placed) == sorted(where)
    assert adoption.over
    for each in placed:
        at = where[each.hand.spec.request]
        said: tuple[Command, ...] = (ended(each.hand.spec.request),) if at == "ended" else ()
        if at == "queued" or at in dead:
            assert each.found is None
        else:
            assert each.found is not None
            assert (each.found.worker, each.found.said) == (0 if at == "ended" else at, said)
