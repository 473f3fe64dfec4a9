"""Every ask ends, a crash stays with its actor, hooks are called once, and nothing is left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pykka
import pytest

from actors.actor.address import Address, AskTimeout
from actors.actor.cell import Behaviour, StopSelf
from actors.actor.supervisor import SupervisorHooks
from actors.actor.system import Runtime
from actors.errors import CodecError
from actors.logic.restarts import RestartType
from actors.messages.codec import Codec
from actors.messages.command import Command

LONG = 20.0


@dataclass(frozen=True, slots=True)
class Echo(Command):
    TAG = 16
    number: int


@dataclass(frozen=True, slots=True)
class Raise(Command):
    TAG = 17
    what: str


@dataclass(frozen=True, slots=True)
class Block(Command):
    TAG = 18


@dataclass(frozen=True, slots=True)
class BadAnswer(Command):
    TAG = 19


@dataclass(frozen=True, slots=True)
class Stranger(Command):
    TAG = 20


CODEC = Codec([Echo, Raise, Block, BadAnswer])
ERRORS: dict[str, type[BaseException]] = {
    error.__name__: error for error in (ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, StopSelf)
}


class Acts(Behaviour):
    """Does as it is told; `held` and `gate` are where it blocks."""

    def __init__(self) -> None:
        self.seen: list[Command] = []
        self.stops = 0
        self.held = threading.Event()
        self.gate = threading.Event()
        self.on_stop_raises: BaseException | None = None

    def handle(self, command: Command) -> Command | None:
        self.seen.append(command)
        match command:
            case Echo():
                return command
            case Raise(what):
                raise ERRORS[what]("told so")
            case Block():
                self.held.set()
                assert self.gate.wait(LONG)
            case BadAnswer():
                return Stranger()
        return None

    def on_stop(self) -> None:
        self.stops += 1
        if self.on_stop_raises is not None:
            raise self.on_stop_raises


@dataclass
class Hooks(SupervisorHooks):
    crashes: list[tuple[str, BaseException]] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    letters: list[tuple[str, str]] = field(default_factory=list)
    crash_raises: BaseException | None = None
    end_raises: BaseException | None = None

    def failed(self, child: str, incarnation: int, error: BaseException, *, asked: bool) -> None:
        assert incarnation == 1
        if not asked:
            self.crashes.append((child, error))
        if self.crash_raises is not None:
            raise self.crash_raises

    def ended(self, child: str, *, spent: bool, hung: bool) -> None:
        assert not spent
        assert not hung
        self.ends.append(child)
        if self.end_raises is not None:
            raise self.end_raises

    def dead_letter(self, child: str, reason: str) -> None:
        self.letters.append((child, reason))


class House:
    """A runtime whose actors are joined at the end."""

    def __init__(self) -> None:
        self.hooks = Hooks()
        self.runtime = Runtime(CODEC, self.hooks)
        self.runtime.start()
        self.threads: list[threading.Thread] = []

    def spawn(self, name: str, make: Callable[[], Behaviour], ready_within: float | None = LONG) -> Address:
        address = self.runtime.spawn(name, make, ready_within=ready_within, restart=RestartType.TEMPORARY)
        self.threads += [thread for each, thread in self.runtime._root.threads() if each == name]
        return address

    def join(self) -> None:
        for thread in self.threads:
            thread.join(LONG)
            assert not thread.is_alive()


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    assert made.runtime.stop(LONG) == []
    made.join()
    assert made.runtime.names() == []
    assert pykka.ActorRegistry.get_all() == []


def test_an_ask_is_answered(house: House) -> None:
    address = house.spawn("a", Acts)
    assert address.ask(Echo(7), LONG) == Echo(7)
    assert address.alive
    assert repr(address) == "<Address a>"
    assert house.runtime.names() == ["a"]


def test_an_exception_in_an_ask_goes_to_the_caller_and_keeps_the_state(house: House) -> None:
    acts = Acts()
    address = house.spawn("a", lambda: acts)
    with pytest.raises(ValueError, match="told so"):
        address.ask(Raise("ValueError"), LONG)
    assert address.ask(Echo(1), LONG) == Echo(1)
    assert house.hooks.crashes == []
    assert acts.stops == 0


@pytest.mark.parametrize("what", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
def test_what_would_end_the_host_ends_its_actor_only(house: House, what: str) -> None:
    """Plain Pykka stops every actor of the process here and leaves the asker waiting."""
    acts = Acts()
    bystander = house.spawn("bystander", Acts)
    address = house.spawn("a", lambda: acts)
    with pytest.raises(pykka.ActorDeadError, match=f"a was ended by {what}") as caught:
        address.ask(Raise(what), LONG)
    assert isinstance(caught.value.__cause__, ERRORS[what])
    house.threads[-1].join(LONG)
    assert acts.stops == 1
    crashes = [] if what == "SystemExit" else [("a", ERRORS[what])]
    assert [(name, type(error)) for name, error in house.hooks.crashes] == crashes
    assert house.hooks.ends == ["a"]
    assert bystander.ask(Echo(1), LONG) == Echo(1)


@pytest.mark.parametrize("what", ["ValueError", "MemoryError", "SystemExit", "KeyboardInterrupt"])
def test_an_exception_in_a_tell_crashes_its_actor_once(house: House, what: str) -> None:
    acts = Acts()
    address = house.spawn("a", lambda: acts)
    assert address.tell(Raise(what))
    house.join()
    # SystemExit is a wish, not a failure.
    crashes = [] if what == "SystemExit" else [("a", ERRORS[what])]
    assert [(name, type(error)) for name, error in house.hooks.crashes] == crashes
    assert house.hooks.ends == ["a"]
    assert acts.stops == 1
    assert not address.tell(Echo(1))
    assert not address.alive
    with pytest.raises(pykka.ActorDeadError):
        address.ask(Echo(1), LONG)
    assert house.runtime.address("a") is None
    house.spawn("a", Acts)  # the name is free again


@pytest.mark.parametrize("ask", [True, False])
def test_a_behaviour_stops_itself_in_the_ordinary_way(house: House, ask: bool) -> None:
    acts = Acts()
    address = house.spawn("a", lambda: acts)
    if ask:
        with pytest.raises(CodecError, match="answered Raise with no command"):
            address.ask(Raise("StopSelf"), LONG)
    else:
        address.tell(Raise("StopSelf"))
    house.join()
    assert house.hooks.crashes == []
    assert (acts.stops, house.hooks.ends) == (1, ["a"])


def test_what_waits_behind_a_crash_is_refused(house: House) -> None:
    acts = Acts()
    address = house.spawn("a", lambda: acts)
    address.tell(Block())
    assert acts.held.wait(LONG)
    address.tell(Raise("ValueError"))
    futures = [address._ref.ask(CODEC.encode(Echo(number)), block=False) for number in range(3)]
    acts.gate.set()
    for future in futures:
        with pytest.raises(pykka.ActorDeadError, match="a has stopped"):
            future.get(timeout=LONG)
    assert acts.seen == [Block(), Raise("ValueError")]


def test_what_waits_before_a_stop_is_handled_and_the_stop_is_answered_last(house: House) -> None:
    acts = Acts()
    address = house.spawn("a", lambda: acts)
    address.tell(Block())
    assert acts.held.wait(LONG)
    before = address._ref.ask(CODEC.encode(Echo(1)), block=False)
    stop = address._ref.stop(block=False)
    again = address._ref.stop(block=False)
    after = address._ref.ask(CODEC.encode(Echo(2)), block=False)
    acts.gate.set()
    stop.get(timeout=LONG)
    assert (acts.stops, house.hooks.ends) == (1, ["a"])
    again.get(timeout=LONG)
    assert before.get(timeout=LONG) == CODEC.encode(Echo(1))
    with pytest.raises(pykka.ActorDeadError):
        after.get(timeout=LONG)


def test_an_ask_has_a_limit(house: House) -> None:
    acts = Acts()
    address = house.spawn("a", lambda: acts)
    address.tell(Block())
    assert acts.held.wait(LONG)
    with pytest.raises(AskTimeout, match=r"a gave no answer within 0\.01 s"):
        address.ask(Echo(1), 0.01)
    acts.gate.set()
    assert address.ask(Echo(2), LONG) == Echo(2)


def test_an_answer_that_is_no_command_is_an_error_of_the_ask(house: House) -> None:
    address = house.spawn("a", Acts)
    with pytest.raises(CodecError, match="Stranger"):
        address.ask(BadAnswer(), LONG)
    with pytest.raises(CodecError, match="Stranger"):
        address.tell(Stranger())
    assert address.ask(Echo(1), LONG) == Echo(1)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x10\x02", b"\x93\x10\x01\xa1x"])
def test_what_cannot_be_read_is_a_dead_letter(house: House, data: bytes) -> None:
    acts = Acts()
    address = house.spawn("a", lambda: acts)
    assert address.forward(data)
    assert address.ask(Echo(1), LONG) == Echo(1)
    future = address._ref.ask(data, block=False)
    with pytest.raises(CodecError):
        future.get(timeout=LONG)
    assert [name for name, _ in house.hooks.letters] == ["a", "a"]
    assert acts.seen == [Echo(1)]
    assert house.hooks.crashes == []


@pytest.mark.parametrize("error", [ValueError("told so"), SystemExit("told so"), KeyboardInterrupt("told so")])
@pytest.mark.parametrize("where", ["make", "on_start"])
def test_a_start_that_fails_is_raised_and_leaves_nothing(house: House, error: BaseException, where: str) -> None:
    class Fails(Acts):
        def on_start(self) -> None:
            raise error

    def make() -> Behaviour:
        raise error

    with pytest.raises(type(error), match="told so"):
        house.spawn("a", make if where == "make" else Fails)
    assert house.hooks.crashes == [("a", error)]


def test_asks_sent_to_an_actor_whose_start_fails_are_refused(house: House) -> None:
    held, gate = threading.Event(), threading.Event()

    def make() -> Behaviour:
        held.set()
        assert gate.wait(LONG)
        raise ValueError("told so")

    address = house.spawn("a", make, ready_within=None)
    assert held.wait(LONG)
    future = address._ref.ask(CODEC.encode(Echo(1)), block=False)
    stop = address._ref.stop(block=False)
    gate.set()
    with pytest.raises(pykka.ActorDeadError):
        future.get(timeout=LONG)
    stop.get(timeout=LONG)
    house.join()
    assert house.hooks.ends == ["a"]


def test_without_a_thread_nothing_is_registered_and_no_hook_is_called(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hooks would run in the caller's thread, under locks of its own that they may want to take."""

    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="new thread"):
            house.runtime.spawn("a", Acts)
    assert pykka.ActorRegistry.get_all() == []
    assert house.runtime.names() == []
    assert (house.hooks.crashes, house.hooks.ends) == ([], [])
    assert house.spawn("a", Acts).ask(Echo(1), LONG) == Echo(1)


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3)])
def test_hooks_and_on_stop_that_fail_stop_nothing(house: House, error: BaseException) -> None:
    acts = Acts()
    acts.on_stop_raises = house.hooks.crash_raises = house.hooks.end_raises = error
    address = house.spawn("a", lambda: acts)
    address.tell(Raise("ValueError"))
    house.join()
    assert (acts.stops, house.hooks.ends, len(house.hooks.crashes)) == (1, ["a"], 1)
    other = house.spawn("b", Acts)
    other._ref.stop(block=True, timeout=LONG)
    house.hooks.end_raises = None


def test_a_host_that_stops_all_of_pykka_leaves_nothing(house: House) -> None:
    behaviours = [Acts() for _ in range(20)]
    for number, acts in enumerate(behaviours):
        house.spawn(f"actor-{number}", lambda acts=acts: acts)  # type: ignore[misc]
    assert pykka.ActorRegistry.stop_all(block=True, timeout=LONG)
    assert all(acts.stops == 1 for acts in behaviours)
    assert sorted(house.hooks.ends) == sorted(f"actor-{number}" for number in range(20))
    assert house.runtime.names() == []
    assert house.hooks.crashes == []


def test_names_are_unique_while_in_use(house: House) -> None:
    address = house.spawn("a", Acts)
    with pytest.raises(ValueError, match="'a' exists already"):
        house.runtime.spawn("a", Acts)
    address.tell(Raise("StopSelf"))
    house.join()
    house.spawn("a", Acts)


def test_nothing_starts_after_the_stop() -> None:
    house = House()
    house.spawn("a", Acts)
    assert house.runtime.stop(LONG) == []
    with pytest.raises(RuntimeError, match="stopping"):
        house.runtime.spawn("b", Acts)
    assert house.runtime.stop(LONG) == []
