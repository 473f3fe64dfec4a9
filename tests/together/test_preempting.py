"""What a reader waits for takes the slot of what is needed later, and both come to the right bytes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from host_kit import until
from stream_kit import HANG, Call, Watch, answered, asked, landed_of, settle, watching

from kithara_actors import ActorSystem
from kithara_actors.fetching import FetchCommand
from kithara_actors.messages.events import RequestEnqueued, RequestRetrying
from kithara_actors.stream.reader import Stream
from kithara_actors.testing.origin import Fault, Origin, Resource, body

SIZE = 300_000
HEAD = 60_000
AFTER = 0.1


@dataclass
class Scene:
    """A system at work, two hosts, and a gate that all the slow answers wait for."""

    origin: Origin
    other: Origin
    system: ActorSystem
    watch: Watch
    stack: ExitStack
    gate: threading.Event = field(default_factory=threading.Event)

    def slow(self, seed: int, origin: Origin | None = None, **changes: Any) -> str:
        """A file whose first answer waits for the gate after `HEAD` bytes; the next one sends all that it is asked."""
        resource = Resource(SIZE, seed=seed, script=[Fault(hold=self.gate, hold_after=HEAD)], **changes)
        return (origin or self.origin).add(f"/{seed}", resource)

    def ahead(self, seed: int, origin: Origin | None = None, **changes: Any) -> Stream:
        """A stream of such a file, which has read its first bytes while more are there."""
        stream = self.stack.enter_context(self.system.open(self.slow(seed, origin, **changes)))
        assert stream.read(1000) == body(seed, 0, 1000)
        landed(stream, 0)
        return stream

    def preempted(self, count: int = 0) -> list[int]:
        """The requests that were cut so far, as often as they were, once they are `count` at least."""

        def cut() -> list[int]:
            return [each.request_id for each in self.watch.of(RequestRetrying) if each.cause == "PREEMPTED"]

        self.watch.until(lambda _: len(cut()) >= count)
        self.watch.drain()
        return cut()


@contextmanager
def scene(**settings: Any) -> Iterator[Scene]:
    with Origin() as origin, Origin() as other, ActorSystem.start(**{"preempt_after": AFTER, **settings}) as system:
        with watching(system) as watch, ExitStack() as stack:
            made = Scene(origin, other, system, watch, stack)
            try:
                yield made
            finally:
                made.gate.set()


def landed(stream: Stream, start: int) -> None:
    """Wait until the answer from `start` on has landed as far as the gate."""
    assert until(lambda: stream._bytes.content.available(start) >= start + HEAD, HANG)


def once_only(origin: Origin, path: str) -> None:
    """No byte of it was sent twice, and all were."""
    origin.wait_for(lambda seen: all(each.ended for each in seen if each.path == path), HANG)
    ends = [landed_of(seen, SIZE) for seen in asked(origin, path)]
    assert [start for start, _ in ends] == [0, *(end for _, end in ends[:-1])]
    assert ends[-1][1] == SIZE


def test_the_twenty_fifth_listener_of_a_host_is_served() -> None:
    """Behind 24 transfers that are ahead of need; one of them is cut, and all go on to the right bytes."""
    with scene(max_per_host=24) as now:
        streams = [now.ahead(seed) for seed in range(24)]
        late = now.stack.enter_context(now.system.open(now.origin.add("/late", Resource(SIZE, seed=99))))
        assert late.read() == body(99, 0, SIZE)
        assert not now.gate.is_set()
        assert len(now.preempted(1)) == 1
        now.gate.set()
        for seed, stream in enumerate(streams):
            assert stream.read() == body(seed, 1000, SIZE)
        cut = [seed for seed in range(24) if len(asked(now.origin, f"/{seed}")) > 1]
        assert len(cut) == 1
        once_only(now.origin, f"/{cut[0]}")


def test_the_one_that_is_needed_last_is_cut_and_no_byte_is_sent_twice() -> None:
    with scene(max_concurrent=2) as now:
        near, far = now.ahead(1), now.ahead(2, now.other)
        assert near.read(HEAD - 2000) == body(1, 1000, HEAD - 1000)
        late = now.stack.enter_context(now.system.open(now.origin.add("/late", Resource(SIZE, seed=99))))
        assert late.read() == body(99, 0, SIZE)
        assert len(asked(now.origin, "/1")) == 1
        assert far.read() == body(2, 1000, SIZE)  # the gate is closed: its first answer was cut
        once_only(now.other, "/2")
        now.gate.set()
        assert near.read() == body(1, HEAD - 1000, SIZE)


def test_a_reader_that_waits_loses_nothing_to_another() -> None:
    """Both of the host's transfers are waited for: who comes third waits for one of them to end."""
    with scene(max_per_host=2) as now:
        streams = [now.ahead(1), now.ahead(2)]
        calls = [Call(stream.read) for stream in streams]
        url = now.origin.add("/late", Resource(SIZE, seed=99))
        late = now.stack.enter_context(now.system.open(url))
        third = Call(late.read)
        now.watch.until(lambda events: sum(isinstance(event, RequestEnqueued) for event in events) == 3)
        elsewhere = now.stack.enter_context(now.system.open(now.other.add("/e", Resource(SIZE, seed=5))))
        assert elsewhere.read() == body(5, 0, SIZE)
        assert now.preempted() == []
        now.gate.set()
        for seed, call in enumerate(calls, 1):
            assert call.result() == body(seed, 1000, SIZE)
        assert third.result() == body(99, 0, SIZE)
        assert now.preempted() == []


def test_who_was_cut_takes_a_slot_back_as_soon_as_its_reader_waits() -> None:
    """One slot, two listeners, and neither of their transfers ever ends by itself: each has it while it waits."""
    with scene(max_concurrent=1) as now:
        one = now.ahead(1)
        script = [Fault(hold=now.gate, hold_after=HEAD)]
        two = now.stack.enter_context(now.system.open(now.other.add("/2", Resource(SIZE, seed=2, script=script))))
        assert two.read(HEAD) == body(2, 0, HEAD)
        assert len(now.preempted(1)) == 1
        two.seek(0)  # what it reads next is there: it is ahead of need
        assert one.read() == body(1, 1000, SIZE)
        assert two.read() == body(2, 0, SIZE)
        once_only(now.origin, "/1")
        once_only(now.other, "/2")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_without_ranges_is_left_to_finish(ranges: bool) -> None:
    with scene(max_concurrent=2) as now:
        first = now.ahead(1, ranges=ranges)
        second = now.ahead(2)
        assert second.read(HEAD - 2000) == body(2, 1000, HEAD - 1000)  # needed sooner than the first
        late = now.stack.enter_context(now.system.open(now.origin.add("/late", Resource(SIZE, seed=99))))
        assert late.read() == body(99, 0, SIZE)
        cut, kept = ("/1", "/2") if ranges else ("/2", "/1")
        answered(now.origin, cut, 2)
        assert len(asked(now.origin, kept)) == 1
        now.gate.set()
        assert first.read() == body(1, 1000, SIZE)
        assert second.read() == body(2, HEAD - 1000, SIZE)


def test_a_call_goes_before_what_is_ahead_of_need() -> None:
    with scene(max_concurrent=1) as now:
        stream = now.ahead(1)
        answer = now.system.execute(FetchCommand.get(now.origin.add("/c", Resource(1000, seed=3))), timeout=HANG)
        assert answer.body == body(3, 0, 1000)
        assert stream.read() == body(1, 1000, SIZE)
        once_only(now.origin, "/1")


def test_a_listener_behind_many_that_nobody_reads() -> None:
    """They fill all slots there are, on other hosts than its own, and as many again are queued."""
    with scene(max_concurrent=8) as now:
        for seed in range(16):
            now.stack.enter_context(now.system.open(now.slow(seed)))
        now.watch.until(lambda events: sum(isinstance(event, RequestEnqueued) for event in events) == 16)
        assert now.origin.wait_for(lambda seen: sum(each.sent >= HEAD for each in seen) == 8, HANG)
        late = now.stack.enter_context(now.system.open(now.other.add("/late", Resource(SIZE, seed=99))))
        assert late.read() == body(99, 0, SIZE)
        assert not now.gate.is_set()
        assert len(now.preempted(1)) == 1


def test_a_listener_behind_five_hundred_prefetches() -> None:
    """Those that run hold every slot there is, on other hosts than the listener's."""
    with scene(max_concurrent=4) as now, Origin() as calm:
        origins = (now.origin, now.other)
        handles = []
        for seed in range(500):
            small = Resource(HEAD + 1, seed=seed, script=[Fault(hold=now.gate, hold_after=HEAD)])
            handles.append(now.stack.enter_context(now.system.prefetch(origins[seed % 2].add(f"/{seed}", small))))
        for origin in origins:
            assert origin.wait_for(lambda seen: sum(each.sent >= HEAD for each in seen) == 2, HANG)
        assert now.system.stats().requests.running == 4
        late = now.stack.enter_context(now.system.open(calm.add("/late", Resource(SIZE, seed=99))))
        late.play()
        assert late.read() == body(99, 0, SIZE)
        assert not now.gate.is_set()
        assert len(now.preempted(1)) == 1
        now.gate.set()
        for handle in handles:
            assert handle.wait(HANG)


def test_none_means_that_nobody_is_cut() -> None:
    with scene(max_concurrent=1, preempt_after=None) as now:
        stream = now.ahead(1)
        late = now.stack.enter_context(now.system.open(now.other.add("/late", Resource(SIZE, seed=99))))
        third = Call(late.read)
        now.watch.until(lambda events: sum(isinstance(event, RequestEnqueued) for event in events) == 2)
        now.gate.set()
        assert third.result() == body(99, 0, SIZE)
        assert stream.read() == body(1, 1000, SIZE)
        assert now.preempted() == []


def test_fill_makes_way_at_once_for_what_nobody_waits_for() -> None:
    """Though no reader takes a slot from anybody here: what fills the gaps is for when nothing else is queued."""
    size, middle = 1_000_000, 700_000
    with scene(max_concurrent=1, preempt_after=None) as now:
        held = Fault(hold=now.gate, hold_after=HEAD)
        url = now.origin.add("/f", Resource(size, seed=1, script=[held, Fault(), held]))
        stream = now.stack.enter_context(now.system.open(url))
        assert stream.read(1000) == body(1, 0, 1000)
        stream.seek(middle)
        assert stream.read() == body(1, middle, size)
        filling = answered(now.origin, "/f", 3, HEAD)[2]
        assert filling.range is not None
        landed(stream, filling.range[0])
        late = now.stack.enter_context(now.system.open(now.other.add("/late", Resource(SIZE, seed=99))))
        assert late.wait_complete(HANG)
        assert late.read() == body(99, 0, SIZE)
        assert now.preempted(1) == [3]
        assert stream.wait_complete(HANG)
        assert stream.read_at(0, size) == body(1, 0, size)
        again = answered(now.origin, "/f", 4)[3].range
        assert again is not None
        assert again[0] == filling.range[0] + HEAD


def test_a_class_that_there_is_none_of_is_refused() -> None:
    with scene() as now:
        for wrong, error in ((7, ValueError), ("high", TypeError)):
            with pytest.raises(error, match=rf"priority must be Priority.LOW or Priority.HIGH, not {wrong!r}"):
                now.system.open("http://127.0.0.1:1/x", priority=wrong)  # type: ignore[arg-type]
        settle()
