"""Which source serves which asset, and which stream reads from it. Open and close meet here, under one lock."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from actors.actor.system import Runtime
from actors.messages.command import Command
from kithara_actors.actor.publisher import Publisher
from kithara_actors.actor.source import Source
from kithara_actors.assets.content import ContentTable, View
from kithara_actors.assets.requests import RequestTable
from kithara_actors.entries import Entry, OpenOptions
from kithara_actors.errors import Failure, SystemStopped
from kithara_actors.forks import watch_forks
from kithara_actors.logic.demand import Plan, Situation, plan
from kithara_actors.logic.prefetching import PrefetchLine
from kithara_actors.logic.ranges import Ranges
from kithara_actors.messages.commands import (
    Attach,
    AttachPrefetch,
    CancelFetch,
    Detach,
    PeerGone,
    ReaderAt,
    ReleaseAsset,
    SetPlaying,
)
from kithara_actors.messages.events import Envelope, Event, FileError, Scope
from kithara_actors.messages.records import SourceSpec
from kithara_actors.messages.worker import head_of_present
from kithara_actors.prefetching import Prefetches
from kithara_actors.stream.link import Parser
from kithara_actors.stream.prefetch import Prefetch
from kithara_actors.stream.reader import Stream
from kithara_actors.stream.subscription import Subscribers, Subscription, check_callback, deliver_to
from kithara_actors.values import CancelReason, Phase, Priority, StreamId

__all__ = ["Directory"]


class Directory:
    """Opens and closes streams. Safe from any thread; nothing here blocks on an actor."""

    def __init__(
        self,
        runtime: Runtime,
        contents: ContentTable,
        publisher: Publisher,
        subscribers: Subscribers,
        parsing: Parser,
        requests: RequestTable,
        line: PrefetchLine,
    ) -> None:
        """`line` says which prefetches are fetched, and which wait for their turn."""
        self.parsing = parsing
        self.planner: Callable[[str], Callable[[Situation], Plan]] = lambda _: plan
        """What decides what the sources fetch, each by its name; as each of their incarnations begins."""
        self._runtime = runtime
        self._contents = contents
        self._publisher = publisher
        self.subscribers = subscribers
        # Never taken by a finalizer: streams that are collected are closed on the timer thread.
        self._lock = threading.Lock()
        self._sources: dict[str, Entry] = {}
        self._by_name: dict[str, Entry] = {}
        self._streams: weakref.WeakValueDictionary[StreamId, Stream] = weakref.WeakValueDictionary()
        self._assets = itertools.count(1)
        self._stream_ids = itertools.count(1)
        self._prefetches = Prefetches(line, self._new_source, self._link_prefetch)
        self._requests = requests
        self._closed: Failure | None = None
        watch_forks(self)

    def open(self, spec: SourceSpec, identity: str, options: OpenOptions) -> Stream:
        """A stream of the asset `identity`, on the source that fetches it already or on a new one.

        `spec` needs no asset number and no name. Raises SystemStopped, OSError (EMFILE), RuntimeError (no thread).
        """
        with self._lock:
            entry = self._usable(identity)
            if entry is None:
                entry = self._new_source(spec, identity)
                self._prefetches.join_all(identity, entry)
            complete = entry.current().view.phase is Phase.COMPLETE
            stream = self._new_stream(entry, options)
        if complete:
            stream.announce()
        return stream

    def prefetch(self, spec: SourceSpec, identity: str, name: str) -> Prefetch:
        """A handle for the asset `identity`, which is fetched when its turn comes. Raises SystemStopped."""
        with self._lock:
            self._check_running()
            handle = Prefetch(StreamId(next(self._stream_ids)), name, self._leave, self._runtime.timers.soon)
            self._prefetches.add(handle, spec, identity, self._usable(identity))
        return handle

    def prefetch_file(self, path: Path) -> Prefetch:
        """A handle for the file at `path`, where there is nothing to do. Raises what `open_file` does."""
        with self.open_file(path, OpenOptions(str(path), None, None, False, Priority.LOW, False, 1)) as stream:
            handle = Prefetch(StreamId(next(self._stream_ids)), str(path), lambda _: None, lambda _: None)
            handle.found(stream.length or 0)
        return handle

    def _usable(self, identity: str) -> Entry | None:
        """The entry of an asset that is being fetched, or is complete and kept by a prefetch."""
        entry = self._sources.get(identity)
        kept = self._prefetches.kept(identity, entry)
        if kept is not None or entry is None:
            return kept
        return None if entry.current().view.phase in (Phase.FAILED, Phase.COMPLETE) else entry

    def open_file(self, path: Path, options: OpenOptions) -> Stream:
        """A stream of the file at `path`, which has nothing to wait for.

        Raises OSError (FileNotFoundError, IsADirectoryError, PermissionError, EMFILE), ValueError for what is not a
        regular file, SystemStopped.
        """
        self._check_running()
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{path} is not a regular file")
            content = self._contents.create()
        except BaseException:
            os.close(fd)
            raise
        try:
            content.attach(fd, path)
            content.block.write_head(status.st_size, 0, head_of_present(None))
            content.publish(View(phase=Phase.COMPLETE, coverage=Ranges().add(0, status.st_size)))
            with self._lock:
                stream = self._new_stream(Entry(next(self._assets), "", None, content), options)
        finally:
            self._contents.discard(content)  # the stream holds it
        stream.announce()
        return stream

    def subscribe_to_all(self, capacity: int, callback: Callable[[Envelope], object] | None) -> Subscription:
        """Events of every scope from here on."""
        return self.subscribe(Scope(), capacity, callback)

    def subscribe(self, scope: Scope, capacity: int, callback: Callable[[Envelope], object] | None) -> Subscription:
        """Events of `scope` from here on."""
        check_callback(callback)
        subscription = self.subscribers.create(scope, capacity)
        if callback is not None:
            deliver_to(subscription, callback)
        return subscription

    def source_ended(self, name: str, failure: Failure) -> bool:
        """A source has ended. Whoever still waits for it gets `failure`, and what it held is let go; False if `name`
        is no source."""
        with self._lock:
            entry = self._by_name.pop(name, None)
            if entry is not None and self._sources.get(entry.identity) is entry:
                del self._sources[entry.identity]
        if entry is None:
            return False
        content = entry.current()
        view = content.view
        if view.phase not in (Phase.COMPLETE, Phase.FAILED) and not entry.over:
            content.publish(replace(view, phase=Phase.FAILED, lanes=(), failure=failure))
            self._publisher.publish(FileError(failure), Scope(entry.asset))
        for lane in view.lanes:
            # Left by one that could not end them itself.
            self._tell("registry", CancelFetch(lane.spec.request, lane.cut or CancelReason.PEER_CANCEL))
        self._tell("registry", PeerGone(name))
        # In this order: a store that begins anew drops what is known to nobody.
        with self._lock:
            left = self._prefetches.ended(entry)
            for handle in left:
                entry.links.pop(handle.id, None)
        for handle in left:
            handle.settle()
        self._contents.discard(content)
        self._tell("asset_store", ReleaseAsset(content.id, name))
        self._runtime.timers.soon(self._begin_prefetches)
        return True

    def _begin_prefetches(self) -> None:
        with self._lock:
            if self._closed is None:
                self._prefetches.begin()

    def _tell(self, name: str, command: Command) -> None:
        address = self._runtime.address(name)
        if address is not None:
            address.tell(command)

    def close(self, failure: Failure) -> None:
        """Open nothing any more."""
        with self._lock:
            self._closed = failure

    def end_streams(self, failure: Failure) -> None:
        """Make every stream raise `failure`, and free their descriptors as their readers leave."""
        with self._lock:
            opened: list[Stream | Prefetch] = [*self._streams.values(), *self._prefetches.handles()]
        for each in opened:
            each.stop(failure)

    def forked(self, failure: Failure) -> None:
        """In the child of a fork: what is open raises `failure`. Takes no lock, for its holder may not be here."""
        self._lock = threading.Lock()
        self._closed = failure
        for entry in self._by_name.values():
            entry.address = None  # nobody is there, and the mailbox may be locked
        for stream in list(self._streams.values()):
            stream.forked(failure)
        for handle in self._prefetches.handles():
            handle.forked(failure)
        self.subscribers.forked()

    @property
    def open_streams(self) -> int:
        with self._lock:
            return sum(1 for stream in self._streams.values() if not stream.closed)

    @property
    def prefetches(self) -> tuple[int, int, int]:
        """See `Prefetches.counts`."""
        with self._lock:
            return self._prefetches.counts

    def detach(self, entry: Entry, stream: StreamId) -> None:
        """A stream or a prefetch was closed."""
        with self._lock:
            self._streams.pop(stream, None)
            del entry.links[stream]
            self._prefetches.left(stream, entry)
            entry.over = last = not entry.links
            if last and self._sources.get(entry.identity) is entry:
                del self._sources[entry.identity]
        if entry.address is not None:
            entry.address.tell(Detach(stream, last))

    def _leave(self, handle: StreamId) -> None:
        """A prefetch was closed."""
        with self._lock:
            entry = self._prefetches.leave(handle)
        if entry is not None:
            self.detach(entry, handle)

    def _link_prefetch(self, entry: Entry, handle: StreamId) -> _StreamLink:
        attach = AttachPrefetch(handle)
        link = entry.links[handle] = _StreamLink(self, entry, self._publisher, self._runtime, 1, attach)
        link.tell(attach)
        return link

    def _standing(self, entry: Entry) -> list[Command] | None:
        """What the streams of an entry want, for its source to know; None when the last was closed."""
        with self._lock:
            return None if entry.over else [command for link in entry.links.values() for command in link.standing()]

    def _check_running(self) -> None:
        if self._closed is not None:
            raise SystemStopped(self._closed.text)

    def _new_source(self, spec: SourceSpec, identity: str) -> Entry:
        self._check_running()
        asset = next(self._assets)
        spec = replace(spec, asset=asset, name=f"source-{asset}")
        entry = Entry(asset, identity, None, self._contents.create())

        def make() -> Source:
            return Source(
                spec,
                entry.current(),
                self._contents,
                self._runtime.address,
                self._publisher,
                lambda: self._requests.create(asset, spec.name),
                lambda: self._standing(entry),
                self.planner(spec.name),
            )

        self._by_name[spec.name] = entry
        try:
            entry.address = self._runtime.spawn_source(spec.name, make)
        except BaseException:
            del self._by_name[spec.name]
            self._contents.discard(entry.content)
            raise
        self._sources[identity] = entry
        return entry

    def _new_stream(self, entry: Entry, options: OpenOptions) -> Stream:
        self._check_running()
        stream_id = StreamId(next(self._stream_ids))
        attach = Attach(stream_id, options.look_ahead, options.priority)
        link = _StreamLink(self, entry, self._publisher, self._runtime, options.event_capacity, attach)
        events = None
        if options.subscribe:
            events = link.subscribe(stream_id, None, None)
        content = entry.current()
        held = content.retain()
        assert held, "the entry of an asset in use holds its content"
        stream = Stream(
            stream_id,
            content,
            link,
            options.name,
            look_ahead=options.look_ahead,
            read_timeout=options.read_timeout,
            wait_for_length=options.wait_for_length,
            events=events,
        )
        entry.links[stream_id] = link
        self._streams[stream_id] = stream
        if entry.address is not None:
            entry.address.tell(attach)
        return stream


class _StreamLink:
    """`Link` for the streams of one entry."""

    def __init__(
        self,
        directory: Directory,
        entry: Entry,
        publisher: Publisher,
        runtime: Runtime,
        capacity: int,
        attach: Attach | AttachPrefetch,
    ) -> None:
        self._directory = directory
        self._entry = entry
        self._publisher = publisher
        self._runtime = runtime
        self._capacity = capacity
        self._attach = attach
        self._playing: SetPlaying | None = None
        self._at: ReaderAt | None = None

    def standing(self) -> list[Command]:
        """What a Source has to know of the stream, as far as nobody is blocked; who is says so again by itself."""
        told = (self._attach, self._playing, self._at)
        return [command for command in told if command is not None]

    def tell(self, command: Command) -> None:
        match command:
            case SetPlaying(implied=implied):
                if not implied or self._playing is None:
                    self._playing = command
            case ReaderAt(stream, position):
                self._at = ReaderAt(stream, position, None)
        if self._entry.address is not None:
            self._entry.address.tell(command)

    def detach(self, stream: StreamId) -> None:
        self._directory.detach(self._entry, stream)

    def soon(self, call: Callable[[], object]) -> None:
        self._runtime.timers.soon(call)

    def publish(self, stream: StreamId, event: Event) -> None:
        self._publisher.publish(event, Scope(self._entry.asset, stream))

    @property
    def parsing(self) -> Parser:
        return self._directory.parsing

    @property
    def listening(self) -> bool:
        return self._publisher.listening

    def subscribe(
        self, stream: StreamId, capacity: int | None, callback: Callable[[Envelope], object] | None
    ) -> Subscription:
        scope = Scope(self._entry.asset, stream)
        return self._directory.subscribe(scope, self._capacity if capacity is None else capacity, callback)

    def unsubscribe(self, stream: StreamId) -> None:
        self._directory.subscribers.finish(Scope(self._entry.asset, stream))
