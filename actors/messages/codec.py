"""Commands to msgpack arrays `[tag, version, field…]` and back, every field checked on the way in.

msgpack's format: https://github.com/msgpack/msgpack/blob/master/spec.md. A codec knows a closed set of commands;
anything else is a `CodecError`. Encoding and decoding never block and are safe from any thread.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgpack

from actors.errors import CodecError
from actors.messages.command import Command
from actors.messages.wire import Misfit, Row, check_class, row_of, shown

__all__ = ["Codec", "tag_of"]

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
        self._rows: dict[type[Command], Row] = {}
        for cls in commands:
            check_class(cls)
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
        row = self._rows.get(cls) or self._row(cls)
        try:
            packed = _packed((cls.TAG, cls.VERSION, *row.dump(command)))
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
            raise CodecError(f"unknown command tag {shown(tag)}")
        if version != cls.VERSION or type(version) is not int:
            raise CodecError(f"{cls.__name__}: version {shown(version)}, this side speaks {cls.VERSION}")
        row = self._rows.get(cls) or self._row(cls)
        try:
            command: Command = row.load(array[2:])
        except Misfit as misfit:
            raise CodecError(f"{'.'.join([cls.__name__, *misfit.path])}: {misfit.why}") from None
        return command

    def _row(self, cls: type[Command]) -> Row:
        if self._by_tag.get(getattr(cls, "TAG", -1)) is not cls:
            raise CodecError(f"{cls.__name__} is not a command of this codec")
        row = self._rows[cls] = row_of(cls)
        return row


def _packed(values: tuple[object, ...]) -> bytes:
    try:
        packed: bytes = msgpack.packb(values)
    except UnicodeEncodeError:
        # Given how to handle what is no UTF-8, msgpack takes a longer way for every text.
        packed = msgpack.packb(values, unicode_errors=_FILE_NAMES)
    return packed


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
