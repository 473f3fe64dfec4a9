"""The thread of a pool: starts the processes, reads their channels, notices their death, kills what has gone silent.

One thread for all of it and for as long as the pool lives, because the parent-death signal of a worker is tied to
the thread that started it. It never waits for a single worker.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import signal
import sys
import threading
from collections.abc import Callable

from actors.actor.cell import is_resource
from actors.actor.pool_port import PoolListener, PoolSettings, WorkerStatus
from actors.actor.process import WorkerProcess, end_all
from actors.actor.reading import read_on
from actors.clock import Clock
from actors.errors import CodecError, WorkerStartError
from actors.logic.restarts import Backoff
from actors.logic.worker_slots import Recycling, Slot, Slots
from actors.messages.codec import Codec, tag_of
from actors.messages.control import CONTROL, Heartbeat, Hello, Ready, StopWorker

__all__ = ["PoolKeeper"]

logger = logging.getLogger(__name__)

_CONTROL_TAGS = frozenset(command.TAG for command in CONTROL)
_FRAMES_AT_ONCE = 64
_LATE = 3
"""Heartbeats that a round of the thread may take before silence says nothing: one is its poll, two are missed."""
_REAP_LIMIT = 1.0
"""Seconds after SIGKILL after which a process is not waited for any more."""
_TOGETHER = 0.02
"""Seconds within which another death counts as the same accident."""
_TOGETHER_AT_MOST = 0.06


class PoolKeeper:
    """What runs on the pool's thread. `guard` protects `workers` and the state of each; all else is the thread's."""

    def __init__(
        self, settings: PoolSettings, listener: PoolListener | None, clock: Clock, draw: Callable[[], float]
    ) -> None:
        self.guard = threading.Lock()
        self.workers: dict[int, WorkerProcess] = {}
        self.unreaped: list[WorkerProcess] = []
        self.settings = settings
        self.launched = threading.Event()
        self.all_ready = threading.Event()
        self.finished = threading.Event()
        self.boot_error: WorkerStartError | None = None
        self.last_loss = ""
        self.survivors: list[str] = []
        self.path = b""
        self._listener = listener or PoolListener()
        self._heard = listener is not None
        self._clock = clock
        self._draw = draw
        self._codec = Codec(CONTROL)
        self._recycling = Recycling(settings.recycle_frames, settings.recycle_age, settings.recycle_growth)
        self._slots = Slots(
            settings.size, Backoff(settings.restart_base, settings.restart_cap), settings.ready_limit, clock()
        )
        self._orders: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._next_worker = 1
        self._ticked = clock()
        self._stop_at: float | None = None
        self._control = -1
        self._control_lock = threading.Lock()

    # --- From any thread

    def open(self) -> None:
        """Before the thread starts. Raises OSError (EMFILE)."""
        self._control = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def close(self) -> None:
        """After the thread has ended. Idempotent."""
        with self._control_lock:
            if self._control >= 0:
                control, self._control = self._control, -1
                os.close(control)

    def wake(self) -> None:
        """Have it look again."""
        with self._control_lock:
            if self._control >= 0:
                os.eventfd_write(self._control, 1)

    def order(self, call: Callable[[], object]) -> None:
        """Run `call` on the thread, soon; never blocks."""
        self._orders.put(call)
        self.wake()

    def stop_at(self, deadline: float) -> None:
        """End all workers, at most until `deadline`."""
        self._stop_at = deadline
        self.wake()

    def status(self) -> tuple[WorkerStatus, ...]:
        """Every process that is there."""
        now = self._clock()
        with self.guard:
            found = [process.status(now, self._slots.losses(process.worker)) for process in self.workers.values()]
            left = [WorkerStatus(process.worker, process.pid, "unreapable") for process in self.unreaped]
        return (*found, *left)

    def pids(self) -> list[int]:
        """Of every process that was started and is not known to have ended."""
        with self.guard:
            return [process.pid for process in (*self.workers.values(), *self.unreaped)]

    # --- As orders

    def listen(self, listener: PoolListener) -> None:
        self._listener = listener
        self._heard = True

    def enlist(self) -> None:
        self._slots.enlist(self._clock())

    def discharge(self, worker: int) -> None:
        process = self.workers.get(worker)
        if process is not None and self._slots.discharge(worker):
            self._retire(process, "discharged")

    def kill(self, worker: int, cause: str) -> None:
        process = self.workers.get(worker)
        if process is not None and process.doomed_at is None:
            self._condemn(process, cause)

    # --- The thread

    def run(self) -> None:
        try:
            while self._stop_at is None:
                self._obey()
                self._start_due()
                self.launched.set()
                self._wait_and_read()
                self._watch()
            self._end_all(self._stop_at)
        except Exception as error:
            logger.exception("the keeper of the workers failed")
            self.boot_error = WorkerStartError(f"the keeper of the workers failed: {error}")
            self._listener.workers_exhausted(f"the keeper of the workers failed: {error}")
            self._end_all(self._clock() + 1.0)
        finally:
            self.launched.set()
            self.all_ready.set()
            self.finished.set()

    def _obey(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._orders.get_nowait()()

    # --- Starting

    @property
    def python(self) -> str:
        return self.settings.python or sys.executable

    def _start_due(self) -> None:
        for slot in self._slots.startable(self._clock()):
            self._start_one(slot)

    def _start_one(self, slot: Slot) -> None:
        now = self._clock()
        try:
            process = WorkerProcess(self._next_worker, self.python, now)
        except (OSError, MemoryError, WorkerStartError) as error:
            self.last_loss = f"a worker could not be started: {error}"
            fatal = isinstance(error, WorkerStartError)
            if self._slots.failed(slot, now, self._draw(), resource=is_resource(error), fatal=fatal):
                self._cannot_start(str(error))
            return
        self._next_worker += 1
        self._slots.started(slot, process.worker)
        with self.guard:
            self.workers[process.worker] = process
        settings = self.settings
        process.send(self.path)
        hello = Hello(process.worker, process.token, settings.handler, settings.settings, settings.heartbeat)
        process.send(self._codec.encode(hello))
        process.frames = 0

    def _cannot_start(self, words: str) -> None:
        self.boot_error = WorkerStartError(f"cannot start worker processes with {self.python!r}: {words}")
        self.all_ready.set()
        self._listener.cannot_start(str(self.boot_error))

    # --- Reading

    def _wait_and_read(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        by_fd: dict[int, WorkerProcess] = {}
        for process in self.workers.values() if self._heard else ():
            poll.register(process.pidfd, select.POLLIN)
            by_fd[process.pidfd] = process
            if not process.at_end:
                poll.register(process.channel, select.POLLIN | (select.POLLOUT if process.backlog else 0))
                by_fd[process.channel.fileno()] = process
        for process in self.unreaped:
            poll.register(process.pidfd, select.POLLIN)
        pause = self._slots.pause(self._clock())
        timeout = self.settings.heartbeat if pause is None else min(pause, self.settings.heartbeat)
        ready = read_on(poll, timeout, by_fd, self._read, self._clock)
        self._forgive_if_late()
        touched: dict[int, WorkerProcess] = {}
        for fd, events in ready:
            if fd == self._control:
                os.eventfd_read(self._control)
            elif fd in by_fd:
                process = by_fd[fd]
                touched[process.worker] = process
                if events & select.POLLOUT:
                    process.flush()
        # All frames first, then the end of the process: a worker's last words count.
        for process in touched.values():
            if not process.at_end and self._read(process):
                process.at_end = True
                self._condemn(process)
        gone = [process for process in touched.values() if process.pidfd in dict(ready)]
        if gone:
            self._lose_together(gone)
        self._reap()

    def _forgive_if_late(self) -> None:
        """This process itself was stopped or starved: then silence says nothing about the workers."""
        now = self._clock()
        if now - self._ticked > _LATE * self.settings.heartbeat:
            for process in self.workers.values():
                process.heard_at = now
                if process.doomed_at is not None:
                    process.doomed_at = now
        self._ticked = now

    def _read(self, process: WorkerProcess) -> bool:
        """Deliver frames, not so many that other workers wait; True when the worker has closed its end."""
        for _ in range(_FRAMES_AT_ONCE):
            data = process.receive()
            if data is None:
                return False
            if not data:
                return True
            self._take(process, data)
        return False

    def _take(self, process: WorkerProcess, data: bytes) -> None:
        process.heard_at = self._clock()
        if tag_of(data) not in _CONTROL_TAGS:
            self._listener.frame(process.worker, data)
            return
        try:
            command = self._codec.decode(data)
        except CodecError as error:
            logger.warning("worker %d sent a malformed frame: %s", process.pid, error)
            return
        match command:
            case Ready(token) if token == process.token and not process.ready:
                self._mark_ready(process)
            case Heartbeat():
                process.said = command
                if process.first_memory is None:
                    process.first_memory = command.memory
                if process.retiring_at is not None and command.busy == 0 and process.close_if_idle(command.frames):
                    process.dismiss(self._codec.encode(StopWorker()))

    def _mark_ready(self, process: WorkerProcess) -> None:
        arrival = self._slots.ready(process.worker, self._clock())
        if arrival.extra:
            self._listener.worker_enlisted(process.worker)
        process.ready_at = self._clock()
        self._listener.worker_ready(process.worker, process.pid)
        retiring = None if arrival.retiring is None else self.workers.get(arrival.retiring)
        if retiring is not None:
            self._retire(retiring, f"retired ({retiring.worn})")
        if self._slots.booted:
            self.all_ready.set()

    # --- Watching

    def _watch(self) -> None:
        # The moment at which lateness was judged: who is stopped right after that is not late yet.
        now = self._ticked
        for process in list(self.workers.values()):
            if process.doomed_at is not None:
                if now - process.doomed_at > _REAP_LIMIT:
                    self._abandon(process)
                continue
            limit = self.settings.heartbeat_limit if process.ready else self.settings.ready_limit
            if now - process.heard_at > limit:
                logger.warning("worker %d silent for %.1f s: killed", process.pid, now - process.heard_at)
                self._condemn(process, f"silent for {now - process.heard_at:.1f} s")
            elif process.retiring_at is None:
                self._recycle_if_worn(process, now)
            elif now - process.retiring_at > self.settings.retire_limit and process.close():
                process.cause += f", still busy after {self.settings.retire_limit:g} s"
                process.dismiss(self._codec.encode(StopWorker()))
        if self._slots.exhausted(now):
            limit = self.settings.ready_limit
            self._listener.workers_exhausted(f"no worker ready for {limit:g} s; {self.last_loss}")

    def _recycle_if_worn(self, process: WorkerProcess, now: float) -> None:
        if process.ready_at is None:
            return
        growth = process.said.memory - (process.first_memory or 0)
        worn = self._recycling.reason(process.frames, now - process.ready_at, growth)
        if worn is not None and self._slots.recycle(process.worker, now):
            process.worn = worn

    def _retire(self, process: WorkerProcess, cause: str) -> None:
        """It gets nothing new from here on, and goes when a heartbeat shows that all it was sent is done."""
        process.retiring_at = self._clock()
        process.cause = cause
        self._listener.worker_retiring(process.worker)

    # --- Ending

    def _condemn(self, process: WorkerProcess, cause: str = "") -> None:
        """Kill it; its end is seen like any other, or given up after a while."""
        process.close()
        process.doomed_at = self._clock()
        process.cause = cause or process.cause
        process.signal(signal.SIGKILL)

    def _lose_together(self, lost: list[WorkerProcess]) -> None:
        """What kills one worker often kills several: know them all before work moves from one to the next."""
        others = {process.pidfd: process for process in self.workers.values() if process not in lost}
        poll = select.poll()
        for pidfd in others:
            poll.register(pidfd, select.POLLIN)
        until = self._clock() + _TOGETHER_AT_MOST
        while others and self._clock() < until and (ended := poll.poll(_TOGETHER * 1000)):
            for pidfd, _ in ended:
                poll.unregister(pidfd)
                lost.append(others.pop(pidfd))
        with self.guard:
            for process in lost:
                del self.workers[process.worker]
        if len(lost) > 1:
            self._listener.lost_together(tuple(process.worker for process in lost))
        for process in lost:
            process.signal(signal.SIGKILL)  # helpers of its group
            self._drain(process)
            self._lost(process, process.bury())

    def _drain(self, process: WorkerProcess) -> None:
        while data := process.receive():
            self._take(process, data)

    def _abandon(self, process: WorkerProcess) -> None:
        """Killed, and not gone: the kernel keeps it in a system call. It is reaped when that ends."""
        self._drain(process)
        process.hang_up()
        with self.guard:
            del self.workers[process.worker]
            self.unreaped.append(process)
        logger.warning("worker %d was killed and is not gone after %g s", process.pid, _REAP_LIMIT)
        self._lost(process, f"killed, unreapable after {_REAP_LIMIT:g} s")

    def _reap(self) -> None:
        for process in [process for process in self.unreaped if process.gone(0)]:
            with self.guard:
                self.unreaped.remove(process)
            logger.info("worker %d is gone at last: %s", process.pid, process.bury())

    def _lost(self, process: WorkerProcess, words: str) -> None:
        if process.cause:
            words = f"{process.cause}, {words}"
        self.last_loss = f"worker {process.pid} {words}"
        if process.ready_at is None:
            self.last_loss += " before it was ready"
        if self._slots.lost(process.worker, self._clock(), self._draw()):
            self._cannot_start(self.last_loss)
        if process.ready:
            self._listener.worker_lost(process.worker, process.pid, words, process.taken)

    def _end_all(self, deadline: float) -> None:
        left = end_all([*self.workers.values(), *self.unreaped], deadline, self._clock)
        self.survivors = [f"worker {process.pid}" for process in left]
        with self.guard:
            ended = [process for process in self.workers.values() if process not in left]
            self.workers.clear()
            unreaped, self.unreaped = self.unreaped, []
        for process in (*unreaped, *left):
            process.bury()
        for process in ended:
            words = process.bury()
            if process.ready:
                self._listener.worker_lost(process.worker, process.pid, words, process.taken)
