"""What is said on the channel between the host and the parsing process. Tags 32 to 47.

The process is given a descriptor that it can read and nothing else; where bytes are missing it asks for them, and
they land behind the descriptor. `job` is counted by the host.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.messages.command import Command
from kithara_actors.values import MediaDetails

__all__ = ["PARSER_COMMANDS", "BytesNeeded", "BytesThere", "Describe", "Described", "ForgetJob", "ParserSettings"]


@dataclass(frozen=True, slots=True)
class ParserSettings(Command):
    """Host → parser, inside `Hello`. `memory_limit` in bytes of private memory, `time_limit` in seconds a job may
    run without waiting for bytes."""

    TAG = 32
    memory_limit: int
    time_limit: float


@dataclass(frozen=True, slots=True)
class Describe(Command):
    """Host → parser, with one descriptor: say what this file is.

    Bytes are there from 0 to `present`. `length` None: unknown, take what is there for all. With `whole` further
    bytes may be asked for, without it the file ends at `present` as far as the parser can read.
    """

    TAG = 33
    job: int
    content_type: str | None
    length: int | None
    present: int
    whole: bool


@dataclass(frozen=True, slots=True)
class BytesNeeded(Command):
    """Parser → host: `start` to `end` are missing. Answered by `BytesThere` or `ForgetJob`."""

    TAG = 34
    job: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class BytesThere(Command):
    """Host → parser: the bytes from `start` to `end` have landed; `end` is the file's where that comes first."""

    TAG = 35
    job: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Described(Command):
    """Parser → host: all that can be told. Ends the job."""

    TAG = 36
    job: int
    details: MediaDetails


@dataclass(frozen=True, slots=True)
class ForgetJob(Command):
    """Host → parser: nobody wants to know any more."""

    TAG = 37
    job: int


PARSER_COMMANDS: tuple[type[Command], ...] = (Describe, BytesNeeded, BytesThere, Described, ForgetJob)
