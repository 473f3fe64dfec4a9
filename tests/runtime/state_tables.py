"""The state tables of docs/supervision.md, found by trying every event in every state.

python tests/runtime/state_tables.py      prints them
"""

from __future__ import annotations

from collections.abc import Callable

from actors.logic.restarts import Exit, Intensity, RestartType, Strategy, comes_back
from actors.logic.supervision import (
    Action,
    Added,
    Delay,
    Drain,
    Drained,
    Due,
    Event,
    Exited,
    GaveUp,
    Gone,
    Halted,
    HostStops,
    Started,
    StartFailed,
    Supervision,
    Terminate,
)

__all__ = ["child_table", "restart_table", "supervisor_table"]

_EXITS = {
    Exit.NORMAL: "`SystemExit`",
    Exit.SELF_STOP: "`StopSelf`, `proxy.stop()`",
    Exit.HOST_STOP: "`ref.stop()` from outside",
    Exit.CRASH: "an exception",
    Exit.WORKER_LOST: "`WorkerLostError`",
}


class _Try:
    """Two permanent children, one_for_all: `b` is the one that is looked at, `a` the one that takes it down."""

    def __init__(self, intensity: Intensity | None = None) -> None:
        self.machine = Supervision(Strategy.ONE_FOR_ALL, intensity)
        self.token = 0

    def do(self, event: Event) -> list[Action]:
        actions = self.machine.handle(event, 0.0, 1.0)
        self.token = next((action.token for action in actions if isinstance(action, Delay)), self.token)
        return actions

    def crash(self, child: str) -> list[Action]:
        return self.do(Exited(child, self.machine.incarnation(child), Exit.CRASH))


def _starting(world: _Try) -> None:
    for event in (Added("a"), Started("a", 1), Added("b")):
        world.do(event)


def _up(world: _Try) -> None:
    _starting(world)
    world.do(Started("b", 1))


def _halting(world: _Try) -> None:
    _up(world)
    world.crash("a")


def _restarting(world: _Try) -> None:
    _halting(world)
    world.do(Halted("b", 1))


def _again(world: _Try) -> None:
    _restarting(world)
    world.do(Due(world.token))
    world.do(Started("a", 2))


def _ending(world: _Try) -> None:
    _up(world)
    world.do(Terminate("b"))


_CHILD: dict[str, Callable[[_Try], None]] = {
    "starting, first": _starting,
    "starting, again": _again,
    "up": _up,
    "halting": _halting,
    "restarting": _restarting,
    "ending": _ending,
}

_TO_CHILD: dict[str, Callable[[int, int], Event]] = {
    "is up": lambda n, _: Started("b", n),
    "start failed": lambda n, _: StartFailed("b", n),
    "failed": lambda n, _: Exited("b", n, Exit.CRASH),
    "was halted": lambda n, _: Halted("b", n),
    "host stopped it": lambda n, _: Exited("b", n, Exit.HOST_STOP),
    "terminate": lambda _, __: Terminate("b"),
    "thread ended or hangs": lambda _, __: Gone("b"),
}


def child_table() -> str:
    """What becomes of a child, by its state (rows) and what happens (columns); nothing where there is no entry."""
    rows = []
    for state, reach in _CHILD.items():
        cells = []
        for make in _TO_CHILD.values():
            world = _Try()
            reach(world)
            before = world.machine.state("b")
            world.do(make(world.machine.incarnation("b"), world.token))
            after = world.machine.state("b")
            cells.append("" if after is before else "gone" if after is None else str(after))
        rows.append([f"**{state}**", *cells])
    return _markdown(["", *_TO_CHILD], rows)


_SUPERVISOR: dict[str, Callable[[_Try], None]] = {
    "running": _up,
    "restarting some": _halting,
    "giving up": lambda world: (_again(world), world.do(StartFailed("b", 2)), None)[-1],
    "stopping": lambda world: (_up(world), world.do(Drain()), None)[-1],
}


def _spend(world: _Try) -> list[Action]:
    done: list[Action] = []
    for _ in range(3):
        done += world.crash("a")
        done += world.do(Halted("b", world.machine.incarnation("b")))
        done += world.do(Due(world.token))
        done += world.do(Started("a", world.machine.incarnation("a")))
        done += world.do(Started("b", world.machine.incarnation("b")))
    return done


def _all_gone(world: _Try) -> list[Action]:
    return world.do(Gone("b")) + world.do(Gone("a"))


_TO_SUPERVISOR: dict[str, Callable[[_Try], list[Action]]] = {
    "a child fails": lambda world: world.crash("b"),
    "once too often": _spend,
    "stop is asked for": lambda world: world.do(Drain()),
    "host stops a child": lambda world: world.do(HostStops("a")),
    "a new child": lambda world: _refused(world, Added("c")),
    "the last one has ended": _all_gone,
}


def _refused(world: _Try, event: Event) -> list[Action]:
    try:
        return world.do(event)
    except RuntimeError:
        return [Drained("refused")]


def supervisor_table() -> str:
    """What a supervisor does, by its state (rows) and what happens (columns); nothing new where there is no entry."""
    rows = []
    for state, reach in _SUPERVISOR.items():
        cells = []
        for happens in _TO_SUPERVISOR.values():
            world = _Try(Intensity(1))
            reach(world)
            draining = world.machine.draining
            cells.append(_verdict(world, draining, happens(world)))
        rows.append([f"**{state}**", *cells])
    return _markdown(["", *_TO_SUPERVISOR], rows)


def _verdict(world: _Try, draining: bool, actions: list[Action]) -> str:
    if Drained("refused") in actions:
        return "refused"
    if any(isinstance(action, GaveUp) for action in actions):
        return "giving up"
    if any(isinstance(action, Drained) for action in actions):
        return "ended"
    if world.machine.draining and not draining:
        return "stopping"
    if world.machine.names() == ["a", "b", "c"]:
        return "starts" if world.machine.incarnation("c") else "waits its turn"
    return "restarting some" if world.machine.names() and not draining and actions else ""


def restart_table() -> str:
    """Which ends are followed by a new incarnation."""
    rows = [
        [_EXITS[how], *("again" if comes_back(restart, how) else "ends" for restart in RestartType)] for how in Exit
    ]
    return _markdown(["ended by", *(str(restart) for restart in RestartType)], rows)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    print(*(child_table(), supervisor_table(), restart_table()), sep="\n\n")
