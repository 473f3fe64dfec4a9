"""What the tests of the media actors share: requests, a publisher that keeps events, a pool that keeps frames."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from actors.actor.cell import Behaviour
from actors.messages.codec import Codec
from actors.testing.step import Neighbours, Probe, Step
from kithara_actors.actor.publisher import Publisher
from kithara_actors.actor.registry import Registry
from kithara_actors.assets.collecting import Waiting, WaitingTable
from kithara_actors.assets.requests import RequestTable
from kithara_actors.messages.commands import COMMANDS, Readmit, Readmitted, Recount, Recounted
from kithara_actors.messages.events import EVENT_CODEC, Event, Scope
from kithara_actors.messages.records import Collection, FetchSpec
from kithara_actors.values import ContentId, FetchKind, RequestId

__all__ = ["CODEC", "FakePool", "Published", "begin_call", "begun", "call_spec", "issued", "request_spec"]

CODEC = Codec(COMMANDS)


def request_spec(request: int = 1, **changes: Any) -> FetchSpec:
    """A demand fetch of `source-1` from byte 1000 on."""
    fields: dict[str, Any] = {
        "request": RequestId(request),
        "asset": 1,
        "peer": "source-1",
        "kind": FetchKind.DEMAND,
        "url": "http://one/file?token=secret",
        "origin": "http://one:80",
        "headers": (),
        "content": ContentId(1),
        "lane": 0,
        "generation": 1,
        "start": 1000,
        "end": None,
        "ranged": True,
        "total": None,
        "validator": None,
        "limit": None,
    }
    return FetchSpec(**{**fields, **changes})


def call_spec(request: int = 1, method: str = "GET", **changes: Any) -> FetchSpec:
    """A one-off request for all of the file, of at most 100 bytes."""
    fields: dict[str, Any] = {
        "asset": 0,
        "peer": f"call:{request}",
        "start": 0,
        "ranged": False,
        "limit": 100,
        "generation": 0,
        "collection": Collection("collector", method, False),
    }
    return request_spec(request, **{**fields, **changes})


def begin_call(table: WaitingTable, request: int = 1, **changes: Any) -> Waiting:
    """A caller that waits for what `call_spec` asks for."""
    return table.begin(lambda content: call_spec(request, content=content, **changes), threading.Event())


class Published(Publisher):
    """Keeps what was published, after a round trip, with its scope."""

    def __init__(self) -> None:
        self._kept: list[tuple[Event, Scope]] = []
        super().__init__(Probe("event_bus", CODEC), self)

    def take(self) -> list[Event]:
        """The events since the last call."""
        return [event for event, _ in self.take_with_scopes()]

    def take_with_scopes(self) -> list[tuple[Event, Scope]]:
        taken, self._kept = self._kept, []
        return taken

    @property
    def listening(self) -> bool:
        return True

    def add(self, event: Event, scope: Scope) -> bool:
        self._kept.append((EVENT_CODEC.decode(EVENT_CODEC.encode(event)), scope))
        return False


class FakePool:
    """Takes frames for the workers in `up`; refuses the others."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.up: set[int] = set()
        self.leaving: set[int] = set()
        self.sent: list[tuple[int, Any]] = []
        self.frames: Counter[int] = Counter()
        """How many each worker was sent."""
        self.descriptors: list[tuple[int, ...]] = []
        self.enlisted = 0
        self.discharged: list[int] = []

    def workers(self) -> dict[int, int]:
        return {worker: 4000 + worker for worker in self.up}

    def retiring(self) -> set[int]:
        return self.leaving

    def send(self, worker: int, frame: bytes, fds: Sequence[int] = ()) -> int:
        if worker not in self.up:
            return 0
        self.sent.append((worker, self._codec.decode(frame)))
        self.descriptors.append(tuple(fds))
        self.frames[worker] += 1
        return self.frames[worker]

    def enlist(self) -> None:
        self.enlisted += 1

    def discharge(self, worker: int) -> None:
        self.discharged.append(worker)

    def take(self) -> list[tuple[int, Any]]:
        """Worker and command of each frame since the last call."""
        taken, self.sent = self.sent, []
        return taken


def begun(behaviour: Behaviour, around: Neighbours) -> Step:
    """The actor on the caller's thread, after its neighbours have told it that there is nothing to go on with."""
    step = Step(behaviour, CODEC)
    if isinstance(behaviour, Registry):
        assert around["downloader"].take() == [Recount()]
        step.tell(Recounted(()))
    else:
        assert around["registry"].take() == [Readmit()]
        step.tell(Readmitted(()))
    return step


def issued() -> RequestTable:
    """A table that has given out the ids that the tests make up."""
    table = RequestTable()
    for _ in range(200):
        table.create(1, "source-1")
    return table
