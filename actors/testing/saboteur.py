"""Crashes that are laid out beforehand: which actor, at which command, before or after it was handled."""

from __future__ import annotations

import fnmatch
import threading
from dataclasses import dataclass

from actors.actor.cell import Crash
from actors.messages.command import Command
from actors.testing.sabotage import Moment

__all__ = ["Sabotaged", "Saboteur", "Trap"]


class Sabotaged(Crash):
    """The crash that was asked for; an ask that meets it crashes its actor too."""


@dataclass(frozen=True, slots=True)
class Trap:
    """Crashes the first actor whose name fits `actor` (as `fnmatch` has it) at the first command that fits.

    `command` is the name of its class, or None for any; at the moment "start" there is none. With `again` (a
    number of times) the next starts of the same actor fail too. `then` is set when this one has gone off.
    """

    actor: str
    command: str | None = None
    moment: Moment = "before"
    again: int = 0
    then: Trap | None = None

    def fits(self, name: str, command: Command | None, moment: Moment) -> bool:
        """Whether it goes off here."""
        if moment != self.moment or not fnmatch.fnmatchcase(name, self.actor):
            return False
        return self.command is None or (command is not None and type(command).__name__ == self.command)


class Saboteur:
    """To be given to `sabotage`. Safe from any thread; each trap goes off once, the oldest that fits first."""

    def __init__(self, most: int | None = None) -> None:
        """`most`: no actor is crashed more often than this."""
        self._most = most
        self._changed = threading.Condition()
        self._set: list[Trap] = []
        self._sprung: list[tuple[str, Trap]] = []

    def set(self, *traps: Trap) -> None:
        """Have these go off, each at the next occasion."""
        with self._changed:
            self._set.extend(traps)

    def __call__(self, name: str, command: Command | None, moment: Moment) -> None:
        """Raise Sabotaged where a trap goes off."""
        if not self._set:
            return
        with self._changed:
            fitting = (each for each in self._set if each.fits(name, command, moment))
            trap = next((each for each in fitting if not self._spent(name, 1 + each.again)), None)
            if trap is None:
                return
            self._set.remove(trap)
            self._sprung.append((name, trap))
            self._set[:0] = [Trap(name, None, "start")] * trap.again
            self._set += [] if trap.then is None else [trap.then]
            self._changed.notify_all()
        where = "at its start" if command is None else f"{moment} {type(command).__name__}"
        raise Sabotaged(f"{name} was crashed on purpose {where}")

    def _spent(self, name: str, more: int) -> bool:
        return self._most is not None and sum(actor == name for actor, _ in self._sprung) + more > self._most

    @property
    def left(self) -> tuple[Trap, ...]:
        """Those that have not gone off."""
        with self._changed:
            return tuple(self._set)

    @property
    def sprung(self) -> tuple[tuple[str, Trap], ...]:
        """The crashes so far: which actor, by which trap."""
        with self._changed:
            return tuple(self._sprung)

    def wait(self, timeout: float) -> bool:
        """Block until every trap has gone off: True, or False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._set, timeout)
