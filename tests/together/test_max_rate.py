"""Limited rates hold for all transfers together, over all workers and their losses, and hold nobody up who leaves."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Iterator

import pytest
from host_kit import descriptors, until
from stream_kit import HANG, Call, watching
from test_worker_http import Scripted

from actors.clock import monotonic
from kithara_actors import ActorSystem, Cancelled, FetchCommand
from kithara_actors.cli import main
from kithara_actors.events import (
    FirstByte,
    RequestCancelled,
    RequestCompleted,
    RequestRetrying,
    RequestStarted,
    WorkerLost,
)
from kithara_actors.stream.reader import Stream
from kithara_actors.testing.origin import Fault, Origin, Resource, body

pytestmark = pytest.mark.long

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as served:
        yield served


@pytest.fixture
def elsewhere() -> Iterator[Origin]:
    with Origin() as served:
        yield served


def least(size: int, rate: float) -> float:
    """Seconds that `size` bytes take at the least: two twentieths of a second come at once."""
    return size / rate - 0.1


def landed(stream: Stream) -> int:
    """Bytes that are there from the front on."""
    return stream._bytes.using(lambda content: content.available(0))


def there(streams: list[Stream]) -> int:
    return sum(map(landed, streams))


def opened(system: ActorSystem, origin: Origin, sizes: list[int], **how: object) -> list[Stream]:
    """A stream of a resource of its own for each of `sizes`; their bytes are those of their number as the seed."""
    before = len(origin._sites)
    urls = [
        origin.add(f"/{before + number}.mp3", Resource(size, seed=number, **how))  # type: ignore[arg-type]
        for number, size in enumerate(sizes)
    ]
    return [system.open(url) for url in urls]


def all_there(streams: list[Stream], sizes: list[int]) -> None:
    for number, (stream, size) in enumerate(zip(streams, sizes, strict=True)):
        assert stream.wait_complete(HANG)
        assert stream.read_at(0, size + 1) == body(number, 0, size)
        stream.close()


# --- The limit


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("count", [1, 8, 32])
def test_the_total_holds_for_any_number_of_transfers(origin: Origin, workers: int, count: int) -> None:
    sizes = [1536 * KIB // count] * count
    with ActorSystem.start(workers=workers, max_rate=MIB, max_per_host=64) as system:
        began = monotonic()
        all_there(opened(system, origin, sizes), sizes)
        assert monotonic() - began >= least(1536 * KIB, MIB)


@pytest.mark.parametrize("how", [{"chunked": True}, {"length": False}, {"ranges": False}])
def test_the_total_holds_for_every_kind_of_body(origin: Origin, how: dict[str, bool]) -> None:
    with ActorSystem.start(workers=1, max_rate=MIB) as system:
        began = monotonic()
        all_there(opened(system, origin, [1200 * KIB], **how), [1200 * KIB])
        assert monotonic() - began >= least(1200 * KIB, MIB)


def test_a_host_has_its_limit_and_leaves_another_alone(origin: Origin, elsewhere: Origin) -> None:
    rate, single = 512.0 * KIB, 256 * KIB
    with ActorSystem.start(max_rate_per_host=rate) as system:
        began = monotonic()
        crowd = opened(system, origin, [MIB] * 12)
        alone = opened(system, elsewhere, [single])
        assert alone[0].wait_complete(HANG)
        # As fast as that host may be: by then the others have had about as much together. In one queue with them it
        # would have been twelve times as much.
        had = there(crowd)
        assert had <= 7 * single
        assert monotonic() - began >= max(least(had, rate), least(single, rate))
        all_there(alone, [single])
        for stream in crowd:
            stream.close()


def test_of_two_limits_each_holds(origin: Origin, elsewhere: Origin) -> None:
    """Two hosts that could have 600 KiB/s each have 900 together; then the one that is left has its own 600."""
    total, each = 900.0 * KIB, 600.0 * KIB
    with ActorSystem.start(max_rate=total, max_rate_per_host=each) as system:
        began = monotonic()
        one, other = opened(system, origin, [450 * KIB]), opened(system, elsewhere, [1050 * KIB])
        assert one[0].wait_complete(HANG)
        had = there([*one, *other])
        assert monotonic() - began >= least(had, total)
        all_there(one, [450 * KIB])
        all_there(other, [1050 * KIB])
        assert monotonic() - began >= max(least(1500 * KIB, total), least(1050 * KIB, each))


def test_small_files_one_after_the_other_are_under_the_limit_too(origin: Origin) -> None:
    with ActorSystem.start(max_rate_per_host=100_000.0) as system:
        began = monotonic()
        for _ in range(30):
            all_there(opened(system, origin, [4000]), [4000])
        assert monotonic() - began >= least(30 * 4000, 100_000.0)


def test_a_redirect_counts_for_the_host_that_was_asked(origin: Origin, elsewhere: Origin) -> None:
    rate, single = 256.0 * KIB, 128 * KIB
    goals = [elsewhere.add(f"/{number}.mp3", Resource(MIB, seed=number)) for number in range(12)]
    urls = [origin.add(f"/{number}.mp3", Resource(always=Fault(redirect=goal))) for number, goal in enumerate(goals)]
    with ActorSystem.start(max_rate_per_host=rate) as system:
        began = monotonic()
        moved = [system.open(url) for url in urls]
        direct = opened(system, elsewhere, [single])
        assert direct[0].wait_complete(HANG)
        had = there(moved)
        assert had <= 7 * single
        assert monotonic() - began >= least(had, rate)
        for stream in (*moved, *direct):
            stream.close()


def test_a_limit_above_what_the_network_does_changes_nothing(origin: Origin) -> None:
    with ActorSystem.start(max_rate=1e15, max_rate_per_host=1e300) as system:
        all_there(opened(system, origin, [24 * MIB, 3]), [24 * MIB, 3])


def test_a_server_cannot_send_far_ahead_of_a_low_limit() -> None:
    """What it gets rid of before somebody is stopped: buffers on both sides, its own made as small as may be."""
    sent = []
    full = threading.Event()

    def pour(sock: socket.socket) -> None:
        server.request(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 10000000\r\n\r\n")
        sock.setblocking(False)
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        while poll.poll(700) and sum(sent) < 1_000_000:
            sent.append(sock.send(bytes(4096)))
        full.set()
        server.leave.wait(HANG)

    with Scripted(pour) as server, ActorSystem.start(workers=1, max_rate=2000) as system:
        with system.open(server.url) as stream:
            assert stream.read(1)
            assert full.wait(HANG)
    assert sum(sent) < 50_000


# --- Shares


def test_transfers_under_one_limit_get_equal_shares(origin: Origin) -> None:
    sizes = [768 * KIB] * 12
    gate = threading.Event()
    with ActorSystem.start(workers=2, max_rate=4.0 * MIB) as system:
        streams = opened(system, origin, sizes, always=Fault(hold=gate))
        # All begin at once: what is complete before the last begins would have no share.
        assert origin.wait_for(lambda seen: len(seen) == len(sizes), HANG)
        gate.set()
        assert until(lambda: all(map(landed, streams)), HANG)
        before = [landed(stream) for stream in streams]
        assert until(lambda: there(streams) >= sum(before) + 4 * MIB, HANG)
        shares = [landed(stream) - had for stream, had in zip(streams, before, strict=True)]
        assert min(shares) >= 0.5 * max(shares), shares
        all_there(streams, sizes)


def test_what_slow_servers_leave_goes_to_the_others(origin: Origin) -> None:
    """The bytes compared are those of one moment. With a fixed share, a 21st, it would take twenty times as long."""
    with ActorSystem.start(workers=2, max_rate=MIB, max_per_host=64) as system:
        slow = opened(system, origin, [MIB] * 20, rate=8000.0)
        assert until(lambda: all(map(landed, slow)), HANG)
        before = there(slow)
        quick = opened(system, origin, [MIB])
        assert quick[0].wait_complete(HANG)
        assert there(slow) - before <= 10 * 20 * 8000
        for stream in (*slow, *quick):
            stream.close()


# --- Losses


def test_a_killed_worker_takes_no_limit_with_it(origin: Origin) -> None:
    size, rate = 1536 * KIB, 768.0 * KIB
    with ActorSystem.start(workers=1, max_rate=rate, max_rate_per_host=rate) as system, watching(system) as events:
        began = monotonic()
        # It cannot be complete before its workers are killed, however late that is.
        streams = opened(system, origin, [size], script=[Fault(stall_after=size // 4)] * 2)
        for enough in (size // 4, size // 2):
            assert until(lambda least=enough: landed(streams[0]) >= least, HANG)  # type: ignore[misc]
            # All of them: the second time it may run in an extra one, by itself.
            killed = system.workers()
            for pid in killed.values():
                os.kill(pid, signal.SIGKILL)
            for worker in killed:
                events.first(WorkerLost, lambda lost, gone=worker: lost.worker == gone)  # type: ignore[misc]
            assert until(lambda gone=set(killed): system.workers().keys() - gone, HANG)  # type: ignore[misc]
        all_there(streams, [size])
        assert monotonic() - began >= least(size, rate)
        events.until(lambda seen: sum(isinstance(event, RequestRetrying) for event in seen) >= 2)


def test_the_share_of_a_killed_worker_goes_to_the_others(origin: Origin) -> None:
    rate = 768.0 * KIB
    sizes = [384 * KIB] * 4
    with ActorSystem.start(workers=2, max_rate=rate) as system:
        began = monotonic()
        streams = opened(system, origin, sizes)
        assert until(lambda: all(map(landed, streams)), HANG)
        os.kill(next(iter(system.workers().values())), signal.SIGKILL)
        all_there(streams, sizes)
        assert monotonic() - began >= least(sum(sizes), rate)


def test_a_stopped_worker_holds_no_other_up(origin: Origin) -> None:
    """Stopped, not killed, and for longer than the test lasts: nobody takes its transfers from it."""
    sizes = [192 * KIB] * 6
    with ActorSystem.start(workers=2, max_rate=768.0 * KIB, heartbeat_limit=600.0) as system:
        streams = opened(system, origin, sizes)
        assert until(lambda: all(map(landed, streams)), HANG)
        pid = next(iter(system.workers().values()))
        os.kill(pid, signal.SIGSTOP)
        try:
            assert until(lambda: sum(landed(stream) == sizes[0] for stream in streams) >= 3, HANG)
        finally:
            os.kill(pid, signal.SIGCONT)
        all_there(streams, sizes)


def test_descriptors_of_the_meters_do_not_pile_up_in_a_worker(origin: Origin) -> None:
    url = origin.add("/a.mp3", Resource(2000, seed=5))
    with ActorSystem.start(workers=1, max_rate=1e9, max_rate_per_host=1e9) as system:
        pid = system.workers()[1]
        for number in range(100):
            with system.open(f"{url}?{number}") as stream:
                assert len(stream.read()) == 2000

        def mapped() -> int:
            return sum("kithara-words" in name for name in descriptors(pid).values())

        # Of the meters, and of the count of its frames: its own, and the one that the mapping keeps.
        assert until(lambda: mapped() == 4), descriptors(pid)
        assert system.workers() == {1: pid}


# --- Leaving while waiting


@pytest.mark.parametrize("end", ["cancel", "close", "stop"])
def test_a_byte_a_second_can_be_left_at_once(origin: Origin, end: str) -> None:
    """It would take twelve days."""
    url = origin.add("/a.mp3", Resource(MIB, seed=5))
    with ActorSystem.start(workers=1, max_rate=1) as system, watching(system) as events:
        stream = system.open(url)
        assert stream.read(2) == body(5, 0, 2)
        reading = Call(stream.read, 1000)
        assert until(lambda: landed(stream) >= 2, HANG)
        match end:
            case "cancel":
                stream.cancel()
                assert isinstance(reading.error(), Cancelled)
            case "close":
                stream.close()
                assert isinstance(reading.error(), Cancelled)
            case _:
                began = monotonic()
                assert system.stop(40.0) == []
                assert monotonic() - began < 8.0
                assert isinstance(reading.error(), OSError)
        assert 2 <= events.first(RequestCancelled).bytes <= 200
        stream.close()


def test_fifty_that_wait_for_the_meter_are_stopped_at_once(origin: Origin) -> None:
    with ActorSystem.start(workers=2, max_rate=50.0, max_per_host=64) as system, watching(system) as events:
        streams = opened(system, origin, [MIB] * 50)
        events.until(lambda seen: sum(isinstance(event, FirstByte) for event in seen) >= 50)
        before = set(system.workers().values())
        began = monotonic()
        assert system.stop(40.0) == []
        # A tenth of what is allowed for requests to end before their workers are told to go.
        assert monotonic() - began < 8.0
        assert len(before) == 2
        events.drain()
        assert len(events.of(RequestCancelled)) == 50
        assert events.of(WorkerLost) == []
        # What came at once, and at fifty bytes a second.
        assert sum(event.bytes for event in events.of(RequestCancelled)) <= 50 * 60
        for stream in streams:
            stream.close()


def test_ten_jumps_under_a_limit_are_served(origin: Origin) -> None:
    """Each cuts a transfer that has reserved something."""
    url = origin.add("/a.mp3", Resource(40 * MIB, seed=5))
    with ActorSystem.start(workers=2, max_rate=200_000.0) as system, watching(system) as events:
        with system.open(url) as stream:
            for number in range(10):
                at = (number * 7 % 10) * 4 * MIB
                stream.seek(at)
                assert stream.read(100) == body(5, at, at + 100)
        events.until(lambda seen: sum(isinstance(event, RequestStarted) for event in seen) >= 10)


# --- What tells of it


def test_the_event_shows_the_rate(origin: Origin) -> None:
    with ActorSystem.start(workers=1, max_rate=float(MIB)) as system, watching(system) as events:
        all_there(opened(system, origin, [1200 * KIB]), [1200 * KIB])
        done = events.first(RequestCompleted)
        assert done.bandwidth_bps <= 8 * MIB * 1.1


def test_the_command_keeps_to_a_limit_of_the_environment(
    origin: Origin, tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KITHARA_MAX_RATE", "1 MiB/s")
    url = origin.add("/a.mp3", Resource(1200 * KIB, seed=5))
    began = monotonic()
    assert main(["get", url]) == 0
    assert monotonic() - began >= least(1200 * KIB, MIB)


def test_a_body_that_is_decoded_is_paid_for_as_it_came(origin: Origin) -> None:
    """Zeros shrink to a thousandth, noise does not: what counts is what the connection carried."""
    zeros = origin.add("/zeros", Resource(data=bytes(4 * MIB), always=Fault(encoding="gzip")))
    noise = origin.add("/noise", Resource(60 * KIB, seed=3, always=Fault(encoding="gzip")))
    with ActorSystem.start(workers=1, max_rate=40 * KIB) as system:
        # Decoded, these would take 100 seconds.
        assert system.execute(FetchCommand.get(zeros), timeout=HANG).body == bytes(4 * MIB)
        began = monotonic()
        assert system.execute(FetchCommand.get(noise), timeout=HANG).body == body(3, 0, 60 * KIB)
        assert monotonic() - began >= least(60 * KIB, 40 * KIB)
