"""A system at work in a few scenes which, together, have every actor handle every command that it knows."""

from __future__ import annotations

import ast
import inspect
import os
import signal
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from host_kit import until
from stream_kit import HANG, Call, Watch, answered, watching

from actors.messages.command import Command
from actors.testing.sabotage import Moment, sabotage
from kithara_actors.actor.asset_store import AssetStore
from kithara_actors.actor.collector import Collector
from kithara_actors.actor.downloader import Downloader
from kithara_actors.actor.event_bus import EventBus
from kithara_actors.actor.registry import Registry
from kithara_actors.actor.source import Source
from kithara_actors.errors import KitharaError, PolicyError, ReadTimeout, StatusError, SystemStopped
from kithara_actors.fetching import FetchCommand
from kithara_actors.logic.audience import Audience
from kithara_actors.messages.events import (
    Envelope,
    Event,
    RequestCancelled,
    RequestCompleted,
    RequestEnqueued,
    RequestFailed,
    RequestStarted,
)
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Fault, Origin, Resource, body
from kithara_actors.testing.origin_body import PERIOD

__all__ = ["HANDLERS", "SCENES", "Rig", "ends_wrong", "handled", "kind_of", "rigged"]

HANDLERS: dict[str, tuple[Callable[..., object], ...]] = {
    "asset_store": (AssetStore.handle,),
    "collector": (Collector.handle,),
    "downloader": (Downloader.handle,),
    "event_bus": (EventBus.handle,),
    "registry": (Registry.handle,),
    "source": (Source.handle, Audience.heed, Source._heed),
}
"""By actor, where it says what it takes."""
SMALL = 60_000
LOAD = 400_000
LONG = 3_000_000
RATE = 1_000_000.0
assert LONG < 3 * PERIOD


def kind_of(name: str) -> str:
    """Which of `HANDLERS` an actor is."""
    return "source" if name.startswith("source-") else name


def handled(actor: str) -> set[str]:
    """The commands that the actor has a case for."""
    found = set()
    for function in HANDLERS[actor]:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        matched = [node.cls for node in ast.walk(tree) if isinstance(node, ast.MatchClass)]
        found |= {each.id for each in matched if isinstance(each, ast.Name)}
    return found


def ends_wrong(events: list[Event]) -> list[str]:
    """Requests that do not have exactly one end, or of which something is told after it."""
    wrong, ends = [], Counter[int]()
    for event in events:
        request = getattr(event, "request_id", None)
        if request is None:
            continue
        if ends[request]:
            wrong.append(f"after its end: {event}")
        if isinstance(event, RequestCompleted | RequestFailed | RequestCancelled):
            ends[request] += 1
    asked = Counter(event.request_id for event in events if isinstance(event, RequestEnqueued))
    wrong += [f"request {request} was enqueued {count} times" for request, count in asked.items() if count != 1]
    wrong += [f"request {request} has {ends[request]} ends" for request in asked.keys() | ends if ends[request] != 1]
    return wrong


@dataclass
class Rig:
    """A system, its origin, all its events, and which commands its actors have been given."""

    origin: Origin
    system: ActorSystem
    watch: Watch
    reached: set[tuple[str, str, str]]
    stopped: bool = False
    paths: Iterator[int] = field(default_factory=lambda: iter(range(1000)))

    def add(self, resource: Resource) -> tuple[str, str]:
        """Path and URL."""
        path = f"/{next(self.paths)}.mp3"
        return path, self.origin.add(path, resource)

    @contextmanager
    def under_load(self) -> Iterator[None]:
        """While the block runs another stream is read, whose every byte has to be right."""
        _, url = self.add(Resource(LOAD, seed=9, rate=RATE))
        with self.system.open(url) as stream:
            call = Call(stream.read)
            try:
                yield
            finally:
                found = call.result()
            assert stream.wait_complete(HANG), "not complete"
            assert found == body(9, 0, LOAD), "wrong bytes"

    def saw(self, actor: str, command: str) -> bool:
        """Whether an actor has been given such a command."""
        return (actor, command, "before") in self.reached

    def stop(self) -> None:
        """Stop the system, and take all its events."""
        self.stopped = True
        assert self.system.stop() == []
        self.watch.drain()


@contextmanager
def rigged(scene: str, meddle: Callable[[str, Command | None, Moment], object] = lambda *_: None) -> Iterator[Rig]:
    """A system for `scene` that is meddled with; its ends are looked at when the block has run."""
    reached: set[tuple[str, str, str]] = set()

    def seen(name: str, command: Command | None, moment: Moment) -> None:
        reached.add((kind_of(name), type(command).__name__, moment))
        meddle(name, command, moment)

    with Origin() as origin:
        with sabotage(seen):
            policy = (lambda _: True) if scene == "asking" else None
            narrow: dict[str, Any] = {"max_concurrent": 1, "preempt_after": 0.05} if scene == "preempting" else {}
            system = ActorSystem.start(workers=2, retry_base=0.01, soft_timeout=0.1, url_policy=policy, **narrow)
        try:
            with watching(system) as watch:
                rig = Rig(origin, system, watch, reached)
                yield rig
                if not rig.stopped:
                    rig.stop()
                wrong = ends_wrong(watch.events)
                assert wrong == [], f"{wrong} in {watch.events}"
        finally:
            system.stop()


# --- Scenes


def reading(rig: Rig) -> None:
    """Everything that streams do, but for what has a scene of its own."""
    _, url = rig.add(Resource(SMALL, seed=2))
    with rig.system.open(url) as one, rig.system.open(url) as other:
        assert one.wait_complete(HANG)
        assert one.read() == body(2, 0, SMALL)
        one.close()
        assert other.read() == body(2, 0, SMALL)
    _, url = rig.add(Resource(LONG, seed=1, rate=RATE, script=[Fault(status=503)]))
    heard: list[Envelope] = []
    # It waits for events on a thread, so that the bus is told of them.
    with rig.system.subscribe(1000, heard.append), rig.system.open(url, look_ahead=LONG) as stream:
        assert stream.seekable()
        assert stream.read(1000) == body(1, 0, 1000)
        stream.pause()
        stream.play()
        stream.seek(LONG - 200_000)  # far ahead: what runs is cut
        assert stream.read(50_000) == body(1, LONG - 200_000, LONG - 150_000)
        assert stream.read() == body(1, LONG - 150_000, LONG)
    assert heard
    _, url = rig.add(Resource(LONG, seed=3, rate=RATE))
    with rig.system.open(url) as one, rig.system.open(url) as other:
        assert one.read(100) == body(3, 0, 100)
        one.close()
        assert other.read(2000) == body(3, 0, 2000)
    _, url = rig.add(Resource(SMALL, seed=8))
    with rig.system.prefetch(url) as handle:
        assert handle.wait(HANG)


def refusing(rig: Rig) -> None:
    """An answer that is final."""
    _, url = rig.add(Resource(SMALL, always=Fault(status=404)))
    with rig.system.open(url) as stream:
        with pytest.raises(StatusError):
            stream.read()
    with pytest.raises(StatusError):
        rig.system.execute(FetchCommand.get(url), timeout=HANG)


def calling(rig: Rig) -> None:
    """One-off requests: answered at once, slowly and in a batch, and given up."""
    _, url = rig.add(Resource(SMALL, seed=4))
    answer = rig.system.execute(FetchCommand.get(url, range=(100, 9_999)), timeout=HANG)
    assert answer.body == body(4, 100, 10_000)
    ranges = [(at, at + 10) for at in range(40)]
    for (first, last), each in zip(
        ranges, rig.system.batch(FetchCommand.get(url, range=each) for each in ranges), strict=True
    ):
        assert not isinstance(each, KitharaError), each
        assert each.body == body(4, first, last + 1)
    _, slow = rig.add(Resource(SMALL, seed=8, rate=RATE))
    assert rig.system.execute(FetchCommand.get(slow), timeout=HANG).body == body(8, 0, SMALL)
    _, url = rig.add(Resource(SMALL, always=Fault(stall_headers=True)))
    with pytest.raises(ReadTimeout):
        rig.system.execute(FetchCommand.get(url), timeout=0.3)
    rig.watch.until(lambda events: not open_requests(events))
    # The end is an event before its caller's actor hears of it.
    assert until(lambda: not rig.system._assembly._waiting, HANG)


def losing(rig: Rig) -> None:
    """Workers are killed in the middle of transfers."""
    _, url = rig.add(Resource(LONG, seed=5, rate=RATE))
    with rig.system.open(url) as stream:
        assert stream.read(1000) == body(5, 0, 1000)
        before = rig.system.workers()
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        assert until(lambda: not set(rig.system.workers()) & set(before), HANG)
        stream.seek(LONG - 100_000)
        assert stream.read() == body(5, LONG - 100_000, LONG)
        assert until(lambda: len(rig.system.workers()) == 2, HANG)


def suspecting(rig: Rig) -> None:
    """A worker is lost with one request alone in it, which then has an extra one for a while: the other is busy."""
    (_, url), (_, other) = (rig.add(Resource(LONG, seed=seed, rate=RATE)) for seed in (7, 8))
    with rig.system.open(url) as stream, rig.system.open(other) as beside:
        at = 100_000
        assert stream.read(at) == body(7, 0, at)
        assert beside.read(at) == body(8, 0, at)
        # Only once: a suspect whose extra worker is lost finds an idle one.
        os.kill(max(rig.system.workers().values()), signal.SIGKILL)
        assert until(lambda: rig.saw("downloader", "WatchSuspects"), HANG)
        assert stream.read() == body(7, at, LONG)
        assert beside.read() == body(8, at, LONG)
    assert until(lambda: rig.saw("downloader", "WorkerRetires"), HANG)


def asking(rig: Rig) -> None:
    """Callables that say how to ask, and a redirect that a policy judges; one callable that takes too long."""
    _, goal = rig.add(Resource(SMALL, seed=6))
    _, url = rig.add(Resource(SMALL, always=Fault(redirect=goal)))
    with rig.system.open(url, headers=lambda _: {"X-Who": "me"}, shared=True) as stream:
        assert stream.read() == body(6, 0, SMALL)
    gate = threading.Event()
    try:
        with rig.system.open(goal, headers=lambda _: {"X-Late": str(gate.wait(HANG))}) as stream:
            with pytest.raises(PolicyError):
                stream.read()
    finally:
        gate.set()


def preempting(rig: Rig) -> None:
    """The one slot goes to who waits, and back to who was ahead."""
    gate = threading.Event()
    path, url = rig.add(Resource(LONG, seed=8, script=[Fault(hold=gate, hold_after=SMALL)]))
    try:
        with rig.system.open(url) as ahead:
            assert ahead.read(1000) == body(8, 0, 1000)
            answered(rig.origin, path, 1, SMALL)
            _, url = rig.add(Resource(SMALL, seed=10))
            with rig.system.open(url) as late:
                assert late.read() == body(10, 0, SMALL)
            assert ahead.read() == body(8, 1000, LONG)
    finally:
        gate.set()


def stopping(rig: Rig) -> None:
    """The system stops with one request running, one that never will, one call in the middle."""
    path, url = rig.add(Resource(LONG, always=Fault(stall_after=5000)))
    with rig.system.open(url) as stream:
        assert stream.read(5000)
        answered(rig.origin, path, 1)
        reader = Call(stream.read)
        caller = Call(rig.system.execute, FetchCommand.get(url), HANG)
        rig.watch.until(lambda events: sum(isinstance(event, RequestStarted) for event in events) >= 2)
        rig.stop()
        for call in (reader, caller):
            error = call.error()
            assert isinstance(error, SystemStopped), repr(error)


def open_requests(events: list[Event]) -> set[int]:
    ended = {e.request_id for e in events if isinstance(e, RequestCompleted | RequestFailed | RequestCancelled)}
    return {event.request_id for event in events if isinstance(event, RequestEnqueued)} - ended


SCENES: dict[str, Callable[[Rig], None]] = {
    scene.__name__: scene for scene in (reading, refusing, calling, losing, suspecting, asking, preempting, stopping)
}
