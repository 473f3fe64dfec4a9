"""What a check finds, and how long it may take to find it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "State", "broken", "limited", "worse"]


class State(StrEnum):
    """How it is: as it should be, worth knowing, or in the way."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line about one thing, and one line about what to do where it is not well. Neither holds a secret."""

    name: str
    state: State
    finding: str
    remedy: str | None = None


def worse(one: State, other: State) -> State:
    """The graver of two."""
    order = list(State)
    return max(one, other, key=order.index)


def broken(name: str, error: BaseException) -> Finding:
    """What to say of a check that raised."""
    text = str(error) or "no text"
    return Finding(name, State.PROBLEM, f"{type(error).__name__}: {text}", "if that says nothing to you, report it")


def limited(name: str, check: Callable[[], Finding], seconds: float) -> Finding:
    """The finding of `check`, which runs in a thread of its own: a dead network file system may never answer.

    Blocks at most `seconds`. The thread that is left behind then does not keep the process from ending.
    """
    found: list[Finding] = []

    def run() -> None:
        try:
            found.append(check())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            found.append(broken(name, error))

    thread = threading.Thread(target=run, name=f"kithara-check-{name}", daemon=True)
    thread.start()
    thread.join(seconds)
    if found:
        return found[0]
    return Finding(
        name, State.PROBLEM, f"no answer within {seconds:g} s", "look for a file system or a device that hangs"
    )
