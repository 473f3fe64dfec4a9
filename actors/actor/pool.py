"""Worker processes kept alive by one thread that lives as long as the pool.

That thread starts the processes (the parent-death signal is tied to it), reads their channels, notices their
death, kills what has gone silent and starts replacements. `send` may be called from any thread.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from actors.actor.process import WorkerProcess, search_path
from actors.clock import Clock, monotonic
from actors.errors import CodecError, WorkerStartError
from actors.messages.codec import Codec, tag_of
from actors.messages.control import CONTROL, Hello, Ready

__all__ = ["PoolListener", "PoolSettings", "WorkerPool"]

logger = logging.getLogger(__name__)

_CONTROL_TAGS = frozenset(command.TAG for command in CONTROL)
_FRAMES_AT_ONCE = 64
_BOOT_FAILURES = 3
_TERM_GRACE = 0.5


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """`handler` is `module:function`, called in each worker with `settings`. Times are in seconds."""

    handler: str
    settings: bytes = b""
    size: int = 2
    python: str = ""
    heartbeat: float = 0.5
    heartbeat_limit: float = 5.0
    restart_base: float = 0.1
    restart_cap: float = 5.0
    ready_limit: float = 60.0


class PoolListener:
    """What the pool tells, always from its own thread; nothing here may block or raise."""

    def worker_ready(self, worker: int, pid: int) -> None:
        """A worker can be sent frames."""

    def frame(self, worker: int, data: bytes) -> None:
        """A frame that is not the runtime's own."""

    def worker_lost(self, worker: int, pid: int, reason: str) -> None:
        """A worker has ended and all its frames have been delivered; nothing of it can write any more."""

    def workers_exhausted(self, reason: str) -> None:
        """For `ready_limit` seconds no worker has been ready, although they were started again and again."""


class WorkerPool:
    """Keeps `settings.size` workers running between `start` and `stop`."""

    def __init__(self, settings: PoolSettings, listener: PoolListener, clock: Clock = monotonic) -> None:
        self._settings = settings
        self._listener = listener
        self._clock = clock
        self._codec = Codec(CONTROL)
        self._control = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._guard = threading.Lock()
        self._workers: dict[int, WorkerProcess] = {}
        self._next_worker = 1
        self._starts: list[float] = []
        self._failures = 0
        self._last_loss = ""
        self._barren_since = clock()
        self._stop_at: float | None = None
        self._all_ready = threading.Event()
        self._finished = threading.Event()
        self._boot_error: WorkerStartError | None = None
        self._thread = threading.Thread(target=self._keep, name="kithara-workers", daemon=True)

    def start(self, timeout: float = 30.0) -> None:
        """Start the workers and block until all are ready.

        Raises WorkerStartError, with everything stopped again, if that takes longer than `timeout` seconds or
        workers end before they are ready.
        """
        self._path = search_path()
        self._starts = [self._clock()] * self._settings.size
        self._thread.start()
        self._all_ready.wait(timeout)
        error = self._boot_error
        if error is None and self._ready_count() < self._settings.size:
            error = WorkerStartError(f"workers were not ready after {timeout:g} s; {self._last_loss or 'no loss seen'}")
        if error is not None:
            self.stop(2.0)
            raise error

    def workers(self) -> dict[int, int]:
        """Ready workers and their process ids."""
        with self._guard:
            return {worker: process.pid for worker, process in self._workers.items() if process.ready}

    def send(self, worker: int, frame: bytes, fds: Sequence[int] = ()) -> bool:
        """Send a frame and descriptors, which stay the caller's; never blocks. False if the worker is gone."""
        with self._guard:
            process = self._workers.get(worker)
        if process is None or not process.send(frame, fds):
            return False
        if process.backlog:
            self._wake()
        return True

    def stop(self, timeout: float = 3.0) -> list[str]:
        """End all workers: ask, then terminate, then kill. Blocks at most about `timeout` seconds; idempotent.

        Returns the names of what could not be ended.
        """
        if self._thread.ident is None:
            self._close_control()
            return []
        with self._guard:
            self._stop_at = self._clock() + timeout
        self._wake()
        self._finished.wait(timeout + 2.0)
        if threading.current_thread() is not self._thread:
            self._thread.join(1.0)
        with self._guard:
            left = [f"worker {process.pid}" for process in self._workers.values()]
        if self._thread.is_alive():
            return [*left, self._thread.name]
        self._close_control()
        return left

    def _close_control(self) -> None:
        with self._guard:
            if self._control >= 0:
                control, self._control = self._control, -1
                os.close(control)

    def _wake(self) -> None:
        with self._guard:
            if self._control >= 0:
                os.eventfd_write(self._control, 1)

    def _ready_count(self) -> int:
        with self._guard:
            return sum(process.ready for process in self._workers.values())

    # Everything below runs on the keeper thread.

    def _keep(self) -> None:
        try:
            while self._stop_at is None:
                self._start_due()
                self._wait_and_read()
                self._watch_silence()
                self._watch_barren()
            self._end_all(self._stop_at)
        except Exception as error:
            logger.exception("the keeper of the workers failed")
            self._boot_error = WorkerStartError(f"the keeper of the workers failed: {error}")
            self._end_all(self._clock() + 1.0)
            self._listener.workers_exhausted(f"the keeper of the workers failed: {error}")
        finally:
            self._all_ready.set()
            self._finished.set()

    def _start_due(self) -> None:
        now = self._clock()
        due = [at for at in self._starts if at <= now]
        self._starts = [at for at in self._starts if at > now]
        for _ in due:
            try:
                process = WorkerProcess(self._next_worker, self._settings.python or sys.executable, now)
            except (OSError, WorkerStartError) as error:
                self._lost_before_ready(str(error), fatal=isinstance(error, WorkerStartError))
                continue
            self._next_worker += 1
            with self._guard:
                self._workers[process.worker] = process
            process.send(self._path)
            process.send(
                self._codec.encode(
                    Hello(
                        process.worker,
                        process.token,
                        self._settings.handler,
                        self._settings.settings,
                        self._settings.heartbeat,
                    )
                )
            )

    def _wait_and_read(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        by_fd: dict[int, WorkerProcess] = {}
        for process in self._workers.values():
            events = select.POLLIN | (select.POLLOUT if process.backlog else 0)
            poll.register(process.channel, events)
            poll.register(process.pidfd, select.POLLIN)
            by_fd[process.channel.fileno()] = by_fd[process.pidfd] = process
        before = self._clock()
        timeout = min([self._settings.heartbeat, *(max(0.0, at - before) for at in self._starts)])
        ready = poll.poll(timeout * 1000)
        late = self._clock() - before - timeout
        if late > 2 * self._settings.heartbeat:
            # This process itself was stopped or starved: silence says nothing about the workers.
            for process in self._workers.values():
                process.heard_at = self._clock()
        touched: dict[int, WorkerProcess] = {}
        for fd, events in ready:
            if fd == self._control:
                os.eventfd_read(self._control)
            else:
                process = by_fd[fd]
                touched[process.worker] = process
                if events & select.POLLOUT:
                    process.flush()
        for process in touched.values():
            # All frames first, then the end of the process: a worker's last words count.
            if self._read(process) or process.gone(0):
                self._lose(process)

    def _read(self, process: WorkerProcess) -> bool:
        """Deliver frames; True when the worker has closed its end."""
        for _ in range(_FRAMES_AT_ONCE):
            data = process.receive()
            if data is None:
                return False
            if not data:
                return True
            process.heard_at = self._clock()
            if tag_of(data) not in _CONTROL_TAGS:
                self._listener.frame(process.worker, data)
                continue
            try:
                command = self._codec.decode(data)
            except CodecError as error:
                logger.warning("worker %d sent a malformed frame: %s", process.pid, error)
                continue
            if isinstance(command, Ready) and command.token == process.token and not process.ready:
                self._mark_ready(process)
        return False

    def _mark_ready(self, process: WorkerProcess) -> None:
        process.ready = True
        self._failures = 0
        self._listener.worker_ready(process.worker, process.pid)
        if self._ready_count() == self._settings.size:
            self._all_ready.set()

    def _lose(self, process: WorkerProcess) -> None:
        process.signal(signal.SIGKILL)
        if process.gone(1.0):
            while self._read(process) is False and process.receive() is not None:
                pass
        with self._guard:
            self._workers.pop(process.worker, None)
        words = process.bury()
        if not self._ready_count():
            self._barren_since = self._clock()
        if process.ready:
            self._last_loss = f"worker {process.pid} {words}"
            self._schedule()
            self._listener.worker_lost(process.worker, process.pid, words)
        else:
            self._lost_before_ready(f"worker {process.pid} {words} before it was ready", fatal=False)

    def _lost_before_ready(self, words: str, *, fatal: bool) -> None:
        self._last_loss = words
        self._schedule()
        if not self._all_ready.is_set() and (fatal or self._failures >= _BOOT_FAILURES):
            self._boot_error = WorkerStartError(f"cannot start worker processes: {words}")
            self._all_ready.set()

    def _schedule(self) -> None:
        """The next start: at once after a first loss, then doubling up to the cap until one becomes ready."""
        delay = 0.0
        if self._failures:
            delay = min(self._settings.restart_cap, self._settings.restart_base * 2 ** (self._failures - 1))
        self._failures += 1
        self._starts.append(self._clock() + delay)

    def _watch_silence(self) -> None:
        now = self._clock()
        for process in list(self._workers.values()):
            limit = self._settings.heartbeat_limit if process.ready else self._settings.ready_limit
            if now - process.heard_at > limit:
                logger.warning("worker %d silent for %.1f s: killed", process.pid, now - process.heard_at)
                self._lose(process)

    def _watch_barren(self) -> None:
        if self._ready_count():
            self._barren_since = self._clock()
        elif self._clock() - self._barren_since > self._settings.ready_limit:
            self._barren_since = self._clock()
            self._listener.workers_exhausted(f"no worker ready for {self._settings.ready_limit:g} s; {self._last_loss}")

    def _end_all(self, deadline: float) -> None:
        left = list(self._workers.values())
        ended: list[tuple[WorkerProcess, str]] = []
        for process in left:
            process.hang_up()
        term_at = min(self._clock() + _TERM_GRACE, deadline)
        for number, until in (
            (signal.SIGTERM, term_at),
            (signal.SIGKILL, min(term_at + _TERM_GRACE, deadline)),
            (None, max(deadline, self._clock() + 1.0)),
        ):
            left = [process for process in left if not process.gone(until - self._clock())]
            for process in left:
                if number is not None:
                    process.signal(number)
        with self._guard:
            for process in list(self._workers.values()):
                if process not in left:
                    process.signal(signal.SIGKILL)  # helpers of its group
                    ended.append((process, process.bury()))
                    del self._workers[process.worker]
        for process, words in ended:
            if process.ready:
                self._listener.worker_lost(process.worker, process.pid, words)
