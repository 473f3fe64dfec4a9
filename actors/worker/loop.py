"""The control thread of a worker process: frames in, heartbeats out, and gone when the host is.

Of the four nets against orphans, the boot code arms the first two (the parent-death signal and a comparison of
the parent's pid); here are the other two: the end of the channel and a pidfd of the host.
"""

from __future__ import annotations

import importlib
import os
import select
import socket
import sys
import traceback
from typing import NoReturn, cast

from actors.clock import monotonic
from actors.messages.codec import Codec, tag_of
from actors.messages.control import CONTROL, FRAME_LIMIT, Heartbeat, Hello, Ready, StopWorker
from actors.worker.handler import Factory, Handler

__all__ = ["main"]

_CONTROL_TAGS = frozenset(command.TAG for command in CONTROL)
_FDS_PER_FRAME = 8
_FAILED = 70  # EX_SOFTWARE of sysexits.h


def main(channel: socket.socket, parent: int) -> NoReturn:
    """Serve the host behind `channel` until it closes it, says stop, or dies. Never returns."""
    try:
        _serve(channel, parent)
        status = 0
    except (KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        status = 0
    except BaseException:  # noqa: BLE001 - the last frame of a process: say why, then go
        traceback.print_exc()
        status = _FAILED
    # Threads may be blocked in the network: leave without joining them. Nothing here has a name to clean up.
    sys.stderr.flush()
    os._exit(status)


def _serve(channel: socket.socket, parent: int) -> None:
    codec = Codec(CONTROL)
    hello = codec.decode(channel.recv(FRAME_LIMIT))
    if not isinstance(hello, Hello):
        return
    module, _, name = hello.handler.partition(":")
    factory = cast("Factory", getattr(importlib.import_module(module), name))
    handler = factory(hello.settings, channel.sendall)
    channel.sendall(codec.encode(Ready(hello.token, os.getpid())))

    host = os.pidfd_open(parent)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(host, select.POLLIN)
    beat_at = monotonic() + hello.heartbeat
    while True:
        now = monotonic()
        if now >= beat_at:
            channel.sendall(codec.encode(Heartbeat(handler.busy())))
            beat_at = now + hello.heartbeat
        ready = poll.poll(max(0.0, beat_at - now) * 1000)
        if any(fd == host for fd, _ in ready):
            return
        if ready and not _take(channel, codec, handler):
            return


def _take(channel: socket.socket, codec: Codec, handler: Handler) -> bool:
    """Handle every frame that is there; False when the host has said stop or closed the channel."""
    while True:
        try:
            frame, fds, _, _ = socket.recv_fds(
                channel, FRAME_LIMIT, _FDS_PER_FRAME, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return True
        if not frame:
            return False
        if tag_of(frame) not in _CONTROL_TAGS:
            handler.handle(frame, list(fds))
        elif isinstance(codec.decode(frame), StopWorker):
            return False
