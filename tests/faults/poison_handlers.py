"""What runs in workers whose requests do harm, each by a word in its URL. Named by `PoolSettings.handler`."""

from __future__ import annotations

import os
import resource
import signal
from typing import Any

from actors.worker.handler import Send
from kithara_actors.messages.worker import RunAttempt
from kithara_actors.worker.main import FetchHandler, make_handler

__all__ = ["make"]

_ROOM = 64 * 1024 * 1024


def make(settings: bytes, send: Send) -> FetchHandler:
    """The handler of every worker, but that `?poison` ends the process, and `?bane` before it has even been read;
    `?glutton` wants more memory than it may."""
    handler = make_handler(settings, send)
    handle, transfer = handler.handle, handler.transfer

    def read(frame: bytes, fds: list[int]) -> None:
        if b"?bane" in frame:
            os.kill(os.getpid(), signal.SIGKILL)
        handle(frame, fds)

    def marked(order: RunAttempt, *rest: Any) -> tuple[int, int | None]:
        if "?poison" in order.spec.url:
            os.kill(os.getpid(), signal.SIGKILL)
        if "?glutton" in order.spec.url:
            _starve()
        return transfer(order, *rest)

    handler.handle = read  # type: ignore[method-assign]
    handler.transfer = marked  # type: ignore[method-assign]
    return handler


def _starve() -> None:
    """Raise MemoryError, as where a limit of the address space is reached."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as sizes:  # noqa: PTH123
        used = int(sizes.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _ROOM, before[1]))
    try:
        bytearray(4 * _ROOM)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
