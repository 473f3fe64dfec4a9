"""The media side of a worker: takes attempts, runs each on a thread of its own, reports how it ended."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import traceback
from dataclasses import dataclass

from actors.memory.progress import ProgressBlock, WakeUp
from actors.messages.codec import Codec
from actors.worker.handler import Send
from kithara_actors.errors import Cancelled, Failure, KitharaError, PolicyError, restore
from kithara_actors.logic.naming import redact, redact_briefly
from kithara_actors.logic.response import Accepted, Asked
from kithara_actors.messages.worker import (
    HEAD_CODEC,
    WORKER_COMMANDS,
    AskRedirect,
    AttemptBegun,
    AttemptEnded,
    AttemptHeaders,
    CancelAttempt,
    Head,
    RedirectJudged,
    RunAttempt,
    WorkerSettings,
)
from kithara_actors.values import Answer, Validator
from kithara_actors.worker.attempt import Attempt
from kithara_actors.worker.body import BodyBroken
from kithara_actors.worker.fetcher import FirstByte, Order, run
from kithara_actors.worker.http import Transport, TransportSettings
from kithara_actors.worker.sink import Sink

__all__ = ["FetchHandler", "make_handler"]

RANGES_FLAG = 1
_FIELD_LIMIT = 512
"""Bytes of a header's value in the head."""
_REDIRECTS_LIMIT = 800
"""Characters of the redirects in the head, together; ten are followed at most."""
_URL_LIMIT = 48 * 1024
"""Bytes of a URL that fits one message."""
_VERDICT_WITHIN = 15.0
"""Seconds; the host gives its callables five."""
_CHAIN_LIMIT = 10
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
        )
    )
    return FetchHandler(transport, send, allow_downgrade=given.allow_downgrade, asks=given.asks)


class _Verdict:
    """What the host says about a redirect; empty until `heard`."""

    def __init__(self) -> None:
        self.heard = threading.Event()
        self.answer: RedirectJudged | None = None


@dataclass(slots=True)
class _Job:
    order: RunAttempt
    attempt: Attempt
    fds: list[int]


class FetchHandler:
    """Hands attempts to threads, which are kept while there is work. Called on the control thread only."""

    def __init__(self, transport: Transport, send: Send, *, allow_downgrade: bool, asks: bool = False) -> None:
        self._transport = transport
        self._send = send
        self._allow_downgrade = allow_downgrade
        self._codec = Codec(WORKER_COMMANDS)
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running: dict[int, Attempt] = {}
        self._asks = asks
        self._verdicts: dict[int, _Verdict] = {}
        self._waiting = 0

    def handle(self, frame: bytes, fds: list[int]) -> None:
        """Start or cut an attempt. Does not block."""
        command = self._codec.decode(frame)
        match command:
            case RunAttempt():
                self._begin(_Job(command, Attempt(), fds))
            case CancelAttempt(attempt):
                with self._lock:
                    running = self._running.get(attempt)
                if running is not None:
                    running.cancel()
            case RedirectJudged(attempt):
                with self._lock:
                    verdict = self._verdicts.get(attempt)
                if verdict is not None:
                    verdict.answer = command
                    verdict.heard.set()
            case _:
                raise TypeError(f"a worker does not handle {type(command).__name__}")

    def busy(self) -> int:
        return len(self._running)

    def _begin(self, job: _Job) -> None:
        with self._lock:
            self._running[job.order.attempt] = job.attempt
            waiting = self._waiting > 0
            if waiting:
                self._waiting -= 1  # one of them will take this job
        if not waiting:
            try:
                threading.Thread(target=self._work, name="fetch", daemon=True).start()
            except RuntimeError as error:
                short = Failure("ConnectError", f"no thread to fetch with: {error}", retryable=True)
                self._end(job, _failed(job, short))
                for fd in job.fds:
                    os.close(fd)
                return
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            self._send(self._codec.encode(AttemptBegun(job.order.spec.request, job.order.attempt)))
            try:
                ended = self._run(job)
            except Exception as error:  # noqa: BLE001 - every attempt is answered, whatever breaks
                ended = _failed(job, _internal(error))
            self._end(job, ended)
            with self._lock:
                self._waiting += 1

    def _next(self) -> _Job | None:
        """The next job, or None when there has been none for a while and none is on its way to this thread."""
        while True:
            try:
                return self._jobs.get(timeout=_IDLE)
            except queue.Empty:
                with self._lock:
                    if self._waiting:
                        self._waiting -= 1
                        return None

    def _end(self, job: _Job, ended: AttemptEnded) -> None:
        with self._lock:
            del self._running[job.order.attempt]
        self._send(self._codec.encode(ended))

    def _run(self, job: _Job) -> AttemptEnded:
        with contextlib.ExitStack() as held:
            for fd in job.fds:
                held.callback(os.close, fd)
            # Fewer arrive where this process is at its limit of descriptors.
            data, block_fd, wake_fd = job.fds
            block = ProgressBlock(os.dup(block_fd))
            held.callback(block.close)
            return _Transfer(self, job.order, job.attempt, data, block, WakeUp(wake_fd)).run()

    def transfer(self, order: RunAttempt, attempt: Attempt, sink: Sink, job: _Transfer) -> tuple[int, int | None]:
        """Run the HTTP attempt: where it ended, and the total if that is certain."""
        spec = order.spec
        end = run(
            self._transport,
            attempt,
            Order(
                spec.url,
                spec.headers,
                Asked(order.start, spec.end, spec.ranged, spec.total, spec.validator),
            ),
            sink,
            job.answered,
            self._allow_downgrade,
            (lambda url: self._judge(order, attempt, url)) if self._asks else None,
        )
        return end.end, end.total

    def _judge(self, order: RunAttempt, attempt: Attempt, url: str) -> None:
        """Have the host say whether the attempt may go to `url`; raises what it says, or Cancelled."""
        if (size := len(url.encode("utf-8", "replace"))) > _URL_LIMIT:
            raise PolicyError(f"the server redirects to a URL of {size} bytes: too long to be judged")
        verdict = _Verdict()
        with self._lock:
            self._verdicts[order.attempt] = verdict
        try:
            attempt.wake_by(verdict.heard)
            self._send(self._codec.encode(AskRedirect(order.spec.request, order.attempt, url)))
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
        self._send(self._codec.encode(command))


class _Transfer:
    """One attempt on its thread: the head and the progress words are written here."""

    def __init__(
        self,
        handler: FetchHandler,
        order: RunAttempt,
        attempt: Attempt,
        data: int,
        block: ProgressBlock,
        wake: WakeUp,
    ) -> None:
        self._handler = handler
        self._order = order
        self._attempt = attempt
        self._block = block
        self._wake = wake
        spec = order.spec
        self._sink = Sink(data, self._landed, spec.limit, stop=lambda: block.stop(spec.lane))
        self._sink.landed = order.start

    def run(self) -> AttemptEnded:
        order = self._order
        failure: Failure | None = None
        total: int | None = None
        complete = broke = cancelled = False
        try:
            end, total = self._handler.transfer(order, self._attempt, self._sink, self)
            self._sink.landed = max(self._sink.landed, end)
            complete = True
            if total is not None and self._block.length is None and self._block.has_head:
                self._block.write_length(total)
                self._wake.signal()
        except Cancelled:
            cancelled = True
        except KitharaError as error:
            failure = error.failure
            broke = isinstance(error, BodyBroken)
        except Exception as error:  # noqa: BLE001 - whatever it is must reach the reader as a typed error
            failure = _internal(error)
        finally:
            self._sink.release()
        return AttemptEnded(
            order.spec.request,
            order.attempt,
            self._sink.landed,
            complete,
            total,
            broke,
            cancelled,
            failure,
        )

    def answered(self, accepted: Accepted, first: FirstByte) -> None:
        """The answer fits: say so in the block, before any byte, and to the host."""
        spec = self._order.spec
        validator = _bounded(accepted.validator)
        kind = accepted.content_type
        content_type = None if kind is None else kind.encode()[:_FIELD_LIMIT].decode(errors="ignore")
        if spec.validator is None:
            # Nothing is pinned yet, so this is the one request that may say what the asset is.
            answer = Answer(
                first.status, accepted.partial, content_type, validator, _shown(first.redirects), first.seconds
            )
            self._block.write_head(
                accepted.total, RANGES_FLAG if accepted.partial else 0, HEAD_CODEC.encode(Head(answer))
            )
            self._wake.signal()
        self._handler.report(
            AttemptHeaders(
                spec.request,
                self._order.attempt,
                first.status,
                accepted.partial,
                accepted.end,
                accepted.total,
                validator,
                content_type,
                first.url[:8192],
                first.seconds,
            )
        )

    def _landed(self, end: int) -> None:
        self._block.publish(self._order.spec.lane, self._order.spec.generation, end)
        self._wake.signal()


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


def _internal(error: BaseException) -> Failure:
    """The end of an attempt that nobody foresaw; its traceback goes to the standard error.

    What was sent and answered may be quoted in messages of errors: kinds and places have to do.
    """
    last = traceback.extract_tb(error.__traceback__)[-1]
    lines: list[str] = []
    each: BaseException | None = error
    while each is not None and len(lines) < _CHAIN_LIMIT:
        lines.insert(0, "".join([*traceback.format_tb(each.__traceback__), f"{type(each).__name__}\n"]))
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    with contextlib.suppress(OSError):
        sys.stderr.write("Traceback (most recent call last):\n" + "which led to\n".join(lines))
        sys.stderr.flush()
    place = f"{os.path.basename(last.filename)}, line {last.lineno}"  # noqa: PTH119 - of text
    return Failure("InternalError", f"the worker failed: {type(error).__name__} in {place}; please report it")


def _shown(redirects: tuple[str, ...]) -> tuple[str, ...]:
    """Redirects for people: without secrets, and short enough for the block's room."""
    limit = _REDIRECTS_LIMIT // max(len(redirects), 1)
    shown = (redact(url).encode("ascii", "replace").decode() for url in redirects)
    return tuple(url if len(url) <= limit else f"{url[: limit - 3]}..." for url in shown)


def _bounded(validator: Validator) -> Validator:
    """A validator longer than the block's room is none: it could not be compared later."""
    return Validator(
        *(
            None if field is not None and len(field.encode()) > _FIELD_LIMIT else field
            for field in (validator.etag, validator.last_modified, validator.date)
        )
    )
