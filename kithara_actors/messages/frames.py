"""What a trace is made of: what a recorder writes and a replay reads. Plain data is as in `kithara_actors.logic.plain`.

`seq` counts the frames of a recording; `time` is that of a clock whose origin is in the file's header.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Event", "Frame", "State", "Words"]

Plain = Any


@dataclass(frozen=True, slots=True)
class Words:
    """The number, name and attributes of each class that is spoken of in this lap."""

    seq: int
    time: float
    words: Plain


@dataclass(frozen=True, slots=True)
class State:
    """What a machine remembers after `step` events: the `incarnation`-th of the actor's, which is a `kind`."""

    seq: int
    time: float
    actor: str
    incarnation: int
    step: int
    kind: str
    state: Plain


@dataclass(frozen=True, slots=True)
class Event:
    """The machine's event `step`, from 0: what it was given, what others answered it, and what it decided.

    With `error`, the name of an exception that it raised instead, `decided` is the text of that.
    """

    seq: int
    time: float
    actor: str
    incarnation: int
    step: int
    kind: str
    inputs: Plain
    answers: Plain
    error: str | None
    decided: Plain


Frame = Words | State | Event
