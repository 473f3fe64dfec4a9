"""What a pool is told when it is made, whom it tells what, and what it says of its workers."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["PoolListener", "PoolSettings", "WorkerStatus"]

_SECONDS = ("heartbeat", "heartbeat_limit", "restart_base", "restart_cap", "ready_limit", "retire_limit")


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """`handler` is `module:function`, called in each worker with `settings`. Times are in seconds.

    The three that begin with `recycle` have a worker replaced that did not fail; None (the default) never does.
    One worker at a time: its successor is ready before it is told to take no more, and it leaves when it is idle or
    after `retire_limit`. ValueError names a wrong field.
    """

    handler: str
    settings: bytes = field(default=b"", repr=False)
    size: int = 2
    python: str = ""
    heartbeat: float = 0.5
    heartbeat_limit: float = 5.0
    restart_base: float = 0.1
    restart_cap: float = 5.0
    ready_limit: float = 60.0
    recycle_frames: int | None = None
    """Frames that a worker was sent."""
    recycle_age: float | None = None
    recycle_growth: int | None = None
    """Bytes of memory of its own that it holds more than at its first heartbeat."""
    retire_limit: float = 600.0

    def __post_init__(self) -> None:
        if not self.handler.partition(":")[2]:
            raise ValueError(f"handler must be 'module:function', not {self.handler!r}")
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"size must be a whole number of at least 1, not {self.size!r}")
        for name in _SECONDS:
            _check_number(name, getattr(self, name))
        for name in ("recycle_frames", "recycle_age", "recycle_growth"):
            if (value := getattr(self, name)) is not None:
                _check_number(name, value)


def _check_number(name: str, value: object) -> None:
    # Written so that a NaN fails as well.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e15:
        raise ValueError(f"{name} must be a positive number, not {value!r}")


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One process of a pool at one moment.

    `state` is "starting", "ready", "retiring", "ending" (it was killed and is not gone yet) or "unreapable" (it was
    killed, and the kernel keeps it, in disk sleep most likely). `age` is in seconds since it was ready; `busy`,
    `frames` and `memory` (bytes of its own, shared ones left out) are as of its last heartbeat; `losses` are those
    in a row at its place in the pool.
    """

    worker: int
    pid: int
    state: str
    age: float = 0.0
    busy: int = 0
    frames: int = 0
    memory: int = 0
    losses: int = 0


class PoolListener:
    """What the pool tells, always from its own thread; nothing here may block or raise."""

    def worker_enlisted(self, worker: int) -> None:
        """The next `worker_ready` is of this worker, which `WorkerPool.enlist` asked for: it is beyond the size."""

    def worker_ready(self, worker: int, pid: int) -> None:
        """A worker can be sent frames."""

    def worker_retiring(self, worker: int) -> None:
        """A worker is to be given nothing new; it leaves when it is idle. `send` takes what belongs to its old work."""

    def frame(self, worker: int, data: bytes) -> None:
        """A frame that is not the runtime's own."""

    def worker_lost(self, worker: int, pid: int, reason: str, taken: int) -> None:
        """A worker has ended and all its frames have been delivered; nothing of it can write any more.

        Its handler was given the frames that `WorkerPool.send` numbered 1 to `taken`; of later ones it knew nothing.

        One exception: if `reason` says "unreapable", it was killed within a system call that the kernel has not
        ended, a write to a file system that hangs most likely; that one call may still take effect.
        """

    def lost_together(self, workers: tuple[int, ...]) -> None:
        """These have died at the same moment, of one accident most likely; `worker_lost` of each follows."""

    def workers_exhausted(self, reason: str) -> None:
        """For `ready_limit` seconds no worker has been ready, although they were started again and again."""

    def cannot_start(self, reason: str) -> None:
        """No worker was ever ready, some attempts at starting one have failed, and no more are made."""
