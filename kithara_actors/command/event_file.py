"""`kithara get --events FILE`: what happens, written down as it happens."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from kithara_actors.command.explain import CommandError, os_remedy
from kithara_actors.command.text import write_all, write_error_line
from kithara_actors.events import to_json
from kithara_actors.stream.subscription import Subscription
from kithara_actors.system import ActorSystem

__all__ = ["EventFile", "event_file"]

_PATIENCE = 5.0
"""Seconds that whoever reads the events may keep the command waiting when its work is done."""


def event_file(options: argparse.Namespace, output: Path | None) -> EventFile | None:
    """Where --events leads, opened; None without it. `output` is the file that the bytes go to.

    Raises CommandError, and argparse.ArgumentTypeError for wrong usage.
    """
    name: str | None = options.events
    if name is None:
        return None
    if name == "-":
        if sys.stdout is None:
            raise CommandError("the standard output is closed")
        return EventFile("the standard output", os.dup(sys.stdout.fileno()))
    if not name:
        raise argparse.ArgumentTypeError("the FILE of --events is empty")
    if output is not None and os.path.realpath(name) in (os.path.realpath(output), f"{os.path.realpath(output)}.part"):
        raise argparse.ArgumentTypeError("--events and -o name the same file")
    try:
        # For its owner alone: it tells who asked for what.
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        remedy = os_remedy(error.errno) or "; choose another place"
        raise CommandError(f"cannot write the events to {name}: {error.strerror}{remedy}") from error
    return EventFile(name, fd)


class EventFile:
    """Takes all events of a system, on a thread of its own, from `watch` to the end of the block.

    Each event is one line, written at once. What is too slow loses events, which is noted in their place; what fails
    is told once, on the standard error, and the command goes on without it.
    """

    def __init__(self, shown: str, fd: int) -> None:
        self._shown = shown
        self._fd = fd
        self._thread: threading.Thread | None = None

    def watch(self, system: ActorSystem) -> None:
        """Write what happens from here on, until the system has stopped. Does not block."""
        subscription = system.subscribe()
        self._thread = threading.Thread(target=self._run, args=(subscription,), name="kithara-events", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.join(_PATIENCE)
            if self._thread.is_alive():
                # It holds the descriptor, in a write that does not end.
                write_error_line(f"kithara: whoever reads the events from {self._shown} is too slow: not all are there")
                return
        os.close(self._fd)

    def _run(self, subscription: Subscription) -> None:
        with subscription:
            try:
                for envelope in subscription:
                    write_all(self._fd, f"{to_json(envelope)}\n".encode())
            except OSError as error:
                reason = f"{error.strerror}{os_remedy(error.errno)}"
                write_error_line(f"kithara: no more events are written to {self._shown}: {reason}")
