"""Who wants to see what supervisors decide puts something in the place of what decides."""

from __future__ import annotations

from typing import Any, cast

from actors.actor.behaviour import Behaviour
from actors.actor.children import ChildSpec, SupervisorSpec
from actors.actor.hooks import SupervisorHooks
from actors.actor.supervisor import Supervisor
from actors.logic.supervision import Added, Drained, Started, Supervision
from actors.messages.codec import Codec
from actors.messages.command import Command


class Idle(Behaviour):
    def handle(self, command: Command) -> None:
        return


class Seen:
    """Stands for a supervision, and notes what it is told."""

    def __init__(self, made: Supervision, notes: list[tuple[object, list[Any]]]) -> None:
        self._made = made
        self._notes = notes

    def handle(self, event: Any, now: float, draw: float) -> list[Any]:
        actions = self._made.handle(event, now, draw)
        self._notes.append((event, actions))
        return actions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


class Watching(SupervisorHooks):
    def __init__(self) -> None:
        self.notes: dict[str, list[tuple[object, list[Any]]]] = {}

    def deciding(self, supervisor: str, made: Supervision) -> Supervision:
        return cast("Supervision", Seen(made, self.notes.setdefault(supervisor, [])))


def test_every_decision_of_every_supervisor_is_seen() -> None:
    hooks = Watching()
    spec = SupervisorSpec(name="below", children=(ChildSpec(name="two", make=Idle),))
    with Supervisor("top", Codec([]), children=(ChildSpec(name="one", make=Idle), spec), hooks=hooks):
        pass
    for supervisor, children in (("top", ["one", "below"]), ("below", ["two"])):
        events = [event for event, _ in hooks.notes[supervisor]]
        assert [event.child for event in events if isinstance(event, Added)] == children
        assert [event.child for event in events if isinstance(event, Started)] == children
        decided = [action for _, actions in hooks.notes[supervisor] for action in actions]
        assert any(isinstance(action, Drained) for action in decided)


def test_by_default_what_was_made_decides() -> None:
    made = Supervision()
    assert SupervisorHooks().deciding("top", made) is made
