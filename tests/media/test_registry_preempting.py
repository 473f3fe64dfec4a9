"""The registry finds out at the right moment who waits, and has the transfer cut that is needed last."""

from __future__ import annotations

from dataclasses import replace

import pytest
from actor_kit import CODEC, Published, begun, issued, request_spec

from actors.messages.command import Command
from actors.testing.fake_clock import FakeClock, FakeTimers
from actors.testing.step import Neighbours, Step
from kithara_actors.actor.registry import Registry
from kithara_actors.logic.slots import SlotMap
from kithara_actors.logic.slots_steps import Lead, Review
from kithara_actors.messages.commands import (
    Admitted,
    Announce,
    Fetch,
    Parked,
    Preempt,
    Readmit,
    Readmitted,
    Reconsider,
    Recount,
    Recounted,
    Released,
    Requeue,
)
from kithara_actors.messages.records import FetchSpec, InHand, Standing
from kithara_actors.values import FetchKind, RequestId

ONE, TWO, THREE = RequestId(1), RequestId(2), RequestId(3)
AFTER = 0.5


class House:
    """A registry of two slots, both of transfers that are ahead: the first by more."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.timers = FakeTimers(self.clock)
        self.around = Neighbours(CODEC, "downloader", "source-1", "registry")
        self.downloader = self.around["downloader"]
        self.requests = issued()
        self.waited: tuple[RequestId, ...] = ()
        self.asked: list[list[RequestId]] = []
        self.step = begun(self.make(), self.around)
        self.tell(Fetch(request_spec(1)), Fetch(request_spec(2)))
        self.downloader.take()
        self.around["source-1"].take()

    def make(self) -> Registry:
        return Registry(
            SlotMap(2, 2, preempt_after=AFTER),
            self.around.find,
            Published(),
            self.requests,
            lambda: [self.around["source-1"]],
            self.clock,
            timers=self.timers,
            leads=self.look,
        )

    def look(self, running: list[FetchSpec], now: float) -> Review:
        assert now == self.clock()
        self.asked.append([spec.request for spec in running])
        leads = tuple(Lead(spec.request, 1000 // spec.request, 5000) for spec in running)
        return Review(self.waited, tuple(lead for lead in leads if lead.request not in self.waited))

    def tell(self, *commands: Command) -> None:
        self.step.tell(*commands)

    def pass_time(self, seconds: float) -> None:
        """Timers go off, and their commands come to the registry."""
        self.timers.advance(seconds)
        self.tell(*self.around["registry"].take())

    def anew(self) -> None:
        self.step = Step(self.make(), CODEC)
        assert self.downloader.take() == [Recount()]


@pytest.fixture
def house() -> House:
    return House()


def test_who_waits_gets_the_slot_when_its_time_has_come(house: House) -> None:
    house.tell(Fetch(request_spec(3)))
    house.waited = (THREE,)
    house.pass_time(AFTER - 0.01)
    assert (house.asked, house.downloader.take()) == ([], [])
    house.pass_time(0.01)
    assert (house.asked, house.downloader.take()) == ([[ONE, TWO]], [Preempt(ONE)])
    house.tell(Parked(ONE), Requeue(ONE))
    assert house.downloader.take() == [Admitted(request_spec(3), AFTER, again=False)]
    house.tell(Released(TWO))
    assert house.downloader.take() == [Admitted(request_spec(1), 0.0, again=True)]


def test_somebody_who_comes_to_wait_later_is_found_out(house: House) -> None:
    house.tell(Fetch(request_spec(3, kind=FetchKind.READ_AHEAD)))
    for _ in range(4):
        house.pass_time(AFTER)
    assert (len(house.asked), house.downloader.take()) == (4, [])
    house.waited = (THREE,)
    house.pass_time(AFTER)
    assert house.downloader.take() == [Preempt(ONE)]


def test_nobody_looks_when_nothing_is_queued(house: House) -> None:
    house.tell(Fetch(request_spec(3)), Released(ONE))
    for _ in range(4):
        house.pass_time(AFTER)
    assert len(house.asked) == 1  # the one that was due already
    house.tell(Reconsider())
    assert len(house.asked) == 1


def test_what_is_needed_more_than_before_counts_as_that(house: House) -> None:
    """A source says again what it wants when somebody waits for what was read ahead."""
    for number in (3, 4):
        house.tell(Fetch(request_spec(number, kind=FetchKind.READ_AHEAD, peer="source-1")))
    house.tell(Fetch(request_spec(4)))
    house.tell(Released(ONE))
    assert house.downloader.take() == [Admitted(request_spec(4), 0.0, again=False)]


# --- Beginning anew in the middle of it


def test_a_downloader_that_begins_anew_is_told_again(house: House) -> None:
    house.tell(Fetch(request_spec(3)))
    house.waited = (THREE,)
    house.pass_time(AFTER)
    assert house.downloader.take() == [Preempt(ONE)]
    house.tell(Readmit())
    assert house.downloader.take() == [Readmitted((InHand(request_spec(1)), InHand(request_spec(2))))]
    house.pass_time(AFTER)
    assert house.downloader.take() == [Preempt(ONE)]


@pytest.mark.parametrize("standing", [Standing.RUNNING, Standing.RETURNING])
def test_a_registry_that_begins_anew_finds_out_for_itself(house: House, standing: Standing) -> None:
    house.tell(Fetch(request_spec(3)))
    house.waited = (THREE,)
    house.pass_time(AFTER)
    house.downloader.take()
    house.anew()
    house.tell(Recounted((InHand(request_spec(1), standing), InHand(request_spec(2)))))
    assert house.around["source-1"].take() == [Announce("registry")]
    house.tell(*(Fetch(request_spec(number)) for number in (1, 2, 3)))
    if standing is Standing.RUNNING:
        # It was cut before and the new one does not know: its slot is for whoever is next.
        house.tell(Parked(ONE), Requeue(ONE))
        assert house.downloader.take() == [Admitted(request_spec(3), 0.0, again=False)]
    else:
        # It was told as one that wants a slot, and was next; who waits has its time before it yet.
        assert house.downloader.take() == [Admitted(request_spec(1), 0.0, again=True)]
        house.pass_time(AFTER)
        assert house.downloader.take() == [Preempt(ONE)]


def test_who_was_chosen_is_replaced_if_it_is_not_cut(house: House) -> None:
    house.tell(Fetch(request_spec(3)))
    house.waited = (THREE,)
    house.pass_time(AFTER)
    assert house.downloader.take() == [Preempt(ONE)]
    for _ in range(2):
        house.pass_time(AFTER)
    assert house.downloader.take() == [Preempt(TWO)]


def test_a_spec_that_is_told_again_unchanged_changes_nothing(house: House) -> None:
    house.tell(Fetch(request_spec(1)), Fetch(replace(request_spec(2))))
    assert house.downloader.take() == []
