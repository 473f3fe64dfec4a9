"""The pure machines whose decisions are put on record, and all that they speak of. Sans-IO.

A machine is a class with a state and one door, `handle`; or a function, which has none.
"""

from __future__ import annotations

import enum
import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

from actors.logic import supervision
from kithara_actors.errors import Failure
from kithara_actors.logic import demand, fetch, retry, slots
from kithara_actors.logic.naming import redact, redact_text
from kithara_actors.logic.plain import Hide, Hiding, Vocabulary
from kithara_actors.messages.records import Collection, FetchSpec, InHand, Place, Standing
from kithara_actors.values import CancelReason, FetchKind, Priority, Validator

__all__ = ["MACHINES", "VOCABULARY", "Machine", "hiding"]

_VALUES = (CancelReason, Collection, Failure, FetchKind, FetchSpec, InHand, Place, Priority, Standing, Validator)

_HIDDEN = {
    FetchSpec: {"url": Hide.URL, "headers": Hide.HEADERS},
    Place: {"url": Hide.URL},
    Validator: {"etag": Hide.VALUE, "last_modified": Hide.VALUE, "date": Hide.VALUE},
}
"""In every other text the secrets of URLs and what follows Bearer or Basic are hidden, wherever it is."""

_HASHED = 8
"""Bytes of the hash that stands for what is hidden."""
_HARMLESS = re.compile(r"(?!.*(?:bearer|basic))[^?]*", re.IGNORECASE | re.DOTALL)
_REMEMBERED = 2048


@dataclass(frozen=True, slots=True)
class Machine:
    """How one is spoken to. `inputs` names what `handle` is given, the event first.

    `ports` are the attributes by which it asks others: callables whose answers are as much an input as the event.
    A `function` is called instead, and keeps nothing.
    """

    inputs: tuple[str, ...]
    ports: tuple[str, ...] = ()
    function: Callable[..., Any] | None = None


MACHINES = {
    "FetchBook": Machine(("event", "draw"), ports=("_attempts", "_suspicions")),
    "SlotMap": Machine(("event", "now")),
    "Supervision": Machine(("event", "now", "draw")),
    "plan": Machine(("situation",), function=demand.plan),
}
"""By the name of the class or function."""


_EXAMPLES = (fetch.FetchBook(retry.RetryPolicy()), slots.SlotMap(1, 1), supervision.Supervision())


def _modules() -> list[ModuleType]:
    """Those that the machines are made of."""
    found: list[ModuleType] = [demand, *(sys.modules[type(made).__module__] for made in _EXAMPLES)]
    for module in found:
        for each in vars(module).values():
            name = each.__name__ if isinstance(each, ModuleType) else getattr(each, "__module__", None)
            if isinstance(name, str) and ".logic." in name and sys.modules.get(name, module) not in found:
                found.append(sys.modules[name])
    return found


def _classes_of(module: ModuleType) -> Iterator[type]:
    for each in vars(module).values():
        if isinstance(each, type) and each.__module__ == module.__name__:
            named_tuple = issubclass(each, tuple) and hasattr(each, "_fields")
            if is_dataclass(each) or issubclass(each, enum.Enum) or named_tuple:
                yield each


def _state_of(made: object, found: dict[type, tuple[str, ...]]) -> None:
    """Enter the attributes of all classes in it that are neither dataclasses, named tuples nor enumerations."""
    if isinstance(made, dict):
        for each in made.values():
            _state_of(each, found)
    elif is_dataclass(made):
        for field in fields(made):
            _state_of(getattr(made, field.name), found)
    elif ".logic." in type(made).__module__ and not isinstance(made, enum.Enum | tuple):
        described = MACHINES.get(type(made).__name__)
        ports = () if described is None else described.ports
        found[type(made)] = tuple(name for name in vars(made) if name not in ports)
        for name in found[type(made)]:
            _state_of(getattr(made, name), found)


def _vocabulary() -> Vocabulary:
    state: dict[type, tuple[str, ...]] = {}
    for made in _EXAMPLES:
        _state_of(made, state)
    return Vocabulary((*_VALUES, *(each for module in _modules() for each in _classes_of(module))), _HIDDEN, state)


VOCABULARY = _vocabulary()


def hiding(key: bytes) -> Hiding:
    """What is hidden becomes `~` and 16 hex digits: BLAKE2b (RFC 7693), keyed with `key` of up to 64 bytes.

    The same value has the same digits wherever it is, so that what was equal stays equal.
    """

    def mark(value: str) -> str:
        data = value.encode("utf-8", "surrogatepass")
        return "~" + hashlib.blake2b(data, key=key, digest_size=_HASHED).hexdigest()

    def text(value: str) -> str:
        if "://" not in value and _HARMLESS.fullmatch(value):
            return value
        marks: set[str] = set()

        def once(part: str) -> str:
            # The parts of a URL are met again as those of a query: they are hidden already.
            if part not in marks:
                part = mark(part)
                marks.add(part)
            return part

        return redact_text(value, once)

    remember = lru_cache(_REMEMBERED)
    return Hiding(remember(lambda value: redact(value, mark)), remember(mark), remember(text))
