"""The parsing process: what a file is and says of itself, under limits of memory and time.

Files come from anybody, and their parsers were not written for enemies. What goes wrong here costs a process that
holds nothing, and is replaced.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from actors.clock import cpu_clock
from actors.errors import CodecError
from actors.messages.codec import Codec
from actors.messages.command import Command
from actors.worker.handler import Send
from kithara_actors.logic.ranges import Ranges
from kithara_actors.media.details import describe
from kithara_actors.media.info import detect
from kithara_actors.messages.parser import (
    PARSER_COMMANDS,
    BytesNeeded,
    BytesThere,
    Describe,
    Described,
    ForgetJob,
    ParserSettings,
)
from kithara_actors.values import MediaDetails

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["HeldFile", "ParseHandler", "make_handler"]

_RUN_AT_ONCE = 4
_WAIT_AT_ONCE = 256
_FRONT = 64 * 1024
_STEP = 16 * 1024
"""Bytes: what is asked for begins and ends at multiples of this, since each question may cost a round trip."""
_LONGEST_STEP = 1024 * 1024
_WAIT = 600.0
"""Seconds after which a job gives up: its reader has long done so, and the host would have said so."""
_TEXT_LIMIT = 60_000
_OVER_TIME = 75  # EX_TEMPFAIL of sysexits.h


def make_handler(settings: bytes, send: Send) -> ParseHandler:
    """What `Hello.handler` names: called once in each parsing process, which it puts under limits."""
    given = Codec([ParserSettings]).decode(settings)
    assert isinstance(given, ParserSettings)
    for limit, value in (
        (resource.RLIMIT_DATA, given.memory_limit),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    return ParseHandler(send, given.time_limit)


class HeldFile(io.RawIOBase):
    """A file of which parts are there; `need(start, end)` is called for what is missing and returns once it is.

    With `need` None the file ends where the first bytes do, though its length is told as it is.
    """

    def __init__(self, fd: int, length: int, present: int, need: Callable[[int, int], int] | None) -> None:
        super().__init__()
        self._fd = fd
        self._length = length
        self._there = Ranges().add(0, present)
        self._need = need
        self._at = 0
        self._asked_to = -1
        self._step = _STEP

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        target = offset + (0, self._at, self._length)[whence]
        if target < 0:
            raise ValueError(f"negative seek position {target}")
        self._at = target
        return target

    def readinto(self, buffer: Buffer, /) -> int:
        """What is there at the position, asking for it if nothing is; 0 only at the end."""
        with memoryview(buffer).cast("B") as view:
            end = min(self._at + len(view), self._length)
            if self._at >= end:
                return 0
            reached = self._there.covered_end(self._at)
            if reached <= self._at:
                reached = self._ask(self._at, end)
            count = min(end, reached) - self._at
            if count <= 0:
                return 0
            got = os.preadv(self._fd, [view[:count]], self._at)
        self._at += got
        return got

    def _ask(self, start: int, end: int) -> int:
        if self._need is None:
            return start
        # Who reads on is served in growing steps, who jumps about in small ones.
        self._step = min(2 * self._step, _LONGEST_STEP) if start == self._asked_to else _STEP
        end = -(-max(end, start + self._step) // _STEP) * _STEP
        first = start // _STEP * _STEP
        if self._there.covered_end(first) > first:
            first = start
        island = self._there.next_start(start)
        end = min(end, self._length, self._length if island is None else island)
        reached = self._need(first, end)
        self._asked_to = reached
        if reached > first:
            self._there = self._there.add(first, reached)
        return self._there.covered_end(start)


class _Job:
    """One file. A job that waits for bytes lets another one run meanwhile."""

    def __init__(self, order: Describe, fd: int) -> None:
        self.order = order
        self.fd = fd
        self.wanted = -1
        """Where the bytes begin that it waits for."""
        self.reached = -1
        self.answered = threading.Event()
        self.forgotten = False
        self.running: Callable[[], float] | None = None
        """How much CPU its thread has had, in seconds, while it runs; None while it waits."""
        self.since = 0.0


class _ForgottenError(BaseException):
    """Nobody wants the answer any more. No parser may take it for a fault of the file."""


class ParseHandler:
    """Runs a few jobs at once; many more may wait for bytes. Its methods are called on the control thread only."""

    def __init__(self, send: Send, time_limit: float) -> None:
        self._send = send
        self._time_limit = time_limit
        self._codec = Codec(PARSER_COMMANDS)
        self._threads = ThreadPoolExecutor(_WAIT_AT_ONCE, thread_name_prefix="parse")
        self._turns = threading.Semaphore(_RUN_AT_ONCE)
        self._lock = threading.Lock()
        self._jobs: dict[int, _Job] = {}

    def handle(self, frame: bytes, fds: list[int]) -> None:
        """Start a job, or give one what it waits for. Does not block."""
        command = self._codec.decode(frame)
        match command:
            case Describe():
                begun = _Job(command, fds[0] if fds else -1)
                with self._lock:
                    self._jobs[command.job] = begun
                self._threads.submit(self._run, begun)
            case BytesThere(number, start, end):
                job = self._jobs.get(number)
                # Another start: an answer to the process before this one, which had come further.
                if job is not None and job.wanted == start:
                    job.reached = end
                    job.answered.set()
            case ForgetJob(number):
                job = self._jobs.get(number)
                if job is not None:
                    job.forgotten = True
                    job.answered.set()
            case _:
                raise TypeError(f"the parsing process does not handle {type(command).__name__}")

    def busy(self) -> int:
        """How many jobs there are. Called at every heartbeat, so one that takes too long is noticed here."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            running, since = job.running, job.since
            if running is not None and running() - since > self._time_limit:
                # No thread can be ended from outside; this process has nothing to lose.
                sys.stderr.flush()
                os._exit(_OVER_TIME)
        return len(jobs)

    def _run(self, job: _Job) -> None:
        self._begin(job)
        try:
            if job.fd < 0:
                details = MediaDetails(remark="the parsing process has no descriptor left")
            else:
                details = self._describe(job)
            self._say(Described(job.order.job, details))
        except _ForgottenError:
            pass
        except Exception as error:  # noqa: BLE001 - somebody waits for the answer
            said = MediaDetails(remark=f"it could not be looked at: {type(error).__name__}: {error}"[:1000])
            self._say(Described(job.order.job, said))
        finally:
            self._pause(job)
            with self._lock:
                del self._jobs[job.order.job]
            if job.fd >= 0:
                os.close(job.fd)

    def _begin(self, job: _Job) -> None:
        """Wait for a turn."""
        self._turns.acquire()
        clock = cpu_clock()
        job.since = clock()
        job.running = clock

    def _pause(self, job: _Job) -> None:
        job.running = None
        self._turns.release()

    def _describe(self, job: _Job) -> MediaDetails:
        order = job.order
        if job.forgotten:
            raise _ForgottenError
        front = os.pread(job.fd, min(order.present, _FRONT), 0)
        length = order.present if order.length is None else order.length
        info = detect(order.content_type, front, complete=length <= len(front))
        whole = order.whole and order.length is not None

        def need(start: int, end: int) -> int:
            return self._need(job, start, end)

        with io.BufferedReader(HeldFile(job.fd, length, order.present, need if whole else None), _STEP) as file:
            details = describe(file, info, whole=whole or order.present >= length)
        if order.length is None:
            # Whatever was worked out from the size was worked out from a part of it.
            return replace(details, info=replace(details.info, duration=None, bitrate=None))
        return details

    def _need(self, job: _Job, start: int, end: int) -> int:
        job.answered.clear()
        job.wanted = start
        self._pause(job)
        try:
            # Looked at after the clearing, so that no word of it is lost.
            if not job.forgotten:
                self._say(BytesNeeded(job.order.job, start, end))
            heard = job.forgotten or job.answered.wait(_WAIT)
        finally:
            self._begin(job)
        job.wanted = -1
        if job.forgotten or not heard:
            raise _ForgottenError
        return job.reached

    def _say(self, command: Command) -> None:
        frame = self._codec.encode(command)
        if len(frame) > _TEXT_LIMIT and isinstance(command, Described):
            bare = replace(command.details, tags=(), remark="its tags are too long to be shown")
            frame = self._codec.encode(replace(command, details=bare))
        with contextlib.suppress(CodecError):
            self._send(frame)
