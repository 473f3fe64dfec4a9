"""What an actor has around it: timers of its incarnation, children of its own, deaths that it watches."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from family_kit import CODEC, LONG, NEVER, Actor, Block, Fail, Hooks, House, Log, Note, Tagged, housed

from actors.actor.address import Address
from actors.actor.behaviour import Behaviour
from actors.actor.children import ChildSpec, SupervisorSpec
from actors.actor.supervisor import Supervisor
from actors.clock import monotonic
from actors.logic.restarts import Intensity
from actors.messages.command import Command
from actors.testing.fake_clock import FakeClock, FakeTimers


@pytest.fixture
def house() -> Iterator[House]:
    yield from housed()


class Ticks(Actor):
    """Sets a timer for the number of its incarnation when it starts, and one for every command that it is told."""

    def on_start(self) -> None:
        super().on_start()
        self.context.after(5.0, Note(1000 * self.number))


def test_a_tick_of_one_incarnation_is_never_delivered_to_the_next() -> None:
    clock = FakeClock()
    timers = FakeTimers(clock)
    log = Log()
    backs_off = Hooks()
    with Supervisor("family", CODEC, timers, hooks=backs_off, clock=clock, draw=lambda: 1.0) as family:
        address = family.add(ChildSpec(name="a", make=lambda: Ticks(log)), ready_within=LONG)
        timers.advance(4.0)
        address.tell(Fail("ValueError"))
        backs_off.until("restarting", "a", 1, 1)
        timers.advance(1.5)  # the restart, and when the tick of the first would have come
        assert address.ask(Note(1), LONG) == Note(2)
        assert log.seen == [(2, 1)]
        timers.advance(5.0)
        assert address.ask(Note(2), LONG) == Note(2)
        assert log.seen == [(2, 1), (2, 2000), (2, 2)]


def test_a_tick_that_waits_in_the_mailbox_when_its_incarnation_ends_is_dropped(house: House) -> None:
    log = Log()
    sent = threading.Event()

    class Late(Actor):
        def handle(self, command: Command) -> Command | None:
            if command == Note(1):
                self.context.after(0.0, Note(99))
                house.timers.soon(sent.set)  # after the tick: timers run in order
                raise ValueError if sent.wait(LONG) else TimeoutError
            return super().handle(command)

    supervisor = house.supervisor()
    address = supervisor.add(ChildSpec(name="late", make=lambda: Late(log)), ready_within=LONG)
    house.threads += [thread for _, thread in supervisor.threads()]
    address.tell(Note(1))
    assert address.ask(Note(2), LONG) == Note(2)
    assert log.seen == [(2, 2)]


# --- Children of an actor's own


class Parent(Actor):
    """Starts one child when it starts."""

    def __init__(self, log: Log, child: Log, made: list[Address], *, name: str = "child") -> None:
        super().__init__(log)
        self.child = child
        self.made = made
        self.name = name

    def on_start(self) -> None:
        super().on_start()
        if self.context.children.address(self.name) is None:
            spec = ChildSpec(name=self.name, make=self.child.make)
            self.made.append(self.context.children.add(spec, ready_within=LONG))


def parent(house: House, *, keep: bool = False, **how: object) -> tuple[list[str], Log, Log, Address, list[Address]]:
    order: list[str] = []
    own, child = Log(), Log()
    own.did, child.did = Tagged(order, "parent"), Tagged(order, "child")
    made: list[Address] = []
    supervisor = house.supervisor(**how)  # type: ignore[arg-type]
    spec = ChildSpec(name="a", make=lambda: Parent(own, child, made), keep_children=keep)
    address = supervisor.add(spec, ready_within=LONG)
    house.threads += [thread for _, thread in supervisor.threads()]
    return order, own, child, address, made


def test_children_of_an_actor_end_before_its_next_incarnation_starts(house: House) -> None:
    order, _, _, address, made = parent(house)
    address.tell(Fail("ValueError"))
    assert address.ask(Note(0), LONG) == Note(2)
    assert order == [
        *("parent start 1", "child start 1", "parent restart 1: ValueError", "child stop 1"),
        *("parent start 2", "child start 2"),
    ]
    assert [child.alive for child in made] == [False, True]
    assert ("ended", "a/child") in house.hooks.told


def test_children_are_kept_where_that_was_said(house: House) -> None:
    order, _, _, address, made = parent(house, keep=True)
    address.tell(Fail("ValueError"))
    assert address.ask(Note(0), LONG) == Note(2)
    assert made[0].ask(Note(0), LONG) == Note(1)
    assert len(made) == 1
    house.made[0].drain()
    assert house.made[0].wait(LONG)
    assert order[-2:] == ["child stop 1", "parent stop 2"]


def test_children_end_before_the_actor_does(house: House) -> None:
    order, _, _, _, made = parent(house)
    house.made[0].terminate("a")
    house.hooks.until("ended", "a")
    assert order[-2:] == ["child stop 1", "parent stop 1"]
    assert not made[0].alive


def test_children_of_an_actor_whose_start_fails_end_too(house: House) -> None:
    child = Log()

    class Fails(Behaviour):
        def on_start(self) -> None:
            self.context.children.add(ChildSpec(name="child", make=child.make), ready_within=LONG)
            raise ValueError("told so")

        def handle(self, command: Command) -> None: ...

    with pytest.raises(ValueError, match="told so"):
        house.supervisor().add(ChildSpec(name="a", make=Fails), ready_within=LONG)
    assert child.did == ["start 1", "stop 1"]


def test_an_actor_crashes_when_its_children_are_given_up(house: House) -> None:
    _, own, child, address, made = parent(house)
    for _ in range(6):
        made[-1].tell(Fail("ValueError"))
    house.hooks.until("restarted", "a", 2)
    assert ("failed", "a", 1, "SupervisorGaveUp") in house.hooks.told
    assert address.ask(Note(0), LONG) == Note(2)
    assert own.incarnation == 2
    assert child.incarnation == 7


# --- Death watch


def test_who_watches_is_told_once_when_the_actor_ends_and_not_when_it_restarts(house: House) -> None:
    log, watcher = Log(), Log()
    supervisor = house.supervisor()
    address = house.add(supervisor, "a", log)
    watching = house.add(supervisor, "w", watcher)
    supervisor.watch("a", watching, Note(7))
    address.tell(Fail("ValueError"))
    assert address.ask(Note(0), LONG) == Note(2)
    assert watching.ask(Note(0), LONG) == Note(1)
    assert watcher.seen == [(1, 0)]
    supervisor.terminate("a")
    house.hooks.until("ended", "a")
    house.threads[0].join(LONG)
    assert watching.ask(Note(1), LONG) == Note(1)
    assert watcher.seen == [(1, 0), (1, 7), (1, 1)]


def test_who_watches_one_that_has_ended_is_told_at_once(house: House) -> None:
    watcher = Log()
    supervisor = house.supervisor()
    watching = house.add(supervisor, "w", watcher)
    supervisor.watch("nobody", watching, Note(7))
    assert watching.ask(Note(1), LONG) == Note(1)
    assert watcher.seen == [(1, 7), (1, 1)]


def test_a_cancelled_watch_is_silent_even_when_its_notice_is_in_the_mailbox(house: House) -> None:
    watcher = Log()
    supervisor = house.supervisor()
    watching = house.add(supervisor, "w", watcher)
    watching.tell(Block())
    assert watcher.held.wait(LONG)
    watch = supervisor.watch("nobody", watching, Note(7))
    assert watch.active
    watch.cancel()
    watcher.gate.set()
    assert watching.ask(Note(1), LONG) == Note(1)
    assert watcher.seen == [(1, 1)]


def test_a_watcher_without_a_command_for_it_crashes(house: House) -> None:
    log, watcher = Log(), Log()
    supervisor = house.supervisor()
    house.add(supervisor, "a", log)
    watching = house.add(supervisor, "w", watcher)
    supervisor.watch("a", watching)
    supervisor.terminate("a")
    house.hooks.until("restarted", "w", 2)
    assert ("failed", "w", 1, "WatchedActorEnded") in house.hooks.told


def test_a_full_mailbox_does_not_refuse_a_notice(house: House) -> None:
    watcher = Log()
    supervisor = house.supervisor()
    watching = house.add(supervisor, "w", watcher, bound=1)
    watching.tell(Block())
    assert watcher.held.wait(LONG)
    watching.tell(Note(1))
    supervisor.watch("nobody", watching, Note(7))
    watcher.gate.set()
    supervisor.drain()
    assert supervisor.wait(LONG)
    assert watcher.seen == [(1, 1), (1, 7)]


def test_a_thousand_watchers_are_told(house: House) -> None:
    """200 ms are asked for; forty times that is a hang."""
    log, watcher = Log(), Log()
    supervisor = house.supervisor()
    house.add(supervisor, "a", log)
    watching = house.add(supervisor, "w", watcher)
    for number in range(1000):
        supervisor.watch("a", watching, Note(number))
    begin = monotonic()
    supervisor.terminate("a")
    house.threads[0].join(LONG)
    assert watching.ask(Note(-1), LONG) == Note(1)
    assert monotonic() - begin < 8.0
    assert [number for _, number in watcher.seen] == [*range(1000), -1]


def test_watchers_of_a_middle_are_told_when_it_is_given_up_for_good(house: House) -> None:
    watcher, log = Log(), Log()
    supervisor = house.supervisor(NEVER, outlives=True)
    watching = house.add(supervisor, "w", watcher)
    middle = supervisor.add_supervisor(
        SupervisorSpec(name="middle", children=(ChildSpec(name="a", make=log.make),), intensity=Intensity(0)),
        ready_within=LONG,
    )
    house.threads += [*(t for _, t in supervisor.threads()), *(t for _, t in middle.threads())]
    supervisor.watch("middle", watching, Note(1))
    middle.watch("a", watching, Note(2))
    supervisor.terminate("middle")
    house.hooks.until("ended", "middle")
    house.threads[2].join(LONG)
    assert watching.ask(Note(3), LONG) == Note(1)
    assert [number for _, number in watcher.seen] == [2, 1, 3]
