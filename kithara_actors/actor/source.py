"""One asset being fetched, however many read it: what is there, what is wanted, what it is.

The bookkeeping is here; the bytes and the progress words are in the `Content`, where readers look for themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from actors.actor.address import Address
from actors.actor.cell import Behaviour, StopSelf
from actors.messages.command import Command
from kithara_actors.actor.publisher import Publisher
from kithara_actors.assets.content import Content, ContentTable, View
from kithara_actors.assets.transfers import Transfers
from kithara_actors.errors import Failure
from kithara_actors.logic.audience import Audience
from kithara_actors.logic.demand import Plan, Situation, Want, plan
from kithara_actors.logic.file_state import FileEvent, next_phase
from kithara_actors.media.info import detect
from kithara_actors.messages.commands import (
    AcquireAsset,
    AssetCommitted,
    AssetReady,
    AssetRefused,
    Attach,
    CancelFetch,
    CommitAsset,
    Detach,
    Fetch,
    FetchCancelled,
    FetchDone,
    FetchFailed,
    FetchHeaders,
    PeerGone,
    ReaderAt,
    ReleaseAsset,
    SetPlaying,
    SetPriority,
    WantAll,
    WantLength,
)
from kithara_actors.messages.events import CacheComplete, Committed, Event, FileError, Opened, Scope, TotalBytesResolved
from kithara_actors.messages.records import FetchSpec, SourceSpec
from kithara_actors.messages.worker import head_of_present
from kithara_actors.values import CancelReason, Phase, Priority, RequestId, Validator

__all__ = ["Source"]

_CHANGES = 5


class Source(Behaviour):
    """Fetches one asset for its streams and publishes what is there as views of the content."""

    def __init__(
        self,
        spec: SourceSpec,
        content: Content,
        contents: ContentTable,
        find: Callable[[str], Address | None],
        publisher: Publisher,
        next_request: Callable[[], RequestId],
    ) -> None:
        self._spec = spec
        self._content = content
        self._contents = contents
        self._find = find
        self._publisher = publisher
        self._next_request = next_request
        self._audience = Audience()
        self._priority = Priority.LOW
        self._ready = False
        self._leaving = False
        self._committing = False
        self._parked = False
        self._halted = False
        self._failing: Failure | None = None
        self._changes = 0
        self._transfers = Transfers(content.block)
        self._reset()

    def _reset(self) -> None:
        self._transfers = Transfers(self._content.block, self._transfers.generation)
        self._view = View()
        self._answered = False
        self._ranges = False
        self._latest: FetchHeaders | None = None
        self._validator: Validator | None = None
        self._content_type: str | None = None
        self._length_told = False
        self._opened_told = False

    def on_start(self) -> None:
        self._acquire()

    def on_stop(self) -> None:
        self._tell("registry", PeerGone(self._spec.name))
        self._tell("asset_store", ReleaseAsset(self._content.id))
        self._contents.discard(self._content)

    def handle(self, command: Command) -> None:
        match command:
            case Attach(stream, look_ahead, priority):
                self._audience.join(stream, look_ahead, playing=priority is Priority.HIGH)
                self._parked = False
            case Detach(stream, last):
                self._audience.leave(stream)
                if last:
                    self._leave(CancelReason.PEER_CANCEL)
            case ReaderAt(stream, position, waiting_to):
                if self._audience.at(stream, position, waiting_to) and waiting_to is not None:
                    self._parked = False
            case SetPlaying(stream, playing, implied):
                self._audience.play(stream, playing=playing, implied=implied)
            case WantLength(stream):
                if self._audience.want_length(stream):
                    self._parked = False
            case WantAll(stream):
                if self._audience.want_all(stream):
                    self._parked = False
            case AssetReady():
                self._asset_ready(command)
            case AssetRefused(content, failure):
                if content == self._content.id:
                    self._refused(failure)
            case AssetCommitted(content):
                if content == self._content.id:
                    self._committed()
            case FetchHeaders():
                self._headers(command)
            case FetchDone() | FetchFailed() | FetchCancelled():
                self._fetch_over(command)
            case _:
                raise TypeError(f"Source does not handle {type(command).__name__}")
        self._update_priority()
        self._act()

    # --- The asset

    def _acquire(self) -> None:
        spec = self._spec
        self._tell(
            "asset_store",
            AcquireAsset(self._content.id, spec.name, spec.key, spec.extension, spec.target),
        )

    def _asset_ready(self, ready: AssetReady) -> None:
        if ready.content != self._content.id:
            return
        self._ready = True
        if ready.length is None or self._leaving:
            return
        self._content_type = ready.content_type
        self._content.block.write_head(ready.length, 0, head_of_present(ready.content_type))
        self._show(
            phase=next_phase(self._view.phase, FileEvent.FOUND_COMPLETE, self._spec.asset),
            coverage=self._view.coverage.add(0, ready.length),
        )
        info = detect(ready.content_type, self._content.first_bytes())
        self._publish(Opened(info, ready.length, cached=True))
        self._publish(TotalBytesResolved(ready.length, "committed_length"))

    def _committed(self) -> None:
        length = self._content.length
        assert length is not None
        self._publish_opened()
        self._publish(Committed(self._spec.key, length))
        self._publish(CacheComplete(length))
        self._show(phase=next_phase(self._view.phase, FileEvent.COMMITTED, self._spec.asset))

    def _fail(self, failure: Failure) -> None:
        """The asset is over: readers get `failure` at every read, and nothing of it is kept."""
        if self._failing is not None or self._view.phase in (Phase.FAILED, Phase.COMPLETE):
            return
        self._failing = failure
        for request in self._transfers.requests():
            self._cut(request, CancelReason.PEER_CANCEL)
        if self._ready:
            # What is stored goes first: who hears of the error finds nothing of it.
            self._tell("asset_store", ReleaseAsset(self._content.id))
        else:
            self._show_failure(failure)

    def _refused(self, failure: Failure) -> None:
        """The store holds nothing of this content: by its own decision, or because it was asked to drop it."""
        if self._failing is None:
            self._fail(failure)
        elif self._view.phase is not Phase.FAILED:
            self._show_failure(self._failing)

    def _show_failure(self, failure: Failure) -> None:
        self._show(phase=next_phase(self._view.phase, FileEvent.FAILED, self._spec.asset), failure=failure)
        self._publish(FileError(failure))

    def _start_over(self, failure: Failure) -> None:
        """Another representation is there now: a new content takes the old one's place, for those who can move."""
        self._changes += 1
        if self._changes > _CHANGES:
            self._fail(failure)
            return
        old = self._content
        phase = next_phase(self._view.phase, FileEvent.CHANGED, self._spec.asset)
        for request in self._transfers.requests():
            self._cut(request, CancelReason.EPOCH_CANCEL)
        self._tell("asset_store", ReleaseAsset(old.id))
        self._content = self._contents.create()
        self._ready = False
        self._reset()
        self._show(phase=phase)
        self._audience.rewind()
        # Readers look for a successor before they look for bytes, and the old view names none of the new ones.
        old.replace_by(self._content)
        self._contents.discard(old)
        self._acquire()

    def _leave(self, reason: CancelReason) -> None:
        self._leaving = True
        for request in self._transfers.requests():
            self._cut(request, reason)

    # --- Requests

    def _headers(self, headers: FetchHeaders) -> None:
        if headers.request not in self._transfers or self._view.phase is Phase.FAILED:
            return
        self._latest = headers
        if headers.end is not None:
            self._transfers.announced(headers.request, headers.end)
        if not self._answered:
            self._answered = True
            self._ranges = headers.partial
            self._validator = headers.validator
            self._content_type = headers.content_type
            if headers.total is not None:
                self._tell_length(headers.total)
        self._show(phase=next_phase(self._view.phase, FileEvent.ANSWERED, self._spec.asset))
        self._publish_opened()

    def _tell_length(self, total: int) -> None:
        if not self._length_told:
            self._length_told = True
            self._publish(TotalBytesResolved(total, "content_length"))

    def _publish_opened(self) -> None:
        if not self._opened_told and self._answered:
            self._opened_told = True
            info = detect(self._content_type, self._content.first_bytes())
            self._publish(Opened(info, self._content.length, cached=False))

    def _fetch_over(self, end: FetchDone | FetchFailed | FetchCancelled) -> None:
        closed = self._transfers.close(end.request)
        if closed is None:
            return  # of a content that was replaced
        lane, cut = closed
        if end.end > lane.start:
            # Merged before the lane goes, so that no reader finds the bytes in neither.
            self._show(coverage=self._view.coverage.add(lane.start, end.end))
        self._show()
        match end:
            case FetchDone(_, _, total):
                if total is not None:
                    self._tell_length(total)
            case FetchFailed(_, _, gave_up, failure):
                if failure.kind == "ResourceChanged" and not self._leaving:
                    self._start_over(failure)
                elif not gave_up:
                    self._fail(failure)
                else:
                    self._park(failure, (end.end, lane.end) if self._answered else (0, None))
            case FetchCancelled():
                # Not by us: the system ends its requests, and would end every one that followed.
                self._halted = self._halted or not cut

    def _park(self, failure: Failure, unreached: tuple[int, int | None]) -> None:
        """The budget is spent: who waits is told; the next read of a missing byte starts with a new budget."""
        self._audience.gave_up(self._transfers.present(self._view.coverage), unreached)
        self._parked = True
        self._show(setback=failure, setbacks=self._view.setbacks + 1, unreached=unreached)

    def _act(self) -> None:
        """Bring what runs in line with what is wanted."""
        if self._leaving:
            if not self._transfers:
                raise StopSelf
            return
        if self._view.phase in (Phase.FAILED, Phase.COMPLETE):
            # The content says all that readers need from here on.
            if not self._transfers:
                raise StopSelf
            return
        if self._ready and self._failing is None and not self._halted and not self._commit_if_complete():
            now = self._situation()
            if self._parked:
                # Only who is blocked is served: nothing is fetched ahead until somebody lacks it again.
                now = replace(now, readers=tuple(reader for reader in now.readers if reader.waiting_to is not None))
            if now.readers or not self._parked:
                self._carry_out(plan(now))

    def _situation(self) -> Situation:
        running = self._transfers.running()
        coverage = self._transfers.present(self._view.coverage)
        total = self._content.length
        self._audience.served(coverage, total)
        return Situation(
            answered=self._answered,
            ranges=self._ranges,
            total=total,
            coverage=coverage,
            readers=self._audience.readers(),
            running=running,
            want_length=self._audience.wants_length,
            want_all=self._audience.wants_all,
        )

    def _carry_out(self, todo: Plan) -> None:
        for request in todo.cut:
            self._cut(request, CancelReason.EPOCH_CANCEL)
        for want in todo.start:
            self._begin(want)

    def _begin(self, want: Want) -> None:
        if self._transfers.full:
            return  # the next end asks again
        request = self._next_request()
        lane = self._transfers.open(request, want.start, want.end, want.kind)
        self._show()
        spec = self._spec
        self._tell(
            "registry",
            Fetch(
                FetchSpec(
                    request=request,
                    asset=spec.asset,
                    peer=spec.name,
                    kind=want.kind,
                    url=spec.url,
                    origin=spec.origin,
                    headers=spec.headers,
                    content=self._content.id,
                    lane=lane.slot,
                    generation=lane.generation,
                    start=want.start,
                    end=want.end,
                    ranged=self._latest is None or self._latest.ranged,
                    total=self._content.length if self._answered else None,
                    validator=self._validator,
                    limit=spec.limit,
                    calls=0 if spec.calls is None else spec.calls.id,
                    place=None if self._latest is None else self._latest.place,
                    held=self._view.coverage.covered_start(want.start),
                )
            ),
        )

    def _cut(self, request: RequestId, reason: CancelReason) -> None:
        self._transfers.cut(request)
        self._tell("registry", CancelFetch(request, reason))

    def _commit_if_complete(self) -> bool:
        total = self._content.length
        if self._committing:
            return True
        if not self._answered or total is None or self._transfers:
            return False
        if not self._view.coverage.covers(0, total):
            return False
        self._committing = True
        try:
            os.fdatasync(self._content.fd)
        except OSError as error:
            self._fail(Failure("StorageFull", f"the file could not be made durable: {error.strerror}"))
            return True
        self._tell("asset_store", CommitAsset(self._content.id, total, self._content_type))
        return True

    # --- Priority

    def _update_priority(self) -> None:
        priority = self._audience.priority
        if priority is not self._priority:
            self._priority = priority
            self._tell("registry", SetPriority(self._spec.name, priority))

    # --- Speaking

    def _show(self, **changes: object) -> None:
        self._view = replace(self._view, lanes=self._transfers.lanes(), **changes)  # type: ignore[arg-type]
        self._content.publish(self._view)

    def _publish(self, event: Event) -> None:
        self._publisher.publish(event, Scope(self._spec.asset))

    def _tell(self, name: str, command: Command) -> None:
        address = self._find(name)
        if address is not None:
            address.tell(command)
