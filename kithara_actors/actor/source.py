"""One asset being fetched, however many read it: what is there, what is wanted, what it is.

The bookkeeping is here; the bytes and the progress words are in the `Content`, where readers look for themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from actors.actor.address import Address
from actors.actor.cell import Behaviour, StopSelf
from actors.messages.command import Command
from kithara_actors.actor.publisher import Publisher
from kithara_actors.assets.content import Content, ContentTable, View
from kithara_actors.assets.record import Record, answer_of_head, request_for
from kithara_actors.assets.situation import situation_of
from kithara_actors.assets.transfers import Transfers
from kithara_actors.errors import Failure
from kithara_actors.logic.audience import Audience
from kithara_actors.logic.demand import Plan, Situation, Want, plan
from kithara_actors.logic.file_state import FileEvent, next_phase
from kithara_actors.media.info import detect
from kithara_actors.messages.commands import (
    AcquireAsset,
    Announce,
    AssetCommitted,
    AssetReady,
    AssetRefused,
    CancelFetch,
    CommitAsset,
    Detach,
    Fetch,
    FetchCancelled,
    FetchDone,
    FetchFailed,
    FetchHeaders,
    FetchOver,
    ReleaseAsset,
    SetPriority,
)
from kithara_actors.messages.events import CacheComplete, Committed, Event, FileError, Opened, Scope, TotalBytesResolved
from kithara_actors.messages.records import SourceSpec
from kithara_actors.messages.worker import head_of_present
from kithara_actors.values import CancelReason, Phase, Priority, RequestId

__all__ = ["Source"]

_CHANGES = 5


class Source(Behaviour):
    """Fetches one asset for its streams and publishes what is there as views of the content.

    All that the next incarnation needs is in the content: the view, the record, the progress words.
    """

    def __init__(
        self,
        spec: SourceSpec,
        content: Content,
        contents: ContentTable,
        find: Callable[[str], Address | None],
        publisher: Publisher,
        next_request: Callable[[], RequestId],
        standing: Callable[[], Sequence[Command] | None],
        plan: Callable[[Situation], Plan] = plan,
    ) -> None:
        """`standing` tells what the streams that are open want, None when the last of them has been closed."""
        self._plan = plan
        self._spec = spec
        self._content = content
        self._contents = contents
        self._find = find
        self._publisher = publisher
        self._next_request = next_request
        self._standing = standing
        self._audience = Audience()
        self._priority = Priority.LOW
        self._ready = self._leaving = self._halted = False
        self._record = content.record
        self._view = content.view
        self._transfers = Transfers(content.block, content.view.lanes)

    def on_start(self) -> None:
        standing = self._standing()
        parked = self._record.parked
        for command in standing or ():
            self._heed(command)
        self._note(parked=parked)  # nobody lacks anything that was not lacked before
        if standing is None:
            self._leave()
        self._show(incarnation=self._view.incarnation + 1)
        if self._view.incarnation > 1:
            self._priority = self._audience.priority
            self._tell("registry", SetPriority(self._spec.name, self._priority))
            self._learn()
            self._announce("registry")
            self._tell(self._spec.name, Announce(self._spec.name))
        self._announce("asset_store")

    def handle(self, command: Command) -> None:
        match command:
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
            case FetchDone() | FetchFailed() | FetchCancelled() | FetchOver():
                self._fetch_over(command)
            case Announce(to):
                self._announce(to)
            case _:
                self._heed(command)
        self._update_priority()
        self._act()

    def _heed(self, command: Command) -> None:
        """What a stream says."""
        if self._audience.heed(command) and self._record.parked:
            self._note(parked=False)
        if isinstance(command, Detach) and command.last:
            self._leave()

    # --- Beginning anew

    def _announce(self, to: str) -> None:
        """Say what is wanted of a neighbour that may not know it, or know it no more."""
        match to:
            case "registry":
                if self._priority is not Priority.LOW:
                    self._tell("registry", SetPriority(self._spec.name, self._priority))
                for lane in self._transfers.lanes():
                    self._tell("registry", Fetch(lane.spec))
                    if lane.cut is not None:
                        self._tell("registry", CancelFetch(lane.spec.request, lane.cut))
            case "asset_store":
                if self._record.failing is not None and self._view.phase is not Phase.FAILED:
                    self._tell("asset_store", ReleaseAsset(self._content.id, self._spec.name))
                elif self._view.phase not in (Phase.FAILED, Phase.COMPLETE):
                    self._acquire()
                    if self._record.committing:
                        self._commit()

    def _learn(self) -> None:
        """Take an answer that was not told here from the progress block."""
        lanes = self._transfers.lanes()
        if self._record.first is None and lanes and self._content.block.has_head:
            self._headers(answer_of_head(lanes[0], self._content.answer(), self._content.length))

    # --- The asset

    def _acquire(self) -> None:
        spec = self._spec
        self._tell("asset_store", AcquireAsset(self._content.id, spec.name, spec.key, spec.extension, spec.target))

    def _asset_ready(self, ready: AssetReady) -> None:
        if ready.content != self._content.id:
            return
        self._ready = True
        if ready.length is None or self._leaving:
            return
        if self._view.phase is not Phase.INIT:
            return  # told again
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
        if length is None or self._view.phase is not Phase.DOWNLOADING:
            return  # told again
        self._publish_opened()
        self._publish(Committed(self._spec.key, length))
        self._publish(CacheComplete(length))
        self._show(phase=next_phase(self._view.phase, FileEvent.COMMITTED, self._spec.asset))

    def _fail(self, failure: Failure) -> None:
        """The asset is over: readers get `failure` at every read, and nothing of it is kept."""
        if self._record.failing is not None or self._view.phase in (Phase.FAILED, Phase.COMPLETE):
            return
        self._note(failing=failure)
        for request in self._transfers.requests():
            self._cut(request, CancelReason.PEER_CANCEL)
        if self._ready:
            # What is stored goes first: who hears of the error finds nothing of it.
            self._tell("asset_store", ReleaseAsset(self._content.id, self._spec.name))
        else:
            self._show_failure(failure)

    def _refused(self, failure: Failure) -> None:
        """The store holds nothing of this content: by its own decision, or because it was asked to drop it."""
        if self._record.failing is None:
            self._fail(failure)
        elif self._view.phase is not Phase.FAILED:
            self._show_failure(self._record.failing)

    def _show_failure(self, failure: Failure) -> None:
        self._show(phase=next_phase(self._view.phase, FileEvent.FAILED, self._spec.asset), failure=failure)
        self._publish(FileError(failure))

    def _start_over(self, failure: Failure) -> None:
        """Another representation is there now: a new content takes the old one's place, for those who can move."""
        changes = self._record.changes + 1
        if changes > _CHANGES:
            self._fail(failure)
            return
        old = self._content
        for request in self._transfers.requests():
            self._cut(request, CancelReason.EPOCH_CANCEL)
        view = View(
            phase=next_phase(self._view.phase, FileEvent.CHANGED, self._spec.asset),
            incarnation=self._view.incarnation,
        )
        self._content = self._contents.create()
        self._content.record = self._record = Record(changes=changes)
        self._view = view
        self._transfers = Transfers(self._content.block)
        self._ready = False
        self._show()
        self._audience.rewind()
        # Readers look for a successor before they look for bytes, and the old view names none of the new ones.
        old.replace_by(self._content)
        self._contents.discard(old)
        self._tell("asset_store", ReleaseAsset(old.id, self._spec.name))
        self._acquire()

    def _leave(self) -> None:
        self._leaving = True
        for request in self._transfers.requests():
            self._cut(request, CancelReason.PEER_CANCEL)

    # --- Requests

    def _headers(self, headers: FetchHeaders) -> None:
        if headers.request not in self._transfers or self._view.phase is Phase.FAILED:
            return
        self._note(latest=headers)
        if headers.end is not None:
            self._transfers.announced(headers.request, headers.end)
        if self._record.first is None:
            self._note(first=headers)
            if headers.total is not None:
                self._tell_length(headers.total)
        self._show(phase=next_phase(self._view.phase, FileEvent.ANSWERED, self._spec.asset))
        self._publish_opened()

    def _tell_length(self, total: int) -> None:
        if not self._record.length_told:
            self._note(length_told=True)
            self._publish(TotalBytesResolved(total, "content_length"))

    def _publish_opened(self) -> None:
        first = self._record.first
        if not self._record.opened_told and first is not None:
            self._note(opened_told=True)
            info = detect(first.content_type, self._content.first_bytes())
            self._publish(Opened(info, self._content.length, cached=False))

    def _fetch_over(self, end: FetchDone | FetchFailed | FetchCancelled | FetchOver) -> None:
        lane = self._transfers.close(end.request)
        if lane is None:
            return  # of a content that was replaced
        reached = self._transfers.landed(lane)
        if isinstance(end, FetchDone | FetchFailed):
            reached = end.end
        if reached > lane.start:
            # Merged before the lane goes, so that no reader finds the bytes in neither.
            self._show(coverage=self._view.coverage.add(lane.start, reached))
        self._show()
        match end:
            case FetchDone(_, _, total):
                if total is not None:
                    self._tell_length(total)
            case FetchFailed(_, _, gave_up, failure):
                if failure.kind == "ResourceChanged" and not self._leaving:
                    self._start_over(failure)
                elif not gave_up or self._audience.unread:
                    # Nobody will come to ask again for what was prefetched.
                    self._fail(failure)
                else:
                    self._park(failure, (reached, lane.end) if self._record.first is not None else (0, None))
            case FetchCancelled():
                # Not by us: the system ends its requests, and would end every one that followed.
                self._halted = self._halted or lane.cut is None

    def _park(self, failure: Failure, unreached: tuple[int, int | None]) -> None:
        """The budget is spent: who waits is told; the next read of a missing byte starts with a new budget."""
        self._audience.gave_up(self._transfers.present(self._view.coverage), unreached)
        self._note(parked=True)
        self._show(setback=failure, setbacks=self._view.setbacks + 1, unreached=unreached)

    def _act(self) -> None:
        """Bring what runs in line with what is wanted."""
        if self._leaving or self._view.phase in (Phase.FAILED, Phase.COMPLETE):
            # The content says all that readers need from here on.
            if not self._transfers:
                raise StopSelf
            return
        if self._ready and self._record.failing is None and not self._halted and not self._commit_if_complete():
            now = situation_of(self._content, self._transfers, self._audience)
            if now is not None:
                self._carry_out(self._plan(now))

    def _carry_out(self, todo: Plan) -> None:
        for request in todo.cut:
            self._cut(request, CancelReason.EPOCH_CANCEL)
        for request, kind in todo.raised:
            spec = self._transfers.reclassify(request, kind)
            self._show()
            self._tell("registry", Fetch(spec))
        for want in todo.start:
            self._begin(want)

    def _begin(self, want: Want) -> None:
        if self._transfers.full:
            return  # the next end asks again
        spec = request_for(self._spec, self._content, want, self._next_request(), self._transfers.free())
        self._transfers.open(spec)
        self._show()
        self._tell("registry", Fetch(spec))

    def _cut(self, request: RequestId, reason: CancelReason) -> None:
        self._transfers.cut(request, reason)
        self._show()
        self._tell("registry", CancelFetch(request, reason))

    def _commit_if_complete(self) -> bool:
        total = self._content.length
        if self._record.committing:
            return True
        if self._record.first is None or total is None or self._transfers:
            return False
        if not self._view.coverage.covers(0, total):
            return False
        try:
            os.fdatasync(self._content.fd)
        except OSError as error:
            self._fail(Failure("StorageFull", f"the file could not be made durable: {error.strerror}"))
            return True
        self._note(committing=True)
        self._commit()
        return True

    def _commit(self) -> None:
        total, first = self._content.length, self._record.first
        assert total is not None
        assert first is not None
        self._tell("asset_store", CommitAsset(self._content.id, total, first.content_type))

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

    def _note(self, **changes: object) -> None:
        self._record = self._content.record = replace(self._record, **changes)  # type: ignore[arg-type]

    def _publish(self, event: Event) -> None:
        self._publisher.publish(event, Scope(self._spec.asset))

    def _tell(self, name: str, command: Command) -> None:
        address = self._find(name)
        if address is not None:
            address.tell(command)
