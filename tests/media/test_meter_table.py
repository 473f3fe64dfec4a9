"""Origins share meters without ever sharing one at a time, and without shaking off what they owe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.logic.meter_table import MeterTable


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=200))
def test_no_two_origins_in_use_have_the_same_meter(steps: list[tuple[bool, int]]) -> None:
    table = MeterTable(4)
    users: dict[str, int] = {}
    numbers: dict[str, int] = {}
    last: dict[int, str] = {}
    for takes, which in steps:
        origin = f"http://{which}:80"
        if takes and (origin in users or len(users) < 4):
            number, fresh = table.take(origin)
            assert 1 <= number <= 4
            assert numbers.get(origin, number) == number
            # Fresh exactly when it does not hold what this origin owes.
            assert fresh is (last.get(number) != origin)
            numbers[origin], last[number] = number, origin
            users[origin] = users.get(origin, 0) + 1
            assert len({numbers[each] for each in users}) == len(users)
        elif not takes and origin in users:
            table.give_back(origin)
            users[origin] -= 1
            if not users[origin]:
                del users[origin], numbers[origin]


def test_an_origin_that_comes_back_finds_its_meter() -> None:
    table = MeterTable(2)
    assert table.take("a") == (1, True)
    table.give_back("a")
    assert table.take("b") == (2, True)
    assert table.take("a") == (1, False)


def test_the_meter_that_was_idle_for_longest_changes_hands() -> None:
    table = MeterTable(2)
    for origin in ("a", "b"):
        table.take(origin)
    for origin in ("b", "a"):
        table.give_back(origin)
    assert table.take("c") == (2, True)
    assert table.take("a") == (1, False)
    table.give_back("a")
    assert table.take("b") == (1, True)


def test_too_many_origins_at_once_is_an_error() -> None:
    table = MeterTable(1)
    table.take("a")
    with pytest.raises(RuntimeError, match="more origins"):
        table.take("b")
    with pytest.raises(KeyError):
        table.give_back("b")
