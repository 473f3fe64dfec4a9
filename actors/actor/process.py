"""One worker process: how it is started, spoken to, and buried.

Started as `python -I -c BOOT`, so nothing of the host's program is imported again and no `__main__` guard is
needed; the search path follows over the worker's own socketpair, so packages found through PYTHONPATH or the user
site are found there too. The thread that starts it must live as long as it does: the parent-death signal is
tied to that thread (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import collections
import contextlib
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
from actors.actor.pool_port import WorkerStatus
from actors.clock import Clock
from actors.errors import FrameTooLong, WorkerStartError
from actors.memory.words import SharedWords
from actors.messages.control import FRAME_LIMIT, Heartbeat

__all__ = ["WorkerProcess", "end_all", "search_path"]

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
main(channel, int(sys.argv[2]), int(sys.argv[3]))
"""


_FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)
"""What a send meets that may succeed later."""
_PROCESS_GROUP = 4
"""PIDFD_SIGNAL_PROCESS_GROUP of pidfd_send_signal(2), since Linux 6.9."""
_TERM_GRACE = 0.5

_left: list[subprocess.Popen[bytes]] = []
"""What the kernel kept when its pool had ended; reaped when something else is started."""


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


def _command(python: str, channel: int, counter: int) -> list[str]:
    flags = ["-I"]
    # Isolated mode ignores the environment, where the host may have been told not to write bytecode, or where.
    if sys.dont_write_bytecode:
        flags.append("-B")
    if sys.pycache_prefix is not None:
        flags += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    return [python, *flags, "-c", BOOT, str(channel), str(os.getpid()), str(counter)]


class WorkerProcess:
    """A started process with its channel. Owned by one keeper thread; only `send` may be called from others."""

    def __init__(self, worker: int, python: str, now: float) -> None:
        """Start the process; returns before it is ready. Raises WorkerStartError or OSError (EMFILE, EAGAIN)."""
        self.worker = worker
        self.token = secrets.token_bytes(16)
        self.ready_at: float | None = None
        self.heard_at = now
        self.said = Heartbeat(0, 0, 0)
        self.first_memory: int | None = None
        self.at_end = False
        """Its end of the channel is closed, and all that it said has been read."""
        self.retiring_at: float | None = None
        self.doomed_at: float | None = None
        """When it was killed."""
        self.worn = self.cause = ""
        """Why it is to be replaced, and why it is made to end, in words."""
        self.frames = 0
        """How many it was sent after its Hello."""
        self._taken: int | None = None
        self._closed = False
        _reap_left()
        self._lock = threading.Lock()
        self._outbox: collections.deque[tuple[bytes, list[int]]] = collections.deque()
        with contextlib.ExitStack() as undo:
            self._counter = SharedWords(1)
            undo.callback(self._counter.close)
            self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(self.channel.close)
            with theirs:
                self.channel.setblocking(False)
                self._popen = _start(python, theirs.fileno(), self._counter.fd)
            undo.callback(self._popen.wait, 5.0)
            undo.callback(self._popen.kill)
            self.pid = self._popen.pid
            self.pidfd = os.pidfd_open(self.pid)
            undo.pop_all()

    def send(self, frame: bytes, fds: Sequence[int] = ()) -> int:
        """Send one frame, with descriptors; never blocks: what the socket cannot take now waits here in order.

        The number of the frame, to be compared with `taken`; 0 if the worker is gone. The descriptors stay the
        caller's. Raises FrameTooLong, and OSError (EMFILE) if they have to wait and there are none left to keep them
        open with.
        """
        if len(frame) > FRAME_LIMIT:
            # The other side would get the beginning of it, and fail.
            raise FrameTooLong(
                f"a frame of {len(frame)} bytes for worker {self.worker}: at most {FRAME_LIMIT} can be sent; "
                "pass a descriptor of the data instead"
            )
        with self._lock:
            return 0 if self._closed else self._send_or_queue(frame, fds)

    def _send_or_queue(self, frame: bytes, fds: Sequence[int]) -> int:
        if self.channel.fileno() < 0:
            return 0
        sent = False
        if not self._outbox:
            try:
                self._send_now(frame, fds)
                sent = True
            except OSError as error:
                if error.errno not in _FULL:
                    return 0
        if not sent:
            self._outbox.append((frame, _duplicates(fds)))
        self.frames += 1
        return self.frames

    def close(self) -> bool:
        """Let `send` refuse from now on; False if it did already."""
        with self._lock:
            closed, self._closed = self._closed, True
            return not closed

    def close_if_idle(self, handled: int) -> bool:
        """`close`, if the worker has handled every frame that it was sent; the only way that none is ever lost."""
        with self._lock:
            if self._closed or handled != self.frames:
                return False
            self._closed = True
            return True

    def dismiss(self, frame: bytes) -> None:
        """Send the last frame, after `close`."""
        with self._lock:
            self._send_or_queue(frame, ())

    @property
    def ready(self) -> bool:
        return self.ready_at is not None

    @property
    def taken(self) -> int:
        """How many of `frames` its handler was given. It counts in shared memory: right also when it was killed."""
        return self._counter[0] if self._taken is None else self._taken

    @property
    def backlog(self) -> bool:
        """Whether frames wait for the socket to take them."""
        return bool(self._outbox)

    def status(self, now: float, losses: int) -> WorkerStatus:
        """How it is doing, as far as was heard. Safe from any thread."""
        if self.doomed_at is not None:
            state = "ending"
        elif self.retiring_at is not None:
            state = "retiring"
        else:
            state = "ready" if self.ready else "starting"
        age = 0.0 if self.ready_at is None else now - self.ready_at
        return WorkerStatus(self.worker, self.pid, state, age, self.said.busy, self.frames, self.said.memory, losses)

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
            # Exact, even where the host has reaped the worker and the number of its group is another's by now.
            signal.pidfd_send_signal(self.pidfd, number, None, _PROCESS_GROUP)
        except ProcessLookupError:
            return
        except OSError as error:
            if error.errno == errno.EINVAL:
                self._signal_by_number(number)
            elif error.errno == errno.EPERM:
                self._signal_alone(number)
            else:
                raise

    def _signal_by_number(self, number: int) -> None:
        """Before Linux 6.9: the group's number cannot be reused while the worker is not reaped, which `bury` does."""
        try:
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            # The host reaped it (or ignores SIGCHLD), if it has ended; else it never can be.
            self._signal_alone(number)
            return
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            self._signal_alone(number)

    def _signal_alone(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
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
        self._taken = self.taken
        self._counter.close()
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
            _left.append(self._popen)
            return "cannot be reaped yet"
        if end.si_code == os.CLD_EXITED:
            self._popen.returncode = end.si_status
            return f"exited with status {end.si_status}"
        self._popen.returncode = -end.si_status
        return f"killed by {_signal_name(end.si_status)}"


def end_all(processes: Sequence[WorkerProcess], deadline: float, clock: Clock) -> list[WorkerProcess]:
    """End them: close their channels, then SIGTERM, then SIGKILL, within what there is until `deadline`.

    Blocks until then at most, but one second for what was killed in any case. Returns those that have not ended.
    """
    for process in processes:
        process.hang_up()
    left = list(processes)
    term_at = min(clock() + _TERM_GRACE, deadline)
    for number, until in (
        (signal.SIGTERM, term_at),
        (signal.SIGKILL, min(term_at + _TERM_GRACE, deadline)),
        (None, max(deadline, clock() + 1.0)),
    ):
        left = [process for process in left if not process.gone(until - clock())]
        for process in left:
            if number is not None:
                process.signal(number)
    for process in processes:
        if process not in left:
            process.signal(signal.SIGKILL)  # helpers of its group
    return left


def _reap_left() -> None:
    _left[:] = [popen for popen in _left if popen.poll() is None]


def _start(python: str, channel: int, counter: int) -> subprocess.Popen[bytes]:
    passed: list[int] = []
    try:
        # Above the standard streams, which the child gets anew: a host that closed its own has their numbers to give.
        passed.extend(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in (channel, counter))
        return subprocess.Popen(
            _command(python, *passed),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=passed,
            process_group=0,
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise WorkerStartError(
            f"cannot run {python!r} ({error.strerror}); set worker_python to a Python interpreter"
        ) from error
    finally:
        _close_all(passed)


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
