"""Errors of the runtime. This module is imported by worker processes and therefore never imports pykka."""

from __future__ import annotations

__all__ = ["ActorsError", "CodecError", "WorkerStartError"]


class ActorsError(Exception):
    """Root of every error that the runtime itself raises."""


class CodecError(ActorsError):
    """A command could not be encoded, or bytes are not a well-formed command.

    The text names the command and the field. Raised by `actors.messages.codec.Codec`; never blocks.
    """


class WorkerStartError(ActorsError):
    """No worker process became ready in time; the text says how the last attempt ended."""
