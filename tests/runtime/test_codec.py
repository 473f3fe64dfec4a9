"""Every command and event crosses as bytes and comes back the same; everything else is a CodecError that says where."""

from __future__ import annotations

import dataclasses
import enum
import os
import subprocess
import sys
import types
import typing
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.errors import CodecError
from actors.messages.codec import Codec, tag_of
from actors.messages.command import Command
from actors.messages.control import CONTROL
from kithara_actors.messages import commands, events, to_collector, to_registry, to_source, worker
from kithara_actors.messages.commands import COMMANDS
from kithara_actors.messages.events import EVENT_CODEC, EVENTS
from kithara_actors.messages.parser import PARSER_COMMANDS, ParserSettings
from kithara_actors.messages.worker import HEAD_CODEC, Head, WorkerSettings
from kithara_actors.values import CancelReason, Priority, RequestId, StreamId

CODECS = [
    Codec(CONTROL),
    Codec(COMMANDS),
    EVENT_CODEC,
    HEAD_CODEC,
    Codec([WorkerSettings]),
    Codec(PARSER_COMMANDS),
    Codec([ParserSettings]),
]
CLASSES = [(codec, cls) for codec in CODECS for cls in codec.commands]
SENDERS = {"System", "Stream", "AssetStore", "Downloader", "Registry", "Source", "Timers", "Worker", "Host", "Anyone"}
SENDERS |= {"Subscription", "Collector"}
COMMAND_CODEC = CODECS[1]


def values(hint: Any) -> st.SearchStrategy[Any]:
    """All values of a field type."""
    while hasattr(hint, "__supertype__"):
        hint = hint.__supertype__
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return st.one_of([values(arg) for arg in args])
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(values(args[0]), max_size=4).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, args))
    if issubclass(hint, enum.Enum):
        return st.sampled_from(hint)
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return st.builds(
            typing.cast("type", hint), **{field.name: values(hints[field.name]) for field in dataclasses.fields(hint)}
        )
    scalars: dict[type, st.SearchStrategy[Any]] = {
        type(None): st.none(),
        bool: st.booleans(),
        int: st.integers(-(1 << 63), (1 << 64) - 1),
        float: st.floats(allow_nan=False),
        str: st.text(st.characters(exclude_categories=["Cs"])),
        bytes: st.binary(),
    }
    return scalars[hint]


def named(pair: tuple[Codec, type[Command]]) -> str:
    return pair[1].__name__


@pytest.mark.parametrize("pair", CLASSES, ids=named)
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_round_trip(pair: tuple[Codec, type[Command]], data: st.DataObject) -> None:
    codec, cls = pair
    command = data.draw(values(cls))
    packed = codec.encode(command)
    back = codec.decode(packed)
    assert back == command
    assert type(back) is cls
    assert [type(getattr(back, f.name)) for f in dataclasses.fields(cls)] == [  # type: ignore[arg-type]
        type(getattr(command, f.name))
        for f in dataclasses.fields(cls)  # type: ignore[arg-type]
    ]
    assert codec.decode(memoryview(packed)) == command
    assert tag_of(packed) == cls.TAG


@pytest.mark.parametrize("pair", CLASSES, ids=named)
def test_commands_are_frozen_slotted_and_documented(pair: tuple[Codec, type[Command]]) -> None:
    _, cls = pair
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(cls)
    assert not hasattr(cls, "__dict__") or "__dict__" not in dir(cls)
    assert cls.__module__ == events.__name__ or (cls.__doc__ or "").strip()


def test_every_command_of_the_modules_is_known_and_names_its_sender() -> None:
    for module in (commands, to_collector, to_registry, to_source, worker):
        for name, cls in vars(module).items():
            if not isinstance(cls, type) or not issubclass(cls, Command) or cls is Command:
                continue
            assert cls in (*COMMANDS, *PARSER_COMMANDS, Head, WorkerSettings, ParserSettings), f"{name} is in no codec"
            doc = cls.__doc__ or ""
            assert "→" in doc or doc.startswith("The answer to"), f"{name} names no sender"
            senders = doc.split("→")[0].replace(" or ", " ").split() if "→" in doc else []
            assert set(senders[:1]) <= SENDERS | {"Worker"}, f"{name}: {senders}"


def test_every_event_of_the_module_is_known() -> None:
    known = {cls for cls in vars(events).values() if isinstance(cls, type) and issubclass(cls, Command)}
    assert known - {Command} == set(EVENTS)


def test_tags_are_unique_where_frames_meet() -> None:
    """A worker channel carries control frames too; the mailboxes of the system carry the worker's reports."""
    tags = [cls.TAG for cls in (*CONTROL, *COMMANDS)]
    assert len(tags) == len(set(tags))
    assert len({cls.TAG for cls in EVENTS}) == len(EVENTS)


# --- What is malformed


def test_random_bytes_are_a_codec_error_or_a_command() -> None:
    @settings(max_examples=300)
    @given(st.binary(max_size=64) | st.binary(max_size=24).map(lambda tail: b"\x95\x22\x01" + tail))
    def run(data: bytes) -> None:
        try:
            command = COMMAND_CODEC.decode(data)
        except CodecError:
            return
        assert tag_of(data) in (type(command).TAG, None)

    run()


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 40) | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2) | st.integers(0, 3), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(CLASSES), st.data())
def test_a_mutated_command_is_the_same_kind_or_a_codec_error(pair: tuple[Codec, type[Command]], data: Any) -> None:
    codec, cls = pair
    array = msgpack.unpackb(codec.encode(data.draw(values(cls))))
    at = data.draw(st.integers(0, len(array)))
    array[at : at + data.draw(st.integers(0, 1))] = [data.draw(PLAIN)]
    packed = msgpack.packb(array)
    try:
        command = codec.decode(packed)
    except CodecError:
        return
    assert codec.decode(codec.encode(command)) == command or "nan" in repr(command)
    assert tag_of(packed) in (type(command).TAG, None)


def pack(*fields: object) -> bytes:
    return bytes(msgpack.packb(fields))


SPEC = (1, 1, "p", "demand", "u", "o", (("a", "b"),), 1, 0, 1, 0, None, True, None, None, None, 0, None, None, None)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not msgpack"),
        (b"\xc1", "not msgpack"),
        (pack(33, 1, 1, True)[:-1], "not msgpack"),
        (pack(33, 1, 1, True) + b"\x00", "not msgpack"),
        (msgpack.packb({"tag": 33}), "array of tag"),
        (msgpack.packb(7), "array of tag"),
        (pack(33), "array of tag"),
        (pack(200, 1), "unknown command tag 200"),
        (pack("33", 1), "unknown command tag a str"),
        (pack(True, 1), "unknown command tag True"),
        (pack((33,), 1), "unknown command tag"),
        (pack(33, 2, 1, True), "Detach: version 2, this side speaks 1"),
        (pack(33, True, 1, True), "Detach: version True"),
        (pack(33, 1.0, 1, True), "Detach: version 1.0"),
        (pack(33, 1, 1), "Detach: 1 fields, expected 2"),
        (pack(33, 1, 1, True, None), "Detach: 3 fields, expected 2"),
        (pack(33, 1, 1, 1), "Detach.last: int in place of bool"),
        (pack(33, 1, True, True), "Detach.stream: bool in place of int"),
        (pack(33, 1, "1", True), "Detach.stream: str in place of int"),
        (pack(33, 1, None, True), "Detach.stream: NoneType in place of int"),
        (pack(33, 1, {}, True), "Detach.stream: dict in place of int"),
        (pack(34, 1, 1, 1, "x"), "ReaderAt.waiting_to: str in place of int or nil"),
        (pack(65, 1, 1, "because"), "CancelFetch.reason: a str is not a CancelReason"),
        (pack(66, 1, "p", True), "SetPriority.priority: bool in place of int"),
        (pack(66, 1, "p", 1.0), "SetPriority.priority: float in place of int"),
        (pack(66, 1, "p", 2), "SetPriority.priority: 2 is not a Priority"),
        (pack(64, 1, SPEC[:-1]), "Fetch.spec: 19 fields, expected 20"),
        (pack(64, 1, "spec"), "Fetch.spec: str in place of array"),
        (pack(64, 1, (*SPEC[:3], 7, *SPEC[4:])), "Fetch.spec.kind: int in place of str"),
        (pack(64, 1, (*SPEC[:6], (("a", "b"), ("c", 1)), *SPEC[7:])), "Fetch.spec.headers.1.1: int in place of str"),
        (pack(64, 1, (*SPEC[:6], ("ab",), *SPEC[7:])), "Fetch.spec.headers.0: str in place of array"),
        (pack(64, 1, (*SPEC[:14], (None, 1, None), *SPEC[15:])), "Fetch.spec.validator.last_modified: int in place of"),
        (pack(83, 1, 1, msgpack.ExtType(5, b""), False), "WorkerUp.pid: ExtType in place of int"),
        (b"\x91" * 20000, "not msgpack"),
        (b"\xdd\xff\xff\xff\xff", "not msgpack"),
        (b"\x81" + b"\x81" * 5000, "not msgpack"),
        (b"\x93H\x01\xc1", "not msgpack"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, says: str) -> None:
    with pytest.raises(CodecError) as caught:
        COMMAND_CODEC.decode(data)
    assert says in str(caught.value)


def test_a_malformed_row_is_refused_again_after_good_ones() -> None:
    for _ in range(2):
        assert COMMAND_CODEC.decode(pack(34, 1, 1, 2, None)) == commands.ReaderAt(StreamId(1), 2, None)
        assert COMMAND_CODEC.decode(pack(34, 1, 1, 2, 3)) == commands.ReaderAt(StreamId(1), 2, 3)
        with pytest.raises(CodecError, match=r"ReaderAt\.position"):
            COMMAND_CODEC.decode(pack(34, 1, 1, None, 3))


def test_an_int_where_a_float_is_due_becomes_one() -> None:
    for _ in range(2):
        spec = COMMAND_CODEC.decode(pack(80, 1, SPEC, 2, False))
        assert isinstance(spec, commands.Admitted)
        assert (spec.queued, type(spec.queued)) == (2.0, float)


def test_what_cannot_be_encoded() -> None:
    with pytest.raises(CodecError, match="Lagged is not a command of this codec"):
        COMMAND_CODEC.encode(events.Lagged(1))
    with pytest.raises(CodecError, match="Parked cannot be encoded"):
        COMMAND_CODEC.encode(commands.Parked(RequestId(1 << 64)))
    with pytest.raises(CodecError, match="PeerGone cannot be encoded"):
        COMMAND_CODEC.encode(commands.PeerGone("\ud800"))
    with pytest.raises(CodecError, match="str is not a command"):
        COMMAND_CODEC.encode("text")  # type: ignore[arg-type]


def test_a_file_name_that_is_not_utf_8_comes_back_as_it_was() -> None:
    gone = commands.PeerGone(os.fsdecode(b"caf\xe9.mp3"))
    for _ in range(2):
        assert COMMAND_CODEC.decode(COMMAND_CODEC.encode(gone)) == gone
        assert COMMAND_CODEC.decode(COMMAND_CODEC.encode(commands.PeerGone("café"))) == commands.PeerGone("café")


def test_members_of_enums_come_back_as_members() -> None:
    back = COMMAND_CODEC.decode(COMMAND_CODEC.encode(commands.CancelFetch(RequestId(1), CancelReason.EPOCH_CANCEL)))
    assert isinstance(back, commands.CancelFetch)
    assert back.reason is CancelReason.EPOCH_CANCEL
    moved = COMMAND_CODEC.decode(COMMAND_CODEC.encode(commands.SetPriority("p", Priority.HIGH)))
    assert isinstance(moved, commands.SetPriority)
    assert moved.priority is Priority.HIGH


# --- What cannot be a command


class Loose(Command):
    TAG = 1


@dataclasses.dataclass(slots=True)
class Mutable(Command):
    TAG = 1


@dataclasses.dataclass(frozen=True, slots=True)
class First(Command):
    TAG = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Second(Command):
    TAG = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Far(Command):
    TAG = 256


@dataclasses.dataclass(frozen=True, slots=True)
class Listed(Command):
    TAG = 2
    items: list[int]


@dataclasses.dataclass(frozen=True, slots=True)
class Either(Command):
    TAG = 3
    item: int | str


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


@dataclasses.dataclass(frozen=True, slots=True)
class Even:
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError(f"{self.number} is odd")


@dataclasses.dataclass(frozen=True, slots=True)
class Rich(Command):
    TAG = 250
    colour: Colour
    evens: tuple[Even | None, ...]
    floats: tuple[float, ...]
    pair: tuple[Colour, int] | None


@pytest.mark.parametrize(
    ("classes", "says"),
    [([Loose], "frozen"), ([Mutable], "frozen"), ([First, Second], "share tag 1"), ([Far], "tag 256")],
)
def test_a_codec_refuses_what_is_no_command(classes: list[type[Command]], says: str) -> None:
    with pytest.raises(CodecError, match=says):
        Codec(classes)


@pytest.mark.parametrize("command", [Listed([1]), Either(1)])
def test_a_field_that_cannot_be_carried_is_named(command: Command) -> None:
    with pytest.raises(CodecError, match=rf"{type(command).__name__}\.item"):
        Codec([type(command)]).encode(command)


def test_records_tuples_and_plain_enums() -> None:
    codec = Codec([Rich])
    rich = Rich(Colour.BLUE, (Even(2), None), (1.5,), (Colour.RED, 4))
    assert codec.decode(codec.encode(rich)) == rich
    assert tag_of(codec.encode(rich)) == 250
    assert codec.decode(pack(250, 1, 1, (), (1, 2.5), None)) == Rich(Colour.RED, (), (1.0, 2.5), None)
    for fields, says in [
        ((1, ((3,),), (), None), "Rich.evens.0: 3 is odd"),
        ((1, (), ("x",), None), "Rich.floats.0: str in place of float"),
        ((1, (), (), (1, 2, 3)), "Rich.pair: 3 fields, expected 2"),
        ((1, (), (), ("green", 2)), "Rich.pair.0: a str is not a Colour"),
    ]:
        with pytest.raises(CodecError, match=says):
            codec.decode(pack(250, 1, *fields))


@settings(max_examples=300)
@given(st.binary(max_size=6))
def test_a_tag_is_found_in_any_bytes_without_an_error(data: bytes) -> None:
    assert tag_of(data) in {None, *range(256)}


# --- What it costs


def test_making_a_codec_costs_nothing_until_it_is_used() -> None:
    """Counted, not timed: no command's type hints are looked at while the modules are imported."""
    script = (
        "import typing; calls = []; real = typing.get_type_hints\n"
        "typing.get_type_hints = lambda *a, **k: (calls.append(a), real(*a, **k))[1]\n"
        "import kithara_actors.messages.commands as c, kithara_actors.messages.events\n"
        "from actors.messages.codec import Codec\n"
        "codec = Codec(c.COMMANDS); before = len(calls)\n"
        "codec.decode(codec.encode(c.PeerGone('x'))); print(before, len(calls) - before)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["0", "1"]
