"""Suspects run one at a time, each in a worker that has nothing else; nobody else goes there, and nobody hangs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from test_downloader import FATAL, ONE, SERVER, TWO
from ward_kit import EXTRA, FIRST, THREE, Ward

from kithara_actors.actor.quarantine import COMPANY_AFTER, PATIENCE, Quarantine
from kithara_actors.logic.suspicion import CLEARED_BY
from kithara_actors.messages.commands import (
    Admitted,
    CancelAdmitted,
    Done,
    EndRequests,
    FetchCancelled,
    FetchDone,
    FetchFailed,
    Parked,
    Released,
    Requeue,
    WorkerGone,
    WorkerRetires,
    WorkerUp,
)
from kithara_actors.messages.events import RequestFailed, RequestRetrying, WorkerLost, WorkerStarted
from kithara_actors.messages.worker import CancelAttempt
from kithara_actors.values import CancelReason


@pytest.fixture
def ward() -> Iterator[Ward]:
    made = Ward()
    yield made
    made.contents.discard(made.content)
    assert len(made.contents) == 0


# --- Who is suspect


def test_who_was_alone_runs_alone_and_is_refused_the_second_time(ward: Ward) -> None:
    ward.up(1, 2)
    ward.admit(1)
    ward.admit(2)
    assert ward.taken() == [(1, 1, 1000), (2, 2, 1000)]
    ward.events.take()
    ward.lose(1)
    assert ward.events.take() == [
        WorkerLost(1, 4001, "killed by SIGKILL", (ONE,)),
        RequestRetrying(ONE, 1, 2, 0.0, "WORKER_LOST"),
    ]
    assert ward.taken() == []  # the other has something to do
    assert ward.pool.enlisted == 1
    ward.enlisted()
    assert ward.taken() == [(EXTRA, 1, 1000)]
    assert ward.events.take() == [WorkerStarted(EXTRA, 4000 + EXTRA)]
    ward.lose(EXTRA)
    lost, failed = ward.events.take()
    assert isinstance(lost, WorkerLost)
    assert isinstance(failed, RequestFailed)
    assert (failed.request_id, failed.error.kind, failed.retryable) == (ONE, "PoisonRequest", False)
    (told,) = ward.source.take()
    assert isinstance(told, FetchFailed)
    assert told.failure.text.startswith("http://one/file?token=…: refused: it ended 2 worker processes")
    assert ward.registry.take() == [Released(ONE)]  # it had kept its slot
    assert (ward.pool.enlisted, ward.taken()) == (1, [])


def test_who_had_company_goes_on_elsewhere(ward: Ward) -> None:
    ward.up(1)
    ward.admit(1)
    ward.admit(2)
    ward.taken()
    ward.lose(1)
    ward.up(2)
    assert ward.taken() == [(2, 1, 1000), (2, 2, 1000)]
    assert ward.pool.enlisted == 0


def test_company_is_who_was_taken_up_and_has_not_ended(ward: Ward) -> None:
    """Neither who was still on the way there, nor who had been served."""
    ward.up(1)
    for request in (1, 3, 2):
        ward.admit(request)
    ward.end(3, 2, at=90_000, complete=True)
    ward.pool.take()
    ward.lose(1, untaken=1)
    ward.up(2)
    assert ward.taken() == [(2, 2, 1000)]
    ward.enlisted()
    assert ward.taken() == [(EXTRA, 1, 1000)]


def test_one_that_is_being_cancelled_is_company(ward: Ward) -> None:
    ward.up(1)
    ward.admit(1)
    ward.admit(2)
    ward.taken()
    ward.tell(CancelAdmitted(TWO, CancelReason.EPOCH_CANCEL))
    ward.lose(1)
    ward.up(2)
    assert ward.taken() == [(2, 1, 1000)]


@pytest.mark.parametrize("how", ["together", "meant"])
def test_an_accident_or_our_own_wish_is_not_held_against_who_was_alone(ward: Ward, how: str) -> None:
    ward.up(1, 2)
    ward.admit(1)
    ward.taken()
    if how == "meant":
        ward.tell(WorkerRetires(1))
    ward.lose(1, 2) if how == "together" else ward.lose(1)
    ward.up(3)
    assert [request for _, request, _ in ward.taken()] == [1]
    assert ward.pool.enlisted == 0


def test_a_worker_that_retires_gets_nothing_new_and_ends_what_it_has(ward: Ward) -> None:
    ward.up(1, 2)
    ward.admit(1)
    ward.tell(WorkerRetires(1))
    ward.admit(2)
    assert ward.taken() == [(1, 1, 1000), (2, 2, 1000)]
    ward.done(1)
    ward.done(2)
    ward.admit(3)
    assert ward.taken() == [(2, 3, 1000)]
    ward.events.take()
    ward.lose(1)
    assert ward.events.take() == []
    ward.lose(2)
    assert ward.events.take()[0] == WorkerLost(2, 4002, "killed by SIGKILL", (THREE,))


@pytest.mark.parametrize("end", ["done", "runs well"])
def test_a_lent_worker_that_retires_is_not_given_back(ward: Ward, end: str) -> None:
    ward.suspects(1)
    ward.tick(PATIENCE + 1.0)
    assert ward.taken() == [(3, 1, 1000)]
    ward.tell(WorkerRetires(3))
    ward.land(1, 1000 + CLEARED_BY)
    ward.tick()
    if end == "done":
        ward.done(1)
    ward.admit(11)
    ward.admit(12)
    assert [worker for worker, _, _ in ward.taken()] == [4, 4]


def test_accidents_again_and_again_refuse_nobody_who_was_alone(ward: Ward) -> None:
    ward.suspects(1)
    ward.enlisted()
    for worker in range(EXTRA, EXTRA + 4):
        assert ward.taken() == [(worker, 1, 1000)]
        ward.lose(worker, worker - 6)
        ward.up(worker - 4)
        ward.enlisted(worker + 1)
    assert ward.source.take() == []


# --- One at a time, in a worker of their own


def test_suspects_run_in_order_one_at_a_time_and_nobody_goes_there(ward: Ward) -> None:
    ward.suspects(1, 2, 3)
    assert (ward.taken(), ward.pool.enlisted) == ([], 1)
    ward.enlisted()
    assert ward.taken() == [(EXTRA, 1, 1000)]
    for request in (11, 12, 13, 14):
        ward.admit(request)
    assert [worker for worker, _, _ in ward.taken()] == [3, 4, 3, 4]
    ward.done(1)
    assert ward.taken() == [(EXTRA, 2, 1000)]
    ward.done(2)
    assert ward.taken() == [(EXTRA, 3, 1000)]
    ward.tick()
    assert ward.pool.discharged == []
    ward.done(3)
    ward.done(FIRST)
    ward.tick()
    assert (ward.pool.enlisted, ward.pool.discharged) == (1, [EXTRA])
    ward.events.take()
    ward.lose(EXTRA)
    assert ward.events.take() == []  # nothing was lost
    ward.tick()
    assert [delay for delay in ward.timers.delays if delay <= 0.1] == []  # nobody looks for suspects
    assert [type(each) for each in ward.source.take()] == [FetchDone] * 4


def test_the_worker_that_a_suspect_ends_is_followed_by_another(ward: Ward) -> None:
    ward.suspects(1, 2)
    ward.enlisted()
    assert ward.taken() == [(EXTRA, 1, 1000)]
    ward.land(1, 5000)
    ward.lose(EXTRA)
    assert ward.pool.enlisted == 2
    ward.enlisted(10)
    assert ward.taken() == [(10, 2, 1000)]
    ward.done(2)
    assert ward.taken() == [(10, 1, 5000)]
    ward.lose(10)
    failed = ward.source.take()[-1]
    assert isinstance(failed, FetchFailed)
    assert (failed.end, failed.failure.kind) == (5000, "PoisonRequest")


def test_a_suspect_that_fails_and_is_tried_again_is_alone_again(ward: Ward) -> None:
    ward.suspects(1)
    ward.enlisted()
    ward.taken()
    ward.end(1, ward.at[1], failure=SERVER)
    assert ward.registry.take() == [Parked(ONE)]
    ward.tick(1.0)
    assert ward.registry.take() == [Requeue(ONE)]
    assert ward.pool.discharged == [EXTRA]
    ward.tell(Admitted(ward.spec(), 0.0, again=True))
    assert (ward.taken(), ward.pool.enlisted) == ([], 2)
    ward.enlisted(10)
    assert ward.taken() == [(10, 1, 1000)]
    ward.end(1, ward.at[1], failure=FATAL)
    assert ward.named()[-1] == "RequestFailed"


@pytest.mark.parametrize("when", ["waits", "runs"])
def test_a_suspect_can_be_cancelled(ward: Ward, when: str) -> None:
    ward.suspects(1, 2)
    if when == "runs":
        ward.enlisted()
        ward.taken()
    ward.tell(CancelAdmitted(ONE, CancelReason.PEER_CANCEL))
    if when == "runs":
        assert ward.pool.take() == [(EXTRA, CancelAttempt(ward.at[1]))]
        ward.end(1, ward.at[1], at=1500, cancelled=True)
    assert ward.source.take() == [FetchCancelled(ONE, 1500 if when == "runs" else 1000, CancelReason.PEER_CANCEL)]
    assert ward.named().count("RequestCancelled") == 1
    if when == "waits":
        ward.enlisted()
    assert ward.taken() == [(EXTRA, 2, 1000)]


def test_at_the_end_suspects_end(ward: Ward) -> None:
    ward.suspects(1, 2)
    ward.enlisted()
    ward.taken()
    assert ward.step.ask(EndRequests()) == Done(2)
    assert ward.source.take() == [FetchCancelled(TWO, 1000, CancelReason.DOWNLOADER_SHUTDOWN)]
    ward.lose(EXTRA)
    ward.lose(0)
    assert [(each.request, each.reason) for each in ward.source.take()] == [  # type: ignore[attr-defined]
        (ONE, CancelReason.DOWNLOADER_SHUTDOWN),
        (FIRST, CancelReason.DOWNLOADER_SHUTDOWN),
    ]
    assert ward.step.ask(EndRequests()) == Done(0)
    assert ward.pool.enlisted == 1


def test_a_worker_that_comes_when_nobody_needs_it_any_more_is_sent_away(ward: Ward) -> None:
    ward.suspects(1)
    ward.tell(CancelAdmitted(ONE, CancelReason.PEER_CANCEL))
    ward.enlisted()
    ward.tick()
    assert ward.pool.discharged == [EXTRA]
    ward.enlisted(10)
    ward.enlisted(11)
    assert ward.pool.discharged == [EXTRA, 11]


def test_workers_that_were_there_before_are_used_but_for_extra_ones(ward: Ward) -> None:
    """Which these are the pool knows: a Downloader that has begun anew does not."""
    quarantine = Quarantine(ward.pool, ward.around.find, ward.timers, ward.clock)
    quarantine.found([1, EXTRA])
    assert ward.pool.discharged == [1, EXTRA]  # of no effect on a regular one
    quarantine.load[1] += 1
    quarantine.up(1, extra=False)  # told before it began, heard after
    quarantine.up(EXTRA, extra=True)
    quarantine.retires(EXTRA)
    assert quarantine.load == {1: 1}
    assert quarantine.gone(EXTRA)
    assert not quarantine.gone(1)


def test_an_extra_worker_that_takes_nothing_is_asked_for_anew(ward: Ward) -> None:
    ward.suspects(1)
    ward.tell(WorkerUp(EXTRA, 4009, extra=True))  # dead already
    assert (ward.taken(), ward.pool.enlisted) == ([], 2)
    ward.tell(WorkerGone(EXTRA, 4009, "gone", 0))
    ward.enlisted(10)
    assert ward.taken() == [(10, 1, 1000)]


# --- Making room


def test_a_suspect_that_runs_well_makes_room_for_who_waits(ward: Ward) -> None:
    ward.suspects(1, 2)
    ward.enlisted()
    ward.taken()
    ward.land(1, 1000 + CLEARED_BY - 1)
    ward.tick()
    assert ward.pool.take() == []
    ward.land(1, 1000 + CLEARED_BY)
    ward.tick(1.0)
    assert ward.pool.take() == [(EXTRA, CancelAttempt(ward.at[1]))]
    ward.events.take()
    ward.end(1, ward.at[1], at=1000 + CLEARED_BY, cancelled=True)
    assert ward.taken() == [(3, 1, 1000 + CLEARED_BY), (EXTRA, 2, 1000)]
    assert ward.events.take() == [RequestRetrying(ONE, 1, 2, 0.0, "CLEARED")]
    assert ward.registry.take() == []


def test_with_nobody_behind_it_a_suspect_stays_to_its_end(ward: Ward) -> None:
    ward.suspects(1)
    ward.enlisted()
    ward.taken()
    ward.land(1, 1000 + 5 * CLEARED_BY)
    ward.tick(10.0)
    assert ward.pool.take() == []
    assert ward.pool.discharged == []


# --- When no extra worker can be had


def test_after_a_while_an_idle_regular_worker_is_its_own(ward: Ward) -> None:
    ward.suspects(1, 2, 3)
    ward.tick(PATIENCE - 1.0)
    assert ward.taken() == []
    ward.tick(2.0)
    # One keeps a worker for the others: the last of the regular ones is nobody's own.
    assert ward.taken() == [(3, 1, 1000), (4, 2, 1000)]
    ward.admit(11)
    assert ward.taken() == [(4, 11, 1000)]
    ward.done(1)
    assert ward.taken() == [(3, 3, 1000)]
    ward.done(3)
    ward.admit(12)
    ward.admit(13)
    assert [worker for worker, _, _ in ward.taken()] == [3, 3]
    ward.enlisted()
    ward.tick()
    assert (ward.pool.enlisted, ward.pool.discharged) == (1, [EXTRA])


def test_a_lent_worker_is_back_when_its_suspect_runs_well(ward: Ward) -> None:
    ward.suspects(1)
    ward.tick(PATIENCE + 1.0)
    assert ward.taken() == [(3, 1, 1000)]
    ward.admit(11)
    ward.admit(12)
    assert [worker for worker, _, _ in ward.taken()] == [4, 4]
    ward.land(1, 1000 + CLEARED_BY)
    ward.tick()
    for request in (13, 14, 15):
        ward.admit(request)
    assert [worker for worker, _, _ in ward.taken()] == [3, 3, 4]
    ward.done(1)
    ward.admit(16)
    assert ward.taken() == [(3, 16, 1000)]


def test_who_dies_alone_in_a_lent_worker_is_refused_after_two(ward: Ward) -> None:
    ward.suspects(1)
    for worker in (3, 4):
        ward.tick(PATIENCE + 1.0)
        assert ward.taken() == [(worker, 1, 1000)]
        ward.lose(worker)
        ward.up(worker + 2)
    (failed,) = [each for each in ward.source.take() if isinstance(each, FetchFailed)]
    assert failed.failure.kind == "PoisonRequest"


def test_with_no_idle_worker_for_a_minute_it_has_company(ward: Ward) -> None:
    ward.suspects(1, 2)
    for request in (11, 12):
        ward.admit(request)
    ward.taken()
    ward.tick(COMPANY_AFTER - 1.0)
    assert ward.taken() == []
    ward.tick(2.0)
    assert ward.taken() == [(3, 1, 1000), (4, 2, 1000)]
    ward.lose(3)  # with 11 in it
    assert ward.taken() == [(4, 11, 1000)]
    assert ward.source.take() == []


def test_without_any_worker_it_waits_for_one_as_all_do(ward: Ward) -> None:
    ward.suspects(1)
    ward.lose(0, 3, 4)
    ward.tick(COMPANY_AFTER + 1.0)
    assert ward.taken() == []
    ward.up(5)
    assert ward.taken() == [(5, 1, 1000)]
    ward.up(6)
    assert ward.taken() == [(6, FIRST, 1000)]
