"""What an asset is called: URL forms, file extension, checked headers, cache key.

Everything here is known before any I/O, so misuse is a ValueError or TypeError at `open()`. No text of an
error shows a header value, userinfo or a query value: those may be credentials.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from kithara_actors.errors import InvalidKey

__all__ = [
    "HARMLESS_HEADERS",
    "Target",
    "asset_key",
    "canonical_url",
    "check_headers",
    "digested_url",
    "extension",
    "origin_of",
    "redact",
    "redact_briefly",
    "redact_source",
    "redact_text",
    "split_userinfo",
    "target_of",
]

HARMLESS_HEADERS = frozenset({"accept", "accept-language", "user-agent", "referer", "origin"})
"""Lower-case names of the caller headers that are no credentials: they survive a redirect to another origin
and do not tell assets apart."""

_DEFAULT_PORTS = {"http": 80, "https": 443}

# RFC 3986 appendix B. urllib.parse is not used to take URLs apart: it drops an empty query and removes tabs
# and line ends on its own, and two readers that disagree on a URL are how a credential reaches the wrong
# host.
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?:#.*)?",
    re.DOTALL,
)
_PREFIX = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
_HOST_AND_PORT = re.compile(r"(?:\[[^]]*\]|[^][:\\?#]+)(?::[0-9]*)?(?:[?#].*)?\Z", re.DOTALL)
_HIDES = re.compile(r"[@%?#]")
"""One of these is in every URL of which something is to be hidden."""
_INNER = re.compile(
    r"((?::|%3a)(?:/|%2f){1,2})(?:(?!%2f)[^/])*(@|%40)|(?<=/)()[^/@]+(?::|%3a)[^/@]*(@|%40)", re.IGNORECASE
)
_PARAMETER = re.compile(r"[A-Za-z0-9_.$:%\[\]~-]{1,40}")
_LIKE_URL = re.compile(r"://|\A(?![./~]).*@|\?[^/]*=|\A[^/?#\s]*\.[^/?#\s]*(?:/[^?#]*)?[?#]", re.DOTALL)
_URL_WITHIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"<>]+")
_QUERY_WITHIN = re.compile(r"\?([^\s\"<>]+)")
_CREDENTIALS_WITHIN = re.compile(r"\b(bearer|basic)\s+([^\s\"',;]+)", re.IGNORECASE)
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\ud800-\udfff]|\s")
# The last three are dots to IDNA (RFC 3490 section 3.1), but not to those who look at the URL to judge it.
_BAD_HOST = re.compile(r'["%<>\\^`{|}\[\]\u3002\uff0e\uff61]')
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKEN_FROM = 16
"""Characters from which on what seems to be a parameter without a value is rather a value without a name."""
_BRIEF = 500
_HOST_LIMIT = 255
"""RFC 1035 section 2.3.4; also keeps what is said of an origin small enough for any message."""
_HOSTS = 256
"""Remembered: many URLs have the same few, and taking one apart costs as much as all the rest of its URL."""
_EXTENSION = re.compile(r"[0-9A-Za-z]{1,16}")

_OF_A_BODY = frozenset({"content-length", "transfer-encoding"})
"""The server would take the next request on the connection, of whatever stream, for the body."""

# The store itself writes files with these endings beside the assets.
_RESERVED_EXTENSIONS = frozenset({"part", "tmp"})


class _Parts(NamedTuple):
    scheme: str
    userinfo: str | None
    host: str
    port: int | None
    target: str

    @property
    def without_userinfo(self) -> str:
        default = self.port is None or self.port == _DEFAULT_PORTS[self.scheme]
        port = "" if default else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.target}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port or _DEFAULT_PORTS[self.scheme]}"

    @property
    def authorization(self) -> str | None:
        """By the Basic scheme, of the userinfo. ValueError for a user name that it cannot carry."""
        if not self.userinfo:
            return None
        user, _, password = self.userinfo.partition(":")
        name = unquote_to_bytes(user)
        if b":" in name:
            raise ValueError("the user name in the URL has a colon: send an Authorization header instead")
        pair = name + b":" + unquote_to_bytes(password)
        return "Basic " + base64.b64encode(pair).decode("ascii")


class Target(NamedTuple):
    """Where a request goes: the URL in canonical form without userinfo, the Authorization value made of the userinfo
    (None without), and the `scheme://host:port` of it."""

    url: str
    authorization: str | None
    origin: str


def _split(url: str) -> _Parts:
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError("not a URL: give an http:// or https:// URL, or the absolute path of an existing file")
    scheme = match["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        raise ValueError(f"the URL scheme {scheme!r} is not served: give an http:// or https:// URL")
    bad = _UNSAFE.search(url)
    if bad is not None:
        raise ValueError(
            f"the URL has a space, a control character or a lone surrogate at position {bad.start()}: percent-encode it"
        )
    if "\\" in match["authority"]:
        # Browsers and urllib3 end the host here, others go on to the '@': no reading of it is safe.
        raise ValueError("the URL has a backslash before its path: percent-encode it")
    # The last '@' ends the userinfo, as in urllib3 and in browsers.
    userinfo, at, hostport = match["authority"].rpartition("@")
    host, port = _host_and_port(hostport)
    # RFC 9110 section 4.2.3: an empty path is the path "/".
    target = (match["path"] or "/") + (match["query"] or "")
    return _Parts(scheme, userinfo if at else None, host, port, target)


@lru_cache(_HOSTS)
def _host_and_port(hostport: str) -> tuple[str, int | None]:
    if hostport.startswith("["):
        host, bracket, rest = hostport.partition("]")
        address, percent, zone = host[1:].partition("%")
        host += bracket
        try:
            ipaddress.IPv6Address(address)
            if not bracket or (percent and not re.fullmatch(r"[0-9A-Za-z._~-]+", zone)):
                raise ValueError(zone)
        except ValueError:
            raise ValueError("the URL has no valid IPv6 address between its brackets: write [::1]") from None
        colon, digits = rest[:1], rest[1:]
        if colon not in ("", ":"):
            raise ValueError("the URL has text between its IPv6 address and its port: remove it")
    else:
        host, _, digits = hostport.partition(":")
        if not host:
            raise ValueError("the URL names no host: write scheme://host/path")
    if not digits:
        port = None
    elif re.fullmatch(r"[0-9]{1,5}", digits) and 0 < int(digits) < 65536:
        port = int(digits)
    else:
        raise ValueError("the URL has a bad port: give a number from 1 to 65535, or put an IPv6 address in brackets")
    if not host.startswith("[") and _BAD_HOST.search(host):
        raise ValueError("the URL has a character in its host that no host name has: correct the host")
    if len(host) > _HOST_LIMIT:
        raise ValueError(f"the URL has a host of {len(host)} characters: no name has more than 253")
    return host.lower(), port


def canonical_url(url: str) -> str:
    """The form under which URLs are compared and digested.

    Scheme and host are lower-cased, a default port, userinfo and fragment dropped; path and query stay byte
    for byte (an empty path becomes "/", RFC 9110 section 4.2.3). A host in another script stays as written.

    ValueError, naming the remedy: a scheme other than http and https, no host, a bad port, white space or
    control characters. The text shows no part of the URL but its scheme.
    """
    return _split(url).without_userinfo


def split_userinfo(url: str) -> tuple[str, str | None]:
    """`url` in canonical form without userinfo, and the Authorization value made of the userinfo.

    The userinfo is percent-decoded and sent by the Basic scheme (RFC 7617); None when there is none.
    ValueError as for `canonical_url`, and for a user name with a colon, which Basic cannot carry.
    """
    parts = _split(url)
    return parts.without_userinfo, parts.authorization


def origin_of(url: str) -> str:
    """`scheme://host:port`, the port always there (RFC 6454 section 4); ValueError as for `canonical_url`."""
    return _split(url).origin


def target_of(url: str) -> Target:
    """`split_userinfo` and `origin_of` in one; ValueError as for these."""
    parts = _split(url)
    return Target(parts.without_userinfo, parts.authorization, parts.origin)


def _dots(_: str) -> str:
    return "…"


def redact(url: str, mark: Callable[[str], str] = _dots) -> str:
    """`url` fit for logs, events and errors: userinfo, query values and fragment hidden. Never raises.

    `https://u:p@h/a?k=v&x#f` becomes `https://…@h/a?k=…&…`; so does the userinfo of a URL within the path. Host,
    path and names of parameters stay. Of what is no URL, more may be hidden. An absolute path is returned as it is.
    `mark` gives what is put in place of a hidden part; a fragment is left out.
    """
    if _HIDES.search(url) is None or (url.startswith("/") and not url.startswith("//")):
        return url
    prefix = _PREFIX.match(url)
    scheme = "" if prefix is None else prefix[0]
    # Up to the first slash even where '?' or '#' would end the authority: an unencoded password may hold
    # them.
    authority, slash, path = url[len(scheme) :].partition("/")
    userinfo, at, host = authority.rpartition("@")
    if "@" in path and not _names_host(scheme, host):
        # No host is named where one is due, so a slash is part of the userinfo.
        before, at, path = path.rpartition("@")
        if re.search(r"[?#]", authority + before):
            return f"{scheme}{mark(url[len(scheme) :])}"
        if not scheme and authority.endswith(":"):
            scheme, authority = f"{authority}/", ""
        userinfo, host, slash = authority + slash + before, "", ""
    base, question, query = (host + slash + path).partition("#")[0].partition("?")
    shown = _INNER.sub(lambda found: f"{found[1] or ''}{mark(found[0])}{found[2] or found[4]}", base)
    return f"{scheme}{mark(userinfo) + '@' if at else ''}{shown}{question}{_hide_values(query, mark)}"


def redact_briefly(url: str) -> str:
    """The same for the text of an error, where a URL of many kilobytes is cut short."""
    shown = redact(url)
    return shown if len(shown) <= _BRIEF else f"{shown[:_BRIEF]}…"


def redact_source(source: str) -> str:
    """The same for what was given where a URL or a path may be: a path stays, unless it looks like a URL."""
    return redact(source) if _LIKE_URL.search(source) else source


def redact_text(text: str, mark: Callable[[str], str] = _dots) -> str:
    """`text` of somebody else with every URL in it redacted, and what follows Bearer or Basic. Never raises.

    Other secrets are not known for such. `mark` as for `redact`.
    """
    text = _URL_WITHIN.sub(lambda found: redact(found[0], mark), text)
    text = _QUERY_WITHIN.sub(lambda found: "?" + _hide_values(found[1], mark), text)
    return _CREDENTIALS_WITHIN.sub(lambda found: f"{found[1]} {mark(found[2])}", text)


def _names_host(scheme: str, host: str) -> bool:
    if scheme.lower() == "file://":
        return True
    return _HOST_AND_PORT.match(host) is not None and bool(scheme or not host.endswith(":"))


def _hide_values(query: str, mark: Callable[[str], str]) -> str:
    return re.sub(r"[^&;]+", lambda item: _hide_value(item[0], mark), query)


def _hide_value(item: str, mark: Callable[[str], str]) -> str:
    # An item without '=' may be a bare token, so nothing of it is shown; the end of one in base64 is a '=' too.
    name, equals, value = item.partition("=")
    padding = len(name) >= _TOKEN_FROM and not value.strip("=")
    return f"{name}={mark(value)}" if equals and _PARAMETER.fullmatch(name) and not padding else mark(item)


def extension(url: str, hint: str | None = None) -> str:
    """The file name extension for an asset: lower case, without the dot, "bin" when there is no usable one.

    A hint wins; one that is not 1 to 16 ASCII letters or digits, or that the store keeps for itself ("tmp",
    "part"), is a ValueError. The URL's own extension is what follows the last dot of its last path segment.
    """
    if hint is not None:
        if not _usable_extension(hint):
            raise ValueError("extension must be 1 to 16 letters or digits, without a dot, and not tmp or part")
        return hint.lower()
    match = _URL.fullmatch(url)
    path = re.split(r"[?#]", url, maxsplit=1)[0] if match is None else match["path"]
    stem, _, suffix = path.rpartition("/")[2].rpartition(".")
    return suffix.lower() if stem and _usable_extension(suffix) else "bin"


def _usable_extension(text: str) -> bool:
    return _EXTENSION.fullmatch(text) is not None and text.lower() not in _RESERVED_EXTENSIONS


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """A copy of the caller's headers, spaces around the values removed (RFC 9110 section 5.5).

    TypeError for a name or value that is not a str; ValueError for a name that is empty, not a token,
    given twice in different case or about a body (no request has one), and for a value with CR, LF or NUL or
    outside Latin-1 (what HTTP/1.1 can carry). The text names the header, never its value.
    """
    checked: dict[str, str] = {}
    seen: set[str] = set()
    for name, value in _pairs(headers):
        if not isinstance(name, str):
            raise TypeError(f"a header name must be a str, not {type(name).__name__}")
        if _TOKEN.fullmatch(name) is None:
            # A whole header line may have been given for a name: what follows the colon is not shown.
            before, colon, _ = name.partition(":")
            shown = f"{before!r}, a colon and more" if colon and _TOKEN.fullmatch(before) else "given"
            raise ValueError(f"the header name {shown} is not a token (RFC 9110 section 5.6.2): give name and value")
        if name.lower() in _OF_A_BODY:
            raise ValueError(f"the header {name!r} announces a body, and no request has one: leave it out")
        if not isinstance(value, str):
            raise TypeError(f"the value of the header {name!r} must be a str, not {type(value).__name__}")
        if name.lower() in seen:
            raise ValueError(f"the header {name!r} is given twice: names do not depend on case")
        if re.search(r"[\r\n\x00]", value):
            raise ValueError(f"the value of the header {name!r} has a CR, LF or NUL")
        if re.search(r"[^\x00-\xff]", value):
            raise ValueError(f"the value of the header {name!r} has characters outside Latin-1: encode them")
        seen.add(name.lower())
        checked[name] = value.strip(" \t")
    return checked


def _pairs(headers: object) -> Iterable[tuple[object, object]]:
    # Typed for a checker, but what an application passes is checked here as well.
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a mapping of str to str, not {type(headers).__name__}")
    return headers.items()


def digested_url(url: str, hook: Callable[[str], object] | None) -> str:
    """The URL that names the asset: canonical, then through the key hook if there is one.

    ValueError as for `canonical_url`; InvalidKey when the hook returns something that is not a str, or is
    empty. What the hook raises passes through.
    """
    canonical = canonical_url(url)
    if hook is None:
        return canonical
    named = hook(canonical)
    if not isinstance(named, str):
        raise InvalidKey(f"the key hook must return a str, not {type(named).__name__}")
    if not named:
        raise InvalidKey("the key hook returned an empty string")
    return named


def asset_key(
    url: str,
    headers: Mapping[str, str],
    secret: bytes,
    discriminator: str | None,
    shared: bool,
    authorization: str | None = None,
    certificate: str | None = None,
) -> str:
    """The asset's name in the cache: 32 lower-case hex digits (BLAKE2b, RFC 7693, 16 bytes).

    `url` is what `digested_url` returned. Credentials are every header outside `HARMLESS_HEADERS`, the
    Authorization value made of userinfo, and the client certificate; they enter through an HMAC keyed by the
    cache's `secret`, so that a key seen in a file name cannot be tested against guessed credentials. `shared`
    leaves them out: the key is then that of a request without credentials.
    """
    credentials = b"" if shared else _credentials(headers, secret, authorization, certificate)
    marked = b"" if discriminator is None else b"=" + _bytes(discriminator)
    return hashlib.blake2b(
        _framed((_bytes(url), marked, credentials)), digest_size=16, person=b"kithara-asset-1"
    ).hexdigest()


def _credentials(
    headers: Mapping[str, str], secret: bytes, authorization: str | None, certificate: str | None
) -> bytes:
    pairs = [(name.lower(), value) for name, value in headers.items() if name.lower() not in HARMLESS_HEADERS]
    if authorization is not None:
        pairs.append(("authorization", authorization))
    if certificate is not None:
        # No header can have this name: an empty one is not a token.
        pairs.append(("", certificate))
    if not pairs:
        return b""
    flat = [_bytes(text) for pair in sorted(pairs) for text in pair]
    return hmac.digest(secret, _framed(flat), "sha256")


def _framed(parts: Iterable[bytes]) -> bytes:
    # Each part carries its length: no two lists of parts give the same bytes.
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
