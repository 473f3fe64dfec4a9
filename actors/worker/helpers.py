"""Programs that a worker starts: they end when the worker does, however it ends."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

__all__ = ["start_helper"]

_SHIM = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(3)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"cannot run {sys.argv[2]}: {error.strerror}")
"""
"""Arms the parent-death signal, which an exec keeps, and becomes the program. Not done between fork and exec, where a
process that had threads may call next to nothing."""

_Order = tuple[list[str], dict[str, Any], "queue.SimpleQueue[subprocess.Popen[Any] | BaseException]"]
_orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
_lock = threading.Lock()
_starter: list[threading.Thread] = []


def start_helper(arguments: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a program as `subprocess.Popen` does; it is killed when this process ends, even by SIGKILL.

    It stays in the worker's process group. A program that cannot be run ends with status 1 and says why on its
    standard error. Blocks until it is started, some 20 ms. Raises what Popen raises.
    """
    with _lock:
        if not _starter:
            # The signal comes when the thread that started the program ends: this one never does.
            thread = threading.Thread(target=_run, name="helpers", daemon=True)
            thread.start()
            _starter.append(thread)
    answer: queue.SimpleQueue[subprocess.Popen[Any] | BaseException] = queue.SimpleQueue()
    _orders.put(([sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), *arguments], options, answer))
    started = answer.get()
    if isinstance(started, BaseException):
        raise started
    return started


def _run() -> None:
    while True:
        arguments, options, answer = _orders.get()
        try:
            answer.put(subprocess.Popen(arguments, **options))
        except BaseException as error:  # noqa: BLE001 - raised where it was asked for
            answer.put(error)
