"""Worker processes that die, hang or are looked into while transfers run."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgpack
import pytest
from host_kit import HANG, descriptors, parent_of, until
from stream_kit import Call, blocking

from actors.actor.pool import PoolListener, PoolSettings, WorkerPool
from kithara_actors import ActorSystem
from kithara_actors.events import RequestRetrying, RequestStarted, WorkerLost, WorkerStarted
from kithara_actors.messages.events import Event
from kithara_actors.stream.subscription import Subscription
from kithara_actors.testing.origin import Fault, Origin, Resource, body

MIB = 1024 * 1024


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as served:
        yield served


def slow(seed: int, size: int = 2 * MIB, rate: float = 1.0 * MIB) -> Resource:
    return Resource(size, seed=seed, rate=rate)


def next_of(events: Subscription, kind: type[Event]) -> Event:
    """The next event of that class; others are passed over."""
    while True:
        envelope = events.get(HANG)
        assert envelope is not None, f"no {kind.__name__}"
        if isinstance(envelope.event, kind):
            return envelope.event


# --- What is in a worker


def test_modules_of_a_worker_are_its_own() -> None:
    answered = threading.Event()
    modules: list[str] = []

    class Listener(PoolListener):
        def frame(self, worker: int, data: bytes) -> None:
            modules.extend(msgpack.unpackb(data)[1])
            answered.set()

    pool = WorkerPool(PoolSettings("modules_handler:make", size=1), Listener())
    try:
        pool.start()
        assert answered.wait(HANG)
    finally:
        assert pool.stop() == []
    assert "kithara_actors.worker.main" in modules
    assert [name for name in modules if name.partition(".")[0] == "pykka"] == []
    assert [name for name in modules if name.startswith(("actors.actor", "kithara_actors.actor"))] == []


def test_worker_that_fetches_never_imports_pykka(tmp_path: Path, origin: Origin) -> None:
    """Python itself lists what a real worker imports, from its first line to its last."""
    log = tmp_path / "imports"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -X importtime "$@" 2>>{log}\n')
    python.chmod(0o755)
    url = origin.add("/a.mp3", slow(1, 100_000))
    moved = origin.add("/b.mp3", Resource(100, always=Fault(redirect=url)))
    with ActorSystem.start(workers=1, worker_python=str(python)) as system:
        for source in (url + "?1", moved, origin.url("/missing")):
            with system.open(source) as stream:
                if "missing" not in source:
                    assert stream.read() == body(1, 0, 100_000)
                else:
                    with pytest.raises(OSError, match="404"):
                        stream.read()
    imported = {line.rpartition("|")[2].strip() for line in log.read_text().splitlines() if "|" in line}
    assert {"kithara_actors.worker.fetcher", "urllib3.connectionpool", "actors.worker.loop"} <= imported
    assert [name for name in imported if name.partition(".")[0] in ("pykka", "pymp4")] == []
    assert [name for name in imported if name.startswith(("actors.actor", "kithara_actors.actor"))] == []


def test_descriptors_do_not_pile_up_in_a_worker(origin: Origin) -> None:
    def count(pid: int) -> int:
        return len(descriptors(pid))

    with ActorSystem.start(workers=1) as system:
        pid = system.workers()[1]
        mine = count(os.getpid())
        url = origin.add("/a.mp3", Resource(20_000, seed=5))
        broken = origin.add("/b.mp3", Resource(20_000, seed=5, always=Fault(status=404)))
        for number in range(10):
            with system.open(f"{url}?warm{number}") as stream:
                stream.read()
        assert until(lambda: count(pid) <= 16), descriptors(pid)
        before = count(pid)
        for number in range(200):
            with system.open(f"{url}?{number}") as stream:
                assert len(stream.read()) == 20_000
            with system.open(f"{broken}?{number}") as stream, pytest.raises(OSError, match="404"):
                stream.read()
        # One kept connection more or less.
        assert until(lambda: count(pid) <= before + 1), (before, count(pid))
        assert system.workers() == {1: pid}
        # Kept in memory: one descriptor for each asset, and a connection of the origin in this process.
        assert count(os.getpid()) <= mine + 210 + 4


# --- Workers that are lost


def test_worker_killed_in_mid_transfer(origin: Origin) -> None:
    url = origin.add("/a.mp3", Resource(2 * MIB, seed=1, script=[Fault(stall_after=600_000)]))
    with ActorSystem.start(workers=2) as system:
        events = system.subscribe()
        with system.open(url) as stream:
            assert stream.read(300_000) == body(1, 0, 300_000)
            loaded = victim_of(system, origin, url)
            os.kill(loaded, signal.SIGKILL)
            rest = Call(stream.read)
            lost = next_of(events, WorkerLost)
            assert isinstance(lost, WorkerLost)
            assert (lost.pid, lost.reason, len(lost.requests)) == (loaded, "killed by SIGKILL", 1)
            assert isinstance(next_of(events, WorkerStarted), WorkerStarted)
            assert rest.result() == body(1, 300_000, 2 * MIB)
        first, second = origin.requests
        assert first.range == (0, None)
        assert second.range is not None
        assert 300_000 <= second.range[0] < 2 * MIB
        # What it ran went on in one more, which is there for that only.
        assert until(lambda: len(system.workers()) == 2)
        assert loaded not in system.workers().values()


def victim_of(system: ActorSystem, origin: Origin, url: str) -> int:
    """The process that has the connection to the origin."""
    port = f":{int(url.split(':')[2].split('/')[0]):04X}"
    inodes = {
        fields[9]
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[2].endswith(port) and fields[3] == "01"
    }
    for pid in system.workers().values():
        if any(target.startswith("socket:") and target[8:-1] in inodes for target in descriptors(pid).values()):
            return pid
    raise AssertionError("no worker is connected")


def test_transfer_goes_on_at_the_last_landed_byte(origin: Origin) -> None:
    """The first answer stalls, so that what had landed is known exactly."""
    resource = Resource(500_000, seed=2, script=[Fault(stall_after=200_000)])
    url = origin.add("/a.mp3", resource)
    with ActorSystem.start(workers=1) as system, system.open(url) as stream:
        assert stream.read(200_000) == body(2, 0, 200_000)
        os.kill(system.workers()[1], signal.SIGKILL)
        assert stream.read() == body(2, 200_000, 500_000)
        assert [seen.range for seen in origin.requests] == [(0, None), (200_000, None)]


def test_all_workers_killed_at_once(origin: Origin) -> None:
    urls = [origin.add(f"/{number}", slow(number, MIB)) for number in range(6)]
    with ActorSystem.start(workers=3) as system:
        streams = [system.open(url) for url in urls]
        for stream in streams:
            stream.read_at(0, 1000)
        calls = [Call(stream.read) for stream in streams]
        for pid in system.workers().values():
            os.kill(pid, signal.SIGKILL)
        for number, call in enumerate(calls):
            assert call.result() == body(number, 0, MIB)
        assert until(lambda: len(system.workers()) == 3)
        for stream in streams:
            stream.close()


def test_killed_again_and_again_while_bytes_land(origin: Origin) -> None:
    """A loss after which 64 KiB have landed is no loss in a row."""
    url = origin.add("/a.mp3", slow(7, 3 * MIB))
    with ActorSystem.start(workers=1) as system, system.open(url) as stream:
        data = b""
        for _ in range(6):
            data += stream.read(200_000)
            assert until(lambda: system.workers())
            with suppress(ProcessLookupError, StopIteration):  # what was read had landed before the last one died
                os.kill(next(iter(system.workers().values())), signal.SIGKILL)
        data += stream.read()
        assert data == body(7, 0, 3 * MIB)


def test_worker_killed_while_it_waits_for_headers(origin: Origin) -> None:
    url = origin.add("/a.mp3", Resource(1000, seed=4, script=[Fault(stall_headers=True)]))
    with ActorSystem.start(workers=2) as system, system.open(url) as stream:
        events = system.subscribe()
        call = Call(stream.read)
        assert origin.wait_for(lambda seen: len(seen) == 1)
        os.kill(victim_of(system, origin, url), signal.SIGKILL)
        assert call.result() == body(4, 0, 1000)
        retrying = next_of(events, RequestRetrying)
        assert isinstance(retrying, RequestRetrying)
        assert retrying.cause == "WORKER_LOST"


def test_cancel_reaches_past_a_stopped_worker(origin: Origin) -> None:
    url = origin.add("/a.mp3", slow(1))
    with ActorSystem.start(workers=1) as system:
        stream = system.open(url)
        assert stream.read(1000)
        os.kill(system.workers()[1], signal.SIGSTOP)
        blocked = blocking(stream)
        call = Call(stream.read)
        assert blocked.wait(HANG)
        stream.close()
        assert isinstance(call.error(), OSError)


def test_idle_worker_that_dies_is_replaced_without_a_word_to_readers(origin: Origin) -> None:
    url = origin.add("/a.mp3", Resource(1000, seed=9))
    with ActorSystem.start(workers=1) as system:
        events = system.subscribe()
        pid = system.workers()[1]
        os.kill(pid, signal.SIGKILL)
        lost = next_of(events, WorkerLost)
        assert isinstance(lost, WorkerLost)
        assert (lost.pid, lost.requests) == (pid, ())
        assert isinstance(next_of(events, WorkerStarted), WorkerStarted)
        with system.open(url) as stream:
            assert stream.read() == body(9, 0, 1000)
        assert isinstance(next_of(events, RequestStarted), RequestStarted)


def test_request_made_while_no_worker_is_there_waits_for_one(origin: Origin) -> None:
    url = origin.add("/a.mp3", Resource(1000, seed=9))
    with ActorSystem.start(workers=1) as system:
        events = system.subscribe()
        os.kill(system.workers()[1], signal.SIGKILL)
        next_of(events, WorkerLost)
        with system.open(url) as stream:
            assert stream.read() == body(9, 0, 1000)


def test_workers_are_children_in_groups_of_their_own() -> None:
    with ActorSystem.start(workers=2) as system:
        for pid in system.workers().values():
            assert parent_of(pid) == os.getpid()
            assert os.getpgid(pid) == pid
