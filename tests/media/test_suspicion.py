"""The poison rule: who ends workers is found out and refused, whatever runs beside it; nobody else ever is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from test_fetch_book import SPEC

from kithara_actors.logic.fetch import Action, End, Ended, FetchBook, Lost, Run, Start
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.logic.suspicion import CLEARED_BY, Blame, Suspicion, blames
from kithara_actors.values import RequestId

STEPS = st.sampled_from([0, 1, CLEARED_BY // 2, CLEARED_BY - 1, CLEARED_BY])


class Rule(RuleBasedStateMachine):
    """Losses and bytes in any order, against the list of what has happened."""

    @initialize(start=st.integers(0, 10_000))
    def begin(self, start: int) -> None:
        self.suspicion = Suspicion(start)
        self.at = start
        self.held: list[Blame] = []
        """What is held against the request, by the words of the rule."""
        self.marked_at = start

    def forget_if_clear(self) -> None:
        if self.at - self.marked_at >= CLEARED_BY:
            self.held = []
            self.marked_at = self.at

    @rule(by=STEPS)
    def landed(self, by: int) -> None:
        self.at += by
        self.suspicion.landed(self.at)
        self.forget_if_clear()

    @rule()
    def reported(self) -> None:
        self.suspicion.reported()
        self.held = [blame for blame in self.held if blame is not Blame.NONE]

    @precondition(lambda self: self.suspicion.verdict is None)
    @rule(by=STEPS, blame=st.sampled_from(Blame))
    def lost(self, by: int, blame: Blame) -> None:
        self.at += by
        self.suspicion.lost(blame, self.at)
        self.forget_if_clear()
        self.held.append(blame)
        if blame is not Blame.NONE:
            self.marked_at = self.at

    @invariant()
    def it_is_as_the_rule_says(self) -> None:
        if not hasattr(self, "held"):
            return
        alone, shared = self.held.count(Blame.ALONE), self.held.count(Blame.SHARED)
        assert self.suspicion.suspect == (alone > 0 or shared > 1)
        verdict = self.suspicion.verdict
        kind = None if verdict is None else verdict.kind
        assert kind == ("PoisonRequest" if alone == 2 else "InternalError" if len(self.held) >= 10 else None)
        assert self.suspicion.losses == len(self.held)
        # Losses in company alone never make anybody a poison.
        assert kind != "PoisonRequest" or alone == 2


TestRule = Rule.TestCase
TestRule.settings = settings(max_examples=100, stateful_step_count=40)


@given(taken=st.lists(st.booleans()), together=st.booleans(), meant=st.booleans())
def test_blame_is_of_who_was_alone_when_one_worker_died_by_itself(
    taken: list[bool], together: bool, meant: bool
) -> None:
    held = blames(taken, together=together, meant=meant)
    for here, blame in zip(taken, held, strict=True):
        assert (blame is Blame.ALONE) == (here and taken.count(True) == 1 and not together and not meant)
        assert (blame is Blame.NONE) == (meant or not here)


# --- Many requests, workers that die of some of them


@dataclass
class World:
    """Requests in workers, as the Downloader would place them: suspects one at a time in a worker of their own."""

    poisons: frozenset[int]
    workers: int
    book: FetchBook = field(default_factory=lambda: FetchBook(RetryPolicy()))
    where: dict[int, tuple[int, Run]] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    waiting: list[Run] = field(default_factory=list)
    ends: dict[int, End] = field(default_factory=dict)
    losses: Counter[int] = field(default_factory=Counter)
    lost: list[set[int]] = field(default_factory=list)
    """Who had begun in each worker that died."""

    def do(self, actions: list[Action], pick: int) -> None:
        for action in actions:
            if isinstance(action, Run):
                self.waiting.append(action)
            elif isinstance(action, End):
                assert action.spec.request not in self.ends
                self.ends[action.spec.request] = action
        self.place(pick)

    def place(self, pick: int) -> None:
        waiting, self.waiting = self.waiting, []
        for run in waiting:
            own = -1
            if not run.alone:
                self.where[run.spec.request] = (pick % self.workers, run)
            elif all(worker != own for worker, _ in self.where.values()):
                self.where[run.spec.request] = (own, run)
            else:
                self.waiting.append(run)

    def begin(self, request: int, pick: int) -> None:
        worker, _ = self.where[request]
        self.begun.add(request)
        if request in self.poisons:
            self.die([worker], pick)

    def die(self, workers: list[int], pick: int) -> None:
        follows: list[Action] = []
        for worker in workers:
            mine = [(request, run) for request, (at, run) in self.where.items() if at == worker]
            self.lost.append({request for request, _ in mine} & self.begun)
            held = blames([request in self.begun for request, _ in mine], together=len(workers) > 1)
            for (request, run), blame in zip(mine, held, strict=True):
                del self.where[request]
                self.begun.discard(request)
                self.losses[request] += 1
                follows += self.book.handle(Lost(run.spec.request, run.attempt, run.start, blame), 0.5)
        # Only now: nothing is placed in a worker that dies at the same moment.
        self.do(follows, pick)

    def finish(self, request: int, pick: int) -> None:
        _, run = self.where.pop(request)
        self.begun.discard(request)
        self.do(self.book.handle(Ended(run.spec.request, run.attempt, run.start + 10, complete=True), 0.5), pick)


@given(st.data(), st.integers(1, 8), st.integers(0, 3), st.integers(1, 3), st.integers(0, 2))
@settings(max_examples=150)
def test_whoever_ends_workers_is_refused_and_all_others_arrive(
    data: st.DataObject, innocents: int, guilty: int, workers: int, accidents: int
) -> None:
    """An accident hits all workers at once, as where the host kills them, or runs out of memory."""
    requests = data.draw(st.permutations(range(1, innocents + guilty + 1)))
    world = World(frozenset(requests[:guilty]), workers)
    for request in sorted(requests):
        pick = data.draw(st.integers(0, 5))
        world.do(world.book.handle(Start(replace(SPEC, request=RequestId(request))), 0.5), pick)
    while world.where:
        pick = data.draw(st.integers(0, 5))
        step = data.draw(st.sampled_from(["begin", "begin", "finish", "accident"]))
        if step == "accident" and accidents:
            accidents -= 1
            world.die([-1, *range(workers)], pick)
        fresh = sorted(set(world.where) - world.begun)
        ripe = sorted(world.begun & set(world.where))
        if step == "finish" and ripe:
            world.finish(data.draw(st.sampled_from(ripe)), pick)
        elif fresh:
            world.begin(data.draw(st.sampled_from(fresh)), pick)
        elif ripe:
            world.finish(data.draw(st.sampled_from(ripe)), pick)
    assert world.waiting == []
    assert set(world.ends) == set(requests)
    for request, end in world.ends.items():
        kind = None if end.failure is None else end.failure.kind
        if request not in world.poisons:
            assert kind is None
        elif kind == "PoisonRequest":
            # Two that it was alone in; and of those that it shared, what others and accidents added.
            assert world.lost.count({request}) == 2
        else:
            # Or ten of any kind, where others and accidents ended as many workers under it.
            assert kind == "InternalError"
            assert world.losses[request] >= 10
