"""The values that `execute` takes and gives: refused where they are made, compared and copied as values are."""

from __future__ import annotations

import dataclasses
import pickle
from encodings.aliases import aliases
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import kithara_actors
from kithara_actors import FetchCommand, FetchResult, Headers
from kithara_actors.logic.response import range_header
from kithara_actors.values import RequestId

URL = "http://one.test/file"


def result(**changes: Any) -> FetchResult:
    fields: dict[str, Any] = {
        "status": 200,
        "url": f"{URL}?token=secret",
        "headers": Headers([("Content-Type", "text/plain; charset=latin-1")]),
        "body": b"gr\xfc\xdfe",
        "partial": False,
        "total": 5,
        "elapsed": 0.1,
        "request_id": RequestId(1),
    }
    return FetchResult(**{**fields, **changes})


# --- Commands


def test_what_is_asked() -> None:
    command = FetchCommand.get(URL, range=(7, 11), headers={"X-Token": "t"}, refuse_html=True)
    assert (command.method, command.url, command.range, command.refuse_html) == ("GET", URL, (7, 11), True)
    assert command.headers == {"x-token": "t"}
    assert FetchCommand.head(URL) == FetchCommand("HEAD", URL)
    assert FetchCommand.get(URL) != FetchCommand.head(URL)


@pytest.mark.parametrize(
    ("given", "rendered"), [((0, 100), "bytes=0-100"), ((50, None), "bytes=50-"), ((10, 10), "bytes=10-10")]
)
def test_ranges_are_those_of_http(given: tuple[int, int | None], rendered: str) -> None:
    first, last = FetchCommand.get(URL, range=given).range or (0, 0)
    assert range_header(first, None if last is None else last + 1) == rendered


@pytest.mark.parametrize("given", [(5, 4), (-1, 5), (-5, None), (-5, -1), (0, -1), (0, 2**63 - 1), (2**63, None)])
def test_ranges_that_cannot_be_are_refused_where_they_are_made(given: Any) -> None:
    with pytest.raises(ValueError, match="range"):
        FetchCommand.get(URL, range=given)


@pytest.mark.parametrize("given", [5, (1,), (1, 2, 3), ("1", 2), (1, "2"), (1.0, 2), (True, 2), (None, 5), [1, 2]])
def test_ranges_that_are_none_are_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="range"):
        FetchCommand.get(URL, range=given)


@given(st.integers(0, 2**63 - 2), st.integers(0, 2**63 - 2))
def test_every_range_is_taken_or_refused(first: int, last: int) -> None:
    if first <= last:
        assert FetchCommand.get(URL, range=(first, last)).range == (first, last)
    else:
        with pytest.raises(ValueError, match="reversed"):
            FetchCommand.get(URL, range=(first, last))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ftp://one/x", "scheme 'ftp' is not served"),
        ("/path/x", "not a URL: give an http:// or https:// URL$"),
        ("http:///x", "names no host"),
        ("http://one/a b", "percent-encode"),
        ("http://one:0/", "bad port"),
        ("http://a%3Ab:c@one/", "user name in the URL has a colon"),
    ],
)
def test_urls_that_cannot_be_asked(url: str, text: str) -> None:
    for make in (FetchCommand.get, FetchCommand.head):
        with pytest.raises(ValueError, match=text):
            make(url)


@pytest.mark.parametrize("headers", [{"A\r\n": "b"}, {"A": "b\r\nC: d"}, {"A": "b\0"}, {"A": "1", "a": "2"}, {"": "x"}])
def test_headers_that_cannot_be_sent(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        FetchCommand.get(URL, headers=headers)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Range", "give range="),
        ("if-range", "nothing to compare"),
        ("Content-Length", "no request has one"),
        ("Transfer-Encoding", "no request has one"),
    ],
)
def test_headers_that_would_break_the_request(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*{why}"):
        FetchCommand.get(URL, headers={name: "1"})


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: FetchCommand.get(5), "url"),  # type: ignore[arg-type]
        (lambda: FetchCommand.get(URL, headers=lambda url: {}), "headers"),  # type: ignore[arg-type]
        (lambda: FetchCommand.get(URL, headers=[("a", "b")]), "headers"),  # type: ignore[arg-type]
        (lambda: FetchCommand.get(URL, headers={"a": 5}), "'a'"),  # type: ignore[dict-item]
        (lambda: FetchCommand.get(URL, refuse_html=1), "refuse_html"),  # type: ignore[arg-type]
    ],
)
def test_wrong_types_are_named(make: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        make()


def test_there_are_two_methods() -> None:
    with pytest.raises(ValueError, match="POST"):
        FetchCommand("POST", URL)
    with pytest.raises(ValueError, match="HEAD has no range"):
        FetchCommand("HEAD", URL, (0, 5))


def test_a_command_is_a_value_without_its_secrets() -> None:
    command = FetchCommand.get("http://me:pw@one.test/?key=secret", headers={"Authorization": "Bearer tok"})
    assert pickle.loads(pickle.dumps(command)) == command
    assert hash(command) == hash(dataclasses.replace(command))
    with pytest.raises(dataclasses.FrozenInstanceError):
        command.url = URL  # type: ignore[misc]
    assert repr(command) == "<FetchCommand GET http://…@one.test/?key=… , headers=['Authorization']>".replace(" ,", ",")
    assert "range=(1, 2)" in repr(FetchCommand.get(URL, range=(1, 2)))


# --- Headers


def test_names_do_not_depend_on_case_and_values_are_joined() -> None:
    headers = Headers([("ETag", '"v"'), ("Set-Cookie", "a=1"), ("set-cookie", "b=2")])
    assert headers["etag"] == headers.get("ETAG") == '"v"'
    assert headers["SET-COOKIE"] == "a=1, b=2"
    assert headers.get_all("Set-Cookie") == ("a=1", "b=2")
    assert headers.get_all("X") == ()
    assert list(headers) == ["ETag", "Set-Cookie"]
    assert len(headers) == 2
    assert "eTag" in headers
    assert "x" not in headers
    assert 5 not in headers
    assert headers.fields[2] == ("set-cookie", "b=2")
    with pytest.raises(KeyError):
        headers["x"]


NAMES = st.text("aAbB-", min_size=1, max_size=3)


@given(st.lists(st.tuples(NAMES, st.text(max_size=3)), max_size=6))
def test_headers_are_values(fields: list[tuple[str, str]]) -> None:
    headers = Headers(fields)
    other = Headers([(name.swapcase(), value) for name, value in fields])
    assert headers == other
    assert hash(headers) == hash(other)
    assert headers == dict(headers.items())
    assert (headers == {"zz": ""}) is False
    assert headers != 5
    copy = pickle.loads(pickle.dumps(headers))
    assert (copy, copy.fields) == (headers, headers.fields)


def test_headers_show_no_credentials() -> None:
    shown = repr(Headers({"Set-Cookie": "session=1", "ETag": '"v"'}))
    assert "session" not in shown
    assert '"v"' in shown


# --- Results


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        (None, "utf-8"),
        ("text/plain", "utf-8"),
        ("text/plain; charset=ISO-8859-1", "iso8859-1"),
        ('text/plain; x=1; charset = "latin-1"', "iso8859-1"),
        ("text/plain; charset=", "utf-8"),
        ('text/plain; charset=""', "utf-8"),
        ("text/plain; charset=klingon", "utf-8"),
        ("text/plain; charset=a\0b", "utf-8"),
    ],
)
def test_the_charset(content_type: str | None, encoding: str) -> None:
    headers = Headers({} if content_type is None else {"content-type": content_type})
    assert result(headers=headers).encoding == encoding
    assert result(headers=headers).content_type == content_type


@given(st.text(max_size=40) | st.sampled_from(sorted({*aliases.values(), "undefined", "idna", "punycode", "hex"})))
@example("undefined")
@example("idna")
def test_text_never_fails(charset: str) -> None:
    said = result(headers=Headers({"Content-Type": f"text/plain; charset={charset}"}))
    assert isinstance(said.text, str)
    assert isinstance(dataclasses.replace(said, body=bytes(range(256)) * 2).text, str)


def test_what_a_result_tells() -> None:
    one = result()
    assert one.text == "grüße"
    assert (one.reason, result(status=299).reason) == ("OK", "")
    assert result(body=b'{"a": [1]}').json() == {"a": [1]}
    assert result(body=b"1.5").json(parse_float=str) == "1.5"
    with pytest.raises(ValueError):
        one.json()
    assert pickle.loads(pickle.dumps(one)) == one
    assert repr(one) == "<FetchResult 200 http://one.test/file?token=… 5 bytes>"
    assert "(partial)" in repr(result(partial=True, status=206))
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.body = b""  # type: ignore[misc]


def test_they_are_public() -> None:
    for name in ("FetchCommand", "FetchResult", "Headers"):
        assert name in kithara_actors.__all__
