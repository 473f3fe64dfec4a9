"""The life of admitted requests: attempts, resumes, back-off, the two ends. Sans-IO.

One request may take several HTTP attempts, on several workers; it keeps its id and has exactly one end. Reports of an
attempt that is no longer current change nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from kithara_actors.errors import Failure
from kithara_actors.logic.fetch_steps import (
    Action,
    Adopt,
    Answered,
    Ask,
    AskSlot,
    BackOff,
    Begin,
    Cancel,
    Cleared,
    DelayOver,
    End,
    Ended,
    Event,
    Lost,
    Preempt,
    Run,
    Start,
    StopAttempt,
    Told,
)
from kithara_actors.logic.retry import Again, Final, RetryPolicy
from kithara_actors.logic.suspicion import Blame, Suspicion
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import CancelReason, RequestId

__all__ = [
    "Action",
    "Adopt",
    "Answered",
    "Ask",
    "AskSlot",
    "BackOff",
    "Begin",
    "Cancel",
    "Cleared",
    "DelayOver",
    "End",
    "Ended",
    "Event",
    "FetchBook",
    "Lost",
    "Preempt",
    "Run",
    "Start",
    "State",
    "StopAttempt",
    "Told",
]

WORKER_LOST = "WORKER_LOST"
RENEWED = "RENEWED"
RETURNED = "RETURNED"
CLEARED = "CLEARED"
PREEMPTED = "PREEMPTED"
_GONE = frozenset({401, 403, 404, 410})
"""What a server answers when the place that a redirect named is none any more, such as a signed URL of yesterday."""


class State(StrEnum):
    """Where an admitted request is between its attempts."""

    ASKING = "asking"
    RUNNING = "running"
    CANCELLING = "cancelling"
    BACKING_OFF = "backing_off"
    QUEUED_AGAIN = "queued_again"


@dataclass(slots=True)
class _Life:
    spec: FetchSpec
    state: State
    attempt: int
    landed: int
    mark: int
    suspicion: Suspicion
    tries: int = 0
    retries: int = 0
    moving: bool = False
    yielding: bool = False
    whole: bool = False
    """Whether the attempt that is current was answered with all of it: cut, it would begin at the front."""
    renewed: bool = False
    renew: bool = False
    """Whether the next attempt is to be made as who was asked anew says."""
    reason: CancelReason | None = None


class FetchBook:
    """All admitted requests of a system. `handle` is the only door."""

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        asks: bool = False,
        attempts: Iterator[int] | None = None,
        suspicions: Callable[[RequestId, int], Suspicion] | None = None,
    ) -> None:
        """`asks`: every attempt is asked about first, not only those of sources with callables. `attempts` numbers
        them, and `suspicions` has what is held against a request, from an offset on if it is new there; both go on
        where an earlier book has ended."""
        self._policy = policy
        self._asks = asks
        self._lives: dict[RequestId, _Life] = {}
        self._attempts = (attempts or itertools.count(1)).__next__
        self._suspicions = suspicions or (lambda _, since: Suspicion(since))

    def handle(self, event: Event, draw: float) -> list[Action]:
        """What follows from `event`; `draw` in [0, 1] feeds the jitter. Of an older attempt: nothing."""
        match event:
            case Start(spec, again):
                return self._start(spec, again=again)
            case Adopt(spec):
                return self._adopt(spec, event)
            case Answered(request, attempt):
                life = self._current(request, attempt)
                if life is not None and life.spec.collection is None:
                    life.spec = _pinned(life.spec, event)
                    life.whole = not event.partial
                return []
            case Ended(request, attempt):
                life = self._current(request, attempt)
                return [] if life is None else self._ended(life, event, draw)
            case Lost(request, attempt, landed, blame):
                life = self._current(request, attempt)
                return [] if life is None else self._lost(life, landed, blame)
            case Cleared(request, attempt, landed):
                life = self._current(request, attempt)
                return [] if life is None else self._cleared(life, landed)
            case DelayOver(request, attempt):
                life = self._lives.get(request)
                if life is None or life.state is not State.BACKING_OFF or life.attempt != attempt:
                    return []
                life.state = State.QUEUED_AGAIN
                return [AskSlot(request)]
            case Told(request, attempt, failure):
                return self._told(request, attempt, failure)
            case Preempt(request):
                return self._preempt(request)
            case Cancel(request, reason):
                return self._cancel(request, reason)

    def requests(self) -> list[RequestId]:
        """Requests that have not ended, in the order of their ids."""
        return sorted(self._lives)

    def in_hand(self) -> list[tuple[FetchSpec, State, CancelReason | None]]:
        """Requests that have not ended, where each is, and why those that are to end are."""
        return [(life.spec, life.state, life.reason) for _, life in sorted(self._lives.items())]

    def state(self, request: RequestId) -> State | None:
        life = self._lives.get(request)
        return None if life is None else life.state

    def _current(self, request: RequestId, attempt: int) -> _Life | None:
        life = self._lives.get(request)
        if life is None or life.attempt != attempt or life.state not in (State.RUNNING, State.CANCELLING):
            return None
        return life

    def _start(self, spec: FetchSpec, *, again: bool) -> list[Action]:
        life = self._lives.get(spec.request)
        if life is None and again:
            # It was cancelled while its slot was on the way.
            return []
        if life is None:
            life = _Life(spec, State.RUNNING, 0, spec.start, spec.start, self._suspicions(spec.request, spec.start))
            self._lives[spec.request] = life
            return [Begin(spec), self._next_attempt(life)]
        if life.state is State.QUEUED_AGAIN:
            return [self._next_attempt(life)]
        raise RuntimeError(f"request {spec.request}: admitted again in state {life.state}")

    def _adopt(self, spec: FetchSpec, event: Adopt) -> list[Action]:
        life = _Life(
            spec, State.QUEUED_AGAIN, 0, event.landed, event.landed, self._suspicions(spec.request, event.landed)
        )
        self._lives[spec.request] = life
        if event.attempt is not None:
            life.state, life.attempt = State.RUNNING, event.attempt
        elif _all_landed(life):
            return [self._end(life, total=spec.total)]
        return []

    def _next_attempt(self, life: _Life) -> Ask | Run:
        life.attempt = self._attempts()
        life.moving = life.whole = False
        if self._asks or life.spec.calls:
            life.state = State.ASKING
            renew, life.renew = life.renew, False
            return Ask(life.spec, life.attempt, renew)
        life.state = State.RUNNING
        return _run(life)

    def _told(self, request: RequestId, attempt: int, failure: Failure | None) -> list[Action]:
        life = self._lives.get(request)
        if life is None or life.state is not State.ASKING or life.attempt != attempt:
            return []
        if failure is not None:
            return [self._end(life, failure=failure, gave_up=self._gave_up(life, failure))]
        if life.yielding:
            return self._yield(life)
        life.state = State.RUNNING
        return [_run(life)]

    def _ended(self, life: _Life, event: Ended, draw: float) -> list[Action]:
        moved = event.end > life.landed
        life.renewed = life.renewed and not moved
        if life.spec.collection is not None:
            # What the attempt before has stored was written over.
            life.mark = life.landed = event.end
        life.landed = max(life.landed, event.end)
        life.suspicion.reported()
        life.suspicion.landed(_where(life))
        if event.complete:
            return [self._end(life, total=event.total)]
        if _all_landed(life) and (event.failure is None or event.failure.retryable):
            return [self._end(life, total=life.spec.total)]
        if life.reason is not None:
            return [self._end(life, reason=life.reason)]
        if life.moving and event.cancelled and event.failure is None:
            life.retries += 1
            move = BackOff(life.spec, life.attempt, max(life.tries, 1), 0.0, CLEARED)
            return [move, *self._go_on(life)]
        if event.cancelled and event.failure is None:
            # Cut for another, or for an incarnation that is gone: whoever wanted it then will say so again.
            return self._go_on(life)
        failure = event.failure or Failure("InternalError", "an attempt ended with neither a result nor an error")
        if life.spec.place is not None and not moved:
            # Nothing came from where redirects had led: the next attempt asks the original for the way.
            life.spec = replace(life.spec, place=None)
            if _is_gone(failure):
                life.retries += 1
                back = BackOff(life.spec, life.attempt, max(life.tries, 1), 0.0, RETURNED)
                return [back, *self._go_on(life)]
        if event.renewable and not life.renewed:
            # Once for each piece that landed: who refuses what was renewed just now means it.
            life.renewed = life.renew = True
            life.retries += 1
            renewal = BackOff(life.spec, life.attempt, max(life.tries, 1), 0.0, RENEWED)
            return [renewal, *self._go_on(life)]
        if self._policy.renews(life.landed - life.mark):
            life.mark = life.landed
            life.tries = 0
        life.tries += 1
        match self._policy.after(failure, life.tries, draw, body_broke=event.broke):
            case Final(final):
                return [self._end(life, failure=final, gave_up=self._gave_up(life, final))]
            case Again(delay):
                life.state = State.BACKING_OFF
                life.yielding = False
                life.retries += 1
                return [BackOff(life.spec, life.attempt, life.tries, delay, failure.kind)]

    def _gave_up(self, life: _Life, failure: Failure) -> bool:
        """Whether the partial is worth keeping: the budget is spent, or room or a right is missing, not the body."""
        if failure.kind in ("RetryExhausted", "StorageFull") or failure.retryable:
            return True
        denied = failure.kind == "PolicyError" or failure.status in (401, 403)
        return denied and life.landed > 0

    def _lost(self, life: _Life, landed: int, blame: Blame) -> list[Action]:
        life.landed = max(life.landed, landed)
        life.suspicion.lost(blame, _where(life))
        if _all_landed(life):
            return [self._end(life, total=life.spec.total)]
        if life.reason is not None:
            return [self._end(life, reason=life.reason)]
        if life.suspicion.verdict is not None:
            return [self._end(life, failure=life.suspicion.verdict)]
        life.retries += 1
        back = BackOff(life.spec, life.attempt, max(life.suspicion.losses, 1), 0.0, WORKER_LOST)
        return [back, *self._go_on(life)]

    def _cleared(self, life: _Life, landed: int) -> list[Action]:
        """Make room for the next suspect, unless that would cost what cannot be asked for again from the middle."""
        if not _goes_on(life) or life.state is State.CANCELLING or life.moving or life.yielding:
            return []
        life.suspicion.landed(landed)
        if life.suspicion.suspect:
            return []
        life.moving = True
        return [StopAttempt(life.spec.request, life.attempt)]

    def _preempt(self, request: RequestId) -> list[Action]:
        life = self._lives.get(request)
        if life is None or not _goes_on(life) or life.whole or life.yielding:
            return []
        if life.state not in (State.ASKING, State.RUNNING):
            return []  # it has given its slot back, or is about to
        life.yielding = True
        return [] if life.moving or life.state is State.ASKING else [StopAttempt(request, life.attempt)]

    def _go_on(self, life: _Life) -> list[Action]:
        """Another attempt in the same slot, unless that is promised to another request."""
        return self._yield(life) if life.yielding else [self._next_attempt(life)]

    def _yield(self, life: _Life) -> list[Action]:
        life.yielding = False
        life.state = State.QUEUED_AGAIN
        life.retries += 1
        back = BackOff(life.spec, life.attempt, max(life.tries, 1), 0.0, PREEMPTED)
        return [back, AskSlot(life.spec.request)]

    def _cancel(self, request: RequestId, reason: CancelReason) -> list[Action]:
        life = self._lives.get(request)
        if life is None:
            return []
        if life.state in (State.ASKING, State.BACKING_OFF, State.QUEUED_AGAIN):
            return [self._end(life, reason=reason)]
        if life.state is State.CANCELLING:
            return []
        life.state = State.CANCELLING
        life.reason = reason
        return [StopAttempt(request, life.attempt)]

    def _end(
        self,
        life: _Life,
        *,
        total: int | None = None,
        failure: Failure | None = None,
        gave_up: bool = False,
        reason: CancelReason | None = None,
    ) -> End:
        del self._lives[life.spec.request]
        return End(life.spec, life.landed, total, failure, gave_up, reason, life.retries + 1)


def _run(life: _Life) -> Run:
    return Run(life.spec, life.attempt, _where(life), alone=life.suspicion.suspect)


def _where(life: _Life) -> int:
    """Where the next attempt begins: what is collected for a caller is of one answer, never of two."""
    return life.landed if life.spec.collection is None else life.spec.start


def _goes_on(life: _Life) -> bool:
    """Whether an attempt that is cut costs no byte that has landed."""
    return life.spec.collection is None and life.spec.ranged


def _all_landed(life: _Life) -> bool:
    """Whether only the report of it is missing: there is nothing left that another attempt could ask for."""
    if life.spec.collection is not None:
        return False  # how much it is, decoded, only its end tells
    goal = life.spec.total if life.spec.end is None else life.spec.end
    return goal is not None and life.landed >= goal


def _is_gone(failure: Failure) -> bool:
    """Whether the place answered that what was asked for is not to be had there; a page says so too."""
    return failure.kind == "InvalidContentType" or (failure.kind == "StatusError" and failure.status in _GONE)


def _pinned(spec: FetchSpec, said: Answered) -> FetchSpec:
    """The spec with what an answer said; what an earlier one said stays, for an answer to a range may leave it out."""
    known, validator = spec.validator, said.validator
    if known is not None and (known.etag or known.last_modified) is not None:
        validator = known
    total = spec.total if said.total is None else said.total
    return replace(spec, total=total, validator=validator, ranged=spec.ranged and said.ranged, place=said.place)
