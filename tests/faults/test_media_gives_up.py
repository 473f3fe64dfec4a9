"""What crashes too often: a part without which nothing works ends the system, one source ends alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pykka
import pytest
from stream_kit import HANG, Call, answered, asked, watching

from actors.clock import monotonic
from actors.messages.command import Command
from actors.testing.sabotage import Meddle, Moment, sabotage
from actors.testing.saboteur import Sabotaged, Saboteur, Trap
from kithara_actors.errors import InternalError, SystemStopped
from kithara_actors.fetching import FetchCommand
from kithara_actors.messages.events import ActorRestarted, FileError, SystemStopping
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Fault, Origin, Resource, body

_OTHERS = ("asset_store", "collector", "event_bus", "registry")
STATIC = ["downloader", *(pytest.param(name, marks=pytest.mark.minutes) for name in _OTHERS)]
LIMIT = 5
"""Restarts within a minute."""
AT_ONCE = 4.0
"""Seconds: four times what is promised on an idle machine."""
SIZE = 500_000


@contextmanager
def started(meddle: Meddle) -> Iterator[ActorSystem]:
    with sabotage(meddle):
        system = ActorSystem.start(workers=2)
    try:
        yield system
    finally:
        system.stop()


class Wrecker:
    """Crashes one actor at whatever it is told, again and again, once it is let loose; remembers when it was last."""

    def __init__(self, actor: str) -> None:
        self.actor = actor
        self.loose = False
        self.times: list[float] = []

    def __call__(self, name: str, command: Command | None, moment: Moment) -> None:
        if self.loose and name == self.actor and moment != "after":
            self.times.append(monotonic())
            raise Sabotaged(f"{name} was crashed on purpose")


@pytest.mark.parametrize("actor", STATIC)
def test_static_actor_that_always_crashes_ends_the_system(actor: str) -> None:
    """Every blocked read and pending call raises within a second of the last crash, and the host lives."""
    wrecker = Wrecker(actor)
    with Origin() as origin, started(wrecker) as system, watching(system) as watch:
        url = origin.add("/stalls.mp3", Resource(SIZE, always=Fault(stall_after=1000)))
        silent = origin.add("/silent.mp3", Resource(SIZE, always=Fault(stall_headers=True)))
        streams = [system.open(f"{url}?{number}") for number in range(5)] + [system.open(silent)]
        for stream in streams[:5]:
            assert stream.read(1000)
        answered(origin, "/silent.mp3", 1)
        calls = [Call(stream.read) for stream in streams]
        calls.append(Call(system.execute, FetchCommand.get(silent)))
        answered(origin, "/silent.mp3", 2)
        waiting = Call(system.wait)
        wrecker.loose = True
        # Something for each of them to fail on; from its first failed start on it fails by itself.
        streams[0].play()
        subscription = system.subscribe()
        listener = Call(lambda: list(subscription))
        calls.append(Call(system.execute, FetchCommand.get(f"{silent}?late")))
        late = Call(lambda: system.open(f"{silent}?later").read(1))
        assert waiting.result() is True
        for call in (*calls, late):
            error = call.error(AT_ONCE)
            assert isinstance(error, SystemStopped)
            assert actor in str(error)
        assert monotonic() - wrecker.times[-1] < AT_ONCE
        # The first crash, and each start that failed, but for what was refused by then.
        assert len(wrecker.times) == LIMIT + 1
        with pytest.raises(SystemStopped):
            system.open(url)
        with pytest.raises(SystemStopped):
            system.execute(FetchCommand.get(url))
        assert system.stop() == []
        listener.result()
        for stream in streams:
            stream.close()
        if actor != "event_bus":
            watch.drain()
            assert len(watch.of(SystemStopping)) <= 1
            assert watch.of(ActorRestarted) == []


def test_source_that_cannot_start_ends_alone() -> None:
    """The first start of an actor is not tried again."""
    saboteur = Saboteur()
    with Origin() as origin, started(saboteur) as system, watching(system) as watch:
        urls = [origin.add(f"/{number}.mp3", Resource(SIZE, seed=number, rate=400_000.0)) for number in range(4)]
        others = [system.open(url) for url in urls[1:]]
        reading = [Call(stream.read) for stream in others]
        saboteur.set(Trap("source-4", None, "start"))
        with system.open(urls[0]) as bad, system.open(urls[0]) as also:
            readers = [Call(bad.read), Call(also.read, 10), Call(also.wait_complete, HANG)]
            for reader in readers:
                error = reader.error()
                assert isinstance(error, InternalError)
                assert "source-4" in str(error)
            assert isinstance(bad.error, InternalError)
        assert asked(origin, "/0.mp3") == []
        for number, call in enumerate(reading, 1):
            assert call.result() == body(number, 0, SIZE)
        watch.first(FileError, lambda event: event.error.kind == "InternalError")
        # The same file again is another source.
        with system.open(urls[0]) as again:
            assert again.read() == body(0, 0, SIZE)
        assert watch.of(ActorRestarted) == []
        for stream in others:
            stream.close()


def test_source_that_crashes_at_every_start_ends_alone() -> None:
    """Once in the middle, and then at each of the starts that follow."""
    wrecker = Wrecker("source-1")
    with Origin() as origin, started(wrecker) as system:
        url = origin.add("/bad.mp3", Resource(SIZE, always=Fault(stall_after=2000)))
        good = origin.add("/good.mp3", Resource(SIZE, seed=2, rate=400_000.0))
        with system.open(url) as bad, system.open(good) as other:
            assert bad.read(1000) == body(0, 0, 1000)
            reader = Call(bad.read)
            whole = Call(other.read)
            wrecker.loose = True
            bad.play()
            bad.pause()
            assert isinstance(reader.error(), InternalError)
            assert whole.result() == body(2, 0, SIZE)
            with pytest.raises(InternalError):
                bad.read_at(0, 10)
        assert len(wrecker.times) == LIMIT + 1
        assert system.wait(0) is False


def test_source_that_has_crashed_once_and_is_stopped_with_the_system_is_no_failure() -> None:
    saboteur = Saboteur()
    with Origin() as origin, started(saboteur) as system, watching(system) as watch:
        url = origin.add("/stalls.mp3", Resource(SIZE, always=Fault(stall_after=2000)))
        with system.open(url) as stream:
            assert stream.read(1000) == body(0, 0, 1000)
            saboteur.set(Trap("source-1"))
            stream.play()
            watch.first(ActorRestarted)
            reader = Call(stream.read)
            pykka.ActorRegistry.stop_all()
            assert isinstance(reader.error(), SystemStopped)
            assert system.wait(HANG)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
