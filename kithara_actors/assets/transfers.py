"""The fetches that write into one content, each in a lane of its own. Kept by the content's owner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from actors.memory.progress import LANES, ProgressBlock
from kithara_actors.assets.record import Lane
from kithara_actors.logic.demand import Running
from kithara_actors.logic.ranges import Ranges
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import CancelReason, FetchKind, RequestId

__all__ = ["Transfers"]

_GENERATIONS = 1 << 16


class Transfers:
    """Requests and their lanes. Two of them never write the same bytes: one that would run into a new one is ended
    where that begins, by the lane's stop word."""

    def __init__(self, block: ProgressBlock, lanes: Iterable[Lane] = ()) -> None:
        """`lanes` are those that an earlier table of the same content has left."""
        self._block = block
        self._lanes = {lane.spec.request: self._ended_at_stop(lane) for lane in lanes}

    def __len__(self) -> int:
        return len(self._lanes)

    def __contains__(self, request: object) -> bool:
        return request in self._lanes

    def requests(self) -> tuple[RequestId, ...]:
        """What runs, those that were cut included."""
        return tuple(self._lanes)

    @property
    def full(self) -> bool:
        """Whether every lane is in use."""
        return len(self._lanes) >= LANES

    def free(self) -> tuple[int, int]:
        """A slot that is not in use, and the generation that no word of it has had of late. There must be one."""
        used = {lane.slot for lane in self._lanes.values()}
        slot = next(slot for slot in range(LANES) if slot not in used)
        return slot, (self._block.generation(slot) + 1) % _GENERATIONS

    def open(self, spec: FetchSpec) -> None:
        """A lane for the request, in the slot and generation that `free` gave."""
        start = spec.start
        for request, lane in self._lanes.items():
            if lane.start <= start and (lane.end is None or lane.end > start):
                self._block.stop_at(lane.slot, start)
                self._lanes[request] = replace(lane, end=start)
        self._block.open_lane(spec.lane, spec.generation, start)
        self._lanes[spec.request] = Lane(spec.lane, spec.generation, start, spec.end, spec)

    def announced(self, request: RequestId, end: int) -> None:
        """The answer ends at `end`. A lane's end is never raised: what was asked, and where another begins, hold."""
        lane = self._lanes[request]
        if lane.end is None or end < lane.end:
            self._lanes[request] = replace(lane, end=end)

    def cut(self, request: RequestId, reason: CancelReason) -> None:
        """The request is to end; it may write until it has."""
        self._lanes[request] = replace(self._lanes[request], cut=reason)

    def reclassify(self, request: RequestId, kind: FetchKind) -> FetchSpec:
        """The request is of this kind from here on; what is to be told of it."""
        lane = self._lanes[request]
        self._lanes[request] = replace(lane, spec=replace(lane.spec, kind=kind))
        return self._lanes[request].spec

    def close(self, request: RequestId) -> Lane | None:
        """The request has ended: its lane, None if it is not known here."""
        return self._lanes.pop(request, None)

    def lanes(self) -> tuple[Lane, ...]:
        return tuple(self._lanes.values())

    def running(self) -> tuple[Running, ...]:
        """What runs and how far each has come."""
        return tuple(
            Running(request, self.landed(lane), lane.end, lane.spec.kind, lane.cut is not None)
            for request, lane in self._lanes.items()
        )

    def present(self, coverage: Ranges) -> Ranges:
        """`coverage` and what has landed in the lanes by now."""
        for lane in self.lanes():
            landed = self.landed(lane)
            if landed > lane.start:
                coverage = coverage.add(lane.start, landed)
        return coverage

    def landed(self, lane: Lane) -> int:
        """The offset up to which the lane's bytes have landed."""
        landed = self._block.landed(lane.slot, lane.generation)
        return lane.start if landed is None else landed

    def _ended_at_stop(self, lane: Lane) -> Lane:
        stop = self._block.stop(lane.slot)
        return replace(lane, end=stop) if stop is not None and (lane.end is None or stop < lane.end) else lane
