"""Commands to msgpack arrays `[tag, version, field…]` and back, every field checked on the way in.

msgpack's format: https://github.com/msgpack/msgpack/blob/master/spec.md. A codec knows a closed set of commands;
anything else is a `CodecError`. Encoding and decoding never block and are safe from any thread.
"""

from __future__ import annotations

import enum
import operator
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import msgpack

from actors.errors import CodecError
from actors.messages.command import Command

__all__ = ["Codec", "tag_of"]

_SCALARS: tuple[type, ...] = (bool, int, float, str, bytes)
_FILE_NAMES = "surrogateescape"
"""How names of files that are not UTF-8 are carried in a str (PEP 383)."""
_TAGS = range(256)
"""What `tag_of` can read."""


class Codec:
    """Encodes and decodes the given commands.

    Raises `CodecError` when a class is not a frozen dataclass or shares its tag with another; its fields are looked
    at when it is first encoded or decoded, so that a process pays only for the commands it meets.
    """

    def __init__(self, commands: Iterable[type[Command]]) -> None:
        self._by_tag: dict[int, type[Command]] = {}
        self._layouts: dict[type[Command], _Layout] = {}
        for cls in commands:
            _check_class(cls)
            if cls.TAG not in _TAGS:
                raise CodecError(f"{cls.__name__}: tag {cls.TAG} is not within 0 to 255")
            if cls.TAG in self._by_tag:
                other = self._by_tag[cls.TAG].__name__
                raise CodecError(f"{cls.__name__} and {other} share tag {cls.TAG}; give one of them another")
            self._by_tag[cls.TAG] = cls

    @property
    def commands(self) -> tuple[type[Command], ...]:
        """The commands known, in the order given."""
        return tuple(self._by_tag.values())

    def encode(self, command: Command) -> bytes:
        """The bytes of `command`. Raises `CodecError` for a command unknown here or a value msgpack cannot hold."""
        cls = type(command)
        layout = self._layouts.get(cls) or self._layout(cls)
        try:
            packed: bytes = msgpack.packb((cls.TAG, cls.VERSION, *layout.dump(command)), unicode_errors=_FILE_NAMES)
        except (TypeError, ValueError, OverflowError, AttributeError) as error:
            raise CodecError(f"{cls.__name__} cannot be encoded: {error}") from error
        return packed

    def decode(self, data: bytes | memoryview) -> Command:
        """The command in `data`. Raises `CodecError` naming the command and field that do not fit."""
        try:
            array = msgpack.unpackb(data, use_list=False, unicode_errors=_FILE_NAMES)
        except (ValueError, TypeError, RecursionError) as error:
            raise CodecError(f"not msgpack: {error}") from error
        if type(array) is not tuple or len(array) < 2:
            raise CodecError("a command is an array of tag, version and fields")
        tag, version = array[0], array[1]
        cls = self._by_tag.get(tag) if type(tag) is int else None
        if cls is None:
            raise CodecError(f"unknown command tag {_shown(tag)}")
        if version != cls.VERSION or type(version) is not int:
            raise CodecError(f"{cls.__name__}: version {_shown(version)}, this side speaks {cls.VERSION}")
        layout = self._layouts.get(cls) or self._layout(cls)
        try:
            return cls(*layout.load(array[2:]))
        except _Misfit as misfit:
            raise CodecError(f"{'.'.join([cls.__name__, *misfit.path])}: {misfit.why}") from None
        except (ValueError, TypeError) as error:
            raise CodecError(f"{cls.__name__}: {error}") from error

    def _layout(self, cls: type[Command]) -> _Layout:
        if self._by_tag.get(getattr(cls, "TAG", -1)) is not cls:
            raise CodecError(f"{cls.__name__} is not a command of this codec")
        layout = self._layouts[cls] = _layout_of(cls)
        return layout


class _Misfit(Exception):
    """A value that does not fit; `path` names its field, from the outside in."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.path: list[str] = []


class _Wire(NamedTuple):
    """How one value travels: the exact types it may have as msgpack, and what turns it into that and back.

    None for `dump` or `load` means as it is; neither is ever called with None.
    """

    accepts: frozenset[type]
    dump: Callable[[Any], Any] | None = None
    load: Callable[[Any], Any] | None = None


class _Layout:
    """A fixed row of values: the fields of a command or record, or a tuple of fixed length.

    The types of a whole row are checked at once against rows that passed before, and one by one only when they are
    new; there are at most a few for each row, since a value is of one type, or None where that is allowed.
    """

    __slots__ = ("_dumps", "_get", "_loads", "_names", "_passed", "_wires")

    def __init__(self, names: Sequence[str], wires: Sequence[_Wire], get: Callable[[Any], tuple[Any, ...]]) -> None:
        self._names = names
        self._wires = wires
        self._get = get
        self._dumps = [(at, wire.dump) for at, wire in enumerate(wires) if wire.dump is not None]
        self._loads = [(at, wire.load) for at, wire in enumerate(wires) if wire.load is not None]
        self._passed: set[tuple[type, ...]] = set()

    def dump(self, row: Any) -> Sequence[Any]:
        values = self._get(row)
        if not self._dumps:
            return values
        changed = list(values)
        for at, dump in self._dumps:
            if changed[at] is not None:
                changed[at] = dump(changed[at])
        return changed

    def load(self, values: Any) -> Sequence[Any]:
        """The values as they were before `dump`. Raises _Misfit; `values` must be a tuple."""
        kinds = tuple(map(type, values))
        if kinds not in self._passed:
            values = self._checked(values, kinds)
        if not self._loads:
            return values  # type: ignore[no-any-return]
        changed = list(values)
        for at, load in self._loads:
            if changed[at] is not None:
                try:
                    changed[at] = load(changed[at])
                except _Misfit as misfit:
                    misfit.path.insert(0, self._names[at])
                    raise
        return changed

    def _checked(self, values: tuple[Any, ...], kinds: tuple[type, ...]) -> Sequence[Any]:
        if len(values) != len(self._wires):
            raise _Misfit(f"{len(values)} fields, expected {len(self._wires)}")
        widened = list(values)
        for at, (kind, wire) in enumerate(zip(kinds, self._wires, strict=True)):
            if kind in wire.accepts:
                continue
            # A bool is an int to isinstance; here it is a mistake. An int where a float is due is not.
            if kind is not int or float not in wire.accepts:
                misfit = _Misfit(f"{kind.__name__} in place of {_words(wire.accepts)}")
                misfit.path.append(self._names[at])
                raise misfit
            widened[at] = float(values[at])
        if widened == list(values) and kinds == tuple(map(type, widened)):
            self._passed.add(kinds)
        return widened


def _shown(value: object) -> str:
    """A value for an error, which goes into logs: a text may be a secret that came to a wrong place."""
    return f"{value!r:.40}" if isinstance(value, int | float) else f"a {type(value).__name__}"


def _words(accepts: frozenset[type]) -> str:
    names = ("array" if kind is tuple else "nil" if kind is types.NoneType else kind.__name__ for kind in accepts)
    return " or ".join(sorted(names))


def _check_class(cls: type) -> None:
    if not is_dataclass(cls) or not getattr(cls, "__dataclass_params__").frozen:  # noqa: B009
        raise CodecError(f"{cls.__name__} must be a frozen dataclass")


_layouts: dict[type, _Layout] = {}
"""Shared by all codecs; a class is looked at once."""


def _layout_of(cls: type) -> _Layout:
    known = _layouts.get(cls)
    if known is not None:
        return known
    _check_class(cls)
    hints = typing.get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    wires = [_wire(hints[name], f"{cls.__name__}.{name}") for name in names]
    layout = _layouts[cls] = _Layout(names, wires, _getter(names))
    return layout


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    match names:
        case []:
            return lambda _: ()
        case [name]:
            one = operator.attrgetter(name)
            return lambda row: (one(row),)
        case _:
            return operator.attrgetter(*names)


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
        return _tuple(args, where)
    elif isinstance(hint, type):
        if hint in _SCALARS:
            return _Wire(frozenset([hint]))
        if issubclass(hint, enum.Enum):
            return _enum(hint)
        if is_dataclass(hint):
            return _record(hint)
    raise CodecError(f"{where}: commands cannot carry {hint!r}")


def _tuple(args: tuple[Any, ...], where: str) -> _Wire:
    if len(args) != 2 or args[1] is not Ellipsis:
        wires = [_wire(arg, where) for arg in args]
        row = _Layout([str(at) for at in range(len(args))], wires, lambda row: row)
        dump = row.dump if any(wire.dump for wire in wires) else None
        return _Wire(frozenset([tuple]), dump, lambda values: tuple(row.load(values)))

    item = _wire(args[0], where)
    accepts, dump_one, load_one = item

    def dump_all(values: Any) -> Any:
        assert dump_one is not None
        return [None if value is None else dump_one(value) for value in values]

    def load_all(values: Any) -> Any:
        if accepts.issuperset(map(type, values)):
            if load_one is None:
                return values
            try:
                return tuple([None if value is None else load_one(value) for value in values])
            except _Misfit:
                pass  # once more below, which names the item
        row = _Layout([str(at) for at in range(len(values))], [item] * len(values), lambda row: row)
        return tuple(row.load(values))

    return _Wire(frozenset([tuple]), None if dump_one is None else dump_all, load_all)


def _enum(kind: type[enum.Enum]) -> _Wire:
    members = {member.value: member for member in kind}

    def load(value: Any) -> Any:
        try:
            return members[value]
        except KeyError:
            raise _Misfit(f"{_shown(value)} is not a {kind.__name__}") from None

    # msgpack packs a member of StrEnum or IntEnum as the str or int that it is.
    dump = None if issubclass(kind, str | int) else operator.attrgetter("value")
    return _Wire(frozenset(map(type, members)), dump, load)


def _record(kind: type) -> _Wire:
    row = _layout_of(kind)

    def load(values: Any) -> Any:
        loaded = row.load(values)
        try:
            return kind(*loaded)
        except (ValueError, TypeError) as error:
            raise _Misfit(str(error)) from error

    return _Wire(frozenset([tuple]), row.dump, load)


def tag_of(data: bytes) -> int | None:
    """The tag of an encoded command without decoding it; None if the bytes cannot be one."""
    if len(data) < 2:
        return None
    # 0x9n is an array of up to 15 elements, 0xdc one with a 16-bit count; tags below 128 are one byte.
    at = 1 if data[0] & 0xF0 == 0x90 else 3 if data[0] == 0xDC and len(data) > 3 else 0
    tag = data[at] if at else 0x80
    if tag < 0x80:
        return tag
    if at and tag == 0xCC and len(data) > at + 1:  # 8-bit unsigned
        return data[at + 1]
    return None
