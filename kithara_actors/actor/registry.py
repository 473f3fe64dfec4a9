"""Admission: holds every accepted request until a slot is free, and hands it out only with the slot."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from actors.actor.address import Address
from actors.actor.cell import Behaviour
from actors.actor.timers import Timers
from actors.clock import Clock, monotonic
from actors.messages.command import Command
from kithara_actors.actor.publisher import Publisher
from kithara_actors.assets.requests import RequestTable, Told
from kithara_actors.logic import slots_steps as steps
from kithara_actors.logic.naming import redact
from kithara_actors.logic.slots import SlotMap
from kithara_actors.logic.slots_steps import Review
from kithara_actors.messages.commands import (
    Admitted,
    Announce,
    CancelAdmitted,
    CancelFetch,
    Done,
    EndRequests,
    Fetch,
    FetchCancelled,
    FetchOver,
    Parked,
    PeerGone,
    Preempt,
    Readmit,
    Readmitted,
    Reconsider,
    Recount,
    Recounted,
    Released,
    Requeue,
    SetPriority,
)
from kithara_actors.messages.events import PriorityChanged, RequestCancelled, RequestEnqueued, Scope
from kithara_actors.messages.records import FetchSpec, InHand
from kithara_actors.values import CancelReason

__all__ = ["Registry"]


class Registry(Behaviour):
    """Owns peers, queues and both limits; `SlotMap` decides."""

    def __init__(
        self,
        table: SlotMap,
        find: Callable[[str], Address | None],
        publisher: Publisher,
        requests: RequestTable,
        owners: Callable[[], Iterable[Address]],
        clock: Clock = monotonic,
        show: Callable[[SlotMap], object] = lambda _: None,
        *,
        timers: Timers | None = None,
        leads: Callable[[list[FetchSpec], float], Review] = lambda *_: Review(),
    ) -> None:
        """`owners` are those whose requests these are; `show` is given the table, for who counts what is in it.

        `leads` tells who waits at this moment, and how far those transfers are ahead that it is given. Without
        `timers` nobody is preempted.
        """
        self._slots = table
        self._find = find
        self._publisher = publisher
        self._clock = clock
        self._requests = requests
        self._owners = owners
        self._timers = timers
        self._leads = leads
        show(table)
        self._stopping = False

    def on_start(self) -> None:
        if self._find("downloader") is not None:
            # Until it has said what it runs nothing is admitted, lest a limit be passed.
            self._do(steps.Hold())
            self._tell_downloader(Recount())

    def handle(self, command: Command) -> Command | None:
        match command:
            case Fetch(spec):
                self._accept(spec)
            case Released(request):
                self._do(steps.Finish(request))
            case CancelFetch(request, reason):
                self._do(steps.Cancel(request, reason))
            case SetPriority(peer, priority):
                if self._find(peer) is not None:  # else it has been closed meanwhile
                    self._do(steps.Prioritize(peer, priority))
            case Parked(request):
                self._do(steps.Park(request))
            case Requeue(request):
                self._do(steps.Requeue(request))
            case Recounted(requests):
                self._recounted(requests)
            case Readmit():
                self._readmit()
            case PeerGone(peer):
                self._do(steps.ForgetPeer(peer))
            case Reconsider():
                if self._slots.review_is_due(self._clock()):
                    self._review()
            case EndRequests():
                self._stopping = True
                for request in self._slots.waiting():
                    self._do(steps.Cancel(request, CancelReason.DOWNLOADER_SHUTDOWN))
                return Done(self._slots.postponed)
            case _:
                raise TypeError(f"Registry does not handle {type(command).__name__}")
        return None

    # --- Beginning anew

    def _recounted(self, requests: tuple[InHand, ...]) -> None:
        for hand in requests:
            self._do(steps.Adopt(hand))
        self._do(steps.Unhold())
        # What runs is known; what waits is not.
        for owner in self._owners():
            owner.tell(Announce("registry"))

    def _readmit(self) -> None:
        """The Downloader knows of nothing: who has a slot is told, who had one gets it back."""
        self._tell_downloader(Readmitted(tuple(self._slots.in_slots())))
        self._do(steps.Restart())
        if self._slots.held:
            self._tell_downloader(Recount())  # the last may have been what it failed on

    # --- Requests

    def _accept(self, spec: FetchSpec) -> None:
        if self._slots.state(spec.request) is not None:
            # Announced again; or somebody needs it now more than when it was asked for.
            self._do(steps.Reclassify(spec))
            return
        if self._requests.ended(spec.request):
            self._tell_owner(spec, FetchOver(spec.request))
            return
        if self._requests.once(spec.request, Told.ENQUEUED) and self._publisher.listening:
            highest = max(spec.kind.priority, self._slots.priority(spec.peer))
            self._publisher.publish(
                RequestEnqueued(spec.request, redact(spec.url), spec.method, highest, spec.start, spec.end),
                Scope(spec.asset),
            )
        if self._stopping or self._find(spec.owner) is None:
            # Whoever asked has been closed while this was on its way: it is told, and counted, as any other.
            self._dismiss(spec)
        else:
            self._do(steps.Submit(spec))

    def _do(self, event: steps.Event) -> None:
        for action in self._slots.handle(event, self._clock()):
            match action:
                case steps.Admit(spec, queued, again):
                    self._tell_downloader(Admitted(spec, queued, again))
                case steps.Dismiss(spec):
                    self._dismiss(spec)
                case steps.PassCancel(request, reason):
                    # Also one that is not known here: the Downloader may know it, or ends it in the name of both.
                    if not self._requests.ended(request):
                        self._tell_downloader(CancelAdmitted(request, reason))
                case steps.Moved(_, priority, requests):
                    moved = self._slots.spec(requests[0])
                    if moved is not None:
                        self._publisher.publish(PriorityChanged(priority, requests), Scope(moved.asset))
                case steps.Preempt(request):
                    self._tell_downloader(Preempt(request))
                case steps.LookAfter(delay):
                    self._look_after(delay)

    def _look_after(self, delay: float) -> None:
        me = self._find("registry")
        if delay <= 0:
            self._review()
        elif self._timers is not None and me is not None:
            self._timers.after(delay, me, Reconsider())

    def _review(self) -> None:
        running = self._slots.preemptible()
        self._do(self._leads(running, self._clock()))

    def _dismiss(self, spec: FetchSpec) -> None:
        if self._requests.once(spec.request, Told.END):
            self._publisher.publish(RequestCancelled(spec.request, 0, CancelReason.BEFORE_START), Scope(spec.asset))
        self._tell_owner(spec, FetchCancelled(spec.request, spec.start, CancelReason.BEFORE_START))
        self._requests.end(spec.request)

    def _tell_owner(self, spec: FetchSpec, command: Command) -> None:
        owner = self._find(spec.owner)
        if owner is not None:
            owner.tell(command)

    def _tell_downloader(self, command: Command) -> None:
        downloader = self._find("downloader")
        if downloader is not None:
            downloader.tell(command)
