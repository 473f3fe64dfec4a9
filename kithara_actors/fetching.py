"""What `ActorSystem.execute` is given and what it returns. Values: immutable, and they pickle."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self

from kithara_actors.logic.naming import check_headers, redact, split_userinfo
from kithara_actors.values import RequestId

__all__ = ["FetchCommand", "FetchResult", "Headers"]

_LAST = 2**63 - 2
"""The last position that a file can have."""

_OURS = {
    "range": "give range=(first, last) instead",
    "if-range": "a one-off request has nothing to compare",
}
_METHODS = ("GET", "HEAD")
_SECRET = re.compile(r"auth|cookie|key|secret|session|signature|token", re.IGNORECASE)
_CHARSET = re.compile(r";[ \t]*charset[ \t]*=[ \t]*(?:\"([^\"]*)\"|([^\s;\"]+))", re.IGNORECASE)


class Headers(Mapping[str, str]):
    """Header fields in the order they came; names do not depend on case. Immutable.

    A name that came several times has its values joined by ", ", as RFC 9110 section 5.3 allows; `get_all` has
    them apart, which Set-Cookie needs.
    """

    __slots__ = ("_fields", "_index")

    def __init__(self, fields: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        pairs = fields.items() if isinstance(fields, Mapping) else fields
        self._fields = tuple([(str(name), str(value)) for name, value in pairs])
        self._index: dict[str, tuple[str, list[str]]] | None = None

    @property
    def _by_name(self) -> dict[str, tuple[str, list[str]]]:
        """Made when somebody looks: of most answers nobody does. Whoever is second at the same time makes an equal."""
        if self._index is None:
            index: dict[str, tuple[str, list[str]]] = {}
            for name, value in self._fields:
                index.setdefault(name.lower(), (name, []))[1].append(value)
            self._index = index
        return self._index

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._by_name[name.lower()][1])

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._by_name

    def get_all(self, name: str) -> tuple[str, ...]:
        """Every value that came under `name`, in order; empty if none did."""
        found = self._by_name.get(name.lower())
        return () if found is None else tuple(found[1])

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """Every field as it came, repeated names too."""
        return self._fields

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        theirs = other if isinstance(other, Headers) else Headers(other)
        return self._joined() == theirs._joined()

    def __hash__(self) -> int:
        return hash(frozenset(self._joined().items()))

    def _joined(self) -> dict[str, str]:
        return {name: ", ".join(values) for name, (_, values) in self._by_name.items()}

    def __reduce__(self) -> tuple[type[Headers], tuple[tuple[tuple[str, str], ...]]]:
        return Headers, (self._fields,)

    def __repr__(self) -> str:
        """Credentials are hidden."""
        shown = {name: "…" if _is_secret(name) else value for name, value in self.items()}
        return f"Headers({shown!r})"


_NO_HEADERS = Headers()


@dataclass(frozen=True, slots=True, repr=False)
class FetchCommand:
    """One request for `ActorSystem.execute`; made by `get` and `head`.

    ValueError or TypeError for what cannot be asked, where it is made.
    """

    method: str
    url: str
    range: tuple[int, int | None] | None = None
    headers: Headers = _NO_HEADERS
    refuse_html: bool = False

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise ValueError(f"method must be GET or HEAD, not {self.method!r:.40}")
        if not isinstance(self.url, str):
            raise TypeError(f"url must be a str, not {type(self.url).__name__}")
        if "://" not in self.url:
            raise ValueError("not a URL: give an http:// or https:// URL")
        split_userinfo(self.url)
        if not isinstance(self.refuse_html, bool):
            raise TypeError(f"refuse_html must be True or False, not {self.refuse_html!r:.40}")
        if self.range is not None:
            _check_range(self.range)
            if self.method == "HEAD":
                raise ValueError("HEAD has no range: it is answered without a body")
        if self.headers is not _NO_HEADERS:
            object.__setattr__(self, "headers", _checked(self.headers))

    @classmethod
    def get(
        cls,
        url: str,
        *,
        range: tuple[int, int | None] | None = None,  # noqa: A002 - what HTTP calls it
        headers: Mapping[str, str] | None = None,
        refuse_html: bool = False,
    ) -> Self:
        """GET `url`, an http(s) URL; userinfo in it becomes an Authorization header.

        `range` is (first, last) in bytes, both included as HTTP has it, `last` None for the end. A server that has
        no ranges sends the whole body; see `FetchResult.partial`. `headers` is a mapping. With `refuse_html` a page
        in the place of what was asked for (a login form, say) is InvalidContentType.
        """
        return cls("GET", url, range, _given(headers), refuse_html)

    @classmethod
    def head(cls, url: str, *, headers: Mapping[str, str] | None = None) -> Self:
        """HEAD `url`: status and headers without the body. See `get`."""
        return cls("HEAD", url, None, _given(headers))

    def __repr__(self) -> str:
        """URL and headers without what may be secret."""
        asked = "" if self.range is None else f", range={self.range}"
        names = f", headers={list(self.headers)}" if self.headers else ""
        return f"<FetchCommand {self.method} {redact(self.url)}{asked}{names}>"


@dataclass(frozen=True, slots=True, repr=False)
class FetchResult:
    """The answer to a `FetchCommand`, of success (2xx), or 304 where the command's headers had a condition.

    `url` is where redirects led to, query included. `body` has no content coding any more (`headers` still name the
    one that it had); after HEAD it is empty. `partial` says that it is the range that was asked for, which may end
    early at the end of the file, and not the whole. `total` is the length of the whole in bytes, None where the
    server does not tell. `elapsed` is the time from `execute` on, in seconds, with queueing and retries.
    `request_id` names the request in events.
    """

    status: int
    url: str
    headers: Headers
    body: bytes
    partial: bool
    total: int | None
    elapsed: float
    request_id: RequestId

    @property
    def reason(self) -> str:
        """The standard phrase for the status, such as "OK"; empty for a status without one."""
        try:
            return HTTPStatus(self.status).phrase
        except ValueError:
            return ""

    @property
    def content_type(self) -> str | None:
        """The Content-Type as it was sent."""
        return self.headers.get("Content-Type")

    @property
    def encoding(self) -> str:
        """The charset of the Content-Type; UTF-8 where it names none, or none that Python has."""
        match = _CHARSET.search(self.content_type or "")
        name = "utf-8" if match is None else match[1] or match[2] or "utf-8"
        try:
            # Some codecs of Python decode nothing at all, or raise whatever they are told to do instead.
            b"\xff".decode(name, "replace")
            return codecs.lookup(name).name
        except (LookupError, ValueError):
            return "utf-8"

    @property
    def text(self) -> str:
        """The body as text; what is not in `encoding` becomes U+FFFD. Decoded anew at each use."""
        return self.body.decode(self.encoding, "replace")

    def json(self, **options: Any) -> Any:
        """The body as JSON, by `json.loads` with `options`. ValueError if it is none."""
        return json.loads(self.body, **options)

    def __repr__(self) -> str:
        """Without headers, query values and body."""
        return f"<FetchResult {self.status} {redact(self.url)} {len(self.body)} bytes{' (partial)' * self.partial}>"


def _is_secret(name: str) -> bool:
    """Whether a header of this name may hold credentials."""
    return _SECRET.search(name) is not None


def _given(headers: Mapping[str, str] | None) -> Headers:
    return _NO_HEADERS if headers is None else Headers(check_headers(headers))


def _checked(headers: Mapping[str, str]) -> Headers:
    given = check_headers(headers)
    for name in given:
        if (why := _OURS.get(name.lower())) is not None:
            raise ValueError(f"the header {name!r} is not for the caller to set: {why}")
    return Headers(given)


def _check_range(given: object) -> None:
    if not isinstance(given, tuple) or len(given) != 2:
        raise TypeError(f"range must be (first, last), last None for the end, not {given!r:.60}")
    first, last = given
    for name, position in (("first", first), ("last", last)):
        if position is None and name == "last":
            continue
        if isinstance(position, bool) or not isinstance(position, int):
            raise TypeError(f"the {name} byte of a range must be a whole number, not {position!r:.40}")
        if position < 0:
            raise ValueError(f"the {name} byte of a range must not be negative, not {position}")
        if position > _LAST:
            raise ValueError(f"the {name} byte of a range must be below 2**63 - 1, not {position}")
    if last is not None and last < first:
        raise ValueError(f"the range {first}-{last} is reversed: give (first, last), both included")
