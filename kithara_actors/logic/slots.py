"""Admission: which queued request runs next, under all limits, and which running one makes way.

Four slots, peer priority first, then the command's: High/High, High/Low, Low/High, Low/Low. Within a slot peers
take turns; within a peer, first in, first out. A request that comes back (after a back-off, or cut for another) goes to
the head of its peer's queue. What is collected for a caller is High/High. Fill comes after all others whatever its peer
is, and makes way as soon as something else is queued; fill and prefetch hold at most a share of each host. What a limit
stops is passed over: no slot stays free while any queued request may have it.

How long one waits while its limits have room again and again: of its own slot, only what came before it or came back
runs first for its own peer, and each other peer gets at most as many turns as the request had places before it in its
peer's queue, its own included; one more for each that comes back. Besides there is what the higher slots hold: a
Low/Low request waits for as long as High/High ones keep coming.
"""

from __future__ import annotations

from kithara_actors.logic import slots_steps as steps
from kithara_actors.logic.callers import Callers
from kithara_actors.logic.limits import Limits, gate_of
from kithara_actors.logic.preemption import Claim, Cuts, Victim, decide
from kithara_actors.logic.queues import Queues, Slot
from kithara_actors.logic.reviews import Reviews
from kithara_actors.logic.slots_entry import Entry, SlotState
from kithara_actors.messages.records import FetchSpec, InHand, Standing
from kithara_actors.values import CancelReason, FetchKind, Priority, RequestId

__all__ = ["SlotMap", "SlotState"]


class SlotMap:
    """Decides; carries nothing out. `handle` is the only door; what else is public tells and changes nothing.

    A queued request that a reader or a caller waits for, for `preempt_after` seconds (None: however long), takes the
    slot of the running one that is needed last, of those whose slot helps it: whatever the class of either, but never
    of one that somebody waits for, that is collected, or whose server would begin it anew. So that nobody is cut for
    ever, one that has landed nothing since it got its slot comes last, and a peer whose requests are collected (a
    batch is one) takes one slot in `preempt_after` at most, and only while it has none.

    Whoever carries out finds out who waits when `LookAfter` says so, and tells by `Review`.
    """

    def __init__(
        self,
        max_concurrent: int,
        max_per_host: int,
        background_per_host: int = 4,
        preempt_after: float | None = None,
    ) -> None:
        """`max_concurrent` limits running requests in all, `max_per_host` those to one origin, of which at most
        `background_per_host` are fill or prefetch."""
        self._limits = Limits(max_concurrent, max_per_host, background_per_host)
        self._queues = Queues()
        self._entries: dict[RequestId, Entry] = {}
        self._by_peer: dict[str, set[RequestId]] = {}
        self._postponed: dict[RequestId, CancelReason] = {}
        self._cuts = Cuts()
        self._callers = Callers()
        self._reviews = Reviews(preempt_after)
        self.held = False
        """Whether nothing is started for now."""

    def handle(self, event: steps.Event, now: float) -> list[steps.Action]:
        """What follows from `event`, in order. An event that is out of place changes nothing.

        `now` is in seconds of a clock that never goes back. Raises ValueError for a request that was submitted before.
        """
        actions = self._decide(event, now)
        if self.held or not len(self._queues):
            return actions
        delay = self._reviews.earlier(now, lambda request: self.state(request) is SlotState.QUEUED)
        return actions if delay is None else [*actions, steps.LookAfter(delay)]

    def _decide(self, event: steps.Event, now: float) -> list[steps.Action]:
        match event:
            case steps.Submit(spec):
                return self._submit(spec, now)
            case steps.Finish(request):
                return self._finish(request, now)
            case steps.Reclassify(spec):
                return self._reclassify(spec, now)
            case steps.Park(request):
                return self._park(request, now)
            case steps.Requeue(request):
                return self._requeue(request, now)
            case steps.Cancel(request, reason):
                return self._cancel(request, reason, now)
            case steps.Prioritize(peer, priority):
                return self._prioritize(peer, priority, now)
            case steps.ForgetPeer(peer):
                self._queues.prioritize(peer, Priority.LOW)
                return []
            case steps.Hold():
                self.held = True
                return []
            case steps.Adopt(hand):
                self._adopt(hand, now)
                return []
            case steps.Unhold():
                return self._unhold(now)
            case steps.Restart():
                self._cuts.clear()
                return [action for request in self.parked() for action in self._requeue(request, now)]
            case steps.Review():
                return self._review(event, now)

    # --- What is known

    def in_slots(self) -> list[InHand]:
        """Requests that have a slot, in the order of their ids, with why those that are to be ended are."""
        return [InHand(entry.spec, reason=entry.reason) for entry in self._running()]

    def preemptible(self) -> list[FetchSpec]:
        """Running requests that may be cut as far as is known here, in the order of their ids."""
        return [entry.spec for entry in self._running() if self._preemptible(entry.spec.request)]

    def review_is_due(self, now: float) -> bool:
        """Whether the time of the last `LookAfter` has come and no `Review` since."""
        return self._reviews.is_due(now)

    def parked(self) -> list[RequestId]:
        """Requests that gave their slot back for a while, in the order of their ids."""
        return sorted(request for request, entry in list(self._entries.items()) if entry.state is SlotState.PARKED)

    def state(self, request: RequestId) -> SlotState | None:
        """None for a request that is unknown or has ended."""
        entry = self._entries.get(request)
        return None if entry is None else entry.state

    def never_started(self, request: RequestId) -> bool:
        """Whether the request is known and has never had a slot."""
        entry = self._entries.get(request)
        return entry is not None and not entry.started

    def spec(self, request: RequestId) -> FetchSpec | None:
        entry = self._entries.get(request)
        return None if entry is None else entry.spec

    def priority(self, peer: str) -> Priority:
        return self._queues.priority(peer)

    def waiting(self) -> list[RequestId]:
        """Requests that were never started, in the order of their ids."""
        return sorted(request for request, entry in self._entries.items() if not entry.started)

    @property
    def postponed(self) -> int:
        """Cancels that wait until it is known what runs."""
        return len(self._postponed)

    @property
    def running(self) -> int:
        return self._limits.running

    def running_on(self, origin: str) -> int:
        return self._limits.per_host.get(origin, 0)

    @property
    def queued(self) -> dict[Slot, int]:
        """Queue lengths by (peer priority, command priority); fill counts as Low/Low."""
        return self._queues.lengths

    def _running(self) -> list[Entry]:
        return [entry for _, entry in sorted(self._entries.items()) if entry.state is SlotState.RUNNING]

    def _preemptible(self, request: RequestId) -> Entry | None:
        entry = self._entries.get(request)
        if entry is None or entry.state is not SlotState.RUNNING or request in self._cuts or entry.reason is not None:
            return None
        return entry if entry.spec.ranged and entry.spec.collection is None else None

    def _queued(self, request: RequestId | None) -> Entry | None:
        entry = None if request is None else self._entries.get(request)
        return entry if entry is not None and entry.state is SlotState.QUEUED else None

    # --- Requests come and go

    def _submit(self, spec: FetchSpec, now: float) -> list[steps.Action]:
        if spec.request in self._entries:
            raise ValueError(f"request {spec.request} was submitted before")
        entry = self._enter(spec)
        if not self.held and self._limits.allow(entry.gate):
            # What is queued could not run, so it need not stand behind that.
            entry.since = now
            self._queues.passed(spec)
            return [self._begin(entry, now)]
        self._enqueue(entry, now, head=False)
        self._expect(entry)
        return []

    def _reclassify(self, spec: FetchSpec, now: float) -> list[steps.Action]:
        entry = self._entries.get(spec.request)
        if entry is None or entry.spec.kind is spec.kind:
            return []
        before, gate = entry.gate, gate_of(spec)
        if entry.state is SlotState.QUEUED:
            self._queues.remove(entry.spec, before)
            self._queues.add(spec, gate, head=entry.started)
        elif entry.state is SlotState.RUNNING:
            self._limits.give_back(before)
            self._limits.take(gate)
            self._queues.opened(spec.origin)
        entry.spec, entry.gate = spec, gate
        started = self._admit(now)
        self._expect(entry)
        return started

    def _park(self, request: RequestId, now: float) -> list[steps.Action]:
        entry = self._entries.get(request)
        if entry is None or entry.state is not SlotState.RUNNING:
            return []
        entry.state = SlotState.PARKED
        return self._freed(entry, now)

    def _requeue(self, request: RequestId, now: float) -> list[steps.Action]:
        entry = self._entries.get(request)
        if entry is None or entry.state is not SlotState.PARKED:
            return []
        self._enqueue(entry, now, head=True)
        started = self._admit(now)
        self._expect(entry)
        return started

    def _finish(self, request: RequestId, now: float) -> list[steps.Action]:
        entry = self._entries.pop(request, None)
        if entry is None:
            return []
        peer = entry.spec.peer
        self._by_peer[peer].remove(request)
        started: list[steps.Action] = []
        if entry.state is SlotState.RUNNING:
            started = self._freed(entry, now)
        elif entry.state is SlotState.QUEUED:
            self._unqueue(entry)
        if not self._by_peer[peer]:
            del self._by_peer[peer]
            self._callers.forget(peer)
        return started

    def _cancel(self, request: RequestId, reason: CancelReason, now: float) -> list[steps.Action]:
        entry = self._entries.get(request)
        if entry is None:
            return [steps.PassCancel(request, reason)]
        if entry.started:
            entry.reason = reason
            return [steps.PassCancel(request, reason)]
        if self.held:
            # For all that is known yet it may have been started: by a map before this one.
            self._postponed.setdefault(request, reason)
            return []
        return [steps.Dismiss(entry.spec), *self._finish(request, now)]

    def _prioritize(self, peer: str, priority: Priority, now: float) -> list[steps.Action]:
        if self.priority(peer) is priority:
            return []
        self._queues.prioritize(peer, priority)
        mine = tuple(sorted(self._by_peer.get(peer, ())))
        moved: list[steps.Action] = [steps.Moved(peer, priority, mine)] if mine else []
        return moved + self._admit(now)

    # --- Beginning anew

    def _adopt(self, hand: InHand, now: float) -> None:
        entry = self._entries.get(hand.spec.request)
        if entry is None:
            entry = self._enter(hand.spec)
        elif entry.state is SlotState.QUEUED and not entry.started:
            self._unqueue(entry)
        else:
            return
        entry.started = True
        entry.reason = hand.reason
        match hand.standing:
            case Standing.RUNNING:
                self._start(entry)
            case Standing.PARKED:
                entry.state = SlotState.PARKED
            case Standing.RETURNING:
                self._enqueue(entry, now, head=True)
                self._expect(entry)

    def _unhold(self, now: float) -> list[steps.Action]:
        self.held = False
        postponed, self._postponed = self._postponed, {}
        ended = [action for request, reason in postponed.items() for action in self._cancel(request, reason, now)]
        return ended + self._admit(now)

    # --- Slots

    def _enter(self, spec: FetchSpec) -> Entry:
        entry = Entry(spec, gate_of(spec), SlotState.QUEUED, seen=spec.start, mark=spec.start)
        self._entries[spec.request] = entry
        self._by_peer.setdefault(spec.peer, set()).add(spec.request)
        return entry

    def _enqueue(self, entry: Entry, now: float, *, head: bool) -> None:
        spec = entry.spec
        entry.state = SlotState.QUEUED
        entry.since = now
        self._queues.add(spec, entry.gate, head=head)
        self._callers.queued(spec)

    def _unqueue(self, entry: Entry) -> None:
        self._queues.remove(entry.spec, entry.gate)
        self._callers.unqueued(entry.spec)

    def _admit(self, now: float) -> list[steps.Action]:
        started: list[steps.Action] = []
        while not self.held and (request := self._queues.take(self._limits)) is not None:
            entry = self._entries[request]
            self._queues.left(entry.spec, entry.gate)
            self._callers.unqueued(entry.spec)
            started.append(self._begin(entry, now))
        return started

    def _begin(self, entry: Entry, now: float) -> steps.Admit:
        admit = steps.Admit(entry.spec, 0.0 if entry.started else now - entry.since, again=entry.started)
        self._start(entry)
        return admit

    def _start(self, entry: Entry) -> None:
        entry.state = SlotState.RUNNING
        entry.started = True
        entry.stuck = False
        self._limits.take(entry.gate)
        self._callers.began(entry.spec)

    def _freed(self, entry: Entry, now: float) -> list[steps.Action]:
        """A slot is free: it is for whom its holder was cut, if for anybody, else for who is next."""
        spec = entry.spec
        entry.mark = entry.seen
        self._limits.give_back(entry.gate)
        self._queues.opened(spec.origin)
        self._callers.freed(spec, now)
        claimant = self._queued(self._cuts.over(spec.request))
        started: list[steps.Action] = []
        if claimant is not None and not self.held and self._limits.allow(claimant.gate):
            self._unqueue(claimant)
            started.append(self._begin(claimant, now))
        return started + self._admit(now)

    def _expect(self, entry: Entry) -> None:
        """If it is queued: when may it have another's slot?"""
        if entry.state is not SlotState.QUEUED:
            return
        if entry.spec.kind is FetchKind.DEMAND:
            self._reviews.expect(entry.spec.request, entry.since)
        if entry.spec.kind is not FetchKind.FILL and self._limits.background:
            self._reviews.hurry()

    # --- Preemption

    def _review(self, review: steps.Review, now: float) -> list[steps.Action]:
        self._reviews.held(now)
        plan = self._limits.copy()
        queued = dict(self._queues.behind)
        for request in self._cuts.in_vain(now):
            self._entries[request].stuck = True
        for request, of in self._cuts.pending():
            plan.give_back(self._entries[request].gate)
            claimant = self._queued(of)
            if claimant is not None:
                plan.take(claimant.gate)
                queued[claimant.gate] -= 1
        victims = [self._victim(entry, lead) for lead in review.leads if (entry := self._preemptible(lead.request))]
        cuts = decide(self._claims(review.waited, now), victims, queued, plan)
        for victim, claim in cuts:
            self._cuts.add(victim.request, None if claim is None else claim.request, now)
            self._entries[victim.request].seen = victim.landed
        return [steps.Preempt(victim.request) for victim, _ in cuts]

    def _victim(self, entry: Entry, lead: steps.Lead) -> Victim:
        spec = entry.spec
        moved = lead.landed > entry.mark and not entry.stuck
        return Victim(spec.request, entry.gate, spec.kind, lead.ahead, lead.landed, moved)

    def _claims(self, waited: tuple[RequestId, ...], now: float) -> list[Claim]:
        """Who may have another's slot, in the order in which they are served."""
        pending = {claimant for _, claimant in self._cuts.pending()}
        entries = {}
        for request in (*waited, *self._callers.heads(lambda since: self._reviews.claims(since, now))):
            entry = self._queued(request)
            if entry is None or entry.spec.kind is FetchKind.FILL or request in pending:
                continue  # fill that a reader waits for is about to be raised, or to be overtaken by demand
            if self._reviews.claims(entry.since, now):
                entries[request] = entry
        order = sorted(entries.values(), key=lambda each: (self._queues.rank(each.spec), each.since, each.spec.request))
        return [Claim(entry.spec.request, entry.gate) for entry in order]
