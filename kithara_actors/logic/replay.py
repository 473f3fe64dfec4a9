"""Feeds what was recorded to the same logic again, and compares what it decides. Sans-IO."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from kithara_actors.errors import TraceError
from kithara_actors.logic.machines import MACHINES, VOCABULARY, Machine
from kithara_actors.logic.plain import Encoder, Plain, PlainError, difference
from kithara_actors.messages.frames import Event, Frame, State, Words

__all__ = ["Difference", "Replay", "Replayed"]

NAMES = {number: word.names for number, word in VOCABULARY.words.items()}


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a replay first parts from the recording. `what` is "decision" or "state", `where` the place in it."""

    frame: State | Event
    what: str
    where: str
    recorded: Plain
    replayed: Plain


@dataclass(slots=True)
class Replayed:
    """A machine after `step` events."""

    kind: str
    incarnation: int
    step: int
    machine: Any

    @property
    def state(self) -> Plain:
        return _encode(self.machine)


class Replay:
    """Takes all frames of a trace in order."""

    def __init__(self) -> None:
        self.replayed: Counter[str] = Counter()
        """Events that led to the same decision, by actor."""
        self.passed: Counter[str] = Counter()
        """Events that could not be replayed, for the state before them is not in the trace."""
        self.machines: dict[str, Replayed] = {}
        """By actor, those whose state is known."""
        self._answers: deque[Plain] = deque()

    def take(self, frame: Frame) -> Difference | None:
        """The next frame. TraceError if it was written by another version of the logic, or by no recorder at all."""
        try:
            match frame:
                case Words(_, _, words):
                    if words != VOCABULARY.described:
                        raise TraceError(
                            "it was recorded by another version of the library: replay it with that one; this one can "
                            "show it"
                        )
                    return None
                case State():
                    return self._state(frame)
                case Event():
                    return self._event(frame)
        except PlainError as error:
            raise TraceError(f"frame {frame.seq} {error}") from error

    def _state(self, frame: State) -> Difference | None:
        known = self._known(frame)
        machine = VOCABULARY.restore(frame.state)
        described = MACHINES.get(frame.kind)
        if described is None or type(machine).__name__ != frame.kind:
            raise TraceError(f"frame {frame.seq} is the state of no machine that is known here")
        for port in described.ports:
            setattr(machine, port, self._answer)
        self.machines[frame.actor] = Replayed(frame.kind, frame.incarnation, frame.step, machine)
        return None if known is None else _compare(frame, "state", frame.state, known.state)

    def _event(self, frame: Event) -> Difference | None:
        described = MACHINES.get(frame.kind)
        known = self._known(frame)
        if described is None or (described.function is None and known is None):
            self.machines.pop(frame.actor, None)
            self.passed[frame.actor] += 1
            return None
        inputs = VOCABULARY.restore(frame.inputs)
        if type(inputs) is not tuple:
            raise TraceError(f"frame {frame.seq} has no inputs")
        self._answers = deque(frame.answers)
        error, decided = self._decide(described, known, inputs)
        if known is not None:
            known.step += 1
        found = None
        if error != frame.error:
            found = Difference(frame, "decision", "", frame.error or frame.decided, error or decided)
        elif error is None:
            # The text of an exception is for people.
            found = _compare(frame, "decision", frame.decided, decided)
        if found is None:
            self.replayed[frame.actor] += 1
        return found

    def _decide(self, described: Machine, known: Replayed | None, inputs: tuple[Any, ...]) -> tuple[str | None, Plain]:
        try:
            if described.function is not None:
                decided = described.function(*inputs)
            else:
                assert known is not None
                decided = known.machine.handle(*inputs)
            if self._answers:
                return "fewer questions asked", None
            return None, _encode(decided)
        except Exception as error:  # noqa: BLE001 - what it raises is its decision
            return type(error).__name__, None

    def _answer(self, *_: object) -> Any:
        """A machine asks through one of its ports."""
        if not self._answers:
            raise PlainError("more was asked than was answered in the recording")
        return VOCABULARY.restore(self._answers.popleft())

    def _known(self, frame: State | Event) -> Replayed | None:
        known = self.machines.get(frame.actor)
        if known is None or (known.incarnation, known.step, known.kind) != (frame.incarnation, frame.step, frame.kind):
            return None
        return known


def _compare(frame: State | Event, what: str, recorded: Plain, replayed: Plain) -> Difference | None:
    where = difference(recorded, replayed, NAMES)
    return None if where is None else Difference(frame, what, where, recorded, replayed)


_encode = Encoder(VOCABULARY).encode
