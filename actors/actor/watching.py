"""Death watch: who wants to know when an actor ends for good."""

from __future__ import annotations

from actors.actor.address import Address
from actors.actor.errors import WatchedActorEnded
from actors.actor.mailbox import Notice
from actors.messages.command import Command

__all__ = ["Watch"]


class Watch:
    """One watcher of one actor; made by `Supervisor.watch`. Safe from any thread."""

    __slots__ = ("_active", "_data", "_watcher", "child")

    def __init__(self, child: str, watcher: Address, command: Command | None) -> None:
        self.child = child
        self._watcher = watcher
        self._data: bytes | BaseException = (
            WatchedActorEnded(child) if command is None else watcher.codec.encode(command)
        )
        self._active = True

    def cancel(self) -> None:
        """Not wanted any more: also what is in the watcher's mailbox already is not handled."""
        self._active = False

    @property
    def active(self) -> bool:
        """Whether the watcher still wants to hear of it."""
        return self._active

    def ended(self) -> None:
        """Tell the watcher, in its turn. Does not block."""
        if self._active:
            self._watcher.deliver(Notice(self._data, lambda: self._active))
