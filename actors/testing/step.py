"""Drive a behaviour without a thread: commands go in by hand, what it sends is kept to be looked at.

Everything crosses a codec on its way, as it would between actors.
"""

from __future__ import annotations

from actors.actor.address import Address
from actors.actor.cell import Behaviour, StopSelf
from actors.actor.mailbox import Notice
from actors.messages.codec import Codec
from actors.messages.command import Command

__all__ = ["Neighbours", "Probe", "Step"]


class Probe(Address):
    """An address that keeps what it is told, in `received`, until `alive` is set to False."""

    alive = True

    def __init__(self, name: str, codec: Codec) -> None:
        self.name = name
        self._codec = codec
        self.received: list[Command] = []

    def forward(self, data: bytes) -> bool:
        if self.alive:
            self.received.append(self._codec.decode(data))
        return self.alive

    def ask(self, command: Command, timeout: float) -> Command:
        raise NotImplementedError(f"{self.name} answers nothing")

    def deliver(self, notice: Notice) -> None:
        if notice.wanted():
            self.forward(notice.data)

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def take(self) -> list[Command]:
        """What was received since the last call."""
        taken, self.received = self.received, []
        return taken


class Neighbours:
    """The actors around the one under test, by name; one that was never named is not there."""

    def __init__(self, codec: Codec, *names: str) -> None:
        self._probes = {name: Probe(name, codec) for name in names}

    def __getitem__(self, name: str) -> Probe:
        return self._probes[name]

    def find(self, name: str) -> Address | None:
        """What a runtime's `address` is to an actor."""
        return self._probes.get(name)


class Step:
    """A behaviour on the caller's thread. Exceptions come out where the command went in."""

    def __init__(self, behaviour: Behaviour, codec: Codec) -> None:
        self.behaviour = behaviour
        self.stopped = False
        self._codec = codec
        behaviour.on_start()

    def tell(self, *commands: Command) -> None:
        """Have each command handled, in order."""
        for command in commands:
            self.ask(command)

    def ask(self, command: Command) -> Command | None:
        """Have `command` handled; the answer. A behaviour that stops itself handles nothing any more."""
        if self.stopped:
            return None
        try:
            answer = self.behaviour.handle(self._codec.decode(self._codec.encode(command)))
        except StopSelf:
            self.stop()
            return None
        return None if answer is None else self._codec.decode(self._codec.encode(answer))

    def stop(self) -> None:
        """What the end of its cell would do."""
        if not self.stopped:
            self.stopped = True
            self.behaviour.on_stop()
