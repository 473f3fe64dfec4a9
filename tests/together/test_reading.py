"""Byte for byte the same as the file, wherever and however it is read while it downloads; and what is asked for it."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_kit import HANG, Call, answered, asked, blocking, landed_of, waiting, watching

from kithara_actors.actor.downloader import Downloader
from kithara_actors.logic.demand import NEAR, TAIL
from kithara_actors.messages.events import CacheComplete, RequestCancelled, RequestEnqueued, RequestFailed
from kithara_actors.stream.reader import Stream
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Fault, Origin, Resource, Seen, body
from kithara_actors.values import Phase

DEFAULTS = Downloader.__init__.__defaults__ or ()
KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[ActorSystem]:
    # Hypothesis takes offence at any use of `random.random`, in any thread, while it draws.
    jitter = tuple(random.Random(1).random if each is random.random else each for each in DEFAULTS)
    monkeypatch.setattr(Downloader.__init__, "__defaults__", jitter)
    with ActorSystem.start(retry_base=0.01, inactivity_timeout=HANG) as running:
        yield running


# --- Against a file

sizes = st.one_of(st.integers(0, 20), st.integers(0, 70_000), st.sampled_from([8_192, 8_193, 65_536, 1_048_577]))
offsets = st.one_of(st.integers(-30, 30), st.integers(-300_000, 300_000))
operations = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["read", "read1", "readinto", "readinto1", "peek", "chunks"]), sizes),
        st.tuples(st.just("read_all"), st.just(0)),
        st.tuples(st.sampled_from(["seek0", "seek1", "seek2"]), offsets),
        st.tuples(st.sampled_from(["read_at", "readinto_at"]), st.tuples(st.integers(0, 300_000), sizes)),
        st.tuples(st.just("tell"), st.just(0)),
    ),
    max_size=25,
)
resources = st.fixed_dictionaries(
    {
        "size": st.one_of(st.sampled_from([0, 1, 65_536, 65_537]), st.integers(0, 260_000)),
        "rate": st.sampled_from([None, 2_000_000.0, 10_000_000.0]),
        "ranges": st.sampled_from([True, True, True, False]),
    }
)
faults = st.lists(
    st.one_of(
        st.none(),
        st.builds(Fault, cut_after=st.integers(0, 200_000)),
        st.builds(Fault, reset_after=st.integers(0, 200_000)),
        st.just(Fault(status=503)),
    ),
    max_size=3,
)


def apply(stream: Stream, model: io.BytesIO, name: str, value: object) -> None:
    """The same operation on both, with the same outcome."""
    at, end = model.tell(), len(model.getbuffer())
    size = value if isinstance(value, int) else 0
    match name:
        case "read":
            assert stream.read(size) == model.read(size)
        case "read_all":
            assert stream.read() == model.read()
        case "readinto":
            mine, theirs = bytearray(size), bytearray(size)
            assert stream.readinto(mine) == model.readinto(theirs)
            assert mine == theirs
        case "read1" | "readinto1" | "peek":
            if name == "read1":
                got = stream.read1(size)
            elif name == "peek":
                got = stream.peek(size)
                size = max(size, 1)
            else:
                mine = bytearray(size)
                got = bytes(mine[: stream.readinto1(mine)])
                got = bytes(mine[: len(got)])
            assert bool(got) == (size > 0 and at < end)
            assert model.getvalue()[at : at + len(got)] == got
            if name == "peek":
                assert stream.tell() == at
            else:
                assert len(got) <= size
                model.seek(at + len(got))
        case "chunks":
            chunk = next(stream.iter_chunks(size + 1), b"")
            assert chunk == model.read(size + 1)
        case "read_at":
            assert isinstance(value, tuple)
            start, count = value
            assert stream.read_at(start, count) == model.getvalue()[start : start + count]
        case "readinto_at":
            assert isinstance(value, tuple)
            start, count = value
            buffer = bytearray(count)
            expected = model.getvalue()[start : start + count]
            assert stream.readinto_at(start, buffer) == len(expected)
            assert buffer[: len(expected)] == expected
        case "tell":
            pass
        case _:
            whence = int(name[-1])
            target = size + (0, at, end)[whence]
            if target < 0:
                with pytest.raises(ValueError, match="negative"):
                    stream.seek(size, whence)
            else:
                assert stream.seek(size, whence) == target
                model.seek(target)
    assert stream.tell() == model.tell()


@pytest.mark.parametrize("ahead", [None, 0, 10_000], ids=["whole", "only what is needed", "a little ahead"])
def test_any_sequence_of_operations_gives_what_a_file_gives(
    origin: Origin, system: ActorSystem, ahead: int | None
) -> None:
    @given(resource=resources, script=faults, steps=operations, seed=st.integers(0, 3))
    @settings(deadline=None, suppress_health_check=list(HealthCheck))
    def check(
        resource: dict[str, object], script: list[Fault | None], steps: list[tuple[str, object]], seed: int
    ) -> None:
        served = Resource(seed=seed, script=list(script), **resource)  # type: ignore[arg-type]
        url = origin.add(f"/{len(names)}", served)
        names.append(url)
        with system.open(url, look_ahead=ahead) as stream:
            model = io.BytesIO(body(seed, 0, served.size))
            for name, value in steps:
                apply(stream, model, name, value)
            assert stream.error is None
            if ahead is None:
                stream.seek(0)
                assert stream.read() == model.getvalue()

    names: list[str] = []
    check()


def test_many_threads_read_one_stream_and_each_gets_its_bytes(origin: Origin, system: ActorSystem) -> None:
    @given(
        size=st.integers(1, 1_500_000),
        rate=st.sampled_from([None, 5_000_000.0, 20_000_000.0]),
        seed=st.integers(0, 2**32),
        ahead=st.sampled_from([None, None, 0, 50_000]),
    )
    @settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
    def check(size: int, rate: float | None, seed: int, ahead: int | None) -> None:
        url = origin.add(f"/{len(names)}", Resource(size, seed=1, rate=rate))
        names.append(url)

        def work(stream: Stream, number: int) -> None:
            draw = random.Random(seed + number)
            for _ in range(15):
                at = draw.randrange(size + 100)
                count = draw.choice([1, 100, 5_000, 9_000, 80_000])
                expected = body(1, at, max(at, min(at + count, size)))
                if number % 2:
                    assert stream.read_at(at, count) == expected
                else:
                    buffer = bytearray(count)
                    assert stream.readinto_at(at, buffer) == len(expected)
                    assert buffer[: len(expected)] == expected

        with system.open(url, look_ahead=ahead) as stream, system.open(url) as other:
            calls = [Call(work, one, number) for number, one in enumerate([stream, stream, stream, other])]
            reading = Call(other.read)
            for call in calls:
                call.result(60)
            assert reading.result(60) == body(1, 0, size)

    names: list[str] = []
    check()


@pytest.mark.parametrize("kind", ["chunked", "closed", "no ranges"])
def test_bodies_that_have_only_one_way_through(origin: Origin, system: ActorSystem, kind: str) -> None:
    resource = Resource(300_000, ranges=False, chunked=kind == "chunked", length=kind == "no ranges", rate=3_000_000)
    url = origin.add("/file", resource)
    with system.open(url) as stream, system.open(url) as other:
        # Only the prefix leads there: the reader waits for it and no second request is made.
        late = Call(other.read_at, 250_000, 100)
        assert stream.read() == body(0, 0, 300_000)
        assert late.result() == body(0, 250_000, 250_100)
        assert stream.length == 300_000
        assert stream.wait_complete(HANG)
        assert len(asked(origin, "/file")) == 1


@pytest.mark.parametrize("resource", [Resource(0), Resource(0, ranges=False), Resource(0, ranges=False, chunked=True)])
@pytest.mark.parametrize("ahead", [None, 0])
def test_an_empty_file_is_complete(origin: Origin, system: ActorSystem, resource: Resource, ahead: int | None) -> None:
    with system.open(origin.add("/empty", resource), look_ahead=ahead) as stream:
        assert stream.read() == b""
        assert stream.seekable()
        assert stream.seek(0, 2) == 0
        assert stream.wait_complete(HANG)
        assert (stream.length, stream.phase) == (0, Phase.COMPLETE)
        assert list(stream) == []


def test_random_seeks_in_bursts_and_again(origin: Origin, system: ActorSystem) -> None:
    size = 3 * MIB
    draw = random.Random(7)
    with watching(system) as watch, system.open(origin.add("/file", Resource(size, rate=30_000_000))) as stream:
        places = [draw.randrange(size) for _ in range(256)]
        for at in places:
            stream.seek(at)
            assert stream.read(500) == body(0, at, min(at + 500, size))
        for at in places[:64]:
            stream.seek(at)
        assert stream.read(10) == body(0, places[63], min(places[63] + 10, size))
        for at in places[:64]:
            stream.seek(at)
            assert stream.read(1_000) == body(0, at, min(at + 1_000, size))
        assert stream.wait_complete(HANG)
        assert stream.error is None
        assert not [event for event in watch.drain() if isinstance(event, RequestFailed)]


# --- What is asked for


def spans(requests: list[Seen], size: int) -> list[tuple[int, int]]:
    return [landed_of(each, size) for each in requests]


def asked_to(each: Seen, size: int) -> int:
    """Where the interval ends that was asked for."""
    assert each.range is not None
    return size if each.range[1] is None else each.range[1] + 1


def test_a_seek_to_the_ninth_tenth_is_one_request_that_starts_there(origin: Origin, system: ActorSystem) -> None:
    size, held = 4 * MIB, 200_000
    url = origin.add("/file", Resource(size, script=[Fault(stall_after=held)]))
    target = size * 9 // 10
    with watching(system) as watch, system.open(url) as stream:
        assert stream.read(held) == body(0, 0, held)
        stream.seek(target)
        assert stream.read(50_000) == body(0, target, target + 50_000)
        seen = answered(origin, "/file", 2, sent=50_000)
        assert seen[1].range is not None
        assert seen[1].range[0] == target
        assert stream.wait_complete(HANG)
        seen = answered(origin, "/file", 3, sent=target - held)
        assert [each.range for each in seen] == [(0, None), (target, size - 1), (held, target - 1)]
        # No landed byte was asked for again.
        assert spans(seen, size) == [(0, held), (target, size), (held, target)]
        assert stream.read_at(0, size) == body(0, 0, size)
        assert watch.first(CacheComplete).total == size
        assert len(watch.of(RequestCancelled)) == 1


def test_the_bytes_of_a_seek_come_before_any_in_between(origin: Origin, system: ActorSystem) -> None:
    size, held = 4 * MIB, 100_000
    script: list[Fault | None] = [Fault(stall_after=held), None, Fault(stall_after=0)]
    with system.open(origin.add("/file", Resource(size, script=script))) as stream:
        assert stream.read(held) == body(0, 0, held)
        stream.seek(3 * MIB)
        assert stream.read() == body(0, 3 * MIB, size)
        answered(origin, "/file", 3)
        stream.seek(0)
        assert stream.buffered == held
        assert stream.read(held) == body(0, 0, held)


def test_a_short_way_ahead_is_waited_for(origin: Origin, system: ActorSystem) -> None:
    with system.open(origin.add("/file", Resource(MIB, rate=2_000_000))) as stream:
        assert stream.seekable()
        stream.seek(NEAR // 2)
        assert stream.read(100) == body(0, NEAR // 2, NEAR // 2 + 100)
        assert stream.wait_complete(HANG)
        assert len(asked(origin, "/file")) == 1


def test_a_read_of_the_tail_is_one_bounded_range_and_the_main_transfer_goes_on(
    origin: Origin, system: ActorSystem
) -> None:
    size = 2 * MIB
    gate = threading.Event()
    url = origin.add("/file", Resource(size, script=[Fault(hold=gate, hold_after=200_000)]))
    with watching(system) as watch, system.open(url) as stream:
        assert stream.seekable()
        stream.seek(-128, 2)
        assert stream.read() == body(0, size - 128, size)
        stream.seek(size - TAIL)
        assert stream.read() == body(0, size - TAIL, size)
        seen = answered(origin, "/file", 2)
        assert seen[1].range == (size - TAIL, size - 1)
        gate.set()
        stream.seek(0)
        assert stream.read() == body(0, 0, size)
        assert stream.wait_complete(HANG)
        assert len(asked(origin, "/file")) == 2
        assert not watch.of(RequestCancelled)


def test_look_ahead_bounds_every_request(origin: Origin, system: ActorSystem) -> None:
    size, ahead = 4 * MIB, 256 * KIB
    with system.open(origin.add("/file", Resource(size)), look_ahead=ahead) as stream:
        seen = answered(origin, "/file", 1)
        assert seen[0].range == (0, ahead - 1)
        position = 0
        for count in (10, 5_000, 100_000, 300_000, 7, 1_000_000, 64_000):
            assert stream.read(count) == body(0, position, position + count)
            position += count
            for each in asked(origin, "/file"):
                assert asked_to(each, size) <= position + ahead
        stream.seek(3 * MIB)
        assert stream.read(1) == body(0, 3 * MIB, 3 * MIB + 1)
        assert max(asked_to(each, size) for each in asked(origin, "/file")) <= 3 * MIB + 1 + ahead
        assert stream.phase is Phase.DOWNLOADING


def test_small_reads_with_look_ahead_do_not_run_away(origin: Origin, system: ActorSystem) -> None:
    """What is present is not where the reader is."""
    size, ahead = 4 * MIB, 128 * KIB
    with watching(system) as watch, system.open(origin.add("/file", Resource(size)), look_ahead=ahead) as stream:
        for position in range(0, 600 * KIB, 1_000):
            assert stream.read(1_000) == body(0, position, position + 1_000)
            for each in asked(origin, "/file"):
                assert asked_to(each, size) <= position + 1_000 + ahead
        watch.drain()
        furthest = max(event.end or size for event in watch.of(RequestEnqueued))
        assert furthest <= 600 * KIB + 1_000 + ahead
        # And it does read ahead: most reads find their bytes there.
        assert len(asked(origin, "/file")) < 40


def test_look_ahead_of_nothing_asks_for_exact_ranges(origin: Origin, system: ActorSystem) -> None:
    data = body(5, 0, 60)
    url = origin.add("/file", Resource(data=data))
    with watching(system) as watch, system.open(url, look_ahead=0) as stream:
        # Whatever the stream asks for, it does so before its Source answers a later one.
        assert stream.length is None
        assert stream.buffered == 0
        assert not asked(origin, "/file")
        assert stream.seek(0, 2) == 60
        first = asked(origin, "/file")
        assert [(each.method, each.range) for each in first] == [("GET", (0, 0))]
        for at, count in [(10, 5), (50, 10), (20, 1), (15, 5)]:
            stream.seek(at)
            assert stream.read(count) == data[at : at + count]
        assert [each.range for each in asked(origin, "/file")] == [(0, 0), (10, 14), (50, 59), (20, 20), (15, 19)]
        stream.seek(10)
        assert stream.read(11) == data[10:21]
        assert len(asked(origin, "/file")) == 5
        assert stream.read_at(0, 60) == data
        assert [each.range for each in asked(origin, "/file")[5:]] == [(1, 9), (21, 49)]
        assert not [event for event in watch.drain() if isinstance(event, RequestCancelled)]


def test_a_length_query_fetches_no_more_than_it_needs_without_ranges(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/file", Resource(8 * MIB, ranges=False, rate=1_000_000))
    with watching(system) as watch, system.open(url, look_ahead=0) as stream:
        assert stream.seekable()
        watch.until(lambda events: any(not isinstance(event, RequestEnqueued) for event in events))
        assert origin.wait_for(lambda seen: seen[0].ended, HANG)
        assert stream.length == 8 * MIB
        assert len(asked(origin, "/file")) == 1


# --- Together


def test_two_streams_share_one_download_and_one_may_leave(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/file", Resource(500_000, rate=2_000_000))
    with system.open(url) as stream:
        other = system.open(url)
        assert other.read(1_000) == body(0, 0, 1_000)
        with waiting(stream, stream.read) as call:
            other.close()
            assert call.result() == body(0, 0, 500_000)
        assert stream.wait_complete(HANG)
        assert len(asked(origin, "/file")) == 1
        assert not asked(origin, "/file")[0].client_closed


def test_the_last_close_ends_the_fetch(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/file", Resource(50 * MIB, rate=1_000_000))
    streams = [system.open(url) for _ in range(4)]
    assert streams[0].read(1_000) == body(0, 0, 1_000)
    for stream in streams:
        assert not asked(origin, "/file")[0].client_closed
        stream.close()
    assert origin.wait_for(lambda seen: seen[0].client_closed, HANG)


def test_two_streams_at_two_places_of_a_slow_file_do_not_cut_each_other(origin: Origin, system: ActorSystem) -> None:
    size = 6 * MIB
    url = origin.add("/file", Resource(size, rate=2_000_000))
    with watching(system) as watch, system.open(url) as front, system.open(url) as back:
        assert front.read(10_000) == body(0, 0, 10_000)

        def play(stream: Stream, at: int) -> None:
            stream.seek(at)
            for start in range(at, at + MIB, 50_000):
                assert stream.read(50_000) == body(0, start, start + 50_000)

        calls = [Call(play, front, 10_000), Call(play, back, 4 * MIB)]
        for call in calls:
            call.result()
        assert len(asked(origin, "/file")) <= 3
        assert not [event for event in watch.drain() if isinstance(event, RequestCancelled)]


def test_two_blocked_reads_of_one_stream_far_apart_are_both_served(origin: Origin, system: ActorSystem) -> None:
    """The second read's place does not make the first one's forgotten."""
    size = 8 * MIB
    script: list[Fault | None] = [Fault(stall_after=10)]
    with system.open(origin.add("/file", Resource(size, script=script))) as stream:
        assert stream.seekable()
        begun = blocking(stream)
        places = [size - MIB, 2 * MIB, 5 * MIB, 100]
        calls = [Call(stream.read_at, at, 100_000) for at in places]
        assert begun.wait(HANG)
        for at, call in zip(places, calls, strict=True):
            assert call.result() == body(0, at, at + 100_000)
        assert stream.wait_complete(HANG)
        fetched = sum(end - start for start, end in spans(asked(origin, "/file"), size))
        assert fetched < 2 * size


def test_nothing_is_kept_waiting_for_a_stream_that_left(origin: Origin, system: ActorSystem) -> None:
    """What one stream wanted ends with it: the other one's bounded demand stays bounded."""
    size = 4 * MIB
    url = origin.add("/file", Resource(size))
    with system.open(url, look_ahead=0) as stream:
        assert stream.read(10) == body(0, 0, 10)
        with system.open(url, look_ahead=0) as other, waiting(other, other.read_at, MIB, 10) as call:
            assert call.result() == body(0, MIB, MIB + 10)
        assert stream.read_at(2 * MIB, 10) == body(0, 2 * MIB, 2 * MIB + 10)
        assert [each.range for each in asked(origin, "/file")] == [
            (0, 9),
            (MIB, MIB + 9),
            (2 * MIB, 2 * MIB + 9),
        ]
