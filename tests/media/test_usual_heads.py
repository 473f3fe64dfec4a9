"""A head that came in one piece is read at once: what is known of it is what http.client makes of it, line by line."""

from __future__ import annotations

import http.client
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.worker.connections import Malformed, _Response

__all__ = ["Sock"]

_OWN = ("fp", "headers", "msg", "_asked", "behind")
USUAL = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 4096\r\nConnection: keep-alive\r\n\r\n"


class Sock:
    """As much of a socket as a response needs."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> Any:
        assert mode == "rb"
        return io.BufferedReader(io.BytesIO(self._data))  # type: ignore[arg-type]

    def gettimeout(self) -> float:
        return 30.0

    def settimeout(self, seconds: float) -> None:
        pass


def ours(data: bytes, method: str = "GET") -> _Response:
    response = _Response(Sock(data), method=method)
    response.begin()
    return response


def state(response: http.client.HTTPResponse) -> dict[str, Any]:
    """All that http.client knows of an answer."""
    known = {name: value for name, value in vars(response).items() if name not in _OWN}
    headers: Any = response.headers
    assert response.msg is headers
    return known | {"fields": headers.items(), "defects": headers.defects, "rest": response.fp.read()}


NAMES = st.sampled_from(
    [
        "Content-Length",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "X",
        "From",
        "A!~",
        "Set-Cookie",
    ]
)
VALUES = st.one_of(
    st.sampled_from(["", "0", "7", "-1", "+5", "1_0", "x", "7, 7", "chunked", "Chunked", "gzip, chunked", "close"]),
    st.sampled_from(["keep-alive, Close", "  spaces ", "\ttab\t", "a:b", "\x85\xa0\xff\x0b\x0c\x1c"]),
    st.text(st.characters(max_codepoint=255, exclude_characters="\0\r\n"), max_size=20),
)
HEADS = st.builds(
    lambda status, reason, fields: (
        f"HTTP/1.1 {status}{reason}\r\n" + "".join(f"{name}:{value}\r\n" for name, value in fields) + "\r\n"
    ).encode("latin-1"),
    st.sampled_from([200, 204, 206, 304, 404, 500, 999]),
    st.sampled_from(["", " ", " OK", "  Not  Found ", " \xe9"]),
    st.lists(st.tuples(NAMES, VALUES), max_size=6),
)


@given(HEADS, st.sampled_from(["GET", "HEAD"]), st.binary(max_size=40))
def test_a_usual_head_is_read_as_by_http_client(head: bytes, method: str, body: bytes) -> None:
    theirs = http.client.HTTPResponse(Sock(head + body), method=method)  # type: ignore[arg-type]
    theirs.begin()
    try:
        response = ours(head + body, method)
    except Malformed:
        said = theirs.headers.get_all("content-length", [])
        assert len({length.strip() for each in said for length in each.split(",")}) > 1
        return
    assert response.behind == len(body) or head.lower().count(b"content-length") > 1 or b"," in head
    assert state(response) == state(theirs)


@pytest.mark.parametrize("end", [b"\r\n", b"X: y\r\n\r\n"])
def test_no_parser_of_mails_is_asked_about_a_usual_head(monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    monkeypatch.setattr(http.client, "parse_headers", None)
    assert ours(USUAL[:-2] + end).length == 4096


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: a\n\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 95 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
    ],
)
def test_any_other_head_is_read_line_by_line(head: bytes) -> None:
    response = ours(head)
    assert (response.status, response.behind) == (200, None)


def test_too_many_fields_are_too_many() -> None:
    with pytest.raises(http.client.HTTPException, match="100 headers"):
        ours(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100 + b"\r\n")
