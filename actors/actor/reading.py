"""How the keeper of a pool waits for its workers while they have much to say."""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping

from actors.actor.process import WorkerProcess
from actors.clock import Clock

__all__ = ["read_on"]

_AT_MOST = 0.05
"""Seconds for which nothing but frames is looked after."""
_NEXT_WITHIN = 0.002
"""Seconds within which another frame has to come for that."""


def read_on(
    poll: select.poll,
    timeout: float,
    channels: Mapping[int, WorkerProcess],
    read: Callable[[WorkerProcess], bool],
    clock: Clock,
) -> list[tuple[int, int]]:
    """What `poll` finds within `timeout` seconds; `channels` are the processes by all that is polled of them.

    As long as that is only frames they are read at once, and waited for again: looking after everything else costs more
    than a frame. `read` returns True when a process has closed its end.
    """
    ready = poll.poll(timeout * 1000)
    until = clock() + _AT_MOST
    while ready and clock() < until:
        for fd, events in ready:
            process = channels.get(fd)
            if events != select.POLLIN or process is None or fd != process.channel.fileno() or read(process):
                return ready
        ready = poll.poll(_NEXT_WITHIN * 1000)
    return ready
