"""Plays every format from nginx at 2 Mbit/s, all side by side, and notes what came of it and what it cost."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import miniaudio
from formats import FORMATS, PYAV_JOBS, Format
from formats_jobs import JOBS, MINIAUDIO, Counted, FileSource
from nginx_server import NginxServer

from kithara_actors import ActorSystem
from kithara_actors.adapters import as_miniaudio
from kithara_actors.assets.content import Content
from kithara_actors.events import (
    CacheComplete,
    Event,
    FirstByte,
    RequestCancelled,
    RequestCompleted,
    RequestEnqueued,
    RequestFailed,
    RequestRetrying,
)
from kithara_actors.logic.ranges import Ranges
from kithara_actors.stream.reader import Stream

__all__ = ["Begun", "Run", "Runs", "play_all"]

_LIMIT = 60.0
"""Seconds after which a read is called a hang."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The moment of the first sample: bytes that had landed, and what the decoder had called."""

    landed: int
    reads: int
    read: int
    seeks: int


@dataclass(frozen=True, slots=True)
class Run:
    """What one job found, and what its stream cost.

    `found` is what the same job on the file itself gives too. `begun` is None for jobs that do not tell.
    `events` are the stream's, all of them but for "first", which is closed early; `sent` are the body bytes that
    nginx sent for it, in all its answers.
    """

    found: Any
    size: int
    begun: Begun | None
    events: list[Event] = field(repr=False)
    sent: int

    @property
    def requests(self) -> list[tuple[int, int]]:
        """The ranges asked for, in order."""
        return [
            (event.start, self.size if event.end is None else event.end)
            for event in self.events
            if isinstance(event, RequestEnqueued)
        ]

    @property
    def troubles(self) -> list[Event]:
        return [event for event in self.events if isinstance(event, RequestFailed | RequestRetrying)]

    @property
    def asked_again(self) -> list[tuple[int, int]]:
        """Requests for a byte that an earlier request had brought before they were made."""
        begun: dict[int, int] = {}
        present = Ranges()
        found = []
        for event in self.events:
            match event:
                case RequestEnqueued(request_id=request, start=start, end=end):
                    stop = self.size if end is None else end
                    if not _inside(present, start, stop):
                        found.append((start, stop))
                    begun[request] = start
                case (
                    RequestCompleted(request_id=request, bytes=count)
                    | RequestCancelled(request_id=request, bytes=count)
                ):
                    present = present.add(begun[request], begun[request] + count)
        return found

    @property
    def brought(self) -> int:
        """Bytes that all requests together brought."""
        return sum(event.bytes for event in self.events if isinstance(event, RequestCompleted | RequestCancelled))


def _inside(present: Ranges, start: int, end: int) -> bool:
    """Whether `start..end` is missing entirely."""
    following = present.next_start(start)
    return present.covered_end(start) == start and (following is None or end <= following)


class Runs:
    """Results by format and job, each as it ended: what failed raises its error when asked for."""

    def __init__(self, paths: Mapping[str, Path], runs: Mapping[tuple[str, str], Future[Run]]) -> None:
        self.paths = paths
        self._runs = runs
        self._expected: dict[tuple[str, str], Any] = {}

    def of(self, each: Format, job: str) -> Run:
        """What `job` gave with the stream."""
        return self._runs[each.name, job].result(0)

    def expected(self, each: Format, job: str) -> Any:
        """What `job` gives with the file itself, opened with `open(path, "rb")`."""
        key = (each.name, "memory" if job == "disk" else job)
        if key not in self._expected:
            with self.paths[each.name].open("rb") as file:
                source: Any = file
                if job in PYAV_JOBS:
                    source = Counted(file)
                elif job == "miniaudio":
                    source = FileSource(file, miniaudio.FileFormat[MINIAUDIO[each.name]])
                self._expected[key] = JOBS[job](each, source)
        return self._expected[key]


def play_all(server: NginxServer, paths: Mapping[str, Path], cache: Path) -> Runs:
    """Publish the files and run all jobs; blocks for about as long as the longest file takes to arrive, twice."""
    for path in paths.values():
        shutil.copyfile(path, server.root / path.name)
    runs: dict[tuple[str, str], Future[Run]] = {}
    everything: dict[str, Any] = {
        "max_concurrent": 256,
        "max_per_host": 256,
        "event_capacity": 100_000,
        "read_timeout": _LIMIT,
    }
    with (
        ActorSystem.start(**everything) as memory,
        ActorSystem.start(cache_dir=cache, **everything) as disk,
        ThreadPoolExecutor(len(JOBS) * len(FORMATS)) as threads,
    ):

        def submit(each: Format, job: str) -> None:
            system = disk if job == "disk" else memory
            runs[each.name, job] = threads.submit(_run, system, server, each, job)

        # First and alone, so that what has landed when the first sample comes is not a matter of this machine's load.
        for each in FORMATS:
            if "first" in each.jobs:
                submit(each, "first")
        wait(runs.values())
        for each in FORMATS:
            for job in each.jobs:
                if job != "first":
                    submit(each, job)
    return Runs(paths, runs)


def _run(system: ActorSystem, server: NginxServer, each: Format, job: str) -> Run:
    url = server.slow_url(f"{each.file}?{job}")
    begun: list[Begun] = []
    with system.open(url, subscribe=True) as stream:
        assert stream.events is not None
        source: Any = stream
        if job == "miniaudio":
            source = as_miniaudio(stream)
            assert source.format is miniaudio.FileFormat[MINIAUDIO[each.name]]
        elif job in PYAV_JOBS:
            source = counted = Counted(stream)
            counted.begun = lambda: begun.append(Begun(_landed(stream), counted.reads, counted.bytes, counted.seeks))
        found = JOBS[job](each, source)
        stream.raise_for_error()
        events: list[Event] = []
        if job != "first":
            assert stream.wait_complete(_LIMIT)
            # A closed stream hears nothing of how its requests ended.
            while not _all_ended(events):
                envelope = stream.events.get(_LIMIT)
                assert envelope is not None, "a request does not end"
                events.append(envelope.event)
        size, subscription = stream.length or 0, stream.events
    events += [envelope.event for envelope in subscription]
    answered = sum(isinstance(event, FirstByte) for event in events)
    log = server.log("/" + url.removeprefix(server.url("")), at_least=answered)
    return Run(found, size, begun[0] if begun else None, events, sum(line.body_bytes for line in log))


def _all_ended(events: list[Event]) -> bool:
    """Whether the file is complete and every request for it has ended."""
    ends = sum(isinstance(event, RequestCompleted | RequestCancelled | RequestFailed) for event in events)
    begun = sum(isinstance(event, RequestEnqueued) for event in events)
    return ends == begun and any(isinstance(event, CacheComplete) for event in events)


def _landed(stream: Stream) -> int:
    """Bytes that are there, wherever in the file."""

    def count(content: Content) -> int:
        starts = [start for start, _ in content.view.coverage] + [lane.start for lane in content.view.lanes]
        return Ranges.from_pairs((start, content.available(start)) for start in starts).total_bytes

    return stream._bytes.using(count)
