"""The queued requests, by whose turn it is: four slots, and fill behind them. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass, field

from kithara_actors.logic.limits import Gate, Limits
from kithara_actors.logic.turns import Turns
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import FetchKind, Priority, RequestId

__all__ = ["Queues", "Slot"]

Slot = tuple[Priority, Priority]
"""Of the peer, then of the command."""

_CLASSES = (Priority.HIGH, Priority.LOW)
_SLOTS: tuple[Slot, ...] = tuple((peer, command) for peer in _CLASSES for command in _CLASSES)
_LAST = (Priority.LOW, Priority.LOW)


@dataclass(slots=True)
class Queues:
    """Knows the peers' classes; a request keeps the spec and the gate that it was added with until it leaves."""

    _priorities: dict[str, Priority] = field(default_factory=dict)
    _slots: dict[Slot, Turns[Gate]] = field(default_factory=lambda: {slot: Turns() for slot in _SLOTS})
    _fill: Turns[Gate] = field(default_factory=Turns)
    _behind: dict[Gate, int] = field(default_factory=dict)
    _size: int = 0

    def __len__(self) -> int:
        return self._size

    def add(self, spec: FetchSpec, gate: Gate, *, head: bool) -> None:
        """Queue the request behind those of its peer; with `head` before them, and its peer is next."""
        self._turns(spec).add(spec.request, spec.peer, gate, head=head)
        self._count(spec, gate, 1)

    def remove(self, spec: FetchSpec, gate: Gate) -> None:
        """Take a queued request out of its place."""
        self._turns(spec).remove(spec.request, spec.peer, gate)
        self._count(spec, gate, -1)

    def take(self, limits: Limits) -> RequestId | None:
        """The request that is to run next, which `left` is to be told of; None if no limit lets another run."""
        if limits.full or not self._size:
            return None
        for turns in (*self._slots.values(), self._fill):
            request = turns.take(limits.open)
            if request is not None:
                return request
        return None

    def left(self, spec: FetchSpec, gate: Gate) -> None:
        """The request was taken."""
        self._count(spec, gate, -1)

    def passed(self, spec: FetchSpec) -> None:
        """The request runs without having been queued; what its peer has queued waits for the next turn."""
        self._turns(spec).passed(spec.peer)

    def opened(self, origin: str) -> None:
        """A slot of this host has become free."""
        one, background = Gate(origin, background=False), Gate(origin, background=True)
        for gate in (one, background):
            if gate in self._behind:
                for turns in self._slots.values():
                    turns.opened(gate)
        self._fill.opened(background)

    def priority(self, peer: str) -> Priority:
        """The peer's class; Low for one never heard of."""
        return self._priorities.get(peer, Priority.LOW)

    def prioritize(self, peer: str, priority: Priority) -> None:
        """The peer's class is now this; what it has queued moves, to the end of the round."""
        before = self.priority(peer)
        if before is not priority:
            for command in _CLASSES:
                self._slots[before, command].move(peer, self._slots[priority, command])
        if priority is Priority.LOW:
            self._priorities.pop(peer, None)
        else:
            self._priorities[peer] = priority

    def rank(self, spec: FetchSpec) -> int:
        """Of which slot the request is; the lowest is served first."""
        return len(_SLOTS) if spec.kind is FetchKind.FILL else _SLOTS.index(self._slot(spec))

    @property
    def behind(self) -> dict[Gate, int]:
        """How much is queued besides fill, by what limits it."""
        return self._behind

    @property
    def lengths(self) -> dict[Slot, int]:
        """By slot; fill counts as Low/Low."""
        return {slot: len(turns) + (len(self._fill) if slot == _LAST else 0) for slot, turns in self._slots.items()}

    def _turns(self, spec: FetchSpec) -> Turns[Gate]:
        return self._fill if spec.kind is FetchKind.FILL else self._slots[self._slot(spec)]

    def _slot(self, spec: FetchSpec) -> Slot:
        if spec.collection is not None:
            # Somebody waits for all of it: its peer has no other class to be moved to.
            return Priority.HIGH, Priority.HIGH
        return self.priority(spec.peer), spec.kind.priority

    def _count(self, spec: FetchSpec, gate: Gate, step: int) -> None:
        self._size += step
        if spec.kind is not FetchKind.FILL:
            self._behind[gate] = self._behind.get(gate, 0) + step
            if not self._behind[gate]:
                del self._behind[gate]
