"""Actors that fail come back in place: same address, same mailbox, a new behaviour. Every ask ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pykka
import pytest

from actors.actor.cell import Behaviour, Crash, StopSelf
from actors.actor.children import ChildSpec
from actors.actor.errors import ActorHungError, MailboxFullError
from actors.actor.supervisor import Supervisor, SupervisorHooks
from actors.actor.timers import Timers
from actors.logic.restarts import Backoff, Intensity, RestartType, Strategy
from actors.logic.supervision import ChildState
from actors.messages.codec import Codec
from actors.messages.command import Command

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
        made = Supervisor("family", CODEC, self.timers, backoff=backoff, hooks=self.hooks, **how)  # type: ignore[arg-type]
        self.made.append(made)
        return made

    def add(self, supervisor: Supervisor, name: str, log: Log, **how: object) -> object:
        address = supervisor.add(ChildSpec(name=name, make=log.make, **how), ready_within=LONG)  # type: ignore[arg-type]
        self.threads += [thread for each, thread in supervisor.threads() if each == name]
        return address


@pytest.fixture
def house() -> Iterator[House]:
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


def test_what_was_queued_behind_a_crash_is_handled_by_the_next_incarnation(house: House) -> None:
    """F10: 100 messages queued behind it, in order; same ref, URN and thread."""
    log = Log()
    address = house.add(house.supervisor(), "a", log)
    ref = address._ref
    address.tell(Block())
    assert log.held.wait(LONG)
    address.tell(Fail("ValueError"))
    futures = [ref.ask(CODEC.encode(Note(number)), block=False) for number in range(50)]
    for number in range(50, 100):
        address.tell(Note(number))
    log.gate.set()
    assert [CODEC.decode(future.get(timeout=LONG)) for future in futures] == [Note(2)] * 50
    assert address.ask(Note(100), LONG) == Note(2)
    assert log.seen == [(2, number) for number in range(101)]
    assert log.did == ["start 1", "restart 1: ValueError", "start 2"]
    assert len(log.threads) == 1
    assert address._ref == ref
    assert ref.actor_urn == address._ref.actor_urn
    assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) == ref
    assert house.hooks.told[:3] == [
        ("failed", "a", 1, "ValueError"),
        ("restarting", "a", 1, 1),
        ("restarted", "a", 2),
    ]


def test_two_crashes_among_ten_lose_two(house: House) -> None:
    log = Log()
    address = house.add(house.supervisor(), "a", log)
    for number in range(10):
        address.tell(Fail("KeyError") if number in (3, 7) else Note(number))
    assert address.ask(Note(10), LONG) == Note(3)
    assert [number for _, number in log.seen] == [0, 1, 2, 4, 5, 6, 8, 9, 10]


def test_a_thousand_restarts(house: House) -> None:
    log = Log()
    address = house.add(house.supervisor(intensity=Intensity(2000, 1000.0)), "a", log)
    for _ in range(1000):
        address.tell(Fail("ValueError"))
    assert address.ask(Note(0), 4 * LONG) == Note(1001)
    assert len(log.threads) == 1


@pytest.mark.parametrize(("restart_on", "again"), [((), False), ((LookupError,), True)])
def test_an_error_of_an_ask_restarts_only_where_that_was_said(
    house: House, restart_on: tuple[type[BaseException], ...], again: bool
) -> None:
    log = Log()
    address = house.add(house.supervisor(), "a", log, restart_on=restart_on)
    with pytest.raises(KeyError):
        address.ask(Fail("KeyError"), LONG)
    assert address.ask(Note(0), LONG) == Note(1 + again)
    assert house.hooks.told[0] == ("failed" if again else "asked", "a", 1, "KeyError")


def test_who_cannot_vouch_for_its_state_is_always_replaced(house: House) -> None:
    log = Log()
    address = house.add(house.supervisor(), "a", log)
    with pytest.raises(Crash):
        address.ask(Fail("Crash"), LONG)
    assert address.ask(Note(0), LONG) == Note(2)


@pytest.mark.parametrize("what", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopSelf"])
@pytest.mark.parametrize("restart", [RestartType.PERMANENT, RestartType.TRANSIENT])
def test_what_would_end_the_host_ends_an_incarnation(house: House, what: str, restart: RestartType) -> None:
    """F12."""
    log, other = Log(), Log()
    supervisor = house.supervisor()
    bystander = house.add(supervisor, "b", other)
    address = house.add(supervisor, "a", log, restart=restart)
    address.tell(Fail(what))
    if restart is RestartType.PERMANENT or what in ("KeyboardInterrupt", "GeneratorExit"):
        assert address.ask(Note(0), LONG) == Note(2)
    else:
        house.hooks.until("ended", "a")
        assert supervisor.address("a") is None
    assert bystander.ask(Note(0), LONG) == Note(1)


def test_starts_that_fail_are_tried_again(house: House) -> None:
    """F11: four failures, up on the fifth try; the supervisor answers throughout."""
    log = Log()
    supervisor = house.supervisor()
    address = house.add(supervisor, "a", log)
    log.failing_starts = 4
    address.tell(Fail("ValueError"))
    assert address.ask(Note(0), LONG) == Note(6)
    assert [told[0] for told in house.hooks.told].count("failed") == 5
    (info,) = supervisor.children()
    assert (info.state, info.incarnation, info.restarts, info.error) == (
        ChildState.UP,
        6,
        5,
        "ValueError: cannot start",
    )


@pytest.mark.parametrize("error", [ValueError("always"), SystemExit("always")])
def test_starts_that_always_fail_end_the_supervisor(house: House, error: BaseException) -> None:
    log, other = Log(), Log()
    supervisor = house.supervisor()
    house.add(supervisor, "b", other)
    address = house.add(supervisor, "a", log)
    log.failing_starts, log.start_error = 1000, error
    future = address._ref.ask(CODEC.encode(Fail("Crash")), block=False)
    with pytest.raises(Crash):
        future.get(timeout=LONG)
    waiting = address._ref.ask(CODEC.encode(Note(0)), block=False)
    with pytest.raises(pykka.ActorDeadError):
        waiting.get(timeout=LONG)
    house.hooks.until("drained", "family", "a")
    assert log.incarnation == 6
    assert other.did == ["start 1", "stop 1"]
    with pytest.raises(RuntimeError, match="stopping"):
        supervisor.add(ChildSpec(name="c", make=Log().make))


def test_of_many_alike_one_that_fails_too_often_ends_alone(house: House) -> None:
    supervisor = house.supervisor(each=True)
    logs = [Log() for _ in range(20)]
    addresses = [house.add(supervisor, f"child-{at}", log) for at, log in enumerate(logs)]
    logs[7].failing_starts = 1000
    addresses[7].tell(Fail("ValueError"))
    house.hooks.until("ended", "child-7", "spent")
    assert [address.ask(Note(0), LONG) for at, address in enumerate(addresses) if at != 7] == [Note(1)] * 19
    with pytest.raises(pykka.ActorDeadError):
        addresses[7].ask(Note(0), LONG)


def test_one_for_all(house: House) -> None:
    supervisor = house.supervisor(strategy=Strategy.ONE_FOR_ALL)
    order: list[str] = []
    logs = {name: Log() for name in "abc"}
    for name, log in logs.items():
        log.did = Tagged(order, name)
    addresses = {name: house.add(supervisor, name, log) for name, log in logs.items()}
    addresses["b"].tell(Fail("ValueError"))
    house.hooks.until("restarted", "c", 2)
    assert [address.ask(Note(0), LONG) for address in addresses.values()] == [Note(2)] * 3
    assert order == [
        *("a start 1", "b start 1", "c start 1"),
        *("b restart 1: ValueError", "c restart 1: NoneType", "a restart 1: NoneType"),
        *("a start 2", "b start 2", "c start 2"),
    ]


class Tagged(list[str]):
    """Appends to one list that many share, under a name."""

    def __init__(self, shared: list[str], name: str) -> None:
        super().__init__()
        self.shared = shared
        self.name = name

    def append(self, item: str) -> None:
        self.shared.append(f"{self.name} {item}")


def test_while_it_backs_off_the_supervisor_answers_and_it_can_be_ended(house: House) -> None:
    log = Log()
    supervisor = house.supervisor(NEVER)
    address = house.add(supervisor, "a", log)
    address.tell(Fail("ValueError"))
    house.hooks.until("restarting", "a", 1, 1)
    assert [info.state for info in supervisor.children()] == [ChildState.RESTARTING]
    waiting = address._ref.ask(CODEC.encode(Note(0)), block=False)
    assert supervisor.terminate("a")
    house.hooks.until("ended", "a")
    with pytest.raises(pykka.ActorDeadError):
        waiting.get(timeout=LONG)
    assert not supervisor.terminate("a")


@pytest.mark.parametrize("state", ["up", "backing off"])
def test_a_stop_by_the_host_is_answered_when_it_has_stopped_and_nothing_comes_back(house: House, state: str) -> None:
    log, other = Log(), Log()
    supervisor = house.supervisor(NEVER)
    house.add(supervisor, "b", other)
    address = house.add(supervisor, "a", log)
    before = None
    if state == "backing off":
        address.tell(Fail("ValueError"))
        house.hooks.until("restarting", "a", 1, 1)
        before = address._ref.ask(CODEC.encode(Note(0)), block=False)
    assert address._ref.stop(block=True, timeout=LONG)
    assert log.did[-1] == ("stop 1" if state == "up" else "restart 1: ValueError")
    assert not address.alive
    if before is not None:
        with pytest.raises(pykka.ActorDeadError):
            before.get(timeout=LONG)
    house.hooks.until("drained", "family", None)
    assert other.did == ["start 1", "stop 1"]


def test_a_host_that_stops_all_of_pykka_needs_one_round(house: House) -> None:
    """F16: what Mopidy does at its end, with children that are busy, backing off, and idle."""
    supervisor = house.supervisor(NEVER)
    logs = [Log() for _ in range(20)]
    addresses = [house.add(supervisor, f"child-{at}", log) for at, log in enumerate(logs)]
    for at in range(5):
        addresses[at].tell(Fail("ValueError"))
        house.hooks.until("restarting", f"child-{at}", 1, 5 if at == 4 else at + 1)
    for at in (5, 6):
        addresses[at].tell(Block())
        assert logs[at].held.wait(LONG)
        threading.Timer(0.2, logs[at].gate.set).start()
    rounds = 0
    while pykka.ActorRegistry.get_all():
        rounds += 1
        assert rounds < 100
        pykka.ActorRegistry.stop_all(block=True, timeout=LONG)
    assert rounds == 1
    assert all(log.incarnation == 1 for log in logs)


def test_a_handler_that_hangs_is_left_behind_and_its_asker_told(house: House) -> None:
    """F15."""
    log, other = Log(), Log()
    supervisor = house.supervisor()
    house.add(supervisor, "b", other)
    address = house.add(supervisor, "a", log, shutdown=0.05)
    running = address._ref.ask(CODEC.encode(Block()), block=False)
    assert log.held.wait(LONG)
    waiting = address._ref.ask(CODEC.encode(Note(0)), block=False)
    supervisor.drain()
    for future in (running, waiting):
        with pytest.raises(ActorHungError, match="a did not end in its time"):
            future.get(timeout=LONG)
    assert supervisor.wait(LONG)
    assert ("ended", "a", "hung") in house.hooks.told
    assert other.did == ["start 1", "stop 1"]
    log.gate.set()  # what it still says is discarded, and its thread ends


def test_a_mailbox_with_a_bound_refuses_and_lives_on(house: House) -> None:
    log = Log()
    supervisor = house.supervisor()
    address = house.add(supervisor, "a", log, bound=2)
    address.tell(Block())
    assert log.held.wait(LONG)
    futures = [address._ref.ask(CODEC.encode(Note(number)), block=False) for number in range(2)]
    with pytest.raises(MailboxFullError, match="2 messages wait already"):
        address._ref.ask(CODEC.encode(Note(2)), block=False)
    stop = address._ref.stop(block=False)  # never refused
    log.gate.set()
    assert [CODEC.decode(future.get(timeout=LONG)) for future in futures] == [Note(1)] * 2
    stop.get(timeout=LONG)


def test_a_first_start_that_fails_is_raised_and_leaves_nothing(house: House) -> None:
    supervisor = house.supervisor()

    def make() -> Behaviour:
        raise ValueError("told so")

    with pytest.raises(ValueError, match="told so"):
        supervisor.add(ChildSpec(name="a", make=make), ready_within=LONG)
    house.hooks.until("ended", "a")
    assert supervisor.names() == []


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"name": ""}, ValueError),
        ({"name": 7}, ValueError),
        ({"make": 7}, TypeError),
        ({"restart": "permanent"}, TypeError),
        ({"shutdown": "5"}, TypeError),
        ({"shutdown": -1.0}, ValueError),
        ({"shutdown": float("nan")}, ValueError),
        ({"bound": 0}, ValueError),
        ({"bound": 1.5}, TypeError),
        ({"restart_on": [ValueError]}, TypeError),
        ({"restart_on": (ValueError("x"),)}, TypeError),
    ],
)
def test_a_wrong_specification_names_its_field(wrong: dict[str, object], error: type[Exception]) -> None:
    fields: dict[str, object] = {"name": "a", "make": Log().make, **wrong}
    with pytest.raises(error, match=rf"^{next(iter(wrong))} must "):
        ChildSpec(**fields)  # type: ignore[arg-type]


def test_hooks_that_fail_stop_nothing(house: House) -> None:
    log = Log()

    def fails(*_: object, **__: object) -> None:
        raise SystemExit("told so")

    house.hooks.failed = house.hooks.restarting = house.hooks.restarted = fails  # type: ignore[method-assign]
    address = house.add(house.supervisor(), "a", log)
    address.tell(Fail("ValueError"))
    assert address.ask(Note(0), LONG) == Note(2)
