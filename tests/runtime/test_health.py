"""How a supervisor is doing, asked at any moment."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator

import pykka
import pytest
from family_kit import CODEC, LONG, NEVER, Block, Fail, House, Log, Note, housed

from actors.actor import errors
from actors.actor.behaviour import Behaviour
from actors.actor.children import ChildSpec, SupervisorSpec
from actors.actor.errors import WorkerLostError
from actors.actor.supervisor import Supervisor
from actors.clock import monotonic
from actors.logic.health import ChildHealth, Health, HealthState, judge
from actors.logic.restarts import Exit, Intensity
from actors.logic.supervision import ChildState
from actors.messages.command import Command


@pytest.fixture
def house() -> Iterator[House]:
    yield from housed()


def test_all_is_well(house: House) -> None:
    supervisor = house.supervisor()
    assert supervisor.health() == Health(HealthState.OK)
    house.add(supervisor, "a", Log())
    assert supervisor.health() == Health(HealthState.OK)


def test_one_that_backs_off_is_degraded_and_says_why(house: House) -> None:
    supervisor = house.supervisor(NEVER)
    address = house.add(supervisor, "a", Log())
    address.tell(Fail("ValueError"))
    house.hooks.until("restarting", "a", 1, 1)
    assert supervisor.health() == Health(
        HealthState.DEGRADED, ("a is down and is to be started again: ValueError: told so",)
    )


def test_who_gave_up_has_failed_and_who_was_stopped_too(house: House) -> None:
    supervisor = house.supervisor(intensity=Intensity(0))
    house.add(supervisor, "a", Log()).tell(Fail("ValueError"))
    house.hooks.until("drained", "family", "a")
    assert supervisor.health() == Health(HealthState.FAILED, ("it gave up: a failed once too often",))
    other = house.supervisor()
    other.drain()
    assert other.health() == Health(HealthState.FAILED, ("it has been stopped",))


def test_health_answers_whatever_a_child_does(house: House) -> None:
    """One hangs in a handler, one in its start, one backs off; 50 ms are asked for, a second on a loaded machine."""
    busy, down = Log(), Log()
    gate = threading.Event()

    def starts() -> Behaviour:
        assert gate.wait(LONG)
        return busy.make()

    supervisor = house.supervisor(NEVER)
    house.add(supervisor, "busy", busy).tell(Block())
    house.add(supervisor, "down", down).tell(Fail("ValueError"))
    supervisor.add(ChildSpec(name="starts", make=starts, start_within=0.0))
    house.threads += [thread for name, thread in supervisor.threads() if name == "starts"]
    assert busy.held.wait(LONG)
    house.hooks.until("restarting", "down", 1, 1)
    begin = monotonic()
    health, children = supervisor.health(), supervisor.children()
    assert monotonic() - begin < 4.0
    assert health.state is HealthState.DEGRADED
    down, starting = health.reasons
    assert down.startswith("down is down and is to be started again: ")
    assert re.fullmatch(r"starts has been starting for \d+ s", starting)
    assert [(info.name, info.state) for info in children] == [
        ("busy", ChildState.UP),
        ("down", ChildState.RESTARTING),
        ("starts", ChildState.STARTING),
    ]
    gate.set()
    busy.gate.set()


def test_what_is_below_counts(house: House) -> None:
    log = Log()
    root = house.supervisor()
    middle = root.add_supervisor(
        SupervisorSpec(name="middle", children=(ChildSpec(name="a", make=log.make),)), ready_within=LONG
    )
    house.threads += [*(t for _, t in root.threads()), *(t for _, t in middle.threads())]
    middle._policy = lambda: middle._supervision
    middle._supervision._backoff = NEVER
    address = middle.address("a")
    assert address is not None
    address.tell(Fail("ValueError"))
    house.hooks.until("restarting", "middle/a", 1, 1)
    assert root.health().reasons == ("middle/a is down and is to be started again: ValueError: told so",)


def test_a_thread_that_is_left_behind_counts_until_it_ends(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """The deadline that was missed is reported with the child's name and where its thread is."""
    log = Log()
    supervisor = house.supervisor()
    address = house.add(supervisor, "a", log, shutdown=0.05)
    (_, thread), *_ = supervisor.threads()
    asked = address._ref.ask(CODEC.encode(Block()), block=False)
    assert log.held.wait(LONG)
    with caplog.at_level(logging.ERROR):
        supervisor.terminate("a")
        house.hooks.until("ended", "a", "hung")
    assert "a did not end within its 0.05 s: its thread is left behind, here:" in caplog.text
    assert "log.gate.wait" in caplog.text
    assert supervisor.health() == Health(HealthState.DEGRADED, ("a: its thread hangs and is left behind",))
    with pytest.raises(errors.ActorHungError):
        asked.get(timeout=LONG)
    # The name is free, and what the old thread still says is not taken for the new one's.
    again = Log()
    fresh = house.add(supervisor, "a", again)
    log.gate.set()
    thread.join(LONG)
    assert supervisor.discarded == 1
    assert fresh.ask(Note(0), LONG) == Note(1)
    assert supervisor.names() == ["a"]
    assert supervisor.left_behind() == []
    assert supervisor.health() == Health(HealthState.OK)


def test_what_one_that_was_left_behind_reports_is_not_taken_for_its_successors(house: House) -> None:
    held, gate = threading.Event(), threading.Event()

    class Late(Behaviour):
        def handle(self, command: Command) -> None:
            held.set()
            assert gate.wait(LONG)
            raise ValueError("too late to count")

    supervisor = house.supervisor()
    address = supervisor.add(ChildSpec(name="a", make=Late, shutdown=0.05), ready_within=LONG)
    (_, thread), *_ = supervisor.threads()
    address.tell(Note(0))
    assert held.wait(LONG)
    supervisor.terminate("a")
    house.hooks.until("ended", "a", "hung")
    fresh = house.add(supervisor, "a", Log())
    gate.set()
    thread.join(LONG)
    assert fresh.ask(Note(0), LONG) == Note(1)
    assert [(info.incarnation, info.restarts) for info in supervisor.children()] == [(1, 0)]


def test_one_that_ends_just_when_it_is_left_behind_ends_once(house: House) -> None:
    log = Log()
    supervisor = house.supervisor()
    house.add(supervisor, "a", log, shutdown=0.05).tell(Block())
    (_, thread), *_ = supervisor.threads()
    assert log.held.wait(LONG)

    def shown(text: str) -> str:
        log.gate.set()
        thread.join(LONG)
        return text

    house.hooks.shown = shown  # type: ignore[method-assign]
    supervisor.terminate("a")
    house.hooks.until("ended", "a", "hung")
    assert not thread.is_alive()
    assert [told for told in house.hooks.told if told[0] == "ended"] == [("ended", "a", "hung")]
    assert supervisor.names() == []
    assert supervisor.left_behind() == []


def test_children_tell_all_there_is_to_know(house: House) -> None:
    class Stands(Behaviour):
        pid = 4711

        def handle(self, command: Command) -> None:
            assert command != Note(1), "not this one"

    supervisor = house.supervisor()
    address = supervisor.add(ChildSpec(name="a", make=Stands), ready_within=LONG)
    house.threads += [thread for _, thread in supervisor.threads()]
    with pytest.raises(AssertionError):
        address.ask(Note(1), LONG)
    (info,) = supervisor.children()
    assert (info.name, info.state, info.incarnation, info.restarts) == ("a", ChildState.UP, 1, 0)
    assert (info.waiting, info.answered, info.pid, info.supervisor) == (0, 1, 4711, False)
    assert info.error is not None
    assert info.error.startswith("AssertionError: not this one")


def test_one_whose_process_is_lost_has_crashed_by_that(house: House) -> None:
    told: list[Exit] = []

    class Stands(Behaviour):
        def handle(self, command: Command) -> None:
            raise WorkerLostError(4711, "killed by SIGKILL")

    supervisor = house.supervisor()
    address = supervisor.add(ChildSpec(name="a", make=Stands), ready_within=LONG)
    house.threads += [thread for _, thread in supervisor.threads()]
    exited = supervisor._children["a"].exited
    supervisor._children["a"].exited = lambda n, how, error: (told.append(how), exited(n, how, error))  # type: ignore[method-assign,assignment,return-value,func-returns-value]
    address.tell(Note(0))
    house.hooks.until("restarted", "a", 2)
    assert told == [Exit.WORKER_LOST]
    assert supervisor.children()[0].error == "WorkerLostError: process 4711 was lost: killed by SIGKILL"


def test_errors_of_some_kinds_keep_the_state_also_when_told(house: House, caplog: pytest.LogCaptureFixture) -> None:
    log = Log()
    supervisor = house.supervisor()
    resumed: list[object] = []
    house.hooks.resumed = lambda child, n, error: resumed.append((child, n, type(error)))  # type: ignore[method-assign,assignment,return-value]
    address = house.add(supervisor, "a", log, resume_on=(LookupError, SystemExit))
    with caplog.at_level(logging.ERROR):
        address.tell(Fail("KeyError"))
        assert address.ask(Note(0), LONG) == Note(1)
    assert resumed == [("a", 1, KeyError)]
    assert "a: incarnation 1 goes on after an error" in caplog.text
    assert supervisor.children()[0].answered == 1
    address.tell(Fail("ValueError"))
    assert address.ask(Note(0), LONG) == Note(2)
    address.tell(Fail("SystemExit"))  # never a reason to go on
    assert address.ask(Note(0), LONG) == Note(3)


def test_a_limit_that_cannot_trip_is_warned_of_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    supervisor = house.supervisor(intensity=Intensity(5, 60.0))
    house.add(supervisor, "a", Log())
    assert caplog.text == ""
    house.add(supervisor, "b", Log(), shutdown=8.0)
    house.add(supervisor, "c", Log(), shutdown=8.0)
    assert caplog.text.count("it could fail for ever without reaching the limit of 5 restarts in 60 s") == 1


def test_a_lifetime_has_a_most_of_restarts(house: House) -> None:
    supervisor = house.supervisor(intensity=Intensity(5, 0.001, lifetime=2))
    address = house.add(supervisor, "a", Log())
    for incarnation in (2, 3):
        address.tell(Fail("ValueError"))
        house.hooks.until("restarted", "a", incarnation)
        assert not threading.Event().wait(0.002)
    address.tell(Fail("ValueError"))
    house.hooks.until("drained", "family", "a")


def test_a_supervisor_of_its_own_needs_nothing_else() -> None:
    log = Log()
    with Supervisor("root", CODEC, children=[ChildSpec(name="a", make=log.make)]) as root:
        address = root.address("a")
        assert address is not None
        address.tell(Fail("ValueError"))
        assert address.ask(Note(0), LONG) == Note(2)
        assert [ref.actor_class.__name__ for ref in pykka.ActorRegistry.get_all()] == ["Cell", "Cell"]
    assert pykka.ActorRegistry.get_all() == []
    assert root.stop(LONG) == []
    assert root.over


def test_a_supervisor_whose_child_does_not_start_leaves_nothing() -> None:
    good = Log()

    def bad() -> Behaviour:
        raise ValueError("told so")

    root = Supervisor("root", CODEC, children=[ChildSpec(name="good", make=good.make), ChildSpec(name="bad", make=bad)])
    with pytest.raises(ValueError, match="told so"):
        root.start()
    assert good.did == ["start 1", "stop 1"]
    assert pykka.ActorRegistry.get_all() == []


def of(name: str, state: ChildState, **more: object) -> ChildHealth:
    fields = {"incarnation": 1, "seconds": 0.0, "start_within": 5.0, "error": None, **more}
    return ChildHealth(name=name, state=state, **fields)  # type: ignore[arg-type]


def test_the_verdict() -> None:
    ending = of("e", ChildState.ENDING)
    assert judge(None, False, [of("a", ChildState.UP), of("s", ChildState.STARTING), ending], []).state == "ok"
    slow = of("s", ChildState.STARTING, seconds=6.0)
    again = of("t", ChildState.STARTING, incarnation=2)
    halting = of("h", ChildState.HALTING)
    below = of("m", ChildState.UP, nested=Health(HealthState.DEGRADED, ("x is down",)))
    assert judge(None, False, [slow, again, halting, below], ["z"]).reasons == (
        "s has been starting for 6 s",
        "t is being started again",
        "h is down and is to be started again",
        "m/x is down",
        "z: its thread hangs and is left behind",
    )
    assert judge("it gave up", True, [slow], []) == Health(HealthState.FAILED, ("it gave up",))
