"""The arithmetic of supervision: who comes back, how often, after how long."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.logic.restarts import (
    RESOURCE_DELAY,
    Backoff,
    Exit,
    Intensity,
    RestartType,
    Window,
    comes_back,
    never_trips,
)

PERMANENT, TRANSIENT, TEMPORARY = RestartType


@pytest.mark.parametrize(
    ("restart", "how", "again"),
    [
        (PERMANENT, Exit.NORMAL, True),
        (PERMANENT, Exit.SELF_STOP, True),
        (PERMANENT, Exit.HOST_STOP, False),
        (PERMANENT, Exit.CRASH, True),
        (PERMANENT, Exit.WORKER_LOST, True),
        (TRANSIENT, Exit.NORMAL, False),
        (TRANSIENT, Exit.SELF_STOP, False),
        (TRANSIENT, Exit.HOST_STOP, False),
        (TRANSIENT, Exit.CRASH, True),
        (TRANSIENT, Exit.WORKER_LOST, True),
        (TEMPORARY, Exit.NORMAL, False),
        (TEMPORARY, Exit.SELF_STOP, False),
        (TEMPORARY, Exit.HOST_STOP, False),
        (TEMPORARY, Exit.CRASH, False),
        (TEMPORARY, Exit.WORKER_LOST, False),
    ],
)
def test_who_comes_back(restart: RestartType, how: Exit, again: bool) -> None:
    assert comes_back(restart, how) is again


def test_five_restarts_pass_and_the_sixth_is_one_too_many() -> None:
    window = Window(Intensity())
    assert [window.spend(at) for at in (0.0, 1.0, 2.0, 3.0, 59.9, 59.95)] == [True] * 5 + [False]
    assert window.spend(60.0) is False  # the second still counts
    assert window.spend(200.0)
    assert window.spent(200.0) == 1


def test_failures_that_are_far_enough_apart_never_add_up() -> None:
    window = Window(Intensity(1, 1.0))
    assert all(window.spend(2.1 * number) for number in range(1000))


def test_a_lifetime_is_a_limit_however_far_apart() -> None:
    window = Window(Intensity(5, 1.0, lifetime=3))
    assert [window.spend(100.0 * number) for number in range(5)] == [True, True, True, False, False]


def test_without_restarts_the_first_is_too_many() -> None:
    assert not Window(Intensity(0)).spend(0.0)


@given(
    st.integers(0, 8),
    st.floats(0.1, 100),
    st.lists(st.floats(0, 50), max_size=60),
)
def test_the_window_counts_what_a_list_would(restarts: int, period: float, gaps: list[float]) -> None:
    window = Window(Intensity(restarts, period))
    times: list[float] = []
    for now in itertools.accumulate(gaps):
        times.append(now)
        counted = sum(now - time < period for time in times)
        assert window.spend(now) is (counted <= restarts)
        assert window.spent(now) == min(counted, restarts + 1)


def test_delays_double_up_to_the_cap() -> None:
    backoff = Backoff()
    assert [backoff.delay(failures, 1.0) for failures in range(1, 10)] == [
        0.1,
        0.2,
        0.4,
        0.8,
        1.6,
        3.2,
        6.4,
        10.0,
        10.0,
    ]
    assert backoff.delay(1, 0.0) == pytest.approx(0.08)
    assert backoff.delay(9, 0.0) == pytest.approx(8.0)


@given(st.integers(0, 10_000), st.floats(0, 1), st.booleans())
def test_no_delay_is_above_its_bound_or_below_its_jitter(failures: int, draw: float, resource: bool) -> None:
    backoff = Backoff()
    bound = min(0.1 * 2.0 ** min(max(failures, 1) - 1, 62), 10.0)
    delay = backoff.delay(failures, draw, resource=resource)
    if resource and bound < RESOURCE_DELAY:
        assert delay == RESOURCE_DELAY
    else:
        assert max(0.8 * bound, RESOURCE_DELAY * resource) * (1 - 1e-9) <= delay <= bound


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Intensity(-1), "restarts"),
        (lambda: Intensity(1.5), "restarts"),  # type: ignore[arg-type]
        (lambda: Intensity(True), "restarts"),
        (lambda: Intensity(5, 0), "period"),
        (lambda: Intensity(5, float("nan")), "period"),
        (lambda: Intensity(5, "60"), "period"),  # type: ignore[arg-type]
        (lambda: Intensity(5, lifetime=-1), "lifetime"),
        (lambda: Intensity(5, lifetime=1.5), "lifetime"),  # type: ignore[arg-type]
        (lambda: Backoff(base=-1), "base"),
        (lambda: Backoff(cap=float("nan")), "cap"),
        (lambda: Backoff(cap=float("inf")), "cap"),
        (lambda: Backoff(jitter=1.1), "jitter"),
        (lambda: Backoff(healthy="x"), "healthy"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_is_named(make, field: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=rf"^{field} must "):
        make()


def test_a_limit_that_cannot_trip() -> None:
    assert never_trips(Intensity(5, 60.0), shutdown=5.0, start=7.0)
    assert not never_trips(Intensity(5, 60.0), shutdown=5.0, start=1.0)
