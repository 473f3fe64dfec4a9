"""Threads for jobs that block: as many as there are jobs, kept for the next ones."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["ThreadPool"]

Job = TypeVar("Job")


class ThreadPool(Generic[Job]):
    """Runs every job at once, each on a thread of its own for as long as it takes.

    While jobs are short, few threads do them all: who is done takes the next job before it sleeps, threads are woken
    one after the other, each by the one before, and the last that fell asleep is the first. To wake one for each job
    costs more than a small request does: those that find nothing to do take the interpreter's lock from the others.
    """

    def __init__(self, run: Callable[[Job], None], name: str, idle: float) -> None:
        """`run` must not raise; threads without a job end after `idle` seconds."""
        self._run = run
        self._name = name
        self._idle_for = idle
        self._lock = threading.Lock()
        self._jobs: deque[Job] = deque()
        self._idle: list[threading.Lock] = []
        """What each idle thread waits for, held until then."""
        self._waking = 0
        """Threads that were woken, or started, and have not looked for a job yet."""

    def start(self, job: Job) -> None:
        """Have `job` run; does not block. Raises RuntimeError where the system has no thread left."""
        with self._lock:
            self._jobs.append(job)
            more = len(self._jobs) > len(self._idle) + self._waking
            self._waking += more
            woken = None if more else self._wake()
        if woken is not None:
            woken.release()
        if not more:
            return
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._waking -= 1
                with contextlib.suppress(ValueError):  # one that was done has taken it
                    self._jobs.remove(job)
                    raise

    def _wake(self) -> threading.Lock | None:
        """Who is to be woken next, if that is due."""
        if not self._jobs or self._waking or not self._idle:
            return None
        self._waking += 1
        return self._idle.pop()

    def _work(self) -> None:
        own = threading.Lock()
        own.acquire()
        woken = True
        while True:
            with self._lock:
                self._waking -= woken
                job = self._jobs.popleft() if self._jobs else None
                if job is None:
                    self._idle.append(own)
                another = self._wake()
            if another is not None:
                another.release()
            if job is not None:
                self._run(job)
                woken = False
                job = None
            elif not (woken := self._sleep(own)):
                return

    def _sleep(self, own: threading.Lock) -> bool:
        """Until there may be a job: False if there was none for so long that the thread is to end."""
        if own.acquire(timeout=self._idle_for):
            return True
        with self._lock:
            if own in self._idle:
                self._idle.remove(own)
                # A job that is there counts on this thread.
                self._waking += bool(self._jobs)
                return bool(self._jobs)
        own.acquire()  # it was just woken
        return True
