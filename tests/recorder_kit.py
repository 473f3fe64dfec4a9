"""Traces made and read in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kithara_actors.logic.fetch import End, Ended, FetchBook, Run, Start
from kithara_actors.logic.replay import Difference, Replay
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.messages.frames import Frame
from kithara_actors.messages.records import FetchSpec
from kithara_actors.recorder import Recorder
from kithara_actors.traces import read_trace
from kithara_actors.values import ContentId, FetchKind, RequestId

__all__ = [
    "KIB",
    "SPEC",
    "Clock",
    "book",
    "end",
    "first_difference",
    "frames",
    "recorder",
    "replayed",
    "requests",
    "spec",
]

KIB = 1024
SPEC = FetchSpec(
    request=RequestId(1),
    asset=1,
    peer="source-1",
    kind=FetchKind.DEMAND,
    url="http://one/file",
    origin="http://one:80",
    headers=(),
    content=ContentId(1),
    lane=0,
    generation=1,
    start=0,
    end=None,
    ranged=True,
    total=None,
    validator=None,
    limit=None,
)


def spec(request: int, url: str = "http://one/file") -> FetchSpec:
    return FetchSpec(
        **{name: getattr(SPEC, name) for name in FetchSpec.__slots__} | {"request": RequestId(request), "url": url}
    )


def book() -> FetchBook:
    return FetchBook(RetryPolicy())


def requests(machine: FetchBook, numbers: range, url: str = "http://one/file") -> None:
    """Requests that begin and end, one after the other: two events each."""
    for number in numbers:
        _, run = machine.handle(Start(spec(number, url)), 0.5)
        assert isinstance(run, Run)
        (end,) = machine.handle(Ended(RequestId(number), run.attempt, 10, complete=True), 0.5)
        assert isinstance(end, End)


def end(machine: FetchBook, number: int) -> None:
    """Of a request that is under way."""
    run = next(life.attempt for request, life in machine._lives.items() if request == number)
    machine.handle(Ended(RequestId(number), run, 10, complete=True), 0.5)


class Clock:
    """Shows what it is told to; with `step`, so much more each time."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 100.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def recorder(path: Path, size: int = 256 * KIB, **how: Any) -> Recorder:
    """Small enough for a few laps."""
    return Recorder(path, size=size, **how)


def frames(path: Path) -> list[Frame]:
    """Of a trace without damage."""
    trace = read_trace(path)
    assert trace.damage == []
    return list(trace)


def first_difference(path: Path) -> tuple[Difference | None, Replay]:
    """Replays up to there."""
    replay = Replay()
    for frame in frames(path):
        found = replay.take(frame)
        if found is not None:
            return found, replay
    return None, replay


def replayed(path: Path) -> Replay:
    """Replays all, which has to lead to the same decisions."""
    found, replay = first_difference(path)
    assert found is None, found
    return replay
