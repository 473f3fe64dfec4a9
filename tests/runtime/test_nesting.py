"""Supervisors as children of supervisors, and supervisors of many alike."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Iterator

import pykka
import pytest
from family_kit import CODEC, LONG, NEVER, SOON, Actor, Block, Fail, House, Log, Note, Tagged, housed

from actors.actor.behaviour import Behaviour
from actors.actor.children import ChildSpec, SupervisorSpec
from actors.actor.dynamic import DynamicSupervisor
from actors.actor.supervisor import Supervisor
from actors.clock import monotonic
from actors.logic.restarts import Intensity, RestartType, Strategy
from actors.messages.command import Command


@pytest.fixture
def house() -> Iterator[House]:
    yield from housed()


class Tree:
    """root: `before`, middle (`a`, `b`, and `late`, which was added), `after`; all note what they do in one list."""

    def __init__(self, house: House, strategy: Strategy = Strategy.ONE_FOR_ONE, **middle: object) -> None:
        self.order: list[str] = []
        self.logs = {name: Log() for name in ("before", "a", "b", "late", "after")}
        for name, log in self.logs.items():
            log.did = Tagged(self.order, name)
        self.root = house.supervisor(strategy=strategy)
        self.root.add(self.spec("before"), ready_within=LONG)
        self.middle = self.root.add_supervisor(
            SupervisorSpec(
                name="middle",
                children=(self.spec("a"), self.spec("b")),
                **{"backoff": SOON, "intensity": Intensity(0), **middle},  # type: ignore[arg-type]
            ),
            ready_within=LONG,
        )
        self.middle.add(self.spec("late"), ready_within=LONG)
        self.root.add(self.spec("after"), ready_within=LONG)
        house.threads += [*(thread for _, thread in self.root.threads()), *(t for _, t in self.middle.threads())]

    def spec(self, name: str) -> ChildSpec:
        return ChildSpec(name=name, make=self.logs[name].make)


def test_a_tree_starts_from_the_bottom_and_stops_in_reverse(house: House) -> None:
    tree = Tree(house)
    assert tree.order == [f"{name} start 1" for name in ("before", "a", "b", "late", "after")]
    tree.order.clear()
    assert tree.root.stop(LONG) == []
    assert tree.order == [f"{name} stop 1" for name in ("after", "late", "b", "a", "before")]


def test_a_middle_that_gives_up_is_a_crash_for_its_parent_told_once(house: House) -> None:
    """Static children come back, dynamic ones do not; those of the root are not touched."""
    tree = Tree(house)
    old = tree.middle.address("a")
    assert old is not None
    tree.order.clear()
    old.tell(Fail("ValueError"))
    house.hooks.until("restarted", "middle", 2)
    assert tree.middle.names() == ["a", "b"]
    assert tree.order == [
        *("a restart 1: ValueError", "late stop 1", "b stop 1"),
        *("a start 2", "b start 2"),
    ]
    new = tree.middle.address("a")
    assert new is not None
    assert new != old
    assert not old.alive
    assert new.ask(Note(0), LONG) == Note(2)
    told = [told for told in house.hooks.told if told[1:2] == ("middle",)]
    assert told[:4] == [
        ("gave up", "middle", "a"),
        ("drained", "middle", "a"),
        ("failed", "middle", 1, "SupervisorGaveUp"),
        ("restarting", "middle", 1, 1),
    ]
    assert ("failed", "middle/a", 1, "ValueError") in house.hooks.told
    (info,) = [info for info in tree.root.children() if info.name == "middle"]
    assert (info.supervisor, info.incarnation, info.error) == (
        True,
        2,
        "SupervisorGaveUp: middle gave up: a failed once too often",
    )
    house.threads += [thread for _, thread in tree.middle.threads()]


def test_the_strategy_of_the_parent_takes_a_middle_down_and_up(house: House) -> None:
    tree = Tree(house, Strategy.ONE_FOR_ALL)
    tree.order.clear()
    before = tree.root.address("before")
    assert before is not None
    before.tell(Fail("ValueError"))
    house.hooks.until("restarted", "after", 2)
    assert tree.order == [
        *("before restart 1: ValueError", "after restart 1: NoneType", "late stop 1", "b stop 1", "a stop 1"),
        *("before start 2", "a start 2", "b start 2", "after start 2"),
    ]
    house.threads += [thread for _, thread in tree.middle.threads()]


@pytest.mark.parametrize("restart", [RestartType.TEMPORARY, RestartType.PERMANENT])
def test_the_restart_type_of_a_middle_applies(house: House, restart: RestartType) -> None:
    tree = Tree(house, restart=restart)
    address = tree.middle.address("b")
    assert address is not None
    address.tell(Fail("ValueError"))
    if restart is RestartType.TEMPORARY:
        house.hooks.until("ended", "middle")
        assert tree.root.supervisor("middle") is None
    else:
        house.hooks.until("restarted", "middle", 2)
        assert tree.root.supervisor("middle") is tree.middle
        house.threads += [thread for _, thread in tree.middle.threads()]
    assert [tree.logs[name].incarnation for name in ("before", "after")] == [1, 1]


def test_a_middle_that_always_gives_up_ends_its_parent(house: House) -> None:
    log, bystander = Log(), Log()
    root = house.supervisor()
    house.add(root, "bystander", bystander)
    middle = root.add_supervisor(
        SupervisorSpec(name="middle", children=(ChildSpec(name="a", make=log.make),), intensity=Intensity(0)),
        ready_within=LONG,
    )
    house.threads += [thread for _, thread in root.threads()]
    log.failing_starts = 1000
    address = middle.address("a")
    assert address is not None
    address.tell(Fail("ValueError"))
    house.hooks.until("drained", "family", "middle")
    assert log.incarnation == 1 + 5
    assert bystander.did == ["start 1", "stop 1"]
    assert house.hooks.told.count(("gave up", "family", "middle")) == 1


def test_a_first_start_that_fails_below_is_raised_and_leaves_nothing(house: House) -> None:
    good = Log()

    def bad() -> Behaviour:
        raise ValueError("told so")

    root = house.supervisor()
    spec = SupervisorSpec(
        name="middle", children=(ChildSpec(name="good", make=good.make), ChildSpec(name="bad", make=bad))
    )
    with pytest.raises(ValueError, match="told so"):
        root.add_supervisor(spec, ready_within=LONG)
    house.hooks.until("ended", "middle")
    assert good.did == ["start 1", "stop 1"]
    assert root.names() == []


def test_a_middle_gets_the_time_of_its_subtree_and_no_more(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """A child below that hangs is left behind by its own supervisor; the middle is not."""
    log, other = Log(), Log()
    root = house.supervisor()
    other_spec = ChildSpec(name="other", make=other.make, shutdown=1.0)
    hangs = ChildSpec(name="hangs", make=log.make, shutdown=0.05)
    middle = root.add_supervisor(SupervisorSpec(name="middle", children=(other_spec, hangs)), ready_within=LONG)
    house.threads += [*(t for _, t in root.threads()), *(t for _, t in middle.threads())]
    assert middle.shutdown == pytest.approx(1.05)
    address = middle.address("hangs")
    assert address is not None
    address.tell(Block())
    assert log.held.wait(LONG)
    with caplog.at_level(logging.ERROR):
        assert root.stop(LONG) == ["middle/hangs"]
    assert other.did == ["start 1", "stop 1"]
    assert ("ended", "middle") in house.hooks.told
    assert "middle/hangs did not end within its 0.05 s" in caplog.text
    log.gate.set()


def test_the_time_of_a_middle_can_be_set(house: House) -> None:
    log = Log()
    root = house.supervisor()
    spec = SupervisorSpec(name="middle", children=(ChildSpec(name="hangs", make=log.make),), shutdown=0.05)
    middle = root.add_supervisor(spec, ready_within=LONG)
    house.threads += [*(t for _, t in root.threads()), *(t for _, t in middle.threads())]
    address = middle.address("hangs")
    assert address is not None
    address.tell(Block())
    assert log.held.wait(LONG)
    root.drain()
    assert root.wait(LONG)
    # Only what hangs is left behind: the middle waited for it, and ends when that is given up.
    assert ("ended", "middle", "hung") in house.hooks.told
    assert ("ended", "middle/hangs", "hung") in house.hooks.told
    assert "middle/hangs" in [path for path, _ in root.left_behind()]
    log.gate.set()


def test_a_stop_reaches_a_middle_that_is_starting(house: House) -> None:
    first, slow, never = Log(), Log(), Log()
    held, gate = threading.Event(), threading.Event()

    def make() -> Behaviour:
        held.set()
        assert gate.wait(LONG)
        return slow.make()

    root = house.supervisor()
    spec = SupervisorSpec(
        name="middle",
        children=(
            ChildSpec(name="first", make=first.make),
            ChildSpec(name="slow", make=make),
            ChildSpec(name="never", make=never.make),
        ),
    )
    root.add_supervisor(spec)
    assert held.wait(LONG)
    house.threads += [thread for _, thread in root.threads()]
    root.drain()
    gate.set()
    assert root.wait(LONG)
    assert first.did == ["start 1", "stop 1"]
    assert slow.did in ([], ["start 1", "stop 1"])
    assert never.did == []
    assert not any(told[0] == "failed" for told in house.hooks.told)


def test_who_asks_while_a_middle_backs_off_is_told_that_the_actor_is_gone(house: House) -> None:
    log = Log()
    root = house.supervisor(NEVER)
    spec = SupervisorSpec(name="middle", children=(ChildSpec(name="a", make=log.make),), intensity=Intensity(0))
    middle = root.add_supervisor(spec, ready_within=LONG)
    address = middle.address("a")
    assert address is not None
    house.threads += [*(t for _, t in root.threads()), *(t for _, t in middle.threads())]
    address.tell(Fail("ValueError"))
    house.hooks.until("restarting", "middle", 1, 1)
    with pytest.raises(pykka.ActorDeadError):
        address.ask(Note(0), LONG)
    assert middle.address("a") is None
    assert root.terminate("middle")
    assert not log.failing_starts


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"name": ""}, ValueError),
        ({"children": [1]}, TypeError),
        ({"children": (1,)}, TypeError),
        ({"children": (SupervisorSpec(name="x"), SupervisorSpec(name="x"))}, ValueError),
        ({"template": 7}, TypeError),
        ({"template": Actor, "children": (SupervisorSpec(name="x"),)}, ValueError),
        ({"template": Actor, "strategy": Strategy.ONE_FOR_ALL}, ValueError),
        ({"strategy": "one_for_one"}, None),
        ({"strategy": None}, TypeError),
        ({"intensity": 5}, TypeError),
        ({"backoff": 5}, TypeError),
        ({"restart": "permanent"}, None),
        ({"restart": 1}, TypeError),
        ({"shutdown": "5"}, TypeError),
        ({"start_within": -1.0}, ValueError),
    ],
)
def test_a_wrong_specification_of_a_supervisor_names_its_field(
    wrong: dict[str, object], error: type[Exception] | None
) -> None:
    with pytest.raises(error or TypeError, match=rf"^{next(iter(wrong))} must "):
        SupervisorSpec(**{"name": "a", **wrong})  # type: ignore[arg-type]


# --- Many alike


class Sized(Behaviour):
    """Made with arguments."""

    made = 0

    def __init__(self, size: int, *, word: str = "") -> None:
        self.size = size
        self.word = word

    def handle(self, command: Command) -> Command | None:
        match command:
            case Note():
                return Note(self.size)
            case Fail():
                raise ValueError(self.word)
        return None


def test_children_of_a_template_have_arguments_of_their_own(house: House) -> None:
    many = DynamicSupervisor("many", CODEC, house.timers, template=Sized, backoff=SOON, hooks=house.hooks)
    house.made.append(many)
    addresses = [many.start_child(f"{size}", size, word="x") for size in range(3)]
    assert [address.ask(Note(0), LONG) for address in addresses] == [Note(0), Note(1), Note(2)]
    addresses[2].tell(Fail(""))
    assert addresses[2].ask(Note(0), LONG) == Note(2)
    with pytest.raises(ValueError, match="'1' exists already"):
        many.start_child("1", 7)
    assert many.terminate("1", drain=True)
    house.hooks.until("ended", "1")
    house.threads += [thread for _, thread in many.threads()]
    assert many.names() == ["0", "2"]


def test_a_template_can_be_of_a_middle(house: House) -> None:
    root = house.supervisor()
    many = root.add_supervisor(SupervisorSpec(name="many", template=Sized), ready_within=LONG)
    assert isinstance(many, DynamicSupervisor)
    address = many.start_child("seven", 7, ready_within=LONG)
    assert address.ask(Note(0), LONG) == Note(7)
    house.threads += [*(t for _, t in root.threads()), *(t for _, t in many.threads())]


def test_a_thousand_children_start_and_stop(house: House) -> None:
    many = DynamicSupervisor("many", CODEC, house.timers, template=Sized, hooks=house.hooks)
    addresses = [many.start_child(f"{size}", size) for size in range(1000)]
    assert addresses[-1].ask(Note(0), LONG) == Note(999)
    assert len(many.names()) == 1000
    assert many.stop(LONG) == []
    assert many.names() == []
    assert len([told for told in house.hooks.told if told[0] == "ended"]) == 1000


def test_a_stop_takes_as_long_as_the_slowest_child_not_as_all(house: House) -> None:
    """A hundred that take 0.2 s each: 20 s one after the other; 1 s is asked for, times 4 on a loaded machine."""

    class Slow(Sized):
        def on_stop(self) -> None:
            threading.Event().wait(0.2)

    many = DynamicSupervisor("many", CODEC, house.timers, template=Slow, hooks=house.hooks)
    for size in range(100):
        many.start_child(f"{size}", size)
    begin = monotonic()
    assert many.stop(LONG) == []
    assert monotonic() - begin < 4.0


@pytest.mark.parametrize("end", ["terminated", "crashed", "stopped by itself"])
def test_what_a_child_was_made_with_is_not_kept_when_it_has_ended(house: House, end: str) -> None:
    """Not by the supervisor, a timer, its address or its log."""

    class Big:
        pass

    class Holds(Behaviour):
        def __init__(self, big: Big) -> None:
            self.big = big

        def handle(self, command: Command) -> None:
            assert isinstance(command, Fail)
            raise ValueError if command.what == "crash" else SystemExit

    many = DynamicSupervisor(
        "many", CODEC, house.timers, template=Holds, restart=RestartType.TEMPORARY, hooks=house.hooks
    )
    house.made.append(many)
    big = Big()
    kept = weakref.ref(big)
    address = many.start_child("a", big, ready_within=LONG)
    house.threads += [thread for _, thread in many.threads()]
    del big
    if end == "terminated":
        many.terminate("a")
    else:
        address.tell(Fail("crash" if end == "crashed" else ""))
    house.hooks.until("ended", "a")
    house.threads[-1].join(LONG)
    gc.collect()
    assert kept() is None
    assert not address.tell(Note(0))


def test_the_names_of_supervisors_are_those_of_children(house: House) -> None:
    root = house.supervisor()
    root.add_supervisor(SupervisorSpec(name="middle"), ready_within=LONG)
    house.threads += [thread for _, thread in root.threads()]
    with pytest.raises(ValueError, match="'middle' exists already"):
        root.add(ChildSpec(name="middle", make=Log().make))
    assert root.address("middle") is None
    assert isinstance(root.supervisor("middle"), Supervisor)
    assert root.supervisor("nobody") is None
