"""Errors of the runtime. This module is imported by worker processes and therefore never imports pykka."""

from __future__ import annotations

__all__ = ["ActorsError", "CodecError", "FrameTooLong", "RemoteError", "WorkerStartError"]


class ActorsError(Exception):
    """Root of every error that the runtime itself raises."""


class CodecError(ActorsError):
    """A command could not be encoded, or bytes are not a well-formed command.

    The text names the command and the field. Raised by `actors.messages.codec.Codec`; never blocks.
    """


class FrameTooLong(ActorsError):
    """A frame has more bytes than one message to a worker may have: it was not sent, and the worker is well."""


class RemoteError(ActorsError):
    """An exception was raised in a worker process. It stands for one that could not be carried over as it was, and is
    the cause of one that could.

    `type_name` is the original's type with its module, `text` what it said, `traceback` the traceback as text.
    """

    def __init__(self, type_name: str, text: str, traceback: str) -> None:
        super().__init__(type_name, text, traceback)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback

    def __str__(self) -> str:
        said = f"{self.type_name}: {self.text}" if self.text else self.type_name
        return f"{said}\n\n{self.traceback.rstrip()}" if self.traceback else said


class WorkerStartError(ActorsError):
    """No worker process became ready in time; the text says how the last attempt ended."""
