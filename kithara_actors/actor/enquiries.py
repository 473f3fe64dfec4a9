"""What the Downloader has asked the application's callables, and what they said: the way that each request takes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from actors.actor.address import Address
from actors.actor.timers import Timers
from kithara_actors.actor.callables import CALL_LIMIT, Callables, Question
from kithara_actors.errors import Failure
from kithara_actors.logic.fetch import Ask, Cancel, Told
from kithara_actors.logic.naming import HARMLESS_HEADERS, origin_of
from kithara_actors.messages.commands import CallAnswered, CallLate
from kithara_actors.messages.records import FetchSpec, SourceCalls
from kithara_actors.messages.worker import AskRedirect, RedirectJudged
from kithara_actors.values import CancelReason, RequestId

__all__ = ["Enquiries", "Verdict"]

_RENEWS_HEADERS = frozenset({401, 403})
_RENEWS_URL = frozenset({401, 403, 404, 410})


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """How the callables of a source want it asked for: this takes the place of what the spec says.

    Compared by identity: who was refused on its way may find that another request has renewed it meanwhile.
    """

    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Waiter:
    """An attempt that an answer keeps waiting: before it begins, at `place` if that is known, or at a redirect in
    `worker`."""

    request: RequestId
    attempt: int
    place: str | None = None
    worker: int | None = None


@dataclass(slots=True, eq=False)
class _Pending:
    """A question along a known `way`, about a redirect, or for the new way of its source: all who want that wait."""

    question: Question
    way: _Way | None = None
    waiters: list[_Waiter] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `worker` is to hear about the redirect that it has asked about."""

    worker: int
    answer: RedirectJudged


class Enquiries:
    """Belongs to the Downloader and runs on its thread; `policy` is asked about every URL before it is requested."""

    def __init__(
        self,
        callables: Callables,
        policy: Callable[[str], object] | None,
        find: Callable[[str], Address | None],
        timers: Timers,
    ) -> None:
        self._callables = callables
        self._policy = policy
        self._find = find
        self._timers = timers
        self._pending: dict[int, _Pending] = {}
        self._finding: dict[int, int] = {}
        """The call by which a source's new way is found, by the id of its callables: never two at a time."""
        self._ways: weakref.WeakKeyDictionary[SourceCalls, _Way] = weakref.WeakKeyDictionary()
        self._taken: dict[RequestId, _Way] = {}

    def ask(self, ask: Ask) -> Told | Cancel | None:
        """Have the callables say how this attempt is to be made. None: the answer will come to `heard`."""
        spec = ask.spec
        calls = self._callables.find(spec.calls) if spec.calls else None
        if spec.calls and calls is None:
            # Its source is gone, and the cancel is on the way.
            return Cancel(spec.request, CancelReason.EPOCH_CANCEL)
        way = None if calls is None else self._ways.get(calls)
        if way is not None and ask.renew and way is self._taken.get(spec.request):
            way = None
        place = None if spec.place is None else spec.place.url
        waiter = _Waiter(spec.request, ask.attempt, place)
        if calls is not None and calls.id in self._finding:
            self._wait(waiter, self._finding[calls.id])
        elif way is None:
            self._put(_Pending(Question(spec.url, spec.headers, calls, self._policy, place)), waiter)
        elif self._policy is None:
            self._taken[spec.request] = way
            return Told(spec.request, ask.attempt)
        else:
            self._judge_way(way, waiter)
        return None

    def judge(self, report: AskRedirect, worker: int) -> None:
        """Ask the policy whether the attempt may follow its redirect."""
        pending = _Pending(Question(report.url, policy=self._policy))
        self._put(pending, _Waiter(report.request, report.attempt, worker=worker))

    def heard(self, answered: CallAnswered) -> list[Told | Verdict]:
        """An answer came; what follows for each that still waits for it."""
        pending = self._drop(answered.call)
        if pending is None:
            return []
        way, calls = pending.way, pending.question.calls
        if calls is not None and answered.failure is None:
            way = self._ways[calls] = _Way(answered.url, answered.headers)
        outcomes: list[Told | Verdict] = []
        for waiter in pending.waiters:
            if way is not None and answered.failure is None:
                if self._policy is not None and waiter.place != pending.question.place:
                    # It joined for the way, and goes to where the policy has not been asked about yet.
                    self._judge_way(way, waiter)
                    continue
                self._taken[waiter.request] = way
            outcomes.append(_outcome(waiter, answered.failure))
        return outcomes

    def late(self, late: CallLate) -> Told | Verdict | None:
        """The time of a request for an answer is over; what follows, or None if it no longer waits."""
        pending = self._pending.get(late.call)
        waiter = None if pending is None else _waiter(pending, late.request)
        if pending is None or waiter is None:
            return None
        failure = pending.question.late()
        self._leave(late.call, pending, waiter)
        return _outcome(waiter, failure)

    def directed(self, spec: FetchSpec) -> FetchSpec:
        """The spec of a request as a worker gets it: along the way of its callables, at the place that this led to."""
        way = self._taken.get(spec.request)
        if way is not None:
            spec = replace(spec, url=way.url, headers=way.headers)
        place = spec.place
        if place is None:
            return spec
        # A renewed way may begin elsewhere than the one whose redirects led to the place.
        bare = place.bare or (way is not None and origin_of(way.url) != origin_of(place.url))
        kept = tuple(pair for pair in spec.headers if not bare or pair[0].lower() in HARMLESS_HEADERS)
        return replace(spec, url=place.url, headers=kept)

    def renewable(self, spec: FetchSpec, failure: Failure | None) -> bool:
        """Whether the callables may know a way around this failure."""
        if failure is None or failure.kind != "StatusError" or not spec.calls:
            return False
        calls = self._callables.find(spec.calls)
        if calls is None:
            return False
        return failure.status in (_RENEWS_HEADERS if calls.resolve is None else _RENEWS_URL)

    def forget(self, request: RequestId) -> None:
        """The request has ended."""
        self._taken.pop(request, None)
        for call, pending in list(self._pending.items()):
            waiter = _waiter(pending, request)
            if waiter is not None:
                self._leave(call, pending, waiter)

    def _judge_way(self, way: _Way, waiter: _Waiter) -> None:
        self._put(_Pending(Question(way.url, way.headers, None, self._policy, waiter.place), way), waiter)

    def _put(self, pending: _Pending, waiter: _Waiter) -> None:
        me = self._find("downloader")
        if me is None:
            return  # it is being ended
        call = self._callables.ask(pending.question, me.tell)
        self._pending[call] = pending
        if pending.question.calls is not None:
            self._finding[pending.question.calls.id] = call
        self._wait(waiter, call)

    def _wait(self, waiter: _Waiter, call: int) -> None:
        me = self._find("downloader")
        if me is not None:
            self._pending[call].waiters.append(waiter)
            self._timers.after(CALL_LIMIT, me, CallLate(call, waiter.request))

    def _leave(self, call: int, pending: _Pending, waiter: _Waiter) -> None:
        pending.waiters.remove(waiter)
        if pending.waiters:
            return
        # What a source's callables say is still worth hearing; and while they run they are not called again.
        if not self._callables.give_up(pending.question) or pending.question.calls is None:
            self._drop(call)

    def _drop(self, call: int) -> _Pending | None:
        pending = self._pending.pop(call, None)
        if pending is not None and pending.question.calls is not None:
            del self._finding[pending.question.calls.id]
        return pending


def _waiter(pending: _Pending, request: RequestId) -> _Waiter | None:
    return next((waiter for waiter in pending.waiters if waiter.request == request), None)


def _outcome(waiter: _Waiter, failure: Failure | None) -> Told | Verdict:
    if waiter.worker is None:
        return Told(waiter.request, waiter.attempt, failure)
    return Verdict(waiter.worker, RedirectJudged(waiter.attempt, failure))
