"""A batch that is closed, or taken from, while somebody else is taking from it."""

from __future__ import annotations

import collections
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from execute_kit import nothing_held, one_end_each
from stream_kit import HANG, Call, answered, watching

from actors.clock import monotonic
from kithara_actors import ActorSystem, Batch, FetchCommand, FetchResult
from kithara_actors.batching import _Bell, _Wait
from kithara_actors.messages.events import RequestCancelled, RequestStarted
from kithara_actors.testing.origin import Fault, Origin, Resource

get = FetchCommand.get


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=1, max_concurrent=2) as running:
        yield running


def test_close_from_another_thread_ends_the_iteration(origin: Origin, system: ActorSystem) -> None:
    stuck = origin.add("/stuck", Resource(1000, always=Fault(stall_headers=True)))
    with watching(system) as watch:
        batch = system.batch([get(stuck)] * 5)
        answered(origin, "/stuck", 2)
        taking = Call(list, batch)
        batch.close()
        assert taking.result() == []
        watch.until(lambda _: len(watch.of(RequestCancelled)) == 5)
        one_end_each(watch)
    nothing_held(system)


def test_commands_that_close_their_batch_end_it(origin: Origin, system: ActorSystem) -> None:
    """What was drawn before and after is cancelled, each with a beginning."""
    url = origin.add("/a", Resource(10))
    batches: list[Batch] = []

    def commands() -> Iterator[FetchCommand]:
        for number in itertools.count():
            if number == 100:
                batches[0].close()
            yield get(url)

    with watching(system) as watch:
        batches.append(system.batch(commands()))
        taken = list(batches[0])
        assert all(isinstance(each, FetchResult) for each in taken)
        assert len(taken) < 100
        nothing_held(system)
        assert system.stop() == []
        watch.drain()
        one_end_each(watch)
        assert len(watch.of(RequestStarted)) <= 101


def test_only_one_takes_at_a_time_and_the_other_is_told(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", Resource(10))
    entered, gate = threading.Event(), threading.Event()

    def commands() -> Iterator[FetchCommand]:
        for number in range(200):
            if number == 100:
                entered.set()
                assert gate.wait(HANG)
            yield get(url)

    batch = system.batch(commands())
    taking = Call(list, batch)
    assert entered.wait(HANG)
    with pytest.raises(ValueError, match="is iterated already"):
        next(batch)
    gate.set()
    assert len(taking.result()) == 200
    nothing_held(system)


def test_commands_that_take_from_their_own_batch_are_told(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", Resource(10))
    batches: list[Batch] = []

    def commands() -> Iterator[FetchCommand]:
        for number in range(200):
            if number == 100:
                next(batches[0])
            yield get(url)

    batches.append(system.batch(commands()))
    with pytest.raises(ValueError, match="is iterated already"):
        list(batches[0])
    assert list(batches[0]) == []
    nothing_held(system)


class Slow(threading.Event):
    """The bell before had seen that it was waited for, and only now wakes who waits for the next."""

    def wait(self, timeout: float | None = None) -> bool:
        self.wait = super().wait  # type: ignore[method-assign]
        self.set()
        return super().wait(timeout)


@pytest.mark.parametrize("over", [False, True])
def test_who_is_woken_late_for_one_answer_does_not_take_it_for_the_next(over: bool) -> None:
    wait = _Wait()
    wait.woken = Slow()
    bell = _Bell(wait)
    if over:
        ringing = threading.Timer(0.05, bell.set)
        ringing.start()
        assert wait.on(bell, monotonic() + HANG)
        ringing.join(HANG)
    else:
        assert not wait.on(bell, monotonic() + 0.05)


class Interrupted(collections.deque[Any]):
    """A signal comes wherever a place is about to be taken out, and its handler closes the batch."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch._window)
        self._batch: Batch | None = batch

    def _signal(self) -> None:
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.close()

    def popleft(self) -> Any:
        self._signal()
        return super().popleft()

    def clear(self) -> None:
        self._signal()
        super().clear()


@pytest.mark.parametrize("closed", [False, True])
def test_a_signal_that_closes_lets_go_of_each_answer_once(origin: Origin, system: ActorSystem, closed: bool) -> None:
    url = origin.add("/a", Resource(10))
    batch = system.batch([get(url)] * 5)
    landings = [place.waiting.content for place in batch._window if place.waiting is not None]
    assert len(landings) == 5
    batch._window = Interrupted(batch)
    if closed:
        batch.close()
    else:
        assert list(batch) == []
    nothing_held(system)
    assert [landing._holders for landing in landings] == [0] * 5
