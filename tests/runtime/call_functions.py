"""Functions that the tests have called in worker processes."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors.worker.helpers import start_helper


def echo(*arguments: Any) -> list[Any]:
    return list(arguments)


def pid() -> int:
    return os.getpid()


def modules() -> list[str]:
    return sorted(sys.modules)


def wait_for(path: str) -> str:
    """Blocks until somebody writes to the FIFO."""
    return Path(path).read_text()


def begin_and_wait(begun: str, path: str) -> str:
    """Says that it runs, then blocks."""
    Path(begun).write_text(str(os.getpid()))
    return Path(path).read_text()


def raises(name: str, *arguments: Any) -> None:
    raise {
        "lookup": LookupError,
        "file": FileNotFoundError,
        "two": NeedsTwo,
        "own": Own,
        "other": Other,
        "mute": Mute,
        "exit": SystemExit,
        "interrupt": KeyboardInterrupt,
        "group": lambda text: ExceptionGroup(text, [ValueError(text)]),
        "long": lambda size: ValueError("é" * size),
        "surrogate": lambda: ValueError("\udcff"),
        "object": lambda: ValueError(object()),
    }[name](*arguments)


def chained() -> None:
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError("second") from error


class NeedsTwo(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class Own(Exception):
    pass


class Other(Exception):
    """Says another thing of the same arguments the second time."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.what} in {os.getpid()}"


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not a word")


class Nested:
    @staticmethod
    def inner() -> str:
        return "nested"


def returns_lambda() -> Callable[[], int]:
    return lambda: 1


def returns_bytes(size: int) -> bytes:
    return bytes(size)


def recurses() -> None:
    recurses()


def kill_self(number: int = signal.SIGKILL) -> None:
    signal.raise_signal(number)  # to this thread: it does not come to answer


def leave(status: int) -> None:
    os._exit(status)


def leave_once(path: str) -> str:
    """Dies the first time."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "alive"
    os._exit(1)


def crash() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def hold(seconds: int) -> None:
    """Nothing of this process's Python runs any more."""
    ctypes.PyDLL(None).sleep(seconds)


def ignores_sigterm() -> int:
    """Not from here: signals are the main thread's, which is the control thread; the block is inherited by none."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    return os.getpid()


def grow(size: int) -> int:
    """Under a limit of memory that is lower."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size // 2, before[1]))
    try:
        return len(bytearray(size))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def threads() -> int:
    return threading.active_count()


def start_sleeper() -> int:
    """A program of the worker's own, which would outlive it if it were not taken along."""
    return start_helper(["sleep", "600"]).pid


def start_sleeper_from_a_thread() -> int:
    """The thread that asks for it is over before anything else happens."""
    started: list[int] = []
    thread = threading.Thread(target=lambda: started.append(start_sleeper()))
    thread.start()
    thread.join()
    return started[0]


def run_helper(*arguments: str) -> list[Any]:
    import subprocess

    process = start_helper(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output, errors = process.communicate(timeout=60)
    return [process.returncode, output, errors, process.args[-1]]


def start_helper_wrongly() -> None:
    start_helper(["true"], cwd="/no/such/folder")


def write_file(path: str, text: str) -> int:
    return Path(path).write_text(text)
