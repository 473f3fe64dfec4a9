"""The one module that reads time, so that everything else can be driven by a clock of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Clock", "cpu_clock", "monotonic", "monotonic_ns", "wall"]

Clock = Callable[[], float]
"""Seconds as a float; differences are meaningful, the origin is not."""

monotonic: Clock = time.monotonic
"""Seconds that never go back: every deadline and limit uses these."""

monotonic_ns: Callable[[], int] = time.monotonic_ns
"""The same in whole nanoseconds (CLOCK_MONOTONIC): one clock for all processes of a machine."""

wall: Clock = time.time
"""Seconds since the epoch, for time stamps that people read; may jump."""


def cpu_clock() -> Clock:
    """A clock of the CPU time that the calling thread has had. May be read from any thread, while that one lives."""
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)
