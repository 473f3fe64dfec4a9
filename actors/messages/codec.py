"""Commands to msgpack arrays `[tag, version, field…]` and back, every field checked on the way in.

msgpack's format: https://github.com/msgpack/msgpack/blob/master/spec.md. A codec knows a closed set of commands;
anything else is a `CodecError`. Encoding and decoding never block and are safe from any thread.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any

import msgpack

from actors.errors import CodecError
from actors.messages.command import Command

__all__ = ["Codec", "tag_of"]

Pack = Callable[[Any], Any]
Unpack = Callable[[Any, str], Any]
_SCALARS: tuple[type, ...] = (bool, int, float, str, bytes)


class Codec:
    """Encodes and decodes the given commands.

    Raises `CodecError` when a class is not a frozen dataclass, has a field of a type that commands cannot carry,
    or shares its tag with another.
    """

    def __init__(self, commands: Iterable[type[Command]]) -> None:
        self._by_tag: dict[int, _Shape] = {}
        self._by_type: dict[type[Command], _Shape] = {}
        for cls in commands:
            if cls.TAG in self._by_tag:
                other = self._by_tag[cls.TAG].cls.__name__
                raise CodecError(f"{cls.__name__} and {other} share tag {cls.TAG}; give one of them another")
            shape = _Shape(cls)
            self._by_tag[cls.TAG] = shape
            self._by_type[cls] = shape

    @property
    def commands(self) -> tuple[type[Command], ...]:
        """The commands known, in the order given."""
        return tuple(self._by_type)

    def encode(self, command: Command) -> bytes:
        """The bytes of `command`. Raises `CodecError` for a command unknown here or a value msgpack cannot hold."""
        shape = self._by_type.get(type(command))
        if shape is None:
            raise CodecError(f"{type(command).__name__} is not a command of this codec")
        try:
            packed: bytes = msgpack.packb(shape.flatten(command))
        except (TypeError, ValueError, OverflowError, AttributeError) as error:
            raise CodecError(f"{type(command).__name__} cannot be encoded: {error}") from error
        return packed

    def decode(self, data: bytes | memoryview) -> Command:
        """The command in `data`. Raises `CodecError` naming the command and field that do not fit."""
        try:
            array = msgpack.unpackb(data, use_list=False, strict_map_key=True)
        except (ValueError, TypeError, RecursionError) as error:
            raise CodecError(f"not msgpack: {error}") from error
        if type(array) is not tuple or len(array) < 2:
            raise CodecError("a command is an array of tag, version and fields")
        tag, version = array[0], array[1]
        shape = self._by_tag.get(tag) if type(tag) is int else None
        if shape is None:
            raise CodecError(f"unknown command tag {tag!r:.40}")
        return shape.build(version, array)


class _Shape:
    """One command's fields, with a converter each way where the plain value will not do."""

    __slots__ = ("_names", "_packs", "_plain", "_unpacks", "cls")

    def __init__(self, cls: type[Command]) -> None:
        self.cls = cls
        self._names, self._packs, self._unpacks = _converters(cls)
        self._plain = all(pack is None for pack in self._packs)

    def flatten(self, command: Command) -> list[Any]:
        flat: list[Any] = [self.cls.TAG, self.cls.VERSION]
        if self._plain:
            flat.extend([getattr(command, name) for name in self._names])
            return flat
        for name, pack in zip(self._names, self._packs, strict=True):
            value = getattr(command, name)
            flat.append(value if pack is None else pack(value))
        return flat

    def build(self, version: object, array: tuple[Any, ...]) -> Command:
        name = self.cls.__name__
        if version != self.cls.VERSION:
            raise CodecError(f"{name}: version {version!r:.20}, this side speaks {self.cls.VERSION}")
        if len(array) - 2 != len(self._names):
            raise CodecError(f"{name}: {len(array) - 2} fields, expected {len(self._names)}")
        values = [
            unpack(value, field) for unpack, value, field in zip(self._unpacks, array[2:], self._names, strict=True)
        ]
        try:
            return self.cls(*values)
        except (ValueError, TypeError) as error:
            raise CodecError(f"{name}: {error}") from error


def _converters(cls: type) -> tuple[list[str], list[Pack | None], list[Unpack]]:
    if not is_dataclass(cls) or not getattr(cls, "__dataclass_params__").frozen:  # noqa: B009
        raise CodecError(f"{cls.__name__} must be a frozen dataclass")
    hints = typing.get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    pairs = [_converter(hints[name], f"{cls.__name__}.{name}") for name in names]
    return names, [pack for pack, _ in pairs], [unpack for _, unpack in pairs]


def _converter(hint: Any, where: str) -> tuple[Pack | None, Unpack]:
    """How a value of type `hint` crosses: None as the first part means as it is."""
    while hasattr(hint, "__supertype__"):  # a NewType
        hint = hint.__supertype__
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _optional(hint, args, where)
    if origin is tuple:
        return _tuple(args, where)
    if isinstance(hint, type):
        if hint in _SCALARS:
            return None, _scalar(hint, where)
        if issubclass(hint, enum.Enum):
            return _enum(hint, where)
        if is_dataclass(hint):
            return _record(hint, where)
    raise CodecError(f"{where}: commands cannot carry {hint!r}")


def _scalar(kind: type, where: str) -> Unpack:
    def check(value: Any, field: str) -> Any:  # noqa: ARG001
        # A bool is an int to isinstance; here it is a mistake. An int where a float is due is not.
        if type(value) is kind:
            return value
        if kind is float and type(value) is int:
            return float(value)
        raise CodecError(f"{where}: {type(value).__name__} in place of {kind.__name__}")

    return check


def _optional(hint: Any, args: tuple[Any, ...], where: str) -> tuple[Pack | None, Unpack]:
    rest = [arg for arg in args if arg is not type(None)]
    if len(rest) != 1 or len(args) != 2:
        raise CodecError(f"{where}: commands cannot carry {hint!r}")
    pack, unpack = _converter(rest[0], where)

    def maybe_unpack(value: Any, field: str) -> Any:
        return None if value is None else unpack(value, field)

    if pack is None:
        return None, maybe_unpack
    wrap = pack

    def maybe_pack(value: Any) -> Any:
        return None if value is None else wrap(value)

    return maybe_pack, maybe_unpack


def _tuple(args: tuple[Any, ...], where: str) -> tuple[Pack | None, Unpack]:
    if len(args) == 2 and args[1] is Ellipsis:
        pack, unpack = _converter(args[0], where)

        def unpack_all(value: Any, field: str) -> Any:
            if type(value) is not tuple:
                raise CodecError(f"{where}: {type(value).__name__} in place of an array")
            return tuple([unpack(item, field) for item in value])

        if pack is None:
            return None, unpack_all
        wrap = pack
        return (lambda value: [wrap(item) for item in value]), unpack_all

    pairs = [_converter(arg, where) for arg in args]

    def unpack_each(value: Any, field: str) -> Any:
        if type(value) is not tuple or len(value) != len(pairs):
            raise CodecError(f"{where}: not an array of {len(pairs)}")
        return tuple([unpack(item, field) for (_, unpack), item in zip(pairs, value, strict=True)])

    def pack_each(value: Any) -> Any:
        return [item if pack is None else pack(item) for (pack, _), item in zip(pairs, value, strict=True)]

    return pack_each, unpack_each


def _enum(kind: type[enum.Enum], where: str) -> tuple[Pack, Unpack]:
    members = {member.value: member for member in kind}

    def unpack(value: Any, field: str) -> Any:  # noqa: ARG001
        try:
            return members[value]
        except (KeyError, TypeError):
            raise CodecError(f"{where}: {value!r:.40} is not a {kind.__name__}") from None

    return (lambda member: member.value), unpack


def _record(kind: type, where: str) -> tuple[Pack, Unpack]:
    names, packs, unpacks = _converters(kind)

    def pack(record: Any) -> Any:
        return [
            getattr(record, name) if convert is None else convert(getattr(record, name))
            for name, convert in zip(names, packs, strict=True)
        ]

    def unpack(value: Any, field: str) -> Any:  # noqa: ARG001
        if type(value) is not tuple or len(value) != len(names):
            raise CodecError(f"{where}: not a {kind.__name__} of {len(names)} fields")
        values = [convert(item, name) for convert, item, name in zip(unpacks, value, names, strict=True)]
        try:
            return kind(*values)
        except (ValueError, TypeError) as error:
            raise CodecError(f"{where}: {error}") from error

    return pack, unpack


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
