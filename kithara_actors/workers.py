"""The worker processes of a system, as its configuration wants them."""

from __future__ import annotations

from collections.abc import Callable

from actors.actor.pool import PoolListener, PoolSettings, WorkerPool
from actors.messages.codec import Codec
from kithara_actors.config import Config
from kithara_actors.messages.commands import WorkerGone, WorkerRetires, WorkerUp
from kithara_actors.messages.worker import WorkerSettings
from kithara_actors.policies import host_policy, public_only

__all__ = ["Listener", "worker_pool"]

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


class Listener(PoolListener):
    """Tells the Downloader what the workers say, and what becomes of them; and who ends all when none can be had."""

    def __init__(
        self, tell: Callable[[WorkerUp | WorkerRetires | WorkerGone | bytes], None], give_up: Callable[[str], None]
    ) -> None:
        self._tell = tell
        self._give_up = give_up
        self._extra: set[int] = set()
        self._together: set[int] = set()

    def worker_enlisted(self, worker: int) -> None:
        self._extra.add(worker)

    def worker_ready(self, worker: int, pid: int) -> None:
        self._tell(WorkerUp(worker, pid, worker in self._extra))

    def worker_retiring(self, worker: int) -> None:
        self._tell(WorkerRetires(worker))

    def frame(self, worker: int, data: bytes) -> None:  # noqa: ARG002
        self._tell(data)

    def lost_together(self, workers: tuple[int, ...]) -> None:
        self._together.update(workers)

    def worker_lost(self, worker: int, pid: int, reason: str, taken: int) -> None:
        self._tell(WorkerGone(worker, pid, reason, taken, together=worker in self._together))
        self._extra.discard(worker)
        self._together.discard(worker)

    def workers_exhausted(self, reason: str) -> None:
        self._give_up(reason)
