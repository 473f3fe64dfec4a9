#!/usr/bin/env python3
"""Supervision for Pykka by itself: actors that fail and come back, and a look at how they are doing.

Run it as it is: it needs no network and ends within a second.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from actors import (
    Behaviour,
    ChildSpec,
    Codec,
    Command,
    DynamicSupervisor,
    Intensity,
    Supervisor,
    SupervisorHooks,
    SupervisorSpec,
)


@dataclass(frozen=True, slots=True)
class Add(Command):
    TAG = 16
    number: int


@dataclass(frozen=True, slots=True)
class Total(Command):
    TAG = 17
    number: int = 0


CODEC = Codec([Add, Total])


class Sum(Behaviour):
    """Adds up; fails at 13."""

    def __init__(self, start: int = 0) -> None:
        self.total = start

    def handle(self, command: Command) -> Command | None:
        match command:
            case Add(number):
                if number == 13:
                    raise ValueError("unlucky")
                self.total += number
            case Total():
                return Total(self.total)
        return None


class Told(SupervisorHooks):
    """Prints what is going on."""

    def failed(self, child: str, incarnation: int, error: BaseException, *, asked: bool) -> None:
        print(f"{child}, incarnation {incarnation}: {error}{' (who asked was told)' if asked else ''}")

    def restarted(self, child: str, incarnation: int) -> None:
        print(f"{child}: incarnation {incarnation} is up")


def main() -> None:
    logging.disable()  # each crash is logged with its traceback, too
    one = ChildSpec(name="one", make=Sum)
    many = SupervisorSpec(name="many", template=Sum, intensity=Intensity(3, 10.0))
    with Supervisor("root", CODEC, children=[one, many], hooks=Told()) as root:
        address = root.address("one")
        assert address is not None
        address.tell(Add(4))
        print("before:", address.ask(Total(), timeout=5))
        address.tell(Add(13))  # crashes; what follows waits for the next incarnation
        address.tell(Add(2))
        print("after:", address.ask(Total(), timeout=5))

        sums = root.supervisor("many")
        assert isinstance(sums, DynamicSupervisor)
        hundred = sums.start_child("hundred", 100)
        hundred.tell(Add(1))
        print("hundred:", hundred.ask(Total(), timeout=5))
        print("health:", root.health().state)
    print("health:", root.health().state, *root.health().reasons)


if __name__ == "__main__":
    main()
