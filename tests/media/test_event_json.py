"""Events as JSON: there and back for every class, and one clear error for what is none."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.errors import CodecError
from kithara_actors import events
from kithara_actors.command.event_words import describe
from kithara_actors.errors import Failure
from kithara_actors.events import (
    Envelope,
    Event,
    FirstByte,
    Opened,
    PriorityChanged,
    RequestCancelled,
    RequestEnqueued,
    RequestFailed,
    Scope,
    from_json,
    to_json,
)
from kithara_actors.messages.event_json import RESERVED
from kithara_actors.messages.events import EVENTS
from kithara_actors.values import AudioCodec, CancelReason, Container, MediaInfo, Priority, RequestId

ONE = RequestId(1)
scopes = st.builds(Scope, st.none() | st.integers(1), st.none() | st.integers(1))
numbers = st.floats(allow_nan=False, allow_infinity=False)


def any_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a type, but for numbers that are not finite."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is float:
        return numbers
    if origin is UnionType:
        return st.one_of([any_of(arg) for arg in args])
    if origin is tuple:
        return st.lists(any_of(args[0]), max_size=3).map(tuple)
    if is_dataclass(hint):
        return st.builds(hint, **{name: any_of(each) for name, each in get_type_hints(hint).items() if name.islower()})
    found: st.SearchStrategy[Any] = st.from_type(hint)
    return found


envelopes = st.builds(Envelope, st.one_of([any_of(cls) for cls in EVENTS]), scopes, st.integers(1), numbers)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(envelopes)
def test_there_and_back(envelope: Envelope) -> None:
    text = to_json(envelope)
    assert "\n" not in text
    assert from_json(text) == envelope
    assert from_json(text.encode()) == envelope


@pytest.mark.parametrize("cls", EVENTS)
def test_every_class_goes_there_and_back_and_has_words(cls: type[Event]) -> None:
    found: list[Event] = []

    @settings(max_examples=10, database=None)
    @given(any_of(cls), scopes)
    def check(event: Event, scope: Scope) -> None:
        found.append(event)
        assert from_json(to_json(Envelope(event, scope, 1, 2.5))).event == event
        _, what = describe(event, scope)
        assert what

    check()
    assert {type(event) for event in found} == {cls}
    assert not set(RESERVED) & {field.name for field in fields(cls)}
    assert getattr(events, cls.__name__) is cls


def test_what_it_looks_like() -> None:
    envelope = Envelope(RequestCancelled(ONE, 5, CancelReason.PEER_CANCEL), Scope(3), 7, 1.5)
    assert to_json(envelope) == (
        '{"v":1,"seq":7,"timestamp":1.5,"asset":3,"stream":null,"event":"RequestCancelled",'
        '"request_id":1,"bytes":5,"reason":"PEER_CANCEL"}'
    )
    info = MediaInfo(AudioCodec.MP3, Container.MPEG_AUDIO)
    told = json.loads(to_json(Envelope(Opened(info, 12, cached=False), Scope(1), 1, 1.0)))
    assert told["media_info"]["codec"] == "MP3"
    assert told["total"] == 12
    told = json.loads(to_json(Envelope(PriorityChanged(Priority.HIGH, (ONE, RequestId(2))), Scope(1), 1, 1.0)))
    assert (told["priority"], told["request_ids"]) == ("HIGH", [1, 2])
    told = json.loads(to_json(Envelope(RequestFailed(ONE, 0, True, Failure("ConnectError", "x")), Scope(1), 1, 1.0)))
    assert told["error"]["kind"] == "ConnectError"


GOOD = json.loads(to_json(Envelope(FirstByte(ONE, 0.5, 206, True), Scope(1, 2), 3, 4.0)))


def changed(**fields: Any) -> str:
    """The good line with other fields, without those that are `...`."""
    return json.dumps({name: value for name, value in {**GOOD, **fields}.items() if value is not ...})


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("garbage", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("1" * 10_000, "not JSON"),
        (changed(ttfb=float("nan")), "not JSON: NaN is no number"),
        ("[]", "not an event: it is no object with 'v' and 'event'"),
        ("3", "not an event"),
        ('{"event": "done", "url": "http://one/"}', "not an event"),
        (changed(v=2), "an event in format 2: this version reads format 1"),
        (changed(v=True), "an event in format True"),
        (changed(event="Sneezed"), "unknown event 'Sneezed': it may be of a newer version"),
        (changed(event=["FirstByte"]), "unknown event"),
        (changed(colour="red"), "FirstByte has the unknown field 'colour': it may be of a newer version"),
        (changed(ttfb=...), "FirstByte lacks 'ttfb'"),
        (changed(seq=...), "FirstByte lacks 'seq'"),
        (changed(status="206"), "FirstByte.status is '206', not int"),
        (changed(status=True), "FirstByte.status is True, not int"),
        (changed(partial=1), "FirstByte.partial is 1, not bool"),
        (changed(ttfb="soon"), "FirstByte.ttfb is 'soon', not a number"),
        (changed(ttfb=10**400), "FirstByte.ttfb is too large"),
        (changed(stream=1.5), "scope is 1.5, not int"),
        (changed(seq=None), "seq is None, not int"),
    ],
)
def test_what_is_no_event_says_why(line: str | bytes, why: str) -> None:
    with pytest.raises(CodecError) as raised:
        from_json(line)
    assert str(raised.value).startswith(why)
    assert len(str(raised.value)) < 250


def test_a_number_that_json_has_not_ends_nothing() -> None:
    text = to_json(Envelope(FirstByte(ONE, float("inf"), 200, False), Scope(), 1, 1.0))
    with pytest.raises(CodecError, match=r"FirstByte\.ttfb is None, not a number"):
        from_json(text)


def test_fields_inside_are_named() -> None:
    line = json.loads(to_json(Envelope(PriorityChanged(Priority.HIGH, (ONE,)), Scope(), 1, 1.0)))
    for field, value, why in [
        ("priority", "URGENT", "PriorityChanged.priority is 'URGENT', which is not a Priority"),
        ("priority", 1, "PriorityChanged.priority is 1, which is not a Priority"),
        ("request_ids", [1, "2"], "PriorityChanged.request_ids[1] is '2', not int"),
        ("request_ids", 1, "PriorityChanged.request_ids is 1, not an array"),
    ]:
        with pytest.raises(CodecError) as raised:
            from_json(json.dumps({**line, field: value}))
        assert str(raised.value) == why
    failed = json.loads(to_json(Envelope(RequestFailed(ONE, 0, True, Failure("A", "b")), Scope(), 1, 1.0)))
    failed["error"]["extra"] = 1
    with pytest.raises(CodecError, match=r"RequestFailed\.error has the unknown field 'extra'"):
        from_json(json.dumps(failed))
    with pytest.raises(CodecError, match=r"RequestFailed\.error is 5, not an object"):
        from_json(json.dumps({**failed, "error": 5}))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)), st.data())
def test_nothing_but_a_codec_error(value: object, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(sorted(GOOD)))
    try:
        envelope = from_json(json.dumps({**GOOD, field: value}))
    except CodecError:
        return
    assert from_json(to_json(envelope)) == envelope


def test_a_head_is_asked_for_as_a_head() -> None:
    asked = RequestEnqueued(ONE, "http://one/", "HEAD", Priority.HIGH, 0, None)
    assert describe(asked) == ("request 1", "asked for: the head")
    whole = RequestEnqueued(ONE, "http://one/", "GET", Priority.HIGH, 0, None)
    assert describe(whole)[1] == "asked for: bytes 0 to the end"


@dataclass(frozen=True, slots=True)
class Sneezed(Event):
    """An event that nobody has found words for yet."""

    TAG = 127
    request_id: RequestId
    times: int


def test_an_event_without_words_of_its_own_is_told_by_its_fields() -> None:
    assert describe(Sneezed(ONE, 3)) == ("request 1", "Sneezed: times 3")
