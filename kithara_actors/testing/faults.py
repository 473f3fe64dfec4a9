"""How the test origin answers one request, well or badly: the scripted faults, and the plan of an answer.

Nothing here touches a socket: a request, a resource and a fault go in, an `Answer` comes out.
"""

from __future__ import annotations

import enum
import gzip
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from kithara_actors.testing.origin_body import Resource

__all__ = ["LOGIN_PAGE", "Answer", "Ending", "Fault", "Request", "parse_range", "parse_request", "plan"]

LOGIN_PAGE: Final = b"<!doctype html>\n<title>Log in</title>\n<form method=post><input name=user></form>\n"
"""The body of a `Fault` with `html`."""

_RANGE: Final = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fault:
    """Misbehaviour in the answer to one request. Fields combine; one left at its default changes nothing.

    What the answer is: `raw`, else `status`, else `redirect`, else `html`, else the resource or the `entity`.
    How it ends: of `cut_after`, `reset_after`, `stall_after` and `short_by` the earliest takes effect, at the
    end of the body at the latest. Positions count body bytes as sent, so compressed ones with `encoding`.
    Raises ValueError for negative numbers.
    """

    status: int | None = None
    """Answer with this status and a short text."""
    headers: Mapping[str, str | None] = field(default_factory=dict)
    """Put into the answer in place of equally named ones; with None taken out of it. A Content-Length that is
    taken out or wrong makes the origin close the connection behind the body."""
    cut_after: int | None = None
    """Close the connection after so many body bytes, without ending the answer."""
    reset_after: int | None = None
    """Reset the connection (RST) after so many body bytes, once the peer's kernel has them all or has not
    taken them for a second."""
    stall_after: int | None = None
    """Send so many body bytes, then nothing, on a connection left open until the client or the origin
    closes."""
    stall_headers: bool = False
    """Never answer at all."""
    delay: float | None = None
    """Seconds before the header, instead of the resource's."""
    short_by: int = 0
    """Send so many bytes less than announced, then close. Nothing to a HEAD."""
    wrong_range: tuple[int, int, int | None] | None = None
    """Answer 206 with this first byte, last byte and total (None: ``*``), whatever was asked. The body is
    what the Content-Range says it is."""
    no_content_range: bool = False
    """Answer 206 without Content-Range; the body is the range asked for, else the whole."""
    unsolicited_206: bool = False
    """Answer 206, with the whole body if no range was asked for."""
    redirect: str | None = None
    """Answer `redirect_status` with this Location."""
    redirect_status: int = 302
    chunked: bool = False
    """Transfer-Encoding: chunked, without Content-Length."""
    no_length: bool = False
    """No Content-Length: the end of the connection ends the body."""
    encoding: str | None = None
    """The Content-Encoding. The body is really compressed for "gzip", for others it is only labelled."""
    html: bool = False
    """Answer 200 with a login page (`LOGIN_PAGE`)."""
    entity: Resource | None = None
    """This answer comes from another representation, whose own script is not looked at."""
    raw: bytes | None = None
    """Write exactly these bytes, then close."""
    hold: threading.Event | None = None
    """Wait for this gate before the answer (and then `delay`)."""
    hold_after: int | None = None
    """Send so many body bytes first: the answer begins at once, and waits for `hold` there."""
    extra: bytes = b""
    """Bytes behind the declared body, if that was sent to its end."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for number in (
            self.cut_after,
            self.reset_after,
            self.stall_after,
            self.delay,
            self.short_by,
            self.hold_after,
        ):
            if number is not None and number < 0:
                raise ValueError(f"a fault has no negative numbers: {number}")
        if self.hold_after is not None and self.hold is None:
            raise ValueError("hold_after needs a gate to hold at")


@dataclass(frozen=True, slots=True)
class Request:
    """One parsed request header. `target` and `path` are as they came, percent-encoding and all."""

    method: str
    target: str
    path: str
    headers: dict[str, str]
    range: tuple[int, int | None] | None
    keep_alive: bool


class Ending(enum.Enum):
    """What becomes of the connection behind the last byte of an answer."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    STALL = "stall"


@dataclass(frozen=True, slots=True)
class Answer:
    """All that is to be done for one request."""

    status: int | None
    head: bytes
    view: Callable[[int, int], memoryview]
    """Gives the next bytes of the body from a position, not past another, at least one."""
    first: int
    """The position in `view` of the first body byte."""
    count: int
    """Body bytes to send, fewer than announced where a fault wants it."""
    chunked: bool
    tail: bytes
    """What ends the answer behind the body: the last chunk, extra bytes."""
    ending: Ending
    rate: float | None
    delay: float
    hold: threading.Event | None
    hold_after: int | None
    """Body bytes after which `hold` is waited for; None: before the header."""
    silent: bool


def parse_request(head: bytes) -> Request:
    """The request whose header is `head`, without the empty line. Raises ValueError if it is none."""
    line, *fields = head.decode("latin-1").split("\r\n")
    method, target, version = line.split(" ")
    if not method or not target.startswith("/") or version not in ("HTTP/1.0", "HTTP/1.1"):
        raise ValueError(f"not a request line: {line!r}")
    headers: dict[str, str] = {}
    for each in fields:
        name, colon, value = each.partition(":")
        if not colon or not name or name != name.strip():
            raise ValueError(f"not a header field: {each!r}")
        key, value = name.lower(), value.strip()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    # A request with a body is answered, but its body is not read: nothing can follow it.
    bare = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    keep = version == "HTTP/1.1" and bare and "close" not in headers.get("connection", "").lower()
    path = target.partition("?")[0]
    return Request(method, target, path, headers, parse_range(headers.get("range")), keep)


def parse_range(value: str | None) -> tuple[int, int | None] | None:
    """The single byte range of a Range header: (first, last or None), for the last `n` bytes (-n, None).

    None for no header, several ranges, other units and what is malformed: all of these are to be ignored.
    """
    match = _RANGE.fullmatch(value or "")
    if match is None or match[0].rstrip().endswith("=-"):
        return None
    first, last = match.groups()
    if not first:
        # "-0" is a valid range that nothing satisfies; (0, -1) says so without being the whole body.
        return (-int(last), None) if int(last) else (0, -1)
    if last and int(last) < int(first):
        return None
    return int(first), int(last) if last else None


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


@dataclass(frozen=True, slots=True)
class _Message:
    """An answer before its framing."""

    status: int
    headers: dict[str, str]
    view: Callable[[int, int], memoryview]
    first: int
    count: int
    source: Resource | None = None


def _bytes_message(status: int, data: bytes, headers: Mapping[str, str]) -> _Message:
    view = memoryview(data)
    return _Message(status, dict(headers), lambda start, end: view[start:end], 0, len(data))


def _text(status: int, headers: Mapping[str, str] | None = None) -> _Message:
    data = f"{status} {_reason(status)}\n".encode()
    return _bytes_message(status, data, {"Content-Type": "text/plain", **(headers or {})})


def _if_range_fails(request: Request, entity: Resource) -> bool:
    condition = request.headers.get("if-range")
    if condition is None:
        return False
    if condition.startswith(('"', "W/")):
        return condition.startswith("W/") or condition != entity.etag
    return condition != entity.last_modified


def _representation(request: Request, entity: Resource, fault: Fault) -> _Message:
    headers = {"Content-Type": entity.content_type}
    if entity.ranges:
        headers["Accept-Ranges"] = "bytes"
    if entity.etag is not None:
        headers["ETag"] = entity.etag
    if entity.last_modified is not None:
        headers["Last-Modified"] = entity.last_modified
    status, first, last, total = 200, 0, entity.size - 1, str(entity.size)
    asked = request.range if request.method == "GET" and entity.ranges else None
    if asked is not None and not _if_range_fails(request, entity):
        status, (first, end) = 206, asked
        if first < 0:
            first, end = max(0, entity.size + first), None
        last = entity.size - 1 if end is None else min(end, entity.size - 1)
        if last < first and fault.wrong_range is None:
            return _text(416, {**headers, "Content-Type": "text/plain", "Content-Range": f"bytes */{total}"})
    if fault.wrong_range is not None:
        status, (first, last) = 206, fault.wrong_range[:2]
        total = "*" if fault.wrong_range[2] is None else str(fault.wrong_range[2])
    if fault.unsolicited_206 or fault.no_content_range:
        status = 206
    if status == 206 and not fault.no_content_range:
        headers["Content-Range"] = f"bytes {first}-{last}/{total}"
    _change(headers, entity.headers)
    return _Message(status, headers, entity.view, first, max(0, last - first + 1), entity)


def _message(request: Request, resource: Resource | None, fault: Fault) -> _Message:
    if request.method not in ("GET", "HEAD"):
        return _text(405, {"Allow": "GET, HEAD"})
    if resource is None:
        return _text(404)
    if fault.status is not None:
        return _text(fault.status)
    if fault.redirect is not None:
        return _text(fault.redirect_status, {"Location": fault.redirect})
    if fault.html:
        return _bytes_message(200, LOGIN_PAGE, {"Content-Type": "text/html; charset=utf-8"})
    entity = fault.entity or resource
    if entity.range_status is not None and not entity.ranges and "range" in request.headers:
        return _text(entity.range_status)
    return _representation(request, entity, fault)


def _zipped(message: _Message) -> _Message:
    pieces, position, end = [], message.first, message.first + message.count
    while position < end:
        pieces.append(message.view(position, end))
        position += len(pieces[-1])
    data = gzip.compress(b"".join(pieces), compresslevel=1, mtime=0)
    zipped = _bytes_message(message.status, data, message.headers)
    return _Message(zipped.status, zipped.headers, zipped.view, 0, zipped.count, message.source)


def _change(headers: dict[str, str], changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        for old in [old for old in headers if old.lower() == name.lower()]:
            del headers[old]
        if value is not None:
            headers[name] = value


def _stop(fault: Fault, count: int, *, head: bool) -> tuple[int, Ending] | None:
    """After how many body bytes a fault ends the answer, and how; None where none does."""
    stops = [
        (min(after, count), ending)
        for after, ending in (
            (fault.reset_after, Ending.RESET),
            (fault.stall_after, Ending.STALL),
            (fault.cut_after, Ending.CLOSE),
        )
        if after is not None
    ]
    if fault.short_by and not head:
        stops.append((max(0, count - fault.short_by), Ending.CLOSE))
    return min(stops, key=lambda stop: stop[0], default=None)


def plan(request: Request, resource: Resource | None, fault: Fault | None) -> Answer:
    """What to answer to `request`, which found `resource` (None: nothing there) and met `fault`."""
    fault = fault or Fault()
    source = fault.entity or resource
    delay = fault.delay if fault.delay is not None else (source.delay if source is not None else 0.0)
    if fault.raw is not None:
        message, head, chunked, keep = _bytes_message(0, fault.raw, {}), b"", False, False
        bodiless = False
    else:
        message = _message(request, resource, fault)
        if fault.encoding is not None:
            message.headers["Content-Encoding"] = fault.encoding
            message = _zipped(message) if fault.encoding == "gzip" else message
        empty = message.status < 200 or message.status in (204, 304)
        bodiless = empty or request.method == "HEAD"
        chunked = fault.chunked or (message.source is not None and message.source.chunked)
        head, keep = _head(request, message, fault, chunked=chunked, empty=empty, bodiless=bodiless)
    count = 0 if bodiless else message.count
    stop = _stop(fault, count, head=bodiless)
    tail = b""
    if stop is not None:
        count, ending = stop
    else:
        ending = Ending.KEEP if keep else Ending.CLOSE
        if not bodiless:
            tail = (b"0\r\n\r\n" if chunked else b"") + fault.extra
    return Answer(
        status=message.status or None,
        head=head,
        view=message.view,
        first=message.first,
        count=count,
        chunked=chunked,
        tail=tail,
        ending=ending,
        rate=message.source.rate if message.source is not None else None,
        delay=delay,
        hold=fault.hold,
        hold_after=fault.hold_after,
        silent=fault.stall_headers,
    )


def _head(
    request: Request, message: _Message, fault: Fault, *, chunked: bool, empty: bool, bodiless: bool
) -> tuple[bytes, bool]:
    """The bytes of the header, and whether another request can follow on the connection."""
    endless = fault.no_length or (message.source is not None and not message.source.length)
    headers = {"Date": formatdate(usegmt=True), **message.headers}
    if empty:
        pass
    elif chunked:
        headers["Transfer-Encoding"] = "chunked"
    elif not endless:
        headers["Content-Length"] = str(message.count)
    if not request.keep_alive or (endless and not chunked and not empty):
        headers["Connection"] = "close"
    _change(headers, fault.headers)
    lower = {name.lower(): value for name, value in headers.items()}
    # A header a fault has bent no longer says where the body ends: only closing the connection can.
    told = bodiless or (
        lower.get("transfer-encoding") == "chunked" if chunked else lower.get("content-length") == str(message.count)
    )
    keep = told and request.keep_alive and "close" not in lower.get("connection", "").lower()
    lines = [f"HTTP/1.1 {message.status} {_reason(message.status)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), keep
