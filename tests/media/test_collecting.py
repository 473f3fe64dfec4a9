"""What a one-off request sends, and which answers it takes."""

from __future__ import annotations

from typing import Any

import pytest
from actor_kit import request_spec
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.errors import InvalidContentType, KitharaError, ProtocolError, StatusError
from kithara_actors.logic.collecting import (
    HEAD_LIMIT,
    asked_of,
    check_collected,
    check_head_size,
    coding_of,
    collected_headers,
    fields_of,
)
from kithara_actors.logic.response import Accepted, Asked, Reask
from kithara_actors.messages.records import Collection

WHOLE = Asked(0, None, ranged=False, refuse_html=False, identity=False)
RANGE = Asked(8, 16, refuse_html=False)


def take(status: int, headers: dict[str, str] | None = None, asked: Asked = WHOLE, **how: Any) -> Accepted | Reask:
    return check_collected(asked, how.pop("method", "GET"), how.pop("sent", {}), status, headers or {})


def test_a_range_rules_out_a_coding() -> None:
    spec = request_spec(ranged=True, end=2000, collection=Collection("collector", "GET", True))
    assert asked_of(spec) == Asked(1000, 2000, refuse_html=True, identity=True)
    spec = request_spec(ranged=False, start=0, collection=Collection("collector", "GET", False))
    assert asked_of(spec) == WHOLE


@pytest.mark.parametrize(
    ("method", "said", "sent"),
    [
        ("GET", None, "gzip, deflate"),
        ("GET", "br, zstd", "gzip, deflate"),
        ("GET", "Identity", "identity"),
        ("HEAD", None, "identity"),
        ("HEAD", "br", "br"),
    ],
)
def test_codings_that_are_asked_for(method: str, said: str | None, sent: str) -> None:
    caller = {"X-Token": "1"} | ({} if said is None else {"accept-encoding": said})
    assert collected_headers(WHOLE, method, caller) == {"X-Token": "1", "Accept-Encoding": sent}


def test_a_range_is_asked_for_as_it_is() -> None:
    sent = collected_headers(RANGE, "GET", {"accept-encoding": "gzip"})
    assert sent == {"Accept-Encoding": "identity", "Range": "bytes=8-15"}
    again = collected_headers(Asked(0, 8, ranged=False), "GET", {})
    assert again == {"Accept-Encoding": "identity"}


@pytest.mark.parametrize("status", [200, 201, 202, 203, 205, 226])
def test_every_success_has_a_whole_body(status: int) -> None:
    accepted = take(status, {"Content-Length": "5"})
    assert isinstance(accepted, Accepted)
    assert (accepted.partial, accepted.start, accepted.end, accepted.total) == (False, 0, 5, 5)


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "5"}, {"Content-Encoding": "gzip"}])
def test_no_content_has_none_whatever_it_says(headers: dict[str, str]) -> None:
    accepted = take(204, headers)
    assert isinstance(accepted, Accepted)
    assert (accepted.end, accepted.total) == (0, None)


@pytest.mark.parametrize("status", [201, 202, 204, 205])
def test_a_range_is_answered_by_200_and_206_alone(status: int) -> None:
    with pytest.raises(ProtocolError):
        take(status, asked=RANGE)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_part_that_nobody_asked_for_is_refused(method: str) -> None:
    with pytest.raises(ProtocolError, match="without Range"):
        take(206, {"Content-Range": "bytes 0-4/9"}, method=method)


@pytest.mark.parametrize(
    ("value", "length", "text"),
    [
        ("bytes 0-7/60", "8", "does not begin at 8"),
        ("bytes 8-15/60", "7", "spans 8 bytes"),
        ("bytes 8-15/*", "8", "known total"),
        ("bytes 8-16/60", "9", "goes past 15"),
        ("bytes 8-15/15", "8", "contradicts itself"),
        ("lines 8-15/60", "8", "known total"),
        (None, "8", "without a Content-Range"),
    ],
)
def test_a_part_that_does_not_fit_is_refused(value: str | None, length: str, text: str) -> None:
    headers = {"Content-Length": length} | ({} if value is None else {"Content-Range": value})
    with pytest.raises(ProtocolError, match=text):
        take(206, headers, asked=RANGE)


def test_an_end_that_comes_earlier_is_fine() -> None:
    accepted = take(206, {"Content-Range": "bytes 8-11/12"}, asked=RANGE)
    assert isinstance(accepted, Accepted)
    assert (accepted.start, accepted.end, accepted.total) == (8, 12, 12)


def test_a_range_may_be_ignored() -> None:
    accepted = take(200, {"Content-Length": "60"}, asked=RANGE)
    assert isinstance(accepted, Accepted)
    assert (accepted.partial, accepted.end) == (False, 60)


@pytest.mark.parametrize("name", ["If-None-Match", "if-modified-since"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_not_modified_answers_a_condition(name: str, method: str) -> None:
    accepted = take(304, {"ETag": '"v"', "Content-Length": "9"}, sent={name: "x"}, method=method)
    assert isinstance(accepted, Accepted)
    assert (accepted.partial, accepted.end, accepted.total) == (False, 0, None)


def test_not_modified_without_a_condition_is_refused() -> None:
    with pytest.raises(ProtocolError, match="304 Not Modified"):
        take(304, sent={"Accept": "*/*"})


def test_head_tells_of_a_body_that_does_not_come() -> None:
    accepted = take(200, {"Content-Length": "60", "Content-Encoding": "br"}, method="HEAD")
    assert isinstance(accepted, Accepted)
    assert accepted.total == 60


@pytest.mark.parametrize(("status", "retryable"), [(404, False), (416, False), (503, True), (429, True)])
def test_what_is_no_success_is_raised(status: int, retryable: bool) -> None:
    with pytest.raises(StatusError) as caught:
        take(status)
    assert (caught.value.status, caught.value.retryable) == (status, retryable)


def test_a_refused_first_range_is_asked_again_without() -> None:
    assert take(416, asked=Asked(0, 5)) == Reask(416)
    with pytest.raises(StatusError):
        take(416, asked=RANGE)


def test_pages_are_refused_on_demand() -> None:
    page = {"Content-Type": "text/html; charset=utf-8"}
    assert isinstance(take(200, page), Accepted)
    with pytest.raises(InvalidContentType):
        take(200, page, asked=Asked(0, None, ranged=False, refuse_html=True, identity=False))


@pytest.mark.parametrize(
    ("values", "coding"),
    [
        ([], None),
        (["identity"], None),
        ([""], None),
        (["GZIP"], "gzip"),
        (["x-gzip"], "gzip"),
        (["deflate"], "deflate"),
        (["identity, gzip"], "gzip"),
    ],
)
def test_the_coding_to_undo(values: list[str], coding: str | None) -> None:
    assert coding_of([("content-encoding", value) for value in values]) == coding


@pytest.mark.parametrize("values", [["br"], ["zstd"], ["gzip, gzip"], ["gzip", "gzip"], ["gzip", "br"], ["g z"]])
def test_codings_that_were_not_asked_for(values: list[str]) -> None:
    with pytest.raises(ProtocolError, match="not asked for"):
        coding_of([("Content-Encoding", value) for value in values])


@given(
    status=st.integers(0, 999),
    headers=st.dictionaries(
        st.sampled_from(
            ["Content-Length", "Content-Range", "Content-Encoding", "Content-Type", "Transfer-Encoding", "ETag"]
        ),
        st.one_of(st.text(max_size=30), st.sampled_from(["bytes 8-15/60", "5", "gzip", "chunked", "text/html"])),
    ),
    asked=st.sampled_from([WHOLE, RANGE]),
    method=st.sampled_from(["GET", "HEAD"]),
    conditional=st.booleans(),
)
def test_whatever_is_answered_only_own_errors_come_out(
    status: int, headers: dict[str, str], asked: Asked, method: str, conditional: bool
) -> None:
    try:
        answer = check_collected(asked, method, {"If-None-Match": "x"} if conditional else {}, status, headers)
        coding_of(headers.items())
    except KitharaError:
        return
    if isinstance(answer, Accepted):
        assert 200 <= status < 300 or status == 304
        assert answer.partial == (status == 206)


def test_who_asks_for_it_as_it_is_gets_no_coding() -> None:
    coded = {"Content-Encoding": "gzip"}
    assert isinstance(take(200, coded, sent={"Accept-Encoding": "gzip, deflate"}), Accepted)
    assert isinstance(take(200, coded, sent={"Accept-Encoding": "identity"}, method="HEAD"), Accepted)
    with pytest.raises(ProtocolError, match="identity was asked for"):
        take(200, coded, sent={"accept-encoding": "Identity"})


def test_headers_are_on_one_line_each() -> None:
    assert fields_of([("X-Long", "one\r\n  two\n\tthree")]) == (("X-Long", "one two three"),)


def test_a_head_has_to_fit_a_message() -> None:
    fits = "x" * (HEAD_LIMIT - len("http://one/") - 1)
    check_head_size("http://one/", [("A", fits)])
    with pytest.raises(ProtocolError, match=f"at most {HEAD_LIMIT}"):
        check_head_size("http://one/", [("A", fits + "x")])
    with pytest.raises(ProtocolError):
        check_head_size("http://one/", [("A", "ü" * (HEAD_LIMIT // 2))])
