"""Readers of events are woken seldom and find all that has come; who publishes waits for none of them."""

from __future__ import annotations

import asyncio
import collections
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.clock import monotonic
from kithara_actors.messages.events import EndOfStream, Envelope, Lagged, Scope
from kithara_actors.stream import journal as journals
from kithara_actors.stream.event_log import EventLog
from kithara_actors.stream.journal import EACH, LONGEST, SHORTEST
from kithara_actors.stream.loop_waiting import LoopBell
from kithara_actors.stream.subscription import BURST, Subscribers, Subscription

LONG = 20.0
SYSTEM = Scope()


class Table(Subscribers):
    """Counts how often the bus is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told = 0

    def publish(self, number: int, scope: Scope = SYSTEM) -> None:
        if self.add(EndOfStream(number), scope):
            self.told += 1
            self.deliver()


@pytest.fixture
def table() -> Iterator[Table]:
    made = Table()
    yield made
    made.end_all()


@pytest.fixture
def long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was woken once is not woken again in the time of a test."""
    monkeypatch.setattr(journals, "SHORTEST", 3600.0)
    monkeypatch.setattr(journals, "LONGEST", 3600.0)


def told_by(envelope: Envelope | None) -> int | str:
    assert envelope is not None
    if isinstance(envelope.event, Lagged):
        return f"lost {envelope.event.missed}"
    assert isinstance(envelope.event, EndOfStream)
    return envelope.event.total


def until(condition: Callable[[], object]) -> None:
    """Wait for another thread to come to where it blocks."""
    end = monotonic() + LONG
    while not condition():
        assert monotonic() < end, "waited in vain"
        os.sched_yield()


class Reader:
    """A thread that reads all."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.got: list[int | str] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        for envelope in self.subscription:
            self.got.append(told_by(envelope))

    @property
    def waits(self) -> bool:
        return bool(self.subscription._log.waiters)

    @property
    def pauses(self) -> bool:
        return bool(self.subscription._here) and not self.waits

    def close(self) -> list[int | str]:
        self.subscription.close()
        self.thread.join(LONG)
        assert not self.thread.is_alive()
        return self.got


# --- Pauses


@pytest.mark.usefixtures("long_pauses")
def test_who_was_just_woken_is_left_alone_and_finds_all_at_once(table: Table) -> None:
    reader = Reader(table.create(SYSTEM, 100))
    until(lambda: reader.waits)
    table.publish(1)
    until(lambda: reader.got == [1] and reader.pauses)
    for number in range(2, 7):
        table.publish(number)
    assert table.told == 1
    assert reader.got == [1]
    assert reader.close() == [1, 2, 3, 4, 5, 6]


def test_who_finds_nothing_after_a_pause_is_woken_at_once(table: Table) -> None:
    reader = Reader(table.create(SYSTEM, 100))
    for number in range(1, 4):
        until(lambda: reader.waits)
        table.publish(number)
        until(lambda number=number: reader.got[-1:] == [number])  # type: ignore[misc]
    assert table.told == 3
    assert reader.close() == [1, 2, 3]


@pytest.mark.usefixtures("long_pauses")
def test_a_limit_ends_a_pause_and_finds_what_has_come(table: Table) -> None:
    subscription = table.create(SYSTEM, 100)
    subscription._rested_at = monotonic() + 3600
    assert subscription.get(0.001) is None
    table.publish(1)
    assert told_by(subscription.get(0.001)) == 1
    assert asyncio.run(subscription.get_async(0.001)) is None
    # It comes when the look before the pause has been made: the last look finds it.
    publishing = threading.Timer(0.01, table.publish, (2,))
    publishing.start()
    found = None
    while found is None:
        found = subscription.get(0.005)
    assert told_by(found) == 2
    publishing.join()
    assert table.told == 0


@pytest.mark.usefixtures("long_pauses")
def test_a_pause_ends_with_the_subscription(table: Table) -> None:
    subscription = table.create(SYSTEM, 100)
    subscription._rested_at = monotonic() + 3600

    async def main() -> None:
        task = asyncio.create_task(subscription.get_async())
        while not subscription._here:
            await asyncio.sleep(0)
        assert not subscription._log.waiters
        subscription.close()
        assert await asyncio.wait_for(task, LONG) is None

    asyncio.run(main())
    assert not subscription._here
    assert LoopBell._all == {}


def test_pauses_are_longer_the_more_read_and_those_who_never_do_are_not_counted(table: Table) -> None:
    unread = [table.create(SYSTEM, 10) for _ in range(100)]
    journal = table.journal
    assert journal.pause == SHORTEST
    for each in unread:
        assert each.get(0.0001) is None
    assert journal.pause == pytest.approx(min(LONGEST, 100 * EACH))
    more = [table.create(SYSTEM, 10) for _ in range(900)]
    for each in more:
        journal.wait(each, each._log, each, lambda: None)
    assert journal.pause == LONGEST
    for each in [*unread, *more]:
        each.close()
    assert journal.pause == SHORTEST


def test_nobody_is_told_for_those_who_gave_up_waiting(table: Table) -> None:
    threaded, looping = table.create(SYSTEM, 10), table.create(SYSTEM, 10)
    assert threaded.get(0.001) is None
    assert asyncio.run(looping.get_async(0.001)) is None
    table.deliver()
    table.publish(1)
    assert table.told == 0
    assert not table.journal._waited


def test_what_came_just_before_the_end_is_not_missed_by_who_looked_before_it(table: Table) -> None:
    class Overtaken(Subscription):
        def _next(self, most: int) -> Envelope | None:
            found = super()._next(most)
            if found is None and not self.ended:
                table.publish(1)
                self.close()
            return found

    for looping in (False, True):
        subscription = table.create(SYSTEM, 10)
        subscription.__class__ = Overtaken
        found = asyncio.run(subscription.get_async(LONG)) if looping else subscription.get(LONG)
        assert told_by(found) == 1


# --- Event loops


@pytest.mark.usefixtures("long_pauses")
def test_all_tasks_of_a_loop_are_woken_by_one_call_and_pause_by_one_timer(table: Table) -> None:
    subscriptions = [table.create(SYSTEM, 100) for _ in range(50)]
    got: list[list[int | str]] = [[] for _ in subscriptions]
    calls: collections.Counter[str] = collections.Counter()

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counts(*args: Any) -> Any:
            calls[name] += 1
            return call(*args)

        return counts

    async def read(at: int) -> None:
        async for envelope in subscriptions[at]:
            got[at].append(told_by(envelope))

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        for name in ("call_soon_threadsafe", "call_later"):
            setattr(loop, name, counted(name, getattr(loop, name)))
        tasks = [asyncio.create_task(read(at)) for at in range(50)]
        while not all(each._here for each in subscriptions):
            await asyncio.sleep(0)
        table.publish(1)
        while any(each != [1] for each in got) or not all(each._here for each in subscriptions):
            await asyncio.sleep(0)
        assert calls == {"call_soon_threadsafe": 1, "call_later": 1}
        for number in range(2, 5):
            table.publish(number)
        assert table.told == 1
        bell = LoopBell._all[loop]
        timer = bell._timer
        for each in subscriptions:
            each.close()
        await asyncio.wait_for(asyncio.gather(*tasks), LONG)
        assert calls["call_soon_threadsafe"] == 2
        assert timer is not None
        assert timer.cancelled()

    asyncio.run(main())
    assert got == [[1, 2, 3, 4]] * 50
    assert LoopBell._all == {}


def test_tasks_that_paused_go_on_by_themselves(table: Table) -> None:
    subscriptions = [table.create(SYSTEM, 100) for _ in range(20)]

    async def read(subscription: Subscription) -> list[int | str]:
        return [told_by(envelope) async for envelope in subscription]

    async def main() -> list[list[int | str]]:
        tasks = [asyncio.create_task(read(each)) for each in subscriptions]
        for number in range(5):
            while not all(each._log.waiters for each in subscriptions):
                await asyncio.sleep(0)
            table.publish(number)
        for each in subscriptions:
            each.close()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [[0, 1, 2, 3, 4]] * 20


def test_next_of_a_subscription_without_a_loop_statement(table: Table) -> None:
    subscription = table.create(SYSTEM, 100)
    table.publish(1)

    async def main() -> int | str:
        found = told_by(await anext(subscription))
        subscription.close()
        with pytest.raises(StopAsyncIteration):
            await anext(subscription)
        return found

    assert asyncio.run(main()) == 1


# --- Bursts


def test_who_leaves_a_loop_has_lost_nothing_of_the_burst(table: Table) -> None:
    subscription = table.create(SYSTEM, 100)
    for number in range(10):
        table.publish(number)

    async def first() -> int | str:
        async for envelope in subscription:
            return told_by(envelope)
        raise AssertionError

    assert told_by(next(iter(subscription))) == 0
    assert told_by(subscription.get(0)) == 1
    assert asyncio.run(first()) == 2
    assert told_by(next(iter(subscription))) == 3
    subscription.close()
    assert [told_by(envelope) for envelope in subscription] == list(range(4, 10))


def test_what_is_lost_behind_a_burst_is_told_in_its_place(table: Table) -> None:
    subscription = table.create(SYSTEM, 2)
    table.publish(1)
    table.publish(2)
    reading = iter(subscription)
    assert told_by(next(reading)) == 1
    for number in range(3, 13):
        table.publish(number)
    assert [told_by(next(reading)) for _ in range(4)] == [2, "lost 8", 11, 12]


def test_a_burst_holds_no_more_than_the_capacity_and_a_limit(table: Table) -> None:
    small, large = table.create(SYSTEM, 3), table.create(SYSTEM, 10_000)
    for number in range(1000):
        table.publish(number)
    assert told_by(next(iter(small))) == "lost 997"
    next(iter(small))
    assert len(small._ready) == 2
    next(iter(large))
    assert len(large._ready) == BURST - 1


@given(st.lists(st.sampled_from(["publish", "publish", "publish", "get", "next"]), max_size=80), st.integers(1, 5))
def test_each_event_is_read_or_counted_however_it_is_read(steps: list[str], capacity: int) -> None:
    table = Table()
    subscription = table.create(SYSTEM, capacity)
    reading = iter(subscription)
    published = seen = 0
    last = 0
    for step in steps:
        if step == "publish":
            table.publish(published)
            published += 1
            continue
        if seen == published:
            continue
        envelope = subscription.get(0) if step == "get" else next(reading)
        assert envelope is not None
        assert envelope.seq > last
        last = envelope.seq
        if isinstance(envelope.event, Lagged):
            seen += envelope.event.missed
        else:
            assert told_by(envelope) == seen
            seen += 1
    subscription.close()
    for envelope in reading:
        seen += envelope.event.missed if isinstance(envelope.event, Lagged) else 1
    assert seen == published


def test_what_has_gone_from_a_log_is_not_taken() -> None:
    log = EventLog()
    log.enter(2)
    log.enter(2)
    for number in range(1, 6):
        log.add(Envelope(EndOfStream(number), SYSTEM, number, 1.0))
    assert log.take(0, 10) is None
    found = log.take(3, 10)
    assert found is not None
    assert [each.seq for each in found] == [4, 5]


# --- Whoever publishes


def test_who_publishes_takes_no_lock(table: Table) -> None:
    """Of those that readers and the bus hold while they work."""
    subscription = table.create(SYSTEM, 10)
    with table.journal._lock, table._lock, subscription._lock:
        thread = threading.Thread(target=lambda: [table.add(EndOfStream(at), SYSTEM) for at in range(1000)])
        thread.start()
        thread.join(LONG)
        assert not thread.is_alive()
    assert told_by(subscription.get(0)) == "lost 990"


def test_a_subscription_closed_in_the_middle_of_a_delivery_harms_nobody(table: Table) -> None:
    """As a finalizer does, which may run anywhere."""

    class Closing(EventLog):
        def add(self, envelope: Envelope) -> None:
            super().add(envelope)
            for each in (leaves, also):
                each.close()

    leaves, also = table.create(SYSTEM, 10), table.create(Scope(3), 10)
    stays = table.create(Scope(3, 4), 10)
    leaves._log.__class__ = Closing
    for number in range(3):
        table.publish(number, Scope(3, 4))
    assert [told_by(stays.get(0)) for _ in range(3)] == [0, 1, 2]
    assert told_by(leaves.get(0)) == 0
    assert leaves.get() is None
    stays.close()
    assert not table.journal._entries


def test_many_publish_and_many_read_each_in_its_order(table: Table) -> None:
    count, publishers = 1500, 4
    readers = [Reader(table.create(SYSTEM, 10 * count)) for _ in range(4)]

    def publish(who: int) -> None:
        for number in range(count):
            table.publish(number * publishers + who)

    threads = [threading.Thread(target=publish, args=(who,)) for who in range(publishers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    for reader in readers:
        got = reader.close()
        assert got == readers[0].got
        assert len(got) == count * publishers
        for who in range(publishers):
            mine = [each for each in got if isinstance(each, int) and each % publishers == who]
            assert mine == sorted(mine)
