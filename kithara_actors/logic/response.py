"""Sans-I/O validation of HTTP answers (docs/http.md): nothing is read from a body before `check`
accepted it.

Sources: RFC 9110 (HTTP semantics), sections 8.6 Content-Length, 8.8 validators, 13.1.5 If-Range, 14 range
requests, 10.2.3 Retry-After, 15.4 redirection; RFC 9112 section 6.3 (message body length).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_tz
from http import HTTPStatus
from urllib.parse import quote, urljoin

from kithara_actors.errors import InvalidContentType, PolicyError, ProtocolError, ResourceChanged, StatusError
from kithara_actors.logic.naming import HARMLESS_HEADERS, canonical_url, origin_of
from kithara_actors.values import Validator

__all__ = [
    "MAX_REDIRECTS",
    "Accepted",
    "Asked",
    "Reask",
    "check",
    "http_date",
    "range_header",
    "redirect",
    "request_headers",
    "strong_validator",
]

MAX_REDIRECTS = 10
"""Redirects followed in one attempt; the caller counts."""

_MAX_LENGTH = 2**63 - 1
"""The largest length or position in bytes: what a file offset can hold."""

# RFC 9111 section 1.2.2: a larger delta is taken as this many seconds, about 68 years.
_MAX_DELTA = 2.0**31

_RANGE_REFUSED = frozenset({400, 405, 406, 416, 501})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT_4XX = frozenset({408, 429})
_HTML = frozenset({"text/html", "application/xhtml+xml"})

_READ = frozenset(
    {
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "date",
        "etag",
        "last-modified",
        "retry-after",
        "transfer-encoding",
    }
)

_CONTENT_RANGE = re.compile(r"bytes[ \t]+([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})", re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes[ \t]+\*/([0-9]{1,19})", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,19}")
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
_PRINTABLE = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class Asked:
    """What one request asks of a representation; positions in bytes.

    The interval is half-open and `end` None is open-ended. `ranged` says whether a Range header is sent.
    `total` and `validator` are pinned by an earlier answer, None while nothing is. `identity` False allows
    a content coding, for a whole body that is not addressed by bytes; it has no effect on a ranged request.
    """

    start: int
    end: int | None
    ranged: bool = True
    total: int | None = None
    validator: Validator | None = None
    refuse_html: bool = True
    identity: bool = True


@dataclass(frozen=True, slots=True)
class Accepted:
    """An answer whose body may be read: the bytes `start..end` of the representation.

    `partial` False is a full body that begins at 0. `end` None means that only the end of the transfer
    tells where the body ends. `total` is None when the answer does not tell it; `length_certain` is True
    when it does, by a validated Content-Length or Content-Range. `content_type` is the field value as sent.
    """

    partial: bool
    start: int
    end: int | None
    total: int | None
    validator: Validator
    content_type: str | None
    length_certain: bool


@dataclass(frozen=True, slots=True)
class Reask:
    """The server refused the Range of a first request: ask once more without it, in the same attempt."""

    status: int


def range_header(start: int, end: int | None) -> str:
    """The Range value for the half-open `start..end`, `end` None for open-ended: `bytes=0-`, `bytes=10-10`.

    ValueError for a negative start and for an empty or reversed interval, which no Range can say.
    """
    if start < 0:
        raise ValueError(f"a range cannot start at {start}")
    if end is None:
        return f"bytes={start}-"
    if end <= start:
        raise ValueError(f"the range {start}..{end} is empty or reversed")
    return f"bytes={start}-{end - 1}"


def request_headers(asked: Asked, caller: Mapping[str, str] | None = None) -> dict[str, str]:
    """The headers of the request for `asked`; those of `caller` are kept where this library sets none itself.

    A range is asked for even without a validator: the answer is then pinned by its total alone. ValueError as for
    `range_header`.
    """
    own: dict[str, str] = {}
    if asked.identity or asked.ranged:
        own["Accept-Encoding"] = "identity"
    if asked.ranged:
        own["Range"] = range_header(asked.start, asked.end)
        condition = None if asked.validator is None else strong_validator(asked.validator)
        if condition is not None:
            own["If-Range"] = condition
    # A caller's Range or If-Range, in whatever case, would ask for bytes that nobody expects.
    ours = {name.lower() for name in own} | {"range", "if-range"}
    kept = {name: value for name, value in (caller or {}).items() if name.lower() not in ours}
    return kept | own


def strong_validator(validator: Validator) -> str | None:
    """What may be sent in If-Range, or None.

    A strong ETag; else Last-Modified, when there is no ETag at all (RFC 9110 section 13.1.5 forbids a date
    beside any entity tag, a weak one too) and the Date of its answer is at least one second later, which is
    what makes it strong (section 8.8.2.2; RFC 7232 still asked for 60).
    """
    if validator.etag is not None:
        return validator.etag if _STRONG_ETAG.fullmatch(validator.etag) else None
    if validator.last_modified is None or validator.date is None:
        return None
    if _PRINTABLE.fullmatch(validator.last_modified) is None:
        return None
    modified, answered = http_date(validator.last_modified), http_date(validator.date)
    if modified is None or answered is None or answered - modified < timedelta(seconds=1):
        return None
    return validator.last_modified


def http_date(value: str) -> datetime | None:
    """An HTTP-date in any of its three forms (RFC 9110 section 5.6.7), aware, or None if it is none."""
    try:
        parsed = parsedate_tz(value)
        if parsed is None:
            return None
        year, month, day, hour, minute, second = parsed[:6]
        # Second 60 is a leap second; datetime has none.
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
        return moment - timedelta(seconds=parsed[9] or 0)
    except (ValueError, OverflowError, TypeError, IndexError, AttributeError):
        # email.utils promises None but has raised each of these on malformed dates.
        return None


def check(asked: Asked, status: int, headers: Mapping[str, str]) -> Accepted | Reask:
    """Accept the answer to `asked`, or raise; decides before a byte of the body is read.

    Redirects go to `redirect` first. Header names in any case; a repeated name is joined as RFC 9110
    section 5.3 says. Raises StatusError (`retryable` for 408, 429 and 5xx), ProtocolError,
    InvalidContentType or ResourceChanged, none of which names the URL.
    """
    fields = _fold(headers)
    _check_status(asked, status, fields)
    if _refused_range(asked, status):
        return Reask(status)
    if status not in (200, 206):
        raise _status_error(status, fields)

    content_type = fields.get("content-type")
    kinds = _media_types(content_type)
    if asked.refuse_html and kinds & _HTML:
        raise InvalidContentType("the server sent an HTML page instead of media (a login or error page?)")
    if status == 206 and not asked.ranged:
        raise ProtocolError("the server sent 206 Partial Content to a request without Range")
    if "multipart/byteranges" in kinds:
        raise ProtocolError("the server sent multipart/byteranges to a request for one range")
    coded = _coded(asked, fields)
    length = _content_length(fields)

    validator = Validator(fields.get("etag"), fields.get("last-modified"), fields.get("date"))
    if status == 206:
        start, end, total = _interval(asked, fields.get("content-range"), length)
        accepted = Accepted(True, start, end, total, validator, content_type, True)
    else:
        # RFC 9112 section 6.3: Transfer-Encoding overrides Content-Length; a coded body's length is not ours.
        known = None if coded or "transfer-encoding" in fields else length
        accepted = Accepted(False, 0, known, known, validator, content_type, known is not None)
    _check_pins(asked, accepted)
    return accepted


def redirect(
    url: str, status: int, location: str | None, *, allow_downgrade: bool, headers: Mapping[str, str]
) -> tuple[str, dict[str, str]] | None:
    """Where a redirect answer leads: the next absolute URL and the caller headers to send there.

    None when `status` is no redirect. The URL is canonical (no fragment, no userinfo: RFC 9110 section
    4.2.4 warns of userinfo from others). On another origin (scheme, host, port) only `HARMLESS_HEADERS` are
    kept, so give the returned headers to the next hop: what was dropped does not come back.

    ProtocolError for a missing or unusable Location, PolicyError for https to http without `allow_downgrade`.
    """
    if status not in _REDIRECTS:
        return None
    target = (location or "").strip(" \t")
    if not target:
        raise ProtocolError(f"the server sent {_named(status)} without a Location")
    if re.search(r"[\x00-\x1f\x7f]", target):
        raise ProtocolError(f"the server sent {_named(status)} with a control character in its Location")
    target = _escaped(target)
    try:
        # urljoin loses an empty query, so an absolute URL does not pass through it.
        absolute = target if re.match(r"https?://", target, re.IGNORECASE) else urljoin(url, target)
        following = canonical_url(absolute)
        same = origin_of(following) == origin_of(url)
    except ValueError:
        raise ProtocolError(f"the server sent {_named(status)} with a Location that is no http(s) URL") from None
    downgrade = url[:6].lower() == "https:" and following.startswith("http:")
    if downgrade and not allow_downgrade:
        raise PolicyError("the server redirects from https to http: set allow_downgrade to permit it")
    kept = {name: value for name, value in headers.items() if same or name.lower() in HARMLESS_HEADERS}
    return following, kept


def _escaped(target: str) -> str:
    # Header bytes arrive decoded as Latin-1: encoding back gives the UTF-8 that servers really send.
    try:
        raw = target.encode("latin-1")
    except UnicodeEncodeError:
        raw = target.encode("utf-8", "replace")
    printable = "".join(map(chr, range(0x21, 0x7F)))
    return quote(raw, safe=printable)


def _fold(headers: Mapping[str, str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        if key not in _READ:
            continue
        text = value.strip(" \t")
        before = fields.get(key)
        # The same line sent twice says nothing new; two different ones must not hide each other.
        fields[key] = text if before is None or before == text else f"{before}, {text}"
    return fields


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _check_status(asked: Asked, status: int, fields: Mapping[str, str]) -> None:
    if status == 304:
        raise ProtocolError("the server sent 304 Not Modified to a request that is not conditional")
    if not 200 <= status < 600 or (status < 300 and status not in (200, 206)):
        raise ProtocolError(f"the server sent {_named(status)} where 200 or 206 was due")
    if status == 416 and asked.total is not None:
        match = _UNSATISFIED.fullmatch(fields.get("content-range", ""))
        if match is not None and int(match[1]) != asked.total:
            # Not a fault of the request: the file shrank, and there was no validator for If-Range to notice
            # it.
            raise ResourceChanged(f"the total was {asked.total} bytes and is now {int(match[1])}")


def _refused_range(asked: Asked, status: int) -> bool:
    # A retry that has nothing yet counts as first: an empty file whose chunked answer was cut has no range either.
    first = asked.start == 0 and asked.total is None
    return asked.ranged and first and status in _RANGE_REFUSED


def _status_error(status: int, fields: Mapping[str, str]) -> StatusError:
    return StatusError(
        f"the server answered {_named(status)}",
        retryable=status >= 500 or status in _TRANSIENT_4XX,
        status=status,
        retry_after=_retry_after(fields),
    )


def _retry_after(fields: Mapping[str, str]) -> float | None:
    """Seconds from the answer on; a date counts from the answer's own Date, as the clocks may differ."""
    value = fields.get("retry-after")
    if value is None:
        return None
    if re.fullmatch(r"[0-9]+", value):
        return min(float(value), _MAX_DELTA)
    until, now = http_date(value), http_date(fields.get("date", ""))
    if until is None or now is None:
        return None
    return min(max((until - now).total_seconds(), 0.0), _MAX_DELTA)


def _media_types(content_type: str | None) -> frozenset[str]:
    # A comma is not allowed here; it appears where the field came twice.
    before = (content_type or "").partition(";")[0]
    return frozenset(part.strip(" \t").lower() for part in before.split(","))


def _list(value: str) -> set[str]:
    return {part.strip(" \t").lower() for part in value.split(",")} - {""}


def _coded(asked: Asked, fields: Mapping[str, str]) -> bool:
    if _list(fields.get("transfer-encoding", "")) - {"chunked", "identity"}:
        # Never asked for (no TE is sent), and the HTTP client would hand the coded bytes on.
        raise ProtocolError("the server sent a body with a Transfer-Encoding other than chunked")
    coded = bool(_list(fields.get("content-encoding", "")) - {"identity"})
    if coded and (asked.identity or asked.ranged):
        raise ProtocolError("the server sent an encoded body (Content-Encoding) although identity was asked for")
    return coded


def _content_length(fields: Mapping[str, str]) -> int | None:
    value = fields.get("content-length")
    if value is None:
        return None
    # RFC 9110 section 8.6: a repeated identical value may be taken as one.
    lengths = {part.strip(" \t") for part in value.split(",")}
    if not all(_NUMBER.fullmatch(part) for part in lengths):
        raise ProtocolError("the Content-Length is not a number of bytes")
    numbers = {int(part) for part in lengths}
    if len(numbers) != 1:
        raise ProtocolError("the answer has two different values of Content-Length")
    length = numbers.pop()
    if length > _MAX_LENGTH:
        raise ProtocolError("the Content-Length is larger than any file")
    return length


def _interval(asked: Asked, value: str | None, length: int | None) -> tuple[int, int, int]:
    if value is None:
        raise ProtocolError("the server sent 206 Partial Content without a Content-Range")
    match = _CONTENT_RANGE.fullmatch(value)
    if match is None:
        raise ProtocolError("the Content-Range is not 'bytes first-last/total' with a known total")
    first, last, total = int(match[1]), int(match[2]), int(match[3])
    said = f"Content-Range {first}-{last}/{total}"
    if first != asked.start:
        raise ProtocolError(f"{said} does not begin at {asked.start}, which was asked for")
    if last < first or total <= last or total > _MAX_LENGTH:
        raise ProtocolError(f"{said} contradicts itself")
    if asked.end is not None and last >= asked.end:
        raise ProtocolError(f"{said} goes past {asked.end - 1}, the last byte asked for")
    if length is not None and length != last - first + 1:
        raise ProtocolError(f"{said} spans {last - first + 1} bytes but Content-Length is {length}")
    return first, last + 1, total


def _check_pins(asked: Asked, accepted: Accepted) -> None:
    if asked.total is not None and accepted.total is not None and accepted.total != asked.total:
        raise ResourceChanged(f"the total was {asked.total} bytes and is now {accepted.total}")
    pinned = asked.validator
    if pinned is None:
        return
    # Opaque strings: W/"a" and "a" may name different bytes, and joining those is what this check is for.
    for name, before, now in (
        ("ETag", pinned.etag, accepted.validator.etag),
        ("Last-Modified", pinned.last_modified, accepted.validator.last_modified),
    ):
        if before is not None and now is not None and before != now:
            raise ResourceChanged(f"the {name} of the resource is no longer the one it had")
    if not accepted.partial and _lost(pinned, accepted.validator):
        # The condition of If-Range failed, or the server has no ranges and would have named the validator again
        # (RFC 9110 section 13.1.5).
        raise ResourceChanged("the answer is the whole resource without the validator that it had")


def _lost(pinned: Validator, now: Validator) -> bool:
    """Whether the strong validator that was pinned is missing from the answer."""
    condition = strong_validator(pinned)
    return condition is not None and condition not in (now.etag, now.last_modified)
