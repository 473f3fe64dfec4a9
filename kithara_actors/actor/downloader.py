"""The life of each admitted request: attempts, back-off, which worker. Knows workers only through `FetchPool`.

What the application's callables have to say about a request is asked here, before its attempts and at redirects.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from actors.actor.address import Address
from actors.actor.cell import Behaviour
from actors.actor.timers import Timers
from actors.clock import Clock, monotonic
from actors.messages.command import Command
from kithara_actors.actor.attempts import Attempts, FetchPool
from kithara_actors.actor.enquiries import Enquiries, Verdict
from kithara_actors.actor.loads import Loads
from kithara_actors.actor.meters import Meters
from kithara_actors.actor.outcomes import Outcomes, place_of
from kithara_actors.actor.publisher import Publisher
from kithara_actors.actor.quarantine import Quarantine
from kithara_actors.assets.content import ContentTable
from kithara_actors.assets.requests import RequestTable
from kithara_actors.logic import fetch
from kithara_actors.logic.adoption import Adoption, Found, Placed
from kithara_actors.logic.suspicion import blames
from kithara_actors.messages.commands import (
    Admitted,
    BackoffOver,
    CallAnswered,
    CallLate,
    CancelAdmitted,
    Done,
    EndRequests,
    Parked,
    Preempt,
    Readmit,
    Readmitted,
    Recount,
    Recounted,
    Requeue,
    WatchLoads,
    WatchSuspects,
    WorkerGone,
    WorkerRetires,
    WorkerUp,
)
from kithara_actors.messages.events import WorkerLost, WorkerStarted
from kithara_actors.messages.records import FetchSpec, InHand, Standing
from kithara_actors.messages.worker import (
    AskRedirect,
    AttemptEnded,
    AttemptHeaders,
    AttemptsInFlight,
    CancelAttempt,
)
from kithara_actors.values import CancelReason, RequestId

__all__ = ["Downloader"]

_STANDINGS = {fetch.State.BACKING_OFF: Standing.PARKED, fetch.State.QUEUED_AGAIN: Standing.RETURNING}


class Downloader(Behaviour):
    """Carries out what `FetchBook` decides."""

    def __init__(
        self,
        book: fetch.FetchBook,
        pool: FetchPool,
        contents: ContentTable,
        find: Callable[[str], Address | None],
        timers: Timers,
        publisher: Publisher,
        max_retries: int,
        clock: Clock = monotonic,
        draw: Callable[[], float] | None = None,
        *,
        requests: RequestTable,
        enquiries: Enquiries,
        meters: Meters | None = None,
        soft_timeout: float = 2.0,
    ) -> None:
        self._book = book
        self._find = find
        self._timers = timers
        self._publisher = publisher
        # A generator of its own: the host's global one is the host's.
        self._draw = draw or random.Random().random  # noqa: S311 - jitter
        self._stopping = False
        self._quarantine = Quarantine(pool, find, timers, clock)
        self._attempts = Attempts(pool, self._quarantine, contents, meters, enquiries.directed, self._do)
        self._requests = requests
        self._outcomes = Outcomes(requests, find, publisher, max_retries, clock)
        self._loads = Loads(
            soft_timeout,
            requests.hosts,
            find,
            timers,
            clock,
            self._attempts.brought,
            self._outcomes.slow,
        )
        self._enquiries = enquiries
        self._adoption = Adoption(set())

    def on_start(self) -> None:
        # At the first start there is nothing to take over, and the same is asked.
        self._adoption.awaited |= self._attempts.ask_all()
        registry = self._find("registry")
        self._adoption.unanswered = registry is not None and registry.tell(Readmit())

    def handle(self, command: Command) -> Command | None:
        match command:
            case Admitted(spec, queued, again):
                self._admitted(spec, queued, again=again)
            case AttemptHeaders(request) | AttemptEnded(request) | AskRedirect(request):
                if self._book.state(request) is not None or not self._adoption.says(request, command):
                    self._said(command)
            case CallAnswered():
                for outcome in self._enquiries.heard(command):
                    self._told(outcome)
            case CallLate():
                self._told(self._enquiries.late(command))
            case BackoffOver(request, attempt):
                self._do(fetch.DelayOver(request, attempt))
            case Preempt(request):
                self._do(fetch.Preempt(request))
            case CancelAdmitted(request, reason):
                self._cancel(request, reason)
            case WorkerUp(worker, pid, extra):
                self._quarantine.up(worker, extra=extra)
                self._publisher.publish(WorkerStarted(worker, pid))
                self._attempts.run_waiting()
            case WorkerGone(worker):
                self._adoption.gone(worker)
                self._lost(command)
                self._place()
                self._attempts.run_waiting()
            case WorkerRetires(worker):
                self._quarantine.retires(worker)
            case WatchLoads():
                self._loads.look()
            case WatchSuspects():
                for cleared in self._attempts.look():
                    self._do(cleared)
                self._attempts.run_waiting()
            case EndRequests():
                self._stopping = True
                for request in self._book.requests():
                    self._do(fetch.Cancel(request, CancelReason.DOWNLOADER_SHUTDOWN))
                for hand in self._adoption.waiting():
                    self._adoption.cancel(hand.spec.request, CancelReason.DOWNLOADER_SHUTDOWN)
                # Begun anew, it does not know of all before the Registry has answered.
                unknown = len(self._adoption.waiting()) + self._adoption.unanswered
                return Done(len(self._book.requests()) + unknown)
            case Readmitted(requests):
                self._adoption.readmitted(hand for hand in requests if self._book.state(hand.spec.request) is None)
                for request, reason in self._adoption.late():
                    self._cancel(request, reason)
                self._place()
            case AttemptsInFlight(worker, attempts, last):
                self._adoption.reported(worker, attempts, last=last)
                self._place()
            case Recount():
                if self._adoption.unanswered:
                    # The Registry that was asked is no more, and this one knows of nothing.
                    self.handle(Readmitted(()))
                self._recount()
            case _:
                raise TypeError(f"Downloader does not handle {type(command).__name__}")
        return None

    def _said(self, command: Command) -> None:
        """A worker spoke of an attempt."""
        match command:
            case AttemptHeaders():
                self._answered(command)
            case AttemptEnded():
                if command.head is not None:
                    self._answered(command.head, ends=True)
                self._ended(command)
            case AskRedirect(request, attempt):
                current = self._attempts.current(request, attempt)
                if current is not None:
                    self._enquiries.judge(command, current[0])

    # --- Beginning anew

    def _place(self) -> None:
        """Go on with the requests of which it is certain where they are; see `Adoption`."""
        for placed in self._adoption.place():
            self._adopt(placed)
        for request in self._adoption.unclaimed():
            if self._requests.ended(request):
                self._stop_found(self._adoption.claim(request))
        if self._adoption.over:
            self._attempts.settled()

    def _adopt(self, placed: Placed) -> None:
        spec, found = placed.hand.spec, placed.found
        request = spec.request
        if self._book.state(request) is not None or self._requests.ended(request):
            self._stop_found(found)
            return
        # It was, unless the incarnation before had not come to it; how long it waited only that one was told.
        self._outcomes.started(spec, 0.0)
        spec = self._attempts.pinned(spec)
        landed = self._attempts.landed(spec)
        if found is None:
            self._do(fetch.Adopt(spec, landed))
        else:
            flight = found.flight
            run = fetch.Run(spec, flight.attempt, flight.start)
            self._attempts.adopt(found.worker, run)
            self._loads.begin(run)
            self._do(fetch.Adopt(spec, landed, flight.attempt))
        if placed.hand.reason is not None:
            self._do(fetch.Cancel(request, placed.hand.reason))
        elif found is None:
            self._do(fetch.Start(spec, again=True))
        for command in () if found is None else found.said:
            self._said(command)

    def _stop_found(self, found: Found | None) -> None:
        if found is not None:
            self._attempts.tell(found.worker, CancelAttempt(found.flight.attempt))

    def _recount(self) -> None:
        """The Registry has begun anew: tell it what is here."""
        hands = [
            InHand(spec, _STANDINGS.get(state, Standing.RUNNING), reason)
            for spec, state, reason in self._book.in_hand()
        ]
        self._tell("registry", Recounted((*hands, *self._adoption.waiting())))

    # --- Requests

    def _admitted(self, spec: FetchSpec, queued: float, *, again: bool) -> None:
        if self._requests.ended(spec.request):
            return  # while its slot was on the way
        state = self._book.state(spec.request)
        if state not in (None, fetch.State.QUEUED_AGAIN):
            return  # told again
        first = not again and self._outcomes.started(spec, queued)
        if state is not None:
            self._do(fetch.Start(spec, again))
            return
        over = self._adoption.over
        found = self._adoption.claim(spec.request)
        if found is not None:
            self._adopt(Placed(InHand(spec), found))
        elif first:
            self._do(fetch.Start(spec))
        elif self._adoption.awaited:
            self._adoption.hold(InHand(spec))  # it may run in a worker that has not answered yet
        else:
            self._adopt(Placed(InHand(spec), None))
        if not over:
            self._place()

    def _cancel(self, request: RequestId, reason: CancelReason) -> None:
        if self._book.state(request) is not None:
            self._do(fetch.Cancel(request, reason))
        elif not self._adoption.cancel(request, reason):
            # Whoever knew of it has begun anew.
            self._stop_found(self._adoption.claim(request))
            self._outcomes.ended_unknown(request, reason)

    def _answered(self, report: AttemptHeaders, *, ends: bool = False) -> None:
        current = self._attempts.current(report.request, report.attempt)
        if current is None:
            return
        spec = current[1].spec
        place = place_of(report, spec, self._enquiries.directed(spec).url)
        ranged = spec.ranged and report.ranged
        if spec.collection is None:  # else the next attempt begins anew, whatever this one was answered
            said = (report.total, report.validator, ranged, place, report.partial)
            self._do(fetch.Answered(report.request, report.attempt, *said))
        self._loads.answered(report.request, report.seconds)
        self._outcomes.answered(spec, report, place, ranged=ranged, ends=ends)

    def _ended(self, report: AttemptEnded) -> None:
        current = self._attempts.current(report.request, report.attempt)
        if current is None:
            return
        self._attempts.ended(report.request)
        self._loads.end(report.request, report.end)
        self._outcomes.broke(current[1].spec, report)
        self._do(
            fetch.Ended(
                report.request,
                report.attempt,
                report.end,
                report.complete,
                report.total,
                report.broke,
                report.cancelled,
                report.failure,
                self._enquiries.renewable(current[1].spec, report.failure),
            )
        )
        self._attempts.run_waiting()

    def _lost(self, gone: WorkerGone) -> None:
        meant = self._quarantine.gone(gone.worker)
        mine = self._attempts.lost(gone.worker, gone.taken)
        held = blames([taken for _, taken in mine], together=gone.together, meant=meant)
        if mine or not (self._stopping or meant):
            requests = tuple(run.spec.request for run, _ in mine)
            self._publisher.publish(WorkerLost(gone.worker, gone.pid, gone.reason, requests))
        for (run, _), blame in zip(mine, held, strict=True):
            landed = max(self._attempts.landed(run.spec), run.start)
            self._loads.end(run.spec.request, landed)
            self._do(fetch.Lost(run.spec.request, run.attempt, landed, blame))

    def _do(self, event: fetch.Event) -> None:
        for action in self._book.handle(event, self._draw()):
            match action:
                case fetch.Begin():
                    pass
                case fetch.Ask():
                    self._told(self._enquiries.ask(action))
                case fetch.Run():
                    self._loads.begin(action)
                    self._attempts.run(action)
                case fetch.StopAttempt():
                    self._attempts.stop(action)
                case fetch.BackOff():
                    self._back_off(action)
                case fetch.AskSlot(request):
                    self._tell("registry", Requeue(request))
                case fetch.End():
                    self._end(action)

    def _told(self, outcome: fetch.Told | fetch.Cancel | Verdict | None) -> None:
        if isinstance(outcome, Verdict):
            self._attempts.tell(outcome.worker, outcome.answer)
        elif outcome is not None:
            self._do(outcome)

    def _back_off(self, action: fetch.BackOff) -> None:
        self._loads.end(action.spec.request, None)
        self._outcomes.retrying(action)
        if action.cause in (fetch.WORKER_LOST, fetch.CLEARED, fetch.RENEWED, fetch.RETURNED):
            return
        self._tell("registry", Parked(action.spec.request))
        if action.cause == fetch.PREEMPTED:
            return
        me = self._find("downloader")
        if me is not None:
            self._timers.after(action.delay, me, BackoffOver(action.spec.request, action.attempt))

    def _end(self, end: fetch.End) -> None:
        self._attempts.forget(end.spec.request)
        self._loads.end(end.spec.request, end.end)
        self._enquiries.forget(end.spec.request)
        self._outcomes.ended(end)

    def _tell(self, name: str, command: Command) -> None:
        address = self._find(name)
        if address is not None:
            address.tell(command)
