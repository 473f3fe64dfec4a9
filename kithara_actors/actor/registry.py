"""Admission: holds every accepted request until a slot is free, and hands it out only with the slot."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from actors.actor.address import Address
from actors.actor.cell import Behaviour
from actors.clock import Clock, monotonic
from actors.messages.command import Command
from kithara_actors.actor.publisher import Publisher
from kithara_actors.assets.requests import RequestTable, Told
from kithara_actors.logic.naming import redact
from kithara_actors.logic.slots import SlotMap
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
    Readmit,
    Readmitted,
    Recount,
    Recounted,
    Released,
    Requeue,
    SetPriority,
)
from kithara_actors.messages.events import PriorityChanged, RequestCancelled, RequestEnqueued, Scope
from kithara_actors.messages.records import FetchSpec, InHand
from kithara_actors.values import CancelReason, RequestId

__all__ = ["Registry"]


class Registry(Behaviour):
    """Owns peers, queues and both limits; `SlotMap` decides."""

    def __init__(
        self,
        slots: SlotMap,
        find: Callable[[str], Address | None],
        publisher: Publisher,
        requests: RequestTable,
        owners: Callable[[], Iterable[Address]],
        clock: Clock = monotonic,
        show: Callable[[SlotMap], object] = lambda _: None,
    ) -> None:
        """`owners` are those whose requests these are; `show` is given the table, for who counts what is in it."""
        self._slots = slots
        self._find = find
        self._publisher = publisher
        self._clock = clock
        self._accepted_at: dict[RequestId, float] = {}
        self._requests = requests
        self._owners = owners
        self._reasons: dict[RequestId, CancelReason] = {}
        self._postponed: dict[RequestId, CancelReason] = {}
        show(slots)
        self._stopping = False

    def on_start(self) -> None:
        if self._find("downloader") is not None:
            # Until it has said what it runs nothing is admitted, lest a limit be passed.
            self._slots.hold()
            self._tell_downloader(Recount())

    def handle(self, command: Command) -> Command | None:
        match command:
            case Fetch(spec):
                self._accept(spec)
            case CancelFetch(request, reason):
                self._cancel(request, reason)
            case SetPriority(peer, priority):
                requests, started = self._slots.prioritize(peer, priority)
                moved = self._slots.spec(requests[0]) if requests else None
                if moved is not None:
                    self._publisher.publish(PriorityChanged(priority, requests), Scope(moved.asset))
                self._admit(started)
            case Parked(request):
                self._admit(self._slots.park(request))
            case Requeue(request):
                self._admit(self._slots.requeue(request))
            case Released(request):
                self._reasons.pop(request, None)
                self._accepted_at.pop(request, None)
                self._admit(self._slots.finish(request))
            case Recounted(requests):
                self._recounted(requests)
            case Readmit():
                self._readmit()
            case PeerGone(peer):
                self._slots.forget_peer(peer)
            case EndRequests():
                self._stopping = True
                for request in self._slots.waiting():
                    self._cancel(request, CancelReason.DOWNLOADER_SHUTDOWN)
                return Done(len(self._postponed))
            case _:
                raise TypeError(f"Registry does not handle {type(command).__name__}")
        return None

    # --- Beginning anew

    def _recounted(self, requests: tuple[InHand, ...]) -> None:
        for each in requests:
            self._slots.adopt(each.spec, each.standing)
            if each.reason is not None:
                self._reasons[each.spec.request] = each.reason
        postponed, self._postponed = self._postponed, {}
        for request, reason in postponed.items():
            self._cancel_known(request, reason)
        # What runs is known; what waits is not.
        for owner in self._owners():
            owner.tell(Announce("registry"))
        self._admit(self._slots.unhold())

    def _readmit(self) -> None:
        """The Downloader knows of nothing: who has a slot is told, who had one gets it back."""
        specs = self._slots.running_specs()
        self._tell_downloader(Readmitted(tuple(InHand(spec, reason=self._reasons.get(spec.request)) for spec in specs)))
        for request in self._slots.parked():
            self._admit(self._slots.requeue(request))
        if self._slots.held:
            self._tell_downloader(Recount())  # the last may have been what it failed on

    # --- Requests

    def _accept(self, spec: FetchSpec) -> None:
        if self._slots.state(spec.request) is not None:
            return  # announced again
        if self._requests.ended(spec.request):
            self._tell_owner(spec, FetchOver(spec.request))
            return
        highest = max(spec.kind.priority, self._slots.priority(spec.peer))
        if self._requests.once(spec.request, Told.ENQUEUED):
            self._publisher.publish(
                RequestEnqueued(spec.request, redact(spec.url), spec.method, highest, spec.start, spec.end),
                Scope(spec.asset),
            )
        if self._stopping:
            self._end_unstarted(spec)
            return
        self._accepted_at[spec.request] = self._clock()
        self._admit(self._slots.submit(spec))

    def _admit(self, started: list[FetchSpec]) -> None:
        for spec in started:
            accepted = self._accepted_at.pop(spec.request, None)
            queued = 0.0 if accepted is None else self._clock() - accepted
            self._tell_downloader(Admitted(spec, queued, again=accepted is None))

    def _cancel(self, request: RequestId, reason: CancelReason) -> None:
        if self._slots.held and self._slots.never_started(request):
            # For all that is known yet it may have been started: by an incarnation before this one.
            self._postponed.setdefault(request, reason)
        else:
            self._cancel_known(request, reason)

    def _cancel_known(self, request: RequestId, reason: CancelReason) -> None:
        spec = self._slots.spec(request)
        if spec is not None and self._slots.never_started(request):
            started = self._slots.finish(request)
            self._end_unstarted(spec)
            self._admit(started)
        elif not self._requests.ended(request):
            # Also one that is not known here: the Downloader may know it, or ends it in the name of both.
            self._reasons[request] = reason
            self._tell_downloader(CancelAdmitted(request, reason))

    def _end_unstarted(self, spec: FetchSpec) -> None:
        self._accepted_at.pop(spec.request, None)
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
