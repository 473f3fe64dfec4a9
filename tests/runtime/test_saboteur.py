"""Crashes on purpose: at the command that was meant, as often as was meant, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from actors.actor.address import Address
from actors.actor.cell import Behaviour, Crash, StopSelf
from actors.actor.supervisor import SupervisorHooks
from actors.actor.system import Runtime
from actors.messages.codec import Codec
from actors.messages.command import Command
from actors.testing.sabotage import Meddle, sabotage
from actors.testing.saboteur import Sabotaged, Saboteur, Trap

LONG = 20.0


@dataclass(frozen=True, slots=True)
class Echo(Command):
    TAG = 16
    number: int


@dataclass(frozen=True, slots=True)
class Leave(Command):
    TAG = 17


CODEC = Codec([Echo, Leave])


class Echoes(Behaviour):
    def handle(self, command: Command) -> Command:
        if isinstance(command, Leave):
            raise StopSelf
        return command


class Restarts(SupervisorHooks):
    def __init__(self) -> None:
        self.failed_with: list[str] = []

    def failed(self, child: str, incarnation: int, error: BaseException, *, asked: bool) -> None:
        self.failed_with.append(f"{incarnation}: {error}")


@contextmanager
def running(meddle: Meddle) -> Iterator[tuple[Address, Restarts]]:
    hooks = Restarts()
    with sabotage(meddle):
        runtime = Runtime(CODEC, hooks)
    runtime.start()
    try:
        yield runtime.spawn("one", Echoes, ready_within=LONG), hooks
    finally:
        assert runtime.stop(LONG) == []


@pytest.mark.parametrize(("moment", "where"), [("before", "before Echo"), ("after", "after Echo")])
def test_trap_goes_off_once(moment: str, where: str) -> None:
    saboteur = Saboteur()
    with running(saboteur) as (one, restarts):
        assert one.ask(Echo(1), LONG) == Echo(1)
        saboteur.set(Trap("one", "Echo", moment))  # type: ignore[arg-type]
        with pytest.raises(Sabotaged, match="one was crashed on purpose"):
            one.ask(Echo(2), LONG)
        assert one.ask(Echo(3), LONG) == Echo(3)
        assert restarts.failed_with == [f"1: one was crashed on purpose {where}"]
    assert [name for name, _ in saboteur.sprung] == ["one"]
    assert saboteur.left == ()


def test_starts_that_follow_fail_too_and_the_next_trap_waits_for_its_turn() -> None:
    saboteur = Saboteur()
    with running(saboteur) as (one, restarts):
        saboteur.set(Trap("o*", None, "before", again=2, then=Trap("one", "Echo", "after")))
        with pytest.raises(Crash):
            one.ask(Echo(1), LONG)
        with pytest.raises(Crash):
            one.ask(Echo(2), LONG)
        assert one.ask(Echo(3), LONG) == Echo(3)
        assert saboteur.wait(LONG)
        where = ["before Echo", "at its start", "at its start", "after Echo"]
        assert restarts.failed_with == [
            f"{number}: one was crashed on purpose {each}" for number, each in enumerate(where, 1)
        ]


def test_after_the_last_command_of_an_actor_is_a_moment_too() -> None:
    saboteur = Saboteur()
    with running(saboteur) as (one, restarts):
        saboteur.set(Trap("one", "Leave", "after"))
        one.tell(Leave())
        assert saboteur.wait(LONG)
        assert one.ask(Echo(1), LONG) == Echo(1)
        assert restarts.failed_with == ["1: one was crashed on purpose after Leave"]


def test_nobody_is_crashed_more_often_than_is_allowed() -> None:
    saboteur = Saboteur(most=2)
    with running(saboteur) as (one, restarts):
        saboteur.set(Trap("one"), Trap("one", again=1), Trap("one"))
        for number in range(4):
            try:
                assert one.ask(Echo(number), LONG) == Echo(number)
            except Sabotaged:
                continue
        assert len(restarts.failed_with) == 2
    assert saboteur.left == (Trap("one", again=1),)


@pytest.mark.parametrize(
    ("trap", "name", "command", "moment", "fits"),
    [
        (Trap("one"), "one", Echo(1), "before", True),
        (Trap("one"), "two", Echo(1), "before", False),
        (Trap("one"), "one", Echo(1), "after", False),
        (Trap("one", "Leave"), "one", Echo(1), "before", False),
        (Trap("one", "Leave"), "one", Leave(), "before", True),
        (Trap("source-*"), "source-17", Echo(1), "before", True),
        (Trap("source-*"), "source", Echo(1), "before", False),
        (Trap("one", None, "start"), "one", None, "start", True),
        (Trap("one"), "one", None, "start", False),
    ],
)
def test_what_a_trap_fits(trap: Trap, name: str, command: Command | None, moment: str, fits: bool) -> None:
    assert trap.fits(name, command, moment) is fits  # type: ignore[arg-type]
