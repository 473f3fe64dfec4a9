"""Whose turn it is among peers that have requests queued: case by case."""

from __future__ import annotations

from actor_kit import request_spec
from slot_kit import Desk

from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import RequestId


def spec(request: int, peer: str, origin: str = "http://one") -> FetchSpec:
    return request_spec(request, peer=peer, origin=origin)


def ids(started: list[FetchSpec]) -> list[int]:
    return [each.request for each in started]


def test_peers_take_turns_and_keep_their_own_order() -> None:
    slots = Desk(1, 1)
    slots.submit(spec(100, "z"))
    for request, peer in enumerate("aaaabbc", 1):
        slots.submit(spec(request, peer))
    order, last = [], 100
    while started := slots.finish(last):
        last = started[0].request
        order.append("aaaabbc"[last - 1])
    assert "".join(order) == "abcabaa"


def test_what_starts_without_having_queued_was_a_turn_of_its_peer() -> None:
    slots = Desk(2, 1)
    slots.submit(spec(1, "z"))
    slots.submit(spec(2, "a"))
    slots.submit(spec(3, "b"))
    assert ids(slots.submit(spec(4, "a", origin="http://two"))) == [4]
    assert ids(slots.finish(1)) == [3]
    assert ids(slots.finish(3)) == [2]


def test_who_comes_back_is_next() -> None:
    slots = Desk(1, 1)
    assert ids(slots.submit(spec(1, "a"))) == [1]
    slots.submit(spec(2, "b"))
    slots.submit(spec(3, "a"))
    assert ids(slots.park(1)) == [2]
    assert slots.requeue(1) == []
    assert ids(slots.finish(2)) == [1]
    assert not slots.map.never_started(RequestId(1))
    assert slots.map.never_started(RequestId(3))
    assert slots.map.waiting() == [3]
