"""Commands to the Collector. Each docstring names the sender. Tags 128 to 143.

Import them from `kithara_actors.messages.commands`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.messages.command import Command
from kithara_actors.values import RequestId

__all__ = ["COLLECTOR_COMMANDS", "Abandon", "Collect", "CollectedHead"]


@dataclass(frozen=True, slots=True)
class Collect(Command):
    """System → Collector: somebody waits for the answers to these requests; their specs are in a table."""

    TAG = 128
    requests: tuple[RequestId, ...]


@dataclass(frozen=True, slots=True)
class Abandon(Command):
    """System → Collector: nobody waits for these requests any more; end them."""

    TAG = 129
    requests: tuple[RequestId, ...]


@dataclass(frozen=True, slots=True)
class CollectedHead(Command):
    """Downloader → Collector: an attempt was answered so; a later attempt's head replaces it.

    With an `end` the request has ended well, as `FetchDone` says it. `url` is the final one. `headers` are as they were
    sent, repeated ones too. `total` is the length of the representation, None where the answer does not tell.
    """

    TAG = 130
    request: RequestId
    status: int
    partial: bool
    total: int | None
    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    end: int | None = None


COLLECTOR_COMMANDS: tuple[type[Command], ...] = (Collect, Abandon, CollectedHead)
