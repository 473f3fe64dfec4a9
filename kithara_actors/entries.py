"""What a directory knows of each asset in use, and is told of each stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from actors.actor.address import Address
from actors.messages.command import Command
from kithara_actors.assets.content import Content
from kithara_actors.stream.link import Link
from kithara_actors.values import Priority, StreamId

__all__ = ["Entry", "OpenOptions", "StandingLink"]


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How one stream is to behave; see `ActorSystem.open`."""

    name: str
    look_ahead: int | None
    read_timeout: float | None
    wait_for_length: bool
    priority: Priority
    subscribe: bool
    event_capacity: int


class StandingLink(Link, Protocol):
    """The link of a stream or a prefetch that is open."""

    def standing(self) -> list[Command]:
        """What a Source has to know of it."""


@dataclass(slots=True)
class Entry:
    """An asset in use. `address` is None where there is nothing to fetch: a local file."""

    asset: int
    identity: str
    address: Address | None
    content: Content
    links: dict[StreamId, StandingLink] = field(default_factory=dict)
    """Of the streams and prefetches that are open."""
    prefetches: set[StreamId] = field(default_factory=set)
    """Which of these are prefetches."""
    ticket: int | None = None
    """The place among those that are fetched at once, if it was begun for a prefetch."""
    over: bool = False
    """Whether the last of them has been closed."""

    def current(self) -> Content:
        """The content that readers should start with: the last of those that replaced one another."""
        while self.content.successor is not None:
            self.content = self.content.successor
        return self.content
