"""Admission: which queued request runs next, under both limits.

Four slots, peer priority first, then the command's: High/High, High/Low, Low/High, Low/Low. Within a slot peers
take turns; within a peer, first in, first out. A request that comes back (after a back-off) goes to the head of its
peer's queue. Fill holds at most a share of each host and starts only when nothing else could.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import StrEnum

from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import FetchKind, Priority, RequestId

__all__ = ["SlotMap", "SlotState"]


class SlotState(StrEnum):
    """Where an accepted request is; it is forgotten once it has ended."""

    QUEUED = "queued"
    RUNNING = "running"
    PARKED = "parked"


@dataclass(slots=True)
class _Entry:
    spec: FetchSpec
    state: SlotState
    started: bool = False


_Slot = OrderedDict[str, deque[RequestId]]


@dataclass(slots=True)
class SlotMap:
    """Decides; carries nothing out. Every method that may free or fill a slot returns what to start now.

    `max_concurrent` limits running requests in all, `max_per_host` those to one origin, of which at most
    `fill_per_host` are fill.
    """

    max_concurrent: int
    max_per_host: int
    fill_per_host: int = 4
    _entries: dict[RequestId, _Entry] = field(default_factory=dict)
    _peers: dict[str, Priority] = field(default_factory=dict)
    _slots: dict[tuple[Priority, Priority], _Slot] = field(
        default_factory=lambda: {
            (peer, command): OrderedDict()
            for peer in (Priority.HIGH, Priority.LOW)
            for command in (Priority.HIGH, Priority.LOW)
        }
    )
    _running: int = 0
    _per_host: dict[str, int] = field(default_factory=dict)
    _fill_per_host: dict[str, int] = field(default_factory=dict)

    def submit(self, spec: FetchSpec) -> list[FetchSpec]:
        """Accept a new request. ValueError if its id is known."""
        if spec.request in self._entries:
            raise ValueError(f"request {spec.request} was submitted before")
        self._entries[spec.request] = _Entry(spec, SlotState.QUEUED)
        self._enqueue(spec, head=False)
        return self._admit()

    def park(self, request: RequestId) -> list[FetchSpec]:
        """A running request gives its slot back for a while. No effect in any other state."""
        entry = self._entries.get(request)
        if entry is None or entry.state is not SlotState.RUNNING:
            return []
        self._free(entry)
        entry.state = SlotState.PARKED
        return self._admit()

    def requeue(self, request: RequestId) -> list[FetchSpec]:
        """A parked request wants a slot again. No effect in any other state."""
        entry = self._entries.get(request)
        if entry is None or entry.state is not SlotState.PARKED:
            return []
        entry.state = SlotState.QUEUED
        self._enqueue(entry.spec, head=True)
        return self._admit()

    def finish(self, request: RequestId) -> list[FetchSpec]:
        """The request has ended, in whatever state; it is forgotten."""
        entry = self._entries.pop(request, None)
        if entry is None:
            return []
        if entry.state is SlotState.RUNNING:
            self._free(entry)
        elif entry.state is SlotState.QUEUED:
            self._dequeue(entry.spec)
        return self._admit()

    def prioritize(self, peer: str, priority: Priority) -> tuple[tuple[RequestId, ...], list[FetchSpec]]:
        """Move a peer to another class: the requests it has, in the order of their ids, and what to start."""
        before = self._peers.get(peer, Priority.LOW)
        if before is priority:
            return (), []
        self._peers[peer] = priority
        for command in (Priority.HIGH, Priority.LOW):
            moved = self._slots[before, command].pop(peer, None)
            if moved is not None:
                self._slots[priority, command][peer] = moved
        mine = tuple(sorted(request for request, entry in self._entries.items() if entry.spec.peer == peer))
        return mine, self._admit()

    def forget_peer(self, peer: str) -> None:
        """A peer with no request left is gone."""
        self._peers.pop(peer, None)

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
        return self._peers.get(peer, Priority.LOW)

    def waiting(self) -> list[RequestId]:
        """Requests that were never started, in the order of their ids."""
        return sorted(request for request, entry in self._entries.items() if not entry.started)

    @property
    def running(self) -> int:
        return self._running

    def running_on(self, origin: str) -> int:
        return self._per_host.get(origin, 0)

    @property
    def queued(self) -> dict[tuple[Priority, Priority], int]:
        """Queue lengths by (peer priority, command priority)."""
        return {key: sum(map(len, slot.values())) for key, slot in self._slots.items()}

    def _slot(self, spec: FetchSpec) -> _Slot:
        return self._slots[self.priority(spec.peer), spec.kind.priority]

    def _enqueue(self, spec: FetchSpec, *, head: bool) -> None:
        queue = self._slot(spec).setdefault(spec.peer, deque())
        if head:
            queue.appendleft(spec.request)
            self._slot(spec).move_to_end(spec.peer, last=False)
        else:
            queue.append(spec.request)

    def _dequeue(self, spec: FetchSpec) -> None:
        slot = self._slot(spec)
        queue = slot[spec.peer]
        queue.remove(spec.request)
        if not queue:
            del slot[spec.peer]

    def _admit(self) -> list[FetchSpec]:
        started: list[FetchSpec] = []
        while self._running < self.max_concurrent:
            spec = self._next()
            if spec is None:
                break
            self._start(spec)
            started.append(spec)
        return started

    def _next(self) -> FetchSpec | None:
        """The first request that both limits allow; it is taken from its queue."""
        for slot in self._slots.values():
            for peer, queue in slot.items():
                # A peer's queue is one asset's requests and so one host's: its head speaks for all of it.
                spec = self._entries[queue[0]].spec
                if not self._allowed(spec):
                    continue
                queue.popleft()
                if queue:
                    slot.move_to_end(peer)
                else:
                    del slot[peer]
                return spec
        return None

    def _allowed(self, spec: FetchSpec) -> bool:
        if self._per_host.get(spec.origin, 0) >= self.max_per_host:
            return False
        return spec.kind is not FetchKind.FILL or self._fill_per_host.get(spec.origin, 0) < self.fill_per_host

    def _start(self, spec: FetchSpec) -> None:
        entry = self._entries[spec.request]
        entry.state = SlotState.RUNNING
        entry.started = True
        self._running += 1
        self._per_host[spec.origin] = self._per_host.get(spec.origin, 0) + 1
        if spec.kind is FetchKind.FILL:
            self._fill_per_host[spec.origin] = self._fill_per_host.get(spec.origin, 0) + 1

    def _free(self, entry: _Entry) -> None:
        self._running -= 1
        _lower(self._per_host, entry.spec.origin)
        if entry.spec.kind is FetchKind.FILL:
            _lower(self._fill_per_host, entry.spec.origin)


def _lower(counts: dict[str, int], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
