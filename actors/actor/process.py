"""One worker process: how it is started, spoken to, and buried.

Started as `python -I -c BOOT`, so nothing of the host's program is imported again and no `__main__` guard is
needed; the search path follows over the worker's own socketpair, so packages found through PYTHONPATH or the user
site are found there too. The thread that starts it must live as long as it does: the parent-death signal is
tied to that thread (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import collections
import errno
import fcntl
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import actors
from actors.errors import WorkerStartError
from actors.messages.control import FRAME_LIMIT

__all__ = ["WorkerProcess", "search_path"]

BOOT = """\
import os, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
except (ImportError, OSError, AttributeError):
    pass
if os.getppid() != int(sys.argv[2]):
    os._exit(3)
import socket
channel = socket.socket(fileno=int(sys.argv[1]))
path = channel.recv(65536)
if not path:
    os._exit(0)
sys.path[:] = path.decode("utf-8", "surrogateescape").split("\\0")
from actors.worker.loop import main
main(channel, int(sys.argv[2]))
"""


_FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)
"""What a send meets that may succeed later."""


def search_path() -> bytes:
    """The host's module search path as one frame: absolute, with the folder that holds `actors` at the end.

    That folder is needed when an import hook of the host found the package (an editable install).
    Raises WorkerStartError if it does not fit a frame.
    """
    home = str(Path(actors.__file__).resolve().parent.parent)
    entries = dict.fromkeys([*(path for entry in sys.path for path in _absolute(entry)), home])
    frame = "\0".join(entries).encode("utf-8", "surrogateescape")
    if len(frame) > FRAME_LIMIT:
        raise WorkerStartError(f"sys.path is {len(frame)} bytes long, at most {FRAME_LIMIT} can be passed on")
    return frame


def _absolute(entry: object) -> list[str]:
    """An entry of `sys.path` that does not depend on the working directory; none for what imports ignore too."""
    if not isinstance(entry, str):
        return []
    try:
        return [os.path.abspath(entry or ".")]  # noqa: PTH100 - keeps symbolic links
    except FileNotFoundError:
        return []  # relative to a working directory that was removed


def _command(python: str, channel: int) -> list[str]:
    flags = ["-I"]
    # Isolated mode ignores the environment, where the host may have been told not to write bytecode, or where.
    if sys.dont_write_bytecode:
        flags.append("-B")
    if sys.pycache_prefix is not None:
        flags += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    return [python, *flags, "-c", BOOT, str(channel), str(os.getpid())]


class WorkerProcess:
    """A started process with its channel. Owned by one keeper thread; only `send` may be called from others."""

    def __init__(self, worker: int, python: str, now: float) -> None:
        """Start the process; returns before it is ready. Raises WorkerStartError or OSError (EMFILE, EAGAIN)."""
        self.worker = worker
        self.token = secrets.token_bytes(16)
        self.ready_at: float | None = None
        self.heard_at = now
        self._lock = threading.Lock()
        self._outbox: collections.deque[tuple[bytes, list[int]]] = collections.deque()
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.channel.setblocking(False)
                self._popen = _start(python, theirs)
            except BaseException:
                self.channel.close()
                raise
        self.pid = self._popen.pid
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except BaseException:
            self._popen.kill()
            self._popen.wait(5.0)
            self.channel.close()
            raise

    def send(self, frame: bytes, fds: Sequence[int] = ()) -> bool:
        """Send one frame, with descriptors; never blocks: what the socket cannot take now waits here in order.

        False if the worker is gone. The descriptors stay the caller's. Raises OSError (EMFILE) if they have to wait
        and there are none left to keep them open with.
        """
        with self._lock:
            if self.channel.fileno() < 0:
                return False
            if not self._outbox:
                try:
                    self._send_now(frame, fds)
                except OSError as error:
                    if error.errno not in _FULL:
                        return False
                else:
                    return True
            self._outbox.append((frame, _duplicates(fds)))
            return True

    @property
    def ready(self) -> bool:
        return self.ready_at is not None

    @property
    def backlog(self) -> bool:
        """Whether frames wait for the socket to take them."""
        return bool(self._outbox)

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        with self._lock:
            while self._outbox and self.channel.fileno() >= 0:
                frame, fds = self._outbox[0]
                try:
                    self._send_now(frame, fds)
                except OSError as error:
                    if error.errno in _FULL:
                        return
                    break
                self._outbox.popleft()
                _close_all(fds)

    def _send_now(self, frame: bytes, fds: Sequence[int]) -> None:
        if fds:
            socket.send_fds(self.channel, [frame], list(fds), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        else:
            self.channel.send(frame, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def receive(self) -> bytes | None:
        """One frame; None when there is none now; b"" when the worker has closed its end and all is read."""
        try:
            try:
                return self.channel.recv(FRAME_LIMIT)
            except ConnectionResetError:
                # It left frames of ours unread. The kernel says so once, before what the worker had sent.
                return self.channel.recv(FRAME_LIMIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in (errno.ECONNRESET, errno.EPIPE, errno.EBADF):
                return b""
            raise

    def hang_up(self) -> None:
        """Close the channel: the worker reads its end and leaves. Idempotent."""
        with self._lock:
            self.channel.close()
            while self._outbox:
                _close_all(self._outbox.popleft()[1])

    def signal(self, number: signal.Signals) -> None:
        """Signal the worker's whole process group, so that helpers it started go too. No effect once buried."""
        if self.pidfd < 0:
            return
        try:
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return  # the host reaped it (or ignores SIGCHLD): the number of its group may be another's by now
        try:
            # Not reaped before `bury`, so the group's number cannot be reused.
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            signal.pidfd_send_signal(self.pidfd, number)

    def gone(self, timeout: float) -> bool:
        """Whether the process has ended, waiting at most `timeout` seconds."""
        if self.pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(max(0.0, timeout) * 1000))

    def bury(self) -> str:
        """Reap the process, which must be gone, and free everything. Says in words how it ended."""
        self.hang_up()
        if self.pidfd < 0:
            return "already buried"
        words = self._reap()
        pidfd, self.pidfd = self.pidfd, -1
        os.close(pidfd)
        return words

    def _reap(self) -> str:
        try:
            end = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            # The host ignores SIGCHLD or waits for any child: the status is lost, which counts as abnormal.
            self._popen.returncode = -1
            return "ended with unknown status"
        if end is None:
            return "cannot be reaped yet"
        if end.si_code == os.CLD_EXITED:
            self._popen.returncode = end.si_status
            return f"exited with status {end.si_status}"
        self._popen.returncode = -end.si_status
        return f"killed by {_signal_name(end.si_status)}"


def _start(python: str, channel: socket.socket) -> subprocess.Popen[bytes]:
    # Above the standard streams, which the child gets anew: a host that closed its own has their numbers to give.
    passed = fcntl.fcntl(channel, fcntl.F_DUPFD_CLOEXEC, 3)
    try:
        return subprocess.Popen(
            _command(python, passed),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(passed,),
            process_group=0,
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise WorkerStartError(
            f"cannot run {python!r} ({error.strerror}); set worker_python to a Python interpreter"
        ) from error
    finally:
        os.close(passed)


def _duplicates(fds: Sequence[int]) -> list[int]:
    copies: list[int] = []
    try:
        copies.extend(map(os.dup, fds))
    except OSError:
        _close_all(copies)
        raise
    return copies


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
