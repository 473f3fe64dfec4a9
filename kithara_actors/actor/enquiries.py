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
class _Pending:
    """A question about an attempt, along a known `way` or for a new one; with `worker`, about its redirect."""

    question: Question
    request: RequestId
    attempt: int
    way: _Way | None = None
    worker: int | None = None


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
        if way is not None:
            if self._policy is None:
                self._taken[spec.request] = way
                return Told(spec.request, ask.attempt)
            question = Question(way.url, way.headers, None, self._policy)
        else:
            question = Question(spec.url, spec.headers, calls, self._policy)
        self._put(_Pending(question, spec.request, ask.attempt, way))
        return None

    def judge(self, report: AskRedirect, worker: int) -> None:
        """Ask the policy whether the attempt may follow its redirect."""
        question = Question(report.url, policy=self._policy)
        self._put(_Pending(question, report.request, report.attempt, worker=worker))

    def heard(self, answered: CallAnswered) -> Told | Verdict | None:
        """An answer came; what follows, or None where nobody waits for it any more."""
        pending = self._pending.pop(answered.call, None)
        if pending is None:
            return None
        if pending.worker is None and answered.failure is None:
            way, calls = pending.way, pending.question.calls
            if calls is not None:
                way = self._ways[calls] = _Way(answered.url, answered.headers)
            if way is not None:
                self._taken[pending.request] = way
        return _outcome(pending, answered.failure)

    def late(self, call: int) -> Told | Verdict | None:
        """The time for an answer is over."""
        pending = self._pending.pop(call, None)
        if pending is None:
            return None
        pending.question.dropped = True
        return _outcome(pending, pending.question.late())

    def directed(self, spec: FetchSpec) -> FetchSpec:
        """The spec of a request, along the way that its callables have named."""
        way = self._taken.get(spec.request)
        return spec if way is None else replace(spec, url=way.url, headers=way.headers)

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
        for call in [call for call, pending in self._pending.items() if pending.request == request]:
            self._pending.pop(call).question.dropped = True

    def _put(self, pending: _Pending) -> None:
        me = self._find("downloader")
        if me is None:
            return  # it is being ended
        call = self._callables.ask(pending.question, me.tell)
        self._pending[call] = pending
        self._timers.after(CALL_LIMIT, me, CallLate(call))


def _outcome(pending: _Pending, failure: Failure | None) -> Told | Verdict:
    if pending.worker is None:
        return Told(pending.request, pending.attempt, failure)
    return Verdict(pending.worker, RedirectJudged(pending.attempt, failure))
