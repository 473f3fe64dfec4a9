"""Where a body lands: a descriptor, written by `pwrite` or by splicing straight from a socket."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
from collections.abc import Callable

from kithara_actors.errors import InternalError, KitharaError, StorageFull

__all__ = ["Sink"]

_PIPE_SIZE = 1024 * 1024
_SOON = 0.02
"""Seconds for which an idle pipe is kept."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CANNOT_SPLICE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP})


class _Pipe:
    """An empty pipe between the two halves of a splice."""

    __slots__ = ("into", "out")

    def __init__(self) -> None:
        self.out, self.into = os.pipe()
        # Past the user's share of pipe memory (pipe(7)) the size stays as it is.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.into, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)

    def close(self) -> None:
        os.close(self.out)
        os.close(self.into)


class Sink:
    """A descriptor to store a body in, and whom to tell. Belongs to one thread; the descriptor is not closed.

    `publish` is called with the absolute end offset after each completed write. `limit` is an absolute offset
    that is never written past; StorageFull is raised for the first byte beyond. What is stored from `held` on can be
    compared with a body that begins before the first missing byte.
    """

    __slots__ = ("_pipe", "_stop", "fd", "held", "landed", "limit", "publish", "splices", "stopped")

    def __init__(
        self,
        fd: int,
        publish: Callable[[int], None],
        limit: int | None = None,
        stop: Callable[[], int | None] | None = None,
        held: int | None = None,
    ) -> None:
        self.fd = fd
        self.held = held
        self._stop = stop
        self.publish = publish
        self.limit = limit
        self.splices = True
        """Turned off when the file or the socket proves unable."""
        self._pipe: _Pipe | None = None
        self.stopped = False
        """The body was left where `stop` said, before its end."""
        self.landed = 0
        """Where the last completed write ended."""

    def goal(self, end: int | None) -> int | None:
        """Where to end: `end`, or the offset from which on `stop` says another writes. Asked before each write."""
        stop = None if self._stop is None else self._stop()
        if stop is None:
            return end
        return stop if end is None else min(end, stop)

    def room(self, at: int, wanted: int) -> int:
        """How many of `wanted` bytes may be written at `at`; raises StorageFull if none."""
        if self.limit is None or at + wanted <= self.limit:
            return wanted
        if at >= self.limit:
            raise StorageFull(f"no room past {self.limit} bytes")
        return self.limit - at

    def differs(self, data: bytes | memoryview, at: int) -> bool:
        """Whether `data`, that belongs at `at`, is something else than what is stored there already."""
        if self.held is None or at + len(data) <= self.held:
            return False
        view = memoryview(data)[max(self.held - at, 0) :]
        at = max(self.held, at)
        while view:
            stored = os.pread(self.fd, len(view), at)
            # Past the end of the file there is nothing to compare with.
            if not stored:
                return False
            if stored != view[: len(stored)]:
                return True
            at += len(stored)
            view = view[len(stored) :]
        return False

    def write(self, data: bytes | memoryview, at: int) -> int:
        """Store all of `data` at `at` and return where it ends. A short write goes on.

        Raises StorageFull (limit, disk or quota full), InternalError for any other failure of the file; what
        was written before is published.
        """
        view = memoryview(data)
        while view:
            allowed = self.room(at, len(view))
            try:
                written = os.pwrite(self.fd, view[:allowed], at)
            except OSError as error:
                raise _storage_error(error) from error
            at += written
            view = view[written:]
            self._tell(at)
        return at

    def pull(self, source: int, at: int, count: int, seconds: float) -> int | None:
        """Move up to `count` bytes from the socket `source` to `at`, as many as are there.

        Returns the bytes moved and published: 0 at the end of the stream, None if nothing was moved because
        splicing does not work here, or there is no room. Blocks until something comes, at most `seconds`, then raises
        TimeoutError; OSError is the socket's, the file's errors are those of `write`. Releases the GIL.
        """
        if self.limit is not None and at >= self.limit:
            return None  # whether more comes at all is seen by reading it
        count = self.room(at, count)
        while True:
            pipe = self._pipe = self._pipe or _Pipe()
            try:
                got = os.splice(source, pipe.into, count, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
            except BlockingIOError:
                self._wait(source, seconds)
                continue
            except OSError as error:
                if error.errno not in _CANNOT_SPLICE:
                    raise
                self.splices = False
                return None
            self._pour(pipe, at, got)
            return got

    def release(self) -> None:
        """Close what `pull` keeps open between two calls. Idempotent."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()

    def _wait(self, source: int, seconds: float) -> None:
        poller = select.poll()
        poller.register(source, select.POLLIN)
        soon = min(_SOON, seconds)
        if poller.poll(soon * 1000):
            return
        # Hundreds of slow transfers with a pipe each would use up the user's share of pipe memory.
        self.release()
        if not poller.poll((seconds - soon) * 1000):
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    def _pour(self, pipe: _Pipe, at: int, count: int) -> None:
        end = at + count
        while at < end:
            try:
                moved = os.splice(pipe.out, self.fd, end - at, offset_dst=at)
            except OSError as error:
                if error.errno not in _CANNOT_SPLICE:
                    raise _storage_error(error) from error
                self.splices = False
                while at < end:
                    at = self.write(os.read(pipe.out, end - at), at)
                return
            at += moved
            self._tell(at)

    def _tell(self, at: int) -> None:
        self.landed = at
        self.publish(at)


def _storage_error(error: OSError) -> KitharaError:
    if error.errno in _FULL:
        return StorageFull(f"the bytes cannot be stored: {error.strerror}")
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    return InternalError(f"writing the buffer failed: {name}")
