"""Calls of functions inside a worker process, one after the other on a thread of their own."""

from __future__ import annotations

import functools
import importlib
import os
import queue
import threading
import traceback
from typing import Any

import msgpack

from actors.messages.calls import CALLS, VALUE_LIMIT, CallDone, CallFailed, RunCall
from actors.messages.codec import Codec
from actors.worker.handler import Send

__all__ = ["CallHandler", "make_handler"]

_NAME_LIMIT = 512
_TEXT_LIMIT = 8 * 1024
_TRACEBACK_LIMIT = 16 * 1024
_ARGUMENTS_LIMIT = 16 * 1024
"""Characters or bytes of an exception; together they fit a frame, whatever is in them."""


def make_handler(settings: bytes, send: Send) -> CallHandler:  # noqa: ARG001
    """What `Hello.handler` names."""
    return CallHandler(send)


class CallHandler:
    """Takes calls on the control thread, runs them on another, answers each."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._codec = Codec(CALLS)
        self._calls: queue.SimpleQueue[RunCall] = queue.SimpleQueue()
        self._open = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._work, name="calls", daemon=True).start()

    def handle(self, frame: bytes, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        command = self._codec.decode(frame)
        if not isinstance(command, RunCall):
            raise TypeError(f"a worker does not handle {type(command).__name__}")
        with self._lock:
            self._open += 1
        self._calls.put(command)

    def busy(self) -> int:
        return self._open

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            self._send(self._codec.encode(_run(call)))
            with self._lock:
                self._open -= 1


def _run(call: RunCall) -> CallDone | CallFailed:
    try:
        function = _resolve(call.function)
        value = function(*msgpack.unpackb(call.arguments, strict_map_key=False))
        return CallDone(call.call, _packed(call.function, value))
    except BaseException as error:  # noqa: BLE001 - SystemExit in a function fails this call only
        return _failed(call.call, error)


def _resolve(name: str) -> Any:
    module, _, path = name.partition(":")
    return functools.reduce(getattr, path.split("."), importlib.import_module(module))


def _packed(function: str, value: object) -> bytes:
    try:
        packed: bytes = msgpack.packb(value)
    except (TypeError, ValueError, OverflowError) as error:
        kind = type(value).__qualname__
        raise TypeError(
            f"{function} returned a value ({kind}) that cannot be sent: {error}; return plain data"
        ) from error
    if len(packed) > VALUE_LIMIT:
        raise ValueError(
            f"{function} returned {len(packed)} bytes, at most {VALUE_LIMIT} can be sent; put them into a file"
        )
    return packed


def _failed(call: int, error: BaseException) -> CallFailed:
    cls = type(error)
    try:
        text = str(error)
    except BaseException as second:  # noqa: BLE001 - a class of the caller's: it may do anything
        text = f"(its text cannot be had: {type(second).__name__})"
    try:
        shown = "".join(traceback.format_exception(error))
    except BaseException as second:  # noqa: BLE001 - the same
        shown = f"(its traceback cannot be had: {type(second).__name__})"
    arguments: bytes | None
    try:
        # Not `args`: an OSError has its file's name elsewhere.
        made = error.__reduce__()
        arguments = msgpack.packb(list(made[1])) if isinstance(made, tuple) and made[0] is cls else None
    except BaseException:  # noqa: BLE001 - the same; without them it cannot be rebuilt, but reported
        arguments = None
    if arguments is not None and len(arguments) > _ARGUMENTS_LIMIT:
        arguments = None
    # The end of a traceback says most, and the beginning of a text.
    return CallFailed(
        call,
        _sendable(cls.__module__)[:_NAME_LIMIT],
        _sendable(cls.__qualname__)[:_NAME_LIMIT],
        _cut(_sendable(text), _TEXT_LIMIT),
        _cut(_sendable(shown), -_TRACEBACK_LIMIT),
        arguments,
    )


def _sendable(text: object) -> str:
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def _cut(text: str, limit: int) -> str:
    """At most `limit` bytes from the front, or from the end if it is negative."""
    data = text.encode("utf-8")
    if len(data) <= abs(limit):
        return text
    return (data[:limit] if limit > 0 else data[limit:]).decode("utf-8", "ignore")
