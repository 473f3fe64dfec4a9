"""How the values of a command travel: what types each may have on the way, and what turns it into that and back.

A row, which is the fields of a command or record, is dumped and loaded by code that is written for it when it is first
needed, as `dataclasses` writes an `__init__`: a loop over the fields would cost several times as much, and most of what
a small request costs is commands.
"""

from __future__ import annotations

import enum
import operator
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from actors.errors import CodecError

__all__ = ["Misfit", "Row", "check_class", "row_of", "shown"]

_SCALARS: tuple[type, ...] = (bool, int, float, str, bytes)


class Misfit(Exception):
    """A value that does not fit; `path` names its field, from the outside in."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.path: list[str] = []


class _Wire(NamedTuple):
    """How one value travels: the exact types it may have as msgpack, and what turns it into that and back.

    None for `dump` or `load` means as it is; neither is ever called with None, unless None is not accepted. `load`
    raises Misfit. `row` is set where the value is a row.
    """

    accepts: frozenset[type]
    dump: Callable[[Any], Any] | None = None
    load: Callable[[Any], Any] | None = None
    row: Row | None = None

    def take(self, value: Any) -> Any:
        """The value as it was before `dump`. Raises Misfit."""
        kind = type(value)
        if kind not in self.accepts:
            # A bool is an int to isinstance; here it is a mistake. An int where a float is due is not.
            if kind is not int or float not in self.accepts:
                raise Misfit(f"{kind.__name__} in place of {_words(self.accepts)}")
            value = float(value)
        return value if self.load is None or value is None else self.load(value)


class Row:
    """A fixed row of values: what `make` is called with, or (None) a tuple of fixed length."""

    def __init__(self, names: Sequence[str], wires: Sequence[_Wire], make: Callable[..., Any] | None = None) -> None:
        self.names = names
        self.wires = wires
        self.make = make
        self.plain = make is None and not any(wire.dump or wire.load for wire in wires)
        """Whether it travels as it is."""
        self.dump = _written(_dumping(self), self)
        """The values as they travel."""
        self.load = _written(_loading(self), self, make=make, careful=self._careful)
        """What was dumped, from a tuple. Raises Misfit."""

    def _careful(self, values: tuple[Any, ...]) -> Any:
        """As `load`, for what did not pass there: names what is wrong, or takes an int where a float is due."""
        if len(values) != len(self.wires):
            raise Misfit(f"{len(values)} fields, expected {len(self.wires)}")
        taken = _taken(self.names, self.wires, values)
        if self.make is None:
            return tuple(taken)
        try:
            return self.make(*taken)
        except (ValueError, TypeError) as error:
            raise Misfit(str(error)) from error


def shown(value: object) -> str:
    """A value for an error, which goes into logs: a text may be a secret that came to a wrong place."""
    return f"{value!r:.40}" if isinstance(value, int | float) else f"a {type(value).__name__}"


def check_class(cls: type) -> None:
    """Raise CodecError unless `cls` is a frozen dataclass."""
    if not is_dataclass(cls) or not getattr(cls, "__dataclass_params__").frozen:  # noqa: B009
        raise CodecError(f"{cls.__name__} must be a frozen dataclass")


_rows: dict[type, Row] = {}
"""Shared by all codecs; a class is looked at once."""


def row_of(cls: type) -> Row:
    """The row of the fields of `cls`. Raises CodecError for a class or a field that cannot be carried."""
    known = _rows.get(cls)
    if known is not None:
        return known
    check_class(cls)
    hints = typing.get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    wires = [_wire(hints[name], f"{cls.__name__}.{name}") for name in names]
    row = _rows[cls] = Row(names, wires, cls)
    return row


# --- Of each type


def _wire(hint: Any, where: str) -> _Wire:
    while hasattr(hint, "__supertype__"):  # a NewType
        hint = hint.__supertype__
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        rest = [arg for arg in args if arg is not types.NoneType]
        if len(rest) == 1 and len(args) == 2:
            wire = _wire(rest[0], where)
            return wire._replace(accepts=wire.accepts | {types.NoneType})
    elif origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return _array(_wire(args[0], where))
        return _carried(Row([str(at) for at in range(len(args))], [_wire(arg, where) for arg in args]))
    elif isinstance(hint, type):
        if hint in _SCALARS:
            return _Wire(frozenset([hint]))
        if issubclass(hint, enum.Enum):
            return _enum(hint)
        if is_dataclass(hint):
            return _carried(row_of(hint))
    raise CodecError(f"{where}: commands cannot carry {hint!r}")


def _carried(row: Row) -> _Wire:
    return _Wire(frozenset([tuple]), None if row.plain else row.dump, row.load, row)


def _array(item: _Wire) -> _Wire:
    """Of any length."""
    accepts, dump_one, load_one, row = item

    def dump(values: Any) -> Any:
        assert dump_one is not None
        return [None if value is None else dump_one(value) for value in values]

    def careful(values: Any) -> Any:
        return tuple(_taken([str(at) for at in range(len(values))], [item] * len(values), values))

    def as_they_are(values: Any) -> Any:
        return values if accepts.issuperset(map(type, values)) else careful(values)

    def load(values: Any) -> Any:
        assert load_one is not None
        if accepts.issuperset(map(type, values)):
            try:
                return tuple([None if value is None else load_one(value) for value in values])
            except Misfit:
                pass  # once more below, which names the item
        return careful(values)

    if row is not None and row.plain:
        each = _written(_loading_each(row), row, careful=careful)
    else:
        each = as_they_are if load_one is None else load
    return _Wire(frozenset([tuple]), None if dump_one is None else dump, each)


def _taken(names: Sequence[str], wires: Sequence[_Wire], values: Sequence[Any]) -> list[Any]:
    taken = []
    for name, wire, value in zip(names, wires, values, strict=True):
        try:
            taken.append(wire.take(value))
        except Misfit as misfit:
            misfit.path.insert(0, name)
            raise
    return taken


class _Members(dict[Any, Any]):
    """Of an enumeration, by value."""

    def __init__(self, kind: type[enum.Enum]) -> None:
        super().__init__((member.value, member) for member in kind)
        self._kind = kind

    def __missing__(self, value: object) -> Any:
        raise Misfit(f"{shown(value)} is not a {self._kind.__name__}")


def _enum(kind: type[enum.Enum]) -> _Wire:
    members = _Members(kind)
    # msgpack packs a member of StrEnum or IntEnum as the str or int that it is.
    dump = None if issubclass(kind, str | int) else operator.attrgetter("value")
    return _Wire(frozenset(map(type, members)), dump, members.__getitem__)


def _words(accepts: frozenset[type]) -> str:
    names = ("array" if kind is tuple else "nil" if kind is types.NoneType else kind.__name__ for kind in accepts)
    return " or ".join(sorted(names))


# --- The code for one row: `v0`, `v1`, … are its values


def _written(source: str, row: Row, **scope: Any) -> Callable[[Any], Any]:
    """The function `run` of the source; besides what is known of the row, it may use what is in `scope`."""
    scope["Misfit"] = Misfit
    for at, wire in enumerate(row.wires):
        scope |= {f"accepts{at}": wire.accepts, f"dump{at}": wire.dump, f"load{at}": wire.load}
        scope |= {f"type{at}": kind for kind in wire.accepts if kind is not types.NoneType}
    exec(source, scope)  # noqa: S102 - of others it holds the names of fields only
    return scope["run"]  # type: ignore[no-any-return]


def _dumping(row: Row) -> str:
    places = _places(row) if row.make is None else [f"row.{name}" for name in row.names]
    dumped = [
        place if wire.dump is None else _unless_none(wire, place, f"dump{at}({place})")
        for at, (wire, place) in enumerate(zip(row.wires, places, strict=True))
    ]
    lines = ["def run(row):"]
    if row.make is None:
        lines.append(f"    {_listed(places)} = row")
    return "\n".join([*lines, f"    return {_listed(dumped)}"])


def _loading(row: Row) -> str:
    places = _places(row)
    loaded = [
        place if wire.load is None else _unless_none(wire, place, f"load{at}({place})")
        for at, (wire, place) in enumerate(zip(row.wires, places, strict=True))
    ]
    return f"""
def run(values):
    if len(values) == {len(places)}:
        {_listed(places)} = values
        if {_test(row)}:
            try:
                return {_listed(loaded) if row.make is None else f"make({', '.join(loaded)})"}
            except (Misfit, ValueError, TypeError):
                pass
    return careful(values)
"""


def _loading_each(row: Row) -> str:
    """Of many rows that travel as they are."""
    places = _places(row)
    return f"""
def run(rows):
    for values in rows:
        if type(values) is tuple and len(values) == {len(places)}:
            {_listed(places)} = values
            if {_test(row)}:
                continue
        return careful(rows)
    return rows
"""


def _test(row: Row) -> str:
    """Whether the values have types that are accepted."""
    tests = []
    for at, wire in enumerate(row.wires):
        kinds = wire.accepts - {types.NoneType}
        test = f"type(v{at}) is type{at}" if len(kinds) == 1 else f"type(v{at}) in accepts{at}"
        tests.append(f"(v{at} is None or {test})" if types.NoneType in wire.accepts else test)
    return " and ".join(tests) or "True"


def _unless_none(wire: _Wire, place: str, otherwise: str) -> str:
    return f"None if {place} is None else {otherwise}" if types.NoneType in wire.accepts else otherwise


def _places(row: Row) -> list[str]:
    return [f"v{at}" for at in range(len(row.wires))]


def _listed(parts: Sequence[str]) -> str:
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
