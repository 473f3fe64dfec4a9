"""A hundred streams at once, from several threads, through two workers."""

from __future__ import annotations

import hashlib
import threading

import pytest
from stream_kit import HANG, Call

from kithara_actors.messages.events import RequestCancelled, RequestCompleted, RequestEnqueued, RequestFailed
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Fault, Origin, Resource, body

STREAMS = 100
THREADS = 8


def size_of(number: int) -> int:
    return 40_000 + 7_919 * number


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("broken", [False, True], ids=["clean", "with cuts and errors"])
def test_a_hundred_streams_at_once_are_all_right(broken: bool) -> None:
    expected = [digest(body(number, 0, size_of(number))) for number in range(STREAMS)]
    with Origin() as origin, ActorSystem.start(workers=2, retry_base=0.01) as system:
        urls = [
            origin.add(
                f"/{number}.mp3",
                Resource(
                    size_of(number),
                    seed=number,
                    rate=4_000_000 if number % 3 == 0 else None,
                    script=_faults(number) if broken else [],
                ),
            )
            for number in range(STREAMS)
        ]
        streams = [system.open(url) for url in urls]
        found: list[str | None] = [None] * STREAMS
        turn = iter(range(STREAMS))
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    number = next(turn, None)
                if number is None:
                    return
                stream = streams[number]
                hasher = hashlib.sha256()
                if number % 2:
                    for chunk in stream.iter_chunks(10_007):
                        hasher.update(chunk)
                else:
                    half = size_of(number) // 2
                    stream.seek(half)
                    tail = stream.read()
                    stream.seek(0)
                    hasher.update(stream.read(half) + tail)
                found[number] = hasher.hexdigest()

        calls = [Call(work) for _ in range(THREADS)]
        for call in calls:
            call.result(100)
        assert found == expected
        assert all(stream.wait_complete(HANG) for stream in streams)
        for stream in streams:
            assert stream.error is None
            stream.close()


def _faults(number: int) -> list[Fault | None]:
    match number % 4:
        case 0:
            return [Fault(cut_after=size_of(number) // 3)]
        case 1:
            return [Fault(status=503)]
        case 2:
            return [Fault(reset_after=size_of(number) // 2), Fault(status=500)]
        case _:
            return [None]


def test_two_concurrent_requests_at_most_serve_a_hundred_streams_with_one_end_each() -> None:
    with Origin() as origin, ActorSystem.start(workers=2, max_concurrent=2) as system:
        urls = [origin.add(f"/{number}.mp3", Resource(20_000, seed=number)) for number in range(STREAMS)]
        events = system.subscribe(100_000)
        streams = [system.open(url) for url in urls]

        def work(part: int) -> None:
            for number in range(part, STREAMS, THREADS):
                assert streams[number].read() == body(number, 0, 20_000)
                if number % 2:
                    streams[number].close()

        for call in [Call(work, part) for part in range(THREADS)]:
            call.result(100)
        for stream in streams:
            stream.close()
        assert origin.peak <= 2
        system.stop()
        seen = [envelope.event for envelope in events]
        ids = [event.request_id for event in seen if isinstance(event, RequestEnqueued)]
        ends = [
            event.request_id for event in seen if isinstance(event, RequestCompleted | RequestFailed | RequestCancelled)
        ]
        assert sorted(ids) == sorted(ends) == list(range(1, len(ids) + 1))


def test_one_asset_read_by_a_hundred_streams_is_fetched_once() -> None:
    size = 500_000
    with Origin() as origin, ActorSystem.start() as system:
        url = origin.add("/one.mp3", Resource(size, rate=2_000_000))
        streams = [system.open(url) for _ in range(STREAMS)]

        def work(part: int) -> None:
            for number in range(part, STREAMS, THREADS):
                with streams[number] as stream:
                    assert stream.read() == body(0, 0, size)

        for call in [Call(work, part) for part in range(THREADS)]:
            call.result(100)
        assert len(origin.requests) == 1
