"""What is known of requests whichever actor has begun anew: each event once, and nothing kept of those that ended."""

from __future__ import annotations

from kithara_actors.assets.requests import RequestTable, Told
from kithara_actors.logic.suspicion import Blame
from kithara_actors.values import RequestId


def test_each_event_may_be_told_once() -> None:
    table = RequestTable()
    one, two = table.create(1, "source-1"), table.create(0, "collector")
    assert [table.once(one, told) for told in (Told.ENQUEUED, Told.ENQUEUED, Told.STARTED, Told.END)] == [
        True,
        False,
        True,
        True,
    ]
    assert table.once(two, Told.END)
    assert (table.of(one), table.of(two)) == ((1, "source-1"), (0, "collector"))


def test_after_its_end_nothing_is_told_and_nothing_kept() -> None:
    table = RequestTable()
    one = table.create(1, "source-1")
    assert not table.ended(one)
    table.end(one, 1000)
    table.end(one, 1000)
    assert table.ended(one)
    assert not table.once(one, Told.END)
    assert (len(table), table.of(one), table.bytes, table.ended_count) == (0, None, 1000, 1)


def test_the_first_byte_is_told_once_for_each_attempt() -> None:
    table = RequestTable()
    one = table.create(1, "source-1")
    assert [table.answered(one, attempt) for attempt in (3, 3, 7, 3, 8)] == [True, False, True, False, True]


def test_the_first_slot_counts() -> None:
    table = RequestTable()
    one = table.create(1, "source-1")
    assert (table.started(one, 5.0), table.started(one, 9.0)) == (5.0, 5.0)


def test_an_id_that_was_not_given_out_has_not_ended() -> None:
    table = RequestTable()
    assert not table.ended(RequestId(7))
    assert table.once(RequestId(7), Told.END)


def test_what_is_held_against_a_request_outlives_who_held_it() -> None:
    table = RequestTable()
    one = table.create(1, "source-1")
    table.suspicion(one, 1000).lost(Blame.ALONE, 1000)
    assert table.suspicion(one, 5000).suspect
    table.end(one)
    assert not table.suspicion(one, 5000).suspect
