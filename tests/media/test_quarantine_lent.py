"""A suspect need not wait for a worker to be started where a regular one has nothing to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ward_kit import EXTRA, FIRST, Ward

from kithara_actors.actor.quarantine import PATIENCE
from kithara_actors.messages.commands import FetchFailed


@pytest.fixture
def ward() -> Iterator[Ward]:
    made = Ward()
    yield made
    made.contents.discard(made.content)


def test_it_has_an_idle_worker_at_once_and_the_rest_the_one_that_comes(ward: Ward) -> None:
    ward.up(1, 2)
    ward.admit(1)
    assert ward.taken() == [(1, 1, 1000)]
    ward.lose(1)
    assert ward.taken() == [(2, 1, 1000)]
    assert ward.pool.enlisted == 0
    ward.admit(11)
    assert ward.taken() == []  # it may be ended with it, and another is being started
    ward.up(3)
    ward.admit(12)
    assert ward.taken() == [(3, 11, 1000), (3, 12, 1000)]
    ward.done(1)
    ward.admit(13)
    assert ward.taken() == [(2, 13, 1000)]
    ward.done(11)
    ward.done(12)
    ward.done(13)
    ward.tick()
    assert [delay for delay in ward.timers.delays if delay <= 0.1] == []  # nobody looks for suspects


def test_it_shares_when_no_other_comes(ward: Ward) -> None:
    ward.up(1, 2)
    ward.admit(1)
    assert ward.taken() == [(1, 1, 1000)]
    ward.lose(1)
    assert ward.taken() == [(2, 1, 1000)]
    ward.admit(11)
    ward.tick(PATIENCE - 1.0)
    assert ward.taken() == []
    ward.tick(2.0)
    assert ward.taken() == [(2, 11, 1000)]
    ward.done(1)
    ward.admit(12)
    assert ward.taken() == [(2, 12, 1000)]


def test_the_only_worker_stays_for_the_rest(ward: Ward) -> None:
    ward.up(1)
    ward.admit(1)
    assert ward.taken() == [(1, 1, 1000)]
    ward.lose(1)
    ward.up(2)
    assert (ward.taken(), ward.pool.enlisted) == ([], 1)
    ward.admit(11)
    ward.enlisted()
    assert ward.taken() == [(2, 11, 1000), (EXTRA, 1, 1000)]


def test_one_at_a_time_is_lent_one(ward: Ward) -> None:
    ward.suspected(FIRST, 1)
    assert ward.taken() == [(0, FIRST, 1000)]
    assert ward.pool.enlisted == 1
    ward.done(FIRST)
    assert ward.taken() == [(0, 1, 1000)]
    ward.enlisted()
    ward.tick()
    assert ward.pool.discharged == [EXTRA]


def test_who_ends_the_worker_that_it_was_lent_is_refused(ward: Ward) -> None:
    ward.up(1, 2)
    ward.admit(1)
    assert ward.taken() == [(1, 1, 1000)]
    ward.lose(1)
    assert ward.taken() == [(2, 1, 1000)]
    ward.lose(2)
    (failed,) = [each for each in ward.source.take() if isinstance(each, FetchFailed)]
    assert failed.failure.kind == "PoisonRequest"
    ward.admit(11)
    ward.up(3)
    assert ward.taken() == [(3, 11, 1000)]
    ward.admit(2)
    ward.up(4)
    assert ward.taken() == [(3, 2, 1000)]
