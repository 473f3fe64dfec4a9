"""What a supervisor decides, step by step and under any sequence of failures."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from actors.logic.restarts import Backoff, Exit, Intensity, RestartType, Strategy
from actors.logic.supervision import (
    Action,
    Added,
    ChildState,
    Delay,
    Drain,
    Drained,
    Due,
    End,
    Event,
    Exited,
    GaveUp,
    Gone,
    Halt,
    Halted,
    Start,
    Started,
    StartFailed,
    Supervision,
    Terminate,
)

ALL = Strategy.ONE_FOR_ALL
REST = Strategy.REST_FOR_ONE
ONE = Strategy.ONE_FOR_ONE


class World:
    """Children that do at once what they are told, unless the test says otherwise."""

    def __init__(self, strategy: Strategy = ONE, names: str = "abc", **how: object) -> None:
        self.supervision = Supervision(strategy, **how)  # type: ignore[arg-type]
        self.now = 0.0
        self.log: list[str] = []
        self.obeys = True
        self.failing: dict[str, int] = {}
        self.ended: Drained | None = None
        self.delays: list[Delay] = []
        for name in names:
            self.do(Added(name))

    def do(self, event: Event) -> None:
        waiting: list[Action] = self.supervision.handle(event, self.now, 1.0)
        while waiting:
            action = waiting.pop(0)
            waiting += self.carry_out(action)

    def tell(self, event: Event) -> list[Action]:
        return self.supervision.handle(event, self.now, 1.0)

    def carry_out(self, action: Action) -> Iterable[Action]:
        match action:
            case Start(child, incarnation):
                self.log.append(f"+{child}{incarnation}")
                if self.failing.get(child, 0):
                    self.failing[child] -= 1
                    return self.tell(StartFailed(child, incarnation))
                return self.tell(Started(child, incarnation))
            case Halt(child, incarnation):
                self.log.append(f"-{child}{incarnation}")
                return self.tell(Halted(child, incarnation))
            case End(child):
                self.log.append(f"x{child}")
                return self.tell(Gone(child))
            case Delay():
                self.delays.append(action)
                if not self.obeys:
                    return []
                self.now += action.seconds
                return self.tell(Due(action.token))
            case GaveUp(child):
                self.log.append(f"!{child}")
            case Drained():
                assert self.ended is None
                self.ended = action
        return []

    def crash(self, child: str, how: Exit = Exit.CRASH) -> list[str]:
        self.log.clear()
        self.do(Exited(child, self.supervision.incarnation(child), how))
        return self.log

    def incarnations(self) -> list[int]:
        return [self.supervision.incarnation(name) for name in self.supervision.names()]


def test_children_start_in_their_order_and_stop_in_reverse() -> None:
    world = World()
    assert world.log == ["+a1", "+b1", "+c1"]
    world.log.clear()
    world.do(Drain())
    assert world.log == ["xc", "xb", "xa"]
    assert world.ended == Drained(None)


def test_one_for_one_touches_nobody_else() -> None:
    world = World()
    assert world.crash("b") == ["+b2"]
    assert world.incarnations() == [1, 2, 1]


def test_one_for_all_stops_in_reverse_starts_in_order_and_counts_once() -> None:
    world = World(ALL)
    assert world.crash("b") == ["-c1", "-a1", "+a2", "+b2", "+c2"]
    assert world.supervision.restarts(world.now) == 1


def test_rest_for_one_leaves_the_earlier_alone() -> None:
    world = World(REST, "abcd")
    assert world.crash("b") == ["-d1", "-c1", "+b2", "+c2", "+d2"]


def test_one_that_was_starting_when_a_sibling_failed_goes_down_with_it() -> None:
    supervision = Supervision(ALL)
    for name in "ab":
        supervision.handle(Added(name), 0.0, 1.0)
    supervision.handle(Started("a", 1), 0.0, 1.0)
    assert supervision.handle(Exited("a", 1, Exit.CRASH), 0.0, 1.0) == []
    assert supervision.handle(Due(0), 0.0, 1.0) == []  # no delay has begun that could be over
    assert supervision.handle(Started("b", 1), 0.0, 1.0) == [Halt("b", 1)]
    (delay,) = supervision.handle(Halted("b", 1), 0.0, 1.0)
    assert isinstance(delay, Delay)
    assert supervision.handle(Due(delay.token), 0.0, 1.0) == [Start("a", 2)]
    assert supervision.handle(Started("a", 2), 0.0, 1.0) == [Start("b", 2)]


def test_one_that_is_added_while_a_sibling_is_down_is_started_in_its_turn() -> None:
    world = World(ALL, "ab")
    world.obeys = False
    assert world.crash("a") == ["-b1"]
    world.do(Added("c"))
    assert world.log == ["-b1"]
    world.do(Due(world.delays[-1].token))
    assert world.log == ["-b1", "+a2", "+b2", "+c1"]


def test_a_failed_start_under_rest_for_one_keeps_those_before_it() -> None:
    world = World(REST, "abcd")
    world.failing["c"] = 1
    assert world.crash("b") == ["-d1", "-c1", "+b2", "+c2", "+c3", "+d2"]


def test_a_failed_start_under_one_for_all_takes_down_those_that_were_started_again() -> None:
    world = World(ALL)
    world.failing["b"] = 1
    assert world.crash("c") == ["-b1", "-a1", "+a2", "+b2", "-a2", "+a3", "+b3", "+c2"]
    assert world.supervision.restarts(world.now) == 2


def test_a_temporary_bystander_is_stopped_and_not_brought_back() -> None:
    world = World(ALL, "")
    for name, restart in (("a", RestartType.PERMANENT), ("t", RestartType.TEMPORARY), ("c", RestartType.PERMANENT)):
        world.do(Added(name, restart))
    assert world.crash("a") == ["-c1", "xt", "+a2", "+c2"]
    assert world.supervision.restarts(world.now) == 1
    assert world.supervision.state("t") is None


@pytest.mark.parametrize("restart", RestartType)
@pytest.mark.parametrize("how", Exit)
def test_who_does_not_come_back_is_ended(restart: RestartType, how: Exit) -> None:
    world = World(names="")
    world.do(Added("a", restart))
    log = world.crash("a", how)
    again = how is not Exit.HOST_STOP and (
        restart is RestartType.PERMANENT or (restart is RestartType.TRANSIENT and how.failed)
    )
    assert log == (["+a2"] if again else ["xa"])
    assert (world.ended is not None) is (how is Exit.HOST_STOP)


def test_five_restarts_pass_and_the_sixth_failure_ends_all() -> None:
    world = World()
    for number in range(2, 7):
        assert world.crash("b") == [f"+b{number}"]
    assert world.crash("b") == ["!b", "xc", "xb", "xa"]
    assert world.ended == Drained("b")


def test_failed_starts_count_as_restarts() -> None:
    world = World()
    world.failing["b"] = 4
    assert world.crash("b") == ["+b2", "+b3", "+b4", "+b5", "+b6"]
    assert world.supervision.restarts(world.now) == 5
    world = World()
    world.failing["b"] = 5
    assert world.crash("b")[-4:] == ["!b", "xc", "xb", "xa"]
    assert world.ended == Drained("b")


def test_delays_grow_while_nothing_stays_up_and_begin_anew_after_health() -> None:
    world = World(intensity=Intensity(100, 1.0), backoff=Backoff(healthy=10.0))
    for _ in range(3):
        world.crash("b")
    assert [delay.seconds for delay in world.delays] == [0.1, 0.2, 0.4]
    world.now += 10.0
    world.crash("b")
    assert world.delays[-1] == Delay(world.delays[-1].token, 0.1, "b", 1)


def test_a_want_of_resources_waits_longer() -> None:
    world = World()
    world.do(Exited("a", 1, Exit.CRASH, resource=True))
    assert world.delays[-1].seconds == 1.0


def test_while_it_backs_off_it_can_be_terminated_and_the_delay_is_forgotten() -> None:
    world = World()
    world.obeys = False
    assert world.crash("b") == []
    assert world.supervision.state("b") is ChildState.RESTARTING
    world.do(Terminate("b"))
    assert world.log == ["xb"]
    world.do(Due(world.delays[-1].token))
    assert world.log == ["xb"]
    assert world.supervision.names() == ["a", "c"]


def test_a_crash_while_others_back_off_widens_the_round() -> None:
    world = World(REST, "abcd")
    world.obeys = False
    assert world.crash("c") == ["-d1"]
    assert world.crash("b") == []
    first, second = world.delays
    world.do(Due(first.token))
    assert world.log == []
    world.do(Due(second.token))
    assert world.log == ["+b2", "+c2", "+d2"]


def test_the_host_stops_one_and_nothing_is_started_any_more() -> None:
    world = World()
    assert world.crash("b", Exit.HOST_STOP) == ["xb", "xc", "xa"]
    with pytest.raises(RuntimeError, match="stopping"):
        world.do(Added("d"))


def test_who_cannot_be_halted_ends_the_supervisor() -> None:
    supervision = Supervision(ALL)
    for name in "ab":
        supervision.handle(Added(name), 0.0, 1.0)
        supervision.handle(Started(name, 1), 0.0, 1.0)
    assert supervision.handle(Exited("a", 1, Exit.CRASH), 0.0, 1.0) == [Halt("b", 1)]
    assert supervision.handle(Gone("b", hung=True), 5.0, 1.0) == [GaveUp("b"), End("a")]
    assert supervision.handle(Gone("a"), 5.0, 1.0) == [Drained("b")]


def test_of_many_alike_one_ends_alone_and_all_are_stopped_at_once() -> None:
    world = World(names="abc", each=True)
    for _ in range(5):
        world.crash("b")
    log = world.crash("b")
    assert log == ["xb"]
    assert world.ended is None
    assert world.supervision.handle(Drain(), 0.0, 1.0) == [End("c", drain=True), End("a", drain=True)]


def test_the_first_start_that_fails_ends_the_child_alone() -> None:
    world = World()
    world.failing["d"] = 1
    world.log.clear()
    world.do(Added("d"))
    assert world.log == ["+d1", "xd"]
    assert world.supervision.names() == ["a", "b", "c"]


def test_names_are_unique_and_many_alike_have_one_strategy() -> None:
    world = World()
    with pytest.raises(ValueError, match="'a' exists already"):
        world.do(Added("a"))
    with pytest.raises(ValueError, match="one_for_one"):
        Supervision(ALL, each=True)
