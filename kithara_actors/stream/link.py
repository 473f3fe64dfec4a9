"""What a stream needs of the system behind it. The stream holds no actor and no table of the system's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from actors.messages.command import Command
from kithara_actors.messages.events import Envelope, Event
from kithara_actors.messages.parser import BytesNeeded, Described
from kithara_actors.stream.subscription import Subscription
from kithara_actors.values import StreamId

__all__ = ["Link", "Parser"]


class Parser(Protocol):
    """The parsing process, as far as a stream needs it; `kithara_actors.parsing.Parsing`. Nothing here blocks."""

    def describe(
        self,
        fd: int,
        content_type: str | None,
        length: int | None,
        present: int,
        whole: bool,
        hear: Callable[[BytesNeeded | Described], object],
    ) -> int:
        """Have a file described; the number of the job."""

    def supply(self, job: int, start: int, end: int) -> None:
        """The bytes that were asked for are there."""

    def forget(self, job: int) -> None:
        """Nobody waits for the job any more. Harmless after its end."""


class Link(Protocol):
    """Nothing here blocks."""

    def tell(self, command: Command) -> None:
        """Send to the stream's Source; nothing happens when it has none (any more)."""

    def detach(self, stream: StreamId) -> None:
        """The stream was closed. Called once."""

    def soon(self, call: Callable[[], object]) -> None:
        """Run `call` on another thread; safe from a finalizer."""

    def publish(self, stream: StreamId, event: Event) -> None:
        """Publish at the stream's scope."""

    @property
    def parsing(self) -> Parser:
        """Who looks into files."""

    @property
    def listening(self) -> bool:
        """Whether anybody subscribes to anything."""

    def subscribe(
        self, stream: StreamId, capacity: int | None, callback: Callable[[Envelope], object] | None
    ) -> Subscription:
        """Events of the stream and of its asset."""

    def unsubscribe(self, stream: StreamId) -> None:
        """The stream was closed: who subscribed to it gets what has been published, and no more."""
