"""Where a request goes, and what every request says of itself."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping

import urllib3.util

from kithara_actors.errors import ProtocolError

__all__ = ["address_of", "completed"]

_PORTS = {"http": 80, "https": 443}
_TARGET_SAFE = "".join(map(chr, range(0x21, 0x7F)))
"""Printable ASCII goes out as it came, percent signs included."""
_SAFE_TARGET = re.compile("[\x21-\x7e]*")


def address_of(url: str) -> tuple[tuple[str, str, int], str, str]:
    """Scheme, host and port of `url`; its request target; host:port. Raises ProtocolError, ValueError."""
    parts = urllib.parse.urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme)
    host = parts.hostname
    if port is None or not host:
        raise ProtocolError("not an http or https URL with a host")
    if not host.isascii():
        # In one form for all: other encodings of a name in another script may be other names.
        host = urllib3.util.parse_url(url).host or ""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not _SAFE_TARGET.fullmatch(target):
        target = urllib.parse.quote(target, safe=_TARGET_SAFE)
    return (parts.scheme, host, port), target, where


def completed(headers: Mapping[str, str], user_agent: str) -> dict[str, str]:
    """With what every request says of itself, unless `headers` do."""
    given = {name.lower() for name in headers}
    own = {"User-Agent": user_agent, "Accept": "*/*"}
    return dict(headers) | {name: value for name, value in own.items() if name.lower() not in given}
