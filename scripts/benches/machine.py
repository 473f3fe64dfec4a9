"""The clocks of the kernel, and when this machine is quiet enough to measure on."""

from __future__ import annotations

import mmap
import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "DISTURBED",
    "TMPFS",
    "Busyness",
    "children",
    "cpu_of",
    "machine_busy",
    "own_cpu",
    "touch_memory",
    "wait_free",
    "wait_idle",
]

TMPFS = Path("/dev/shm")
DISTURBED = 0.15
"""Of all processors: a sample during which others used more is taken again."""

_IDLE_WITHIN = 30.0
_IDLE_SHARE = 0.15
"""Of one processor: what may be busy while nothing is measured."""


def cpu_of(pids: Sequence[int]) -> float:
    """CPU seconds that processes have used so far, their ended threads included (clock_getcpuclockid(3))."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def own_cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def machine_busy() -> float:
    """CPU seconds that the whole machine has used so far, in steps of a tick."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Process ids of the children that the first thread of `pid` started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_idle(within: float = _IDLE_WITHIN) -> bool:
    """Wait until nobody uses the machine much; False if that does not happen within so many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        before, began = machine_busy(), time.monotonic()
        time.sleep(0.1)
        if machine_busy() - before <= _IDLE_SHARE * (time.monotonic() - began):
            return True
    return False


def wait_free(pages: int) -> None:
    """Wait until tmpfs has about `pages` free pages again: a file goes when its last descriptor is closed."""
    deadline = time.monotonic() + 2.0
    while os.statvfs(TMPFS).f_bfree < pages - 1024 and time.monotonic() < deadline:
        time.sleep(0.005)


def touch_memory(size: int) -> None:
    """Have the hypervisor back that much memory, and leave it at the head of the kernel's free lists."""
    mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


class Busyness:
    """What others use of the processors from its making on, this process and `pids` left out."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._began = time.perf_counter()
        self._before = machine_busy(), self._ours()

    def others_share(self) -> float:
        """Of all processors, between 0 and 1; as exact as the kernel's ticks."""
        busy, ours = machine_busy() - self._before[0], self._ours() - self._before[1]
        seconds = time.perf_counter() - self._began
        return max(0.0, busy - ours) / seconds / (os.cpu_count() or 1)

    def _ours(self) -> float:
        return own_cpu() + cpu_of(self._pids)
