"""What a Source knows at one moment, put together for `logic.demand.plan`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kithara_actors.assets.transfers import Transfers
from kithara_actors.logic.audience import Audience
from kithara_actors.logic.demand import Situation

if TYPE_CHECKING:
    from kithara_actors.assets.content import Content

__all__ = ["situation_of"]


def situation_of(content: Content, transfers: Transfers, audience: Audience) -> Situation | None:
    """The situation now; None if nobody is to be served. Waits that are over are forgotten by the audience."""
    # In this order: what lands in between is present, and no gap before where a fetch has come to.
    running = transfers.running()
    coverage = transfers.present(content.view.coverage)
    total = content.length
    audience.served(coverage, total)
    first = content.record.first
    now = Situation(
        answered=first is not None,
        ranges=first is not None and first.partial,
        total=total,
        coverage=coverage,
        readers=audience.readers(),
        running=running,
        want_length=audience.wants_length,
        want_all=audience.wants_all,
        prefetched=audience.prefetched,
    )
    if not content.record.parked:
        return now
    # Only who is blocked is served: nothing is fetched ahead until somebody lacks it again.
    blocked = tuple(reader for reader in now.readers if reader.waiting_to is not None)
    return replace(now, readers=blocked, prefetched=False) if blocked else None
