"""What runs in the worker processes of these tests. A frame that a handler sends begins with an array's first byte
and the tag 100, so that the pool takes it for one of its user's."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgpack

from actors.messages.control import FRAME_LIMIT

Send = Callable[[bytes], None]


def said(*what: object) -> bytes:
    packed: bytes = msgpack.packb([100, *what])
    return packed


class Echo:
    """Does what a frame says, and answers."""

    def __init__(self, settings: bytes, send: Send) -> None:
        self._send = send
        send(said("made", settings))

    def busy(self) -> int:
        return 0

    def handle(self, frame: bytes, fds: list[int]) -> None:
        _, order, *arguments = msgpack.unpackb(frame)
        getattr(self, order)(fds, *arguments)

    def echo(self, fds: list[int], what: object) -> None:
        contents = [os.pread(fd, 100, 0) for fd in fds]
        for fd in fds:
            os.close(fd)
        self._send(said("echo", what, *contents))

    def modules(self, fds: list[int]) -> None:
        self._send(said("modules", *sorted(sys.modules)))

    def descriptors(self, fds: list[int]) -> None:
        self._send(said("descriptors", len(list(Path("/proc/self/fd").iterdir())) - 1))

    def exit(self, fds: list[int], status: int) -> None:
        os._exit(status)

    def signal(self, fds: list[int], number: int) -> None:
        os.kill(os.getpid(), number)

    def crash(self, fds: list[int]) -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.string_at(0)

    def last_words(self, fds: list[int], count: int) -> None:
        for number in range(count):
            self._send(said("word", number))
        os._exit(0)

    def fail(self, fds: list[int]) -> None:
        raise LookupError("a handler that fails")

    def cling(self, fds: list[int]) -> None:
        """Ignore SIGTERM and the end of the channel."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._send(said("clinging"))
        while True:
            select.select([], [], [], 60)

    def hold(self, fds: list[int]) -> None:
        """Nothing of this process's Python runs any more; its threads in the kernel do."""
        ctypes.PyDLL(None).sleep(600)

    def helper(self, fds: list[int]) -> None:
        import subprocess

        self._send(said("helper", subprocess.Popen(["sleep", "600"]).pid))

    def flood(self, fds: list[int]) -> None:
        """Talk from another thread until the host is gone."""
        self._send(said("flooding"))
        threading.Thread(target=self._flood, daemon=True).start()

    def _flood(self) -> None:
        while True:
            self._send(said("drop", bytes(1000)))


class Works(Echo):
    """Holds pieces of work until it is told that one is done."""

    working = 0

    def busy(self) -> int:
        return self.working

    def work(self, fds: list[int]) -> None:
        self.working += 1
        self._send(said("working", self.working))

    def done(self, fds: list[int], what: object) -> None:
        self._send(said("done", what))
        self.working -= 1

    def grow(self, fds: list[int], size: int) -> None:
        self.kept = os.urandom(size)


class Watches(Echo):
    """Waits for a descriptor and for a time as well, on the control thread."""

    due: float | None = None

    def __init__(self, settings: bytes, send: Send) -> None:
        super().__init__(settings, send)
        self._event = os.eventfd(0, os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._event

    def pause(self) -> float | None:
        return None if self.due is None else max(self.due - time.monotonic(), 0.0)

    def look(self) -> None:
        main = threading.current_thread() is threading.main_thread()
        with suppress(BlockingIOError):
            self._send(said("seen", os.eventfd_read(self._event), main))
        if self.due is not None and time.monotonic() >= self.due:
            self.due = None
            self._send(said("late", main))

    def ring(self, fds: list[int]) -> None:
        threading.Thread(target=os.eventfd_write, args=(self._event, 7)).start()

    def wake_me(self, fds: list[int], seconds: float) -> None:
        self.due = time.monotonic() + seconds


class Large(Echo):
    """Sends frames of the largest size, each of one repeated byte, as fast as they are taken."""

    def talk(self, fds: list[int]) -> None:
        threading.Thread(target=self._talk, daemon=True).start()

    def _talk(self) -> None:
        number = 0
        while True:
            # The array's last element fills the frame: msgpack's bin 16.
            frame = b"\x94" + msgpack.packb(100) + msgpack.packb("large") + msgpack.packb(number)
            filling = FRAME_LIMIT - len(frame) - 3
            self._send(frame + b"\xc5" + filling.to_bytes(2, "big") + bytes([number % 251]) * filling)
            number += 1


def fails(settings: bytes, send: Send) -> Echo:
    raise LookupError("no handler today")


def exits(settings: bytes, send: Send) -> Echo:
    os._exit(int(settings))


def killed(settings: bytes, send: Send) -> Echo:
    os.kill(os.getpid(), int(settings))
    raise AssertionError


def hangs(settings: bytes, send: Send) -> Echo:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        select.select([], [], [], 60)


def dies_when_ready(settings: bytes, send: Send) -> Echo:
    """Answers for itself, and is gone a moment later."""
    made = Echo(settings, send)
    threading.Timer(0.02, os._exit, (9,)).start()
    return made


def second_time_unlucky(settings: bytes, send: Send) -> Echo:
    """Works for the first who asks, and fails for those who follow."""
    try:
        os.close(os.open(settings, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        os._exit(5)
    return Echo(settings, send)
