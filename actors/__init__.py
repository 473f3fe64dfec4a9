"""Supervision for Pykka, and worker processes: the runtime under kithara_actors, which knows nothing of media."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.actor.address import Address, AskTimeout
    from actors.actor.behaviour import Behaviour, Crash, StopSelf
    from actors.actor.calls import NoWorkerError, WorkerCalls
    from actors.actor.children import ChildInfo, ChildSpec, SupervisorSpec
    from actors.actor.context import Context
    from actors.actor.dynamic import DynamicSupervisor
    from actors.actor.errors import (
        ActorGoneError,
        ActorHungError,
        MailboxFullError,
        MailboxWaitError,
        PoisonRequest,
        SupervisorGaveUp,
        WatchedActorEnded,
        WorkerLostError,
        WorkerTimeoutError,
    )
    from actors.actor.hooks import SupervisorHooks
    from actors.actor.pool import PoolListener, PoolSettings, WorkerPool, WorkerStatus
    from actors.actor.supervisor import Supervisor
    from actors.actor.system import Runtime
    from actors.actor.timers import Timers
    from actors.actor.watching import Watch
    from actors.errors import ActorsError, CodecError, FrameTooLong, RemoteError, WorkerStartError
    from actors.logic.health import Health, HealthState
    from actors.logic.restarts import Backoff, Intensity, RestartType, Strategy
    from actors.logic.supervision import ChildState
    from actors.messages.codec import Codec
    from actors.messages.command import Command

__all__ = [
    "ActorGoneError",
    "ActorHungError",
    "ActorsError",
    "Address",
    "AskTimeout",
    "Backoff",
    "Behaviour",
    "ChildInfo",
    "ChildSpec",
    "ChildState",
    "Codec",
    "CodecError",
    "Command",
    "Context",
    "Crash",
    "DynamicSupervisor",
    "FrameTooLong",
    "Health",
    "HealthState",
    "Intensity",
    "MailboxFullError",
    "MailboxWaitError",
    "NoWorkerError",
    "PoisonRequest",
    "PoolListener",
    "PoolSettings",
    "RemoteError",
    "RestartType",
    "Runtime",
    "StopSelf",
    "Strategy",
    "Supervisor",
    "SupervisorGaveUp",
    "SupervisorHooks",
    "SupervisorSpec",
    "Timers",
    "Watch",
    "WatchedActorEnded",
    "WorkerCalls",
    "WorkerLostError",
    "WorkerPool",
    "WorkerStartError",
    "WorkerStatus",
    "WorkerTimeoutError",
]

# Resolved at first use: a worker process imports this package and must not load Pykka with it.
_HOME = {
    "ActorGoneError": "actors.actor.errors",
    "ActorHungError": "actors.actor.errors",
    "ActorsError": "actors.errors",
    "Address": "actors.actor.address",
    "AskTimeout": "actors.actor.address",
    "Backoff": "actors.logic.restarts",
    "Behaviour": "actors.actor.behaviour",
    "ChildInfo": "actors.actor.children",
    "ChildSpec": "actors.actor.children",
    "ChildState": "actors.logic.supervision",
    "Codec": "actors.messages.codec",
    "CodecError": "actors.errors",
    "Command": "actors.messages.command",
    "Context": "actors.actor.context",
    "Crash": "actors.actor.behaviour",
    "DynamicSupervisor": "actors.actor.dynamic",
    "FrameTooLong": "actors.errors",
    "Health": "actors.logic.health",
    "HealthState": "actors.logic.health",
    "Intensity": "actors.logic.restarts",
    "MailboxFullError": "actors.actor.errors",
    "MailboxWaitError": "actors.actor.errors",
    "NoWorkerError": "actors.actor.calls",
    "PoisonRequest": "actors.actor.errors",
    "PoolListener": "actors.actor.pool",
    "PoolSettings": "actors.actor.pool",
    "RemoteError": "actors.errors",
    "RestartType": "actors.logic.restarts",
    "Runtime": "actors.actor.system",
    "StopSelf": "actors.actor.behaviour",
    "Strategy": "actors.logic.restarts",
    "Supervisor": "actors.actor.supervisor",
    "SupervisorGaveUp": "actors.actor.errors",
    "SupervisorHooks": "actors.actor.hooks",
    "SupervisorSpec": "actors.actor.children",
    "Timers": "actors.actor.timers",
    "Watch": "actors.actor.watching",
    "WatchedActorEnded": "actors.actor.errors",
    "WorkerCalls": "actors.actor.calls",
    "WorkerLostError": "actors.actor.errors",
    "WorkerPool": "actors.actor.pool",
    "WorkerStartError": "actors.errors",
    "WorkerStatus": "actors.actor.pool",
    "WorkerTimeoutError": "actors.actor.errors",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
