"""How a system is doing: frozen snapshots, taken without waiting for any of its parts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from actors.actor.children import ChildInfo
from actors.actor.pool_port import WorkerStatus
from actors.logic.health import Health, HealthState
from kithara_actors.logic.bandwidth import HostStats

if TYPE_CHECKING:
    from actors.actor.pool import WorkerPool
    from actors.actor.system import Runtime
    from kithara_actors.assets.content import ContentTable
    from kithara_actors.assets.requests import RequestTable
    from kithara_actors.assets.shelf import Shelf
    from kithara_actors.logic.slots import SlotMap

__all__ = ["CacheStats", "Health", "HealthState", "HostStats", "Monitor", "PrefetchStats", "RequestStats", "Stats"]


@dataclass(frozen=True, slots=True)
class RequestStats:
    """`running` have a slot, `parked` back off without one; `queued` wait for one: so many of each slot, which is named
    by the class of the peer and that of the request, as in `"high/low"`. `ended` counts since the system started."""

    running: int
    parked: int
    queued: dict[str, int]
    ended: int


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Committed assets that this system knows of, and their bytes."""

    assets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PrefetchStats:
    """Open handles of prefetches: those `waiting` for their turn, `fetched` now, and those whose asset is
    `complete` and stays in memory for them. What has failed is not counted, nor what is complete on disk."""

    waiting: int
    fetched: int
    complete: int


@dataclass(frozen=True, slots=True)
class Stats:
    """One moment of a system. The numbers are read one after the other, while the system goes on.

    `restarts` counts incarnations that took the place of one that failed, of all actors since the start; `bytes` what
    has been stored of answers, with what runs now; `streams` are open.
    `hosts` are the origins (scheme, host, port) first asked, at most 256 besides those in use, those used last at the
    end.
    """

    actors: tuple[ChildInfo, ...]
    restarts: int
    workers: tuple[WorkerStatus, ...]
    requests: RequestStats
    bytes: int
    streams: int
    prefetches: PrefetchStats
    cache: CacheStats
    hosts: dict[str, HostStats]


@dataclass(slots=True)
class Monitor:
    """Knows where the numbers are. Safe from any thread."""

    runtime: Runtime
    pool: WorkerPool
    contents: ContentTable
    requests: RequestTable
    shelf: Shelf
    size: int
    """Of the pool, as configured."""
    ended: Callable[[], str | None]
    """Why the system has stopped or is stopping; None while it runs."""
    streams: Callable[[], int]
    prefetches: Callable[[], tuple[int, int, int]]
    slots: SlotMap | None = None
    _restarts: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def show(self, slots: SlotMap) -> None:
        """The table of admission is from now on this."""
        self.slots = slots

    def restarted(self) -> None:
        """Another incarnation has taken the place of one that failed."""
        with self._lock:
            self._restarts += 1

    def stats(self) -> Stats:
        """See `ActorSystem.stats`."""
        slots = self.slots
        kept = list(self.shelf.kept.values())
        running, parked = (0, 0) if slots is None else (slots.running, len(slots.parked()))
        waiting = {} if slots is None else slots.queued
        queued = {f"{peer.name.lower()}/{own.name.lower()}": count for (peer, own), count in waiting.items()}
        return Stats(
            actors=self.runtime.children(),
            restarts=self._restarts,
            workers=self.pool.status(),
            requests=RequestStats(running, parked, queued, self.requests.ended_count),
            bytes=self.requests.bytes + self.contents.landing(),
            streams=self.streams(),
            prefetches=PrefetchStats(*self.prefetches()),
            cache=CacheStats(len(kept), sum(each.length for each in kept)),
            hosts=self.requests.hosts.stats(),
        )

    def health(self) -> Health:
        """See `ActorSystem.health`."""
        ended = self.ended()
        if ended is not None:
            return Health(HealthState.FAILED, (ended,))
        tree = self.runtime.health()
        ready = len(self.pool.workers())
        if ready >= self.size:
            return tree
        lacks = f"{ready} of {self.size} workers are ready"
        return Health(max(tree.state, HealthState.DEGRADED, key=list(HealthState).index), (*tree.reasons, lacks))
