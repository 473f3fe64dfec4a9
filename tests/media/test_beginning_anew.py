"""Registry, Downloader, Collector and EventBus that begin anew, fed by hand: each learns what there is, nothing is lost
and nothing is done twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from actor_kit import CODEC, FakePool, Published, begun, request_spec

from actors.actor.address import Address
from actors.messages.codec import Codec
from actors.testing.fake_clock import FakeClock, FakeTimers
from actors.testing.step import Neighbours, Step
from kithara_actors.actor.callables import Callables
from kithara_actors.actor.downloader import Downloader
from kithara_actors.actor.enquiries import Enquiries
from kithara_actors.actor.registry import Registry
from kithara_actors.assets.content import ContentTable
from kithara_actors.assets.requests import RequestTable, Told
from kithara_actors.logic.fetch import FetchBook
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.logic.slots import SlotMap
from kithara_actors.messages.commands import (
    Admitted,
    Announce,
    CancelAdmitted,
    CancelFetch,
    Done,
    EndRequests,
    Fetch,
    FetchCancelled,
    FetchDone,
    FetchOver,
    Readmit,
    Readmitted,
    Recount,
    Recounted,
    Released,
    Requeue,
    WorkerGone,
    WorkerUp,
)
from kithara_actors.messages.events import (
    FirstByte,
    RequestCancelled,
    RequestCompleted,
    RequestEnqueued,
    RequestStarted,
)
from kithara_actors.messages.records import FetchSpec, InHand, Standing
from kithara_actors.messages.worker import (
    AttemptEnded,
    AttemptHeaders,
    AttemptsInFlight,
    CancelAttempt,
    Head,
    InFlight,
    ReportAttempts,
    RunAttempt,
)
from kithara_actors.values import Answer, CancelReason, RequestId, Validator

ONE, TWO, THREE = RequestId(1), RequestId(2), RequestId(3)
HEAD = Codec([Head])
STRONG = Validator('"v"')


# --- Registry


class Hall:
    """A registry of `slots` slots that can begin anew, and a table that has given out three ids."""

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        self.events = Published()
        self.requests = RequestTable()
        for _ in range(3):
            self.requests.create(1, "source-1")
        self.around = Neighbours(CODEC, "downloader", "source-1")
        self.downloader = self.around["downloader"]
        self.source = self.around["source-1"]
        self.step = begun(self.registry(), self.around)
        self.source.take()

    def registry(self) -> Registry:
        owners: list[Address] = [self.source]
        return Registry(
            SlotMap(self.slots, self.slots), self.around.find, self.events, self.requests, lambda: owners, FakeClock()
        )

    def anew(self) -> None:
        self.step = Step(self.registry(), CODEC)
        assert self.downloader.take() == [Recount()]


def test_a_new_registry_admits_nothing_before_it_knows_what_runs() -> None:
    hall = Hall()
    hall.step.tell(Fetch(request_spec(1)), Fetch(request_spec(2)))
    hall.downloader.take()
    hall.events.take()
    hall.anew()
    hall.step.tell(Fetch(request_spec(3)))
    assert hall.downloader.take() == []
    hall.step.tell(Recounted((InHand(request_spec(1)),)))
    assert hall.source.take() == [Announce("registry")]
    hall.step.tell(Fetch(request_spec(1)), Fetch(request_spec(2)))
    assert hall.downloader.take() == []  # the one slot is in use
    hall.step.tell(Released(ONE))
    assert hall.downloader.take() == [Admitted(request_spec(3), 0.0, again=False)]
    assert [type(event) for event in hall.events.take()] == [RequestEnqueued]  # of the third; the others were told


def test_what_a_new_registry_is_to_cancel_may_run_for_all_it_knows() -> None:
    """Its source has begun anew as well, and was faster than the downloader's answer."""
    hall = Hall()
    hall.step.tell(Fetch(request_spec(1)), Fetch(request_spec(2)))
    hall.downloader.take()
    hall.events.take()
    hall.anew()
    for request in (ONE, TWO):
        hall.step.tell(Fetch(request_spec(request)), CancelFetch(request, CancelReason.PEER_CANCEL))
    assert hall.step.ask(EndRequests()) == Done(2)
    assert (hall.downloader.take(), hall.events.take()) == ([], [])
    hall.step.tell(Recounted((InHand(request_spec(1)),)))
    # The one that runs is ended by who runs it, the other has never begun.
    assert hall.downloader.take() == [CancelAdmitted(ONE, CancelReason.PEER_CANCEL)]
    assert hall.events.take() == [RequestCancelled(TWO, 0, CancelReason.BEFORE_START)]
    assert hall.step.ask(EndRequests()) == Done(0)


def test_a_request_in_back_off_is_known_and_comes_back() -> None:
    hall = Hall()
    hall.anew()
    hall.step.tell(
        Recounted(
            (InHand(request_spec(1), Standing.PARKED), InHand(replace(request_spec(2)), standing=Standing.RETURNING))
        )
    )
    assert hall.downloader.take() == [Admitted(request_spec(2), 0.0, again=True)]
    hall.step.tell(Released(TWO), Requeue(ONE))
    assert hall.downloader.take() == [Admitted(request_spec(1), 0.0, again=True)]


def test_who_announces_what_has_ended_is_told_so() -> None:
    hall = Hall()
    hall.requests.end(ONE)
    hall.step.tell(Fetch(request_spec(1)))
    assert (hall.source.take(), hall.downloader.take(), hall.events.take()) == ([FetchOver(ONE)], [], [])


def test_a_cancel_of_an_unknown_request_goes_to_who_may_know_it() -> None:
    hall = Hall()
    hall.step.tell(CancelFetch(ONE, CancelReason.PEER_CANCEL))
    assert hall.downloader.take() == [CancelAdmitted(ONE, CancelReason.PEER_CANCEL)]


def test_a_new_downloader_is_told_what_has_a_slot_and_why_some_are_to_end() -> None:
    hall = Hall(slots=3)
    hall.step.tell(Fetch(request_spec(1)), Fetch(request_spec(2)), CancelFetch(TWO, CancelReason.PEER_CANCEL))
    hall.downloader.take()
    hall.step.tell(Readmit())
    assert hall.downloader.take() == [
        Readmitted((InHand(request_spec(1)), InHand(request_spec(2), reason=CancelReason.PEER_CANCEL)))
    ]


def test_when_both_are_new_the_registry_asks_once_more() -> None:
    hall = Hall()
    hall.anew()
    hall.step.tell(Readmit())  # what it was asked may be what the other failed on
    assert hall.downloader.take() == [Readmitted(()), Recount()]


# --- Downloader


class Yard:
    """A downloader that can begin anew, its pool, and contents that outlive it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.timers = FakeTimers(self.clock)
        self.events = Published()
        self.around = Neighbours(CODEC, "registry", "source-1", "downloader")
        self.registry = self.around["registry"]
        self.source = self.around["source-1"]
        self.pool = FakePool(CODEC)
        self.contents = ContentTable()
        self.content = self.contents.create()
        self.requests = RequestTable()
        for _ in range(3):
            self.requests.create(1, "source-1")
        self.step = begun(self.downloader(), self.around)
        self.pool.up |= {1, 2}
        self.step.tell(WorkerUp(1, 4001), WorkerUp(2, 4002))
        self.events.take()

    def downloader(self) -> Downloader:
        return Downloader(
            FetchBook(RetryPolicy(max_retries=2), attempts=iter(range(50, 99))),
            self.pool,
            self.contents,
            self.around.find,
            self.timers,
            self.events,
            2,
            self.clock,
            lambda: 1.0,
            requests=self.requests,
            enquiries=Enquiries(Callables(), None, self.around.find, self.timers),
        )

    def spec(self, request: int = 1, **changes: object) -> FetchSpec:
        return request_spec(request, **{"content": self.content.id, "lane": request, **changes})

    def admit(self, request: int = 1) -> int:
        """Admit a request: the number of its attempt."""
        spec = self.spec(request)
        self.content.block.open_lane(spec.lane, spec.generation, spec.start)
        self.step.tell(Admitted(spec, 0.0, again=False))
        (_, order), *_ = self.pool.take()
        assert isinstance(order, RunAttempt)
        return order.attempt

    def anew(self) -> None:
        self.step = Step(self.downloader(), CODEC)
        assert self.registry.take() == [Readmit()]
        assert self.pool.take() == [(worker, ReportAttempts(worker)) for worker in (1, 2)]


@pytest.fixture
def yard() -> Iterator[Yard]:
    made = Yard()
    yield made
    made.contents.discard(made.content)


def headers(request: int, attempt: int) -> AttemptHeaders:
    return AttemptHeaders(
        RequestId(request),
        attempt,
        206,
        True,
        3000,
        3000,
        STRONG,
        None,
        "http://one/file?token=secret",
        0.1,
        False,
        True,
    )


def done(request: int, attempt: int, *, cancelled: bool = False) -> AttemptEnded:
    return AttemptEnded(RequestId(request), attempt, 3000, not cancelled, 3000, False, cancelled, None)


def test_what_runs_goes_on_and_its_end_is_told_once(yard: Yard) -> None:
    attempt = yard.admit()
    yard.step.tell(headers(1, attempt))
    yard.events.take()
    yard.source.take()
    yard.anew()
    yard.step.tell(Readmitted((InHand(yard.spec()),)))
    yard.step.tell(AttemptsInFlight(1, (InFlight(ONE, attempt, 1000),), True), AttemptsInFlight(2, (), True))
    assert yard.pool.take() == []
    yard.step.tell(headers(1, attempt), done(1, attempt))
    assert isinstance(yard.source.take()[-1], FetchDone)
    assert [type(event) for event in yard.events.take()] == [RequestCompleted]  # the first byte was told before
    assert yard.registry.take() == [Released(ONE)]


def test_what_no_worker_runs_is_run_again_from_where_it_came_to(yard: Yard) -> None:
    """And with what the first answer said, so that no part of another file can follow."""
    yard.admit()
    yard.content.block.publish(1, 1, 1700)
    answer = Answer(206, True, None, STRONG, (), 0.1)
    yard.content.block.write_head(3000, 0, HEAD.encode(Head(answer)))
    yard.anew()
    yard.step.tell(Readmitted((InHand(yard.spec()),)), AttemptsInFlight(1, (), True))
    assert yard.pool.take() == []
    yard.step.tell(WorkerGone(2, 4002, "killed", 0))
    ((_, order),) = yard.pool.take()
    assert isinstance(order, RunAttempt)
    assert (order.start, order.spec.validator, order.spec.total) == (1700, STRONG, 3000)


def test_what_has_landed_whole_ends_without_another_attempt(yard: Yard) -> None:
    yard.admit()
    yard.content.block.publish(1, 1, 3000)
    yard.content.block.write_head(3000, 0, HEAD.encode(Head(Answer(206, True, None, STRONG, (), 0.1))))
    yard.anew()
    yard.step.tell(Readmitted((InHand(yard.spec()),)), *(AttemptsInFlight(worker, (), True) for worker in (1, 2)))
    assert (yard.pool.take(), yard.source.take()) == ([], [FetchDone(ONE, 3000, 3000)])


def test_an_end_that_was_said_before_is_heard_after(yard: Yard) -> None:
    attempt = yard.admit()
    yard.anew()
    yard.step.tell(done(1, attempt), *(AttemptsInFlight(worker, (), True) for worker in (1, 2)))
    yard.step.tell(Readmitted((InHand(yard.spec()),)))
    assert (yard.pool.take(), yard.source.take()) == ([], [FetchDone(ONE, 3000, 3000)])


def test_a_request_that_was_to_end_is_ended(yard: Yard) -> None:
    attempt = yard.admit()
    yard.anew()
    yard.step.tell(Readmitted((InHand(yard.spec(), reason=CancelReason.PEER_CANCEL),)))
    yard.step.tell(AttemptsInFlight(1, (InFlight(ONE, attempt, 1000),), True))
    assert yard.pool.take() == [(1, CancelAttempt(attempt))]
    yard.step.tell(done(1, attempt, cancelled=True))
    assert isinstance(yard.source.take()[-1], FetchCancelled)


def test_an_attempt_of_a_request_that_has_ended_is_stopped(yard: Yard) -> None:
    attempt = yard.admit()
    yard.requests.end(ONE)
    yard.anew()
    yard.step.tell(Readmitted(()), AttemptsInFlight(1, (InFlight(ONE, attempt, 1000),), True))
    assert yard.pool.take() == [(1, CancelAttempt(attempt))]


def test_an_attempt_waits_for_a_registry_that_is_new_too(yard: Yard) -> None:
    attempt = yard.admit()
    yard.events.take()
    yard.anew()
    yard.step.tell(Readmitted(()), *(AttemptsInFlight(2, (), True),))
    yard.step.tell(AttemptsInFlight(1, (InFlight(ONE, attempt, 1000),), True))
    assert yard.pool.take() == []
    yard.step.tell(Admitted(yard.spec(), 0.0, again=False), done(1, attempt))
    assert (yard.pool.take(), yard.source.take()) == ([], [FetchDone(ONE, 3000, 3000)])
    assert not [event for event in yard.events.take() if isinstance(event, RequestStarted)]


def test_when_both_are_new_a_request_goes_on_with_what_was_answered(yard: Yard) -> None:
    """Begun from its start it could put another version of the file behind what has landed."""
    yard.admit()
    yard.content.block.publish(1, 1, 1700)
    yard.content.block.write_head(3000, 0, HEAD.encode(Head(Answer(206, True, None, STRONG, (), 0.1))))
    yard.anew()
    yard.step.tell(Readmitted(()), AttemptsInFlight(1, (), True), Admitted(yard.spec(), 0.0, again=False))
    assert yard.pool.take() == []  # it may run in the other worker
    yard.step.tell(AttemptsInFlight(2, (), True))
    ((_, order),) = yard.pool.take()
    assert isinstance(order, RunAttempt)
    assert (order.start, order.spec.validator, order.spec.total) == (1700, STRONG, 3000)


def test_a_registry_that_begins_anew_is_not_waited_for(yard: Yard) -> None:
    """What was asked may be what it failed on."""
    yard.anew()
    yard.step.tell(CancelAdmitted(TWO, CancelReason.PEER_CANCEL), Recount())
    assert yard.registry.take() == [Released(TWO), Recounted(())]
    yard.step.tell(*(AttemptsInFlight(worker, (), True) for worker in (1, 2)))
    assert yard.step.ask(EndRequests()) == Done(0)


def test_a_request_that_nobody_knows_any_more_ends_when_it_is_cancelled(yard: Yard) -> None:
    yard.anew()
    yard.step.tell(CancelAdmitted(TWO, CancelReason.PEER_CANCEL))
    assert yard.source.take() == []  # the registry may know of it
    yard.step.tell(Readmitted(()))
    assert yard.source.take() == [FetchCancelled(TWO, 0, CancelReason.BEFORE_START)]
    assert yard.events.take() == [RequestCancelled(TWO, 0, CancelReason.BEFORE_START)]
    assert yard.registry.take() == [Released(TWO)]


def test_one_that_was_started_and_is_known_no_more_ends_for_its_own_reason(yard: Yard) -> None:
    assert yard.requests.once(TWO, Told.STARTED)
    yard.anew()
    yard.step.tell(CancelAdmitted(TWO, CancelReason.PEER_CANCEL), Readmitted(()))
    assert yard.events.take() == [RequestCancelled(TWO, 0, CancelReason.PEER_CANCEL)]


def test_one_whose_admission_was_lost_is_told_as_started_all_the_same(yard: Yard) -> None:
    """Once, before anything else is told of it."""
    yard.anew()
    spec = yard.spec()
    yard.content.block.open_lane(spec.lane, spec.generation, spec.start)
    yard.step.tell(Readmitted((InHand(spec),)), *(AttemptsInFlight(worker, (), True) for worker in (1, 2)))
    assert yard.events.take() == [RequestStarted(ONE, 0.0)]
    yard.pool.take()
    yard.anew()
    yard.step.tell(Readmitted((InHand(spec),)), *(AttemptsInFlight(worker, (), True) for worker in (1, 2)))
    assert yard.events.take() == []


def test_a_slot_told_again_changes_nothing(yard: Yard) -> None:
    yard.admit()
    yard.step.tell(Admitted(yard.spec(), 0.0, again=True))
    assert yard.pool.take() == []


def test_a_worker_that_retires_still_gets_nothing_new(yard: Yard) -> None:
    yard.pool.leaving.add(1)
    yard.anew()
    yard.step.tell(Readmitted(()), *(AttemptsInFlight(worker, (), True) for worker in (1, 2)))
    for request in (1, 2, 3):
        spec = yard.spec(request)
        yard.content.block.open_lane(spec.lane, spec.generation, spec.start)
        yard.step.tell(Admitted(spec, 0.0, again=False))
    assert [worker for worker, _ in yard.pool.take()] == [2, 2, 2]


def test_a_new_registry_is_told_what_is_here(yard: Yard) -> None:
    yard.admit()
    yard.registry.take()
    yard.step.tell(Recount())
    assert yard.registry.take() == [Recounted((InHand(yard.spec()),))]


def test_first_bytes_of_two_attempts_are_two(yard: Yard) -> None:
    attempt = yard.admit()
    yard.events.take()
    yard.step.tell(headers(1, attempt), headers(1, attempt))
    assert [type(event) for event in yard.events.take()] == [FirstByte]
