"""Which load is slow: one that brings too little for too long, once for each attempt, and no other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.logic.slowness import PROGRESS, Slowness
from kithara_actors.values import RequestId

ONE, TWO = RequestId(1), RequestId(2)


def test_nothing_for_the_time_out_is_slow_once() -> None:
    watch = Slowness(2.0)
    watch.begin(ONE, 1000, 10.0)
    assert watch.look(ONE, 1000, 11.9) is None
    assert watch.look(ONE, 1000, 12.5) == 2.5
    assert watch.look(ONE, 1000, 99.0) is None


def test_a_trickle_is_slow_and_a_steady_body_is_not() -> None:
    watch = Slowness(2.0)
    watch.begin(ONE, 0, 0.0)
    watch.begin(TWO, 0, 0.0)
    for second in range(1, 60):
        assert watch.look(TWO, second * PROGRESS // 2, float(second)) is None
    assert watch.look(ONE, PROGRESS - 1, 1.0) is None
    assert watch.look(ONE, PROGRESS - 1, 2.0) == 2.0


def test_a_body_that_was_fast_and_stops_is_slow() -> None:
    watch = Slowness(2.0)
    watch.begin(ONE, 0, 0.0)
    assert watch.look(ONE, 10 * PROGRESS, 1.0) is None
    assert watch.look(ONE, 10 * PROGRESS + 5, 2.9) is None
    assert watch.look(ONE, 10 * PROGRESS + 5, 3.0) == 2.0


def test_another_attempt_has_its_own_time() -> None:
    watch = Slowness(2.0)
    watch.begin(ONE, 0, 0.0)
    watch.begin(ONE, 0, 1.5)
    assert watch.look(ONE, 0, 3.0) is None
    assert watch.look(ONE, 0, 3.5) == 2.0
    assert watch.running() == [ONE]
    watch.end(ONE)
    watch.end(ONE)
    assert watch.running() == []
    assert watch.look(ONE, 0, 99.0) is None


@pytest.mark.parametrize(("soft", "pause"), [(2.0, 1.0), (3600.0, 1.0), (0.05, 0.025), (0.001, 0.01)])
def test_the_pause_between_two_looks(soft: float, pause: float) -> None:
    assert Slowness(soft).pause == pause


@given(
    st.floats(0.1, 10),
    st.lists(st.tuples(st.floats(0.01, 3), st.integers(0, 3 * PROGRESS)), min_size=1, max_size=40),
)
def test_slow_means_a_time_out_with_too_little(soft: float, steps: list[tuple[float, int]]) -> None:
    """Told at most once; when it is, too little had landed for the time-out; when not, never at two looks so far
    apart that nothing landed between them."""
    watch = Slowness(soft)
    watch.begin(ONE, 0, 0.0)
    now, landed = 0.0, 0
    history = [(0.0, 0)]
    told = 0
    for seconds, count in steps:
        now += seconds
        landed += count
        found = watch.look(ONE, landed, now)
        if found is not None:
            told += 1
            assert found >= soft
            before = max(amount for at, amount in history if at <= now - found + 1e-9)
            assert landed - before < PROGRESS
        elif not told and count == 0:
            assert seconds < soft
        history.append((now, landed))
    assert told <= 1
