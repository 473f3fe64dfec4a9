"""Worker processes kept alive by one thread that lives as long as the pool.

That thread starts the processes (the parent-death signal is tied to it), reads their channels, notices their
death, kills what has gone silent and starts replacements. `send` may be called from any thread.
"""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.actor.pool_port import PoolListener, PoolSettings
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
_STARTS_AT_ONCE = 2
_HEALTHY = 10.0
"""Seconds a worker must have been ready for, so that its loss counts as a first one."""
_TERM_GRACE = 0.5
_TOGETHER = 0.02
"""Seconds within which another death counts as the same accident."""


@dataclass(slots=True)
class _Slot:
    """The place of one worker: when it is to be filled, and how often in a row it became empty."""

    due: float
    losses: int = 0


class WorkerPool:
    """Keeps `settings.size` workers running between `start` and `stop`."""

    def __init__(
        self,
        settings: PoolSettings,
        listener: PoolListener | None = None,
        clock: Clock = monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._listener = listener or PoolListener()
        self._heard = listener is not None
        self._clock = clock
        self._draw = draw
        self._codec = Codec(CONTROL)
        self._control = -1
        self._guard = threading.Lock()
        self._workers: dict[int, WorkerProcess] = {}
        self._slots: dict[int, _Slot] = {}
        self._empty: list[_Slot] = []
        self._next_worker = 1
        self._boot_losses = 0
        self._last_loss = ""
        self._barren_since = clock()
        self._stop_at: float | None = None
        self._all_ready = threading.Event()
        self._launched = threading.Event()
        self._finished = threading.Event()
        self._boot_error: WorkerStartError | None = None
        self._thread = threading.Thread(target=self._keep, name="kithara-workers", daemon=True)

    def start(self, timeout: float = 30.0) -> None:
        """Start the workers and block until all are ready; `launch` and `wait_ready` in one."""
        self.launch()
        self.wait_ready(timeout)

    def launch(self, wait: float = 5.0) -> None:
        """Start the processes without waiting for them to be ready. They are not listened to before `listen`.

        Blocks until they run, at most `wait` seconds, so that they do not compete with what the caller does next.
        Raises WorkerStartError for a search path that cannot be passed on, OSError (EMFILE), RuntimeError (no
        thread); nothing is left then.
        """
        self._path = search_path()
        self._empty = [_Slot(self._clock()) for _ in range(self._settings.size)]
        self._control = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._thread.start()
        except BaseException:
            self._close_control()
            raise
        self._launched.wait(wait)

    def listen(self, listener: PoolListener) -> None:
        """Where to report from now on, if the pool was made without a listener."""
        self._listener = listener
        self._heard = True
        self._wake()

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Block until all workers have been ready.

        Raises WorkerStartError, with everything stopped again, if that takes longer than `timeout` seconds or
        workers end before they are ready.
        """
        in_time = self._all_ready.wait(timeout)
        error = self._boot_error
        if error is None and not in_time:
            error = WorkerStartError(f"workers were not ready after {timeout:g} s; {self._last_loss or 'no loss seen'}")
        elif error is None and self._finished.is_set():
            error = WorkerStartError("stopped before the workers were ready")
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
                self._launched.set()
                self._wait_and_read()
                self._watch_silence()
                self._watch_barren()
            self._end_all(self._stop_at)
        except Exception as error:
            logger.exception("the keeper of the workers failed")
            self._boot_error = WorkerStartError(f"the keeper of the workers failed: {error}")
            self._listener.workers_exhausted(f"the keeper of the workers failed: {error}")
            self._end_all(self._clock() + 1.0)
        finally:
            self._launched.set()
            self._all_ready.set()
            self._finished.set()

    def _startable(self) -> list[_Slot]:
        """Empty slots, the first due first, as many as may start at once: replacing many must not starve the rest."""
        slots = sorted(self._empty, key=lambda slot: slot.due)
        if not self._all_ready.is_set():
            return slots
        starting = sum(not process.ready for process in self._workers.values())
        return slots[: max(0, _STARTS_AT_ONCE - starting)]

    def _start_due(self) -> None:
        now = self._clock()
        for slot in self._startable():
            if slot.due <= now and slot in self._empty:
                self._empty.remove(slot)
                self._start_one(slot, now)

    def _start_one(self, slot: _Slot, now: float) -> None:
        try:
            process = WorkerProcess(self._next_worker, self._python, now)
        except (OSError, WorkerStartError) as error:
            self._lost_before_ready(slot, str(error), fatal=isinstance(error, WorkerStartError))
            return
        self._next_worker += 1
        self._slots[process.worker] = slot
        with self._guard:
            self._workers[process.worker] = process
        settings = self._settings
        process.send(self._path)
        process.send(
            self._codec.encode(
                Hello(process.worker, process.token, settings.handler, settings.settings, settings.heartbeat)
            )
        )

    @property
    def _python(self) -> str:
        return self._settings.python or sys.executable

    def _wait_and_read(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        by_fd: dict[int, WorkerProcess] = {}
        for process in self._workers.values() if self._heard else ():
            events = select.POLLIN | (select.POLLOUT if process.backlog else 0)
            poll.register(process.channel, events)
            poll.register(process.pidfd, select.POLLIN)
            by_fd[process.channel.fileno()] = by_fd[process.pidfd] = process
        before = self._clock()
        timeout = min([self._settings.heartbeat, *(max(0.0, slot.due - before) for slot in self._startable())])
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
        # All frames first, then the end of the process: a worker's last words count.
        lost = [process for process in touched.values() if self._read(process) or process.gone(0)]
        if lost:
            self._lose_together(lost)

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
        if isinstance(command, Ready) and command.token == process.token and not process.ready:
            self._mark_ready(process)

    def _mark_ready(self, process: WorkerProcess) -> None:
        process.ready_at = self._clock()
        self._boot_losses = 0
        self._listener.worker_ready(process.worker, process.pid)
        if self._ready_count() == self._settings.size:
            self._all_ready.set()

    def _lose_together(self, lost: list[WorkerProcess]) -> None:
        """What kills one worker often kills several: know them all before work moves from one to the next."""
        others = {process.pidfd: process for process in self._workers.values() if process not in lost}
        poll = select.poll()
        for pidfd in others:
            poll.register(pidfd, select.POLLIN)
        while others and (ended := poll.poll(_TOGETHER * 1000)):
            for pidfd, _ in ended:
                poll.unregister(pidfd)
                lost.append(others.pop(pidfd))
        with self._guard:
            for process in lost:
                del self._workers[process.worker]
        for process in lost:
            self._lose(process)

    def _lose(self, process: WorkerProcess, cause: str = "") -> None:
        process.signal(signal.SIGKILL)
        if process.gone(1.0):
            while data := process.receive():
                self._take(process, data)
        with self._guard:
            self._workers.pop(process.worker, None)
        slot = self._slots.pop(process.worker)
        words = process.bury()
        if cause:
            words = f"{cause}, {words}"
        if not self._ready_count():
            self._barren_since = self._clock()
        if process.ready_at is None:
            self._lost_before_ready(slot, f"worker {process.pid} {words} before it was ready", fatal=False)
            return
        if self._clock() - process.ready_at >= _HEALTHY:
            slot.losses = 0
        self._last_loss = f"worker {process.pid} {words}"
        self._schedule(slot)
        self._listener.worker_lost(process.worker, process.pid, words)

    def _lost_before_ready(self, slot: _Slot, words: str, *, fatal: bool) -> None:
        self._last_loss = words
        self._schedule(slot)
        self._boot_losses += 1
        if not self._all_ready.is_set() and (fatal or self._boot_losses >= _BOOT_FAILURES):
            self._boot_error = WorkerStartError(f"cannot start worker processes with {self._python!r}: {words}")
            self._empty.clear()
            self._all_ready.set()
            self._listener.cannot_start(str(self._boot_error))

    def _schedule(self, slot: _Slot) -> None:
        """Fill the slot again: at once after a first loss, then after a delay that doubles, jittered below the cap."""
        delay = 0.0
        if slot.losses:
            longest = min(self._settings.restart_cap, self._settings.restart_base * 2 ** min(slot.losses - 1, 30))
            delay = longest * (0.8 + 0.2 * self._draw())
        slot.losses += 1
        slot.due = self._clock() + delay
        self._empty.append(slot)

    def _watch_silence(self) -> None:
        now = self._clock()
        for process in list(self._workers.values()):
            limit = self._settings.heartbeat_limit if process.ready else self._settings.ready_limit
            if now - process.heard_at > limit:
                logger.warning("worker %d silent for %.1f s: killed", process.pid, now - process.heard_at)
                self._lose(process, f"silent for {now - process.heard_at:.1f} s")

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
