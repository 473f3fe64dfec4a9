"""Demand as a pure function: what it asks for, whom it serves, and that it comes to an end."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kithara_actors.logic.demand import NEAR, TAIL, Plan, Reader, Running, Situation, Want, plan
from kithara_actors.logic.ranges import Ranges
from kithara_actors.values import FetchKind, RequestId

KIB = 1024
TOTAL = 2_000 * KIB


def run(landed: int, end: int | None, *, cancelling: bool = False, request: int = 1) -> Running:
    return Running(RequestId(request), landed, end, FetchKind.DEMAND, cancelling)


def situation(*readers: Reader, running: tuple[Running, ...] = (), **more: object) -> Situation:
    base = Situation(answered=True, ranges=True, total=TOTAL, coverage=Ranges(), readers=readers, running=running)
    return replace(base, **more)  # type: ignore[arg-type]


# --- By example


def test_the_first_request_of_a_whole_file_is_unbounded() -> None:
    assert plan(situation(Reader(0), answered=False, total=None)).start == (Want(0, None, FetchKind.DEMAND),)


def test_the_first_request_with_look_ahead_is_bounded_by_it() -> None:
    first = plan(situation(Reader(0, None, 5 * KIB), answered=False, total=None))
    assert first.start == (Want(0, 5 * KIB, FetchKind.DEMAND),)


def test_nothing_is_asked_for_a_reader_without_look_ahead_before_it_wants_something() -> None:
    idle = situation(Reader(0, None, 0), answered=False, total=None)
    assert plan(idle) == Plan()
    assert plan(replace(idle, want_length=True)).start == (Want(0, 1, FetchKind.DEMAND),)
    reads = replace(idle, readers=(Reader(0, 7, 0),))
    assert plan(reads).start == (Want(0, 7, FetchKind.DEMAND),)


def test_a_server_without_ranges_is_not_asked_for_more_than_somebody_wants() -> None:
    idle = situation(Reader(0, None, 0), ranges=False, coverage=Ranges(((0, 1),)))
    assert plan(idle) == Plan()
    assert plan(replace(idle, readers=(Reader(5, 9, 0),))).start == (Want(1, None, FetchKind.DEMAND),)
    assert plan(replace(idle, want_all=True)).start == (Want(1, None, FetchKind.DEMAND),)


def test_a_blocked_reader_far_from_what_runs_gets_a_fetch_and_the_rest_makes_way() -> None:
    far = Reader(1_000 * KIB, 1_001 * KIB)
    todo = plan(situation(far, running=(run(10 * KIB, TOTAL),)))
    assert todo == Plan((RequestId(1),), (Want(far.position, TOTAL, FetchKind.DEMAND),))


def test_the_one_byte_that_told_the_length_is_let_end() -> None:
    far = Reader(1_000 * KIB, 1_001 * KIB, 0)
    assert not plan(situation(far, running=(run(0, 1),))).cut
    assert plan(situation(far, running=(run(0, 2),))).cut


def test_what_another_reader_needs_is_not_cut() -> None:
    far = Reader(1_000 * KIB, 1_001 * KIB)
    todo = plan(situation(Reader(0), far, running=(run(10 * KIB, TOTAL),), coverage=Ranges(((0, 10 * KIB),))))
    assert not todo.cut
    assert todo.start == (Want(far.position, TOTAL, FetchKind.DEMAND),)


def test_what_a_reader_that_was_just_served_goes_on_reading_is_not_cut() -> None:
    served = Reader(0, 10 * KIB)
    far = Reader(1_000 * KIB, 1_001 * KIB)
    todo = plan(situation(served, far, running=(run(20 * KIB, TOTAL),), coverage=Ranges(((0, 20 * KIB),))))
    assert not todo.cut


def test_a_fetch_that_will_be_there_soon_is_left_alone() -> None:
    assert plan(situation(Reader(NEAR, NEAR + 1), running=(run(0, TOTAL),))) == Plan()
    assert plan(situation(Reader(NEAR + 1, NEAR + 2), running=(run(0, TOTAL),))).start


def test_a_fetch_that_was_cut_serves_nobody() -> None:
    todo = plan(situation(Reader(0, 1), running=(run(0, TOTAL, cancelling=True),)))
    assert todo.start == (Want(0, TOTAL, FetchKind.DEMAND),)
    assert not todo.cut


def test_a_read_in_the_tail_is_one_bounded_range_and_cuts_nothing() -> None:
    tail = Reader(TOTAL - 128, TOTAL)
    todo = plan(situation(tail, running=(run(10 * KIB, TOTAL),)))
    assert todo == Plan((), (Want(TOTAL - TAIL, TOTAL, FetchKind.DEMAND),))


def test_a_read_in_the_tail_without_look_ahead_asks_for_its_own_bytes_only() -> None:
    tail = Reader(TOTAL - 128, TOTAL - 100, 0)
    assert plan(situation(tail)).start == (Want(TOTAL - 128, TOTAL - 100, FetchKind.DEMAND),)


@pytest.mark.parametrize("backwards", [False, True])
def test_two_blocked_readers_far_apart_get_two_fetches_that_do_not_meet(backwards: bool) -> None:
    readers = (Reader(0, KIB), Reader(1_000 * KIB, 1_001 * KIB))
    todo = plan(situation(*(reversed(readers) if backwards else readers)))
    assert sorted(todo.start, key=lambda want: want.start) == [
        Want(0, 1_000 * KIB, FetchKind.DEMAND),
        Want(1_000 * KIB, TOTAL, FetchKind.DEMAND),
    ]


def test_the_gap_before_a_seek_is_filled_after_what_follows_it() -> None:
    reader = Reader(1_000 * KIB, 1_001 * KIB)
    held = Ranges(((0, 100 * KIB), (1_000 * KIB, 1_100 * KIB)))
    assert plan(situation(reader, coverage=held)).start == (Want(1_100 * KIB, TOTAL, FetchKind.READ_AHEAD),)
    held = held.add(1_100 * KIB, TOTAL)
    assert plan(situation(reader, coverage=held)).start == (Want(100 * KIB, 1_000 * KIB, FetchKind.FILL),)


def test_read_ahead_is_topped_up_at_three_quarters() -> None:
    ahead = 100 * KIB
    held = Ranges(((0, ahead),))
    assert plan(situation(Reader(20 * KIB, None, ahead), coverage=held)) == Plan()
    assert plan(situation(Reader(30 * KIB, None, ahead), coverage=held)).start == (
        Want(ahead, 130 * KIB, FetchKind.READ_AHEAD),
    )


def test_a_position_past_the_end_wants_nothing() -> None:
    assert plan(situation(Reader(TOTAL + 5, TOTAL + 9), coverage=Ranges(((0, TOTAL),)))) == Plan()
    assert plan(situation(Reader(TOTAL + 5, TOTAL + 9, 0))) == Plan()


# --- By search


offsets = st.integers(0, TOTAL // KIB + 10).map(lambda kib: kib * KIB)


@dataclass
class Lane:
    start: int
    landed: int
    end: int | None
    kind: FetchKind
    cancelling: bool = False


@dataclass
class Simulation:
    """What a Source does with plans, without the Source."""

    total: int
    ranges: bool
    answered: bool = False
    coverage: Ranges = field(default_factory=Ranges)
    lanes: dict[int, Lane] = field(default_factory=dict)
    readers: dict[int, Reader] = field(default_factory=dict)
    want_length: bool = False
    want_all: bool = False
    prefetched: bool = False
    count: int = 0
    fetched: int = 0

    @property
    def situation(self) -> Situation:
        return Situation(
            answered=self.answered,
            ranges=self.ranges,
            total=self.total if self.answered else None,
            coverage=self.present,
            readers=tuple(self.readers.values()),
            running=tuple(
                Running(RequestId(number), lane.landed, lane.end, lane.kind, lane.cancelling)
                for number, lane in self.lanes.items()
            ),
            want_length=self.want_length,
            want_all=self.want_all,
            prefetched=self.prefetched,
        )

    @property
    def present(self) -> Ranges:
        found = self.coverage
        for lane in self.lanes.values():
            found = found.add(lane.start, lane.landed)
        return found

    def stop_of(self, lane: Lane) -> int:
        return self.total if lane.end is None else min(lane.end, self.total)

    def act(self) -> None:
        now = self.situation
        todo = plan(now)
        assert len(set(todo.cut)) == len(todo.cut)
        for request in todo.cut:
            assert not self.lanes[request].cancelling
            self.lanes[request].cancelling = True
        for request, kind in todo.raised:
            lane = self.lanes[request]
            assert not lane.cancelling
            assert lane.kind is not kind
            assert kind in (FetchKind.DEMAND, FetchKind.READ_AHEAD)
            lane.kind = kind
        for want in todo.start:
            self.begin(want)
        self.check(now, todo)
        assert not plan(self.situation).raised, "raised again"

    def begin(self, want: Want) -> None:
        assert want.start >= 0
        assert want.end is None or want.end > want.start
        for lane in self.lanes.values():
            if lane.start <= want.start and (lane.end is None or lane.end > want.start):
                assert lane.landed <= want.start, "a fetch begins in what another has landed"
                lane.end = want.start
        self.count += 1
        self.lanes[self.count] = Lane(want.start, want.start, want.end, want.kind)

    def check(self, now: Situation, todo: Plan) -> None:
        for want in todo.start:
            end = self.total if want.end is None else min(want.end, self.total)
            held = [(a, b) for a, b in now.coverage if a < end and b > want.start]
            assert not held, f"{want} asks for what is there: {held}"
        spans = sorted((lane.landed, self.stop_of(lane)) for lane in self.lanes.values())
        spans = [(a, b) for a, b in spans if a < b]
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert end <= start, f"two fetches overlap: {spans}"
        for reader in self.readers.values():
            if reader.waiting_to is None:
                continue
            missing = now.coverage.covered_end(reader.position)
            if missing >= min(reader.waiting_to, self.total):
                continue
            serving = [
                lane
                for lane in self.lanes.values()
                if not lane.cancelling and lane.landed <= missing < self.stop_of(lane)
            ]
            if not (self.answered and self.ranges):
                # One at a time: what follows is asked for at its end.
                assert self.lanes, "a reader waits and nothing runs"
                kinds = [lane.kind for lane in self.lanes.values() if not lane.cancelling]
                assert set(kinds) <= {FetchKind.DEMAND}, "a reader waits for what is queued as if none did"
            else:
                assert serving, f"nothing will reach {missing} for {reader}"
                assert missing - serving[0].landed <= NEAR
                assert serving[0].kind is FetchKind.DEMAND, "a reader waits for what is queued as if none did"
        if self.prefetched and not now.coverage.covers(0, self.total):
            assert self.lanes, "it is to be prefetched, and nothing runs"

    def deliver(self, number: int, count: int) -> None:
        lane = self.lanes[number]
        self.answered = True
        before = lane.landed
        lane.landed = max(lane.landed, min(lane.landed + count, self.stop_of(lane)))
        self.fetched += lane.landed - before

    def finish(self, number: int) -> None:
        lane = self.lanes.pop(number)
        self.coverage = self.coverage.add(lane.start, lane.landed)

    def complete(self, number: int) -> None:
        self.deliver(number, self.total)
        self.finish(number)


class Demand(RuleBasedStateMachine):
    """Readers move, wait and leave; fetches deliver, break and end, in any order."""

    @initialize(total=st.integers(0, TOTAL), ranges=st.booleans(), prefetched=st.booleans())
    def set_up(self, total: int, ranges: bool, prefetched: bool) -> None:
        self.world = Simulation(total, ranges, prefetched=prefetched)
        self.world.act()

    @rule(who=st.integers(0, 3), at=offsets, ahead=st.sampled_from([None, 0, 1, 64 * KIB, 700 * KIB]))
    def attach(self, who: int, at: int, ahead: int | None) -> None:
        self.world.readers[who] = Reader(at, None, ahead)
        self.world.act()

    @rule(who=st.sets(st.integers(0, 3)), at=offsets, step=offsets, size=st.integers(1, 1024 * KIB))
    def wait(self, who: set[int], at: int, step: int, size: int) -> None:
        for number in who:
            known = self.world.readers.get(number)
            if known is not None:
                position = (at + number * step) % (TOTAL + 10 * KIB)
                self.world.readers[number] = replace(known, position=position, waiting_to=position + size)
        self.world.act()

    @rule(who=st.integers(0, 3))
    def leave(self, who: int) -> None:
        if self.world.readers.pop(who, None) is not None:
            self.world.act()

    @rule(wanted=st.booleans())
    def prefetch(self, wanted: bool) -> None:
        self.world.prefetched = wanted
        self.world.act()

    @rule(length=st.booleans())
    def want(self, length: bool) -> None:
        if length:
            self.world.want_length = True
        else:
            self.world.want_all = True
        self.world.act()

    def some(self, choice: int) -> int | None:
        numbers = list(self.world.lanes)
        return numbers[choice % len(numbers)] if numbers else None

    @rule(choice=st.integers(0, 9), count=st.integers(0, 900 * KIB))
    def bytes_come(self, choice: int, count: int) -> None:
        number = self.some(choice)
        if number is not None:
            self.world.deliver(number, count)
            self.world.act()

    @rule(choice=st.integers(0, 9), whole=st.booleans())
    def fetch_ends(self, choice: int, whole: bool) -> None:
        number = self.some(choice)
        if number is not None:
            self.world.complete(number) if whole else self.world.finish(number)
            self.world.act()

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def bounded(self) -> None:
        assert len(self.world.lanes) <= 16

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        if not world.prefetched:
            world.readers[9] = Reader(0)
        for _ in range(1_000):
            world.act()
            if not world.lanes:
                break
            number = next(iter(world.lanes))
            if world.lanes[number].cancelling:
                world.finish(number)
            else:
                world.complete(number)
        assert not world.lanes, "it never comes to an end"
        assert world.coverage.covers(0, world.total)


TestDemand = Demand.TestCase


@given(
    total=st.integers(1, TOTAL),
    ahead=st.integers(0, 300 * KIB),
    reads=st.lists(st.tuples(offsets, st.integers(1, 200 * KIB)), max_size=12),
)
@settings(max_examples=200)
def test_bounded_demand_never_runs_further_than_look_ahead_past_the_furthest_reader(
    total: int, ahead: int, reads: list[tuple[int, int]]
) -> None:
    world = Simulation(total, ranges=True)
    world.readers[0] = Reader(0, None, ahead)
    furthest = 0
    world.act()
    for at, size in reads:
        world.readers[0] = Reader(at, at + size, ahead)
        furthest = max(furthest, at + max(size, ahead))
        world.act()
        for _ in range(20):
            if not world.lanes:
                break
            for lane in world.lanes.values():
                assert lane.end is not None
                assert lane.end <= max(furthest, ahead, 1)
            world.complete(next(iter(world.lanes)))
            world.readers[0] = Reader(at, None, ahead)
            world.act()


@given(total=st.integers(1, TOTAL), cuts=st.lists(st.integers(1, 500 * KIB), max_size=30))
def test_no_byte_is_fetched_twice_however_often_the_fetch_breaks(total: int, cuts: list[int]) -> None:
    world = Simulation(total, ranges=True)
    world.readers[0] = Reader(0)
    world.act()
    for cut in cuts:
        if not world.lanes:
            break
        number = next(iter(world.lanes))
        world.deliver(number, cut)
        world.finish(number)
        world.act()
    while world.lanes:
        world.complete(next(iter(world.lanes)))
        world.act()
    assert world.fetched == total
