"""How fast a host sends: from what lands while something is being received, each second weighing less with its age."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kithara_actors.logic.bandwidth import ENOUGH, FAST, SAMPLE, SLOW, Bandwidth, HostBook, HostStats

A, B = "http://a:80", "http://b:80"
MBIT = 1_000_000
samples = st.lists(st.tuples(st.integers(SAMPLE, 10_000_000), st.floats(0.01, 20)), min_size=1, max_size=30)


def estimate(pairs: list[tuple[int, float]]) -> float | None:
    made = Bandwidth()
    for count, seconds in pairs:
        made.add(count, seconds)
    return made.bps


@given(samples)
def test_it_lies_between_the_slowest_and_the_fastest_sample(pairs: list[tuple[int, float]]) -> None:
    found = estimate(pairs)
    rates = [count * 8 / seconds for count, seconds in pairs]
    if sum(count for count, _ in pairs) < ENOUGH:
        assert found is None
    else:
        assert found is not None
        assert min(rates) * (1 - 1e-9) <= found <= max(rates) * (1 + 1e-9)


@given(samples, st.integers(1, 2_000_000))
def test_more_bytes_never_lower_it(pairs: list[tuple[int, float]], more: int) -> None:
    before = estimate(pairs)
    after = estimate([*pairs[:-1], (pairs[-1][0] + more, pairs[-1][1])])
    assume(before is not None)
    assert before is not None
    assert after is not None
    assert after >= before * (1 - 1e-9)


@given(st.integers(100_000, 1_000_000), st.floats(0.1, 5))
def test_equal_samples_are_the_estimate(count: int, seconds: float) -> None:
    assert estimate([(count, seconds)] * 3) == pytest.approx(count * 8 / seconds)


def test_half_lives() -> None:
    """After a half-life at the new rate, half of the way is gone; the lower of the two means is taken."""
    fast, slow = 10 * MBIT // 8, 1 * MBIT // 8
    rise = [(slow * 1000, 1000.0), (int(fast * SLOW), SLOW)]
    assert estimate(rise) == pytest.approx(5.5 * MBIT, rel=1e-3)
    fall = [(fast * 1000, 1000.0), (int(slow * FAST), FAST)]
    assert estimate(fall) == pytest.approx(5.5 * MBIT, rel=1e-3)


def test_a_small_sample_weighs_little() -> None:
    steady = [(MBIT // 8, 1.0)] * 10
    found = estimate([*steady, (SAMPLE, 0.001)])
    assert found == pytest.approx(MBIT, rel=0.05)


# --- Hosts


def received(book: HostBook, key: int, origin: str, pieces: list[tuple[float, int]], now: float = 0.0) -> float:
    """One attempt that lands so many bytes after so many seconds each."""
    book.begin(key, origin, 0, now)
    book.answered(key, 0.1, now)
    landed = 0
    for seconds, count in pieces:
        now += seconds
        landed += count
        book.landed(key, landed, now)
    book.end(key, landed, now)
    return now


def test_one_body() -> None:
    book = HostBook()
    received(book, 1, A, [(1.0, MBIT // 8)] * 4)
    assert book.stats() == {A: HostStats(0, MBIT, 0.1, MBIT // 2)}


def test_the_time_between_bodies_does_not_count() -> None:
    book = HostBook()
    now = received(book, 1, A, [(1.0, MBIT // 8)] * 2)
    received(book, 2, A, [(1.0, MBIT // 8)] * 2, now + 1000.0)
    assert book.stats()[A].bandwidth_bps == MBIT


def test_bodies_at_once_are_summed() -> None:
    book = HostBook()
    for key in (1, 2, 3, 4):
        book.begin(key, A, 0, 0.0)
        book.answered(key, 0.1, 0.0)
    for second in range(1, 5):
        for key in (1, 2, 3, 4):
            book.landed(key, second * MBIT // 8, float(second))
    assert book.stats()[A].running == 4
    assert book.stats()[A].bandwidth_bps == pytest.approx(4 * MBIT)
    for key in (1, 2, 3, 4):
        book.end(key, 4 * MBIT // 8, 4.0)
    assert book.stats()[A].bytes == 2 * MBIT


def test_hosts_are_apart_and_waiting_for_headers_is_not_receiving() -> None:
    book = HostBook()
    book.begin(9, A, 0, 0.0)
    received(book, 1, B, [(1.0, MBIT // 4)] * 2)
    book.answered(9, 5.0, 5.0)
    for second in (1, 2, 3):
        book.landed(9, second * MBIT // 8, 5.0 + second)
    stats = book.stats()
    assert (stats[A].running, stats[A].bandwidth_bps, stats[A].ttfb) == (1, MBIT, 5.0)
    assert (stats[B].running, stats[B].bandwidth_bps) == (0, 2 * MBIT)


def test_too_little_is_no_estimate_and_a_trickle_is_slow() -> None:
    book = HostBook()
    received(book, 1, A, [(0.01, ENOUGH - 1)])
    assert book.stats()[A].bandwidth_bps is None
    received(book, 2, B, [(10.0, SAMPLE // 2)] * 20)
    assert book.stats()[B].bandwidth_bps == SAMPLE // 2 * 8 // 10


def test_first_byte_times_are_smoothed() -> None:
    book = HostBook()
    for key, ttfb in ((1, 0.8), (2, 1.6)):
        book.begin(key, A, 0, 0.0)
        book.answered(key, ttfb, 0.0)
        book.answered(key, 99.0, 0.0)  # told again
    assert book.stats()[A].ttfb == pytest.approx(0.9)


def test_idle_hosts_are_forgotten_and_those_in_use_are_not() -> None:
    book = HostBook(limit=3)
    book.begin(1, A, 0, 0.0)
    for key in range(10, 20):
        book.begin(key, f"http://h{key}", 0, 0.0)
        book.end(key, 0, 0.0)
    assert list(book.stats()) == [A, "http://h18", "http://h19"]
    for key in range(20, 30):
        book.begin(key, f"http://h{key}", 0, 0.0)
    assert len(book.stats()) == 11
    book.end_all(1.0)
    assert {each.running for each in book.stats().values()} == {0}


operations = st.lists(
    st.tuples(
        st.sampled_from(["begin", "answered", "landed", "end"]),
        st.integers(1, 4),
        st.sampled_from([A, B]),
        st.integers(0, 500_000),
        st.integers(0, 24).map(lambda eighths: eighths / 8),  # sums of these are exact
    ),
    max_size=60,
)


def run(steps: list[tuple[str, int, str, int, float]], shift: float) -> HostBook:
    book = HostBook()
    now = shift
    for what, key, origin, count, seconds in steps:
        now += seconds
        match what:
            case "begin":
                book.begin(key, origin, 0, now)
            case "answered":
                book.answered(key, seconds, now)
            case "landed":
                book.landed(key, count, now)
            case "end":
                book.end(key, count, now)
    return book


@given(operations, st.sampled_from([0.0, 64.0, 4096.0, 1_000_000.0]))
def test_only_differences_of_time_matter(steps: list[tuple[str, int, str, int, float]], shift: float) -> None:
    assert run(steps, 0.0).stats() == run(steps, shift).stats()


@given(operations)
def test_running_is_what_began_and_has_not_ended(steps: list[tuple[str, int, str, int, float]]) -> None:
    book = run(steps, 0.0)
    open_: dict[int, str] = {}
    for what, key, origin, _, _ in steps:
        if what == "begin":
            open_[key] = origin
        elif what == "end":
            open_.pop(key, None)
    for origin, each in book.stats().items():
        assert each.running == list(open_.values()).count(origin)
    for host in book._hosts.values():
        assert 0 <= host.bodies <= host.running
