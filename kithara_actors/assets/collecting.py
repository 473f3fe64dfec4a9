"""One-off requests whose callers wait: where each answer lands, and the bell that tells its caller of the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from kithara_actors.assets.content import ContentTable, Landing
from kithara_actors.errors import Failure, restore
from kithara_actors.messages.records import FetchSpec
from kithara_actors.messages.to_collector import CollectedHead
from kithara_actors.values import ContentId, RequestId

__all__ = ["Bell", "Waiting", "WaitingTable", "abandoned"]


class Bell(Protocol):
    """What tells a caller of the end, such as a `threading.Event`."""

    def set(self) -> None:
        """It has ended. Called once, on any thread; must not block."""

    def is_set(self) -> bool:
        """Whether it has."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One request and what came of it, which is certain once `ended` is set.

    `size` is how many bytes of the content are the body, `failure` is None after success. `abandoned`: the caller has
    gone, and the request is to end.
    """

    spec: FetchSpec
    content: Landing
    ended: Bell
    head: CollectedHead | None = None
    size: int = 0
    failure: Failure | None = None
    abandoned: bool = False


def abandoned(waiting: Waiting) -> RequestId:
    """`WaitingTable.abandon` without its lock, for finalizers.

    Should the request be renewed at this moment, `renew` sees the mark or this the new id.
    """
    waiting.abandoned = True
    return waiting.spec.request


class WaitingTable:
    """The requests that have not ended. Safe from any thread, never blocks; outlives the Collector."""

    def __init__(self, contents: ContentTable) -> None:
        self._contents = contents
        self._lock = threading.Lock()
        self._waiting: dict[RequestId, Waiting] = {}
        self._closed: Failure | None = None

    def begin(self, spec_for: Callable[[ContentId], FetchSpec], ended: Bell, *, body: bool = True) -> Waiting:
        """A place for the answer, which has a `body` or none, to what `spec_for` makes for its content. What it gets is
        held for the caller, who has to release it.

        Raises SystemStopped after `close`, OSError (EMFILE, ENFILE, ENOMEM).
        """
        content = self._contents.land(body=body)
        try:
            waiting = Waiting(spec_for(content.id), content, ended)
            with self._lock:
                if self._closed is not None:
                    raise restore(self._closed)
                self._waiting[waiting.spec.request] = waiting
                content.retain()
        except BaseException:
            self._contents.discard(content)
            raise
        return waiting

    def spec(self, request: RequestId) -> FetchSpec | None:
        """What is asked for, None once it has ended."""
        with self._lock:
            waiting = self._waiting.get(request)
        return None if waiting is None else waiting.spec

    def specs(self) -> list[tuple[FetchSpec, bool]]:
        """What is asked for, and whether that is abandoned."""
        with self._lock:
            return [(waiting.spec, waiting.abandoned) for waiting in self._waiting.values()]

    def headless(self, request: RequestId) -> bool:
        """Whether somebody waits and no answer was told."""
        with self._lock:
            waiting = self._waiting.get(request)
            return waiting is not None and waiting.head is None

    def renew(self, request: RequestId, new: RequestId) -> tuple[FetchSpec, bool] | None:
        """Ask for the same under another id: what came of the first is not known. As `specs`; None if it has ended."""
        with self._lock:
            waiting = self._waiting.pop(request, None)
            if waiting is None:
                return None
            waiting.spec = replace(waiting.spec, request=new)
            waiting.head = None
            self._waiting[new] = waiting
            return waiting.spec, waiting.abandoned

    def abandon(self, waiting: Waiting) -> RequestId:
        """The caller has gone: the request that is to end."""
        with self._lock:
            return abandoned(waiting)

    def __len__(self) -> int:
        with self._lock:
            return len(self._waiting)

    def answered(self, head: CollectedHead) -> None:
        """An attempt was answered; no effect on a request that has ended."""
        with self._lock:
            waiting = self._waiting.get(head.request)
            if waiting is not None:
                waiting.head = head

    def end(self, request: RequestId, size: int = 0, failure: Failure | None = None) -> None:
        """The request has ended: wake its caller. Nobody writes any more. No effect the second time."""
        with self._lock:
            waiting = self._waiting.pop(request, None)
        if waiting is not None:
            if failure is not None and failure.kind == "SystemStopped":
                failure = self._closed or failure  # says why
            waiting.size, waiting.failure = size, failure
            self._contents.discard(waiting.content)
            waiting.ended.set()

    def close(self, failure: Failure) -> None:
        """Begin nothing any more: that is answered with `failure`."""
        with self._lock:
            self._closed = self._closed or failure

    def end_all(self, failure: Failure) -> None:
        """End what has not ended yet."""
        with self._lock:
            requests = list(self._waiting)
        for request in requests:
            self.end(request, failure=failure)
