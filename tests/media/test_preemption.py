"""Whose slot goes to whom, and when: promises that hold whatever comes in whatever order."""

from __future__ import annotations

from collections import Counter

from actor_kit import call_spec, request_spec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from slot_kit import Desk

from kithara_actors.logic import slots_steps as steps
from kithara_actors.logic.slots import SlotMap
from kithara_actors.messages.records import FetchSpec, InHand, Standing
from kithara_actors.values import CancelReason, FetchKind, Priority, RequestId

ALL, PER_HOST, SHARE, AFTER = 4, 3, 1, 2.0
ORIGINS = ["http://one", "http://two"]
DEMAND, AHEAD, FILL, PREFETCH = FetchKind.DEMAND, FetchKind.READ_AHEAD, FetchKind.FILL, FetchKind.PREFETCH


class Preemption(RuleBasedStateMachine):
    """What is known here comes from the map's actions alone, as for those that carry them out."""

    def __init__(self) -> None:
        super().__init__()
        self.map = SlotMap(ALL, PER_HOST, SHARE, AFTER)
        self.now = 0.0
        self.ids = 0
        self.specs: dict[int, FetchSpec] = {}
        self.places: dict[int, int] = {}
        """By request, the higher the later it came to the end of the line in which it is."""
        self.running: set[int] = set()
        self.parked: set[int] = set()
        self.started: set[int] = set()
        self.ended: Counter[int] = Counter()
        self.waited: set[int] = set()
        self.cutting: dict[int, float] = {}
        """When each was chosen to be cut."""
        self.look: float | None = None
        self.last: dict[tuple[object, ...], int] = {}

    # --- Carrying out

    def do(self, event: steps.Event) -> list[steps.Action]:
        actions = self.map.handle(event, self.now)
        for action in actions:
            match action:
                case steps.Admit(spec, queued, again):
                    assert spec.request in self.queued
                    assert again == (spec.request in self.started)
                    assert queued >= 0.0
                    self.in_order(spec)
                    self.running.add(spec.request)
                    self.started.add(spec.request)
                case steps.Dismiss(spec):
                    assert spec.request not in self.started
                    self.end(spec.request)
                case steps.Preempt(request):
                    assert isinstance(event, steps.Review)
                    assert request in {lead.request for lead in event.leads} & self.running
                    # What was to be cut and runs on may be chosen again, after a second.
                    assert self.now - self.cutting.get(request, -1.0) >= 1.0
                    assert self.specs[request].collection is None
                    self.cutting[request] = self.now
                case steps.LookAfter(delay):
                    assert 0.0 <= delay <= 0.501
                    self.look = self.now + delay
                case steps.PassCancel() | steps.Moved():
                    pass
        return actions

    def in_order(self, spec: FetchSpec) -> None:
        """First in, first out, for what never ran: of a peer's requests of one kind and host, nobody waiting."""
        if spec.request in self.waited or spec.collection is not None or spec.request in self.started:
            return
        line = (spec.peer, spec.kind, spec.origin)
        before = [
            other
            for other in self.queued - self.started
            if self.places[other] < self.places[spec.request]
            and (self.specs[other].peer, self.specs[other].kind, self.specs[other].origin) == line
        ]
        assert not before

    def end(self, request: int) -> None:
        self.ended[request] += 1
        del self.specs[request]
        self.running.discard(request)
        self.parked.discard(request)
        self.cutting.pop(request, None)

    @property
    def queued(self) -> set[int]:
        return set(self.specs) - self.running - self.parked

    def allowed(self, request: int, without: int | None = None) -> bool:
        spec = self.specs[request]
        others = [self.specs[other] for other in self.running - {without}]
        here = [other for other in others if other.origin == spec.origin]
        share = sum(other.kind.in_background for other in here)
        free = len(others) < ALL and len(here) < PER_HOST
        return free and (not spec.kind.in_background or share < SHARE)

    def draw(self, data: st.DataObject, among: set[int]) -> RequestId:
        return RequestId(data.draw(st.sampled_from(sorted(among))))

    # --- What happens

    @rule(peer=st.sampled_from("abc"), kind=st.sampled_from(FetchKind), origin=st.sampled_from(ORIGINS))
    def submit(self, peer: str, kind: FetchKind, origin: str) -> None:
        self.accept(request_spec(self.ids + 1, peer=peer, kind=kind, origin=origin))

    @rule(peer=st.sampled_from("xy"), origin=st.sampled_from(ORIGINS))
    def call(self, peer: str, origin: str) -> None:
        self.accept(call_spec(self.ids + 1, peer=peer, origin=origin))

    def accept(self, spec: FetchSpec) -> None:
        self.ids += 1
        self.specs[self.ids] = spec
        self.submitted(spec)

    def submitted(self, spec: FetchSpec) -> None:
        self.joins_a_line(spec.request)
        self.do(steps.Submit(spec))

    def joins_a_line(self, request: int) -> None:
        self.places[request] = max(self.places.values(), default=0) + 1

    @rule(data=st.data())
    @precondition(lambda self: bool(self.specs))
    def finish(self, data: st.DataObject) -> None:
        request = self.draw(data, set(self.specs) & self.started or set(self.specs))
        self.end(request)
        self.do(steps.Finish(request))

    @rule(data=st.data())
    @precondition(lambda self: bool(self.specs))
    def cancel(self, data: st.DataObject) -> None:
        request = self.draw(data, set(self.specs))
        started = request in self.started
        actions = self.do(steps.Cancel(request, CancelReason.PEER_CANCEL))
        assert (steps.PassCancel(request, CancelReason.PEER_CANCEL) in actions) == started
        assert (request in self.specs) == started

    @rule(data=st.data())
    @precondition(lambda self: bool(self.running))
    def park(self, data: st.DataObject) -> None:
        request = self.draw(data, self.running)
        self.give_back(request)

    @rule(data=st.data())
    @precondition(lambda self: bool(self.cutting))
    def cut(self, data: st.DataObject) -> None:
        """It was cut at the worker: its slot is given back, and it wants another."""
        request = self.draw(data, set(self.cutting))
        self.give_back(request)
        self.come_back(request)

    @rule(data=st.data())
    @precondition(lambda self: bool(self.parked))
    def requeue(self, data: st.DataObject) -> None:
        self.come_back(self.draw(data, self.parked))

    def give_back(self, request: RequestId) -> None:
        self.running.remove(request)
        self.cutting.pop(request, None)
        self.parked.add(request)
        self.do(steps.Park(request))

    def come_back(self, request: RequestId) -> None:
        self.parked.remove(request)
        self.do(steps.Requeue(request))

    @rule(peer=st.sampled_from("abc"), priority=st.sampled_from(Priority))
    def prioritize(self, peer: str, priority: Priority) -> None:
        self.do(steps.Prioritize(peer, priority))

    @rule(peer=st.sampled_from("abc"))
    def peer_leaves(self, peer: str) -> None:
        self.do(steps.ForgetPeer(peer))

    @rule(data=st.data())
    @precondition(lambda self: bool(self.specs))
    def need(self, data: st.DataObject) -> None:
        spec = self.specs[self.draw(data, set(self.specs))]
        if spec.collection is None:
            if spec.kind is not DEMAND:
                self.joins_a_line(spec.request)
            self.specs[spec.request] = request_spec(
                spec.request, peer=spec.peer, kind=DEMAND, origin=spec.origin, ranged=spec.ranged
            )
            self.do(steps.Reclassify(self.specs[spec.request]))

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 2.5]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data())
    def review(self, data: st.DataObject) -> None:
        """Somebody looks, at the time that was asked for or at another."""
        if data.draw(st.booleans()) and self.look is not None:
            self.now = max(self.now, self.look)
            assert self.map.review_is_due(self.now)
        waited = data.draw(st.sets(st.sampled_from(sorted(self.specs) or [1])))
        self.waited |= waited
        free = {spec.request for spec in self.map.preemptible()} - waited
        leads = tuple(
            steps.Lead(RequestId(request), data.draw(st.none() | st.integers(0, 9)), data.draw(st.integers(1000, 1002)))
            for request in sorted(free)
        )
        before = {victim: [each for each in self.queued if self.allowed(each, without=victim)] for victim in free}
        self.look = None
        actions = self.do(steps.Review(tuple(map(RequestId, sorted(waited))), leads))
        for action in actions:
            if isinstance(action, steps.Preempt) and len(self.cutting) == 1:
                # Of several at once one may make room for another; a single one does for somebody queued.
                assert before[action.request]

    @rule()
    def downloader_begins_anew(self) -> None:
        self.cutting.clear()
        parked, self.parked = self.parked, set()
        self.do(steps.Restart())
        assert parked <= set(self.specs)

    @rule()
    def registry_begins_anew(self) -> None:
        self.map = SlotMap(ALL, PER_HOST, SHARE, AFTER)
        self.look = None
        self.do(steps.Hold())
        returning = self.queued & self.started
        waiting = sorted(self.queued - self.started)
        for request in waiting[::2]:
            self.submitted(self.specs[request])
        assert not self.map.running
        for request in sorted(self.running | self.parked | returning):
            standing = Standing.PARKED if request in self.parked else Standing.RETURNING
            standing = Standing.RUNNING if request in self.running else standing
            self.do(steps.Adopt(InHand(self.specs[request], standing)))
        self.cutting.clear()
        self.do(steps.Unhold())
        for request in waiting[1::2]:
            self.submitted(self.specs[request])

    # --- What holds

    @invariant()
    def no_limit_is_passed(self) -> None:
        assert self.map.running == len(self.running) <= ALL
        for origin in ORIGINS:
            assert self.map.running_on(origin) == sum(self.specs[r].origin == origin for r in self.running) <= PER_HOST
        assert sum(self.map.queued.values()) == len(self.queued)

    @invariant()
    def no_slot_is_free_that_somebody_may_have(self) -> None:
        assert not any(self.allowed(request) for request in self.queued)

    @invariant()
    def nobody_waits_without_a_review_to_come(self) -> None:
        if self.queued:
            assert self.look is not None

    def teardown(self) -> None:
        """Whatever was asked for ends, and ends once."""
        while self.specs:
            request = RequestId(min(self.running or self.parked))
            if request in self.parked:
                self.come_back(request)
            else:
                self.end(request)
                self.do(steps.Finish(request))
        assert self.ended == Counter(range(1, self.ids + 1))
        assert (self.map.running, sum(self.map.queued.values())) == (0, 0)


TestPreemption = Preemption.TestCase
TestPreemption.settings = settings(max_examples=60, stateful_step_count=50)


def test_fill_makes_way_and_takes_nobodys_slot_though_a_reader_waits_for_it() -> None:
    """What is waited for is raised to demand, or asked for by another request; until then fill is fill."""
    desk = Desk(1, 1, 1, AFTER)
    assert desk.submit(request_spec(1, peer="a")) != []
    assert desk.submit(request_spec(2, peer="b", kind=FILL)) == []
    desk.now = 2 * AFTER
    assert desk.review(2, leads={1: (None, 1000)}) == []
    desk.reclassify(request_spec(2, peer="b", kind=DEMAND))
    assert desk.review(2, leads={1: (None, 1000)}) == [1]


@given(st.lists(st.sampled_from(["abcd"[n] for n in range(4)]) | st.none(), max_size=60))
def test_how_many_later_ones_may_overtake_one(script: list[str | None]) -> None:
    """As many of each other peer as it has places before it in its own peer's queue, its own included."""
    desk = Desk(1, 1)
    place: dict[int, int] = {}
    peer: dict[int, str] = {}
    later: dict[int, Counter[str]] = {}
    queued: list[int] = []
    running: list[int] = []

    def start(specs: list[FetchSpec]) -> None:
        for spec in specs:
            queued.remove(spec.request)
            running.append(spec.request)
            for waits in queued:
                if waits < spec.request:
                    later[waits][spec.peer] += 1

    for step in [*script, *[None] * len(script)]:
        if step is not None:
            request = len(peer) + 1
            peer[request] = step
            place[request] = 1 + sum(peer[each] == step for each in queued)
            later[request] = Counter()
            queued.append(request)
            start(desk.submit(request_spec(request, peer=step)))
        elif running:
            start(desk.finish(running.pop()))
    assert not queued
    for request, overtook in later.items():
        assert overtook[peer[request]] == 0
        assert all(count <= place[request] for count in overtook.values())
