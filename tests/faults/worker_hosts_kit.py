"""Programs that use worker processes and no media, run as hosts of their own."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from host_kit import ROOT, Host, run, running

FUNCTIONS = os.pathsep.join([str(ROOT), str(Path(__file__).resolve().parents[1] / "runtime")])

START = """
import ctypes, os, signal, sys, threading
from actors import WorkerCalls
kept = []
calls = WorkerCalls(4, heartbeat=0.1, heartbeat_limit=60.0)
"""
"""Makes them, and does not start them."""

SCENES = {
    "idle": "",
    "busy": """
fifo = os.environ["TMPDIR"] + "/fifo"
os.mkfifo(fifo)
writer = os.open(fifo, os.O_RDWR)
kept += [calls.call("call_functions:begin_and_wait", f"{fifo}-{n}", fifo, deadline=600.0) for n in range(2)]
while not all(os.path.exists(f"{fifo}-{n}") for n in range(2)):
    pass
for name in (fifo, fifo + "-0", fifo + "-1"):
    os.unlink(name)
""",
    "stopped": """
for pid in calls.workers().values():
    os.kill(pid, signal.SIGSTOP)
""",
    "holding the GIL": """
kept += [calls.call("call_functions:hold", 600, deadline=600.0) for _ in range(4)]
while any(status.frames == 0 for status in calls.status()):
    pass
""",
}
"""What the workers do when the end comes."""

ALL_AT_ONCE = """
fifo = os.environ["TMPDIR"] + "/fifo"
os.mkfifo(fifo)
writer = os.open(fifo, os.O_RDWR)
kept.append(calls.call("call_functions:begin_and_wait", fifo + "-0", fifo, deadline=600.0))
while not os.path.exists(fifo + "-0"):
    pass
os.unlink(fifo)
os.unlink(fifo + "-0")
kept.append(calls.call("call_functions:hold", 600, deadline=600.0))
while sum(status.frames for status in calls.status()) < 2:
    pass
idle = [status.pid for status in calls.status() if not status.frames]
os.kill(idle[0], signal.SIGSTOP)
"""
"""One is busy, one holds the GIL, one is stopped, one is idle."""


def host_of(code: str, *arguments: str, **options: Any) -> AbstractContextManager[Host]:
    """The program runs; what is left of it at the end is killed."""
    return running(code, *arguments, env={"PYTHONPATH": FUNCTIONS}, **options)


def ran(code: str, *arguments: str, **options: Any) -> tuple[int, str, str]:
    """The program runs to its end and leaves nothing: exit code, output, errors."""
    return run(code, *arguments, env={"PYTHONPATH": FUNCTIONS}, **options)
