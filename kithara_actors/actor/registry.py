"""Admission: holds every accepted request until a slot is free, and hands it out only with the slot."""

from __future__ import annotations

from collections.abc import Callable

from actors.actor.address import Address
from actors.actor.cell import Behaviour
from actors.clock import Clock, monotonic
from actors.messages.command import Command
from kithara_actors.actor.publisher import Publisher
from kithara_actors.logic.naming import redact
from kithara_actors.logic.slots import SlotMap
from kithara_actors.messages.commands import (
    Admitted,
    CancelAdmitted,
    CancelFetch,
    Done,
    EndRequests,
    Fetch,
    FetchCancelled,
    Parked,
    PeerGone,
    Released,
    Requeue,
    SetPriority,
)
from kithara_actors.messages.events import PriorityChanged, RequestCancelled, RequestEnqueued, Scope
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import CancelReason, RequestId

__all__ = ["Registry"]


class Registry(Behaviour):
    """Owns peers, queues and both limits; `SlotMap` decides."""

    def __init__(
        self,
        slots: SlotMap,
        find: Callable[[str], Address | None],
        publisher: Publisher,
        clock: Clock = monotonic,
    ) -> None:
        self._slots = slots
        self._find = find
        self._publisher = publisher
        self._clock = clock
        self._accepted_at: dict[RequestId, float] = {}
        self._stopping = False

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
                self._admit(self._slots.finish(request))
            case PeerGone(peer):
                self._slots.forget_peer(peer)
            case EndRequests():
                self._stopping = True
                for request in self._slots.waiting():
                    self._cancel(request, CancelReason.BEFORE_START)
                return Done(0)
            case _:
                raise TypeError(f"Registry does not handle {type(command).__name__}")
        return None

    def _accept(self, spec: FetchSpec) -> None:
        if self._slots.state(spec.request) is not None:
            return  # announced again
        highest = max(spec.kind.priority, self._slots.priority(spec.peer))
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
        downloader = self._find("downloader")
        for spec in started:
            accepted = self._accepted_at.pop(spec.request, None)
            queued = 0.0 if accepted is None else self._clock() - accepted
            if downloader is not None:
                downloader.tell(Admitted(spec, queued, again=accepted is None))

    def _cancel(self, request: RequestId, reason: CancelReason) -> None:
        spec = self._slots.spec(request)
        if spec is None:
            return
        if self._slots.never_started(request):
            started = self._slots.finish(request)
            self._end_unstarted(spec)
            self._admit(started)
            return
        downloader = self._find("downloader")
        if downloader is not None:
            downloader.tell(CancelAdmitted(request, reason))

    def _end_unstarted(self, spec: FetchSpec) -> None:
        self._accepted_at.pop(spec.request, None)
        self._publisher.publish(RequestCancelled(spec.request, 0, CancelReason.BEFORE_START), Scope(spec.asset))
        owner = self._find(spec.owner)
        if owner is not None:
            owner.tell(FetchCancelled(spec.request, spec.start, CancelReason.BEFORE_START))
