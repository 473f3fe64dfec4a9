"""Which prefetches have a Source, and which wait for their turn without one.

A Source costs a thread and descriptors, and a host serves a few prefetches at a time: more Sources than that would
only wait. First come, first served, origins in turns.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from kithara_actors.messages.records import SourceSpec
from kithara_actors.values import StreamId

__all__ = ["Begun", "PrefetchLine"]

_PER_ORIGIN = 8
"""Twice the share of a host that prefetch may hold: one that backs off leaves its place there to another."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An asset whose turn it is, for those that wait for it. `ticket` is its place until `over`."""

    ticket: int
    identity: str
    spec: SourceSpec
    handles: tuple[StreamId, ...]


@dataclass(slots=True)
class _Waiting:
    spec: SourceSpec
    handles: dict[StreamId, None]


class PrefetchLine:
    """At most `at_once` have a place, of one origin at most `per_origin`."""

    def __init__(self, at_once: int, per_origin: int = _PER_ORIGIN) -> None:
        self._at_once = at_once
        self._per_origin = per_origin
        self._assets: dict[str, _Waiting] = {}
        self._origins: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()
        self._by_handle: dict[StreamId, str] = {}
        self._places: dict[int, str] = {}
        self._taken: Counter[str] = Counter()
        self._tickets = 0

    def __len__(self) -> int:
        """How many handles wait."""
        return len(self._by_handle)

    @property
    def begun(self) -> int:
        """How many places are taken."""
        return len(self._places)

    def join(self, handle: StreamId, identity: str, spec: SourceSpec) -> None:
        """A handle waits for an asset, where others may wait already."""
        asset = self._assets.get(identity)
        if asset is None:
            asset = self._assets[identity] = _Waiting(spec, {})
            self._origins.setdefault(spec.origin, OrderedDict())[identity] = None
        asset.handles[handle] = None
        self._by_handle[handle] = identity

    def leave(self, handle: StreamId) -> bool:
        """A handle waits no more; False if it did not wait."""
        identity = self._by_handle.pop(handle, None)
        if identity is None:
            return False
        asset = self._assets[identity]
        del asset.handles[handle]
        if not asset.handles:
            self._drop(identity)
        return True

    def take(self, identity: str) -> tuple[StreamId, ...]:
        """The asset is fetched for others: who waited for it, and waits no more."""
        return self._drop(identity) if identity in self._assets else ()

    def next(self) -> Begun | None:
        """Whose turn it is; it has a place from here on."""
        if len(self._places) >= self._at_once:
            return None
        for origin, assets in self._origins.items():
            if self._taken[origin] < self._per_origin:
                identity = next(iter(assets))
                spec = self._assets[identity].spec
                self._origins.move_to_end(origin)
                self._tickets += 1
                self._places[self._tickets] = origin
                self._taken[origin] += 1
                return Begun(self._tickets, identity, spec, self._drop(identity))
        return None

    def over(self, ticket: int) -> None:
        """Its Source has ended; harmless when told again."""
        origin = self._places.pop(ticket, None)
        if origin is not None:
            self._taken[origin] -= 1
            if not self._taken[origin]:
                del self._taken[origin]

    def _drop(self, identity: str) -> tuple[StreamId, ...]:
        asset = self._assets.pop(identity)
        for handle in asset.handles:
            self._by_handle.pop(handle, None)
        mine = self._origins[asset.spec.origin]
        del mine[identity]
        if not mine:
            del self._origins[asset.spec.origin]
        return tuple(asset.handles)
