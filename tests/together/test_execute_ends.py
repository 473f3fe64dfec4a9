"""How a one-off request ends before its answer: by time, by Ctrl-C, with the system. One end each, nothing left."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator

import pytest
from execute_kit import nothing_held, one_end_each
from host_kit import run
from stream_kit import HANG, Call, answered, asked, watching

from actors.messages.command import Command
from kithara_actors import ActorSystem, FetchCommand, ReadTimeout, SystemStopped
from kithara_actors.actor.collector import Collector
from kithara_actors.assets import content
from kithara_actors.messages.commands import FetchCancelled, PeerGone, WorkerUp
from kithara_actors.messages.events import (
    ActorRestarted,
    RequestCancelled,
    RequestCompleted,
    RequestEnqueued,
    RequestFailed,
    RequestRetrying,
    RequestStarted,
)
from kithara_actors.testing.origin import Fault, Origin, Resource, body
from kithara_actors.values import CancelReason

HELLO = b"Hello, World!"
MIB = 1024 * 1024
SOON = 1.0
"""Seconds: long enough for every call to have come where the test wants it."""
get, head = FetchCommand.get, FetchCommand.head


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    """One slot in all: whoever does not give it back lets nobody pass."""
    with ActorSystem.start(max_concurrent=1, retry_base=0.01) as running:
        yield running
        nothing_held(running)


def stuck(origin: Origin, where: str) -> str:
    """A URL whose answer does not come to its end."""
    match where:
        case "connect":
            return origin.silent_address()
        case "headers":
            return origin.add("/stuck", Resource(MIB, always=Fault(stall_headers=True)))
        case "body":
            return origin.add("/stuck", Resource(MIB, always=Fault(stall_after=1_000)))
        case _:
            return origin.add("/stuck", Resource(MIB, always=Fault(stall_after=1_000, encoding="gzip", chunked=True)))


@pytest.mark.parametrize("where", ["connect", "headers", "body", "coded body"])
def test_what_takes_too_long_is_cancelled(origin: Origin, system: ActorSystem, where: str) -> None:
    url = stuck(origin, where)
    with watching(system) as watch:
        with pytest.raises(
            ReadTimeout, match=rf"^{url}\?k=…: no result within 1 s; the request was cancelled$"
        ) as late:
            system.execute(get(f"{url}?k=secret"), SOON)
        assert late.value.retryable
        cancelled = watch.first(RequestCancelled)
        assert (cancelled.reason, cancelled.bytes > 0) == (CancelReason.PEER_CANCEL, "body" in where)
        if where != "connect":
            assert origin.wait_for(lambda seen: all(each.client_closed for each in seen), HANG)
        assert system.execute(get(origin.add("/ok", Resource(data=HELLO))), HANG).body == HELLO
        watch.first(RequestCompleted)
        one_end_each(watch)


def test_what_never_had_its_turn_is_never_started(origin: Origin, system: ActorSystem) -> None:
    gate = threading.Event()
    held = origin.add("/held", Resource(data=HELLO, always=Fault(hold=gate)))
    url = origin.add("/a", Resource(data=HELLO))
    with watching(system) as watch:
        first = Call(system.execute, get(held), HANG)
        answered(origin, "/held", 1)
        with pytest.raises(ReadTimeout):
            system.execute(head(url), SOON)
        cancelled = watch.first(RequestCancelled)
        assert (cancelled.reason, cancelled.bytes) == (CancelReason.BEFORE_START, 0)
        gate.set()
        assert first.result().body == HELLO
        watch.first(RequestCompleted)
        assert cancelled.request_id not in {event.request_id for event in watch.of(RequestStarted)}
        one_end_each(watch)
    assert asked(origin, "/a") == []


def test_in_a_long_back_off_it_ends_at_once_and_asks_no_more(origin: Origin) -> None:
    url = origin.add("/a", Resource(always=Fault(status=503)))
    with ActorSystem.start(workers=1, retry_base=60.0, retry_cap=60.0, max_concurrent=1) as system:
        with watching(system) as watch:
            with pytest.raises(ReadTimeout):
                system.execute(get(url), SOON)
            assert watch.first(RequestCancelled).reason is CancelReason.PEER_CANCEL
            assert len(watch.of(RequestRetrying)) == 1
            assert system.execute(get(origin.add("/ok", Resource(data=HELLO))), HANG).body == HELLO
        nothing_held(system)
    assert len(asked(origin, "/a")) == 1


def test_while_it_is_asked_again_too(origin: Origin, system: ActorSystem) -> None:
    script = [Fault(cut_after=500), Fault(stall_headers=True)]
    url = origin.add("/a", Resource(1000, script=script))
    with watching(system) as watch:
        call = Call(system.execute, get(url), 2 * SOON)
        answered(origin, "/a", 1)
        assert isinstance(call.error(), ReadTimeout)
        assert watch.first(RequestCancelled).reason is CancelReason.PEER_CANCEL
    assert len(asked(origin, "/a")) == 2


def test_ctrl_c_cancels_the_request(origin: Origin, system: ActorSystem) -> None:
    url = stuck(origin, "body")
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        answered(origin, "/stuck", 1, sent=1_000)
        signal.pthread_kill(main, signal.SIGINT)

    with watching(system) as watch:
        pressing = Call(press)
        with pytest.raises(KeyboardInterrupt):
            system.execute(get(url), HANG)
        pressing.result()
        assert watch.first(RequestCancelled).reason is CancelReason.PEER_CANCEL
        assert origin.wait_for(lambda seen: seen[0].client_closed, HANG)


def test_stop_ends_every_call_once_and_says_so(origin: Origin) -> None:
    """Running, backing off and queued: each caller gets SystemStopped, before `stop` has returned."""
    back_off = origin.add("/back-off", Resource(always=Fault(status=503)))
    running = origin.add("/running", Resource(MIB, always=Fault(stall_after=1_000)))
    queued = origin.add("/queued", Resource(data=HELLO))
    with ActorSystem.start(workers=1, max_concurrent=1, retry_base=60.0, retry_cap=60.0) as system:
        with watching(system) as watch:
            calls = [Call(system.execute, get(back_off))]
            watch.first(RequestRetrying)
            calls.append(Call(system.execute, get(running)))
            answered(origin, "/running", 1, sent=1_000)
            calls.append(Call(system.execute, head(queued)))
            watch.until(lambda _: len(watch.of(RequestEnqueued)) == 3)
            assert system.stop() == []
            watch.drain()
            assert {event.request_id: event.reason for event in watch.of(RequestCancelled)} == {
                1: CancelReason.DOWNLOADER_SHUTDOWN,
                2: CancelReason.DOWNLOADER_SHUTDOWN,
                3: CancelReason.BEFORE_START,
            }
            one_end_each(watch)
        for call in calls:
            error = call.error()
            assert (type(error), str(error)) == (SystemStopped, "the system has been stopped")
        with pytest.raises(SystemStopped, match=r"^the system has been stopped$"):
            system.execute(get(queued), HANG)
        nothing_held(system)


def crash(system: ActorSystem, part: str) -> None:
    """Send the part a command that is another's."""
    address = system._assembly._runtime.address(part)
    assert address is not None
    address.tell(PeerGone("nobody") if part == "downloader" else WorkerUp(1, 2))


PARTS = ["collector", "registry", "downloader"]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_crashes_is_not_noticed(origin: Origin, part: str) -> None:
    url = origin.add("/slow", Resource(MIB, seed=1, rate=2_000_000))
    with ActorSystem.start(workers=1) as system, watching(system) as watch:
        call = Call(system.execute, get(url))
        answered(origin, "/slow", 1, sent=100_000)
        crash(system, part)
        assert watch.first(ActorRestarted).name == part
        assert call.result().body == body(1, 0, MIB)
        watch.first(RequestCompleted)
        one_end_each(watch)
        assert len(asked(origin, "/slow")) == 1
        nothing_held(system)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_crashes_too_often_leaves_nobody_waiting(origin: Origin, part: str) -> None:
    with ActorSystem.start(workers=1) as system:
        call = Call(system.execute, get(stuck(origin, "headers")))
        answered(origin, "/stuck", 1)
        with watching(system) as watch:
            for restarts in range(5):
                crash(system, part)
                watch.until(lambda _, restarts=restarts: len(watch.of(ActorRestarted)) > restarts)  # type: ignore[misc]
            crash(system, part)
            assert isinstance(call.error(), SystemStopped)
        assert system.wait(HANG)
        with pytest.raises(SystemStopped, match=f"{part} failed too often: TypeError"):
            system.execute(get(origin.url("/a")), HANG)
        nothing_held(system)


def test_a_collector_that_hangs_leaves_nobody_waiting(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    handle = Collector.handle

    def hang(self: Collector, command: Command) -> None:
        if isinstance(command, FetchCancelled):
            gate.wait(2 * HANG)
        handle(self, command)

    monkeypatch.setattr(Collector, "handle", hang)
    system = ActorSystem.start(workers=1)
    call = Call(system.execute, get(stuck(origin, "headers")))
    answered(origin, "/stuck", 1)
    (thread,) = (each for each in threading.enumerate() if each.name == "kithara-collector")
    stopping = Call(system.stop, SOON)
    try:
        assert isinstance(call.error(), SystemStopped)
        assert stopping.result() == ["collector"]
    finally:
        gate.set()
        thread.join(HANG)


def test_a_lost_worker_is_not_noticed(origin: Origin) -> None:
    """What the dead one had stored counts for nothing: the next begins at the start."""
    first = Fault(entity=Resource(MIB, seed=9), stall_after=500_000)
    url = origin.add("/a", Resource(MIB, seed=1, script=[first]))
    with ActorSystem.start() as system, watching(system) as watch:
        call = Call(system.execute, get(url), HANG)
        answered(origin, "/a", 1, sent=500_000)
        os.kill(system.workers()[1], signal.SIGKILL)
        assert call.result().body == body(1, 0, MIB)
        assert watch.first(RequestRetrying).cause == "WORKER_LOST"
        watch.first(RequestCompleted)
        one_end_each(watch)
        nothing_held(system)


def test_without_descriptors_nothing_is_asked(
    origin: Origin, system: ActorSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(label: str) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    url = origin.add("/a", Resource(data=HELLO))
    with monkeypatch.context() as patch:
        patch.setattr(content, "memory_file", none_left)
        with pytest.raises(OSError, match="Too many open files"):
            system.execute(get(url), HANG)
    nothing_held(system)
    assert origin.requests == []
    assert system.execute(get(url), HANG).body == HELLO


def test_many_calls_of_every_kind_leave_nothing(origin: Origin) -> None:
    ok = origin.add("/ok", Resource(20_000))
    bad = origin.add("/bad", Resource(always=Fault(status=404)))
    slow = origin.add("/slow", Resource(20_000, always=Fault(stall_after=10)))
    with ActorSystem.start(max_concurrent=4) as system, watching(system) as watch:

        def work() -> None:
            for command, timeout in ((get(ok), HANG), (get(bad), HANG), (head(ok), HANG), (get(slow), SOON)):
                try:
                    system.execute(command, timeout)
                except OSError:
                    continue

        calls = [Call(work) for _ in range(8)]
        for call in calls:
            call.result()
        ends = (RequestCompleted, RequestFailed, RequestCancelled)
        watch.until(lambda seen: sum(isinstance(event, ends) for event in seen) == 32)
        assert len(watch.of(RequestCancelled)) == 8
        one_end_each(watch)
        assert len(watch.of(RequestEnqueued)) == 32
        watch.drain()
        nothing_held(system)


def test_a_forked_process_is_told_to_start_its_own() -> None:
    code = """
import os
from kithara_actors import ActorSystem, FetchCommand, SystemStopped
with ActorSystem.start(workers=1) as system:
    child = os.fork()
    if not child:
        try:
            system.execute(FetchCommand.head("http://127.0.0.1:1/"), 5)
        except SystemStopped as error:
            os._exit(7 if "start one after the fork" in str(error) else 8)
        os._exit(9)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(code)[:2] == (0, "7\n")
