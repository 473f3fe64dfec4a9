"""The life of each admitted request: attempts, back-off, which worker. Knows workers only through `FetchPool`.

What the application's callables have to say about a request is asked here, before its attempts and at redirects.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from actors.actor.address import Address
from actors.actor.cell import Behaviour
from actors.actor.timers import Timers
from actors.clock import Clock, monotonic
from actors.messages.codec import Codec
from actors.messages.command import Command
from kithara_actors.actor.enquiries import Enquiries, Verdict
from kithara_actors.actor.meters import Meters
from kithara_actors.actor.publisher import Publisher
from kithara_actors.assets.content import ContentTable
from kithara_actors.errors import Failure
from kithara_actors.logic import fetch
from kithara_actors.logic.naming import redact_briefly
from kithara_actors.logic.routing import least_loaded
from kithara_actors.messages.commands import (
    Admitted,
    BackoffOver,
    CallAnswered,
    CallLate,
    CancelAdmitted,
    CollectedHead,
    Done,
    EndRequests,
    FetchCancelled,
    FetchDone,
    FetchFailed,
    FetchHeaders,
    Parked,
    Released,
    Requeue,
    WorkerGone,
    WorkerUp,
)
from kithara_actors.messages.events import (
    FirstByte,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
    RequestRetrying,
    RequestStarted,
    RetryExhausted,
    Scope,
    WorkerLost,
    WorkerStarted,
)
from kithara_actors.messages.records import FetchSpec, Place
from kithara_actors.messages.worker import (
    FINAL_URL_LIMIT,
    WORKER_COMMANDS,
    AskRedirect,
    AttemptBegun,
    AttemptEnded,
    AttemptHeaders,
    CancelAttempt,
    RunAttempt,
)
from kithara_actors.values import CancelReason, RequestId

__all__ = ["Downloader", "FetchPool"]


class FetchPool(Protocol):
    """What runs attempts: worker processes here; it could be a fleet. Losses come as `WorkerGone`."""

    def send(self, worker: int, frame: bytes, fds: Sequence[int] = ()) -> bool:
        """Send one frame with descriptors, which stay the caller's; never blocks. False if the worker is gone."""


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
        enquiries: Enquiries,
        meters: Meters | None = None,
    ) -> None:
        self._book = book
        self._pool = pool
        self._contents = contents
        self._find = find
        self._timers = timers
        self._publisher = publisher
        self._max_retries = max_retries
        self._clock = clock
        # A generator of its own: the host's global one is the host's.
        self._draw = draw or random.Random().random  # noqa: S311 - jitter
        self._codec = Codec(WORKER_COMMANDS)
        self._stopping = False
        self._load: dict[int, int] = {}
        self._running: dict[RequestId, tuple[int, fetch.Run]] = {}
        self._unassigned: list[fetch.Run] = []
        self._started_at: dict[RequestId, float] = {}
        self._enquiries = enquiries
        self._meters = meters

    def handle(self, command: Command) -> Command | None:
        match command:
            case Admitted(spec, queued, again):
                if not again:
                    self._started_at[spec.request] = self._clock()
                    self._publisher.publish(RequestStarted(spec.request, queued), Scope(spec.asset))
                self._do(fetch.Start(spec, again))
            case AttemptBegun(request, attempt):
                self._do(fetch.Begun(request, attempt))
            case AttemptHeaders():
                self._answered(command)
            case AttemptEnded():
                self._ended(command)
            case AskRedirect(request, attempt):
                current = self._running.get(request)
                if current is not None and current[1].attempt == attempt:
                    self._enquiries.judge(command, current[0])
            case CallAnswered():
                for outcome in self._enquiries.heard(command):
                    self._told(outcome)
            case CallLate():
                self._told(self._enquiries.late(command))
            case BackoffOver(request, attempt):
                self._do(fetch.DelayOver(request, attempt))
            case CancelAdmitted(request, reason):
                self._do(fetch.Cancel(request, reason))
            case WorkerUp(worker, pid):
                self._load[worker] = 0
                self._publisher.publish(WorkerStarted(worker, pid))
                waiting, self._unassigned = self._unassigned, []
                for run in waiting:
                    self._run(run)
            case WorkerGone():
                self._lost(command)
            case EndRequests():
                for request in self._book.requests():
                    self._do(fetch.Cancel(request, CancelReason.DOWNLOADER_SHUTDOWN))
                self._stopping = True
                return Done(len(self._book.requests()))
            case _:
                raise TypeError(f"Downloader does not handle {type(command).__name__}")
        return None

    def _answered(self, report: AttemptHeaders) -> None:
        run = self._running.get(report.request)
        if run is None or run[1].attempt != report.attempt:
            return
        place = _place(report, run[1].spec, self._enquiries.directed(run[1].spec).url)
        ranged = run[1].spec.ranged and report.ranged
        self._do(fetch.Answered(report.request, report.attempt, report.total, report.validator, ranged, place))
        self._publisher.publish(
            FirstByte(report.request, report.seconds, report.status, report.partial), Scope(run[1].spec.asset)
        )
        head: Command = FetchHeaders(
            report.request,
            report.partial,
            report.end,
            report.total,
            report.validator,
            report.content_type,
            place,
            ranged,
        )
        if run[1].spec.collection is not None:
            head = CollectedHead(
                report.request, report.status, report.partial, report.total, report.final_url, report.headers
            )
        self._tell(run[1].spec.owner, head)

    def _ended(self, report: AttemptEnded) -> None:
        current = self._running.get(report.request)
        if current is None or current[1].attempt != report.attempt:
            return
        self._forget_run(report.request)
        if report.status is not None and report.failure is not None:
            self._publisher.publish(
                FirstByte(report.request, report.seconds, report.status, partial=False), Scope(current[1].spec.asset)
            )
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

    def _lost(self, gone: WorkerGone) -> None:
        self._load.pop(gone.worker, None)
        mine = [(request, run) for request, (worker, run) in self._running.items() if worker == gone.worker]
        if mine or not self._stopping:
            self._publisher.publish(
                WorkerLost(gone.worker, gone.pid, gone.reason, tuple(request for request, _ in mine))
            )
        for request, run in mine:
            del self._running[request]
            self._give_back(run)
            self._do(fetch.Lost(request, run.attempt, self._landed(run)))

    def _landed(self, run: fetch.Run) -> int:
        """How far the lost attempt came, by the progress word that its worker left behind."""
        with self._contents.hold(run.spec.content) as content:
            landed = None if content is None else content.block.landed(run.spec.lane, run.spec.generation)
        return run.start if landed is None else max(landed, run.start)

    def _do(self, event: fetch.Event) -> None:
        for action in self._book.handle(event, self._draw()):
            match action:
                case fetch.Begin():
                    pass
                case fetch.Ask():
                    self._told(self._enquiries.ask(action))
                case fetch.Run():
                    self._run(action)
                case fetch.StopAttempt():
                    self._stop_attempt(action)
                case fetch.BackOff():
                    self._back_off(action)
                case fetch.AskSlot(request):
                    self._tell("registry", Requeue(request))
                case fetch.End():
                    self._end(action)

    def _run(self, run: fetch.Run) -> None:
        worker = least_loaded(self._load)
        if worker is None:
            # None is ready: they are being replaced, and `WorkerUp` takes these up.
            self._unassigned.append(run)
            return
        with self._contents.descriptors(run.spec.content) as fds:
            if fds is None:
                # Its source has let go of it, and its cancel is on the way.
                self._do(fetch.Cancel(run.spec.request, CancelReason.EPOCH_CANCEL))
                self._do(fetch.Ended(run.spec.request, run.attempt, run.start, complete=False, cancelled=True))
                return
            meter = None if self._meters is None else self._meters.take(run.spec.origin)
            order = RunAttempt(run.attempt, run.start, self._enquiries.directed(run.spec), meter)
            meters = () if self._meters is None else (self._meters.fd,)
            try:
                sent = self._pool.send(worker, self._codec.encode(order), (*meters, *fds))
            except OSError as error:
                self._give_back(run)
                # Descriptors that wait for the socket are duplicated, and there are none left.
                short = Failure("ConnectError", f"cannot reach a worker: {error.strerror}", retryable=True)
                self._do(fetch.Ended(run.spec.request, run.attempt, run.start, complete=False, failure=short))
                return
        if sent:
            self._load[worker] += 1
            self._running[run.spec.request] = (worker, run)
        else:
            # Its end is on the way here as `WorkerGone`; choose among the others meanwhile.
            self._give_back(run)
            del self._load[worker]
            self._run(run)

    def _told(self, outcome: fetch.Told | fetch.Cancel | Verdict | None) -> None:
        if isinstance(outcome, Verdict):
            self._pool.send(outcome.worker, self._codec.encode(outcome.answer))
        elif outcome is not None:
            self._do(outcome)

    def _stop_attempt(self, action: fetch.StopAttempt) -> None:
        current = self._running.get(action.request)
        if current is not None:
            self._pool.send(current[0], self._codec.encode(CancelAttempt(action.attempt)))
            return
        waiting = [run for run in self._unassigned if run.attempt == action.attempt]
        for run in waiting:
            self._unassigned.remove(run)
            self._do(fetch.Ended(run.spec.request, run.attempt, run.start, complete=False, cancelled=True))

    def _back_off(self, action: fetch.BackOff) -> None:
        self._publisher.publish(
            RequestRetrying(action.spec.request, action.retry, self._max_retries, action.delay, action.cause),
            Scope(action.spec.asset),
        )
        if action.cause in (fetch.WORKER_LOST, fetch.RENEWED, fetch.RETURNED):
            return
        self._tell("registry", Parked(action.spec.request))
        me = self._find("downloader")
        if me is not None:
            self._timers.after(action.delay, me, BackoffOver(action.spec.request, action.attempt))

    def _end(self, end: fetch.End) -> None:
        spec = end.spec
        request = spec.request
        scope = Scope(spec.asset)
        landed = end.end - spec.start
        started = self._started_at.pop(request, self._clock())
        self._unassigned = [run for run in self._unassigned if run.spec.request != request]
        self._enquiries.forget(request)
        answer: Command
        if end.reason is not None:
            self._publisher.publish(RequestCancelled(request, landed, end.reason), scope)
            answer = FetchCancelled(request, end.end, end.reason)
        elif end.failure is not None:
            failure = _named(end.failure, redact_briefly(spec.url))
            if failure.kind == "RetryExhausted":
                self._publisher.publish(RetryExhausted(request, landed, end.attempts), scope)
            self._publisher.publish(RequestFailed(request, landed, failure.retryable, failure), scope)
            answer = FetchFailed(request, end.end, end.gave_up, failure)
        else:
            duration = self._clock() - started
            bandwidth = landed * 8000 // max(int(duration * 1000), 1)
            self._publisher.publish(RequestCompleted(request, landed, duration, bandwidth), scope)
            answer = FetchDone(request, end.end, end.total)
        self._tell("registry", Released(request))
        self._tell(spec.owner, answer)

    def _forget_run(self, request: RequestId) -> None:
        worker, run = self._running.pop(request)
        self._give_back(run)
        if worker in self._load:
            self._load[worker] -= 1

    def _give_back(self, run: fetch.Run) -> None:
        if self._meters is not None:
            self._meters.give_back(run.spec.origin)

    def _tell(self, name: str, command: Command) -> None:
        address = self._find(name)
        if address is not None:
            address.tell(command)


def _named(failure: Failure, url: str) -> Failure:
    """The failure with the URL in its text: it surfaces far from where that was given."""
    return failure if url in failure.text else replace(failure, text=f"{url}: {failure.text}")


def _place(report: AttemptHeaders, spec: FetchSpec, asked: str) -> Place | None:
    """Where the answer came from, unless that is the URL of the request itself, or too long to be told."""
    before = spec.place
    if report.final_url == asked:
        return before
    if len(report.final_url) >= FINAL_URL_LIMIT:
        return None
    return Place(report.final_url, report.bare or (before is not None and before.bare))
