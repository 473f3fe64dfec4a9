"""The control thread of a worker process: frames in, heartbeats out, and gone when the host is.

Of the four nets against orphans, the boot code arms the first two (the parent-death signal and a comparison of
the parent's pid); here are the other two: the end of the channel and a pidfd of the host.
"""

from __future__ import annotations

import array
import importlib
import os
import select
import socket
import sys
import traceback
from functools import partial
from typing import NoReturn, cast

from actors.clock import monotonic
from actors.memory.words import SharedWords
from actors.messages.codec import Codec, tag_of
from actors.messages.control import CONTROL, FRAME_LIMIT, Heartbeat, Hello, Ready, StopWorker
from actors.worker.handler import Factory, Handler, Watching

__all__ = ["main"]

_CONTROL_TAGS = frozenset(command.TAG for command in CONTROL)
_FDS_PER_FRAME = 8
_ROOM_FOR_FDS = socket.CMSG_LEN(_FDS_PER_FRAME * array.array("i").itemsize)
_RECEIVE = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
_PAGE = os.sysconf("SC_PAGE_SIZE")
_FAILED = 70  # EX_SOFTWARE of sysexits.h


def main(channel: socket.socket, parent: int, counter: int) -> NoReturn:
    """Serve the host behind `channel` until it closes it, says stop, or dies. Never returns.

    `counter` is the descriptor of one shared word, where the host sees how many frames the handler was given.
    """
    try:
        _serve(channel, parent, SharedWords(fd=counter))
        status = 0
    except (KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        status = 0
    except BaseException:  # noqa: BLE001 - the last frame of a process: say why, then go
        traceback.print_exc()
        status = _FAILED
    # Threads may be blocked in the network: leave without joining them. Nothing here has a name to clean up.
    sys.stderr.flush()
    os._exit(status)


def _serve(channel: socket.socket, parent: int, taken: SharedWords) -> None:
    codec = Codec(CONTROL)
    first = channel.recv(FRAME_LIMIT)
    hello = codec.decode(first) if first else None
    if not isinstance(hello, Hello):
        return
    module, _, name = hello.handler.partition(":")
    factory = cast("Factory", getattr(importlib.import_module(module), name))
    handler = factory(hello.settings, partial(_send, channel))
    channel.sendall(codec.encode(Ready(hello.token, os.getpid())))

    host = os.pidfd_open(parent)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(host, select.POLLIN)
    watching = handler if isinstance(handler, Watching) else None
    if watching is not None:
        poll.register(watching, select.POLLIN)
    beat_at = monotonic() + hello.heartbeat
    while True:
        now = monotonic()
        if now >= beat_at:
            channel.sendall(codec.encode(Heartbeat(handler.busy(), taken[0], _memory())))
            beat_at = now + hello.heartbeat
        until = max(0.0, beat_at - now)
        pause = None if watching is None else watching.pause()
        ready = {fd for fd, _ in poll.poll((until if pause is None else min(until, pause)) * 1000)}
        if host in ready:
            return
        if watching is not None and (pause == 0 or watching.fileno() in ready):
            watching.look()
        if channel.fileno() in ready and not _take(channel, codec, handler, taken):
            return


def _memory() -> int:
    """Bytes in memory that are this process's own, by proc_pid_statm(5); 0 where that cannot be read."""
    try:
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - pathlib costs a worker its import
            _, resident, shared, *_ = statm.read().split()
    except OSError:
        return 0
    return (int(resident) - int(shared)) * _PAGE


def _send(channel: socket.socket, frame: bytes) -> None:
    """For the handler's threads, which have no use for the news that the host is gone: then this process goes too."""
    try:
        channel.sendall(frame)
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)


def _take(channel: socket.socket, codec: Codec, handler: Handler, taken: SharedWords) -> bool:
    """Handle every frame that is there; False when the host has said stop or is gone."""
    while True:
        try:
            # Not socket.recv_fds: it ignores its flags (gh-107898) and would block here, without a heartbeat.
            frame, ancillary, _, _ = channel.recvmsg(FRAME_LIMIT, _ROOM_FOR_FDS, _RECEIVE)
        except BlockingIOError:
            return True
        fds = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if not frame:
            return False
        if tag_of(frame) not in _CONTROL_TAGS:
            # Before it is handled: whatever it does to this process, the host sees that it was here.
            taken[0] += 1
            handler.handle(frame, list(fds))
        elif isinstance(codec.decode(frame), StopWorker):
            return False
