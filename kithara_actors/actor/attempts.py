"""The attempts that run in workers, or wait for one: which is where, and how far each has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from actors.messages.codec import Codec
from actors.messages.command import Command
from kithara_actors.actor.meters import Meters
from kithara_actors.actor.quarantine import ExtraWorkers, Quarantine
from kithara_actors.assets.content import ContentTable
from kithara_actors.errors import Failure
from kithara_actors.logic import fetch
from kithara_actors.messages.records import FetchSpec
from kithara_actors.messages.worker import WORKER_COMMANDS, CancelAttempt, ReportAttempts, RunAttempt
from kithara_actors.values import CancelReason, RequestId

__all__ = ["Attempts", "FetchPool"]


class FetchPool(ExtraWorkers, Protocol):
    """What runs attempts: worker processes here; it could be a fleet. Losses come as `WorkerGone`."""

    def workers(self) -> dict[int, int]:
        """Those that take attempts, with their process ids."""

    def retiring(self) -> set[int]:
        """Those of them that are to be given nothing new."""

    def send(self, worker: int, frame: bytes, fds: Sequence[int] = ()) -> int:
        """Send one frame with descriptors, which stay the caller's; never blocks. The number of the frame among those
        for this worker, from 1 on, to which `WorkerGone.taken` refers; 0 if the worker is gone."""


class Attempts:
    """Belongs to the Downloader and runs on its thread."""

    def __init__(
        self,
        pool: FetchPool,
        quarantine: Quarantine,
        contents: ContentTable,
        meters: Meters | None,
        directed: Callable[[FetchSpec], FetchSpec],
        do: Callable[[fetch.Event], None],
    ) -> None:
        """`directed` gives the spec as a worker gets it; `do` takes what has become of an attempt."""
        self._pool = pool
        self._quarantine = quarantine
        self._contents = contents
        self._meters = meters
        self._directed = directed
        self._do = do
        self._codec = Codec(WORKER_COMMANDS)
        self._running: dict[RequestId, tuple[int, fetch.Run, int]] = {}
        self._waiting: list[fetch.Run] = []

    # --- The workers

    def ask_all(self) -> set[int]:
        """Ask every worker there is what it runs; those that will answer, or be lost."""
        if self._meters is not None:
            self._meters.suspend()
        workers = self._pool.workers()
        self._quarantine.found(workers)
        for worker in self._pool.retiring():
            self._quarantine.retires(worker)
        return {worker for worker in workers if self.tell(worker, ReportAttempts(worker))}

    def tell(self, worker: int, command: Command) -> bool:
        """Send to a worker; False if it is gone."""
        return self._pool.send(worker, self._codec.encode(command)) > 0

    def lost(self, worker: int, taken: int) -> list[tuple[fetch.Run, bool]]:
        """A worker is gone, which had taken the first `taken` of its frames: the attempts that were there, and whether
        it had taken each."""
        mine = [(run, frame <= taken) for owner, run, frame in self._running.values() if owner == worker]
        for run, _ in mine:
            del self._running[run.spec.request]
            self._give_back(run)
        return mine

    def settled(self) -> None:
        """Nothing more is adopted."""
        if self._meters is not None:
            self._meters.settle()

    # --- One attempt

    def run(self, run: fetch.Run) -> None:
        """Start it in a worker, or as soon as there is one for it."""
        worker = self._quarantine.worker_for(run)
        if worker is None:
            # None is ready: they are being replaced; or none is free for what must run alone.
            self._waiting.append(run)
            return
        with self._contents.descriptors(run.spec.content) as fds:
            if fds is None:
                # Its source has let go of it, and its cancel is on the way.
                self._do(fetch.Cancel(run.spec.request, CancelReason.EPOCH_CANCEL))
                self._do(fetch.Ended(run.spec.request, run.attempt, run.start, complete=False, cancelled=True))
                return
            meter = None if self._meters is None else self._meters.take(run.spec.origin)
            order = RunAttempt(run.attempt, run.start, self._directed(run.spec), meter)
            meters = () if self._meters is None else (self._meters.fd,)
            try:
                frame = self._pool.send(worker, self._codec.encode(order), (*meters, *fds))
            except OSError as error:
                self._give_back(run)
                # Descriptors that wait for the socket are duplicated, and there are none left.
                short = Failure("ConnectError", f"cannot reach a worker: {error.strerror}", retryable=True)
                self._do(fetch.Ended(run.spec.request, run.attempt, run.start, complete=False, failure=short))
                return
        if frame:
            self._quarantine.took(worker, run)
            self._running[run.spec.request] = (worker, run, frame)
        else:
            # Its end is on the way here as `WorkerGone`; choose among the others meanwhile.
            self._give_back(run)
            self._quarantine.gone(worker)
            self.run(run)

    def run_waiting(self) -> None:
        """Run what waits for a worker, as far as there is one for it now."""
        waiting, self._waiting = self._waiting, []
        for run in waiting:
            self.run(run)

    def look(self) -> list[fetch.Cleared]:
        """See `Quarantine.look`."""
        return self._quarantine.look(self._waiting, lambda run: max(self.landed(run.spec), run.start))

    def adopt(self, worker: int, run: fetch.Run) -> None:
        """It runs in that worker already, since before there was this table."""
        self._running[run.spec.request] = (worker, run, 0)
        if worker in self._quarantine.load:
            self._quarantine.load[worker] += 1
        if self._meters is not None:
            self._meters.keep(run.spec.origin)

    def stop(self, action: fetch.StopAttempt) -> None:
        """Shut it down; one that waits has ended thereby."""
        current = self._running.get(action.request)
        if current is not None:
            self.tell(current[0], CancelAttempt(action.attempt))
            return
        for run in [run for run in self._waiting if run.attempt == action.attempt]:
            self._waiting.remove(run)
            self._do(fetch.Ended(run.spec.request, run.attempt, run.start, complete=False, cancelled=True))

    def current(self, request: RequestId, attempt: int) -> tuple[int, fetch.Run, int] | None:
        """The worker, the order and its frame, if this is the attempt that runs for the request."""
        found = self._running.get(request)
        return found if found is not None and found[1].attempt == attempt else None

    def ended(self, request: RequestId) -> None:
        """The attempt that ran for the request is over."""
        worker, run, _ = self._running.pop(request)
        self._give_back(run)
        self._quarantine.left(worker)

    def forget(self, request: RequestId) -> None:
        """The request has ended: nothing of it waits any more."""
        if self._waiting:
            self._waiting = [run for run in self._waiting if run.spec.request != request]

    def _give_back(self, run: fetch.Run) -> None:
        if self._meters is not None:
            self._meters.give_back(run.spec.origin)

    # --- What the progress block knows

    def landed(self, spec: FetchSpec) -> int:
        """How far the request has come, by the progress word that its workers have left behind."""
        with self._contents.hold(spec.content) as content:
            landed = None if content is None else content.block.landed(spec.lane, spec.generation)
        return spec.start if landed is None else max(landed, spec.start)

    def brought(self, spec: FetchSpec) -> int:
        """The same also for what is collected, of which another attempt begins anew."""
        return self.landed(spec) if spec.collection is None else spec.start + self._contents.collected(spec.content)

    def pinned(self, spec: FetchSpec) -> FetchSpec:
        """The spec with what the first answer said, which was told to an incarnation before: no part of another
        representation may follow what has landed."""
        with self._contents.hold(spec.content) as content:
            if content is None or not content.block.has_head or spec.validator is not None:
                return spec
            total = content.length if spec.total is None else spec.total
            return replace(spec, validator=content.answer().validator, total=total)
