"""What a pool is told when it is made, and whom it tells what."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["PoolListener", "PoolSettings"]


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """`handler` is `module:function`, called in each worker with `settings`. Times are in seconds."""

    handler: str
    settings: bytes = field(default=b"", repr=False)
    size: int = 2
    python: str = ""
    heartbeat: float = 0.5
    heartbeat_limit: float = 5.0
    restart_base: float = 0.1
    restart_cap: float = 5.0
    ready_limit: float = 60.0


class PoolListener:
    """What the pool tells, always from its own thread; nothing here may block or raise."""

    def worker_ready(self, worker: int, pid: int) -> None:
        """A worker can be sent frames."""

    def frame(self, worker: int, data: bytes) -> None:
        """A frame that is not the runtime's own."""

    def worker_lost(self, worker: int, pid: int, reason: str) -> None:
        """A worker has ended and all its frames have been delivered; nothing of it can write any more."""

    def workers_exhausted(self, reason: str) -> None:
        """For `ready_limit` seconds no worker has been ready, although they were started again and again."""

    def cannot_start(self, reason: str) -> None:
        """No worker was ever ready, some attempts at starting one have failed, and no more are made."""
