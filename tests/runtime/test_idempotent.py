"""A command that may be handled twice is handled again by the next incarnation, before all that waits; no other is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from family_kit import LONG, SOON, House, housed

from actors.actor.behaviour import Behaviour
from actors.actor.children import ChildSpec
from actors.actor.supervisor import Supervisor
from actors.messages.codec import Codec
from actors.messages.command import Command


@dataclass(frozen=True, slots=True)
class Twice(Command):
    TAG = 16
    IDEMPOTENT = True
    number: int


@dataclass(frozen=True, slots=True)
class Once(Command):
    TAG = 17
    number: int


CODEC = Codec([Twice, Once])


class Stumbles(Behaviour):
    """Fails on each number as often as `failures` says."""

    def __init__(self, failures: dict[int, int], seen: list[int]) -> None:
        self.failures = failures
        self.seen = seen

    def handle(self, command: Command) -> Command:
        assert isinstance(command, Twice | Once)
        if self.failures.get(command.number):
            self.failures[command.number] -= 1
            raise ValueError("told so")
        self.seen.append(command.number)
        return command


@pytest.fixture
def house() -> Iterator[House]:
    yield from housed()


@pytest.mark.parametrize(
    ("kind", "failures", "handled"),
    [
        (Twice, 1, [1, 2, 3]),
        (Twice, 2, [1, 3]),  # what crashes two in a row is dropped
        (Once, 1, [1, 3]),
    ],
)
def test_who_is_told_again(house: House, kind: type[Twice | Once], failures: int, handled: list[int]) -> None:
    seen: list[int] = []
    failing = {2: failures}
    supervisor = Supervisor("family", CODEC, house.timers, backoff=SOON)
    house.made.append(supervisor)
    address = supervisor.add(ChildSpec(name="a", make=lambda: Stumbles(failing, seen)), ready_within=LONG)
    for number in (1, 2):
        address.tell(kind(number))
    assert address.ask(Once(3), LONG) == Once(3)
    assert (seen, failing) == (handled, {2: 0})
