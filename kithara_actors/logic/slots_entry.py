"""One accepted request, as admission knows it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kithara_actors.logic.limits import Gate
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import CancelReason

__all__ = ["Entry", "SlotState"]


class SlotState(StrEnum):
    """Where an accepted request is; it is forgotten once it has ended."""

    QUEUED = "queued"
    RUNNING = "running"
    PARKED = "parked"


@dataclass(slots=True)
class Entry:
    """`since` is when it was last queued. Bytes up to `seen` had landed when it was last chosen to be cut, up to `mark`
    when it was cut."""

    spec: FetchSpec
    gate: Gate
    state: SlotState
    since: float = 0.0
    started: bool = False
    reason: CancelReason | None = None
    seen: int = 0
    mark: int = 0
    stuck: bool = False
    """Whether it was to be cut and was not."""
