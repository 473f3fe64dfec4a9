"""The media side of a worker: takes attempts, makes each on a thread or without one, reports how it ended."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass

from actors.memory.progress import ProgressBlock, WakeUp
from actors.messages.codec import Codec
from actors.worker.handler import Send
from kithara_actors.errors import Cancelled, Failure, PolicyError, restore
from kithara_actors.logic.naming import redact_briefly
from kithara_actors.logic.pacing import receive_buffer
from kithara_actors.logic.response import Asked
from kithara_actors.messages.worker import (
    WORKER_COMMANDS,
    AskRedirect,
    AttemptEnded,
    AttemptHeaders,
    AttemptsInFlight,
    CancelAttempt,
    InFlight,
    RedirectJudged,
    ReportAttempts,
    RunAttempt,
    WorkerSettings,
)
from kithara_actors.worker.attempt import Attempt
from kithara_actors.worker.collecting import collect, order_of
from kithara_actors.worker.exchanges import Exchanges
from kithara_actors.worker.fetcher import Order, run
from kithara_actors.worker.http import Transport, TransportSettings
from kithara_actors.worker.pace import Pacing
from kithara_actors.worker.sink import Sink
from kithara_actors.worker.threads import ThreadPool
from kithara_actors.worker.transfer import Answered, Transfer, internal

__all__ = ["FetchHandler", "make_handler"]

_URL_LIMIT = 48 * 1024
"""Bytes of a URL that fits one message."""
_VERDICT_WITHIN = 15.0
"""Seconds; the host gives its callables five."""
_FLIGHTS_AT_ONCE = 1000
"""Attempts that one report names, which is far below the limit of a frame."""
_IDLE = 10.0
"""Seconds after which a thread without work ends."""


def make_handler(settings: bytes, send: Send) -> FetchHandler:
    """What `Hello.handler` names: called once in each worker."""
    given = Codec([WorkerSettings]).decode(settings)
    assert isinstance(given, WorkerSettings)
    transport = Transport(
        TransportSettings(
            connect_timeout=given.connect_timeout,
            inactivity_timeout=given.inactivity_timeout,
            verify=given.verify if given.ca_bundle is None else given.ca_bundle,
            cert=given.certificate if given.key is None else (given.certificate or "", given.key),
            proxies=None if given.proxies is None else dict(given.proxies),
            max_connections=given.max_connections,
            public_only=given.public_only,
            receive_buffer=receive_buffer(given.max_rate, given.max_rate_per_host),
        )
    )
    pacing = Pacing(given.max_rate, given.max_rate_per_host)
    return FetchHandler(transport, send, allow_downgrade=given.allow_downgrade, asks=given.asks, pacing=pacing)


class _Verdict:
    """What the host says about a redirect; empty until `heard`."""

    def __init__(self, question: AskRedirect) -> None:
        self.question = question
        self.heard = threading.Event()
        self.answer: RedirectJudged | None = None


@dataclass(slots=True)
class _Job:
    """`head`, `ended` and the verdict's question are what was said of it, in case that is to be said again."""

    order: RunAttempt
    attempt: Attempt
    fds: list[int]
    head: AttemptHeaders | None = None
    ended: AttemptEnded | None = None

    @property
    def flight(self) -> InFlight:
        return InFlight(self.order.spec.request, self.order.attempt, self.order.start)


class FetchHandler:
    """Makes small requests itself where it can (`Exchanges`), and hands all else to threads, which are kept while there
    is work. Called on the control thread only."""

    def __init__(
        self,
        transport: Transport,
        send: Send,
        *,
        allow_downgrade: bool,
        asks: bool = False,
        pacing: Pacing | None = None,
    ) -> None:
        self._transport = transport
        self._pacing = pacing or Pacing(None, None)
        self._send = send
        self._allow_downgrade = allow_downgrade
        self._codec = Codec(WORKER_COMMANDS)
        self._threads = ThreadPool(self._work, "fetch", _IDLE)
        self._exchanges = Exchanges(transport, self._answered, self._resume)
        self._lock = threading.Lock()
        self._running: dict[int, _Job] = {}
        self._asks = asks
        self._verdicts: dict[int, _Verdict] = {}

    def handle(self, frame: bytes, fds: list[int]) -> None:
        """Start or cut an attempt. Does not block."""
        command = self._codec.decode(frame)
        match command:
            case RunAttempt():
                self._begin(_Job(command, Attempt(), fds))
            case CancelAttempt(attempt):
                with self._lock:
                    running = self._running.get(attempt)
                if running is not None and not self._exchanges.cancel(attempt):
                    running.attempt.cancel()
            case RedirectJudged(attempt):
                with self._lock:
                    verdict = self._verdicts.get(attempt)
                if verdict is not None:
                    verdict.answer = command
                    verdict.heard.set()
            case ReportAttempts(worker):
                self._report_all(worker)
            case _:
                raise TypeError(f"a worker does not handle {type(command).__name__}")

    def busy(self) -> int:
        return len(self._running)

    def fileno(self) -> int:
        return self._exchanges.fileno()

    def look(self) -> None:
        self._exchanges.look()

    def pause(self) -> float | None:
        return self._exchanges.pause()

    def close(self) -> None:
        """For who does not end with it."""
        self._exchanges.close()

    def _report_all(self, worker: int) -> None:
        """Say what runs, and again what was said of it: whom it was told to may have forgotten."""
        with self._lock:
            jobs = list(self._running.values())
            verdicts = list(self._verdicts.values())
        flights = [job.flight for job in jobs]
        for start in range(0, max(len(flights), 1), _FLIGHTS_AT_ONCE):
            piece = flights[start : start + _FLIGHTS_AT_ONCE]
            last = start + _FLIGHTS_AT_ONCE >= len(flights)
            self._send(self._codec.encode(AttemptsInFlight(worker, tuple(piece), last)))
        for head in [job.head for job in jobs if job.head is not None]:
            self.report(head)
        for ended in [job.ended for job in jobs if job.ended is not None]:
            self._send(self._codec.encode(ended))
        for verdict in verdicts:
            if not verdict.heard.is_set():
                self._send(self._codec.encode(verdict.question))

    def _begin(self, job: _Job) -> None:
        order = job.order
        with self._lock:
            self._running[order.attempt] = job
        # Who may have to wait for its turn does that on a thread; and of its descriptors the first is the meters'.
        bodiless = _is_bodiless(order)
        alone = order.meter is None and len(job.fds) == (0 if bodiless else 1)
        if alone and self._exchanges.begin(order, job.attempt, -1 if bodiless else job.fds[0]):
            return
        self._start(job)

    def _start(self, job: _Job) -> None:
        try:
            self._threads.start(job)
        except RuntimeError as error:
            short = Failure("ConnectError", f"no thread to fetch with: {error}", retryable=True)
            self._end(job, _failed(job, short))
            self._take_meters(job)
            _release(job)

    def _answered(self, attempt: int, ended: AttemptEnded) -> None:
        job = self._running[attempt]
        self._end(job, ended)
        _release(job)

    def _resume(self, attempt: int) -> None:
        self._start(self._running[attempt])

    def _work(self, job: _Job) -> None:
        try:
            ended = self._run(job)
        except Exception as error:  # noqa: BLE001 - every attempt is answered, whatever breaks
            ended = _failed(job, internal(error))
        self._end(job, ended)

    def _end(self, job: _Job, ended: AttemptEnded) -> None:
        # In this order: who asks what runs has been told of the end of what does not, and a worker that is to leave
        # goes as soon as nothing runs.
        job.ended = ended
        self._send(self._codec.encode(ended))
        with self._lock:
            del self._running[job.order.attempt]

    def _run(self, job: _Job) -> AttemptEnded:
        with contextlib.ExitStack() as held:
            for fd in job.fds[0 if job.order.meter is None else 1 :]:
                held.callback(os.close, fd)
            held.callback(job.attempt.drop)
            self._take_meters(job)
            if job.order.meter is not None:
                job.attempt.pace = self._pacing.pace(job.order.meter, job.attempt)
            if job.order.spec.collection is not None:
                return self._collect(job)
            # Fewer arrive where this process is at its limit of descriptors.
            data, block_fd, wake_fd = job.fds
            block = ProgressBlock(os.dup(block_fd))
            held.callback(block.close)
            transfer = Transfer(job.order, job.attempt, data, block, WakeUp(wake_fd), self.report)
            return transfer.run(lambda sink, answered: self.transfer(job.order, job.attempt, sink, answered))

    def _take_meters(self, job: _Job) -> None:
        """Keep the descriptor of the meters, or close another of the same."""
        if job.order.meter is not None and job.fds:
            self._pacing.take_over(job.fds.pop(0))

    def _collect(self, job: _Job) -> AttemptEnded:
        (data,) = (-1,) if _is_bodiless(job.order) else job.fds
        order = order_of(job.order)
        return collect(
            job.order,
            data,
            lambda sink, answered: self.transfer(job.order, job.attempt, sink, answered, order),
            self.report,
            lambda: job.attempt.refused or (),
        )

    def transfer(
        self,
        order: RunAttempt,
        attempt: Attempt,
        sink: Sink,
        answered: Answered,
        what: Order | None = None,
    ) -> tuple[int, int | None]:
        """Run the HTTP attempt: where it ended, and the total if that is certain. `what` replaces the spec's range."""
        spec = order.spec
        if what is None:
            what = Order(spec.url, spec.headers, Asked(order.start, spec.end, spec.ranged, spec.total, spec.validator))
        end = run(
            self._transport,
            attempt,
            what,
            sink,
            answered,
            self._allow_downgrade,
            (lambda url: self._judge(order, attempt, url)) if self._asks else None,
        )
        return end.end, end.total

    def _judge(self, order: RunAttempt, attempt: Attempt, url: str) -> None:
        """Have the host say whether the attempt may go to `url`; raises what it says, or Cancelled."""
        if (size := len(url.encode("utf-8", "replace"))) > _URL_LIMIT:
            raise PolicyError(f"the server redirects to a URL of {size} bytes: too long to be judged")
        verdict = _Verdict(AskRedirect(order.spec.request, order.attempt, url))
        with self._lock:
            self._verdicts[order.attempt] = verdict
        try:
            attempt.wake_by(verdict.heard)
            self._send(self._codec.encode(verdict.question))
            verdict.heard.wait(_VERDICT_WITHIN)
        finally:
            with contextlib.suppress(Cancelled):
                attempt.wake_by(None)
            with self._lock:
                del self._verdicts[order.attempt]
        attempt.check()
        if verdict.answer is None:
            raise PolicyError(f"nobody has judged the redirect to {redact_briefly(url)} within {_VERDICT_WITHIN:g} s")
        if verdict.answer.failure is not None:
            raise restore(verdict.answer.failure)

    def report(self, command: AttemptHeaders) -> None:
        """Tell the host; blocks while it is slow to listen."""
        with self._lock:
            job = self._running.get(command.attempt)
        if job is not None:
            job.head = command
        self._send(self._codec.encode(command))


def _is_bodiless(order: RunAttempt) -> bool:
    """Whether no body comes, and no descriptor for one."""
    return order.spec.collection is not None and order.spec.collection.method == "HEAD"


def _release(job: _Job) -> None:
    """Of a job that no thread has run."""
    job.attempt.drop()
    for fd in job.fds:
        os.close(fd)


def _failed(job: _Job, failure: Failure) -> AttemptEnded:
    return AttemptEnded(
        job.order.spec.request,
        job.order.attempt,
        job.order.start,
        complete=False,
        total=None,
        broke=False,
        cancelled=False,
        failure=failure,
    )
