"""Listeners of a running system: in an event loop, by a callback that fails, and a hundred that never read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from host_kit import until
from stream_kit import HANG, watching

from kithara_actors.events import Envelope, Lagged, RequestCompleted, SystemStopping
from kithara_actors.fetching import FetchCommand
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Origin, Resource, body


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
