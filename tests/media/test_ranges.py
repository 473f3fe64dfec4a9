"""The islands of present bytes against a set of positions, which is what they stand for."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.logic.ranges import Ranges

LIMIT = 40


@st.composite
def intervals(draw: st.DrawFn) -> tuple[int, int]:
    start = draw(st.integers(0, LIMIT))
    return start, draw(st.integers(start, LIMIT))


LISTS = st.lists(intervals(), max_size=12)


def model(pairs: list[tuple[int, int]]) -> set[int]:
    return {position for start, end in pairs for position in range(start, end)}


def built(pairs: list[tuple[int, int]]) -> Ranges:
    ranges = Ranges()
    for start, end in pairs:
        ranges = ranges.add(start, end)
    return ranges


@given(LISTS)
def test_islands_are_the_set_sorted_disjoint_and_coalesced(pairs: list[tuple[int, int]]) -> None:
    ranges = built(pairs)
    assert model(list(ranges)) == model(pairs)
    assert all(start < end for start, end in ranges)
    flat = [position for pair in ranges for position in pair]
    # Strictly increasing: islands that touch would repeat a position.
    assert flat == sorted(set(flat))
    assert ranges.total_bytes == len(model(pairs))
    assert len(ranges) == len(ranges.pairs)


@given(LISTS, st.randoms(use_true_random=False))
def test_order_and_way_of_building_do_not_matter(pairs: list[tuple[int, int]], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert built(pairs) == built(shuffled) == Ranges.from_pairs(shuffled)


@given(LISTS, intervals())
def test_covers(pairs: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    assert built(pairs).covers(*asked) is (set(range(*asked)) <= model(pairs))


@given(LISTS, st.integers(0, LIMIT + 2))
def test_covered_end_and_next_start(pairs: list[tuple[int, int]], position: int) -> None:
    present = model(pairs)
    end = position
    while end in present:
        end += 1
    ranges = built(pairs)
    assert ranges.covered_end(position) == end
    starts = [at for at in range(position, LIMIT) if at in present and at - 1 not in present]
    assert ranges.next_start(position) == (starts[0] if starts else None)


@given(LISTS, intervals())
def test_first_gap(pairs: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    present = model(pairs)
    missing = [at for at in range(*asked) if at not in present]
    gap = built(pairs).first_gap(*asked)
    if not missing:
        assert gap is None
        return
    end = missing[0]
    while end < asked[1] and end not in present:
        end += 1
    assert gap == (missing[0], end)


@given(LISTS, st.integers(0, LIMIT + 2))
def test_gaps_are_the_complement(pairs: list[tuple[int, int]], total: int) -> None:
    gaps = built(pairs).gaps(total)
    assert model(list(gaps)) == set(range(total)) - model(pairs)
    assert Ranges.from_pairs(gaps).pairs == gaps


@given(LISTS, intervals())
def test_add_leaves_the_original_alone(pairs: list[tuple[int, int]], more: tuple[int, int]) -> None:
    ranges = built(pairs)
    before = ranges.pairs
    grown = ranges.add(*more)
    assert ranges.pairs == before
    assert (grown is ranges) is ranges.covers(*more)


def test_two_islands_stay_two_until_the_middle_lands() -> None:
    ranges = Ranges().add(0, 10).add(20, 30)
    assert not ranges.covers(0, 15)
    assert ranges.first_gap(0, 30) == (10, 20)
    assert ranges.add(10, 20).pairs == ((0, 30),)


def test_nothing_present() -> None:
    ranges = Ranges()
    assert ranges.covered_end(7) == 7
    assert ranges.next_start(0) is None
    assert ranges.first_gap(3, 9) == (3, 9)
    assert ranges.gaps(0) == ()
    assert ranges.total_bytes == 0
    assert ranges.covers(5, 5)


def test_positions_beyond_32_bits() -> None:
    far = 2**62
    assert Ranges().add(far, far + 5).covered_end(far + 1) == far + 5


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 4), (-2, -1)])
def test_what_is_no_interval(start: int, end: int) -> None:
    for call in (Ranges().add, Ranges().covers, Ranges().first_gap):
        with pytest.raises(ValueError):
            call(start, end)
    with pytest.raises(ValueError):
        Ranges.from_pairs([(start, end)])
    with pytest.raises(ValueError):
        Ranges().gaps(-1)
    with pytest.raises(ValueError):
        Ranges().covered_end(-1)


def test_equal_hashable_and_pickled() -> None:
    ranges = Ranges.from_pairs([(5, 9), (0, 2)])
    assert pickle.loads(pickle.dumps(ranges)) == ranges
    assert hash(ranges) == hash(Ranges().add(0, 2).add(5, 9))
