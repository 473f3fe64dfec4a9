"""One-off requests as their callers see them: `ActorSystem.execute` on the caller's own thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence

from actors.actor.address import Address
from actors.clock import monotonic
from actors.messages.command import Command
from kithara_actors.actor.callables import REQUEST_LIMIT, request_size
from kithara_actors.assets.collecting import Bell, Waiting, WaitingTable
from kithara_actors.assets.requests import RequestTable
from kithara_actors.errors import Failure, InternalError, ReadTimeout, restore
from kithara_actors.fetching import FetchCommand, FetchResult, Headers
from kithara_actors.logic.naming import redact, target_of
from kithara_actors.messages.commands import Abandon, Collect
from kithara_actors.messages.records import Collection, FetchSpec
from kithara_actors.stream.timeouts import checked_timeout
from kithara_actors.values import ContentId, FetchKind

__all__ = ["COLLECTOR", "Executor", "result_of"]

COLLECTOR = "collector"
"""The name of the actor that owns one-off requests."""


class Executor:
    """Safe from any thread; `execute` blocks on a bell of its own, never on an actor."""

    def __init__(
        self,
        waiting: WaitingTable,
        find: Callable[[str], Address | None],
        requests: RequestTable,
        limit: int,
    ) -> None:
        self._waiting = waiting
        self._find = find
        self._requests = requests
        self._limit = limit

    def execute(self, command: FetchCommand, timeout: float | None) -> FetchResult:
        """See `ActorSystem.execute`."""
        began = monotonic()
        if not isinstance(command, FetchCommand):
            raise TypeError(f"give FetchCommand.get(url) or FetchCommand.head(url), not {type(command).__name__}")
        limit = checked_timeout(timeout)
        ended = threading.Event()
        waiting = self.begin(command, ended)
        try:
            self.ask([waiting])
            if not ended.wait(limit):
                text = f"{redact(waiting.spec.url)}: no result within {timeout:g} s; the request was cancelled"
                raise ReadTimeout(text)
            if waiting.failure is not None:
                raise restore(waiting.failure)
            return result_of(waiting, monotonic() - began)
        except BaseException:
            # Also Ctrl-C, which comes in the middle of the wait.
            self.abandon([waiting])
            raise
        finally:
            waiting.content.release()

    def begin(self, command: FetchCommand, ended: Bell, peer: str | None = None) -> Waiting:
        """A new request of `peer` (None: one of its own), which is to be asked for; its content is held for the caller.

        Raises ValueError (too long for a message), SystemStopped, OSError (no descriptors).
        """
        url, origin, headers = _addressed(command)
        request = self._requests.create(0, COLLECTOR)
        first, last = (0, None) if command.range is None else command.range

        def spec_for(content: ContentId) -> FetchSpec:
            return FetchSpec(
                request=request,
                asset=0,
                peer=f"call:{request}" if peer is None else peer,
                kind=FetchKind.DEMAND,
                url=url,
                origin=origin,
                headers=tuple(headers.items()),
                content=content,
                lane=0,
                generation=0,
                start=first,
                end=None if last is None else last + 1,
                ranged=command.range is not None,
                total=None,
                validator=None,
                limit=self._limit,
                collection=Collection(COLLECTOR, command.method, command.refuse_html),
            )

        try:
            return self._waiting.begin(spec_for, ended, body=command.method != "HEAD")
        except BaseException:
            self._requests.forget(request)
            raise

    def ask(self, begun: Sequence[Waiting]) -> None:
        """Have the requests run."""
        self._tell(begun, Collect(tuple(waiting.spec.request for waiting in begun)))

    def abandon(self, begun: Iterable[Waiting]) -> None:
        """Have those of the requests end that have not; nobody waits for them any more."""
        left = [waiting for waiting in begun if not waiting.ended.is_set()]
        if left:
            self._tell(left, Abandon(tuple(self._waiting.abandon(waiting) for waiting in left)))

    @property
    def collector(self) -> Address | None:
        """Who owns the requests, whichever incarnation it is in."""
        return self._find(COLLECTOR)

    def _tell(self, begun: Iterable[Waiting], command: Command) -> None:
        collector = self.collector
        if collector is None or not collector.tell(command):
            for waiting in begun:
                self._waiting.end(waiting.spec.request, failure=Failure("SystemStopped", "the system has stopped"))


def _addressed(command: FetchCommand) -> tuple[str, str, dict[str, str]]:
    """URL, origin and headers of the request. ValueError if they do not fit a message."""
    url, authorization, origin = target_of(command.url)
    headers = dict(command.headers.fields)
    if authorization is not None and "Authorization" not in command.headers:
        headers["Authorization"] = authorization
    if request_size(url, headers) > REQUEST_LIMIT:
        raise ValueError(f"URL and headers must stay under {REQUEST_LIMIT} bytes together")
    return url, origin, headers


def result_of(waiting: Waiting, elapsed: float) -> FetchResult:
    """What came of a request that has ended well, its body copied."""
    head = waiting.head
    if head is None:
        raise InternalError(f"request {waiting.spec.request} ended without an answer")
    return FetchResult(
        head.status,
        head.url,
        Headers(head.headers),
        _body(waiting),
        head.partial,
        head.total,
        elapsed,
        waiting.spec.request,
    )


def _body(waiting: Waiting) -> bytes:
    if not waiting.size:
        return b""
    pieces: list[bytes] = []
    got = 0
    while got < waiting.size:
        piece = os.pread(waiting.content.fd, waiting.size - got, got)  # at most 2 GiB at a time
        if not piece:
            raise InternalError(f"request {waiting.spec.request} ended with {got} of {waiting.size} bytes")
        pieces.append(piece)
        got += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
