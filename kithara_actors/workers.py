"""The worker processes of a system, as its configuration wants them."""

from __future__ import annotations

from actors.actor.pool import PoolSettings, WorkerPool
from actors.messages.codec import Codec
from kithara_actors.config import Config
from kithara_actors.messages.worker import WorkerSettings
from kithara_actors.policies import host_policy, public_only

__all__ = ["worker_pool"]

_GROWTH = 300_000_000
"""Bytes that a worker may grow by before another takes its place: the figure of loky's executor for its workers."""


def worker_pool(config: Config) -> WorkerPool:
    """A pool that is not started yet. Raises CodecError for a setting that cannot be sent to a worker."""
    cert, key = (config.cert, None) if isinstance(config.cert, str | None) else config.cert
    settings = WorkerSettings(
        connect_timeout=config.connect_timeout,
        inactivity_timeout=config.inactivity_timeout,
        verify=bool(config.verify),
        ca_bundle=config.verify if isinstance(config.verify, str) else None,
        certificate=cert,
        key=key,
        proxies=None if config.proxies is None else tuple(config.proxies.items()),
        max_connections=config.max_per_host,
        allow_downgrade=config.allow_downgrade,
        public_only=config.url_policy is public_only,
        asks=host_policy(config.url_policy) is not None,
        max_rate=None if config.max_rate is None else float(config.max_rate),
        max_rate_per_host=None if config.max_rate_per_host is None else float(config.max_rate_per_host),
    )
    return WorkerPool(
        PoolSettings(
            handler="kithara_actors.worker.main:make_handler",
            settings=Codec([WorkerSettings]).encode(settings),
            size=config.workers,
            python=config.worker_python,
            heartbeat=config.heartbeat,
            heartbeat_limit=config.heartbeat_limit,
            recycle_growth=_GROWTH,
        )
    )
