"""The parsing process of a system as the host sees it: started when the first question comes, replaced when it dies."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from actors.actor.pool import PoolListener, PoolSettings, WorkerPool
from actors.clock import monotonic
from actors.errors import CodecError, WorkerStartError
from actors.messages.codec import Codec
from kithara_actors.config import Config
from kithara_actors.messages.parser import (
    PARSER_COMMANDS,
    BytesNeeded,
    BytesThere,
    Describe,
    Described,
    ForgetJob,
    ParserSettings,
)
from kithara_actors.values import MediaDetails

__all__ = ["Parsing"]

logger = logging.getLogger(__name__)

_MEMORY_LIMIT = 512 * 1024 * 1024
_TIME_LIMIT = 5.0
_TRIES = 2
"""How many processes a file may be given to. Who was in the first by bad luck is well in the second."""
_PAUSE = 5.0
"""Seconds after which a process that could not be started is tried again, when somebody asks."""


@dataclass(slots=True)
class _Job:
    order: Describe
    fd: int
    hear: Callable[[BytesNeeded | Described], object]
    worker: int | None = None
    waiting: bool = False
    """It has asked for bytes: what happens to the process now is not its doing."""
    tries: int = 0


class Parsing(PoolListener):
    """Passes questions on. Safe from any thread; nothing but `stop` blocks."""

    def __init__(self, config: Config) -> None:
        self._settings = PoolSettings(
            handler="kithara_actors.worker.parser:make_handler",
            settings=Codec([ParserSettings]).encode(ParserSettings(_MEMORY_LIMIT, _TIME_LIMIT)),
            size=1,
            python=config.worker_python,
            heartbeat=config.heartbeat,
            heartbeat_limit=config.heartbeat_limit,
        )
        self._codec = Codec(PARSER_COMMANDS)
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._jobs: dict[int, _Job] = {}
        self._pool: WorkerPool | None = None
        self._worker: int | None = None
        self._broken: str | None = None
        self._broken_at = 0.0
        self._stopped = False

    def describe(
        self,
        fd: int,
        content_type: str | None,
        length: int | None,
        present: int,
        whole: bool,
        hear: Callable[[BytesNeeded | Described], object],
    ) -> int:
        """Have the file behind `fd` described; see `Describe`. Returns the number of the job.

        `hear` gets each `BytesNeeded`, to be answered by `supply`, and last a `Described`, on a thread that must
        not be blocked; of job 0 where there is no answer but a remark that says why. Raises OSError (EMFILE),
        WorkerStartError, RuntimeError (no thread).
        """
        order = Describe(next(self._ids), content_type, length, present, whole)
        self._recover()
        job = _Job(order, _readable(fd), hear)
        with self._lock:
            try:
                if self._stopped:
                    raise WorkerStartError("the system has stopped")
                self._launch()
            except BaseException:
                os.close(job.fd)
                raise
            self._jobs[order.job] = job
            self._give(job)
        return order.job

    def supply(self, job: int, start: int, end: int) -> None:
        """The bytes that a job has asked for are there."""
        with self._lock:
            asking = self._jobs.get(job)
            if asking is not None:
                asking.waiting = False
        self._tell(job, BytesThere(job, start, end))

    def forget(self, job: int) -> None:
        """Nobody waits for this job any more."""
        self._tell(job, ForgetJob(job))
        self._end(job)

    def stop(self, timeout: float) -> list[str]:
        """End the process; questions that are open get no answer. Blocks at most about `timeout` seconds."""
        with self._lock:
            self._stopped = True
            pool = self._pool
            jobs = list(self._jobs)
        left = [] if pool is None else pool.stop(timeout)
        for job in jobs:
            self._end(job)
        return left

    # --- What the pool reports, on its own thread

    def worker_ready(self, worker: int, pid: int) -> None:  # noqa: ARG002
        with self._lock:
            self._worker = worker
            for job in list(self._jobs.values()):
                self._give(job)

    def frame(self, worker: int, data: bytes) -> None:
        try:
            said = self._codec.decode(data)
        except CodecError as error:
            logger.warning("the parsing process sent a malformed frame: %s", error)
            return
        if not isinstance(said, BytesNeeded | Described):
            return
        with self._lock:
            job = self._jobs.get(said.job)
            if job is None or job.worker != worker:
                return
            job.waiting = isinstance(said, BytesNeeded)
        if isinstance(said, Described):
            self._end(said.job)
        job.hear(said)

    def worker_lost(self, worker: int, pid: int, reason: str, taken: int) -> None:  # noqa: ARG002
        with self._lock:
            self._worker = None
            expected = self._stopped
            lost = [job for job in self._jobs.values() if job.worker == worker]
            for job in lost:
                job.worker = None
                job.tries -= job.waiting
                job.waiting = False
        logger.log(logging.WARNING if lost and not expected else logging.DEBUG, "the parsing process ended: %s", reason)
        for job in lost:
            if job.tries >= _TRIES:
                self._give_up(job, f"the parsing process ended while it looked at this file: {reason}")

    def cannot_start(self, reason: str) -> None:
        with self._lock:
            self._broken, self._broken_at = reason, monotonic()
        self.workers_exhausted(reason)

    def workers_exhausted(self, reason: str) -> None:
        logger.warning("the parsing process does not start: %s", reason)
        with self._lock:
            waiting = list(self._jobs.values())
        for job in waiting:
            self._give_up(job, f"the parsing process does not start: {reason}")

    # --- Inside

    def _recover(self) -> None:
        """Forget a process that could not be started: what was missing, descriptors perhaps, may be there again."""
        with self._lock:
            if self._broken is None or monotonic() - self._broken_at < _PAUSE:
                return
            old, self._pool, self._broken = self._pool, None, None
        if old is not None:
            old.stop(0.0)

    def _launch(self) -> None:
        if self._broken is not None:
            raise WorkerStartError(self._broken)
        if self._pool is None:
            pool = WorkerPool(self._settings, self)
            pool.launch(wait=0.0)
            self._pool = pool

    def _give(self, job: _Job) -> None:
        """To the process, if there is one; `worker_ready` comes again otherwise. The lock is held."""
        if self._pool is None or self._worker is None or job.worker is not None:
            return
        with contextlib.suppress(OSError):  # no descriptor to queue it with: the process gets it when it is replaced
            if self._pool.send(self._worker, self._codec.encode(job.order), (job.fd,)):
                job.worker = self._worker
                job.tries += 1

    def _tell(self, number: int, command: BytesThere | ForgetJob) -> None:
        with self._lock:
            job = self._jobs.get(number)
            if job is None or job.worker is None or self._pool is None:
                return
            self._pool.send(job.worker, self._codec.encode(command))

    def _give_up(self, job: _Job, reason: str) -> None:
        self._end(job.order.job)
        job.hear(Described(0, MediaDetails(remark=reason)))

    def _end(self, number: int) -> None:
        with self._lock:
            job = self._jobs.pop(number, None)
            if job is not None:
                os.close(job.fd)


def _readable(fd: int) -> int:
    """A descriptor of the same file that cannot write, and has a position of its own. Raises OSError (EMFILE)."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return os.dup(fd)  # no /proc, or another user's file by now
