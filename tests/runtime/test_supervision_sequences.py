"""What a supervisor decides, under any sequence of failures."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.logic.restarts import Exit, Intensity, RestartType, Strategy
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
    HostStops,
    Start,
    Started,
    StartFailed,
    Supervision,
    Terminate,
)

ONE = Strategy.ONE_FOR_ONE


class AnySequence(RuleBasedStateMachine):
    """Children that answer late, or never, or fail at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.todo: list[Action] = []
        self.up: dict[str, int] = {}
        self.known: list[str] = []
        self.drained = 0
        self.draining = False

    @initialize(
        strategy=st.sampled_from(Strategy), each=st.booleans(), restarts=st.integers(0, 6), outlives=st.booleans()
    )
    def begin(self, strategy: Strategy, each: bool, restarts: int, outlives: bool) -> None:
        self.outlives = outlives
        self.each = each and strategy is ONE
        self.strategy = strategy
        self.supervision = Supervision(strategy, Intensity(restarts, 30.0), each=self.each, outlives=outlives)

    def do(self, event: Event) -> None:
        before = self.supervision.draining
        for action in self.supervision.handle(event, self.now, 0.5):
            assert not (before and isinstance(action, Start | Halt | Delay)), f"{action} while it drains"
            if isinstance(action, Start):
                assert action.child not in self.up
                if action.incarnation > 1 and self.strategy is not ONE:
                    # Only when all that are to be started are down, and in their order.
                    names = self.supervision.names()
                    later = names[names.index(action.child) + 1 :]
                    assert not any(name in self.up for name in later)
            if isinstance(action, GaveUp):
                # Once, and before anybody has been ended for it.
                assert self.supervision.draining
                assert not before
                continue
            if isinstance(action, Drained):
                self.drained += 1
                assert not self.supervision.names()
            else:
                self.todo.append(action)

    @rule(restart=st.sampled_from(RestartType))
    def add(self, restart: RestartType) -> None:
        if not self.supervision.draining and len(self.known) < 8:
            self.known.append(f"{len(self.known)}")
            self.do(Added(self.known[-1], restart))

    @precondition(lambda self: self.todo)
    @rule(data=st.data(), fails=st.booleans(), hung=st.integers(0, 9))
    def carry_out(self, data: st.DataObject, fails: bool, hung: int) -> None:
        action = self.todo.pop(data.draw(st.integers(0, len(self.todo) - 1)))
        match action:
            case Start(child, incarnation):
                if fails:
                    self.do(StartFailed(child, incarnation))
                else:
                    self.up[child] = incarnation
                    self.do(Started(child, incarnation))
            case Halt(child, incarnation):
                self.up.pop(child, None)
                self.do(Halted(child, incarnation) if hung else Gone(child, hung=True))
            case End(child):
                self.up.pop(child, None)
                self.do(Gone(child))
            case Delay(token, seconds):
                self.now += seconds
                self.do(Due(token))

    @precondition(lambda self: self.up)
    @rule(data=st.data(), how=st.sampled_from(Exit))
    def exit(self, data: st.DataObject, how: Exit) -> None:
        child = data.draw(st.sampled_from(sorted(self.up)))
        self.do(Exited(child, self.up.pop(child), how))

    @rule(data=st.data())
    def late(self, data: st.DataObject) -> None:
        """What is of another time or of nobody changes nothing."""
        child = data.draw(st.sampled_from([*self.known, "nobody"]))
        before = [(name, self.supervision.state(name)) for name in self.supervision.names()]
        for event in (
            Started(child, 0),
            StartFailed(child, 99),
            Exited(child, 99, Exit.CRASH),
            Halted(child, 0),
            Due(0),
        ):
            assert self.supervision.handle(event, self.now, 0.5) == []
        assert [(name, self.supervision.state(name)) for name in self.supervision.names()] == before

    @rule(data=st.data(), drain=st.booleans())
    def terminate(self, data: st.DataObject, drain: bool) -> None:
        self.do(Terminate(data.draw(st.sampled_from([*self.known, "nobody"])), drain))

    @rule(hurry=st.booleans())
    def drain(self, hurry: bool) -> None:
        self.do(Drain(hurry))

    @rule(data=st.data())
    def host_stops(self, data: st.DataObject) -> None:
        child = data.draw(st.sampled_from([*self.known, "nobody"]))
        there = child in self.supervision.names()
        self.do(HostStops(child))
        assert self.supervision.draining or not there or self.outlives

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def teardown(self) -> None:
        """Once nothing fails any more, all that are left come up; or all end."""
        for _ in range(1000):
            if not self.todo:
                break
            action = self.todo.pop(0)
            match action:
                case Start(child, incarnation):
                    self.up[child] = incarnation
                    self.do(Started(child, incarnation))
                case Halt(child, incarnation):
                    self.up.pop(child, None)
                    self.do(Halted(child, incarnation))
                case End(child):
                    self.up.pop(child, None)
                    self.do(Gone(child))
                case Delay(token):
                    self.do(Due(token))
        if hasattr(self, "supervision"):
            assert not self.todo
            assert all(self.supervision.state(name) is ChildState.UP for name in self.supervision.names())
            assert not (self.supervision.draining and self.supervision.names())

    @invariant()
    def nothing_is_forgotten(self) -> None:
        """While a child is down and is to come back, something is on its way that will bring it."""
        if not hasattr(self, "supervision"):
            return
        waiting = [name for name in self.supervision.names() if self.supervision.state(name) is not ChildState.UP]
        assert bool(self.todo) or not waiting, f"{waiting} wait for nothing"
        assert self.drained == (self.supervision.draining and not self.supervision.names())


AnySequence.TestCase.settings = settings(max_examples=300, stateful_step_count=60)
TestAnySequence = AnySequence.TestCase
