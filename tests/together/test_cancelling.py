"""Ending a transfer, wherever it is: the socket goes, the slot is free, the reader is told, and one event says why."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from stream_kit import HANG, Watch, answered, asked, blocking, waiting, watching

from kithara_actors.errors import Cancelled, SystemStopped
from kithara_actors.messages.events import (
    Event,
    RequestCancelled,
    RequestCompleted,
    RequestEnqueued,
    RequestFailed,
    RequestRetrying,
    RequestStarted,
)
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Fault, Origin, Resource, body
from kithara_actors.values import CancelReason, RequestId

MIB = 1024 * 1024
ENDS = RequestCompleted | RequestFailed | RequestCancelled


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    """One slot in all: whoever does not give it back lets nobody pass."""
    with ActorSystem.start(max_concurrent=1, retry_base=0.01, preempt_after=None) as running:
        yield running


def ends(events: list[Event]) -> Counter[RequestId]:
    return Counter(event.request_id for event in events if isinstance(event, ENDS))


def one_end_each(watch: Watch) -> None:
    """Exactly one terminal event for every request that was accepted."""
    ids = [event.request_id for event in watch.of(RequestEnqueued)]
    assert ends(watch.events) == Counter(ids)
    assert len(set(ids)) == len(ids)


def stuck(origin: Origin, where: str) -> str:
    """A URL whose transfer hangs in one place."""
    match where:
        case "connect":
            return origin.silent_address()
        case "headers":
            return origin.add("/stuck", Resource(MIB, always=Fault(stall_headers=True)))
        case "stalled body":
            return origin.add("/stuck", Resource(MIB, always=Fault(stall_after=1_000)))
        case "slow body":
            return origin.add("/stuck", Resource(MIB, rate=20_000))
        case "chunked body":
            return origin.add("/stuck", Resource(MIB, ranges=False, chunked=True, rate=20_000))
        case _:
            return origin.add("/stuck", Resource(8 * MIB, always=Fault(stall_after=6 * MIB)))


PLACES = ["connect", "headers", "stalled body", "slow body", "chunked body", "big body"]


def wait_until_stuck(origin: Origin, watch: Watch, where: str) -> RequestId:
    request = watch.first(RequestStarted).request_id
    if where != "connect":
        least = {"headers": 0, "stalled body": 1_000, "big body": 6 * MIB}.get(where, 1)
        answered(origin, "/stuck", 1, sent=least)
    return request


@pytest.mark.parametrize("how", ["close", "cancel"])
@pytest.mark.parametrize("where", PLACES)
def test_the_socket_goes_the_slot_is_free_and_the_reader_is_told(
    origin: Origin, system: ActorSystem, where: str, how: str
) -> None:
    url = stuck(origin, where)
    other = origin.add("/other", Resource(100_000))
    with watching(system) as watch, system.open(url) as stream:
        request = wait_until_stuck(origin, watch, where)
        if "body" in where:
            assert stream.read_at(0, 1) == body(0, 0, 1)
        next_one = system.open(other)
        watch.until(lambda _: len(watch.of(RequestEnqueued)) == 2)
        blocked = blocking(stream)
        with waiting(stream, stream.read) as call:
            assert blocked.wait(HANG)
            getattr(stream, how)()
            assert isinstance(call.error(), Cancelled)
        cancelled = watch.first(RequestCancelled, lambda event: event.request_id == request)
        assert cancelled.reason is CancelReason.PEER_CANCEL
        assert (cancelled.bytes > 0) == ("body" in where)
        if where != "connect":
            assert origin.wait_for(
                lambda seen: all(each.ended and each.client_closed for each in seen if each.path == "/stuck"), HANG
            )
        with next_one:
            assert next_one.read() == body(0, 0, 100_000)
        watch.until(lambda events: len(ends(events)) == 2)
        if how == "close":
            for read in (stream.read, stream.read1, stream.peek):
                with pytest.raises(ValueError, match="closed file"):
                    read()
        else:
            for read in (stream.read, stream.read1, stream.peek):
                with pytest.raises(Cancelled):
                    read()
        one_end_each(watch)
    assert len(asked(origin, "/stuck")) == (where != "connect")


def test_close_during_every_kind_of_wait(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/stuck", Resource(MIB, always=Fault(stall_headers=True)))
    for name in ("seekable", "wait_complete", "read", "read1", "peek", "readline", "readlines", "__next__"):
        with system.open(url) as stream, waiting(stream, getattr(stream, name)) as call:
            known = len(asked(origin, "/stuck"))
            answered(origin, "/stuck", max(1, known))
            stream.close()
            # Before its wait it finds a closed file, in it it is cancelled.
            assert isinstance(call.error(), Cancelled | ValueError)


def test_many_readers_of_one_stream_are_all_told(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/stuck", Resource(8 * MIB, always=Fault(stall_after=10)))
    with system.open(url) as stream:
        assert stream.seekable()
        calls = [waiting(stream, stream.read_at, at * MIB + 100, 50_000) for at in range(6)]
        running = [call.__enter__() for call in calls]
        answered(origin, "/stuck", 2)
        stream.cancel()
        for call in running:
            assert isinstance(call.error(), Cancelled)
        for manager in calls:
            manager.__exit__(None, None, None)


def test_a_queued_request_is_cancelled_before_its_start(origin: Origin, system: ActorSystem) -> None:
    first = origin.add("/stuck", Resource(MIB, always=Fault(stall_after=0)))
    second = origin.add("/second", Resource(MIB))
    with watching(system) as watch, system.open(first) as stream:
        wait_until_stuck(origin, watch, "headers")
        with system.open(second) as queued:
            waits = watch.first(RequestEnqueued, lambda event: event.url.endswith("/second")).request_id
            with waiting(queued, queued.read) as call:
                queued.close()
                assert isinstance(call.error(), Cancelled | ValueError)
        cancelled = watch.first(RequestCancelled)
        assert (cancelled.request_id, cancelled.bytes, cancelled.reason) == (waits, 0, CancelReason.BEFORE_START)
        assert stream.error is None
        assert not asked(origin, "/second")
        stream.close()
        system.stop()
        watch.drain()
        assert waits not in [event.request_id for event in watch.of(RequestStarted)]
        one_end_each(watch)


def test_a_seek_cuts_by_epoch(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/file", Resource(4 * MIB, script=[Fault(stall_after=100_000)]))
    with watching(system) as watch, system.open(url) as stream:
        assert stream.read(100_000) == body(0, 0, 100_000)
        first = watch.first(RequestStarted).request_id
        stream.seek(3 * MIB)
        assert stream.read(10) == body(0, 3 * MIB, 3 * MIB + 10)
        cancelled = watch.first(RequestCancelled)
        assert cancelled == RequestCancelled(first, 100_000, CancelReason.EPOCH_CANCEL)
        assert origin.wait_for(lambda seen: seen[0].client_closed, HANG)
        assert stream.wait_complete(HANG)
        watch.until(lambda events: len(ends(events)) == len(watch.of(RequestEnqueued)))
        one_end_each(watch)


def test_a_request_in_backoff_ends_at_once_and_asks_no_more(origin: Origin) -> None:
    url = origin.add("/busy", Resource(10, always=Fault(status=503, headers={"Retry-After": "25"})))
    with ActorSystem.start(max_concurrent=1) as system, watching(system) as watch, system.open(url) as stream:
        request = watch.first(RequestRetrying).request_id
        with waiting(stream, stream.read) as call:
            stream.cancel()
            assert isinstance(call.error(15), Cancelled)
        cancelled = watch.first(RequestCancelled, timeout=15)
        assert cancelled == RequestCancelled(request, 0, CancelReason.PEER_CANCEL)
        system.stop()
        assert len(asked(origin, "/busy")) == 1
        watch.drain()
        one_end_each(watch)


@pytest.mark.parametrize("last", ["close", "cancel"])
def test_only_the_last_stream_of_an_asset_ends_its_fetch(origin: Origin, system: ActorSystem, last: str) -> None:
    url = origin.add("/file", Resource(MIB, script=[Fault(stall_after=50_000)]))
    with watching(system) as watch:
        streams = [system.open(url) for _ in range(3)]
        answered(origin, "/file", 1, sent=50_000)
        with waiting(streams[0], streams[0].read) as first, waiting(streams[1], streams[1].read) as second:
            streams[0].cancel()
            assert isinstance(first.error(), Cancelled)
            streams[2].close()
            assert streams[1].read_at(0, 50_000) == body(0, 0, 50_000)
            assert second.running
            assert not asked(origin, "/file")[0].client_closed
            assert not watch.of(RequestCancelled)
            getattr(streams[1], last)()
            assert isinstance(second.error(), Cancelled | ValueError)
        assert watch.first(RequestCancelled).reason is CancelReason.PEER_CANCEL
        assert origin.wait_for(lambda seen: seen[0].client_closed, HANG)
        for stream in streams:
            stream.close()


def test_open_again_while_the_old_fetch_is_being_cancelled(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/file", Resource(200_000, rate=20_000_000))
    for _ in range(30):
        with system.open(url) as stream:
            stream.read(1)
    with system.open(url) as stream:
        assert stream.read() == body(0, 0, 200_000)


def test_stop_ends_everything_once_and_tells_every_reader(origin: Origin) -> None:
    running = origin.add("/running", Resource(MIB, always=Fault(stall_after=5_000)))
    waits = [origin.add(f"/{number}", Resource(MIB)) for number in range(20)]
    busy = origin.add("/busy", Resource(10, always=Fault(status=503, headers={"Retry-After": "25"})))
    system = ActorSystem.start(max_concurrent=1)
    with watching(system) as watch:
        backing_off = system.open(busy)
        watch.first(RequestRetrying)
        stream = system.open(running)
        answered(origin, "/running", 1, sent=5_000)
        queued = [system.open(url) for url in waits]
        watch.until(lambda _: len(watch.of(RequestEnqueued)) == 22)
        blocked = blocking(stream)
        with waiting(stream, stream.read) as call, waiting(queued[3], queued[3].read) as other:
            assert blocked.wait(HANG)
            assert system.stop() == []
            assert isinstance(call.error(), SystemStopped)
            assert isinstance(other.error(), SystemStopped)
        watch.drain()
        one_end_each(watch)
        # Nobody began anew what the stop had ended.
        assert len(watch.of(RequestEnqueued)) == 22
        reasons = Counter(event.reason for event in watch.of(RequestCancelled))
        assert reasons == {CancelReason.DOWNLOADER_SHUTDOWN: 2, CancelReason.BEFORE_START: 20}
        started = {event.request_id for event in watch.of(RequestStarted)}
        for event in watch.of(RequestCancelled):
            assert (event.request_id in started) == (event.reason is CancelReason.DOWNLOADER_SHUTDOWN)
            if event.reason is CancelReason.BEFORE_START:
                assert event.bytes == 0
        for each in (backing_off, stream, *queued):
            with pytest.raises(SystemStopped):
                each.read()
            with pytest.raises(SystemStopped):
                each.seekable()
            each.close()
            with pytest.raises(ValueError, match="closed file"):
                each.read()
        with pytest.raises(SystemStopped):
            system.open(running)


def test_streams_that_outlive_their_system_leave_nothing(origin: Origin) -> None:
    url = origin.add("/file", Resource(100_000))
    with ActorSystem.start() as system:
        stream = system.open(url)
        assert stream.read() == body(0, 0, 100_000)
        assert stream.wait_complete(HANG)
        assert stream.fileno() >= 0
    with pytest.raises(SystemStopped):
        stream.read_at(0, 5)
    del stream


def test_opening_and_closing_from_many_threads(origin: Origin) -> None:
    """Attach meets Detach, and the end of one Source the start of the next."""
    url = origin.add("/file", Resource(300_000, rate=10_000_000))
    with ActorSystem.start(retry_base=0.01) as system, watching(system) as watch:
        wrong: list[object] = []

        def work(seed: int) -> None:
            try:
                for turn in range(25):
                    with system.open(url) as stream:
                        at = (seed * 7_919 + turn * 104_729) % 299_000
                        if turn % 3 == 0:
                            stream.seek(at)
                            got = stream.read(1_000)
                        elif turn % 3 == 1:
                            got = stream.read_at(at, 1_000)
                        else:
                            continue
                        if got != body(0, at, at + 1_000):
                            wrong.append((at, got[:20]))
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
        assert not any(thread.is_alive() for thread in threads)
        assert not wrong
        system.stop()
        watch.drain()
        one_end_each(watch)
