"""Admission: which queued request runs next, under both limits.

Four slots, peer priority first, then the command's: High/High, High/Low, Low/High, Low/Low. Within a slot peers
take turns; within a peer, first in, first out. A request that comes back (after a back-off) goes to the head of its
peer's queue. Fill is Low/Low whatever its peer is, and holds at most a share of each host; what is collected for a
caller is High/High. What a limit stops is passed over: no slot stays free while any queued request may have it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from kithara_actors.logic.turns import Turns
from kithara_actors.messages.records import FetchSpec, Standing
from kithara_actors.values import FetchKind, Priority, RequestId

__all__ = ["SlotMap", "SlotState"]


_CLASSES = (Priority.HIGH, Priority.LOW)


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


class _Gate(NamedTuple):
    """What the limits count: a host, and of it the fill."""

    origin: str
    fill: bool


_Slot = tuple[Priority, Priority]
"""Of the peer, then of the command."""
_SLOTS: tuple[_Slot, ...] = tuple((peer, command) for peer in _CLASSES for command in _CLASSES)


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
    _priorities: dict[str, Priority] = field(default_factory=dict)
    _by_peer: dict[str, set[RequestId]] = field(default_factory=dict)
    _slots: dict[_Slot, Turns[_Gate]] = field(default_factory=lambda: {slot: Turns() for slot in _SLOTS})
    _running: int = 0
    _per_host: dict[str, int] = field(default_factory=dict)
    _fill_per_host: dict[str, int] = field(default_factory=dict)
    held: bool = False
    """Whether nothing is started for now."""

    def submit(self, spec: FetchSpec) -> list[FetchSpec]:
        """Accept a new request. ValueError if its id is known."""
        if spec.request in self._entries:
            raise ValueError(f"request {spec.request} was submitted before")
        self._entries[spec.request] = _Entry(spec, SlotState.QUEUED)
        self._by_peer.setdefault(spec.peer, set()).add(spec.request)
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
        spec = entry.spec
        mine = self._by_peer[spec.peer]
        mine.remove(request)
        if not mine:
            del self._by_peer[spec.peer]
        if entry.state is SlotState.RUNNING:
            self._free(entry)
        elif entry.state is SlotState.QUEUED:
            self._slots[self._slot(spec)].remove(request, spec.peer, _gate(spec))
        return self._admit()

    def prioritize(self, peer: str, priority: Priority) -> tuple[tuple[RequestId, ...], list[FetchSpec]]:
        """Move a peer to another class: the requests it has, in the order of their ids, and what to start."""
        if self.priority(peer) is priority:
            return (), []
        self._move(peer, priority)
        self._priorities[peer] = priority
        return tuple(sorted(self._by_peer.get(peer, ()))), self._admit()

    def forget_peer(self, peer: str) -> None:
        """A peer that has ended; what it may still have is from now on of the class of one never heard of."""
        self._move(peer, Priority.LOW)
        self._priorities.pop(peer, None)

    def hold(self) -> None:
        """Start nothing until `unhold`: what runs already is to be told by `adopt`."""
        self.held = True

    def unhold(self) -> list[FetchSpec]:
        """Start again."""
        self.held = False
        return self._admit()

    def adopt(self, spec: FetchSpec, standing: Standing) -> None:
        """A request that was admitted by a map before this one. What is known of it here is of no account."""
        entry = self._entries.get(spec.request)
        if entry is None:
            entry = self._entries[spec.request] = _Entry(spec, SlotState.QUEUED, started=True)
            self._by_peer.setdefault(spec.peer, set()).add(spec.request)
        elif entry.state is SlotState.QUEUED and not entry.started:
            self._slots[self._slot(spec)].remove(spec.request, spec.peer, _gate(spec))
        else:
            return
        match standing:
            case Standing.RUNNING:
                self._start(entry)
            case Standing.PARKED:
                entry.state, entry.started = SlotState.PARKED, True
            case Standing.RETURNING:
                entry.state, entry.started = SlotState.QUEUED, True
                self._enqueue(entry.spec, head=True)

    def running_specs(self) -> list[FetchSpec]:
        """Requests that have a slot, in the order of their ids."""
        return [entry.spec for _, entry in sorted(self._entries.items()) if entry.state is SlotState.RUNNING]

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
        return self._priorities.get(peer, Priority.LOW)

    def waiting(self) -> list[RequestId]:
        """Requests that were never started, in the order of their ids."""
        return sorted(request for request, entry in self._entries.items() if not entry.started)

    @property
    def running(self) -> int:
        return self._running

    def running_on(self, origin: str) -> int:
        return self._per_host.get(origin, 0)

    @property
    def queued(self) -> dict[_Slot, int]:
        """Queue lengths by (peer priority, command priority)."""
        return {slot: len(turns) for slot, turns in self._slots.items()}

    def _move(self, peer: str, priority: Priority) -> None:
        before = self.priority(peer)
        if before is not priority:
            for command in _CLASSES:
                self._slots[before, command].move(peer, self._slots[priority, command], lambda gate: not gate.fill)

    def _slot(self, spec: FetchSpec) -> _Slot:
        if spec.kind is FetchKind.FILL:
            return Priority.LOW, Priority.LOW
        if spec.collection is not None:
            # Somebody waits for all of it: its peer has no other class to be moved to.
            return Priority.HIGH, Priority.HIGH
        return self.priority(spec.peer), spec.kind.priority

    def _enqueue(self, spec: FetchSpec, *, head: bool) -> None:
        self._slots[self._slot(spec)].add(spec.request, spec.peer, _gate(spec), head=head)

    def _admit(self) -> list[FetchSpec]:
        started: list[FetchSpec] = []
        if self.held:
            return started
        for turns in self._slots.values():
            while self._running < self.max_concurrent:
                request = turns.take(self._allowed)
                if request is None:
                    break
                entry = self._entries[request]
                self._start(entry)
                started.append(entry.spec)
        return started

    def _allowed(self, gate: _Gate) -> bool:
        if self._per_host.get(gate.origin, 0) >= self.max_per_host:
            return False
        return not gate.fill or self._fill_per_host.get(gate.origin, 0) < self.fill_per_host

    def _start(self, entry: _Entry) -> None:
        entry.state = SlotState.RUNNING
        entry.started = True
        gate = _gate(entry.spec)
        self._running += 1
        self._per_host[gate.origin] = self._per_host.get(gate.origin, 0) + 1
        if gate.fill:
            self._fill_per_host[gate.origin] = self._fill_per_host.get(gate.origin, 0) + 1

    def _free(self, entry: _Entry) -> None:
        gate = _gate(entry.spec)
        self._running -= 1
        _lower(self._per_host, gate.origin)
        if gate.fill:
            _lower(self._fill_per_host, gate.origin)
        for turns in self._slots.values():
            turns.opened(_Gate(gate.origin, fill=False))
            turns.opened(_Gate(gate.origin, fill=True))


def _gate(spec: FetchSpec) -> _Gate:
    return _Gate(spec.origin, spec.kind is FetchKind.FILL)


def _lower(counts: dict[str, int], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
