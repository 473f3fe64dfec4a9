"""Frames that every worker process understands, beside those of the package that uses it.

Tags from 1 to 15 are the runtime's. A frame is one datagram of the worker's own SOCK_SEQPACKET socketpair and at
most `FRAME_LIMIT` bytes long.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.messages.command import Command

__all__ = ["CONTROL", "FRAME_LIMIT", "Heartbeat", "Hello", "Ready", "StopWorker"]

FRAME_LIMIT = 65536
"""Bytes; the longest frame either side sends."""


@dataclass(frozen=True, slots=True)
class Hello(Command):
    """Host → worker, first frame after the search path: who this worker is and what it is for.

    `handler` is `module:function`, called in the worker to make what handles the other frames; `settings` are its
    arguments as bytes that only it understands; `heartbeat` is in seconds.
    """

    TAG = 1
    worker: int
    token: bytes
    handler: str
    settings: bytes = field(repr=False)
    heartbeat: float


@dataclass(frozen=True, slots=True)
class Ready(Command):
    """Worker → host: the handler is up; `token` is Hello's, so that no other process can answer for it."""

    TAG = 2
    token: bytes
    pid: int


@dataclass(frozen=True, slots=True)
class Heartbeat(Command):
    """Worker → host, from the worker's control thread, every `Hello.heartbeat` seconds.

    `frames` is how many the handler has taken, `busy` how much of what they asked for is not done; `memory` is in
    bytes, what the process shares with others left out.
    """

    TAG = 3
    VERSION = 2
    busy: int
    frames: int
    memory: int


@dataclass(frozen=True, slots=True)
class StopWorker(Command):
    """Host → worker: end now. Closing the channel means the same."""

    TAG = 4


CONTROL: tuple[type[Command], ...] = (Hello, Ready, Heartbeat, StopWorker)
