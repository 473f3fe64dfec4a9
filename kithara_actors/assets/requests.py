"""The requests that have not ended, whoever works on them: what must not be forgotten when an actor begins anew."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum, auto

from kithara_actors.assets.hosts import HostTable
from kithara_actors.logic.suspicion import Suspicion
from kithara_actors.values import RequestId

__all__ = ["RequestTable", "Told"]


class Told(Enum):
    """Events that are told once for each request."""

    ENQUEUED = auto()
    STARTED = auto()
    SLOW = auto()
    END = auto()


@dataclass(slots=True)
class _Life:
    asset: int
    owner: str
    told: list[Told] = field(default_factory=list)
    started_at: float | None = None
    answered: int = 0
    stalled: int = 0
    waits: bool = False
    resumes: int = 0
    suspicion: Suspicion | None = None


class RequestTable:
    """Gives out ids, and knows of each request for whom it is and which of its events were told.

    Outlives every incarnation, so that no request is run twice or ends twice. Safe from any thread; never blocks for
    long. An id that was not given out here has not ended.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 1
        self._lives: dict[RequestId, _Life] = {}
        self.bytes = 0
        """Stored by the requests that have ended."""
        self.ended_count = 0
        self.hosts = HostTable()
        """Where they go to."""

    def create(self, asset: int, owner: str) -> RequestId:
        """A new request in the scope of `asset` (0: the system's), whose end the actor `owner` hears of."""
        with self._lock:
            request = RequestId(self._next)
            self._next += 1
            self._lives[request] = _Life(asset, owner)
        return request

    def ended(self, request: RequestId) -> bool:
        """Whether the request has ended; its owner was told so before."""
        with self._lock:
            return request < self._next and request not in self._lives

    def end(self, request: RequestId, landed: int = 0) -> None:
        """The request has ended, with so many bytes stored, and its owner was told."""
        with self._lock:
            if self._lives.pop(request, None) is not None:
                self.ended_count += 1
                self.bytes += landed

    def once(self, request: RequestId, told: Told) -> bool:
        """True the first time, and only then: the event may be told."""
        with self._lock:
            life = self._lives.get(request)
            if life is None:
                # Not given out here; or its end was told.
                return request >= self._next
            if told in life.told:
                return False
            life.told.append(told)
            return True

    def was(self, request: RequestId, told: Told) -> bool:
        """Whether the event was told of a request that has not ended."""
        with self._lock:
            life = self._lives.get(request)
            return life is not None and told in life.told

    def answered(self, request: RequestId, attempt: int) -> bool:
        """True the first time for each attempt, which are asked about in order."""
        with self._lock:
            life = self._lives.get(request)
            if life is None:
                return request >= self._next
            before, life.answered = life.answered, max(life.answered, attempt)
            return attempt > before

    def stalled(self, request: RequestId, attempt: int) -> bool:
        """The body of that attempt has stalled. True the first time for each attempt, which are told in order."""
        with self._lock:
            life = self._lives.get(request)
            if life is None or attempt <= life.stalled:
                return False
            life.stalled, life.waits = attempt, True
            return True

    def resumed(self, request: RequestId, attempt: int) -> int | None:
        """That attempt was answered: how often the body has gone on with it, if it had stalled before; else None."""
        with self._lock:
            life = self._lives.get(request)
            if life is None or not life.waits or attempt <= life.stalled:
                return None
            life.waits = False
            life.resumes += 1
            return life.resumes

    def suspicion(self, request: RequestId, since: int) -> Suspicion:
        """What lost workers say about the request, from the offset `since` on if nothing was known."""
        with self._lock:
            life = self._lives.get(request)
            if life is None:
                return Suspicion(since)
            if life.suspicion is None:
                life.suspicion = Suspicion(since)
            return life.suspicion

    def started(self, request: RequestId, now: float) -> float:
        """When the request first had a slot: `now`, unless that is known already."""
        with self._lock:
            life = self._lives.get(request)
            if life is None:
                return now
            if life.started_at is None:
                life.started_at = now
            return life.started_at

    def of(self, request: RequestId) -> tuple[int, str] | None:
        """Asset and owner; None once it has ended."""
        with self._lock:
            life = self._lives.get(request)
        return None if life is None else (life.asset, life.owner)

    def forget(self, request: RequestId) -> None:
        """The request was never asked for: nothing of it was told."""
        with self._lock:
            self._lives.pop(request, None)

    def __len__(self) -> int:
        with self._lock:
            return len(self._lives)
