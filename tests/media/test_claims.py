"""What takes whose slot: one case for each clause of the rule."""

from __future__ import annotations

import pytest
from actor_kit import call_spec, request_spec
from slot_kit import Desk

from kithara_actors.logic.machines import VOCABULARY
from kithara_actors.logic.plain import Encoder, Plain
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import FetchKind, Priority

ONE, TWO = "http://one", "http://two"
DEMAND, AHEAD, FILL, PREFETCH = FetchKind.DEMAND, FetchKind.READ_AHEAD, FetchKind.FILL, FetchKind.PREFETCH
HIGH = Priority.HIGH


def spec(request: int, peer: str = "", origin: str = ONE, kind: FetchKind = DEMAND, **changes: object) -> FetchSpec:
    return request_spec(request, peer=peer or f"peer-{request}", origin=origin, kind=kind, start=0, **changes)


def full(desk: Desk, count: int, origin: str = ONE, first: int = 1, kind: FetchKind = AHEAD) -> None:
    for request in range(first, first + count):
        assert len(desk.submit(spec(request, origin=origin, kind=kind))) == 1


def test_it_takes_the_slot_of_the_one_that_is_needed_last_once_it_has_waited() -> None:
    desk = Desk(3, 3, after=0.5)
    full(desk, 3)
    leads = {1: (100, 500), 2: (900, 1000), 3: (400, 500)}
    assert desk.submit(spec(4)) == []
    assert desk.looks_in() == 0.5
    desk.now = 0.4
    assert desk.review(4, leads=leads) == []
    assert desk.looks_in() == pytest.approx(0.1)
    desk.now = 0.5
    assert desk.map.review_is_due(desk.now)
    assert desk.review(4, leads=leads) == [2]
    assert desk.review(4, leads=leads) == []  # a slot is on its way
    assert desk.yields(2) == [4]
    assert [each.request for each in desk.finish(1)] == [2]


def test_nobody_who_is_ahead_of_need_takes_a_slot_back() -> None:
    desk = Desk(1, 1, after=0.0)
    full(desk, 1)
    desk.submit(spec(2))
    assert desk.review(2, leads={1: (5, 5)}) == [1]
    assert desk.yields(1) == [2]
    desk.now = 60.0
    assert desk.review(leads={2: (9000, 9000)}) == []
    assert desk.review(1, leads={2: (9000, 9000)}) == [2]  # its own reader waits now


def test_the_slot_is_for_the_one_it_was_taken_for_whoever_else_is_queued() -> None:
    """What nobody waits for is of a higher class here, and would be next."""
    desk = Desk(1, 1, after=0.5)
    full(desk, 1)
    desk.prioritize("playing", HIGH)
    for request in (2, 3):
        desk.submit(spec(request, "playing"))
    desk.submit(spec(4))
    desk.now = 1.0
    assert desk.review(4, leads={1: (5, 5)}) == [1]
    assert desk.yields(1) == [4]


def test_who_may_be_served_first_is_served_first() -> None:
    desk = Desk(1, 1, after=0.5)
    full(desk, 1)
    desk.submit(spec(2))
    desk.prioritize("playing", HIGH)
    desk.submit(spec(3, "playing"))
    desk.now = 1.0
    assert desk.review(2, 3, leads={1: (5, 5)}) == [1]
    assert desk.yields(1) == [3]


def test_a_full_host_is_helped_by_one_of_its_own_only() -> None:
    desk = Desk(4, 2, after=0.0)
    full(desk, 2)
    full(desk, 2, TWO, first=3)
    desk.submit(spec(5))
    leads: dict[int, tuple[int | None, int]] = {1: (10, 10), 3: (None, 10), 4: (900, 900)}
    assert desk.review(5, leads=leads) == [1]


def test_a_full_host_is_helped_though_there_is_room_elsewhere() -> None:
    desk = Desk(100, 1, after=0.0)
    full(desk, 1)
    desk.submit(spec(2))
    assert desk.review(2, leads={1: (0, 10)}) == [1]


def test_where_all_slots_are_taken_any_host_helps() -> None:
    desk = Desk(2, 2, after=0.0)
    full(desk, 2, TWO)
    desk.submit(spec(3))
    desk.submit(spec(4))
    assert desk.review(3, 4, leads={1: (10, 10), 2: (20, 20)}) == [2, 1]
    assert desk.yields(2) == [3]
    assert desk.yields(1) == [4]


def test_two_that_wait_for_one_host_do_not_count_on_the_same_room() -> None:
    """There is room for one more there, not for two: the second takes one of that host."""
    desk = Desk(3, 2, after=0.0)
    full(desk, 1)
    full(desk, 2, TWO, first=2)
    desk.submit(spec(4))
    desk.submit(spec(5))
    assert desk.review(4, 5, leads={1: (1, 1), 2: (20, 20), 3: (30, 30)}) == [3, 1]


def test_one_that_got_nowhere_since_it_has_its_slot_is_cut_last() -> None:
    desk = Desk(2, 2, after=0.0)
    full(desk, 2)
    desk.submit(spec(3))
    assert desk.review(3, leads={1: (900, 900), 2: (100, 100)}) == [1]
    assert desk.yields(1) == [3]
    assert [each.request for each in desk.finish(3)] == [1]
    desk.submit(spec(4))
    desk.now = 1.0
    assert desk.review(4, leads={1: (900, 900), 2: (100, 100)}) == [2]
    desk.yields(2)
    desk.submit(spec(5))
    desk.now = 2.0
    assert desk.review(5, leads={1: (900, 900)}) == [1]  # none else is left


def test_of_those_that_nobody_reads_towards_fill_is_cut_before_prefetch() -> None:
    desk = Desk(4, 4, after=None)
    for request, kind in enumerate([PREFETCH, FILL, AHEAD, DEMAND], 1):
        desk.submit(spec(request, kind=kind))
    desk.map._reviews.after = 0.0
    for request in range(5, 9):
        desk.submit(spec(request))
    leads: dict[int, tuple[int | None, int]] = dict.fromkeys(range(1, 5), (None, 10))
    assert desk.review(5, 6, 7, 8, leads=leads) == [2, 1, 3, 4]


@pytest.mark.parametrize("after", [None, 0.0])
def test_none_is_never_and_nought_at_once(after: float | None) -> None:
    desk = Desk(1, 1, after=after)
    full(desk, 1)
    desk.submit(spec(2))
    assert desk.looks_in() == (0.5 if after is None else 0.0)
    assert desk.review(2, leads={1: (5, 5)}) == ([] if after is None else [1])
    desk.now = 1000.0
    assert desk.review(2, leads={1: (5, 5)}) == ([] if after is None else [1])


@pytest.mark.parametrize("what", ["collected", "without ranges", "being cancelled"])
def test_what_is_never_cut(what: str) -> None:
    desk = Desk(1, 1, after=0.0)
    desk.submit(call_spec(1) if what == "collected" else spec(1, ranged=what != "without ranges"))
    if what == "being cancelled":
        desk.cancel(1)
    desk.submit(spec(2))
    assert desk.map.preemptible() == []
    assert desk.review(2, leads={1: (None, 10)}) == []


def test_a_caller_takes_one_slot_and_not_again_so_soon() -> None:
    """A batch of many small requests would otherwise cut a transfer for each of them."""
    desk = Desk(2, 2, after=0.5)
    full(desk, 2, kind=DEMAND)
    for request in (1, 2):
        desk.prioritize(f"peer-{request}", HIGH)
    for request in range(10, 20):
        desk.submit(call_spec(request, peer="batch"))
    leads = {1: (10, 10), 2: (20, 20)}
    desk.now = 0.5
    assert desk.review(leads=leads) == [2]
    assert desk.yields(2) == [10]
    desk.now = 1.5
    assert desk.review(leads=leads) == []  # it has one
    assert [each.request for each in desk.finish(10)] == [2]  # who was cut is next
    desk.now = 1.9
    assert desk.review(leads={1: (10, 10), 2: (30, 30)}) == []
    desk.now = 2.0
    assert desk.review(leads={1: (10, 10), 2: (30, 30)}) == [2]


def test_a_cut_that_does_not_come_is_not_waited_for() -> None:
    desk = Desk(2, 2, after=0.0)
    full(desk, 2)
    desk.submit(spec(3))
    leads = {1: (10, 10), 2: (20, 20)}
    assert desk.review(3, leads=leads) == [2]
    desk.now = 0.9
    assert desk.review(3, leads=leads) == []
    desk.now = 1.0
    assert desk.review(3, leads={1: (10, 10), 2: (30, 30)}) == [1]


def test_who_got_a_slot_meanwhile_leaves_the_other_to_the_next() -> None:
    desk = Desk(2, 2, after=0.0)
    full(desk, 2)
    desk.submit(spec(3))
    assert desk.review(3, leads={1: (10, 10)}) == [1]
    assert [each.request for each in desk.finish(2)] == [3]
    assert desk.yields(1) == [1]


def test_who_ends_before_it_is_cut_leaves_its_slot_to_the_same() -> None:
    desk = Desk(1, 1, after=0.0)
    full(desk, 1)
    desk.prioritize("playing", HIGH)
    desk.submit(spec(2, "playing"))
    desk.submit(spec(3))
    assert desk.review(3, leads={1: (10, 10)}) == [1]
    assert [each.request for each in desk.finish(1)] == [3]


# --- Fill


def test_fill_makes_way_at_once_for_whatever_is_queued() -> None:
    desk = Desk(2, 2, after=0.5)
    full(desk, 2, kind=FILL)
    desk.submit(spec(3, kind=AHEAD))
    assert desk.looks_in() == 0.0
    assert desk.review(leads={1: (None, 10), 2: (None, 10)}) == [2]
    assert desk.yields(2) == [3]
    assert [each.request for each in desk.finish(3)] == [2]


def test_fill_starts_only_when_nothing_else_may() -> None:
    desk = Desk(1, 1, after=0.5)
    full(desk, 1)
    desk.submit(spec(2, kind=FILL))
    desk.submit(spec(3, kind=PREFETCH))
    desk.submit(spec(4, kind=AHEAD, peer="late"))
    assert [each.request for each in desk.finish(1)] == [3]
    assert [each.request for each in desk.finish(3)] == [4]
    assert [each.request for each in desk.finish(4)] == [2]


def test_fill_stays_where_its_slot_would_help_nobody() -> None:
    desk = Desk(10, 1, after=0.5)
    full(desk, 1)
    full(desk, 1, TWO, first=2, kind=FILL)
    desk.submit(spec(3))
    assert desk.review(leads={2: (None, 10)}) == []
    desk.submit(spec(4, origin=TWO))
    assert desk.review(leads={2: (None, 10)}) == [2]


def test_fill_whose_reader_waits_goes_on() -> None:
    desk = Desk(1, 1, after=0.5)
    full(desk, 1, kind=FILL)
    desk.submit(spec(2, kind=AHEAD))
    assert desk.review(1, leads={}) == []
    assert desk.looks_in() == 0.5  # and is looked at again


def test_no_more_fill_is_cut_than_finds_a_use() -> None:
    desk = Desk(4, 4, after=0.5)
    full(desk, 4, kind=FILL)
    desk.submit(spec(5, kind=PREFETCH))
    leads: dict[int, tuple[int | None, int]] = dict.fromkeys(range(1, 5), (None, 10))
    assert desk.review(leads=leads) == [4]
    desk.now = 0.2
    assert desk.review(leads=leads) == []
    desk.submit(spec(6))
    assert desk.review(leads=leads) == [3]


def test_fill_and_prefetch_share_what_the_background_may_hold_of_a_host() -> None:
    desk = Desk(64, 16)
    for request in range(1, 7):
        desk.submit(spec(request, kind=FILL if request % 2 else PREFETCH))
    assert desk.map.running_on(ONE) == 4
    assert len(desk.submit(spec(7))) == 1
    assert len(desk.submit(spec(8, origin=TWO, kind=PREFETCH))) == 1


# --- How often somebody looks


def test_many_that_come_at_once_are_looked_after_at_one_pace() -> None:
    desk = Desk(1, 1, after=0.5)
    full(desk, 1)
    looks = 0
    for request in range(2, 1002):
        desk.now += 0.001
        desk.submit(spec(request))
        if desk.map.review_is_due(desk.now):
            looks += 1
            assert desk.review(leads={}) == []
    assert looks <= 20


def test_nobody_looks_while_nothing_is_queued() -> None:
    desk = Desk(2, 2, after=0.5)
    full(desk, 2)
    assert desk.looks_in() is None
    desk.finish(1)
    assert desk.looks_in() is None
    assert not desk.map.review_is_due(1000.0)


def test_one_that_somebody_comes_to_wait_for_claims_as_long_as_it_has_queued() -> None:
    desk = Desk(1, 1, after=0.5)
    full(desk, 1)
    desk.submit(spec(2, kind=AHEAD))
    desk.now = 0.1
    assert desk.review(leads={}) == []
    assert desk.looks_in() == 0.5
    desk.submit(spec(3))
    assert desk.looks_in() is None
    desk.now = 0.2
    desk.reclassify(spec(2))
    assert desk.looks_in() == pytest.approx(0.3)


def test_requests_that_have_ended_leave_nothing_behind() -> None:
    def parts(plain: Plain) -> int:
        return 1 + sum(map(parts, plain)) if isinstance(plain, tuple) else 1

    desk = Desk(2, 2, after=0.5)
    encode = Encoder(VOCABULARY).encode
    sizes = []
    for request in range(1, 301):
        desk.submit(spec(request))
        desk.finish(request)
        sizes.append(parts(encode(desk.map)))
    assert sizes[-1] == sizes[10]
