"""Progressive media download and playback inside long-running servers.

    with ActorSystem.start() as system, system.open("https://example.org/01.flac") as stream:
        container = av.open(stream)

Event classes are in `kithara_actors.events`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kithara_actors.adapters import as_miniaudio, complete_path
    from kithara_actors.batching import Batch
    from kithara_actors.config import Config
    from kithara_actors.errors import (
        BodyTooLarge,
        Cancelled,
        CodecError,
        ConnectError,
        DigestMismatch,
        InternalError,
        InvalidContentType,
        InvalidKey,
        KitharaError,
        PoisonRequest,
        PolicyError,
        ProtocolError,
        ReadTimeout,
        ResourceChanged,
        RetryExhausted,
        StatusError,
        StorageFull,
        StreamError,
        SystemStopped,
        UnsupportedPlatform,
    )
    from kithara_actors.fetching import FetchCommand, FetchResult, Headers
    from kithara_actors.policies import public_only
    from kithara_actors.status import CacheStats, Health, HealthState, HostStats, PrefetchStats, RequestStats, Stats
    from kithara_actors.stream.prefetch import Prefetch
    from kithara_actors.stream.reader import Stream
    from kithara_actors.stream.subscription import Subscription
    from kithara_actors.system import ActorSystem
    from kithara_actors.values import (
        Answer,
        AudioCodec,
        CancelReason,
        Container,
        Cover,
        MediaDetails,
        MediaInfo,
        Phase,
        Priority,
    )

__all__ = [
    "ActorSystem",
    "Answer",
    "AudioCodec",
    "Batch",
    "BodyTooLarge",
    "CacheStats",
    "CancelReason",
    "Cancelled",
    "CodecError",
    "Config",
    "ConnectError",
    "Container",
    "Cover",
    "DigestMismatch",
    "FetchCommand",
    "FetchResult",
    "Headers",
    "Health",
    "HealthState",
    "HostStats",
    "InternalError",
    "InvalidContentType",
    "InvalidKey",
    "KitharaError",
    "MediaDetails",
    "MediaInfo",
    "Phase",
    "PoisonRequest",
    "PolicyError",
    "Prefetch",
    "PrefetchStats",
    "Priority",
    "ProtocolError",
    "ReadTimeout",
    "RequestStats",
    "ResourceChanged",
    "RetryExhausted",
    "Stats",
    "StatusError",
    "StorageFull",
    "Stream",
    "StreamError",
    "Subscription",
    "SystemStopped",
    "UnsupportedPlatform",
    "as_miniaudio",
    "complete_path",
    "public_only",
]

# Resolved at first use: a worker process imports this package and must not load Pykka with it.
_HOME = {
    "ActorSystem": "system",
    "Answer": "values",
    "AudioCodec": "values",
    "Batch": "batching",
    "CacheStats": "status",
    "CancelReason": "values",
    "Config": "config",
    "Container": "values",
    "Cover": "values",
    "FetchCommand": "fetching",
    "FetchResult": "fetching",
    "Headers": "fetching",
    "Health": "status",
    "HealthState": "status",
    "HostStats": "status",
    "MediaDetails": "values",
    "MediaInfo": "values",
    "Phase": "values",
    "Prefetch": "stream.prefetch",
    "PrefetchStats": "status",
    "Priority": "values",
    "RequestStats": "status",
    "Stats": "status",
    "Stream": "stream.reader",
    "Subscription": "stream.subscription",
    "as_miniaudio": "adapters",
    "complete_path": "adapters",
    "public_only": "policies",
}


def __getattr__(name: str) -> object:
    if name in __all__:
        module = importlib.import_module(f"kithara_actors.{_HOME.get(name, 'errors')}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
