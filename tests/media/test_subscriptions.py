"""Who reads events, and how: with threads, in event loops, by callbacks, or never; and what that costs."""

from __future__ import annotations

import asyncio
import collections
import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.messages.events import EndOfStream, Envelope, Lagged, Scope
from kithara_actors.stream.event_log import EventLog
from kithara_actors.stream.subscription import FAILURES, Subscribers, Subscription, deliver_to

LONG = 20.0
SYSTEM, ASSET, OTHER = Scope(), Scope(1), Scope(2)
STREAM, SIBLING, ELSEWHERE = Scope(1, 10), Scope(1, 11), Scope(2, 20)
SCOPES = [SYSTEM, ASSET, OTHER, STREAM, SIBLING, ELSEWHERE]


class Table:
    """Subscriptions, and events numbered as the bus does."""

    def __init__(self) -> None:
        self.seq = 0
        self.table = Subscribers(lambda: float(self.seq))

    def subscribe(self, scope: Scope = SYSTEM, capacity: int = 1024) -> Subscription:
        return self.table.create(scope, capacity)

    def publish(self, scope: Scope = SYSTEM) -> Envelope:
        """As the bus and whoever publishes do it; nothing is published while nobody listens."""
        if self.table.listening:
            self.seq += 1
        if self.table.add(EndOfStream(self.seq), scope):
            self.table.deliver()
        return Envelope(EndOfStream(self.seq), scope, self.seq, float(self.seq))

    @property
    def logs(self) -> list[EventLog]:
        self.table.deliver()
        return list(self.table.journal._logs.values())


@pytest.fixture
def table() -> Iterator[Table]:
    made = Table()
    yield made
    made.table.end_all()


def total(envelope: Envelope | None) -> int:
    assert envelope is not None
    assert isinstance(envelope.event, EndOfStream)
    return envelope.event.total


# --- As if each had a queue of its own


@dataclass
class Queue:
    """What a subscription is to do, said as simply as can be."""

    scope: Scope
    capacity: int
    waiting: collections.deque[Envelope] = field(default_factory=collections.deque)
    missed: int = 0
    last: Envelope | None = None
    ended: bool = False

    def add(self, envelope: Envelope) -> None:
        mine, its = self.scope, envelope.scope
        wanted = mine.asset is None or (
            its.asset == mine.asset and (its.stream is None or mine.stream in (None, its.stream))
        )
        if self.ended or not wanted:
            return
        if len(self.waiting) == self.capacity:
            self.last = self.waiting.popleft()
            self.missed += 1
        self.waiting.append(envelope)

    def get(self) -> Envelope | None:
        if self.missed:
            assert self.last is not None
            lost, self.missed = self.missed, 0
            return Envelope(Lagged(lost), self.scope, self.last.seq, self.last.timestamp)
        return self.waiting.popleft() if self.waiting else None


steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(SCOPES)),
        st.tuples(st.just("publish"), st.sampled_from(SCOPES)),
        st.tuples(st.just("get"), st.integers(0, 7)),
        st.tuples(st.just("subscribe"), st.tuples(st.sampled_from(SCOPES), st.integers(1, 4))),
        st.tuples(st.just("close"), st.integers(0, 7)),
        st.tuples(st.just("twice"), st.sampled_from(SCOPES)),
    ),
    max_size=80,
)


@given(steps)
def test_each_reads_as_from_a_queue_of_its_own(script: list[tuple[str, object]]) -> None:
    """Whoever else reads the same log, comes, goes, or is behind; and if the bus delivers an event once more."""
    table = Table()
    pairs: list[tuple[Subscription, Queue]] = []
    for what, value in script:
        match what, value:
            case "publish" | "twice", Scope() as scope:
                envelope = table.publish(scope)
                if what == "twice" and table.table.journal._entries:
                    table.table.deliver()
                    table.table.journal._entries.appendleft(table.table.journal._numbered[0])
                for _, queue in pairs:
                    queue.add(envelope)
            case "subscribe", (Scope() as scope, int(capacity)):
                pairs.append((table.subscribe(scope, capacity), Queue(scope, capacity)))
            case "get", int(at) if pairs:
                subscription, queue = pairs[at % len(pairs)]
                assert subscription.get(0) == queue.get()
            case "close", int(at) if pairs:
                subscription, queue = pairs[at % len(pairs)]
                subscription.close()
                queue.ended = True
    for subscription, queue in pairs:
        for _ in range(90):
            assert subscription.get(0) == queue.get()
        subscription.close()
        subscription.close()
    assert not table.table.listening
    journal = table.table.journal
    assert journal._logs == journal._streams == journal._users == {}
    assert not journal._entries
    assert not journal._waited
    assert not journal._readers


def test_whoever_has_ended_keeps_what_is_unread_whatever_comes_later(table: Table) -> None:
    leaves, stays = table.subscribe(capacity=3), table.subscribe(capacity=3)
    for _ in range(4):
        table.publish()
    leaves.close()
    for _ in range(50):
        table.publish()
    events = [envelope.event for envelope in leaves]
    assert events == [Lagged(1), EndOfStream(2), EndOfStream(3), EndOfStream(4)]
    assert leaves.get() is None
    first = stays.get(0)
    assert first is not None
    assert first.event == Lagged(51)


# --- Never read


def test_a_hundred_that_never_read_hold_one_set_of_events(table: Table) -> None:
    subscriptions = [table.subscribe(capacity=100) for _ in range(100)]
    for _ in range(1000):
        table.publish()
    (log,) = table.logs
    assert len(log.items) <= 101
    for each in subscriptions:
        lost = each.get(0)
        assert lost is not None
        assert lost.event == Lagged(900)
        assert total(each.get(0)) == 901


def test_what_is_never_read_takes_bounded_memory(table: Table) -> None:
    table.subscribe(capacity=64)
    for _ in range(200):
        table.publish()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5000):
            table.publish()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 50_000  # 5,000 envelopes take more than a megabyte


def test_what_one_has_read_is_gone(table: Table) -> None:
    reads = table.subscribe()
    for _ in range(10):
        table.publish()
        reads.get(0)
    (log,) = table.logs
    assert log.items == {}
    never = table.subscribe(capacity=5)
    for _ in range(20):
        table.publish()
    table.table.deliver()
    assert len(log.items) == 20
    never.close()
    reads.close()
    assert log.items == {}


def test_a_log_without_readers_keeps_nothing() -> None:
    log = EventLog()
    log.add(Envelope(EndOfStream(1), SYSTEM, 1, 1.0))
    assert (log.items, log.count) == ({}, 1)
    assert log.enter(2) == 1
    log.leave(7)
    log.leave(2)


# --- Threads


def test_who_gave_up_waiting_is_forgotten(table: Table) -> None:
    subscription = table.subscribe()
    (log,) = table.logs
    assert subscription.get(0.001) is None
    assert log.waiters == {}


def test_many_who_wait_are_all_woken(table: Table) -> None:
    got: list[int] = []
    threads = []
    for _ in range(20):
        subscription = table.subscribe()
        thread = threading.Thread(target=lambda each=subscription: got.append(total(each.get(LONG))))  # type: ignore[misc]
        thread.start()
        threads.append(thread)
    table.publish()
    for thread in threads:
        thread.join(LONG)
    assert got == [1] * 20


class Racing(dict[object, Callable[[], object]]):
    """Whoever begins to wait is overtaken by an event that nobody is woken for."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table

    def __setitem__(self, key: object, call: Callable[[], object]) -> None:
        self.table.publish()
        super().__setitem__(key, call)


def test_an_event_between_the_look_and_the_wait_is_not_slept_over(table: Table) -> None:
    subscription = table.subscribe()
    (log,) = table.logs
    log.waiters = Racing(table)
    assert total(subscription.get(LONG)) == 1
    assert log.waiters == {}

    async def main() -> None:
        with pytest.raises(StopIteration) as returned:
            subscription.get_async(LONG).send(None)  # would return here if it waited
        assert total(returned.value.value) == 2

    asyncio.run(main())
    assert log.waiters == {}


def test_several_who_share_a_subscription_get_each_envelope_once(table: Table) -> None:
    subscription = table.subscribe(capacity=10_000)
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.extend(total(each) for each in subscription)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2000):
        table.publish()
    subscription.close()
    for thread in threads:
        thread.join(LONG)
    assert sorted(got) == list(range(1, 2001))


# --- Callbacks


def failing(table: Table, caplog: pytest.LogCaptureFixture, fails: list[bool]) -> tuple[list[int], list[str]]:
    """A callback that raises where `fails` says so: what it was called with, and what was logged."""
    seen: list[int] = []

    def callback(envelope: Envelope) -> None:
        seen.append(total(envelope))
        if fails[len(seen) - 1]:
            raise ValueError("the application's own mistake")

    subscription = table.subscribe()
    thread = deliver_to(subscription, callback)
    for _ in fails:
        table.publish()
    subscription.finish()
    thread.join(LONG)
    assert not thread.is_alive()
    return seen, [record.getMessage() for record in caplog.records]


def test_a_callback_that_always_fails_is_told_once_and_unsubscribed(
    table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    seen, lines = failing(table, caplog, [True] * 10)
    assert seen == [1, 2, 3]
    assert FAILURES == 3
    assert lines == [
        "an event callback failed at EndOfStream",
        "an event callback failed 3 times in a row, at last at EndOfStream: unsubscribed",
    ]
    assert "the application's own mistake" in caplog.text
    assert not table.table.listening


def test_a_callback_that_fails_now_and_then_goes_on(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    seen, lines = failing(table, caplog, [True, True, False, True, False, True, True, False])
    assert seen == list(range(1, 9))
    assert lines == ["an event callback failed at EndOfStream"] * 3


# --- Event loops


def test_async_for_until_the_end(table: Table) -> None:
    subscription = table.subscribe()

    async def read() -> list[int]:
        return [total(envelope) async for envelope in subscription]

    async def main() -> list[int]:
        reading = asyncio.create_task(read())
        for _ in range(3):
            await asyncio.sleep(0)
            await asyncio.to_thread(table.publish)
        await asyncio.to_thread(table.table.end_all)
        return await reading

    before = threading.active_count()
    assert asyncio.run(main()) == [1, 2, 3]
    assert threading.active_count() == before


def test_waiting_takes_no_thread_and_leaves_nothing(table: Table) -> None:
    subscriptions = [table.subscribe() for _ in range(50)]
    (log,) = table.logs

    async def main() -> list[int]:
        before = threading.active_count()
        tasks = [asyncio.create_task(each.get_async(LONG)) for each in subscriptions]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(log.waiters) == 50
        assert threading.active_count() == before
        table.publish()
        return [total(envelope) for envelope in await asyncio.gather(*tasks)]

    assert asyncio.run(main()) == [1] * 50
    assert log.waiters == {}


def test_an_async_get_has_a_limit(table: Table) -> None:
    subscription = table.subscribe()
    assert asyncio.run(subscription.get_async(0)) is None
    assert asyncio.run(subscription.get_async(0.001)) is None
    table.publish()
    assert total(asyncio.run(subscription.get_async(0))) == 1


def test_a_cancelled_get_has_taken_nothing(table: Table) -> None:
    subscription = table.subscribe()
    (log,) = table.logs

    async def main() -> None:
        for published in (False, True):
            task = asyncio.create_task(subscription.get_async())
            while not log.waiters:
                await asyncio.sleep(0)
            if published:
                table.publish()  # it is woken, and cancelled before it runs
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert log.waiters == {}
        assert total(await subscription.get_async(0)) == 1

    asyncio.run(main())


def test_a_loop_that_was_closed_while_somebody_waited_harms_nobody(table: Table) -> None:
    left, other = table.subscribe(), table.subscribe()
    loop = asyncio.new_event_loop()
    task = loop.create_task(left.get_async())
    loop.run_until_complete(asyncio.sleep(0))
    (log,) = table.logs
    waiters = dict(log.waiters)
    assert len(waiters) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    for key, call in waiters.items():
        table.table.journal.wait(left, log, key, call)  # as if it had been torn down without being cancelled
    table.publish()
    assert total(other.get(0)) == 1
    assert total(left.get(0)) == 1


def test_threads_and_loops_side_by_side(table: Table) -> None:
    """One publisher, one loop and one thread, each of whom reads all."""
    in_loop, in_thread = table.subscribe(capacity=10_000), table.subscribe(capacity=10_000)
    count = 3000
    threaded: list[int] = []
    thread = threading.Thread(target=lambda: threaded.extend(total(each) for each in in_thread))

    def publish() -> None:
        for _ in range(count):
            table.publish()
        table.table.end_all()

    async def main() -> list[int]:
        publishing = asyncio.create_task(asyncio.to_thread(publish))
        found = [total(envelope) async for envelope in in_loop]
        await publishing
        return found

    thread.start()
    assert asyncio.run(main()) == list(range(1, count + 1))
    thread.join(LONG)
    assert threaded == list(range(1, count + 1))
