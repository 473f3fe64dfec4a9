"""Calls of functions in worker processes: what is asked, and how it ended. Values are msgpack, one inside the other."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.messages.command import Command
from actors.messages.control import FRAME_LIMIT

__all__ = ["CALLS", "VALUE_LIMIT", "CallDone", "CallFailed", "RunCall"]

VALUE_LIMIT = FRAME_LIMIT - 2048
"""Bytes; the longest arguments or result, packed, that fit a frame with what else is in it."""


@dataclass(frozen=True, slots=True)
class RunCall(Command):
    """Host → worker: call `function` (`module:name`) with `arguments`, a packed array."""

    TAG = 8
    call: int
    function: str
    arguments: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CallDone(Command):
    """Worker → host: it returned."""

    TAG = 9
    call: int
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CallFailed(Command):
    """Worker → host: it raised, or what it returned cannot be sent. `arguments` are the exception's, if they can be."""

    TAG = 10
    call: int
    module: str
    name: str
    text: str
    traceback: str
    arguments: bytes | None


CALLS: tuple[type[Command], ...] = (RunCall, CallDone, CallFailed)
