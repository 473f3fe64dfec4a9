"""Plain data of a trace as text and as JSON, by the descriptions that the trace itself has of its classes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from kithara_actors.logic.plain import CONTAINERS, Plain

__all__ = ["Descriptions", "described", "indented", "json_of", "of_request", "text_of"]

Descriptions = Mapping[int, tuple[str, tuple[str, ...]]]
"""By the number of a class: its name, without that of its module, and its attributes."""

_BRACKETS = {
    "tuple": "()",
    "list": "[]",
    "dict": "{}",
    "set": "{}",
    "frozenset": "{}",
    "deque": "[]",
    "OrderedDict": "{}",
}
_MAPPINGS = ("dict", "OrderedDict")
_DEEPEST = 70
_LONG = 6
"""Attributes from which on a record of a request is not repeated."""
_REQUESTS = ("request", "requests", "cut", "raised")
"""Attributes that name requests."""


def described(words: Plain) -> Descriptions:
    """What a description says. ValueError for one that does not fit."""
    found: dict[int, tuple[str, tuple[str, ...]]] = {}
    for word in words:
        if not (isinstance(word, tuple) and len(word) > 1 and type(word[0]) is int):
            raise ValueError("a description of classes that does not fit")
        if not all(isinstance(name, str) for name in word[1:]):
            raise ValueError("a description of classes that does not fit")
        found[word[0]] = (word[1].rpartition(".")[2], word[2:])
    return found


def text_of(value: Plain, words: Descriptions, seen: dict[Plain, Plain] | None = None, deep: int = 0) -> str:
    """As Python would show it, without attributes that are None. Of what a request is about only the changes are shown
    after the first time: `seen` has the last.

    Nothing in it does anything to a terminal.
    """
    if type(value) is not tuple:
        return repr(value)
    name, items = _container(value)
    if deep > _DEEPEST:
        return "…"
    below = deep + 1
    if name == "int":
        return str(_whole(value))
    if name in _MAPPINGS:
        pairs = zip(items[::2], items[1::2], strict=False)
        shown = (f"{text_of(key, words, seen, below)}: {text_of(each, words, seen, below)}" for key, each in pairs)
        return "{" + ", ".join(shown) + "}"
    if name is not None:
        brackets = _BRACKETS[name]
        alone = "," if name == "tuple" and len(items) == 1 else ""
        return brackets[0] + ", ".join(text_of(item, words, seen, below) for item in items) + alone + brackets[1]
    name, names = _class(value, words)
    if not names:
        return f"{name}.{_word(items[0])}" if len(items) == 1 and isinstance(items[0], str) else f"{name}()"
    attributes = list(enumerate(zip(names, items, strict=False)))
    more = ""
    if seen is not None and names[0] == "request" and len(names) >= _LONG:
        before = seen.get((value[0], items[:1]))
        seen[value[0], items[:1]] = items
        if before is not None and len(before) == len(items):
            attributes, more = [each for each in attributes if not each[0] or each[1][1] != before[each[0]]], ", …"
    shown = (f"{each}={text_of(item, words, seen, below)}" for _, (each, item) in attributes if item is not None)
    return f"{name}({', '.join(shown)}{more})"


def indented(value: Plain, words: Descriptions, margin: str = "  ", deep: int = 0) -> Iterator[str]:
    """A state in lines: each attribute and each item of what holds several on one of its own."""
    name, items = _container(value) if type(value) is tuple else (None, ())
    named = type(value) is tuple and name is None and bool(_class(value, words)[1])
    whole = text_of(value, words)
    if deep > _DEEPEST or len(margin) + len(whole) <= 100 or not (items and (named or name in _BRACKETS)):
        yield margin + whole
        return
    inner = margin + "  "
    if named:
        title, names = _class(value, words)
        yield f"{margin}{title}"
        labelled = [(f"{each}=", item) for each, item in zip(names, items, strict=False)]
    elif name in _MAPPINGS:
        yield f"{margin}{name} of {len(items) // 2}"
        labelled = [(f"{text_of(key, words)}: ", item) for key, item in zip(items[::2], items[1::2], strict=False)]
    else:
        yield f"{margin}{name} of {len(items)}"
        labelled = [("", item) for item in items]
    for label, item in labelled:
        first, *rest = indented(item, words, inner, deep + 1)
        yield f"{inner}{label}{first[len(inner) :]}"
        yield from rest


def json_of(value: Plain, words: Descriptions, deep: int = 0) -> object:
    """As JSON: a record is an object with its class in `type`, a member of an enumeration its name."""
    if type(value) is not tuple:
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        return value if value is None or isinstance(value, bool | int | float | str) else repr(value)
    if deep > _DEEPEST:
        return None
    name, items = _container(value)
    if name == "int":
        return _whole(value)
    below = [json_of(item, words, deep + 1) for item in items]
    if name in _MAPPINGS:
        pairs = list(zip(below[::2], below[1::2], strict=False))
        return dict(pairs) if all(isinstance(key, str) for key, _ in pairs) else [list(pair) for pair in pairs]
    if name is not None:
        return below
    name, names = _class(value, words)
    if not names:
        return items[0] if len(items) == 1 and isinstance(items[0], str) else name
    return {"type": name, **dict(zip(names, below, strict=False))}


def of_request(value: Plain, words: Descriptions, request: int, deep: int = 0) -> bool:
    """Whether the request is named anywhere in it."""
    if type(value) is not tuple or deep > _DEEPEST:
        return False
    name, items = _container(value)
    names = () if name is not None else _class(value, words)[1]
    for at, item in enumerate(items):
        if at < len(names) and names[at] in _REQUESTS and _holds(item, request):
            return True
        if of_request(item, words, request, deep + 1):
            return True
    return False


def _holds(value: Plain, request: int) -> bool:
    """Whether it is the number of the request, or holds it, alone or first in a pair."""
    if type(value) is not tuple:
        return type(value) is int and value == request
    items = value[1:]
    return request in items or any(type(item) is tuple and item[1:2] == (request,) for item in items)


def _container(value: tuple[Any, ...]) -> tuple[str | None, tuple[Any, ...]]:
    """The name of a container, None for a class; and what is in it."""
    number = value[0] if value and type(value[0]) is int else -1
    return CONTAINERS[number] if 0 <= number < len(CONTAINERS) else None, value[1:]


def _class(value: tuple[Any, ...], words: Descriptions) -> tuple[str, tuple[str, ...]]:
    number = value[0] if value and type(value[0]) is int else -1
    name, names = words.get(number, (f"class {number}", ()))
    return _word(name), tuple(map(_word, names))


def _word(text: str) -> str:
    """A name as the file has it; one that is none, for files come from anybody, as a text."""
    return text if text.isidentifier() else repr(text)


def _whole(value: tuple[Any, ...]) -> int:
    data = value[1] if len(value) == 2 and isinstance(value[1], bytes) else b""
    return int.from_bytes(data[:1024], "big", signed=True)
