"""Whose turn it is to be prefetched: any sequence of calls against the plain way."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kithara_actors.logic.prefetching import Begun, PrefetchLine
from kithara_actors.messages.records import SourceSpec
from kithara_actors.values import StreamId

AT_ONCE, PER_ORIGIN = 3, 2


def spec(identity: str) -> SourceSpec:
    return SourceSpec(0, "", f"http://{identity[0]}/{identity}", identity[0], (), identity, "mp3", None, None, None)


class Line(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.line = PrefetchLine(AT_ONCE, PER_ORIGIN)
        self.waiting: dict[str, list[int]] = {}
        self.begun: dict[int, str] = {}
        self.handles = 0
        self.turns: list[str] = []

    def allowed(self, identity: str) -> bool:
        mine = sum(other[0] == identity[0] for other in self.begun.values())
        return len(self.begun) < AT_ONCE and mine < PER_ORIGIN

    @rule(identity=st.sampled_from(["a1", "a2", "a3", "a4", "b1", "b2", "c1"]))
    def join(self, identity: str) -> None:
        self.handles += 1
        self.waiting.setdefault(identity, []).append(self.handles)
        self.line.join(StreamId(self.handles), identity, spec(identity))

    @rule(handle=st.integers(1, 40))
    def leave(self, handle: int) -> None:
        where = next((identity for identity, mine in self.waiting.items() if handle in mine), None)
        assert self.line.leave(StreamId(handle)) == (where is not None)
        if where is not None:
            self.waiting[where].remove(handle)
            if not self.waiting[where]:
                del self.waiting[where]

    @rule(identity=st.sampled_from(["a1", "a2", "b1"]))
    def take(self, identity: str) -> None:
        assert list(self.line.take(identity)) == self.waiting.pop(identity, [])

    @rule()
    def begin(self) -> None:
        turn = self.line.next()
        if turn is None:
            assert not any(self.allowed(identity) for identity in self.waiting), "somebody may begin"
            return
        assert isinstance(turn, Begun)
        assert self.allowed(turn.identity)
        assert next(each for each in self.waiting if each[0] == turn.identity[0]) == turn.identity, "not the first"
        assert list(turn.handles) == self.waiting.pop(turn.identity)
        assert turn.spec == spec(turn.identity)
        assert turn.ticket not in self.begun
        self.begun[turn.ticket] = turn.identity

    @rule(choice=st.integers(0, 9))
    @precondition(lambda self: bool(self.begun))
    def over(self, choice: int) -> None:
        ticket = list(self.begun)[choice % len(self.begun)]
        del self.begun[ticket]
        self.line.over(ticket)
        self.line.over(ticket)

    @invariant()
    def counts_are_right(self) -> None:
        assert len(self.line) == sum(map(len, self.waiting.values()))
        assert self.line.begun == len(self.begun) <= AT_ONCE


TestLine = Line.TestCase


def test_origins_take_turns() -> None:
    line = PrefetchLine(100, 100)
    for handle, identity in enumerate(["a1", "a2", "a3", "b1", "c1", "c2"]):
        line.join(StreamId(handle), identity, spec(identity))
    order = []
    while (turn := line.next()) is not None:
        order.append(turn.identity)
    assert order == ["a1", "b1", "c1", "a2", "c2", "a3"]
