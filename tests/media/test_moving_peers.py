"""A peer of another class: what it has queued takes its turn as that, in the order it had."""

from __future__ import annotations

from actor_kit import request_spec
from slot_kit import Desk

from kithara_actors.logic.slots_steps import Moved
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import FetchKind, Priority, RequestId

HIGH, LOW = Priority.HIGH, Priority.LOW


def ids(started: list[FetchSpec]) -> list[int]:
    return [each.request for each in started]


def test_fill_of_a_playing_peer_does_not_come_before_demand_of_another() -> None:
    slots = Desk(1, 1)
    slots.submit(request_spec(100, peer="z"))
    slots.prioritize("playing", HIGH)
    slots.submit(request_spec(1, peer="playing", kind=FetchKind.FILL))
    slots.submit(request_spec(2, peer="idle"))
    assert slots.map.queued == {(HIGH, HIGH): 0, (HIGH, LOW): 0, (LOW, HIGH): 1, (LOW, LOW): 1}
    assert ids(slots.finish(100)) == [2]


def test_moving_a_peer_names_all_that_it_has() -> None:
    slots = Desk(1, 1)
    for request, peer in [(1, "a"), (2, "b"), (3, "a")]:
        slots.submit(request_spec(request, peer=peer))
    assert slots.prioritize("a", HIGH) == []
    assert slots.told == [Moved("a", HIGH, (RequestId(1), RequestId(3)))]
    assert (slots.prioritize("a", HIGH), slots.told) == ([], [])
    assert ids(slots.finish(1)) == [3]


def test_a_peer_that_moves_keeps_its_order_over_its_hosts() -> None:
    slots = Desk(1, 1)
    slots.submit(request_spec(100, peer="z"))
    for request, origin in enumerate(["http://one", "http://two", "http://one"], 1):
        slots.submit(request_spec(request, peer="a", origin=origin))
    slots.prioritize("a", HIGH)
    order, last = [], 100
    while started := slots.finish(last):
        last = started[0].request
        order.append(last)
    assert order == [1, 2, 3]
