"""What a Source knows of its asset besides the view and the progress words: what its next incarnation goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kithara_actors.errors import Failure
from kithara_actors.logic.demand import Want
from kithara_actors.messages.records import FetchSpec, SourceSpec
from kithara_actors.messages.to_source import FetchHeaders
from kithara_actors.values import Answer, CancelReason, RequestId

if TYPE_CHECKING:
    from kithara_actors.assets.content import Content

__all__ = ["Lane", "Record", "answer_of_head", "request_for"]


@dataclass(frozen=True, slots=True)
class Lane:
    """A run of bytes being written from `start` on, up to `end` where that is known, by the request of `spec`.

    `cut` is why the request is to end; it may write until it has.
    """

    slot: int
    generation: int
    start: int
    end: int | None
    spec: FetchSpec
    cut: CancelReason | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Replaced whole at each step, by the Source alone.

    `first` and `latest` are the first and the last answer; the first tells what the file is. `failing` ends the asset
    as soon as nothing of it is stored any more; `parked`: a fetch gave up, and only who is blocked is served.
    `changes` counts the representations before this one.
    """

    first: FetchHeaders | None = None
    latest: FetchHeaders | None = None
    length_told: bool = False
    opened_told: bool = False
    committing: bool = False
    parked: bool = False
    failing: Failure | None = None
    changes: int = 0


def answer_of_head(lane: Lane, answer: Answer, total: int | None) -> FetchHeaders:
    """The first answer as the progress block has it, for an owner to whom it was not told."""
    return FetchHeaders(
        lane.spec.request, answer.ranges, lane.end, total, answer.validator, answer.content_type, None, answer.ranges
    )


def request_for(
    source: SourceSpec, content: Content, want: Want, request: RequestId, lane: tuple[int, int]
) -> FetchSpec:
    """The request that fetches `want` into slot and generation `lane`, by what earlier answers have said."""
    first, latest = content.record.first, content.record.latest
    return FetchSpec(
        request=request,
        asset=source.asset,
        peer=source.name,
        kind=want.kind,
        url=source.url,
        origin=source.origin,
        headers=source.headers,
        content=content.id,
        lane=lane[0],
        generation=lane[1],
        start=want.start,
        end=want.end,
        ranged=latest is None or latest.ranged,
        total=None if first is None else content.length,
        validator=None if first is None else first.validator,
        limit=source.limit,
        calls=0 if source.calls is None else source.calls.id,
        place=None if latest is None else latest.place,
        held=content.view.coverage.covered_start(want.start),
    )
