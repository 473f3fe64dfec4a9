"""Worker processes kept alive by one thread that lives as long as the pool; what that thread does is in `pool_keeper`.

Everything here may be called from any thread.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Sequence

from actors.actor.pool_keeper import PoolKeeper
from actors.actor.pool_port import PoolListener, PoolSettings, WorkerStatus
from actors.actor.process import search_path
from actors.clock import Clock, monotonic
from actors.errors import WorkerStartError

__all__ = ["PoolListener", "PoolSettings", "WorkerPool", "WorkerStatus"]


class WorkerPool:
    """Keeps `settings.size` workers running between `start` and `stop`."""

    def __init__(
        self,
        settings: PoolSettings,
        listener: PoolListener | None = None,
        clock: Clock = monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._owner: int | None = None
        self._keeper = PoolKeeper(settings, listener, clock, draw)
        self._thread: threading.Thread | None = None

    def start(self, timeout: float = 30.0) -> None:
        """Start the workers and block until all are ready; `launch` and `wait_ready` in one."""
        self.launch()
        self.wait_ready(timeout)

    def launch(self, wait: float = 5.0) -> None:
        """Start the processes without waiting for them to be ready. They are not listened to before `listen`.

        Blocks until they run, at most `wait` seconds, so that they do not compete with what the caller does next.
        Raises WorkerStartError for a search path that cannot be passed on, OSError (EMFILE), RuntimeError (no
        thread; or it was started before); nothing is left then.
        """
        if self._thread is not None:
            raise RuntimeError("this pool was started before")
        self._keeper.path = search_path()
        self._keeper.open()
        # Not made before: Python 3.13.0 starts no thread that was made before a fork.
        self._thread = threading.Thread(target=self._keeper.run, name="kithara-workers", daemon=True)
        self._owner = os.getpid()
        try:
            self._thread.start()
        except BaseException:
            self._keeper.close()
            raise
        self._keeper.launched.wait(wait)

    def listen(self, listener: PoolListener) -> None:
        """Where to report from now on, if the pool was made without a listener."""
        self._keeper.order(lambda: self._keeper.listen(listener))

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Block until all workers have been ready.

        Raises WorkerStartError, with everything stopped again, if that takes longer than `timeout` seconds or
        workers end before they are ready.
        """
        keeper = self._keeper
        in_time = keeper.all_ready.wait(timeout)
        error = keeper.boot_error
        if error is None and not in_time:
            lost = keeper.last_loss or "no loss seen"
            error = WorkerStartError(f"workers were not ready after {timeout:g} s; {lost}")
        elif error is None and keeper.finished.is_set():
            error = WorkerStartError("stopped before the workers were ready")
        if error is not None:
            self.stop(2.0)
            raise error

    def workers(self) -> dict[int, int]:
        """Ready workers and their process ids; an enlisted one too. None in a fork."""
        if self.forked:
            return {}  # whoever held the lock may not exist here
        with self._keeper.guard:
            return {worker: process.pid for worker, process in self._keeper.workers.items() if process.ready}

    def retiring(self) -> set[int]:
        """Ready workers that are to be given nothing new."""
        if self.forked:
            return set()
        with self._keeper.guard:
            return {worker for worker, process in self._keeper.workers.items() if process.retiring_at is not None}

    @property
    def forked(self) -> bool:
        """Whether this is a fork of the process that started the pool: the workers are not its, nor is the thread."""
        return self._owner not in (None, os.getpid())

    def status(self) -> tuple[WorkerStatus, ...]:
        """Every process of the pool, also those that are starting or ending; none in a fork. Never blocks."""
        return () if self.forked else self._keeper.status()

    def send(self, worker: int, frame: bytes, fds: Sequence[int] = ()) -> int:
        """Send a frame and descriptors, which stay the caller's; never blocks.

        The number of the frame among those for this worker, from 1 on, which `PoolListener.worker_lost` refers to. 0
        if the worker is gone, or about to go, and in a fork of this process; then it was not sent. Raises
        FrameTooLong, and OSError (EMFILE) where descriptors have to wait and there are none left.
        """
        if self.forked:
            return 0
        with self._keeper.guard:
            process = self._keeper.workers.get(worker)
        number = 0 if process is None else process.send(frame, fds)
        if process is not None and process.backlog:
            self._keeper.wake()
        return number

    def enlist(self) -> None:
        """Have one worker started beyond the size; never blocks.

        The listener is told `worker_enlisted`, then `worker_ready`. When it dies it is reported lost and not
        replaced; before it was ready, its start is tried again.
        """
        self._keeper.order(self._keeper.enlist)

    def discharge(self, worker: int) -> None:
        """Have an enlisted worker leave when it is idle, as one that is recycled; never blocks.

        No effect on others, and on one that has gone.
        """
        self._keeper.order(lambda: self._keeper.discharge(worker))

    def kill(self, worker: int, cause: str) -> None:
        """SIGKILL a worker, which is reported lost and replaced; `cause` begins the words. Never blocks."""
        self._keeper.order(lambda: self._keeper.kill(worker, cause))

    def stop(self, timeout: float = 3.0) -> list[str]:
        """End all workers: ask, then terminate, then kill. Blocks at most about `timeout` seconds; idempotent.

        Returns the names of what could not be ended. Has no effect in a fork of this process: the workers are not its.
        """
        keeper = self._keeper
        if self.forked:
            return []
        if self._thread is None or self._thread.ident is None:
            return []
        keeper.stop_at(self._clock() + timeout)
        keeper.finished.wait(timeout + 2.0)
        if threading.current_thread() is not self._thread:
            self._thread.join(1.0)
        if self._thread.is_alive():
            return [*(f"worker {pid}" for pid in keeper.pids()), self._thread.name]
        keeper.close()
        return list(keeper.survivors)
