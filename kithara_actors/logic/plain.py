"""Values of a closed set of classes as plain data, and back: what a trace is made of. Sans-IO.

Plain are None, bool, int of 64 bits, float, str, bytes, and tuples that begin with a number: what they stand for, a
container (`CONTAINERS`) or one of the classes that a `Vocabulary` was given. Of a class nothing but its fields is
taken or set: no code of a value runs, neither on the way out nor on the way in.
"""

from __future__ import annotations

import enum
import functools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any

__all__ = ["CONTAINERS", "Encoder", "Hide", "Hiding", "Plain", "PlainError", "Vocabulary", "Word", "difference"]

Plain = Any
"""See the module."""

CONTAINERS = ("tuple", "list", "dict", "set", "frozenset", "deque", "OrderedDict", "int")
"""What the lowest numbers stand for. Keys and values of a mapping follow each other; the last holds an int of any
size."""
_TUPLE, _LIST, _DICT, _SET, _FROZENSET, _DEQUE, _ORDERED, _INT = range(len(CONTAINERS))
_FIRST = 16
"""The number of the first class."""
_DEEPEST = 60
"""More containers in one another than any machine has."""
_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_LARGE = 12
"""Attributes from which on it is worth while to remember the last value."""
_LONGEST_INT = 1024
"""Bytes."""


class PlainError(ValueError):
    """A value that has no plain form here, or plain data that stands for no value."""


class Hide(StrEnum):
    """What a field holds that is not to be seen."""

    URL = "url"
    VALUE = "value"
    """All of it."""
    HEADERS = "headers"
    """Pairs of a name, which may be seen, and a value."""


@dataclass(frozen=True, slots=True)
class Hiding:
    """What is put in place of a URL, of a value, and of any other text, in which a secret may be."""

    url: Callable[[str], str]
    value: Callable[[str], str]
    text: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Word:
    """A class: the attributes that are its state, or none for an enumeration; and what of them is hidden."""

    of: type
    names: tuple[str, ...]
    hide: Mapping[str, Hide]

    @property
    def name(self) -> str:
        """Tells classes of the same name in several modules apart."""
        return f"{self.of.__module__}.{self.of.__qualname__}"


class Vocabulary:
    """The classes that may be written, in the order of their names."""

    def __init__(
        self,
        classes: Iterable[type],
        hide: Mapping[type, Mapping[str, Hide]] | None = None,
        state: Mapping[type, tuple[str, ...]] | None = None,
    ) -> None:
        """`classes` are dataclasses, named tuples and enumerations; `state` names the attributes of others."""
        hide, state = hide or {}, state or {}
        words = [Word(each, state.get(each) or _names(each), hide.get(each, {})) for each in {*classes, *state}]
        self.words: dict[int, Word] = dict(enumerate(sorted(words, key=lambda word: word.name), _FIRST))
        self._restores: dict[int, Callable[[tuple[Any, ...], int], Any]] = {
            _TUPLE: lambda items, deep: tuple(self._all(items, deep)),
            _LIST: self._all,
            _DICT: lambda items, deep: dict(self._pairs(items, deep)),
            _SET: lambda items, deep: set(self._all(items, deep)),
            _FROZENSET: lambda items, deep: frozenset(self._all(items, deep)),
            _DEQUE: lambda items, deep: deque(self._all(items, deep)),
            _ORDERED: lambda items, deep: OrderedDict(self._pairs(items, deep)),
            _INT: _large,
            **{number: self._restorer(word) for number, word in self.words.items()},
        }

    @property
    def described(self) -> Plain:
        """The number, name and attributes of every class, for who does not know them."""
        return tuple((number, word.name, *word.names) for number, word in self.words.items())

    def restore(self, plain: Plain) -> Any:
        """What was encoded, but for what was hidden. PlainError for what nobody has encoded."""
        try:
            return self._restore(plain, 0)
        except PlainError:
            raise
        except (TypeError, ValueError, AttributeError, KeyError, RecursionError, OverflowError) as error:
            raise PlainError(f"stands for no value: {type(error).__name__}") from error

    def _restore(self, plain: Plain, deep: int) -> Any:
        if type(plain) in _SCALARS:
            return plain
        if type(plain) is not tuple:
            raise PlainError(f"{type(plain).__name__} is not plain")
        if deep > _DEEPEST:
            raise PlainError(f"more than {_DEEPEST} containers in one another")
        number = plain[0] if plain else None
        restore = self._restores.get(number) if type(number) is int else None
        if restore is None:
            raise PlainError("a class that is not known here")
        return restore(plain[1:], deep + 1)

    def _all(self, items: tuple[Any, ...], deep: int) -> list[Any]:
        return [self._restore(item, deep) for item in items]

    def _pairs(self, items: tuple[Any, ...], deep: int) -> Iterable[tuple[Any, Any]]:
        whole = self._all(items, deep)
        return zip(whole[::2], whole[1::2], strict=True)

    def _restorer(self, word: Word) -> Callable[[tuple[Any, ...], int], Any]:
        of, names = word.of, word.names
        if issubclass(of, enum.Enum):
            members = of.__members__
            return lambda items, _: members[_only(items)]

        def restore(items: tuple[Any, ...], deep: int) -> Any:
            if len(items) != len(names):
                raise PlainError(f"{word.name} has {len(names)} fields, not {len(items)}")
            values = self._all(items, deep)
            if issubclass(of, tuple):
                return tuple.__new__(of, values)
            # Neither checked nor made anew: it is as it was.
            made = object.__new__(of)
            for name, value in zip(names, values, strict=True):
                object.__setattr__(made, name, value)
            return made

        return restore


class Encoder:
    """Values to plain data. Without `hiding` they are as they are."""

    def __init__(self, vocabulary: Vocabulary, hiding: Hiding | None = None) -> None:
        as_it_is: Callable[[str], str] = str
        text = as_it_is if hiding is None else hiding.text
        self._hiding = hiding or Hiding(as_it_is, as_it_is, as_it_is)
        self._by_type: dict[type, Callable[[Any], Plain]] = {
            type(None): _same,
            bool: _same,
            float: _same,
            bytes: _same,
            int: lambda value: value if -(1 << 63) <= value < 1 << 64 else (_INT, _bytes_of(value)),
            str: text,
            tuple: lambda value: (_TUPLE, *map(self.encode, value)),
            list: lambda value: (_LIST, *map(self.encode, value)),
            dict: lambda value: (_DICT, *self._flat(value)),
            # Their order tells nothing, and would differ from one run to the next.
            set: lambda value: (_SET, *sorted(map(self.encode, value), key=repr)),
            frozenset: lambda value: (_FROZENSET, *sorted(map(self.encode, value), key=repr)),
            deque: lambda value: (_DEQUE, *map(self.encode, value)),
            OrderedDict: lambda value: (_ORDERED, *self._flat(value)),
            **{word.of: self._encoder(number, word) for number, word in vocabulary.words.items()},
        }

    def encode(self, value: Any) -> Plain:
        """The plain form. PlainError for a class that is not in the vocabulary."""
        try:
            encode = self._by_type[type(value)]
        except KeyError:
            raise PlainError(f"{type(value).__module__}.{type(value).__qualname__} is not in the vocabulary") from None
        return encode(value)

    def _flat(self, mapping: Mapping[Any, Any]) -> Iterable[Plain]:
        for key, value in mapping.items():
            yield self.encode(key)
            yield self.encode(value)

    def _encoder(self, number: int, word: Word) -> Callable[[Any], Plain]:
        if issubclass(word.of, enum.Enum):
            return {member: (number, member.name) for member in word.of}.__getitem__
        if not word.names:
            return lambda _: (number,)
        get = attrgetter(*word.names) if len(word.names) > 1 else _alone(attrgetter(word.names[0]))
        by_name: dict[Hide, Callable[[Any], Plain]] = {
            Hide.URL: functools.partial(_text, self._hiding.url),
            Hide.VALUE: functools.partial(_text, self._hiding.value),
            Hide.HEADERS: self._headers,
        }
        encoders = [by_name[word.hide[name]] if name in word.hide else self.encode for name in word.names]

        def whole(value: Any) -> Plain:
            return (number, *[encode(each) for encode, each in zip(encoders, get(value), strict=True)])

        frozen = is_dataclass(word.of) and getattr(word.of, "__dataclass_params__").frozen  # noqa: B009
        return _once_in_a_row(whole) if frozen and len(word.names) >= _LARGE else whole

    def _headers(self, value: Any) -> Plain:
        pairs = ((_TUPLE, str(name), _text(self._hiding.value, each)) for name, each in value)
        return (_TUPLE, *pairs)


def difference(one: Plain, other: Plain, names: Mapping[int, tuple[str, ...]] | None = None) -> str | None:
    """Where two plain values differ first, such as `[0].spec.start`: empty for the whole, None if nowhere.

    `names` are those of the attributes, by the number of their class.
    """
    if type(one) is not tuple or type(other) is not tuple:
        # A NaN is as it was; 1 is neither True nor 1.0.
        return None if type(one) is type(other) and (one == other or repr(one) == repr(other)) else ""
    if one[:1] != other[:1] or len(one) != len(other):
        return ""
    fields_of = (names or {}).get(one[0] if one and type(one[0]) is int else -1, ())
    for at, (left, right) in enumerate(zip(one[1:], other[1:], strict=True)):
        below = difference(left, right, names)
        if below is not None:
            return (f".{fields_of[at]}" if at < len(fields_of) else f"[{at}]") + below
    return None


def _once_in_a_row(encode: Callable[[Any], Plain]) -> Callable[[Any], Plain]:
    """For what never changes: an event and the decisions that follow speak of the same request."""
    last: tuple[Any, Plain] = (None, None)

    def again(value: Any) -> Plain:
        nonlocal last
        known, plain = last
        if known is not value:
            plain = encode(value)
            last = (value, plain)
        return plain

    return again


def _names(of: type) -> tuple[str, ...]:
    if issubclass(of, enum.Enum):
        return ()
    if is_dataclass(of):
        return tuple(field.name for field in fields(of))
    named: tuple[str, ...] | None = getattr(of, "_fields", None)
    if issubclass(of, tuple) and named is not None:
        return named
    raise PlainError(f"{of.__qualname__} is neither a dataclass, a named tuple nor an enumeration")


def _same(value: Any) -> Any:
    return value


def _alone(get: Callable[[Any], Any]) -> Callable[[Any], tuple[Any]]:
    return lambda value: (get(value),)


def _text(hide: Callable[[str], str], value: Any) -> Plain:
    if value is None:
        return None
    if type(value) is not str:
        raise PlainError(f"{type(value).__qualname__} where a text is hidden")
    return hide(value)


def _bytes_of(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _large(items: tuple[Any, ...], _: int) -> int:
    data = _only(items)
    if type(data) is not bytes or len(data) > _LONGEST_INT:
        raise PlainError("no whole number")
    return int.from_bytes(data, "big", signed=True)


def _only(items: tuple[Any, ...]) -> Any:
    (item,) = items
    return item
