"""Values become plain data and come back the same; what is to be hidden does not; what nobody encoded is an error."""

from __future__ import annotations

import contextlib
import math
import typing
from collections import OrderedDict, deque
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum, StrEnum
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kithara_actors.errors import Failure
from kithara_actors.logic.fetch import FetchBook
from kithara_actors.logic.machines import MACHINES, VOCABULARY, hiding
from kithara_actors.logic.plain import Encoder, Hide, PlainError, Vocabulary, difference
from kithara_actors.logic.retry import Final, RetryPolicy
from kithara_actors.messages.records import FetchSpec, Place
from kithara_actors.values import ContentId, FetchKind, RequestId, Validator


class Colour(Enum):
    RED = "red"
    BLUE = 2


class Word(StrEnum):
    ONE = "one"


class Pair(NamedTuple):
    left: object
    right: object


@dataclass(frozen=True, slots=True)
class Frozen:
    value: object


@dataclass(slots=True)
class Loose:
    name: str
    items: dict[Any, Any]


class Machine:
    def __init__(self) -> None:
        self._state: object = 1
        self.port = print


@dataclass
class Strange:
    """Not in the vocabulary."""


WORDS = Vocabulary((Colour, Word, Pair, Frozen, Loose), state={Machine: ("_state",)})
ENCODER = Encoder(WORDS)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
    | st.sampled_from([*Colour, *Word])
)
keys = st.recursive(
    scalars, lambda inner: st.tuples(inner, inner) | st.builds(Pair, inner, inner) | st.frozensets(inner), max_leaves=4
)
values = st.recursive(
    keys,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner).map(deque)
        | st.sets(keys)
        | st.dictionaries(keys, inner)
        | st.dictionaries(keys, inner).map(OrderedDict)
        | st.builds(Frozen, inner)
        | st.builds(Loose, st.text(), st.dictionaries(keys, inner))
    ),
    max_leaves=10,
)


@settings(max_examples=60)
@given(values)
def test_what_comes_back_is_the_same(value: Any) -> None:
    plain = ENCODER.encode(value)
    again = WORDS.restore(plain)
    assert type(again) is type(value)
    assert again == value
    assert difference(ENCODER.encode(again), plain) is None


def test_order_of_a_mapping_stays() -> None:
    assert list(WORDS.restore(ENCODER.encode({3: 1, 1: 2, 2: 3}))) == [3, 1, 2]


def test_only_the_state_of_a_machine_is_taken() -> None:
    machine = Machine()
    machine._state = [1, 2]
    again = WORDS.restore(ENCODER.encode(machine))
    assert again._state == [1, 2]
    assert not hasattr(again, "port")


@pytest.mark.parametrize("value", [Strange(), object(), print, {1: [Strange()]}, 1j])
def test_what_is_not_in_the_vocabulary_is_refused(value: object) -> None:
    with pytest.raises(PlainError, match="is not in the vocabulary"):
        ENCODER.encode(value)


trees = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 25) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=6).map(tuple),
)


@given(trees)
def test_anything_else_is_an_error_and_no_code(tree: Any) -> None:
    with contextlib.suppress(PlainError):
        WORDS.restore(tree)


@pytest.mark.parametrize(
    "tree",
    [
        (),
        (99,),
        ("tuple",),
        (True, 1),
        (2, (1,), 1),
        (2, 1),
        (3, (1,)),
        (7, "1"),
        (7,),
        (7, b"\1" * 5000),
        (16,),
        (16, "GREEN"),
        (16, "__class__"),
        (17, 1, 2),
        [1],
        (0, {1: 2}),
    ],
    ids=repr,
)
def test_hostile_plain_data(tree: Any) -> None:
    with pytest.raises(PlainError):
        WORDS.restore(tree)


def test_deep_nesting_is_an_error() -> None:
    tree: Any = 1
    for _ in range(100):
        tree = (0, tree)
    with pytest.raises(PlainError, match="in one another"):
        WORDS.restore(tree)


# --- Differences


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        ([1, 2, 3], [1, 2, 4], "[2]"),
        ([1], [1, 2], ""),
        (Loose("a", {1: Frozen(2)}), Loose("a", {1: Frozen(3)}), ".items[1].value"),
        (1, True, ""),
        (1, 1.0, ""),
        (0.0, 0.0, None),
        (math.nan, math.nan, None),
        ((math.nan,), (1.0,), "[0]"),
        (Colour.RED, Colour.BLUE, "[0]"),
    ],
)
def test_where_values_differ(one: Any, other: Any, where: str | None) -> None:
    names = {number: word.names for number, word in WORDS.words.items()}
    assert difference(ENCODER.encode(one), ENCODER.encode(other), names) == where


# --- Hiding

KEY = b"k" * 32
HIDING = hiding(KEY)


def encoded(value: object, key: bytes = KEY) -> str:
    return repr(Encoder(VOCABULARY, hiding(key)).encode(value))


SPEC = FetchSpec(
    request=RequestId(1),
    asset=1,
    peer="source-1",
    kind=FetchKind.DEMAND,
    url="https://user:pass@h/a.mp3?token=SECRET-1&bare-SECRET-2&x=1#SECRET-3",
    origin="https://h:443",
    headers=(("Authorization", "Bearer SECRET-4"), ("X-Key", "SECRET-5")),
    content=ContentId(1),
    lane=0,
    generation=1,
    start=0,
    end=None,
    ranged=True,
    total=None,
    validator=Validator('"SECRET-6"', "SECRET-7", "SECRET-8"),
    limit=None,
    place=Place("http://SECRET-9:SECRET-10@other/b?sig=SECRET-11", bare=True),
)


def test_no_secret_of_a_request_is_written() -> None:
    failure = Failure("ConnectError", "http://h/?k=SECRET-12 failed: Bearer SECRET-13, ?q=SECRET-14")
    shown = encoded((SPEC, failure))
    for secret in ("SECRET", "user", "pass"):
        assert secret not in shown
    for kept in ("a.mp3?token=~", "Authorization", "X-Key", "@other/b?sig=~", "https://h:443", "source-1", "failed: "):
        assert kept in shown


def test_what_was_equal_stays_equal_under_one_key_only() -> None:
    assert HIDING.value("a") == HIDING.value("a") != HIDING.value("b")
    assert HIDING.value("a") != hiding(b"other").value("a")
    assert encoded(SPEC) == encoded(SPEC) != encoded(SPEC, b"other")
    # The same value has the same digits, as a header or within a text.
    assert HIDING.url("http://h/?k=v") == HIDING.text("http://h/?k=v") == f"http://h/?k={HIDING.value('v')}"


texts = st.text(max_size=40) | st.sampled_from(
    [
        "http://u:p@h/a?k=v&w#f: 503",
        "bearer x",
        "Basic dTpw; ?a=b",
        "basic http://h/?bearer=1 basic",
        "?x",
        "https://h/a?b=c https://h/a?b=c",
    ]
)


@settings(max_examples=100)
@given(st.lists(texts, max_size=3).map(" ".join))
def test_hiding_goes_before_logic_or_after_it(text: str) -> None:
    """What a machine makes of a text that was hidden is what is written of the text that it made."""
    policy = RetryPolicy(max_retries=0)
    outcome = policy.after(Failure("ConnectError", text, retryable=True), 1, 0.5, body_broke=True)
    hidden = policy.after(Failure("ConnectError", HIDING.text(text), retryable=True), 1, 0.5, body_broke=True)
    assert isinstance(outcome, Final)
    assert isinstance(hidden, Final)
    assert HIDING.text(outcome.failure.text) == hidden.failure.text


def test_every_text_that_is_written_was_judged() -> None:
    """A field that may hold a URL, a header or a text of others is hidden; a new one has to be thought about."""
    harmless = {
        *("peer", "owner", "origin", "heap"),  # names of actors, and schemes with hosts
        *("kind", "cause", "method"),
        "text",  # hidden as every text is: the secrets of URLs, and what follows Bearer or Basic
    }
    found = set()
    for word in VOCABULARY.words.values():
        if not is_dataclass(word.of) or word.of.__module__.startswith("actors."):
            continue
        hints = typing.get_type_hints(word.of)
        for field in fields(word.of):
            hint = hints[field.name]
            if typing.get_origin(hint) is dict:
                continue  # keyed by such names
            text = hint is str or (not isinstance(hint, type) and "str" in str(hint))
            if text and field.name not in word.hide and not field.name.startswith("_"):
                found.add(field.name)
    assert "text" in found
    assert found <= harmless
    assert {Hide.URL, Hide.VALUE, Hide.HEADERS} <= {
        hide for word in VOCABULARY.words.values() for hide in word.hide.values()
    }


def test_state_of_every_machine_is_known() -> None:
    """All of its attributes but the ports by which it asks others."""
    names = {word.of.__name__: set(word.names) for word in VOCABULARY.words.values()}
    assert names["FetchBook"] == set(vars(FetchBook(RetryPolicy()))) - set(MACHINES["FetchBook"].ports)
    assert set(MACHINES["FetchBook"].ports) == {"_attempts", "_suspicions"}
    assert {"SlotMap", "Supervision", "Turns"} <= set(names)
