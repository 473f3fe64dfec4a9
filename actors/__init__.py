"""Supervision for Pykka, and worker processes: the runtime under kithara_actors, which knows nothing of media."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.actor.address import Address
    from actors.actor.cell import Behaviour
    from actors.actor.pool import WorkerPool
    from actors.actor.system import Runtime
    from actors.errors import ActorsError, CodecError, WorkerStartError
    from actors.messages.codec import Codec
    from actors.messages.command import Command

__all__ = [
    "ActorsError",
    "Address",
    "Behaviour",
    "Codec",
    "CodecError",
    "Command",
    "Runtime",
    "WorkerPool",
    "WorkerStartError",
]

# Resolved at first use: a worker process imports this package and must not load Pykka with it.
_HOME = {
    "ActorsError": "actors.errors",
    "Address": "actors.actor.address",
    "Behaviour": "actors.actor.cell",
    "Codec": "actors.messages.codec",
    "CodecError": "actors.errors",
    "Command": "actors.messages.command",
    "Runtime": "actors.actor.system",
    "WorkerPool": "actors.actor.pool",
    "WorkerStartError": "actors.errors",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
