"""Actors that fail come back in place: same address, same mailbox, a new behaviour. Every ask ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pykka
import pytest
from family_kit import CODEC, LONG, NEVER, Block, Fail, House, Log, Note, Tagged, housed

from actors.actor.behaviour import Behaviour, Crash
from actors.actor.children import ChildSpec
from actors.actor.errors import ActorGoneError, MailboxFullError
from actors.actor.supervisor import Supervisor
from actors.clock import monotonic
from actors.logic.restarts import Intensity, Strategy
from actors.logic.supervision import ChildState


@pytest.fixture
def house() -> Iterator[House]:
    yield from housed()


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


def test_who_cannot_vouch_for_its_state_is_always_replaced(house: House) -> None:
    log = Log()
    address = house.add(house.supervisor(), "a", log)
    with pytest.raises(Crash):
        address.ask(Fail("Crash"), LONG)
    assert address.ask(Note(0), LONG) == Note(2)


def test_giving_up_is_reported_before_anybody_is_ended_and_without_the_lock(house: House) -> None:
    log, other = Log(), Log()
    supervisor = house.supervisor(intensity=Intensity(0))
    bystander = house.add(supervisor, "b", other)
    address = house.add(supervisor, "a", log)
    answered: list[object] = []

    def gave_up(name: str, child: str) -> None:
        house.hooks._note("gave up", name, child)
        # From another thread: the lock is free, and the siblings work on.
        asker = threading.Thread(target=lambda: answered.extend([supervisor.names(), bystander.ask(Note(7), LONG)]))
        asker.start()
        asker.join(LONG)

    house.hooks.gave_up = gave_up  # type: ignore[method-assign]
    address.tell(Fail("ValueError"))
    house.hooks.until("drained", "family", "a")
    assert answered == [["b", "a"], Note(1)]
    assert house.hooks.told == [
        ("failed", "a", 1, "ValueError"),
        ("gave up", "family", "a"),
        ("ended", "a"),
        ("ended", "b"),
        ("drained", "family", "a"),
    ]


def test_a_stop_while_giving_up_is_reported_is_not_undone_by_late_orders(house: House) -> None:
    log, other = Log(), Log()
    supervisor = house.supervisor(intensity=Intensity(0))
    house.add(supervisor, "b", other)
    address = house.add(supervisor, "a", log)
    held, gate = threading.Event(), threading.Event()

    def gave_up(name: str, child: str) -> None:
        held.set()
        assert gate.wait(LONG)

    house.hooks.gave_up = gave_up  # type: ignore[method-assign]
    address.tell(Fail("ValueError"))
    assert held.wait(LONG)
    assert supervisor.stop(1.0) == ["a"]  # its thread is in the hook; the other has ended
    assert supervisor.wait(LONG)
    gate.set()
    assert other.did == ["start 1", "stop 1"]


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


def test_a_mailbox_with_a_bound_refuses_and_lives_on(house: House) -> None:
    log = Log()
    supervisor = house.supervisor()
    address = house.add(supervisor, "a", log, bound=2)
    address.tell(Block())
    assert log.held.wait(LONG)
    futures = [address._ref.ask(CODEC.encode(Note(number)), block=False) for number in range(2)]
    with pytest.raises(MailboxFullError, match="2 messages wait already"):
        address._ref.ask(CODEC.encode(Note(2)), block=False).get(timeout=LONG)
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
        ({"start_within": None}, TypeError),
        ({"max_wait": -1}, ValueError),
        ({"drop": 1}, TypeError),
        ({"keep_children": None}, TypeError),
        ({"resume_on": ValueError}, TypeError),
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


def test_proxies_made_before_and_after_a_restart_are_equal_and_work(house: House) -> None:
    log = Log()
    address = house.add(house.supervisor(), "a", log)
    ref = address._ref
    before = ref.proxy()
    hashed = hash(before), hash(ref), hash(address)
    address.tell(Fail("ValueError"))
    assert address.ask(Note(0), LONG) == Note(2)
    assert ref.proxy() == before
    assert (hash(ref.proxy()), hash(ref), hash(address)) == hashed
    found = house.made[0].address("a")
    assert found == address
    assert {found, address} == {address}
    # A stop by the proxy is the actor's own wish: a permanent one comes back.
    before.stop().get(timeout=LONG)
    assert address.ask(Note(1), LONG) == Note(3)


def test_a_stop_during_a_long_back_off_does_not_wait_for_it(house: House) -> None:
    log = Log()
    supervisor = house.supervisor(NEVER)
    house.add(supervisor, "a", log).tell(Fail("ValueError"))
    house.hooks.until("restarting", "a", 1, 1)
    begin = monotonic()
    assert supervisor.stop(LONG) == []
    assert monotonic() - begin < 4.0


def test_a_termination_drains_where_that_was_said(house: House) -> None:
    logs = {drain: Log() for drain in (False, True)}
    supervisor = house.supervisor()
    for drain, log in logs.items():
        address = house.add(supervisor, str(drain), log)
        address.tell(Block())
        assert log.held.wait(LONG)
        address.tell(Note(1))
        waiting = address._ref.ask(CODEC.encode(Note(2)), block=False)
        supervisor.terminate(str(drain), drain=drain)
        log.gate.set()
        house.hooks.until("ended", str(drain))
        if drain:
            assert CODEC.decode(waiting.get(timeout=LONG)) == Note(1)
        else:
            with pytest.raises(ActorGoneError, match="has stopped"):
                waiting.get(timeout=LONG)
    assert [log.seen for log in logs.values()] == [[], [(1, 1), (1, 2)]]


def test_when_all_are_given_up_nobody_handles_what_is_queued(house: House) -> None:
    log, other = Log(), Log()
    supervisor = house.supervisor(intensity=Intensity(0))
    busy = house.add(supervisor, "busy", other)
    busy.tell(Block())
    assert other.held.wait(LONG)
    waiting = busy._ref.ask(CODEC.encode(Note(1)), block=False)
    house.add(supervisor, "a", log).tell(Fail("ValueError"))
    house.hooks.until("gave up", "family", "a")
    house.hooks.until("ended", "a")
    other.gate.set()
    with pytest.raises(ActorGoneError):
        waiting.get(timeout=LONG)
    assert other.seen == []


def test_one_that_was_not_started_takes_no_children_and_none_is_started_twice() -> None:
    supervisor = Supervisor("root", CODEC)
    with pytest.raises(RuntimeError, match="root has not been started"):
        supervisor.add(ChildSpec(name="a", make=Log().make))
    with supervisor, pytest.raises(RuntimeError, match="has been started before"):
        supervisor.start()
    with pytest.raises(RuntimeError, match="stopping"):
        supervisor.add(ChildSpec(name="a", make=Log().make))


def test_what_was_not_stopped_ends_with_the_interpreter() -> None:
    root = Path(__file__).resolve().parents[2]
    program = """
from family_kit import CODEC, Actor, Log
from actors import ChildSpec, Supervisor
class Says(Actor):
    def on_stop(self):
        print(self.context.name, "stops")
root = Supervisor("root", CODEC, children=[ChildSpec(name=name, make=lambda: Says(Log())) for name in "ab"]).start()
raise SystemExit(3)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "b stops\na stops\n", "")
