"""Events as lines of JSON, for files and other programs.

One envelope is one object: `v` (of this format), `seq`, `timestamp`, `asset` and `stream` (its scope), `event` (the
name of the class), and the fields of the event beside these. Enumerations are their names, records are objects, tuples
are arrays. Of URLs there is what the events have: no userinfo, no values of queries.

Import the functions from `kithara_actors.events`.
"""

from __future__ import annotations

import functools
import json
import math
import types
import typing
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, NoReturn

from actors.errors import CodecError
from kithara_actors.messages.events import EVENTS, Envelope, Event, Scope

__all__ = ["RESERVED", "VERSION", "event_fields", "from_json", "to_json"]

VERSION = 1
"""Raised when the meaning of what is there changes; not for a new event."""
RESERVED = ("v", "seq", "timestamp", "asset", "stream", "event")
"""Names that no field of an event may have."""

_CLASSES: dict[str, type[Event]] = {cls.__name__: cls for cls in EVENTS}


def to_json(envelope: Envelope) -> str:
    """One line, without its end."""
    scope = envelope.scope
    return json.dumps(
        {
            "v": VERSION,
            "seq": envelope.seq,
            "timestamp": envelope.timestamp,
            "asset": scope.asset,
            "stream": scope.stream,
            "event": type(envelope.event).__name__,
            **event_fields(envelope.event),
        },
        allow_nan=False,
        separators=(",", ":"),
    )


def event_fields(event: Event) -> dict[str, object]:
    """The fields of an event as JSON has them."""
    return _plain(event)


def from_json(text: str | bytes) -> Envelope:
    """The envelope in a line that `to_json` has made.

    Raises CodecError for what is none, naming the event and the field; also for an event, a field or a format that a
    newer version may have, and this one does not know.
    """
    try:
        given = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not JSON: {error}"[:200]) from None
    if not isinstance(given, dict) or "v" not in given or "event" not in given:
        raise CodecError("not an event: it is no object with 'v' and 'event'")
    version, name = given["v"], given["event"]
    if type(version) is not int or version != VERSION:
        raise CodecError(f"an event in format {_shown(version)}: this version reads format {VERSION}")
    cls = _CLASSES.get(name) if isinstance(name, str) else None
    if cls is None:
        raise CodecError(f"unknown event {_shown(name)}: it may be of a newer version")
    own = {key: value for key, value in given.items() if key not in RESERVED}
    event = _record(cls, own, name)
    try:
        seq, timestamp = _INT(given["seq"], "seq"), _FLOAT(given["timestamp"], "timestamp")
        asset, stream = given["asset"], given["stream"]
    except KeyError as error:
        raise CodecError(f"{name} lacks {error}") from None
    scope = Scope(*(None if part is None else _INT(part, "scope") for part in (asset, stream)))
    return Envelope(event, scope, seq, timestamp)


def _plain(value: Any) -> dict[str, object]:
    return {field.name: _value(getattr(value, field.name)) for field in fields(value)}


def _value(value: object) -> object:
    if isinstance(value, Enum):
        return value.name
    if is_dataclass(value):
        return _plain(value)
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such numbers, and a log is not to end at one
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _shown(value: object) -> str:
    return f"{value!r:.40}"


# --- From JSON, by the types of the fields

_Load = Callable[[object, str], Any]


def _record(cls: type, given: object, where: str) -> Any:
    if not isinstance(given, dict):
        raise CodecError(f"{where} is {_shown(given)}, not an object")
    loads = _loads_of(cls)
    unknown = [str(key) for key in given if key not in loads]
    if unknown:
        raise CodecError(f"{where} has the unknown field {_shown(unknown[0])}: it may be of a newer version")
    lacking = [name for name in loads if name not in given]
    if lacking:
        raise CodecError(f"{where} lacks {lacking[0]!r}")
    try:
        return cls(**{name: load(given[name], f"{where}.{name}") for name, load in loads.items()})
    except (TypeError, ValueError) as error:
        if isinstance(error, CodecError):
            raise
        raise CodecError(f"{where}: {error}") from None


@functools.cache
def _loads_of(cls: type) -> dict[str, _Load]:
    hints = typing.get_type_hints(cls)
    return {field.name: _load_of(hints[field.name]) for field in fields(cls)}


def _load_of(hint: Any) -> _Load:
    while hasattr(hint, "__supertype__"):  # a NewType
        hint = hint.__supertype__
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (some,) = (_load_of(arg) for arg in args if arg is not types.NoneType)
        return lambda given, where: None if given is None else some(given, where)
    if origin is tuple:
        return _row(_load_of(args[0]))
    if hint is float:
        return _FLOAT
    if hint in (int, str, bool):
        return _scalar(hint)
    if issubclass(hint, Enum):
        return _named(hint)
    return functools.partial(_record, hint)


def _scalar(kind: type) -> _Load:
    def load(given: object, where: str) -> object:
        if type(given) is not kind:
            raise CodecError(f"{where} is {_shown(given)}, not {kind.__name__}")
        return given

    return load


def _float(given: object, where: str) -> float:
    if type(given) not in (int, float):
        raise CodecError(f"{where} is {_shown(given)}, not a number")
    try:
        return float(given)  # type: ignore[arg-type]
    except OverflowError:
        raise CodecError(f"{where} is too large") from None


def _row(item: _Load) -> _Load:
    def load(given: object, where: str) -> tuple[object, ...]:
        if not isinstance(given, list):
            raise CodecError(f"{where} is {_shown(given)}, not an array")
        return tuple(item(each, f"{where}[{at}]") for at, each in enumerate(given))

    return load


def _named(kind: type[Enum]) -> _Load:
    def load(given: object, where: str) -> Enum:
        if not isinstance(given, str) or given not in kind.__members__:
            raise CodecError(f"{where} is {_shown(given)}, which is not a {kind.__name__}")
        return kind[given]

    return load


_INT, _FLOAT = _scalar(int), _float
