"""What the Downloader tells of a request: events for who listens, its answers and its one end for who asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from actors.actor.address import Address
from actors.clock import Clock
from actors.messages.command import Command
from kithara_actors.actor.publisher import Publisher
from kithara_actors.assets.requests import RequestTable, Told
from kithara_actors.errors import Failure
from kithara_actors.logic.fetch import BackOff, End
from kithara_actors.logic.naming import redact_briefly
from kithara_actors.messages.commands import (
    CollectedHead,
    FetchCancelled,
    FetchDone,
    FetchFailed,
    FetchHeaders,
    Released,
)
from kithara_actors.messages.events import (
    BodyResumed,
    BodyStalled,
    Event,
    FirstByte,
    LoadSlow,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
    RequestRetrying,
    RequestStarted,
    RetryExhausted,
    Scope,
)
from kithara_actors.messages.records import FetchSpec, Place
from kithara_actors.messages.worker import FINAL_URL_LIMIT, AttemptEnded, AttemptHeaders
from kithara_actors.values import CancelReason, RequestId

__all__ = ["Outcomes", "place_of"]


class Outcomes:
    """Belongs to the Downloader and runs on its thread. What is told once for each request the table remembers."""

    def __init__(
        self,
        requests: RequestTable,
        find: Callable[[str], Address | None],
        publisher: Publisher,
        max_retries: int,
        clock: Clock,
    ) -> None:
        self._requests = requests
        self._find = find
        self._publisher = publisher
        self._max_retries = max_retries
        self._clock = clock
        self._untold: dict[RequestId, AttemptHeaders] = {}
        """Answers of attempts whose end is being handled."""

    def started(self, spec: FetchSpec, queued: float) -> bool:
        """It has its first slot, after so many seconds in the queue; False if it had it before."""
        self._requests.started(spec.request, self._clock())
        first = self._requests.once(spec.request, Told.STARTED)
        if first:
            self._publisher.publish(RequestStarted(spec.request, queued), Scope(spec.asset))
        return first

    def answered(
        self, spec: FetchSpec, report: AttemptHeaders, place: Place | None, *, ranged: bool, ends: bool = False
    ) -> None:
        """An attempt was answered, from `place`. `ends`: how it has ended is told next, which may be told in one."""
        if self._requests.answered(report.request, report.attempt):
            self._publisher.publish(
                FirstByte(report.request, report.seconds, report.status, report.partial), Scope(spec.asset)
            )
        resume = self._requests.resumed(report.request, report.attempt)
        if resume is not None:
            self._publisher.publish(BodyResumed(report.request, resume), Scope(spec.asset))
        if spec.collection is None:
            self._tell(
                spec.owner,
                FetchHeaders(
                    report.request,
                    report.partial,
                    report.end,
                    report.total,
                    report.validator,
                    report.content_type,
                    place,
                    ranged,
                ),
            )
        elif ends:
            self._untold[report.request] = report
        else:
            self._untold.pop(report.request, None)  # that of an attempt before
            self._tell(spec.owner, _collected(report))

    def slow(self, spec: FetchSpec, landed: int, seconds: float) -> None:
        """An attempt has brought next to nothing for `seconds`; bytes up to `landed` are there."""
        if self._requests.once(spec.request, Told.SLOW):
            self._publisher.publish(LoadSlow(spec.request, landed - spec.start, seconds), Scope(spec.asset))

    def broke(self, spec: FetchSpec, report: AttemptEnded) -> None:
        """An attempt has ended: with an answer that was not accepted, or with a body that stalled, if it has."""
        if report.stalled and self._requests.stalled(report.request, report.attempt):
            self._publisher.publish(BodyStalled(report.request, max(0, report.end - spec.start)), Scope(spec.asset))
        if report.status is not None and report.failure is not None:
            self._publisher.publish(
                FirstByte(report.request, report.seconds, report.status, partial=False), Scope(spec.asset)
            )

    def retrying(self, action: BackOff) -> None:
        """Another attempt will follow."""
        self._publisher.publish(
            RequestRetrying(action.spec.request, action.retry, self._max_retries, action.delay, action.cause),
            Scope(action.spec.asset),
        )

    def ended(self, end: End) -> None:
        """The one end of a request."""
        spec = end.spec
        request = spec.request
        scope = Scope(spec.asset)
        landed = end.end - spec.start
        answer: Command
        event: Event
        untold = self._untold.pop(request, None)
        if end.reason is not None:
            event = RequestCancelled(request, landed, end.reason)
            answer = FetchCancelled(request, end.end, end.reason)
        elif end.failure is not None:
            failure = _named(end.failure, redact_briefly(spec.url))
            if failure.kind == "RetryExhausted":
                self._publisher.publish(RetryExhausted(request, landed, end.attempts), scope)
            event = RequestFailed(request, landed, failure.retryable, failure)
            answer = FetchFailed(request, end.end, end.gave_up, failure)
        else:
            now = self._clock()
            duration = now - self._requests.started(request, now)
            event = RequestCompleted(request, landed, duration, landed * 8000 // max(int(duration * 1000), 1))
            answer = FetchDone(request, end.end, end.total) if untold is None else _collected(untold, end.end)
        self._conclude(request, event, scope, spec.owner, answer, landed)

    def ended_unknown(self, request: RequestId, reason: CancelReason) -> None:
        """A request of which nothing is known here, and nobody else knows either, is to end."""
        known = self._requests.of(request)
        if known is not None:
            asset, owner = known
            if not self._requests.was(request, Told.STARTED):
                reason = CancelReason.BEFORE_START
            event = RequestCancelled(request, 0, reason)
            self._conclude(request, event, Scope(asset), owner, FetchCancelled(request, 0, reason))

    def _conclude(
        self, request: RequestId, event: Event, scope: Scope, owner: str, answer: Command, landed: int = 0
    ) -> None:
        if self._requests.once(request, Told.END):
            self._publisher.publish(event, scope)
        self._tell(owner, answer)
        # Not before its owner was told: who finds that it has ended tells the owner that it was.
        self._requests.end(request, landed)
        self._tell("registry", Released(request))

    def _tell(self, name: str, command: Command) -> None:
        address = self._find(name)
        if address is not None:
            address.tell(command)


def _collected(report: AttemptHeaders, end: int | None = None) -> CollectedHead:
    return CollectedHead(
        report.request, report.status, report.partial, report.total, report.final_url, report.headers, end
    )


def place_of(report: AttemptHeaders, spec: FetchSpec, asked: str) -> Place | None:
    """Where the answer came from, unless that is the URL of the request itself, or too long to be told."""
    before = spec.place
    if report.final_url == asked:
        return before
    if len(report.final_url) >= FINAL_URL_LIMIT:
        return None
    return Place(report.final_url, report.bare or (before is not None and before.bare))


def _named(failure: Failure, url: str) -> Failure:
    """The failure with the URL in its text: it surfaces far from where that was given."""
    return failure if url in failure.text else replace(failure, text=f"{url}: {failure.text}")
