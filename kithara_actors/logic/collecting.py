"""One-off requests: what is sent for one, and which answers it accepts besides those that a source does. Sans-IO.

What a range is answered with is held to the rules of `kithara_actors.logic.response`; without one, every answer of
success is a whole body (RFC 9110 section 15.3), which may come in a content coding.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from kithara_actors.errors import BodyTooLarge, ProtocolError
from kithara_actors.logic.coding import CODINGS
from kithara_actors.logic.response import Accepted, Asked, Reask, check, request_headers
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import Validator

__all__ = [
    "HEAD_LIMIT",
    "asked_of",
    "check_collected",
    "check_head_size",
    "coding_of",
    "collected_headers",
    "fields_of",
    "too_large",
]

HEAD_LIMIT = 48 * 1024
"""Bytes that the header fields and the final URL of an answer may have together, so that they fit one message."""

_FOLD = re.compile(r"[ \t]*\r?\n[ \t]*")
_CONDITIONS = frozenset({"if-none-match", "if-modified-since"})


def asked_of(spec: FetchSpec) -> Asked:
    """What a request that is collected asks for: nothing is ever pinned, and only a range rules out a coding."""
    assert spec.collection is not None
    return Asked(spec.start, spec.end, spec.ranged, refuse_html=spec.collection.refuse_html, identity=spec.ranged)


def collected_headers(asked: Asked, method: str, caller: Mapping[str, str]) -> dict[str, str]:
    """The headers of the request; see `request_headers`.

    A whole body is asked for in the codings that can be undone, unless the caller wants it as it is. HEAD asks as
    the caller says: a length is told of the body as it is.
    """
    sent = request_headers(asked, caller)
    if asked.identity or asked.ranged:
        return sent
    said = next((value for name, value in sent.items() if name.lower() == "accept-encoding"), None)
    if method == "HEAD":
        wanted = "identity" if said is None else said
    else:
        wanted = "identity" if said is not None and said.lower() == "identity" else "gzip, deflate"
    kept = {name: value for name, value in sent.items() if name.lower() != "accept-encoding"}
    return kept | {"Accept-Encoding": wanted}


def check_collected(
    asked: Asked, method: str, sent: Mapping[str, str], status: int, headers: Mapping[str, str]
) -> Accepted | Reask:
    """Accept the answer to a request with the headers `sent`, or raise; see `check`.

    304 is accepted where `sent` has a condition. HEAD has no body, whatever its answer says of one.
    """
    if status == 304 and any(name.lower() in _CONDITIONS for name in sent):
        return Accepted(False, 0, 0, None, Validator(), _field(headers, "content-type"), False)
    bodiless = status == 204 or method == "HEAD"
    if bodiless:
        left_out = {"content-encoding"} | ({"content-length"} if status == 204 else set())
        headers = {name: value for name, value in headers.items() if name.lower() not in left_out}
    elif (_field(sent, "accept-encoding") or "").lower() == "identity":
        asked = replace(asked, identity=True)
    success = 200 <= status < 300 and status != 206
    answer = check(asked, 200 if success and not asked.ranged else status, headers)
    if isinstance(answer, Accepted) and status == 204:
        return replace(answer, end=0)
    return answer


def coding_of(headers: Iterable[tuple[str, str]]) -> str | None:
    """The coding to undo, a value of `CODINGS`, or None. ProtocolError for several and for one not asked for."""
    named = [
        part.strip(" \t").lower()
        for name, value in headers
        if name.lower() == "content-encoding"
        for part in value.split(",")
    ]
    codings = [coding for coding in named if coding not in ("", "identity")]
    if not codings:
        return None
    known = CODINGS.get(codings[0])
    if known is None or len(codings) > 1:
        said = ", ".join(codings)
        raise ProtocolError(f"the server sent a Content-Encoding that was not asked for: {said!r:.60}")
    return known


def fields_of(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The header fields for the caller, each on one line (RFC 9112 section 5.2)."""
    return tuple((name, _FOLD.sub(" ", value) if "\n" in value else value) for name, value in headers)


def check_head_size(url: str, headers: Iterable[tuple[str, str]]) -> None:
    """ProtocolError if the answer's head cannot be passed on."""
    size = len("".join((url, *itertools.chain.from_iterable(headers))).encode("utf-8", "replace"))
    if size > HEAD_LIMIT:
        raise ProtocolError(f"the headers of the answer and its URL have {size} bytes: at most {HEAD_LIMIT} are taken")


def too_large(limit: int) -> BodyTooLarge:
    """The error for a body of more than `limit` bytes."""
    return BodyTooLarge(
        f"the body is larger than execute_limit, {limit} bytes: raise that setting, ask for a range, or open a stream"
    )


def _field(headers: Mapping[str, str], wanted: str) -> str | None:
    return next((value for name, value in headers.items() if name.lower() == wanted), None)
