"""One thread that sends commands later. Everything reaches it through a SimpleQueue, so a finalizer may use it."""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import threading
from collections.abc import Callable

from actors.actor.address import Address
from actors.clock import Clock, monotonic
from actors.messages.command import Command

__all__ = ["Timers"]

logger = logging.getLogger(__name__)


class Timers:
    """Delivers commands to addresses at their time, and runs short calls that must not run where they arise."""

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._arrivals: queue.SimpleQueue[tuple[float, Callable[[], object]] | None] = queue.SimpleQueue()
        self._serial = itertools.count()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is not None:
            raise RuntimeError("these timers were started before")
        # Not made before: Python 3.13.0 starts no thread that was made before a fork.
        self._thread = threading.Thread(target=self._run, name="kithara-timers", daemon=True)
        self._thread.start()

    def after(self, delay: float, address: Address, command: Command) -> None:
        """Tell `address` the command in `delay` seconds. A stopped address is ignored. Never blocks.

        There is no way to take a timer back: commands carry what tells a late one from a current one.
        """
        self._arrivals.put((self._clock() + delay, lambda: address.tell(command)))

    def call(self, delay: float, call: Callable[[], object]) -> None:
        """Run `call` on the timer thread in `delay` seconds. It must not block; what it raises is logged."""
        self._arrivals.put((self._clock() + delay, call))

    def soon(self, call: Callable[[], object]) -> None:
        """Run `call` on the timer thread, soon. It must not block; what it raises is logged. Never blocks."""
        self._arrivals.put((self._clock(), call))

    def stop(self, timeout: float) -> bool:
        """End the thread; what was pending is dropped. True if it ended within `timeout` seconds."""
        if self._thread is None or self._thread.ident is None:
            return True
        self._arrivals.put(None)
        if self._thread is threading.current_thread():
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        heap: list[tuple[float, int, Callable[[], object]]] = []
        while True:
            timeout = max(0.0, heap[0][0] - self._clock()) if heap else None
            try:
                arrival = self._arrivals.get(timeout=timeout)
            except queue.Empty:
                pass
            else:
                if arrival is None:
                    return
                heapq.heappush(heap, (arrival[0], next(self._serial), arrival[1]))
            while heap and heap[0][0] <= self._clock():
                _, _, call = heapq.heappop(heap)
                try:
                    call()
                except BaseException:  # a SystemExit would end the thread without a word
                    logger.exception("a timer's call failed")
