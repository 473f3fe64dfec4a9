"""One-off requests on the way of all others: High/High, each attempt from the start, their owner told of the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from actor_kit import CODEC, FakePool, Published, begun, call_spec, issued, request_spec
from hypothesis import given
from hypothesis import strategies as st
from slot_kit import Desk

from actors.testing.fake_clock import FakeClock, FakeTimers
from actors.testing.step import Neighbours
from kithara_actors.actor.callables import Callables
from kithara_actors.actor.downloader import Downloader
from kithara_actors.actor.enquiries import Enquiries
from kithara_actors.actor.registry import Registry
from kithara_actors.assets.content import ContentTable
from kithara_actors.errors import Failure
from kithara_actors.logic import fetch
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.logic.slots import SlotMap
from kithara_actors.messages.commands import (
    Admitted,
    CancelFetch,
    CollectedHead,
    Fetch,
    FetchCancelled,
    FetchDone,
    FetchFailed,
    SetPriority,
    WorkerGone,
    WorkerUp,
)
from kithara_actors.messages.events import FirstByte, RequestCompleted, RequestEnqueued, RequestFailed, Scope
from kithara_actors.messages.worker import (
    AttemptEnded,
    AttemptHeaders,
    AttemptsInFlight,
    ReportAttempts,
    RunAttempt,
)
from kithara_actors.values import CancelReason, FetchKind, Priority, RequestId, Validator

ONE, TWO = RequestId(1), RequestId(2)
BROKEN = Failure("ConnectError", "broken", retryable=True)


# --- Admission


def test_calls_are_peers_of_the_highest_class() -> None:
    slots = Desk(1, 1)
    slots.submit(request_spec(1))
    slots.prioritize("source-1", Priority.HIGH)
    for request in (2, 3):
        slots.submit(request_spec(request, peer="source-1", kind=FetchKind.READ_AHEAD))
    slots.submit(request_spec(4, peer="source-2"))
    for request in (5, 6):
        slots.submit(call_spec(request))
    slots.submit(request_spec(7, peer="source-1"))
    assert slots.map.queued[Priority.HIGH, Priority.HIGH] == 3
    order = []
    running = [1]
    while running:
        running = [spec.request for spec in slots.finish(running[0])]
        order += running
    assert order == [5, 6, 7, 2, 3, 4]


def test_one_peer_with_many_calls_takes_turns_with_the_others() -> None:
    """A batch is one peer: what a stream waits for comes after one of its calls, not after all."""
    slots = Desk(1, 1)
    slots.submit(call_spec(1, peer="batch"))
    for request in range(2, 100):
        slots.submit(call_spec(request, peer="batch"))
    slots.prioritize("source-1", Priority.HIGH)
    slots.submit(request_spec(100))
    slots.submit(call_spec(101))
    order, running = [], [1]
    for _ in range(4):
        running = [spec.request for spec in slots.finish(running[0])]
        order += running
    assert 100 in order
    assert 101 in order


def test_a_call_that_is_cancelled_in_the_queue_ends_at_its_owner() -> None:
    events, around = Published(), Neighbours(CODEC, "collector", "downloader", "call:2")
    registry = begun(Registry(SlotMap(1, 1), around.find, events, issued(), list, FakeClock()), around)
    registry.tell(Fetch(call_spec(1)), Fetch(call_spec(2, "HEAD")), CancelFetch(TWO, CancelReason.PEER_CANCEL))
    assert around["collector"].take() == [FetchCancelled(TWO, 0, CancelReason.BEFORE_START)]
    assert around["call:2"].take() == []
    told = [(event, scope) for event, scope in events.take_with_scopes() if isinstance(event, RequestEnqueued)]
    assert [(event.method, event.priority, scope) for event, scope in told] == [
        ("GET", Priority.HIGH, Scope()),
        ("HEAD", Priority.HIGH, Scope()),
    ]
    registry.tell(SetPriority("call:1", Priority.LOW), CancelFetch(ONE, CancelReason.PEER_CANCEL))
    assert isinstance(around["downloader"].take()[0], Admitted)


# --- Attempts


class Life:
    """The book with one call under way."""

    def __init__(self, retries: int = 2, **changes: Any) -> None:
        self.book = fetch.FetchBook(RetryPolicy(max_retries=retries))
        self.spec = call_spec(**changes)
        self.run = self.do(fetch.Start(self.spec))[-1]

    def do(self, event: fetch.Event) -> list[Any]:
        return self.book.handle(event, 1.0)

    def again(self) -> None:
        self.do(fetch.DelayOver(ONE, self.run.attempt))
        (self.run,) = self.do(fetch.Start(self.spec, again=True))


def test_a_retry_begins_at_the_start_and_pins_nothing() -> None:
    life = Life(start=1000, end=2000, ranged=True)
    life.do(fetch.Answered(ONE, 1, 9000, Validator('"v"')))
    (delayed,) = life.do(fetch.Ended(ONE, 1, 1500, complete=False, failure=BROKEN, broke=True))
    assert isinstance(delayed, fetch.BackOff)
    life.again()
    assert life.run == fetch.Run(life.spec, 2, 1000)
    assert life.do(fetch.Ended(ONE, 2, 1200, complete=True)) == [fetch.End(life.spec, 1200, attempts=2)]


def test_after_a_lost_worker_too() -> None:
    life = Life()
    life.do(fetch.Answered(ONE, 1, 10, Validator()))
    _, again = life.do(fetch.Lost(ONE, 1, 10))
    assert again == fetch.Run(life.spec, 2, 0)


@pytest.mark.parametrize("size", [0, 10, 10_000_000])
def test_bytes_that_are_thrown_away_renew_no_budget(size: int) -> None:
    """Or a body that breaks after 64 KiB each time would be asked for for ever."""
    life = Life(retries=2)
    for attempt in (1, 2):
        (action,) = life.do(fetch.Ended(ONE, attempt, size, complete=False, failure=BROKEN, broke=True))
        assert isinstance(action, fetch.BackOff)
        life.again()
    (end,) = life.do(fetch.Ended(ONE, 3, size, complete=False, failure=BROKEN, broke=True))
    assert end.failure.kind == "RetryExhausted"
    assert (end.end, end.attempts) == (size, 3)


def test_nothing_is_complete_before_its_worker_says_so() -> None:
    """A length that was announced is of the coded body, or of one that HEAD does not bring."""
    for ended in (
        fetch.Ended(ONE, 1, 0, complete=False, failure=BROKEN),
        fetch.Ended(ONE, 1, 5, complete=False, failure=BROKEN),
    ):
        life = Life(end=5, ranged=True)
        life.do(fetch.Answered(ONE, 1, 0, Validator()))
        (action,) = life.do(ended)
        assert isinstance(action, fetch.BackOff)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 200_000)), max_size=20))
def test_every_attempt_is_for_all_of_it_and_there_is_one_end(reports: list[tuple[bool, int]]) -> None:
    life = Life(retries=3)
    ends = []
    for lost, size in reports:
        event: fetch.Event
        if lost:
            event = fetch.Lost(ONE, life.run.attempt, size)
        else:
            event = fetch.Ended(ONE, life.run.attempt, size, complete=False, failure=BROKEN, broke=True)
        actions = life.do(event)
        ends += [action for action in actions if isinstance(action, fetch.End)]
        if ends:
            break
        if isinstance(actions[-1], fetch.Run):
            life.run = actions[-1]
        else:
            life.again()
        assert life.run.start == 0
    assert len(ends) == (0 if life.book.requests() else 1)
    assert not life.book.requests() or sum(not lost for lost, _ in reports) <= 3


class House:
    """The Downloader with one worker and one content."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.events = Published()
        self.around = Neighbours(CODEC, "registry", "collector", "downloader", "call:1")
        self.pool = FakePool(CODEC)
        self.pool.up.update({1, 2})
        self.contents = ContentTable()
        self.content = self.contents.land()
        timers = FakeTimers(self.clock)
        self.step = begun(
            Downloader(
                fetch.FetchBook(RetryPolicy(max_retries=0)),
                self.pool,
                self.contents,
                self.around.find,
                timers,
                self.events,
                0,
                self.clock,
                lambda: 1.0,
                requests=issued(),
                enquiries=Enquiries(Callables(), None, self.around.find, timers),
            ),
            self.around,
        )
        self.spec = call_spec(content=self.content.id)
        assert self.pool.take() == [(worker, ReportAttempts(worker)) for worker in (1, 2)]
        self.step.tell(*(AttemptsInFlight(worker, (), last=True) for worker in (1, 2)))
        self.step.tell(WorkerUp(1, 4001), WorkerUp(2, 4002), Admitted(self.spec, 0.0, again=False))


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.contents.discard(made.content)


def test_a_worker_gets_the_data_alone_and_the_owner_hears_of_it(house: House) -> None:
    assert house.pool.take() == [(1, RunAttempt(1, 0, house.spec))]
    assert house.pool.descriptors[-1] == (house.content.fd,)
    headers = (("Content-Type", "text/plain"),)
    head = AttemptHeaders(ONE, 1, 200, False, 5, 5, Validator(), None, "http://two/", 0.1, False, True, headers)
    house.events.take()
    house.step.tell(head, AttemptEnded(ONE, 1, 5, True, None, False, False, None))
    first, done = house.events.take()
    assert first == FirstByte(ONE, 0.1, 200, partial=False)
    assert isinstance(done, RequestCompleted)
    assert house.around["collector"].take() == [
        CollectedHead(ONE, 200, False, 5, "http://two/", headers),
        FetchDone(ONE, 5, None),
    ]
    assert house.around["call:1"].take() == []


def head_of(attempt: int, status: int = 200) -> AttemptHeaders:
    return AttemptHeaders(ONE, attempt, status, False, 5, 5, Validator(), None, "http://two/", 0.1, False, True, ())


def test_a_head_that_comes_with_the_end_is_told_with_it(house: House) -> None:
    house.events.take()
    house.step.tell(AttemptEnded(ONE, 1, 5, True, None, False, False, None, head=head_of(1)))
    assert house.around["collector"].take() == [CollectedHead(ONE, 200, False, 5, "http://two/", (), 5)]
    first, done = house.events.take()
    assert first == FirstByte(ONE, 0.1, 200, partial=False)
    assert isinstance(done, RequestCompleted)
    assert done.bytes == 5


@pytest.mark.parametrize("early", [True, False])
def test_the_head_of_a_failed_attempt_is_not_told_with_the_end_of_the_next(house: House, early: bool) -> None:
    """The first is cut for an incarnation that is gone; the second is answered otherwise."""
    house.step.tell(AttemptEnded(ONE, 1, 3, False, None, False, True, None, head=head_of(1)))
    if early:
        house.step.tell(head_of(2, 203), AttemptEnded(ONE, 2, 5, True, None, False, False, None))
        told = house.around["collector"].take()
        assert told == [CollectedHead(ONE, 203, False, 5, "http://two/", ()), FetchDone(ONE, 5, None)]
    else:
        house.step.tell(AttemptEnded(ONE, 2, 5, True, None, False, False, None, head=head_of(2, 203)))
        assert house.around["collector"].take() == [CollectedHead(ONE, 203, False, 5, "http://two/", (), 5)]


def test_a_failure_reaches_the_owner_with_its_url_and_the_system_hears_of_it(house: House) -> None:
    house.events.take()
    failure = Failure("StatusError", "the server answered 503", retryable=True, status=503)
    house.step.tell(AttemptEnded(ONE, 1, 0, False, None, False, False, failure, 503, 0.25))
    (first, _), (event, scope) = house.events.take_with_scopes()
    assert first == FirstByte(ONE, 0.25, 503, partial=False)
    assert isinstance(event, RequestFailed)
    assert (event.retryable, event.error.kind, scope) == (True, "StatusError", Scope())
    (failed,) = house.around["collector"].take()
    assert isinstance(failed, FetchFailed)
    assert failed.failure.text == "http://one/file?token=…: the server answered 503"


def test_a_lost_worker_landed_nothing_that_counts(house: House) -> None:
    house.step.tell(WorkerGone(1, 4001, "killed", 1))
    # The other worker is idle.
    assert house.pool.take() == [(1, RunAttempt(1, 0, house.spec)), (2, RunAttempt(2, 0, house.spec))]
