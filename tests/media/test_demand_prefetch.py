"""What is fetched for one that does not read, and how it makes way for those that do: as a pure function."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.logic.demand import NEAR, Plan, Reader, Running, Situation, Want, plan
from kithara_actors.logic.ranges import Ranges
from kithara_actors.values import FetchKind, RequestId

KIB = 1024
TOTAL = 2_000 * KIB
AHEAD, DEMAND, PREFETCH = FetchKind.READ_AHEAD, FetchKind.DEMAND, FetchKind.PREFETCH


def run(landed: int, end: int | None = TOTAL, kind: FetchKind = PREFETCH, *, cancelling: bool = False) -> Running:
    return Running(RequestId(1), landed, end, kind, cancelling)


def situation(*readers: Reader, running: tuple[Running, ...] = (), **more: object) -> Situation:
    base = Situation(True, True, TOTAL, Ranges(), readers, running, prefetched=True)
    return replace(base, **more)  # type: ignore[arg-type]


def raised(kind: FetchKind) -> Plan:
    return Plan(raised=((RequestId(1), kind),))


def test_the_first_request_of_a_prefetch_is_for_everything() -> None:
    begins = situation(answered=False, total=None)
    assert plan(begins) == Plan(start=(Want(0, None, PREFETCH),))
    assert plan(replace(begins, running=(run(0, None),))) == Plan()


@pytest.mark.parametrize(
    "wish",
    [
        {"readers": (Reader(0),)},
        {"readers": (Reader(0, None, 5 * KIB),)},
        {"readers": (Reader(9, 19, 0),)},
        {"want_length": True, "readers": (Reader(0, None, 0),)},
        {"want_all": True, "readers": (Reader(0, None, 0),)},
    ],
    ids=["whole", "ahead", "blocked", "length", "all"],
)
def test_before_the_first_answer_whoever_reads_makes_the_request_demand(wish: dict[str, object]) -> None:
    begins = situation(answered=False, total=None, running=(run(0, None),), **wish)
    assert plan(begins) == raised(DEMAND)
    assert plan(replace(begins, running=(run(0, None, DEMAND),))) == Plan()
    assert plan(replace(begins, running=(run(0, None, cancelling=True),))) == Plan()
    assert plan(replace(begins, running=())) == Plan(start=(Want(0, None, DEMAND),))


def test_a_stream_that_wants_nothing_leaves_the_prefetch_as_it_is() -> None:
    assert plan(situation(Reader(0, None, 0), answered=False, total=None, running=(run(0, None),))) == Plan()
    assert plan(situation(Reader(0, None, 0), running=(run(0),))) == Plan()


def test_gaps_are_prefetched_from_the_front() -> None:
    islands = Ranges(((0, 10 * KIB), (50 * KIB, 60 * KIB)))
    assert plan(situation(coverage=islands)) == Plan(start=(Want(10 * KIB, 50 * KIB, PREFETCH),))
    assert plan(situation(coverage=Ranges(((0, TOTAL),)))) == Plan()
    assert plan(situation(coverage=islands, prefetched=False)) == Plan()


def test_what_follows_a_reader_is_prefetched_first() -> None:
    paused = Reader(500 * KIB, None, 0)
    assert plan(situation(paused)) == Plan(start=(Want(500 * KIB, TOTAL, PREFETCH),))


def test_without_a_length_it_is_asked_for_to_the_end() -> None:
    assert plan(situation(total=None, coverage=Ranges(((0, 100),)))) == Plan(start=(Want(100, None, PREFETCH),))


def test_what_a_blocked_reader_waits_for_becomes_demand_and_is_neither_cut_nor_asked_for_twice() -> None:
    near = Reader(NEAR, NEAR + 1)
    assert plan(situation(near, running=(run(0),))) == raised(DEMAND)
    assert plan(situation(near, running=(run(0, kind=AHEAD),))) == raised(DEMAND)
    assert plan(situation(near, running=(run(0, kind=DEMAND),))) == Plan()


def test_a_blocked_reader_far_from_the_prefetch_gets_a_fetch_of_its_own_and_the_prefetch_makes_way() -> None:
    far = Reader(1_000 * KIB, 1_001 * KIB)
    todo = plan(situation(far, running=(run(10 * KIB),)))
    assert todo == Plan((RequestId(1),), (Want(far.position, TOTAL, DEMAND),))


def test_what_a_reader_comes_to_is_read_ahead() -> None:
    assert plan(situation(Reader(0), running=(run(0),))) == raised(AHEAD)
    assert plan(situation(Reader(0, None, 100 * KIB), running=(run(10 * KIB),), coverage=Ranges(((0, 10 * KIB),)))) == (
        raised(AHEAD)
    )


def test_a_prefetch_elsewhere_makes_way_for_read_ahead() -> None:
    reader = Reader(0, None, 100 * KIB)
    todo = plan(situation(reader, running=(run(900 * KIB),), coverage=Ranges(((0, 10 * KIB), (500 * KIB, 900 * KIB)))))
    assert todo == Plan((RequestId(1),), (Want(10 * KIB, 100 * KIB, AHEAD),))


def test_a_server_without_ranges_is_never_asked_twice_at_once() -> None:
    assert plan(situation(ranges=False)) == Plan(start=(Want(0, None, PREFETCH),))
    waits = situation(Reader(1_000 * KIB, 1_001 * KIB), ranges=False, running=(run(10 * KIB),))
    assert plan(waits) == raised(DEMAND)
    assert plan(replace(waits, running=())) == Plan(start=(Want(0, None, DEMAND),))


@given(total=st.integers(0, TOTAL), cuts=st.lists(st.integers(1, 500 * KIB), max_size=30), ranges=st.booleans())
def test_it_comes_to_an_end_however_often_it_breaks(total: int, cuts: list[int], ranges: bool) -> None:
    coverage = Ranges()
    for cut in [*cuts, total]:
        todo = plan(situation(total=total, coverage=coverage, ranges=ranges))
        assert not todo.cut
        if coverage.covers(0, total):
            assert todo == Plan()
            break
        (want,) = todo.start
        assert want.kind is PREFETCH
        assert want.start == coverage.covered_end(0)
        coverage = coverage.add(want.start, min(total, want.start + cut))
    assert coverage.covers(0, total)
