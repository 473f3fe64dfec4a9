"""One slot of the admission queue: peers take turns, requests of one peer keep their order, closed gates wait aside.

A *gate* is what a limit applies to. Requests behind a closed gate are passed over, also those of a peer that has
others behind an open one, and cost nothing until their gate opens: each step takes the logarithm of what is queued,
not its length.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from kithara_actors.values import RequestId

__all__ = ["Turns"]

G = TypeVar("G", bound=Hashable)

_SLACK = 16
"""Dropped entries that a heap may hold besides one for each that counts."""

_Rank = tuple[int, int]
"""The turn of the peer, then the place of the request in its peer's order; the lowest is next."""


@dataclass(slots=True)
class _Line:
    """What one peer has queued behind one gate, with the place of each. `offer` is its newest entry in the gate."""

    places: OrderedDict[RequestId, int] = field(default_factory=OrderedDict)
    offer: _Rank | None = None


@dataclass(slots=True)
class _Peer(Generic[G]):
    turn: int
    lines: dict[G, _Line] = field(default_factory=dict)


@dataclass(slots=True)
class _Gate:
    """Its lines by rank. `offer` is its newest entry in the heap of all gates, None while it waits aside."""

    lines: int = 0
    heap: list[tuple[_Rank, str]] = field(default_factory=list)
    offer: _Rank | None = None


class Turns(Generic[G]):
    """Queued requests and whose turn it is.

    Both levels of heaps hold entries that may have become too low, never too high: one that comes up is brought up
    to date first. An entry that is not the newest of its line or gate is dropped, when it comes up or when such
    entries are the most.
    """

    def __init__(self) -> None:
        self._peers: dict[str, _Peer[G]] = {}
        self._gates: dict[G, _Gate] = {}
        self._heap: list[tuple[_Rank, int, G]] = []
        self._first = 0
        self._last = 0
        self._serial = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, request: RequestId, peer: str, gate: G, *, head: bool) -> None:
        """Queue `request` behind all of its peer's; with `head` before them, and its peer's turn comes first."""
        known = self._peers.get(peer)
        if known is None:
            known = self._peers[peer] = _Peer(self._end())
        line = known.lines.get(gate)
        if line is None:
            line = known.lines[gate] = _Line()
            self._gates.setdefault(gate, _Gate()).lines += 1
        line.places[request] = self._front() if head else self._end()
        self._size += 1
        if head:
            line.places.move_to_end(request, last=False)
            known.turn = self._front()
            for each in known.lines:
                self._offer(peer, each)
        elif len(line.places) == 1:
            self._offer(peer, gate)

    def remove(self, request: RequestId, peer: str, gate: G) -> None:
        """Take `request`, which must be queued, out of its place."""
        known = self._peers[peer]
        line = known.lines[gate]
        del line.places[request]
        self._size -= 1
        if not line.places:
            del known.lines[gate]
            if not known.lines:
                del self._peers[peer]
            self._close_line(gate)

    def take(self, allowed: Callable[[G], bool]) -> RequestId | None:
        """Remove and return the next request whose gate is open; its peer goes to the end of the round."""
        while self._heap:
            rank, _, gate = self._heap[0]
            state = self._gates.get(gate)
            if state is None or state.offer != rank:
                heapq.heappop(self._heap)
                continue
            if not allowed(gate):
                heapq.heappop(self._heap)
                state.offer = None
                continue
            top = self._top(gate, state)
            if top[0] != rank:
                heapq.heappop(self._heap)
                self._raise_gate(gate, state, top[0])
            else:
                peer = self._peers[top[1]]
                request = next(iter(peer.lines[gate].places))
                peer.turn = self._end()
                self.remove(request, top[1], gate)
                return request
        return None

    def passed(self, peer: str) -> None:
        """The peer has had its turn with what was never queued: it goes to the end of the round."""
        known = self._peers.get(peer)
        if known is not None:
            known.turn = self._end()

    def opened(self, gate: G) -> None:
        """The gate may be open again: its requests take part from now on."""
        state = self._gates.get(gate)
        if state is not None and state.offer is None:
            self._raise_gate(gate, state, self._top(gate, state)[0])

    def move(self, peer: str, to: Turns[G]) -> None:
        """Move what `peer` has to another slot, to the end of its round."""
        known = self._peers.get(peer)
        if known is None:
            return
        moved = sorted(
            (place, request, gate) for gate, line in known.lines.items() for request, place in line.places.items()
        )
        for _, request, gate in moved:
            self.remove(request, peer, gate)
            to.add(request, peer, gate, head=False)

    def _end(self) -> int:
        self._last += 1
        return self._last

    def _front(self) -> int:
        self._first -= 1
        return self._first

    def _offer(self, peer: str, gate: G) -> None:
        """Enter the head of a line into its gate, and the gate among the gates if that brings it forward."""
        known = self._peers[peer]
        line = known.lines[gate]
        rank = (known.turn, next(iter(line.places.values())))
        line.offer = rank
        state = self._gates[gate]
        new = not state.heap
        heapq.heappush(state.heap, (rank, peer))
        if len(state.heap) > 2 * state.lines + _SLACK:
            state.heap = [entry for entry in state.heap if self._newest(gate, entry)]
            heapq.heapify(state.heap)
        # A closed gate stays aside: `opened` looks for its best line.
        if new or (state.offer is not None and rank < state.offer):
            self._raise_gate(gate, state, rank)

    def _newest(self, gate: G, entry: tuple[_Rank, str]) -> bool:
        known = self._peers.get(entry[1])
        line = None if known is None else known.lines.get(gate)
        return line is not None and line.offer == entry[0]

    def _raise_gate(self, gate: G, state: _Gate, rank: _Rank) -> None:
        state.offer = rank
        self._serial += 1
        heapq.heappush(self._heap, (rank, self._serial, gate))
        if len(self._heap) > 2 * len(self._gates) + _SLACK:
            self._heap = [entry for entry in self._heap if self._current(entry)]
            heapq.heapify(self._heap)

    def _current(self, entry: tuple[_Rank, int, G]) -> bool:
        state = self._gates.get(entry[2])
        return state is not None and state.offer == entry[0]

    def _close_line(self, gate: G) -> None:
        state = self._gates[gate]
        state.lines -= 1
        if not state.lines:
            del self._gates[gate]

    def _top(self, gate: G, state: _Gate) -> tuple[_Rank, str]:
        """The line whose head is next behind `gate`, which has one."""
        while True:
            entry = state.heap[0]
            if not self._newest(gate, entry):
                heapq.heappop(state.heap)
                continue
            known = self._peers[entry[1]]
            line = known.lines[gate]
            now = (known.turn, next(iter(line.places.values())))
            if now == entry[0]:
                return entry
            line.offer = now
            heapq.heapreplace(state.heap, (now, entry[1]))
