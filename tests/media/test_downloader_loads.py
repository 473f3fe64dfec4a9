"""The downloader looks at what runs: it tells what is slow once, and what each host brings; bodies stall and resume."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from actor_kit import CODEC, FakePool, Published, begun, call_spec, issued, request_spec

from actors.testing.fake_clock import FakeClock, FakeTimers
from actors.testing.step import Neighbours, Step
from kithara_actors.actor.callables import Callables
from kithara_actors.actor.downloader import Downloader
from kithara_actors.actor.enquiries import Enquiries
from kithara_actors.assets.content import ContentTable, Landing
from kithara_actors.errors import Failure
from kithara_actors.logic.fetch import FetchBook
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.messages.commands import Admitted, BackoffOver, Readmitted, WatchLoads, WorkerUp
from kithara_actors.messages.events import BodyResumed, BodyStalled, Event, FirstByte, LoadSlow
from kithara_actors.messages.records import FetchSpec, InHand
from kithara_actors.messages.worker import AttemptEnded, AttemptHeaders, AttemptsInFlight, InFlight
from kithara_actors.values import RequestId, Validator

ONE, TWO = RequestId(1), RequestId(2)
ORIGIN = "http://one:80"
SILENT = Failure("ConnectError", "nothing came", retryable=True)
KIB = 1024


class House:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.timers = FakeTimers(self.clock)
        self.events = Published()
        self.around = Neighbours(CODEC, "registry", "source-1", "downloader")
        self.pool = FakePool(CODEC)
        self.contents = ContentTable()
        self.content = self.contents.create()
        self.landing: Landing | None = None
        self.requests = issued()
        self.hosts = self.requests.hosts
        self.step = begun(self.downloader(), self.around)
        self.pool.up.add(1)
        self.step.tell(WorkerUp(1, 4001))
        self.events.take()

    def downloader(self) -> Downloader:
        """An incarnation."""
        find = self.around.find
        return Downloader(
            FetchBook(RetryPolicy(max_retries=2)),
            self.pool,
            self.contents,
            find,
            self.timers,
            self.events,
            2,
            self.clock,
            lambda: 1.0,
            requests=self.requests,
            enquiries=Enquiries(Callables(), None, find, self.timers),
            soft_timeout=2.0,
        )

    def spec(self, request: int = 1) -> FetchSpec:
        return request_spec(request, content=self.content.id, lane=request - 1)

    def admit(self, request: int = 1, *, again: bool = False) -> None:
        spec = self.spec(request)
        if not again:
            self.content.block.open_lane(spec.lane, spec.generation, spec.start)
        self.step.tell(Admitted(spec, 0.25, again=again))

    def land(self, end: int, request: int = 1) -> None:
        self.content.block.publish(request - 1, 1, end)

    def answer(self, request: int = 1, attempt: int = 1) -> None:
        self.step.tell(
            AttemptHeaders(
                RequestId(request), attempt, 206, True, None, None, Validator('"v"'), None, "", 0.02, False, True
            )
        )

    def stall(self, attempt: int, at: int) -> None:
        self.step.tell(AttemptEnded(ONE, attempt, at, False, None, True, False, SILENT, stalled=True))

    def end(self, request: int, attempt: int, at: int) -> None:
        self.step.tell(AttemptEnded(RequestId(request), attempt, at, True, at, False, False, None))

    def passes(self, seconds: float) -> list[Event]:
        """Time passes, and what the timers sent is handled; the events of it."""
        for _ in range(round(seconds * 10)):
            self.timers.advance(0.1)
            self.step.tell(*self.around["downloader"].take())
        return self.events.take()


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.contents.discard(made.content)
    if made.landing is not None:
        made.contents.discard(made.landing)


def slow(events: list[Event]) -> list[LoadSlow]:
    return [event for event in events if isinstance(event, LoadSlow)]


def test_an_answer_that_does_not_come_is_slow_once(house: House) -> None:
    """EVENT02"""
    house.admit()
    (told,) = slow(house.passes(2.5))
    assert (told.request_id, told.bytes) == (ONE, 0)
    assert 2.0 <= told.seconds < 4.0
    assert slow(house.passes(60.0)) == []


def test_a_body_that_does_not_come_is_slow_once(house: House) -> None:
    """EVENT02: also when the headers were fast."""
    house.admit()
    house.answer()
    house.land(1300)
    (told,) = slow(house.passes(10.0))
    assert (told.request_id, told.bytes) == (ONE, 300)


def test_a_long_download_is_not_slow(house: House) -> None:
    house.admit()
    house.answer()
    for second in range(1, 30):
        house.land(1000 + 40 * KIB * second)
        assert slow(house.passes(1.0)) == []


def test_a_call_that_moves_is_not_slow_and_one_that_stops_is(house: House) -> None:
    """The worker says how far it has come by the position of the descriptor; another attempt begins anew."""
    landing = house.landing = house.contents.land()
    spec = call_spec(1, content=landing.id, limit=KIB * KIB)
    house.step.tell(Admitted(spec, 0.25, again=False))
    house.answer()
    for second in range(1, 10):
        os.lseek(landing.fd, 40 * KIB * second, os.SEEK_SET)
        assert slow(house.passes(1.0)) == []
    house.step.tell(AttemptEnded(ONE, 1, 360 * KIB, False, None, True, False, SILENT))
    house.step.tell(BackoffOver(ONE, 1), Admitted(spec, 0.0, again=True))
    assert slow(house.passes(1.0)) == []  # it is still where the attempt before has left it
    for second in range(1, 5):
        os.lseek(landing.fd, 40 * KIB * second, os.SEEK_SET)
        assert slow(house.passes(1.0)) == []
    (told,) = slow(house.passes(4.0))
    assert (told.request_id, told.bytes) == (ONE, 160 * KIB)


def test_once_for_a_request_whatever_becomes_of_its_attempts(house: House) -> None:
    house.admit()
    assert len(slow(house.passes(3.0))) == 1
    house.stall(1, 1000)
    house.step.tell(BackoffOver(ONE, 1))
    house.admit(again=True)
    assert slow(house.passes(10.0)) == []


def test_once_for_a_request_whoever_watches_it(house: House) -> None:
    house.admit()
    house.answer()
    assert len(slow(house.passes(3.0))) == 1
    take_over(house)
    assert slow(house.passes(10.0)) == []


def test_what_was_taken_over_is_watched(house: House) -> None:
    house.admit()
    house.answer()
    house.passes(1.0)
    take_over(house)
    assert len(slow(house.passes(5.0))) == 1


def take_over(house: House) -> None:
    """The downloader begins anew while request 1 runs."""
    house.step = Step(house.downloader(), CODEC)
    house.around["registry"].take()
    house.step.tell(Readmitted((InHand(house.spec()),)), AttemptsInFlight(1, (InFlight(ONE, 1, 1000),), True))


def test_one_timer_for_all_and_none_when_nothing_runs(house: House) -> None:
    for request in (1, 2):
        house.admit(request)
    assert house.timers.delays == [pytest.approx(1.0)]
    house.passes(1.0)
    assert len(house.timers.delays) == 1
    for request in (1, 2):
        house.end(request, request, 3000)
    house.passes(5.0)
    assert house.timers.delays == []
    house.admit(3)
    assert len(house.timers.delays) == 1


def test_a_look_that_is_not_due_is_none(house: House) -> None:
    """The timer of an incarnation before must not begin a second row of timers."""
    house.admit()
    house.clock.advance(0.5)
    house.step.tell(WatchLoads(), WatchLoads())
    assert len(house.timers.delays) == 1


def test_hosts_are_told_of_while_and_after_they_send(house: House) -> None:
    house.admit()
    assert house.hosts.stats()[ORIGIN].running == 1
    house.answer()
    for second in (1, 2, 3):
        house.land(1000 + 125_000 * second)
        house.passes(1.0)
    host = house.hosts.stats()[ORIGIN]
    assert (host.running, host.bytes) == (1, 375_000)
    assert host.bandwidth_bps == pytest.approx(1_000_000, rel=0.1)
    assert host.ttfb == 0.02
    house.end(1, 1, 1000 + 400_000)
    host = house.hosts.stats()[ORIGIN]
    assert (host.running, host.bytes) == (0, 400_000)


def test_what_ran_before_runs_once_after_beginning_anew(house: House) -> None:
    house.admit()
    house.answer()
    house.admit(2)
    assert house.hosts.stats()[ORIGIN].running == 2
    take_over(house)
    assert house.hosts.stats()[ORIGIN].running == 1


def test_a_body_stalls_and_goes_on(house: House) -> None:
    """EVENT04"""
    house.admit()
    house.answer()
    for resume in (1, 2):
        house.events.take()
        house.stall(resume, 1002)
        (stalled,) = (event for event in house.events.take() if isinstance(event, BodyStalled))
        assert stalled == BodyStalled(ONE, 2)
        house.step.tell(BackoffOver(ONE, resume))
        house.admit(again=True)
        house.answer(attempt=resume + 1)
        house.answer(attempt=resume + 1)  # told again, as after beginning anew
        told = house.events.take()
        assert told == [FirstByte(ONE, 0.02, 206, True), BodyResumed(ONE, resume)]
    house.stall(3, 1002)
    assert [type(event).__name__ for event in house.events.take()] == ["BodyStalled", "RetryExhausted", "RequestFailed"]


def test_a_stall_that_is_told_again_is_told_once(house: House) -> None:
    house.admit()
    assert house.requests.stalled(ONE, 1)
    assert not house.requests.stalled(ONE, 1)
    assert house.requests.resumed(ONE, 1) is None
    assert house.requests.resumed(ONE, 2) == 1
    assert house.requests.resumed(ONE, 2) is None
    assert not house.requests.stalled(RequestId(999), 1)


def test_a_body_that_breaks_without_a_stall_is_not_told_as_one(house: House) -> None:
    house.admit()
    house.answer()
    house.step.tell(AttemptEnded(ONE, 1, 1002, False, None, True, False, SILENT))
    assert not [event for event in house.events.take() if isinstance(event, BodyStalled)]
