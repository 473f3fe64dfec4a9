"""A family of actors that do as they are told, the log of what they did, and the hooks of their supervisor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pykka

from actors.actor.address import Address
from actors.actor.behaviour import Behaviour, Crash, StopSelf
from actors.actor.children import ChildSpec
from actors.actor.hooks import SupervisorHooks
from actors.actor.supervisor import Supervisor
from actors.actor.timers import Timers
from actors.logic.restarts import Backoff
from actors.messages.codec import Codec
from actors.messages.command import Command

__all__ = [
    "CODEC",
    "LONG",
    "NEVER",
    "SOON",
    "Actor",
    "Block",
    "Fail",
    "Hooks",
    "House",
    "Log",
    "Note",
    "Tagged",
    "housed",
]

LONG = 20.0
SOON = Backoff(base=0.001, cap=0.002)
NEVER = Backoff(base=1000.0, cap=1000.0)


@dataclass(frozen=True, slots=True)
class Note(Command):
    TAG = 16
    number: int


@dataclass(frozen=True, slots=True)
class Fail(Command):
    TAG = 17
    what: str


@dataclass(frozen=True, slots=True)
class Block(Command):
    TAG = 18


CODEC = Codec([Note, Fail, Block])
ERRORS: dict[str, type[BaseException]] = {
    error.__name__: error
    for error in (ValueError, KeyError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, StopSelf, Crash)
}


class Log:
    """What the incarnations of one child have seen and done, in order."""

    def __init__(self) -> None:
        self.incarnation = 0
        self.seen: list[tuple[int, int]] = []
        self.did: list[str] = []
        self.threads: set[int] = set()
        self.held = threading.Event()
        self.gate = threading.Event()
        self.failing_starts = 0
        self.start_error: BaseException = ValueError("cannot start")

    def make(self) -> Behaviour:
        return Actor(self)


class Actor(Behaviour):
    def __init__(self, log: Log) -> None:
        self.log = log
        log.incarnation += 1
        self.number = log.incarnation

    def on_start(self) -> None:
        self.log.threads.add(threading.get_ident())
        if self.number > 1 and self.log.failing_starts:
            self.log.failing_starts -= 1
            raise self.log.start_error
        self.log.did.append(f"start {self.number}")

    def handle(self, command: Command) -> Command | None:
        match command:
            case Note(number):
                self.log.seen.append((self.number, number))
                return Note(self.number)
            case Fail(what):
                raise ERRORS[what]("told so")
            case Block():
                self.log.held.set()
                assert self.log.gate.wait(LONG)
        return None

    def on_restart(self, reason: BaseException | None) -> None:
        self.log.did.append(f"restart {self.number}: {type(reason).__name__}")

    def on_stop(self) -> None:
        self.log.did.append(f"stop {self.number}")


class Hooks(SupervisorHooks):
    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.changed = threading.Condition()

    def _note(self, *what: object) -> None:
        with self.changed:
            self.told.append(what)
            self.changed.notify_all()

    def failed(self, child: str, incarnation: int, error: BaseException, *, asked: bool) -> None:
        self._note("asked" if asked else "failed", child, incarnation, type(error).__name__)

    def restarting(self, child: str, incarnation: int, delay: float, restarts: int) -> None:
        self._note("restarting", child, incarnation, restarts)

    def restarted(self, child: str, incarnation: int) -> None:
        self._note("restarted", child, incarnation)

    def ended(self, child: str, *, spent: bool, hung: bool) -> None:
        self._note("ended", child, *(["spent"] if spent else []), *(["hung"] if hung else []))

    def gave_up(self, supervisor: str, child: str) -> None:
        self._note("gave up", supervisor, child)

    def drained(self, supervisor: str, blame: str | None) -> None:
        self._note("drained", supervisor, blame)

    def until(self, *what: object) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: what in self.told, LONG), f"no {what} in {self.told}"


class House:
    def __init__(self) -> None:
        self.timers = Timers()
        self.timers.start()
        self.hooks = Hooks()
        self.made: list[Supervisor] = []
        self.threads: list[threading.Thread] = []

    def supervisor(self, backoff: Backoff = SOON, **how: object) -> Supervisor:
        how.setdefault("hooks", self.hooks)
        made = Supervisor("family", CODEC, self.timers, backoff=backoff, **how)  # type: ignore[arg-type]
        self.made.append(made)
        return made

    def add(self, supervisor: Supervisor, name: str, log: Log, **how: object) -> Address:
        address = supervisor.add(ChildSpec(name=name, make=log.make, **how), ready_within=LONG)  # type: ignore[arg-type]
        self.threads += [thread for each, thread in supervisor.threads() if each == name]
        return address


class Tagged(list[str]):
    """Appends to one list that many share, under a name."""

    def __init__(self, shared: list[str], name: str) -> None:
        super().__init__()
        self.shared = shared
        self.name = name

    def append(self, item: str) -> None:
        self.shared.append(f"{self.name} {item}")


def housed() -> Iterator[House]:
    """What a fixture yields from: all are ended after the test, and none is left."""
    made = House()
    yield made
    for supervisor in made.made:
        supervisor.drain()
        assert supervisor.wait(LONG)
    for thread in made.threads:
        thread.join(LONG)
        assert not thread.is_alive()
    assert made.timers.stop(LONG)
    assert pykka.ActorRegistry.get_all() == []
