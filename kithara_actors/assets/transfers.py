"""The fetches that write into one content, each in a lane of its own. Kept by the content's owner."""

from __future__ import annotations

from dataclasses import dataclass, replace

from actors.memory.progress import LANES, ProgressBlock
from kithara_actors.assets.content import Lane
from kithara_actors.logic.demand import Running
from kithara_actors.logic.ranges import Ranges
from kithara_actors.values import FetchKind, RequestId

__all__ = ["Transfers"]

_GENERATIONS = 1 << 16


@dataclass(slots=True)
class _Transfer:
    lane: Lane
    kind: FetchKind
    cut: bool = False


class Transfers:
    """Requests and their lanes. Two of them never write the same bytes: one that would run into a new one is ended
    where that begins, by the lane's stop word."""

    def __init__(self, block: ProgressBlock, generation: int = 0) -> None:
        """`generation` continues the count of an earlier table, so that no late word is taken for a new one."""
        self._block = block
        self.generation = generation
        self._transfers: dict[RequestId, _Transfer] = {}

    def __len__(self) -> int:
        return len(self._transfers)

    def __contains__(self, request: object) -> bool:
        return request in self._transfers

    def requests(self) -> tuple[RequestId, ...]:
        """What runs, those that were cut included."""
        return tuple(self._transfers)

    @property
    def full(self) -> bool:
        """Whether every lane is in use."""
        return len(self._transfers) >= LANES

    def open(self, request: RequestId, start: int, end: int | None, kind: FetchKind) -> Lane:
        """A lane for a fetch of `start` to `end`; there must be one."""
        used = {transfer.lane.slot for transfer in self._transfers.values()}
        slot = next(slot for slot in range(LANES) if slot not in used)
        for transfer in self._transfers.values():
            lane = transfer.lane
            if lane.start <= start and (lane.end is None or lane.end > start):
                self._block.stop_at(lane.slot, start)
                transfer.lane = replace(lane, end=start)
        self.generation = (self.generation + 1) % _GENERATIONS
        lane = Lane(slot, self.generation, start, end)
        self._block.open_lane(slot, self.generation, start)
        self._transfers[request] = _Transfer(lane, kind)
        return lane

    def announced(self, request: RequestId, end: int) -> None:
        """The answer ends at `end`. A lane's end is never raised: what was asked, and where another begins, hold."""
        transfer = self._transfers[request]
        if transfer.lane.end is None or end < transfer.lane.end:
            transfer.lane = replace(transfer.lane, end=end)

    def cut(self, request: RequestId) -> None:
        """The request is to end; it may write until it has."""
        self._transfers[request].cut = True

    def close(self, request: RequestId) -> tuple[Lane, bool] | None:
        """The request has ended: its lane, and whether it was cut; None if it is not known here."""
        transfer = self._transfers.pop(request, None)
        return None if transfer is None else (transfer.lane, transfer.cut)

    def lanes(self) -> tuple[Lane, ...]:
        return tuple(transfer.lane for transfer in self._transfers.values())

    def running(self) -> tuple[Running, ...]:
        """What runs and how far each has come."""
        return tuple(
            Running(request, self._landed(transfer.lane), transfer.lane.end, transfer.kind, transfer.cut)
            for request, transfer in self._transfers.items()
        )

    def present(self, coverage: Ranges) -> Ranges:
        """`coverage` and what has landed in the lanes by now."""
        for lane in self.lanes():
            landed = self._landed(lane)
            if landed > lane.start:
                coverage = coverage.add(lane.start, landed)
        return coverage

    def _landed(self, lane: Lane) -> int:
        landed = self._block.landed(lane.slot, lane.generation)
        return lane.start if landed is None else landed
