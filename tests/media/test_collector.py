"""One-off requests in the host, fed by hand: each ends once, its caller is woken, and no two answers are mixed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from actor_kit import CODEC, begin_call, call_spec

from actors.testing.step import Neighbours, Step
from kithara_actors.actor.collector import Collector
from kithara_actors.assets.collecting import Waiting, WaitingTable
from kithara_actors.assets.content import ContentTable
from kithara_actors.errors import Failure, SystemStopped
from kithara_actors.messages.commands import (
    Abandon,
    CancelFetch,
    Collect,
    CollectedHead,
    Fetch,
    FetchCancelled,
    FetchDone,
    FetchFailed,
    WorkerUp,
)
from kithara_actors.values import CancelReason, RequestId

ONE, TWO = RequestId(1), RequestId(2)
BROKEN = Failure("ConnectError", "broken", retryable=True)
STOPPED = Failure("SystemStopped", "the system has been stopped")
HEAD = CollectedHead(ONE, 200, False, 5, "http://one/", (("A", "b"),))


class Desk:
    """The Collector, its registry and its callers."""

    def __init__(self) -> None:
        self.contents = ContentTable()
        self.table = WaitingTable(self.contents)
        self.around = Neighbours(CODEC, "registry")
        self.step = Step(Collector(self.table, self.around.find, lambda: RequestId(99)), CODEC)
        self.tell = self.step.tell
        self.registry = self.around["registry"]
        self.callers: list[Waiting] = []

    def begin(self, request: int = 1, **changes: Any) -> Waiting:
        waiting = self.place(request, **changes)
        self.tell(Collect((RequestId(request),)))
        return waiting

    def place(self, request: int = 1, **changes: Any) -> Waiting:
        waiting = begin_call(self.table, request, **changes)
        self.callers.append(waiting)
        return waiting

    def close(self) -> None:
        self.table.end_all(STOPPED)
        for waiting in self.callers:
            waiting.content.release()
        assert (len(self.table), len(self.contents)) == (0, 0)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def test_a_call_is_asked_for_once_and_ends_with_its_answer(desk: Desk) -> None:
    waiting = desk.begin()
    spec = call_spec(content=waiting.content.id)
    assert desk.registry.take() == [Fetch(spec)]
    os.pwrite(waiting.content.fd, b"bytes", 0)
    desk.tell(HEAD)
    assert not waiting.ended.is_set()
    desk.tell(FetchDone(ONE, 5, None))
    assert waiting.ended.is_set()
    assert (waiting.head, waiting.size, waiting.failure) == (HEAD, 5, None)
    assert os.pread(waiting.content.fd, 10, 0) == b"bytes"  # held for its caller, though the request is over
    assert len(desk.contents) == 0
    desk.tell(FetchFailed(ONE, 0, False, BROKEN), FetchDone(ONE, 3, None), HEAD, Abandon((ONE,)))
    assert (waiting.size, waiting.failure, desk.registry.take()) == (5, None, [])


def test_a_head_may_come_with_the_end(desk: Desk) -> None:
    waiting = desk.begin(start=1000, end=1005, ranged=True)
    last = replace(HEAD, end=1003)
    desk.tell(last)
    assert (waiting.ended.is_set(), waiting.head, waiting.size, waiting.failure) == (True, last, 3, None)
    desk.tell(last, FetchDone(ONE, 1005, None))
    assert waiting.size == 3


def test_several_calls_are_asked_for_and_given_up_by_one_command(desk: Desk) -> None:
    one, two = desk.place(1), desk.place(2)
    desk.tell(Collect((ONE, TWO)))
    assert desk.registry.take() == [Fetch(one.spec), Fetch(two.spec)]
    desk.tell(replace(HEAD, end=5), Abandon((ONE, TWO)))
    assert desk.registry.take() == [CancelFetch(TWO, CancelReason.PEER_CANCEL)]


def test_the_size_of_a_range_does_not_depend_on_where_it_is(desk: Desk) -> None:
    waiting = desk.begin(start=1000, end=1005, ranged=True)
    desk.tell(HEAD, FetchDone(ONE, 1003, None))
    assert waiting.size == 3


def test_the_head_of_the_last_attempt_counts(desk: Desk) -> None:
    waiting = desk.begin()
    last = CollectedHead(ONE, 201, False, None, "http://two/", ())
    desk.tell(HEAD, last)
    assert waiting.head == last


def test_calls_do_not_touch_each_other(desk: Desk) -> None:
    one, two = desk.begin(1), desk.begin(2)
    desk.tell(FetchFailed(ONE, 0, False, BROKEN))
    assert (one.ended.is_set(), one.failure, two.ended.is_set()) == (True, BROKEN, False)
    desk.tell(replace(HEAD, request=TWO), FetchDone(TWO, 0, None))
    assert (two.ended.is_set(), two.failure, two.size) == (True, None, 0)


def test_who_no_longer_waits_has_the_request_cancelled(desk: Desk) -> None:
    waiting = desk.begin()
    desk.registry.take()
    desk.tell(Abandon((ONE,)))
    assert desk.registry.take() == [CancelFetch(ONE, CancelReason.PEER_CANCEL)]
    assert len(desk.contents) == 1  # a worker may still write
    desk.tell(FetchCancelled(ONE, 0, CancelReason.PEER_CANCEL))
    assert waiting.ended.is_set()
    assert len(desk.contents) == 0


@pytest.mark.parametrize("reason", [CancelReason.BEFORE_START, CancelReason.DOWNLOADER_SHUTDOWN])
def test_a_request_that_the_system_ends_says_why(desk: Desk, reason: CancelReason) -> None:
    waiting = desk.begin()
    desk.table.close(STOPPED)
    desk.tell(FetchCancelled(ONE, 0, reason))
    assert waiting.failure == STOPPED


def test_after_the_end_nothing_begins(desk: Desk) -> None:
    desk.table.close(STOPPED)
    desk.table.close(BROKEN)
    with pytest.raises(SystemStopped, match=r"^the system has been stopped$"):
        desk.place()
    assert len(desk.contents) == 0


def test_a_call_that_was_ended_on_its_way_is_not_asked_for(desk: Desk) -> None:
    waiting = desk.place()
    desk.table.close(STOPPED)
    desk.table.end_all(STOPPED)
    desk.tell(Collect((ONE,)))
    assert (desk.registry.take(), waiting.failure) == ([], STOPPED)


@pytest.mark.parametrize("gone", ["dead", "unknown"])
def test_without_a_registry_the_caller_is_not_left_waiting(desk: Desk, gone: str) -> None:
    if gone == "dead":
        desk.registry.alive = False
    else:
        desk.around._probes.clear()
    waiting = desk.begin()
    assert waiting.ended.is_set()
    assert waiting.failure is not None
    assert waiting.failure.kind == "SystemStopped"


def test_a_collector_that_ends_leaves_nobody_waiting(desk: Desk) -> None:
    one, two = desk.begin(1), desk.begin(2)
    desk.step.stop()
    for waiting in (one, two):
        assert waiting.ended.is_set()
        assert waiting.failure is not None
        assert waiting.failure.kind == "SystemStopped"


def test_a_command_for_another_is_refused(desk: Desk) -> None:
    with pytest.raises(TypeError, match="Collector does not handle WorkerUp"):
        desk.tell(WorkerUp(1, 2))
