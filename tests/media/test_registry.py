"""The registry hands out requests with their slots, ends what never had one, and passes the other cancels on."""

from __future__ import annotations

import pytest
from actor_kit import CODEC, Published, begun, issued, request_spec

from actors.testing.fake_clock import FakeClock
from actors.testing.step import Neighbours
from kithara_actors.actor.registry import Registry
from kithara_actors.logic.slots import SlotMap
from kithara_actors.messages.commands import (
    Admitted,
    CancelAdmitted,
    CancelFetch,
    Done,
    EndRequests,
    Fetch,
    FetchCancelled,
    Parked,
    PeerGone,
    Released,
    Requeue,
    SetPriority,
    WorkerUp,
)
from kithara_actors.messages.events import PriorityChanged, RequestCancelled, RequestEnqueued, Scope
from kithara_actors.values import CancelReason, FetchKind, Priority, RequestId

ONE, TWO, THREE = RequestId(1), RequestId(2), RequestId(3)


class House:
    def __init__(self, slots: int = 1) -> None:
        self.clock = FakeClock()
        self.events = Published()
        self.around = Neighbours(CODEC, "downloader", "source-1", "source-2")
        self.slots = SlotMap(slots, slots)
        self.requests = issued()
        self.registry = begun(
            Registry(self.slots, self.around.find, self.events, self.requests, list, self.clock), self.around
        )
        self.tell = self.registry.tell
        self.downloader = self.around["downloader"]
        self.source = self.around["source-1"]


def test_a_request_comes_with_its_slot() -> None:
    house = House()
    house.tell(Fetch(request_spec(1)))
    assert house.downloader.take() == [Admitted(request_spec(1), 0.0, again=False)]
    assert [scope for _, scope in house.events.take_with_scopes()] == [Scope(1)]


def test_one_that_is_sent_again_as_another_kind_takes_its_turn_as_that() -> None:
    house = House(slots=10)
    prefetches = [request_spec(number, kind=FetchKind.PREFETCH) for number in range(1, 7)]
    house.tell(*(Fetch(spec) for spec in prefetches))
    assert [command.spec.request for command in house.downloader.take()] == [1, 2, 3, 4]  # type: ignore[attr-defined]
    house.events.take()
    demand = request_spec(6, kind=FetchKind.DEMAND)
    house.tell(Fetch(demand), Fetch(demand))
    assert house.downloader.take() == [Admitted(demand, 0.0, again=False)]
    house.tell(Fetch(request_spec(1, kind=FetchKind.DEMAND)))
    assert house.downloader.take() == [Admitted(prefetches[4], 0.0, again=False)]
    assert house.events.take() == []  # each was enqueued once


def test_the_url_in_events_holds_no_secret() -> None:
    house = House()
    house.tell(Fetch(request_spec(1)))
    (event,) = house.events.take()
    assert isinstance(event, RequestEnqueued)
    assert "secret" not in event.url
    assert (event.request_id, event.method, event.start, event.end) == (ONE, "GET", 1000, None)


@pytest.mark.parametrize(
    ("kind", "peer", "said"),
    [
        (FetchKind.DEMAND, Priority.LOW, Priority.HIGH),
        (FetchKind.READ_AHEAD, Priority.LOW, Priority.LOW),
        (FetchKind.READ_AHEAD, Priority.HIGH, Priority.HIGH),
    ],
)
def test_the_priority_in_events(kind: FetchKind, peer: Priority, said: Priority) -> None:
    house = House()
    house.tell(SetPriority("source-1", peer), Fetch(request_spec(1, kind=kind)))
    event = house.events.take()[-1]
    assert isinstance(event, RequestEnqueued)
    assert event.priority is said


def test_a_queued_request_waits_and_says_how_long() -> None:
    house = House()
    house.tell(Fetch(request_spec(1)), Fetch(request_spec(2)))
    house.downloader.take()
    house.clock.advance(2.5)
    house.tell(Released(ONE))
    assert house.downloader.take() == [Admitted(request_spec(2), 2.5, again=False)]


def test_back_from_a_back_off_it_is_admitted_again() -> None:
    house = House()
    house.tell(Fetch(request_spec(1)), Fetch(request_spec(2)))
    house.downloader.take()
    house.tell(Parked(ONE))
    assert house.downloader.take() == [Admitted(request_spec(2), 0.0, again=False)]
    house.clock.advance(3.0)
    house.tell(Requeue(ONE))
    assert house.downloader.take() == []
    house.tell(Released(TWO))
    assert house.downloader.take() == [Admitted(request_spec(1), 0.0, again=True)]


def test_a_request_announced_twice_is_one() -> None:
    """A restarted registry is told again what is wanted; one that was not restarted has it."""
    house = House(2)
    house.tell(Fetch(request_spec(1)), Fetch(request_spec(1)))
    assert len(house.downloader.take()) == 1
    assert len(house.events.take()) == 1
    assert house.slots.running == 1


def test_a_cancel_before_the_first_start_ends_here() -> None:
    house = House()
    house.tell(Fetch(request_spec(1)), Fetch(request_spec(2)), Fetch(request_spec(3)))
    house.downloader.take()
    house.events.take()
    house.tell(CancelFetch(TWO, CancelReason.PEER_CANCEL))
    assert house.events.take_with_scopes() == [(RequestCancelled(TWO, 0, CancelReason.BEFORE_START), Scope(1))]
    assert house.source.take() == [FetchCancelled(TWO, 1000, CancelReason.BEFORE_START)]
    assert house.downloader.take() == []
    house.tell(CancelFetch(TWO, CancelReason.PEER_CANCEL))
    assert (house.events.take(), house.source.take()) == ([], [])
    house.tell(Released(ONE))
    assert house.downloader.take() == [Admitted(request_spec(3), 0.0, again=False)]


@pytest.mark.parametrize("where", ["running", "parked", "queued again"])
def test_a_cancel_after_it_goes_to_the_downloader(where: str) -> None:
    house = House()
    house.tell(Fetch(request_spec(1)), Fetch(request_spec(2)))
    if where != "running":
        house.tell(Parked(ONE))
    if where == "queued again":
        house.tell(Requeue(ONE))
    house.downloader.take()
    house.events.take()
    house.tell(CancelFetch(ONE, CancelReason.EPOCH_CANCEL))
    assert house.downloader.take() == [CancelAdmitted(ONE, CancelReason.EPOCH_CANCEL)]
    assert (house.events.take(), house.source.take()) == ([], [])
    house.tell(Released(ONE))
    house.tell(Requeue(ONE), Parked(ONE), Released(ONE))  # late
    assert house.slots.state(ONE) is None


def test_a_peer_that_moves_is_announced_once_with_its_requests() -> None:
    house = House()
    house.tell(Fetch(request_spec(1)), Fetch(request_spec(2, peer="source-2")), Fetch(request_spec(3)))
    house.events.take()
    house.tell(SetPriority("source-1", Priority.HIGH), SetPriority("source-1", Priority.HIGH))
    assert house.events.take_with_scopes() == [(PriorityChanged(Priority.HIGH, (ONE, THREE)), Scope(1))]
    house.tell(SetPriority("source-9", Priority.HIGH))
    assert house.events.take() == []
    house.downloader.take()
    house.tell(Released(ONE))
    assert house.downloader.take() == [Admitted(request_spec(3), 0.0, again=False)]
    house.tell(PeerGone("source-1"))
    assert house.slots.priority("source-1") is Priority.LOW


def test_at_the_end_what_never_started_ends_and_nothing_new_begins() -> None:
    house = House()
    for number in (1, 2, 3):
        house.tell(Fetch(request_spec(number)))
    house.downloader.take()
    house.events.take()
    assert house.registry.ask(EndRequests()) == Done(0)
    assert house.events.take() == [
        RequestCancelled(TWO, 0, CancelReason.BEFORE_START),
        RequestCancelled(THREE, 0, CancelReason.BEFORE_START),
    ]
    house.source.take()
    house.tell(Fetch(request_spec(4)))
    assert house.events.take()[-1] == RequestCancelled(RequestId(4), 0, CancelReason.BEFORE_START)
    assert house.source.take() == [FetchCancelled(RequestId(4), 1000, CancelReason.BEFORE_START)]
    assert house.downloader.take() == []
    assert house.registry.ask(EndRequests()) == Done(0)
    assert house.events.take() == []


def test_a_source_that_is_gone_is_not_missed() -> None:
    house = House()
    house.tell(Fetch(request_spec(1)), Fetch(request_spec(2, peer="source-77")))
    house.tell(CancelFetch(TWO, CancelReason.PEER_CANCEL))
    assert house.slots.state(TWO) is None


def test_a_command_for_another_is_refused() -> None:
    with pytest.raises(TypeError, match="Registry does not handle WorkerUp"):
        House().tell(WorkerUp(1, 2))


def test_a_request_of_a_peer_that_was_closed_meanwhile_ends_and_is_counted() -> None:
    """It was on its way while its source ended: it neither runs for nobody nor is lost in silence."""
    house = House()
    house.tell(PeerGone("source-77"), SetPriority("source-77", Priority.HIGH), Fetch(request_spec(2, peer="source-77")))
    told = house.events.take()
    assert isinstance(told[0], RequestEnqueued)
    assert told[1:] == [RequestCancelled(TWO, 0, CancelReason.BEFORE_START)]
    assert house.downloader.take() == []
    assert house.slots.priority("source-77") is Priority.LOW
    assert (house.requests.ended(TWO), house.requests.ended_count) == (True, 1)
    house.tell(Fetch(request_spec(2, peer="source-77")), CancelFetch(TWO, CancelReason.PEER_CANCEL))
    assert (house.events.take(), house.downloader.take()) == ([], [])


def test_the_playing_peer_is_served_first() -> None:
    """SCHED06: 20 requests of each, two at a time."""
    house = House(2)
    for number in range(1, 41):
        house.tell(Fetch(request_spec(number, peer=f"source-{1 + number % 2}")))
    house.tell(SetPriority("source-2", Priority.HIGH))
    order: list[int] = []
    while running := [each.spec.request for each in house.downloader.take() if isinstance(each, Admitted)]:
        order += running
        house.tell(*map(Released, running))
    playing = [rank for rank, request in enumerate(order) if request % 2]
    idle = [rank for rank, request in enumerate(order) if not request % 2]
    assert sorted(order) == list(range(1, 41))
    assert playing[10] < idle[10]
    assert sum(rank < 10 for rank in playing) > 5
