"""Functions called in worker processes: what may crash, hang or be killed there costs one call, not the host."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import msgpack
import pykka

from actors.actor.errors import ActorGoneError, PoisonRequest, WorkerLostError, WorkerTimeoutError
from actors.actor.pool import WorkerPool
from actors.actor.pool_port import PoolListener, PoolSettings, WorkerStatus
from actors.actor.timers import Timers
from actors.clock import Clock, monotonic
from actors.errors import CodecError, RemoteError
from actors.messages.calls import CALLS, VALUE_LIMIT, CallDone, CallFailed, RunCall
from actors.messages.codec import Codec

__all__ = ["NoWorkerError", "WorkerCalls"]

logger = logging.getLogger(__name__)

_LOSSES = 2
"""Workers that a call may take with it."""
_SUSPECTS = 1000
"""Calls that took a worker with them and are remembered; the oldest are forgotten first."""
_LATE = 1.0
"""Seconds by which a deadline is seen late only where this process was itself stopped or starved."""


class NoWorkerError(WorkerTimeoutError):
    """No worker was free until the deadline: the call did not begin."""

    temporary = True

    def __str__(self) -> str:
        return f"no worker was free within {self.seconds:g} s"


@dataclass(slots=True)
class _Call:
    number: int
    function: str
    frame: bytes = field(repr=False)
    seconds: float
    due: float
    idempotent: bool
    key: bytes = field(repr=False)
    future: pykka.ThreadingFuture[Any] = field(default_factory=pykka.ThreadingFuture)
    worker: int | None = None
    forgiven: bool = False


class WorkerCalls:
    """Runs `module:function` in `size` worker processes, one call at a time in each. Safe from any thread.

    `deadline` is in seconds, for calls that name none. `settings` are those of `PoolSettings`, such as `python`,
    `heartbeat_limit`, or `recycle_frames`: each call is a frame. ValueError names a wrong one.
    """

    def __init__(self, size: int = 2, *, deadline: float = 30.0, clock: Clock = monotonic, **settings: Any) -> None:
        self._deadline = _seconds(deadline)
        self._clock = clock
        self._codec = Codec(CALLS)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._calls: dict[int, _Call] = {}
        self._waiting: deque[int] = deque()
        self._running: dict[int, int] = {}
        self._free: dict[int, None] = {}
        self._pids: dict[int, int] = {}
        self._retiring: set[int] = set()
        self._suspects: OrderedDict[bytes, int] = OrderedDict()
        self._stopped = False
        self._timers = Timers(clock)
        self._pool = WorkerPool(
            PoolSettings("actors.worker.calls:make_handler", size=size, **settings), _Listener(self), clock
        )

    def start(self, timeout: float = 30.0) -> Self:
        """Start the processes and block until they are ready.

        Raises WorkerStartError, OSError (EMFILE) or RuntimeError (no thread); nothing is left then.
        """
        self._timers.start()
        try:
            self._pool.start(timeout)
        except BaseException:
            self.stop(1.0)
            raise
        return self

    def call(
        self, function: str, *arguments: Any, deadline: float | None = None, idempotent: bool = False
    ) -> pykka.Future[Any]:
        """Have `function`, named as `module:name`, called with `arguments` in a worker. Never blocks.

        Arguments and result are plain data, as msgpack has it, at most 62 KiB: TypeError or ValueError here names
        what cannot be sent. Tuples arrive as lists.

        The future raises what the function raised, if that can be carried over, with a RemoteError as its cause that
        has the traceback; else the RemoteError. It raises WorkerLostError when the process died under the call, which
        may or may not have been carried out; with `idempotent` it is carried out once more. A call that took two
        workers with it, now or before, is refused with PoisonRequest. After `deadline` seconds it raises
        WorkerTimeoutError, and the process is killed; NoWorkerError, if it had not begun. After `stop`, and in a fork
        of this process, ActorGoneError. A call before `start` (or the with statement) waits for that, whatever its
        deadline.
        """
        seconds = self._deadline if deadline is None else _seconds(deadline)
        packed = _packed(function, arguments)
        number = next(self._numbers)
        frame = self._codec.encode(RunCall(number, function, packed))
        key = hashlib.blake2b(packed, digest_size=16, key=hashlib.sha256(function.encode()).digest()).digest()
        call = _Call(number, function, frame, seconds, self._clock() + seconds, idempotent, key)
        if self._pool.forked:
            # Its locks may be held by threads that this process does not have.
            _raise_in(call.future, ActorGoneError("the worker calls belong to the process that was forked"))
            return call.future
        with self._lock:
            if self._stopped:
                refused: Exception | None = ActorGoneError("the worker calls have stopped")
            elif self._suspects.get(key, 0) >= _LOSSES:
                refused = PoisonRequest(
                    f"{function} was refused: with these arguments it took {_LOSSES} workers with it"
                )
            else:
                refused = None
                self._calls[number] = call
                self._waiting.append(number)
                self._serve()
        if refused is None:
            self._timers.call(seconds, lambda: self._expire(number))
        else:
            _raise_in(call.future, refused)
        return call.future

    def workers(self) -> dict[int, int]:
        """Ready workers and their process ids."""
        return self._pool.workers()

    def status(self) -> tuple[WorkerStatus, ...]:
        """Every process, also those that are starting or ending."""
        return self._pool.status()

    def stop(self, timeout: float = 3.0) -> list[str]:
        """End the processes; open calls end with pykka.ActorDeadError. Blocks about `timeout` seconds; idempotent.

        Returns the names of what could not be ended.
        """
        if self._pool.forked:
            return []
        with self._lock:
            self._stopped = True
            calls = list(self._calls.values())
            self._calls.clear()
            self._waiting.clear()
        for call in calls:
            _raise_in(call.future, ActorGoneError("the worker calls have stopped"))
        left = self._pool.stop(timeout)
        if not self._timers.stop(1.0):
            left.append("kithara-timers")
        return left

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- Inside; the lock is held where it says so

    def _serve(self) -> None:
        """Give what waits to who is free. The lock is held."""
        while self._waiting and self._free:
            worker = next(iter(self._free))
            del self._free[worker]
            call = self._calls[self._waiting[0]]
            if self._pool.send(worker, call.frame):
                self._waiting.popleft()
                call.worker = worker
                self._running[worker] = call.number

    def _take(self, worker: int, number: int) -> _Call | None:
        """The call that this worker has ended, if somebody still waits for it; the worker is free again."""
        with self._lock:
            if self._running.get(worker) != number:
                return None
            del self._running[worker]
            call = self._calls.pop(number, None)
            if worker not in self._retiring:
                self._free[worker] = None
            if call is not None:
                self._suspects.pop(call.key, None)
            self._serve()
            return call

    def _expire(self, number: int) -> None:
        with self._lock:
            call = self._calls.get(number)
            if call is None:
                return
            if not call.forgiven and self._clock() - call.due > _LATE:
                # We were stopped ourselves; the answer may be there already.
                call.forgiven = True
                self._timers.call(_LATE, lambda: self._expire(number))
                return
            del self._calls[number]
            pid = 0
            if call.worker is None:
                self._waiting.remove(number)
            else:
                pid = self._pids.get(call.worker, 0)
                # What it may still say comes too late, and its end is not this call's doing.
                del self._running[call.worker]
        if call.worker is None:
            _raise_in(call.future, NoWorkerError(0, call.seconds))
        else:
            self._pool.kill(call.worker, f"overran {call.seconds:g} s in {call.function}")
            _raise_in(call.future, WorkerTimeoutError(pid, call.seconds))

    def ready(self, worker: int, pid: int) -> None:
        with self._lock:
            self._pids[worker] = pid
            self._free[worker] = None
            self._serve()

    def retiring(self, worker: int) -> None:
        with self._lock:
            self._retiring.add(worker)
            self._free.pop(worker, None)

    def frame(self, worker: int, data: bytes) -> None:
        try:
            said = self._codec.decode(data)
        except CodecError as error:
            self._pool.kill(worker, f"sent a malformed frame ({error})")
            return
        if isinstance(said, CallDone | CallFailed) and (call := self._take(worker, said.call)) is not None:
            if isinstance(said, CallFailed):
                _raise_in(call.future, _rebuilt(said))
            else:
                _answer(call.future, said.value)

    def lost(self, worker: int, pid: int, words: str) -> None:
        with self._lock:
            self._free.pop(worker, None)
            self._pids.pop(worker, None)
            self._retiring.discard(worker)
            call = self._calls.get(self._running.pop(worker, 0))
            if call is None:
                return
            losses = self._suspects[call.key] = self._suspects.get(call.key, 0) + 1
            self._suspects.move_to_end(call.key)
            while len(self._suspects) > _SUSPECTS:
                self._suspects.popitem(last=False)
            if call.idempotent and losses < _LOSSES:
                call.worker = None
                self._waiting.appendleft(call.number)
                self._serve()
                return
            del self._calls[call.number]
        if losses >= _LOSSES:
            _raise_in(call.future, PoisonRequest(f"{call.function} took {losses} workers with it, the last: {words}"))
        else:
            _raise_in(call.future, WorkerLostError(pid, words))

    def exhausted(self, reason: str) -> None:
        with self._lock:
            waiting = [self._calls.pop(number) for number in self._waiting]
            self._waiting.clear()
        for call in waiting:
            _raise_in(call.future, WorkerLostError(0, reason))


class _Listener(PoolListener):
    def __init__(self, calls: WorkerCalls) -> None:
        self._calls = calls

    def worker_ready(self, worker: int, pid: int) -> None:
        self._calls.ready(worker, pid)

    def worker_retiring(self, worker: int) -> None:
        self._calls.retiring(worker)

    def frame(self, worker: int, data: bytes) -> None:
        self._calls.frame(worker, data)

    def worker_lost(self, worker: int, pid: int, reason: str, taken: int) -> None:  # noqa: ARG002
        self._calls.lost(worker, pid, reason)

    def workers_exhausted(self, reason: str) -> None:
        self._calls.exhausted(reason)


def _seconds(value: object) -> float:
    # Written so that a NaN fails as well.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ValueError(f"deadline must be a positive number of seconds, not {value!r}")
    return float(value)


def _packed(function: object, arguments: tuple[Any, ...]) -> bytes:
    if not isinstance(function, str):
        raise TypeError(f"function must be named as 'module:name', not {function!r:.60}: nothing else can be sent")
    module, _, name = function.partition(":")
    if not module or not all(part.isidentifier() for part in name.split(".")) or len(function) > 1000:
        raise ValueError(f"function must be named as 'module:name', not {function!r:.60}")
    packed: bytes
    try:
        packed = msgpack.packb(list(arguments))
    except (TypeError, ValueError, OverflowError) as error:
        for place, value in enumerate(arguments, 1):
            try:
                msgpack.packb(value)
            except (TypeError, ValueError, OverflowError) as why:
                kind = type(value).__qualname__
                raise TypeError(f"argument {place} of {function} ({kind}) cannot be sent: {why}") from None
        raise TypeError(f"the arguments of {function} cannot be sent: {error}") from None
    if len(packed) > VALUE_LIMIT:
        raise ValueError(
            f"the arguments of {function} are {len(packed)} bytes, at most {VALUE_LIMIT} can be sent;"
            " put them into a file and give its name"
        )
    return packed


def _answer(future: pykka.ThreadingFuture[Any], value: bytes) -> None:
    try:
        result = msgpack.unpackb(value, strict_map_key=False)
    except (ValueError, TypeError, RecursionError) as error:
        _raise_in(future, RemoteError("ValueError", f"the result is malformed: {error}", ""))
    else:
        future.set(result)


def _raise_in(future: pykka.ThreadingFuture[Any], error: BaseException) -> None:
    future.set_exception((type(error), error, error.__traceback__))


def _rebuilt(failed: CallFailed) -> Exception:
    """The exception as it was, if its class is loaded here and makes the same of its arguments; else a RemoteError."""
    name = failed.name if failed.module == "builtins" else f"{failed.module}.{failed.name}"
    remote = RemoteError(name, failed.text, failed.traceback)
    cls: Any = sys.modules.get(failed.module)
    for part in failed.name.split("."):
        cls = getattr(cls, part, None)
    if not isinstance(cls, type) or not issubclass(cls, Exception) or failed.arguments is None:
        return remote
    make: Callable[..., Exception] = cls
    # The class is anybody's: its constructor may want other arguments, and do anything.
    with contextlib.suppress(Exception):
        error = make(*msgpack.unpackb(failed.arguments, strict_map_key=False))
        if type(error) is cls and str(error) == failed.text:
            error.__cause__ = remote
            return error
    return remote
