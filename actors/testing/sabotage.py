"""Crashes actors on purpose, at any of their commands: for tests, for load tests, and for showing that nothing is seen.

Nothing here is loaded, and nothing is slower, where it is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from actors.actor.cell import Behaviour, StopSelf
from actors.actor.system import Runtime
from actors.messages.command import Command

__all__ = ["Meddle", "Moment", "sabotage"]

Moment = Literal["start", "before", "after"]
"""When an actor is meddled with: at the start of an incarnation, or before or after a command is handled."""
Meddle = Callable[[str, Command | None, Moment], object]
"""Called on the actor's own thread with its name and the command, None at a start. What it raises, the actor raises."""


class _Meddled(Behaviour):
    def __init__(self, name: str, inner: Behaviour, meddle: Meddle) -> None:
        self._name = name
        self._inner = inner
        self._meddle = meddle

    def on_start(self) -> None:
        # As the cell would have done: what is set on this one is not set on that.
        self._inner.context = self.context
        self._meddle(self._name, None, "start")
        self._inner.on_start()

    def handle(self, command: Command) -> Command | None:
        self._meddle(self._name, command, "before")
        try:
            answer = self._inner.handle(command)
        except StopSelf:
            # Also after its last command there is an after.
            self._meddle(self._name, command, "after")
            raise
        self._meddle(self._name, command, "after")
        return answer

    def on_restart(self, reason: BaseException | None) -> None:
        self._inner.on_restart(reason)

    def on_stop(self) -> None:
        self._inner.on_stop()


@contextmanager
def sabotage(meddle: Meddle) -> Iterator[None]:
    """Meddle with every actor of the systems that are started while the block runs, for as long as they live."""
    before = Runtime.wrap
    Runtime.wrap = staticmethod(lambda name, behaviour: _Meddled(name, behaviour, meddle))
    try:
        yield
    finally:
        Runtime.wrap = before
