"""Listeners of a running system: in an event loop, by a callback that fails, and a hundred that never read."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from collections.abc import Iterator

import pytest
from host_kit import until
from stream_kit import HANG, watching

from kithara_actors.errors import SystemStopped
from kithara_actors.events import (
    Envelope,
    FileError,
    Lagged,
    RequestCompleted,
    RequestStarted,
    SystemStopping,
)
from kithara_actors.fetching import FetchCommand
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Fault, Origin, Resource, body


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


def test_a_loop_hears_all_until_the_system_has_stopped(origin: Origin) -> None:
    url = origin.add("/a", Resource(50_000, seed=1))

    async def main(system: ActorSystem) -> list[str]:
        subscription = system.subscribe()

        async def listen() -> list[str]:
            return [type(envelope.event).__name__ async for envelope in subscription]

        listening = asyncio.create_task(listen())
        result = await asyncio.to_thread(system.execute, FetchCommand.get(url), HANG)
        assert result.body == body(1, 0, 50_000)
        await asyncio.to_thread(system.stop)
        return await listening

    with ActorSystem.start(workers=1) as system:
        heard = asyncio.run(main(system))
    request = [name for name in heard if name.startswith("Request") or name == "FirstByte"]
    assert request == ["RequestEnqueued", "RequestStarted", "FirstByte", "RequestCompleted"]
    assert heard[-1] == SystemStopping.__name__


def test_a_callback_that_fails_three_times_is_called_no_more(origin: Origin, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Envelope] = []

    def callback(envelope: Envelope) -> None:
        calls.append(envelope)
        raise ValueError("the application's own mistake")

    url = origin.add("/a", Resource(1000, seed=1))
    with ActorSystem.start(workers=1) as system, watching(system) as watch:
        subscription = system.subscribe(callback=callback)
        system.execute(FetchCommand.get(url), HANG)
        watch.first(RequestCompleted)
        assert until(lambda: subscription.ended, HANG)
        assert system.execute(FetchCommand.get(url), HANG).body == body(1, 0, 1000)
        watch.until(lambda _: len(watch.of(RequestCompleted)) == 2)
    assert len(calls) == 3
    lines = [line for line in caplog.messages if "callback" in line]
    assert lines[0].startswith("an event callback failed at ")
    assert lines[1].endswith("unsubscribed")
    assert len(lines) == 2


def test_whoever_listens_to_a_stream_hears_all_and_is_let_go_when_it_is_closed(origin: Origin) -> None:
    url = origin.add("/a", Resource(50_000, seed=1))
    called: list[Envelope] = []
    with ActorSystem.start(workers=1) as system:
        with system.open(url) as stream, system.open(url) as other:
            pulled, pushed = stream.subscribe(), stream.subscribe(callback=called.append)
            theirs = other.subscribe()
            assert stream.wait_complete(HANG)
            assert stream.read() == body(1, 0, 50_000)
            stream.close()
            assert until(lambda: pulled.ended and pushed.ended, HANG)
            assert not theirs.ended
        heard = [type(envelope.event).__name__ for envelope in pulled]
        assert until(lambda: len(called) == len(heard), HANG)
        assert heard[-1] == "EndOfStream"
        assert until(lambda: not [each for each in threading.enumerate() if "subscriber" in each.name], HANG)
        assert system.health().state == "ok"


def test_a_callback_that_could_never_work_is_refused_at_once(origin: Origin) -> None:
    async def coroutine(envelope: Envelope) -> None: ...

    class Listener:
        async def __call__(self, envelope: Envelope) -> None: ...

    url = origin.add("/a", Resource(1000, seed=1))
    with ActorSystem.start(workers=1) as system, system.open(url) as stream:
        for subscribe in (system.subscribe, stream.subscribe):
            with pytest.raises(TypeError, match=r"^callback must be a function of one envelope, not 'print'$"):
                subscribe(callback="print")  # type: ignore[arg-type]
            for callback in (coroutine, Listener(), functools.partial(coroutine)):
                with pytest.raises(TypeError, match=r"^callback is a coroutine function: use `async for"):
                    subscribe(callback=callback)
            with pytest.raises(ValueError, match=r"not <built-in function print>; give a callback as callback=\.\.\.$"):
                subscribe(print)  # type: ignore[arg-type]
        mine, all_of_them = stream.subscribe(), system.subscribe()
        assert repr(mine) == f"<Subscription {mine.id} to stream {mine.scope.stream}, open>"
    assert repr(all_of_them) == f"<Subscription {all_of_them.id} to the system, ended>"
    assert mine.id == 1  # what was refused left nothing behind


def test_who_listens_to_a_stream_that_was_cancelled_and_dropped_is_let_go(origin: Origin) -> None:
    url = origin.add("/a", Resource(1000, seed=1))
    with ActorSystem.start(workers=1) as system:
        stream = system.open(url)
        called = stream.subscribe(callback=lambda _: None)
        assert stream.read(10) == body(1, 0, 10)
        stream.cancel()
        assert not called.ended
        del stream
        gc.collect()
        assert until(lambda: called.ended, HANG)


def test_what_was_open_when_the_system_stops_says_so(origin: Origin) -> None:
    gate = threading.Event()
    url = origin.add("/a", Resource(1000, always=Fault(hold=gate)))
    with ActorSystem.start(workers=1) as system, watching(system) as watch, system.open(url) as stream:
        watch.first(RequestStarted)
        assert system.stop() == []
        watch.drain()
        (error,) = watch.of(FileError)
        with pytest.raises(SystemStopped) as raised:
            stream.read()
        gate.set()
    assert (error.error.kind, error.error.text) == ("SystemStopped", str(raised.value))
    assert str(raised.value) == "the system has been stopped"


def test_a_hundred_that_never_read_lose_events_and_hold_nobody_up(origin: Origin) -> None:
    url = origin.add("/a", Resource(1000, seed=1))
    with ActorSystem.start(workers=1) as system, watching(system) as watch:
        silent = [system.subscribe(capacity=4) for _ in range(100)]
        for _ in range(20):
            assert len(system.execute(FetchCommand.get(url), HANG).body) == 1000
        watch.until(lambda _: len(watch.of(RequestCompleted)) == 20)
    assert watch.of(Lagged) == []
    for each in silent:
        events = [envelope.event for envelope in each]
        assert len(events) == 5
        assert isinstance(events[0], Lagged)
        assert events[0].missed >= 20 * 4 - 3
