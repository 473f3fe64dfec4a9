"""Who holds an asset: streams and prefetches that come and go in any order, with sources that are fed by hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actor_kit import CODEC, Published
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.memory.buffer import memory_file
from actors.messages.command import Command
from actors.testing.step import Probe
from kithara_actors.assets.content import Content, ContentTable, View
from kithara_actors.assets.requests import RequestTable
from kithara_actors.directory import Directory, OpenOptions
from kithara_actors.errors import Cancelled, Failure, StatusError
from kithara_actors.logic.prefetching import PrefetchLine
from kithara_actors.logic.ranges import Ranges
from kithara_actors.messages.commands import Attach, AttachPrefetch, Detach
from kithara_actors.messages.records import SourceSpec
from kithara_actors.messages.worker import head_of_present
from kithara_actors.stream.prefetch import Prefetch
from kithara_actors.stream.reader import Stream
from kithara_actors.stream.subscription import Subscribers
from kithara_actors.values import ContentId, Phase, Priority, StreamId

SIZE = 100
OPTIONS = OpenOptions("x", None, None, False, Priority.LOW, False, 1)
GONE = Failure("StatusError", "gone")
AT_ONCE, PER_ORIGIN = 3, 2


def spec(identity: str) -> SourceSpec:
    return SourceSpec(0, "", f"http://{identity[0]}/", identity[0], (), identity, "mp3", None, None)


class Timers:
    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def soon(self, call: Callable[[], object]) -> None:
        self.calls.append(call)


@dataclass
class Fetched:
    """A source: what it was told, and who held it last as far as that says."""

    name: str
    identity: str
    content: Content
    probe: Probe
    holders: set[StreamId] = field(default_factory=set)
    left: bool = False
    """Whether it was told that the last has gone."""

    def heed(self, command: Command) -> None:
        match command:
            case Attach(holder) | AttachPrefetch(holder):
                assert holder not in self.holders, "attached twice"
                self.holders.add(holder)
            case Detach(holder, last):
                assert not self.left, "told after the last has gone"
                assert holder in self.holders, "detached without having been attached"
                self.holders.remove(holder)
                assert last == (not self.holders)
                self.left = last


class Runtime:
    """Makes no actor, and keeps what each would be told."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.made: list[tuple[str, Probe]] = []

    def address(self, name: str) -> None:
        return None

    def spawn_source(self, name: str, make: Callable[[], Any]) -> Probe:
        self.made.append((name, Probe(name, CODEC)))
        return self.made[-1][1]


class Holders(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runtime = Runtime()
        self.contents = ContentTable()
        self.directory = Directory(
            self.runtime,  # type: ignore[arg-type]
            self.contents,
            Published(),
            Subscribers(),
            None,  # type: ignore[arg-type]
            RequestTable(),
            PrefetchLine(AT_ONCE, PER_ORIGIN),
        )
        self.sources: list[Fetched] = []
        self.ended: list[Fetched] = []
        self.streams: dict[Stream, str] = {}
        self.prefetches: dict[Prefetch, str] = {}

    def hear(self) -> None:
        """Take what the sources were told; those that are new are known from here on."""
        known = {each.name for each in self.sources + self.ended}
        for name, probe in self.runtime.made:
            if name not in known:
                entry = self.directory._by_name[name]
                self.sources.append(Fetched(name, entry.identity, entry.content, probe))
        for each in self.sources:
            for command in each.probe.take():
                each.heed(command)

    @rule(identity=st.sampled_from(["a1", "a2", "b1"]))
    def open(self, identity: str) -> None:
        self.streams[self.directory.open(spec(identity), identity, OPTIONS)] = identity
        self.hear()

    @rule(identity=st.sampled_from(["a1", "a2", "a3", "a4", "b1", "b2"]))
    def prefetch(self, identity: str) -> None:
        self.prefetches[self.directory.prefetch(spec(identity), identity, "x")] = identity
        self.hear()

    @rule(choice=st.integers(0, 20), stream=st.booleans(), cancel=st.booleans())
    def close(self, choice: int, stream: bool, cancel: bool) -> None:
        holders: dict[Any, str] = self.streams if stream else self.prefetches
        if not holders:
            return
        holder = list(holders)[choice % len(holders)]
        del holders[holder]
        if cancel:
            holder.cancel()
        holder.close()
        holder.close()
        self.hear()
        if isinstance(holder, Prefetch) and holder.phase is not Phase.COMPLETE:
            assert isinstance(holder.error, Cancelled if holder.phase is not Phase.FAILED else StatusError)

    @rule(choice=st.integers(0, 20), disk=st.booleans())
    @precondition(lambda self: bool(self.sources))
    def completes(self, choice: int, disk: bool) -> None:
        source = self.sources[choice % len(self.sources)]
        if source.content.view.phase is not Phase.INIT or source.left:
            return
        fd = memory_file("kithara-test")
        os.truncate(fd, SIZE)
        source.content.attach(fd, Path("/some/where") if disk else None)
        source.content.block.write_head(SIZE, 0, head_of_present(None))
        source.content.publish(View(phase=Phase.COMPLETE, coverage=Ranges().add(0, SIZE)))

    @rule(choice=st.integers(0, 20))
    @precondition(lambda self: bool(self.sources))
    def fails(self, choice: int) -> None:
        source = self.sources[choice % len(self.sources)]
        if source.content.view.phase is Phase.INIT:
            source.content.publish(View(phase=Phase.FAILED, failure=GONE))

    @rule(choice=st.integers(0, 20), by_itself=st.booleans())
    @precondition(lambda self: bool(self.sources))
    def ends(self, choice: int, by_itself: bool) -> None:
        """A source ends when it may; or from outside, at any time."""
        source = self.sources[choice % len(self.sources)]
        if not by_itself or source.left or source.content.view.phase is not Phase.INIT:
            self.end(source)

    def end(self, source: Fetched) -> None:
        self.sources.remove(source)
        self.ended.append(source)
        assert self.directory.source_ended(source.name, GONE)
        self.hear()

    @rule()
    def later(self) -> None:
        calls, self.runtime.timers.calls = self.runtime.timers.calls, []
        for call in calls:
            call()
        self.hear()

    @invariant()
    def every_holder_is_somewhere_once(self) -> None:
        for stream in self.streams:
            assert sum(stream._id in each.holders for each in self.sources + self.ended) <= 1
        for handle, identity in self.prefetches.items():
            at = [each for each in self.sources if handle.id in each.holders]
            waits = handle.id in self.directory._prefetches._line._by_handle
            over = handle.phase in (Phase.COMPLETE, Phase.FAILED)
            assert waits + len(at) == 1 or over, "lost"
            assert not (waits and [each for each in self.usable() if each.identity == identity]), "need not wait"

    def usable(self) -> list[Fetched]:
        return [each for each in self.sources if each.content.view.phase is Phase.INIT and not each.left]

    @invariant()
    def what_is_told_is_so(self) -> None:
        for handle in self.prefetches:
            failed = handle.phase is Phase.FAILED
            assert isinstance(handle.error, StatusError) == failed
            if not failed:
                assert handle.wait(0) == (handle.phase is Phase.COMPLETE)
                assert handle.buffered == (SIZE if handle.phase is Phase.COMPLETE else 0)

    @invariant()
    def one_download_for_each_asset(self) -> None:
        fetched = [each.identity for each in self.usable() if each.holders]
        assert len(fetched) == len(set(fetched))

    @invariant()
    def nobody_waits_for_a_place_that_is_free(self) -> None:
        if not self.runtime.timers.calls:
            line = self.directory._prefetches._line
            assert line.begun <= AT_ONCE
            waits = {self.prefetches[handle][0] for handle in self.prefetches if handle.id in line._by_handle}
            assert line.begun == AT_ONCE or all(line._taken[origin] == PER_ORIGIN for origin in waits)

    @invariant()
    def what_is_complete_in_memory_is_shared_as_long_as_a_prefetch_is_open(self) -> None:
        for handle, identity in self.prefetches.items():
            content = None if handle._bytes is None else handle._bytes.content
            if handle.phase is Phase.COMPLETE and content is not None and content.path is None:
                found = self.directory._usable(identity)
                assert found is not None

    def teardown(self) -> None:
        for holder in [*self.streams, *self.prefetches]:
            holder.close()
        self.hear()
        for _ in range(3):
            for source in list(self.sources):
                self.end(source)
            self.later()
        assert not self.sources
        assert len(self.contents) == 0
        assert not any(ContentId(number) in self.contents for number in range(50))
        line = self.directory._prefetches
        assert (len(line._line), line._line.begun, line._where, line._kept) == (0, 0, {}, {})
        assert all(each.content.fd == -1 and not each.content.retain() for each in self.ended), "still held"


TestHolders = Holders.TestCase
