"""Finds out who waits for which transfer, and how far the others are ahead, from what readers have left behind."""

from __future__ import annotations

from collections.abc import Iterable

from kithara_actors.assets.content import Content, ContentTable
from kithara_actors.logic.leads import Front, ahead_of, awaited
from kithara_actors.logic.slots_steps import Lead, Review
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import RequestId

__all__ = ["Leads"]

_RECENT = 0.5
"""Seconds: who has waited since then and has little ahead reads as fast as it comes."""


class Leads:
    """Looks at contents and progress words; nobody is asked. Safe from any thread; never blocks."""

    def __init__(self, contents: ContentTable, recent: float | None = None) -> None:
        self._contents = contents
        self._recent = _RECENT if recent is None else min(recent, _RECENT)

    def review(self, running: Iterable[FetchSpec], now: float) -> Review:
        """What is true at this moment; `running` are the transfers that may have to make way."""
        waited: set[RequestId] = set()
        for content in self._contents.waited_for():
            with self._contents.hold(content.id) as held:
                if held is not None:
                    waited |= _waited(held)
        leads = (self._lead(spec, now) for spec in running if spec.request not in waited)
        return Review(tuple(sorted(waited)), tuple(lead for lead in leads if lead is not None))

    def _lead(self, spec: FetchSpec, now: float) -> Lead | None:
        """None for one whose server may not go on in the middle, or whose reader has nothing to spare."""
        with self._contents.hold(spec.content) as content:
            if content is None or not content.block.has_head or not content.answer().ranges:
                return None
            front = next((each for each in _fronts(content) if each.request == spec.request), None)
            if front is None:
                return None
            ahead, short = ahead_of(front, list(content.readings.values()), now - self._recent)
            return None if short else Lead(spec.request, ahead, front.landed)


def _waited(content: Content) -> set[RequestId]:
    fronts = _fronts(content)
    found = set()
    for reading in list(content.readings.values()):
        for start in list(reading.waits.values()):
            request = awaited(fronts, content.available(start))
            if request is not None:
                found.add(request)
    return found


def _fronts(content: Content) -> list[Front]:
    """The transfers of a content that were not cut for good."""
    fronts = []
    for lane in content.view.lanes:
        if lane.cut is None:
            landed = content.block.landed(lane.slot, lane.generation)
            fronts.append(Front(lane.spec.request, lane.start if landed is None else landed, lane.end))
    return fronts
