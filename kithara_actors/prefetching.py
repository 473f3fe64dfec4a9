"""Handles of assets that are to be fetched and not read: those that wait for their turn, and those of each asset."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from kithara_actors.entries import Entry
from kithara_actors.errors import Failure, SystemStopped
from kithara_actors.logic.prefetching import PrefetchLine
from kithara_actors.messages.records import SourceSpec
from kithara_actors.stream.link import Link
from kithara_actors.stream.prefetch import Prefetch
from kithara_actors.values import Phase, StreamId

__all__ = ["Prefetches"]


class Prefetches:
    """Belongs to the directory, whose lock is held at every call. Nothing here blocks."""

    def __init__(
        self,
        line: PrefetchLine,
        new_source: Callable[[SourceSpec, str], Entry],
        link: Callable[[Entry, StreamId], Link],
    ) -> None:
        """`new_source` begins to fetch an asset, `link` attaches a handle to one that is being fetched."""
        self._line = line
        self._new_source = new_source
        self._link = link
        self._handles: weakref.WeakValueDictionary[StreamId, Prefetch] = weakref.WeakValueDictionary()
        self._where: dict[StreamId, Entry] = {}
        self._kept: dict[str, Entry] = {}

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many handles wait for their turn, are being fetched, and are complete and kept in memory."""
        complete = sum(len(entry.prefetches) for entry in self._kept.values())
        return len(self._line), len(self._where) - complete, complete

    def handles(self) -> list[Prefetch]:
        """Those that are not over."""
        return list(self._handles.values())

    def add(self, handle: Prefetch, spec: SourceSpec, identity: str, entry: Entry | None) -> None:
        """A new handle; `entry` is its asset if that is being fetched, or is `kept`."""
        self._handles[handle.id] = handle
        if entry is not None:
            self._join(entry, handle.id)
        else:
            self._line.join(handle.id, identity, spec)
            self.begin()

    def begin(self) -> None:
        """Have those fetched whose turn it is."""
        while (begun := self._line.next()) is not None:
            try:
                entry = self._new_source(begun.spec, begun.identity)
            except (OSError, RuntimeError) as error:
                self._line.over(begun.ticket)
                kind = "SystemStopped" if isinstance(error, SystemStopped) else "InternalError"
                failure = Failure(kind, f"the prefetch could not be started: {error}")
                for handle in [handle for id_ in begun.handles if (handle := self._handles.pop(id_, None))]:
                    handle.stop(failure)
                if self._line.begun:
                    return  # what is lacking may be there when one of these has ended
                continue
            entry.ticket = begun.ticket
            for id_ in begun.handles:
                self._join(entry, id_)

    def join_all(self, identity: str, entry: Entry) -> None:
        """The asset is fetched for a stream: who waited for it need not wait any more."""
        for handle in self._line.take(identity):
            self._join(entry, handle)

    def kept(self, identity: str, known: Entry | None) -> Entry | None:
        """The asset if it is complete and in memory for as long as a handle of it is open; `known` is it if its source
        has not ended."""
        entry = self._kept.get(identity)
        if entry is None and known is not None and _stays(known):
            entry = known
        if entry is None or not entry.current().retain():
            return None
        entry.current().release()
        return entry

    def ended(self, entry: Entry) -> list[Prefetch]:
        """Nothing is fetched into the entry any more. Which handles are to let go of it: the others keep it."""
        if entry.ticket is not None:
            self._line.over(entry.ticket)
        if _stays(entry):
            self._kept[entry.identity] = entry
            return []
        handles = [handle for id_ in entry.prefetches if (handle := self._handles.pop(id_, None)) is not None]
        for id_ in entry.prefetches:
            self._where.pop(id_, None)
        entry.prefetches.clear()
        return handles

    def leave(self, handle: StreamId) -> Entry | None:
        """A handle was closed: the entry that it is to be detached from, None if there is none."""
        self._handles.pop(handle, None)
        return None if self._line.leave(handle) else self._where.pop(handle, None)

    def left(self, handle: StreamId, entry: Entry) -> None:
        """A stream or a handle was detached from the entry."""
        entry.prefetches.discard(handle)
        if not entry.prefetches and self._kept.get(entry.identity) is entry:
            del self._kept[entry.identity]

    def _join(self, entry: Entry, handle: StreamId) -> None:
        # Also one that is being collected, which leaves by itself.
        link = self._link(entry, handle)
        entry.prefetches.add(handle)
        self._where[handle] = entry
        known = self._handles.get(handle)
        if known is not None:
            known.begin(entry.current(), link)


def _stays(entry: Entry) -> bool:
    content = entry.current()
    return content.view.phase is Phase.COMPLETE and content.path is None and bool(entry.prefetches)
