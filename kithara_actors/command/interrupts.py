"""Ctrl-C, SIGTERM and a closed terminal as an exception, raised only where the work can be left."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["Interrupted", "Interrupts"]


class Interrupted(BaseException):
    """The user, or the system, asked for the end; `signal` says by which signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


class Interrupts:
    """Takes SIGINT, SIGTERM and SIGHUP over, in the main thread, for the length of a with statement.

    A signal raises `Interrupted` inside `armed()` and is remembered outside: starting and stopping the system
    are not torn apart, whatever the user's impatience.
    """

    def __init__(self) -> None:
        self.received = 0
        """The number of the last signal, 0 for none."""
        self._armed = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # What the parent has ignored for us, as nohup and background jobs do, stays ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Where a signal raises `Interrupted`; one that came before raises it at once."""
        self._armed = True
        try:
            if self.received:
                raise Interrupted(self.received)
            yield
        finally:
            self._armed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.received = number
        if self._armed:
            self._armed = False
            raise Interrupted(number)
