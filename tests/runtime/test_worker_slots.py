"""Slots: which worker is started, replaced and retired when. Decisions only, on a clock that the test moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.logic.restarts import RESOURCE_DELAY, Backoff
from actors.logic.worker_slots import STARTS_AT_ONCE, Arrival, Recycling, Slot, Slots

BACKOFF = Backoff(base=0.1, cap=5.0)


def booted(size: int = 2, barren: float = 60.0) -> Slots:
    """Workers 1 to `size` are ready at 0."""
    slots = Slots(size, BACKOFF, barren, 0.0)
    for worker, slot in enumerate(slots.startable(0.0), 1):
        slots.started(slot, worker)
    for worker in range(1, size + 1):
        slots.ready(worker, 0.0)
    assert slots.booted
    return slots


def only(slots: Slots, now: float) -> Slot:
    (slot,) = slots.startable(now)
    return slot


def test_all_of_the_size_start_at_once_at_first() -> None:
    slots = Slots(8, BACKOFF, 60.0, 5.0)
    assert len(slots.startable(5.0)) == 8
    assert slots.startable(4.9) == []
    assert slots.pause(4.5) == 0.5


def test_booted_when_all_have_been_ready_even_if_one_is_lost_meanwhile() -> None:
    slots = Slots(2, BACKOFF, 60.0, 0.0)
    first, second = slots.startable(0.0)
    slots.started(first, 1)
    slots.started(second, 2)
    slots.ready(1, 0.1)
    slots.lost(1, 0.2, 0.0)
    slots.ready(2, 0.3)
    assert not slots.booted
    slots.started(only(slots, 0.3), 3)
    slots.ready(3, 0.4)
    assert slots.booted


@pytest.mark.parametrize("end", ["lost", "ready"])
def test_what_still_starts_when_boot_is_given_up_changes_nothing(end: str) -> None:
    slots = Slots(2, BACKOFF, 60.0, 0.0)
    first, second = slots.startable(10.0)
    slots.started(first, 1)
    slots.started(second, 2)
    assert slots.lost(1, 10.0, 0.0) is False
    while not slots.failed(slots.startable(1e9)[0], 10.0, 0.0):
        pass
    if end == "lost":
        assert slots.lost(2, 11.0, 0.0) is False
    else:
        assert slots.ready(2, 11.0) == Arrival(extra=False, retiring=None)
    assert slots.startable(1e9) == []


@pytest.mark.parametrize("fatal", [False, True])
def test_boot_is_given_up_after_three_failures_or_a_fatal_one(fatal: bool) -> None:
    slots = Slots(2, BACKOFF, 60.0, 0.0)
    outcomes = [slots.failed(slots.startable(10.0)[0], 0.0, 0.0, fatal=fatal)]
    while not outcomes[-1]:
        slots.started(slots.startable(10.0)[0], len(outcomes))
        outcomes.append(slots.lost(len(outcomes), 0.0, 0.0))
    assert outcomes == ([True] if fatal else [False, False, True])
    assert slots.startable(1e9) == []


def test_failures_before_one_that_was_ready_do_not_end_the_boot() -> None:
    slots = Slots(2, BACKOFF, 60.0, 0.0)
    for worker in (1, 2):
        slots.started(slots.startable(100.0)[0], worker)
        assert not slots.lost(worker, 0.0, 0.0)
    slots.started(slots.startable(100.0)[0], 3)
    slots.ready(3, 1.0)
    for worker in (4, 5):
        slots.started(slots.startable(100.0)[0], worker)
        assert not slots.lost(worker, 1.0, 0.0)


def test_never_given_up_once_booted() -> None:
    slots = booted(1)
    slots.lost(1, 1.0, 0.0)
    for count in range(50):
        assert not slots.failed(only(slots, 1e6), 1.0, 0.0, fatal=count % 2 == 0)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_losses_in_a_row_are_followed_by_delays_that_grow_below_the_cap(draws: list[tuple[float, bool]]) -> None:
    slots = booted(1)
    worker = 1
    for losses, (draw, resource) in enumerate(draws):
        if resource:
            slots.failed(slots._of(worker), 100.0, draw, resource=True)
        else:
            slots.lost(worker, 100.0 if losses else 1.0, draw)
        slot = slots._slots[0]
        delay = slot.due - (100.0 if losses or resource else 1.0)
        bound = 0.0 if losses == 0 else min(0.1 * 2 ** (losses - 1), 5.0)
        low, high = 0.8 * bound, bound
        if resource:
            low, high = max(low, RESOURCE_DELAY), max(high, RESOURCE_DELAY)
        assert low - 1e-9 <= delay <= high + 1e-9
        assert slots.startable(slot.due - 1e-6) == []
        worker += 1
        slots.started(only(slots, slot.due), worker)
        slots.ready(worker, 100.0)


@pytest.mark.parametrize(("lived", "delay"), [(9.9, 0.1), (10.0, 0.0)])
def test_a_worker_that_was_up_for_long_begins_a_new_row(lived: float, delay: float) -> None:
    slots = booted(1)
    slots.lost(1, 1.0, 1.0)
    slots.started(only(slots, 1.0), 2)
    slots.ready(2, 2.0)
    slots.lost(2, 2.0 + lived, 1.0)
    assert slots._slots[0].due - (2.0 + lived) == pytest.approx(delay)


def test_retired_worker_leaves_no_mark_on_its_slot() -> None:
    slots = booted(1)
    assert slots.recycle(1, 20.0)
    slots.started(only(slots, 20.0), 2)
    arrival = slots.ready(2, 20.2)
    assert (arrival.extra, arrival.retiring) == (False, 1)
    assert not slots.lost(1, 20.3, 0.0)
    slots.lost(2, 20.4, 1.0)
    assert slots._slots[0].due == 20.4  # a first loss, replaced at once


def test_workers_are_replaced_one_at_a_time() -> None:
    slots = booted(3)
    assert slots.recycle(1, 0.0)
    assert not slots.recycle(2, 0.1)  # nobody has been started yet
    slots.started(only(slots, 0.1), 4)
    assert not slots.recycle(2, 0.2)  # who was is not ready
    slots.ready(4, 0.3)
    assert not slots.recycle(2, 0.4)  # the first has not left
    slots.lost(1, 0.5, 0.0)
    assert slots.recycle(2, 0.6)


def test_worker_that_dies_with_its_successor_on_the_way_empties_no_other_place() -> None:
    slots = booted(1)
    slots.recycle(1, 0.0)
    slots.started(only(slots, 0.0), 2)
    assert not slots.lost(1, 0.1, 0.0)
    assert slots.startable(1e9) == []
    arrival = slots.ready(2, 0.2)
    assert (arrival.extra, arrival.retiring) == (False, None)


def test_successor_that_fails_is_tried_again_while_its_predecessor_serves() -> None:
    slots = booted(1, barren=1.0)
    assert slots.recycle(1, 0.0)
    for worker in (2, 3, 4):
        slots.started(only(slots, 1e3 * worker), worker)
        slots.lost(worker, 1e3 * worker, 0.0)
        assert not slots.exhausted(1e3 * worker)
    slots.started(only(slots, 1e6), 5)
    assert slots.ready(5, 1e6).retiring == 1


def test_exhausted_once_a_period_and_extra_workers_do_not_count() -> None:
    slots = booted(1, barren=10.0)
    slots.enlist(0.0)
    slots.started(only(slots, 0.0), 2)
    assert slots.ready(2, 0.0).extra
    assert not slots.exhausted(5.0)
    slots.lost(1, 5.0, 0.0)
    assert [slots.exhausted(now) for now in (10.0, 15.0, 15.1, 20.0, 25.0, 25.2, 35.3)] == [
        False, False, True, False, False, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("limits", "so_far", "words"),
    [
        (Recycling(), (10**9, 1e9, 10**12), None),
        (Recycling(frames=5), (4, 1e9, 10**12), None),
        (Recycling(frames=5), (5, 0.0, 0), "5 frames taken"),
        (Recycling(age=60.0), (0, 59.9, 0), None),
        (Recycling(age=60.0), (0, 60.0, 0), "60 s old"),
        (Recycling(growth=2**20), (0, 0.0, 2**20 - 1), None),
        (Recycling(growth=2**20), (0, 0.0, 3 * 2**19), "grown by 1.5 MiB"),
    ],
)
def test_when_a_worker_has_done_enough(limits: Recycling, so_far: tuple[int, float, int], words: str | None) -> None:
    assert limits.reason(*so_far) == words


class PoolMachine(RuleBasedStateMachine):
    """Any order of starts, readiness, losses and wishes: what a pool would carry out."""

    SIZE = 3

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.slots = booted(self.SIZE)
        self.next = self.SIZE + 1
        self.starting: set[int] = set()
        self.up = set(range(1, self.next))
        self.retiring: set[int] = set()
        self.asked = self.came = 0

    @rule(seconds=st.floats(0, 7))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(works=st.booleans(), resource=st.booleans(), draw=st.floats(0, 1))
    def start_due(self, works: bool, resource: bool, draw: float) -> None:
        for slot in self.slots.startable(self.now):
            if not works:
                self.slots.failed(slot, self.now, draw, resource=resource)
                assert slot.due >= self.now + (RESOURCE_DELAY if resource else 0)
                continue
            self.slots.started(slot, self.next)
            self.starting.add(self.next)
            self.next += 1

    @precondition(lambda self: self.starting)
    @rule(data=st.data())
    def get_ready(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.starting)))
        arrival = self.slots.ready(worker, self.now)
        self.starting.remove(worker)
        self.up.add(worker)
        self.came += arrival.extra
        if arrival.retiring is not None:
            assert arrival.retiring in self.up, "only who serves can retire"
            self.retiring.add(arrival.retiring)

    @precondition(lambda self: self.up | self.starting)
    @rule(data=st.data(), draw=st.floats(0, 1))
    def lose(self, data: st.DataObject, draw: float) -> None:
        worker = data.draw(st.sampled_from(sorted(self.up | self.starting)))
        assert not self.slots.lost(worker, self.now, draw)
        for group in (self.starting, self.up, self.retiring):
            group.discard(worker)

    @rule()
    def enlist(self) -> None:
        self.slots.enlist(self.now)
        self.asked += 1

    @precondition(lambda self: self.up)
    @rule(data=st.data())
    def discharge(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.up)))
        if self.slots.discharge(worker):
            assert worker not in self.retiring
            self.retiring.add(worker)

    @precondition(lambda self: self.up)
    @rule(data=st.data())
    def recycle(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.up)))
        if self.slots.recycle(worker, self.now):
            assert worker not in self.retiring
            assert not self.retiring, "one at a time"

    @invariant()
    def places_are_neither_lost_nor_doubled(self) -> None:
        ordinary = [slot for slot in self.slots._slots if not slot.extra]
        assert len(ordinary) == self.SIZE
        held = [slot.worker for slot in self.slots._slots if slot.worker is not None]
        assert len(held) == len(set(held))
        assert sum(slot.predecessor is not None for slot in self.slots._slots) <= 1
        known = {*held, *self.slots._leaving, *(slot.predecessor for slot in ordinary if slot.predecessor)}
        assert known == self.starting | self.up

    @invariant()
    def few_start_at_once(self) -> None:
        assert len(self.slots.startable(self.now)) <= max(0, STARTS_AT_ONCE - len(self.starting))
        assert self.slots.starting == len(self.starting)

    @invariant()
    def as_many_extra_as_were_asked_for(self) -> None:
        assert self.came <= self.asked

    @invariant()
    def nothing_waits_longer_than_the_cap(self) -> None:
        pause = self.slots.pause(self.now)
        assert pause is None or 0 <= pause <= 5.0


TestPoolMachine = PoolMachine.TestCase
