"""RETRY01, RETRY03, RETRY04, RETRY10: the delays, and what a spent budget says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.errors import Failure, RetryExhausted, StatusError, restore
from kithara_actors.logic.retry import Again, Final, RetryPolicy

UNAVAILABLE = StatusError("the server answered 503 Service Unavailable", retryable=True, status=503).failure
NOT_FOUND = StatusError("the server answered 404 Not Found", retryable=False, status=404).failure
BROKEN = Failure("ConnectError", "the connection broke", retryable=True)


def waiting(seconds: float) -> Failure:
    return StatusError("busy", retryable=True, status=429, retry_after=seconds).failure


@pytest.mark.parametrize(
    ("retry", "bound"),
    [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.6), (6, 3.2), (7, 5.0), (8, 5.0), (5000, 5.0)],
)
def test_the_delay_doubles_up_to_the_cap(retry: int, bound: float) -> None:
    policy = RetryPolicy(max_retries=10_000)
    assert policy.after(BROKEN, retry, 0.0) == Again(pytest.approx(bound / 2))
    assert policy.after(BROKEN, retry, 1.0) == Again(pytest.approx(bound))


@given(st.integers(0, 6), st.floats(0, 1))
def test_the_delay_lies_in_its_half(retry: int, draw: float) -> None:
    step = RetryPolicy().after(BROKEN, retry, draw)
    assert isinstance(step, Again)
    bound = min(5.0, 0.1 * 2 ** (max(1, retry) - 1))
    assert bound / 2 <= step.delay <= bound


def test_seven_attempts_without_progress_at_most() -> None:
    policy = RetryPolicy()
    assert all(isinstance(policy.after(UNAVAILABLE, made, 0.5), Again) for made in range(1, 7))
    assert isinstance(policy.after(UNAVAILABLE, 7, 0.5), Final)


def test_an_attempt_that_renewed_the_budget_waits_as_for_the_first_retry() -> None:
    assert RetryPolicy().after(BROKEN, 0, 1.0, body_broke=True) == Again(0.1)


def test_a_spent_budget_names_it_and_wraps_the_last_error() -> None:
    step = RetryPolicy(max_retries=2).after(UNAVAILABLE, 3, 0.5)
    assert isinstance(step, Final)
    failure = step.failure
    assert (failure.kind, failure.cause, failure.attempts, failure.status) == (
        "RetryExhausted",
        "StatusError",
        3,
        503,
    )
    assert not failure.retryable
    assert "max_retries 2" in failure.text
    assert "503 Service Unavailable" in failure.text
    error = restore(failure)
    assert isinstance(error, RetryExhausted)
    assert error.cause == "StatusError"


@pytest.mark.parametrize("made", [1, 3, 7, 100])
@pytest.mark.parametrize("retries", [0, 6])
@pytest.mark.parametrize("broke", [False, True])
def test_what_is_not_retryable_surfaces_raw(made: int, retries: int, broke: bool) -> None:
    assert RetryPolicy(max_retries=retries).after(NOT_FOUND, made, 0.5, body_broke=broke) == Final(NOT_FOUND)


def test_no_retries_at_all() -> None:
    policy = RetryPolicy(max_retries=0)
    assert policy.after(UNAVAILABLE, 1, 0.5) == Final(UNAVAILABLE)
    for made in (0, 1):
        step = policy.after(BROKEN, made, 0.5, body_broke=True)
        assert isinstance(step, Final)
        assert (step.failure.kind, step.failure.cause, step.failure.attempts) == (
            "RetryExhausted",
            "ConnectError",
            1,
        )
        assert "1 attempt " in step.failure.text


@pytest.mark.parametrize("seconds", [0.0, 0.5, 30.0])
def test_retry_after_replaces_the_delay(seconds: float) -> None:
    assert RetryPolicy().after(waiting(seconds), 1, 0.5) == Again(seconds)


def test_retry_after_beyond_the_limit_is_final_at_once() -> None:
    failure = waiting(30.5)
    assert RetryPolicy().after(failure, 1, 0.5) == Final(failure)
    assert RetryPolicy(retry_after_limit=60).after(failure, 1, 0.5) == Again(30.5)


def test_retry_after_spends_the_budget_all_the_same() -> None:
    step = RetryPolicy().after(waiting(1.0), 7, 0.5)
    assert isinstance(step, Final)
    assert step.failure.kind == "RetryExhausted"


def test_64_kib_renew_the_budget() -> None:
    assert not RetryPolicy().renews(65535)
    assert RetryPolicy().renews(65536)


@pytest.mark.parametrize("name", ["max_retries", "base", "cap", "retry_after_limit", "renew_after"])
@pytest.mark.parametrize("value", [-1, math.nan])
def test_a_bad_value_names_its_field(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        RetryPolicy(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("draw", [-0.01, 1.01, math.nan])
def test_a_draw_outside_its_interval(draw: float) -> None:
    with pytest.raises(ValueError):
        RetryPolicy().after(BROKEN, 1, draw)
