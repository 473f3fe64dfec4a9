"""What runs inside a worker process, as the loop sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

__all__ = ["Factory", "Handler", "Send", "Watching"]

Send = Callable[[bytes], None]
"""Send one frame to the host; from any thread; blocks while the host is slow to take it."""


class Handler(Protocol):
    """Handles the frames that are not the runtime's own. Its methods run on the worker's control thread."""

    def handle(self, frame: bytes, fds: list[int]) -> None:
        """Take one frame and own its descriptors. Must not block: long work goes to threads of the handler."""

    def busy(self) -> int:
        """How many pieces of work are in progress: each from its frame on until the last frame about it is sent.

        A worker that is to leave does so when this is 0.
        """


@runtime_checkable
class Watching(Handler, Protocol):
    """A handler that waits for more than frames, without a thread."""

    def fileno(self) -> int:
        """A descriptor, the same for good, that is readable when there is something for `look`."""

    def look(self) -> None:
        """Do what can be done now. Must not block."""

    def pause(self) -> float | None:
        """Seconds after which to `look` in any case; None if there is no reason to."""


Factory = Callable[[bytes, Send], Handler]
"""Makes the handler from `Hello.settings`; it may import what it needs, before the worker says it is ready."""
