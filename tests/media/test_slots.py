"""Admission never exceeds a limit, never leaves a slot free that somebody may have, and keeps its order."""

from __future__ import annotations

import copy
import sys
from collections import OrderedDict
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from slot_kit import Desk

from kithara_actors.logic.slots import SlotState
from kithara_actors.logic.slots_steps import Moved, Reclassify
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import ContentId, FetchKind, Priority, RequestId

HIGH, LOW = Priority.HIGH, Priority.LOW
DEMAND, AHEAD, FILL = FetchKind.DEMAND, FetchKind.READ_AHEAD, FetchKind.FILL
PREFETCH = FetchKind.PREFETCH
BACKGROUND = (FILL, PREFETCH)
ALL = 5
PER_HOST = 3
FILLS = 1


def spec(request: int, peer: str = "a", kind: FetchKind = DEMAND, origin: str = "http://one") -> FetchSpec:
    return FetchSpec(
        request=RequestId(request),
        asset=1,
        peer=peer,
        kind=kind,
        url=f"{origin}/file",
        origin=origin,
        headers=(),
        content=ContentId(1),
        lane=0,
        generation=1,
        start=0,
        end=None,
        ranged=True,
        total=None,
        validator=None,
        limit=None,
    )


def ids(started: list[FetchSpec]) -> list[int]:
    return [each.request for each in started]


class Slowly:
    """The same decisions made the plain way: look at everything, in order."""

    def __init__(self) -> None:
        self.specs: dict[int, FetchSpec] = {}
        self.running: set[int] = set()
        self.parked: set[int] = set()
        self.returned: set[int] = set()
        self.peers: dict[str, Priority] = {}
        self.slots: list[OrderedDict[str, list[int]]] = [OrderedDict() for _ in range(5)]

    def slot(self, each: FetchSpec) -> OrderedDict[str, list[int]]:
        if each.kind is FILL:
            return self.slots[4]
        peer = self.peers.get(each.peer, LOW)
        return self.slots[(0 if peer is HIGH else 2) + (0 if each.kind is DEMAND else 1)]

    def enqueue(self, each: FetchSpec, *, head: bool) -> None:
        slot = self.slot(each)
        queue = slot.setdefault(each.peer, [])
        queue.insert(0 if head else len(queue), each.request)
        if head:
            slot.move_to_end(each.peer, last=False)

    def dequeue(self, request: int) -> None:
        each = self.specs[request]
        slot = self.slot(each)
        slot[each.peer].remove(request)
        if not slot[each.peer]:
            del slot[each.peer]

    def allowed(self, request: int) -> bool:
        each = self.specs[request]
        here = [self.specs[other] for other in self.running if self.specs[other].origin == each.origin]
        share = sum(other.kind.in_background for other in here)
        return len(here) < PER_HOST and (not each.kind.in_background or share < FILLS)

    def admit(self) -> list[int]:
        started: list[int] = []
        while len(self.running) < ALL:
            chosen = next(
                (
                    request
                    for slot in self.slots
                    for queue in slot.values()
                    for request in queue
                    if self.allowed(request)
                ),
                None,
            )
            if chosen is None:
                break
            self.dequeue(chosen)
            peer = self.specs[chosen].peer
            slot = self.slot(self.specs[chosen])
            if peer in slot:
                slot.move_to_end(peer)
            self.running.add(chosen)
            started.append(chosen)
        return started

    def move(self, peer: str, priority: Priority) -> None:
        before = self.peers.get(peer, LOW)
        if before is priority:
            return
        for command in (0, 1):
            source = self.slots[(0 if before is HIGH else 2) + command]
            target = self.slots[(0 if priority is HIGH else 2) + command]
            if moving := source.pop(peer, []):
                target.setdefault(peer, []).extend(moving)

    def queued(self) -> set[int]:
        return set(self.specs) - self.running - self.parked


class Admission(RuleBasedStateMachine):
    """Any sequence of calls, against the plain way and against the promises themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Desk(ALL, PER_HOST, FILLS)
        self.model = Slowly()
        self.ids = 0
        self.accepted = 0
        self.ended = 0

    def same(self, started: list[FetchSpec]) -> None:
        assert ids(started) == self.model.admit()

    @rule(
        peer=st.sampled_from("abcd"),
        kind=st.sampled_from(FetchKind),
        origin=st.sampled_from(["http://one", "http://two"]),
    )
    def submit(self, peer: str, kind: FetchKind, origin: str) -> None:
        self.ids += 1
        self.accepted += 1
        each = spec(self.ids, peer, kind, origin)
        self.model.specs[self.ids] = each
        self.model.enqueue(each, head=False)
        self.same(self.slots.submit(each))

    @rule(data=st.data())
    @precondition(lambda self: bool(self.model.running))
    def park(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(sorted(self.model.running)))
        self.model.running.remove(request)
        self.model.parked.add(request)
        self.same(self.slots.park(request))

    @rule(data=st.data())
    @precondition(lambda self: bool(self.model.parked))
    def requeue(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(sorted(self.model.parked)))
        self.model.parked.remove(request)
        self.model.returned.add(request)
        self.model.enqueue(self.model.specs[request], head=True)
        self.same(self.slots.requeue(request))

    @rule(data=st.data(), kind=st.sampled_from([DEMAND, AHEAD]))
    @precondition(lambda self: bool(self.model.specs))
    def is_needed_more(self, data: st.DataObject, kind: FetchKind) -> None:
        request = data.draw(st.sampled_from(sorted(self.model.specs)))
        before = self.model.specs[request]
        after = replace(before, kind=kind)
        if before.kind is not kind and request in self.model.queued():
            self.model.dequeue(request)
            self.model.specs[request] = after
            self.model.enqueue(after, head=request in self.model.returned)
        self.model.specs[request] = after
        self.same(self.slots.reclassify(after))
        assert self.slots.map.spec(RequestId(request)) == after

    @rule(data=st.data())
    @precondition(lambda self: bool(self.model.specs))
    def finish(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(sorted(self.model.specs)))
        if request in self.model.queued():
            self.model.dequeue(request)
        self.model.running.discard(request)
        self.model.parked.discard(request)
        del self.model.specs[request]
        self.ended += 1
        self.same(self.slots.finish(request))

    @rule(data=st.data(), kind=st.sampled_from([DEMAND, AHEAD]))
    @precondition(lambda self: bool(self.model.specs))
    def reclassify(self, data: st.DataObject, kind: FetchKind) -> None:
        request = data.draw(st.sampled_from(sorted(self.model.specs)))
        each = replace(self.model.specs[request], kind=kind)
        other = kind is not self.model.specs[request].kind
        if other and request in self.model.queued():
            self.model.dequeue(request)
            self.model.specs[request] = each
            self.model.enqueue(each, head=not self.slots.map.never_started(RequestId(request)))
        self.model.specs[request] = each
        self.same(self.slots.do(Reclassify(each)))

    @rule(peer=st.sampled_from("abcd"), priority=st.sampled_from(Priority))
    def prioritize(self, peer: str, priority: Priority) -> None:
        moves = self.model.peers.get(peer, LOW) is not priority
        self.model.move(peer, priority)
        self.model.peers[peer] = priority
        started = self.slots.prioritize(peer, priority)
        mine = tuple(sorted(r for r, s in self.model.specs.items() if s.peer == peer))
        assert self.slots.told == ([Moved(peer, priority, mine)] if moves and mine else [])
        self.same(started)

    @rule(peer=st.sampled_from("abcd"))
    def forget(self, peer: str) -> None:
        self.model.move(peer, LOW)
        self.model.peers.pop(peer, None)
        self.slots.forget_peer(peer)
        assert self.slots.map.priority(peer) is LOW

    @rule(request=st.integers(-1, 60))
    def calls_out_of_place_do_nothing(self, request: int) -> None:
        if request not in self.model.running:
            assert self.slots.park(request) == []
        if request not in self.model.parked:
            assert self.slots.requeue(request) == []
        if request not in self.model.specs:
            assert self.slots.finish(request) == []
        else:
            with pytest.raises(ValueError, match=f"request {request} was"):
                self.slots.submit(spec(request))

    @invariant()
    def counts_are_right(self) -> None:
        model = self.model
        assert self.slots.map.running == len(model.running) <= ALL
        for origin in ("http://one", "http://two"):
            here = [model.specs[r] for r in model.running if model.specs[r].origin == origin]
            assert self.slots.map.running_on(origin) == len(here) <= PER_HOST
            assert sum(each.kind.in_background for each in here) <= FILLS
        states = {r: self.slots.state(r) for r in range(1, self.ids + 1)}
        assert sum(state is not None for state in states.values()) == self.accepted - self.ended
        assert {r for r, s in states.items() if s is SlotState.QUEUED} == model.queued()
        assert {r for r, s in states.items() if s is SlotState.RUNNING} == model.running
        assert {r for r, s in states.items() if s is SlotState.PARKED} == model.parked
        *lengths, fill = (sum(map(len, slot.values())) for slot in model.slots)
        lengths[-1] += fill
        assert list(self.slots.map.queued.values()) == lengths
        assert sum(self.slots.map.queued.values()) == len(model.queued())

    @invariant()
    def no_slot_is_free_that_somebody_may_have(self) -> None:
        if len(self.model.running) < ALL:
            assert not any(self.model.allowed(request) for request in self.model.queued())


TestAdmission = Admission.TestCase
TestAdmission.settings = settings(max_examples=60, stateful_step_count=60)


def test_order_of_the_four_slots() -> None:
    slots = Desk(1, 1)
    slots.submit(spec(100, "z"))
    slots.prioritize("high", HIGH)
    for request, peer, kind in [(1, "low", AHEAD), (2, "low", DEMAND), (3, "high", AHEAD), (4, "high", DEMAND)]:
        slots.submit(spec(request, peer, kind))
    order, last = [], 100
    while started := slots.finish(last):
        last = started[0].request
        order.append(last)
    assert order == [4, 3, 2, 1]


def test_what_a_limit_stops_is_passed_over_also_within_one_peer() -> None:
    """Looking only at the head of a peer's queue would leave three slots free here."""
    slots = Desk(8, 4, 1)
    assert ids(slots.submit(spec(1, "a", FILL))) == [1]
    assert ids(slots.submit(spec(2, "a", FILL))) == []
    assert ids(slots.submit(spec(3, "a", AHEAD))) == [3]
    assert ids(slots.submit(spec(4, "a", AHEAD, "http://two"))) == [4]
    assert ids(slots.finish(1)) == [2]


def test_a_full_host_does_not_hold_up_a_batch_for_many() -> None:
    slots = Desk(8, 1)
    assert ids(slots.submit(spec(1, "batch"))) == [1]
    assert ids(slots.submit(spec(2, "batch"))) == []
    assert ids(slots.submit(spec(3, "batch", origin="http://two"))) == [3]


def test_a_prefetch_that_a_reader_waits_for_leaves_the_share_and_keeps_its_place_in_no_second_queue() -> None:
    slots = Desk(ALL, PER_HOST, FILLS)
    assert ids(slots.submit(spec(1, "a", PREFETCH))) == [1]
    assert slots.submit(spec(2, "b", PREFETCH)) == []
    assert slots.submit(spec(3, "c", PREFETCH)) == []
    assert ids(slots.reclassify(spec(2, "b", DEMAND))) == [2]  # the queued one starts
    assert ids(slots.reclassify(spec(1, "a", DEMAND))) == [3]  # the running one makes room in the share
    assert slots.map.running_on("http://one") == PER_HOST
    assert slots.reclassify(spec(4, "d", DEMAND)) == []  # one that has ended
    assert slots.state(RequestId(4)) is None


def test_a_copy_goes_on_as_its_original_does() -> None:
    """Whoever records what is decided keeps copies."""
    slots = Desk(2, 2, 1)
    for request, kind in enumerate([FILL, FILL, DEMAND, AHEAD, DEMAND, AHEAD], 1):
        slots.submit(spec(request, "ab"[request % 2], kind))
    slots.park(1)
    twin = Desk(2, 2, 1)
    twin.map = copy.deepcopy(slots.map)

    def go_on(desk: Desk) -> list[list[int]]:
        return [ids(desk.finish(3)), ids(desk.requeue(1)), ids(desk.prioritize("b", HIGH)), ids(desk.finish(5))]

    assert any(said := go_on(slots))
    assert go_on(twin) == said


def calls_of(run: object) -> int:
    """Function calls that `run` makes: a measure of work that no busy machine disturbs."""
    count = 0

    def trace(frame: object, event: str, arg: object) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1

    before = sys.getprofile()
    sys.setprofile(trace)
    try:
        run()  # type: ignore[operator]
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("hosts", [1, 1000])
def test_ten_thousand_queued_peers_cost_a_step_little(hosts: int) -> None:
    slots = Desk(64, 16)
    origins = [f"http://{number}" for number in range(hosts)]
    for request in range(1, 10_001):
        slots.submit(spec(request, f"peer-{request}", AHEAD, origins[request % hosts]))
    running = [request for request in range(1, 10_001) if slots.state(request) is SlotState.RUNNING]
    for request in running[:8]:
        assert calls_of(lambda request=request: slots.finish(request)) < 1000
        assert calls_of(lambda request=request: slots.submit(spec(20_000 + request, "late"))) < 1000


def test_submitting_and_cancelling_for_ever_keeps_nothing() -> None:
    slots = Desk(1, 1)
    slots.submit(spec(1))
    for request in range(2, 2000):
        slots.submit(spec(request, f"peer-{request % 7}", AHEAD, f"http://{request % 5}"))
        slots.prioritize(f"peer-{request % 7}", HIGH if request % 2 else LOW)
        if request > 10:
            slots.finish(RequestId(request - 5))
    for turns in slots.map._queues._slots.values():
        assert len(turns._heap) < 60
        assert sum(len(gate.heap) for gate in turns._gates.values()) < 200
