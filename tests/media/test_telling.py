"""EVENT09: what a stream tells of its reads: progress now and then and at the end, seeks at the read that follows."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from actors.testing.fake_clock import FakeClock
from kithara_actors.messages.events import EndOfStream, Event, ReaderSeek, ReadProgress
from kithara_actors.stream.telling import ReadTeller
from kithara_actors.values import StreamId

TOTAL = 10_000


class Listener:
    """Keeps what was published, and when."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.told: list[tuple[float, Event]] = []
        self.teller = ReadTeller(StreamId(1), cast("Any", self), self.clock)

    def publish(self, stream: StreamId, event: Event) -> None:
        assert stream == 1
        self.told.append((self.clock.now, event))

    def of(self, kind: type[Event]) -> list[tuple[float, Event]]:
        return [(at, event) for at, event in self.told if isinstance(event, kind)]


reads = st.lists(st.tuples(st.integers(0, TOTAL - 1), st.integers(0, 3000), st.integers(0, 64)), max_size=60)


@given(reads)
def test_progress_is_told_at_most_ten_times_a_second_and_at_the_end(script: list[tuple[int, int, int]]) -> None:
    listener = Listener()
    for start, count, ticks in script:
        listener.clock.advance(ticks / 256)
        listener.teller.read(start, min(count, TOTAL - start), TOTAL)
    before = None
    for at, event in listener.of(ReadProgress):
        assert isinstance(event, ReadProgress)
        if event.position < TOTAL:
            assert before is None or at - before >= 0.1
        before = at
    ends = [at for at, event in listener.told if isinstance(event, ReadProgress) and event.position == TOTAL]
    assert len(ends) >= len(listener.of(EndOfStream))


def test_one_that_reads_on_hears_of_it_ten_times_a_second_and_at_the_end() -> None:
    listener = Listener()
    for start in range(0, TOTAL, 10):
        listener.clock.advance(0.01)
        listener.teller.read(start, 10, TOTAL)
    told = listener.of(ReadProgress)
    assert 90 <= len(told) <= 101
    assert told[-1][1] == ReadProgress(TOTAL, TOTAL)
    assert [event for _, event in listener.of(EndOfStream)] == [EndOfStream(TOTAL)]
    assert listener.of(ReaderSeek) == []


def test_a_seek_is_told_at_the_first_read_elsewhere() -> None:
    listener = Listener()
    listener.teller.read(0, 100, None)
    listener.teller.read(500, 0, None)  # nothing came
    listener.teller.read(500, 10, None)
    listener.teller.read(510, 10, None)
    listener.teller.read(0, 1, None)
    assert [event for _, event in listener.of(ReaderSeek)] == [ReaderSeek(100, 500, 1), ReaderSeek(520, 0, 2)]
