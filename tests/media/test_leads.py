"""Who waits for which transfer, and how far the others are ahead: true at the moment of looking, without a message."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from actor_kit import request_spec
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.actor.leads import Leads
from kithara_actors.assets.content import Content, ContentTable
from kithara_actors.assets.record import Lane
from kithara_actors.logic.leads import NEAR, Front, Reading, ahead_of, awaited
from kithara_actors.logic.slots_steps import Lead, Review
from kithara_actors.messages.records import FetchSpec
from kithara_actors.messages.worker import HEAD_CODEC, Head
from kithara_actors.stream.waiting import ByteWaiter
from kithara_actors.values import Answer, CancelReason, RequestId, StreamId, Validator

ONE, TWO = RequestId(1), RequestId(2)
PLACES = st.integers(0, 40)


# --- The arithmetic


@pytest.mark.parametrize(
    ("position", "last", "ahead"), [(0, 0, 100), (70, 0, 30), (0, 70, 30), (100, 0, 0), (101, 0, 100), (101, 150, None)]
)
def test_the_nearest_that_reads_towards_it_counts(position: int, last: int, ahead: int | None) -> None:
    assert ahead_of(Front(ONE, 100, None), [Reading(position, last)], 0.0) == (ahead, False)


def test_nobody_reads_towards_it() -> None:
    assert ahead_of(Front(ONE, 100, None), [], 0.0) == (None, False)


@pytest.mark.parametrize(("behind", "waited", "short"), [(NEAR, 1.5, True), (NEAR + 1, 1.5, False), (5, 1.0, False)])
def test_who_waited_just_now_and_has_little_has_nothing_to_spare(behind: int, waited: float, short: bool) -> None:
    reading = Reading(0, 0, waited=waited)
    assert ahead_of(Front(ONE, behind, None), [reading], 1.0) == (behind, short)


@given(st.lists(st.tuples(PLACES, PLACES | st.none()), max_size=5), PLACES)
def test_a_byte_is_waited_for_from_the_nearest_that_brings_it(spans: list[tuple[int, int | None]], at: int) -> None:
    fronts = [Front(RequestId(number), landed, end) for number, (landed, end) in enumerate(spans)]
    found = awaited(fronts, at)
    bringing = {front.request: front.landed for front in fronts if at in range(front.landed, 99)[: _span(front)]}
    assert (found is None) == (not bringing)
    if found is not None:
        assert bringing[found] == max(bringing.values())


def _span(front: Front) -> int:
    return 99 if front.end is None else max(0, front.end - front.landed)


# --- What is looked at


class Hall:
    """One content of which transfers run, and the look at it."""

    def __init__(self) -> None:
        self.contents = ContentTable()
        self.content = self.contents.create()
        self.leads = Leads(self.contents)

    def answered(self, *, ranges: bool = True) -> None:
        answer = Answer(206 if ranges else 200, ranges, None, Validator(), (), 0.0)
        self.content.block.write_head(100_000, 0, HEAD_CODEC.encode(Head(answer)))

    def run(self, request: int = 1, start: int = 0, landed: int = 0, **lane: object) -> FetchSpec:
        spec = request_spec(request, content=self.content.id, lane=request, start=start)
        self.content.block.open_lane(request, 1, start)
        self.content.block.publish(request, 1, landed)
        lanes = (*self.content.view.lanes, Lane(request, 1, start, None, spec, **lane))  # type: ignore[arg-type]
        self.content.publish(replace(self.content.view, lanes=lanes))
        return spec

    def reads(self, stream: int = 1, position: int = 0, **changes: object) -> Reading:
        reading = self.content.readings[StreamId(stream)] = Reading(position, **changes)  # type: ignore[arg-type]
        return reading


@pytest.fixture
def hall() -> Iterator[Hall]:
    made = Hall()
    yield made
    made.contents.discard(made.content)


def test_how_far_a_transfer_is_ahead(hall: Hall) -> None:
    hall.answered()
    spec = hall.run(landed=5000)
    reading = hall.reads(position=1000)
    assert hall.leads.review([spec], 100.0) == Review((), (Lead(ONE, 4000, 5000),))
    reading.position = 3000
    assert hall.leads.review([spec], 100.0) == Review((), (Lead(ONE, 2000, 5000),))


def test_one_whose_own_reader_waits_is_not_spoken_of(hall: Hall) -> None:
    hall.answered()
    spec = hall.run(landed=5000)
    other = hall.run(2, start=50_000, landed=60_000)
    hall.reads(position=1000, waits={object(): 1000})  # what is missing there is brought by the first
    assert hall.leads.review([spec, other], 100.0) == Review((ONE,), (Lead(TWO, 59_000, 60_000),))


def test_who_waits_for_the_first_answer_waits_for_its_request(hall: Hall) -> None:
    hall.run()
    hall.reads(waits={object(): 0})
    assert hall.leads.review([], 100.0) == Review((ONE,))


@pytest.mark.parametrize("why", ["not answered", "no ranges", "another content", "no lane", "waited just now"])
def test_what_is_not_to_be_cut_is_not_spoken_of(hall: Hall, why: str) -> None:
    if why != "not answered":
        hall.answered(ranges=why != "no ranges")
    spec = hall.run(landed=5000)
    if why == "waited just now":
        hall.reads(position=4000, waited=99.9)
    if why == "another content":
        hall.contents.discard(hall.content)
    if why == "no lane":
        hall.content.publish(replace(hall.content.view, lanes=()))
    assert hall.leads.review([spec], 100.0) == Review()


def test_what_was_cut_for_good_brings_nothing(hall: Hall) -> None:
    hall.answered()
    hall.run(landed=5000, cut=CancelReason.EPOCH_CANCEL)
    hall.reads(waits={object(): 0})
    assert hall.leads.review([], 100.0) == Review()


# --- What readers leave behind


class Silent:
    """A link that nobody is behind."""

    def tell(self, command: object) -> None:
        pass


def test_a_read_says_where_it_waits_and_where_it_has_come_to(hall: Hall) -> None:
    content: Content = hall.content
    hall.answered()
    hall.run(landed=100)
    waiter = ByteWaiter(StreamId(7), content, Silent(), None, None)  # type: ignore[arg-type]
    assert content.readings == {StreamId(7): waiter.reading}
    assert waiter.bytes_at(content, 10, 50) == 100
    assert (waiter.reading.last, waiter.reading.waits) == (50, {})
    seen: list[list[int]] = []
    arrived = threading.Event()

    def arrive() -> None:
        arrived.wait()
        content.block.publish(1, 1, 200)
        content.signal()

    thread = threading.Thread(target=arrive)
    thread.start()
    reached = waiter._reached

    def spy(each: Content, start: int, end: int) -> int | None:
        seen.append(list(waiter.reading.waits.values()))
        if waiter.reading.waits:
            arrived.set()
        return reached(each, start, end)

    waiter._reached = spy  # type: ignore[method-assign]
    assert waiter.bytes_at(content, 50, 200) == 200
    thread.join()
    assert seen[0] == []
    assert [50] in seen
    assert (waiter.reading.last, waiter.reading.waits) == (200, {})
    assert waiter.reading.waited > float("-inf")
    content.retain()
    waiter.let_go()
    assert content.readings == {}
