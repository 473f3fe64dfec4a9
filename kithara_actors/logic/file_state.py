"""The life of one asset, as a table. A pair that is not in it is a mistake of ours, and raises."""

from __future__ import annotations

from enum import StrEnum

from kithara_actors.values import Phase

__all__ = ["TRANSITIONS", "FileEvent", "next_phase"]


class FileEvent(StrEnum):
    """What moves an asset from phase to phase."""

    ANSWERED = "answered"
    CHANGED = "changed"
    FAILED = "failed"
    FOUND_COMPLETE = "found_complete"
    COMMITTED = "committed"


TRANSITIONS: dict[tuple[Phase, FileEvent], Phase] = {
    (Phase.INIT, FileEvent.ANSWERED): Phase.DOWNLOADING,
    (Phase.INIT, FileEvent.CHANGED): Phase.INIT,
    (Phase.INIT, FileEvent.FAILED): Phase.FAILED,
    (Phase.INIT, FileEvent.FOUND_COMPLETE): Phase.COMPLETE,
    (Phase.DOWNLOADING, FileEvent.ANSWERED): Phase.DOWNLOADING,
    (Phase.DOWNLOADING, FileEvent.CHANGED): Phase.INIT,
    (Phase.DOWNLOADING, FileEvent.FAILED): Phase.FAILED,
    (Phase.DOWNLOADING, FileEvent.COMMITTED): Phase.COMPLETE,
}


def next_phase(phase: Phase, event: FileEvent, asset: int) -> Phase:
    """The phase after `event`. Raises RuntimeError naming phase, event and asset for a pair not in the table."""
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise RuntimeError(f"asset {asset}: {event} cannot happen in phase {phase}") from None
