"""From what the caller names to what the directory opens: checks, identity, settings. Touches no network, no file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kithara_actors.config import Config
from kithara_actors.logic.naming import (
    asset_key,
    check_headers,
    digested_url,
    extension,
    origin_of,
    split_userinfo,
)
from kithara_actors.messages.records import SourceSpec

__all__ = ["Named", "ahead_of", "local_path", "named"]

_DEMAND_LOOK_AHEAD = 8 * 1024 * 1024
_BYTES_PER_SECOND = 40_000  # 320 kbit/s, where a look-ahead is given in seconds
_REQUEST_LIMIT = 48 * 1024


@dataclass(frozen=True, slots=True)
class Named:
    """A remote source under the name that its cache file would have; equal identities share one download."""

    spec: SourceSpec
    identity: str
    name: str


def named(
    config: Config,
    secret: bytes,
    source: str,
    headers: Mapping[str, str] | None,
    discriminator: str | None = None,
    *,
    shared: bool = False,
    hint: str | None = None,
    target: Path | None = None,
) -> Named:
    """What `source` is to be fetched as. ValueError, TypeError or InvalidKey for what can be known without asking."""
    url, authorization = split_userinfo(source)
    digested = digested_url(source, config.key)
    sent = check_headers(headers or {})
    if authorization is not None and not any(name.lower() == "authorization" for name in sent):
        sent["Authorization"] = authorization
    if len(url) + sum(len(name) + len(value) + 4 for name, value in sent.items()) > _REQUEST_LIMIT:
        raise ValueError(f"URL and headers must stay under {_REQUEST_LIMIT} characters together")
    suffix = extension(url, hint)
    key = asset_key(digested, sent, secret, discriminator, shared, authorization)
    spec = SourceSpec(
        asset=0,
        name="",
        url=url,
        origin=origin_of(url),
        headers=tuple(sent.items()),
        key=key,
        extension=suffix,
        target=None if target is None else str(target),
        limit=config.memory_limit if target is None and config.cache_path is None else None,
    )
    identity = key if target is None else f"{key}>{target}"
    return Named(spec, identity, f"{key}.{suffix}")


def ahead_of(config: Config, given: int | str | None) -> int | None:
    """How many bytes to fetch ahead of a reader; None fetches all."""
    if isinstance(given, str):
        try:
            seconds = float(given.removesuffix("s"))
        except ValueError:
            seconds = -1.0
        if not given.endswith("s") or not 0 <= seconds < float("inf"):
            raise ValueError(f'look_ahead must be bytes or seconds such as "30s", not {given!r:.40}')
        return int(seconds * _BYTES_PER_SECOND)
    if given is None:
        if config.fill == "whole":
            return None
        return _DEMAND_LOOK_AHEAD if config.look_ahead is None else config.look_ahead
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"look_ahead must be a number of bytes or a string, not {type(given).__name__}")
    if given < 0:
        raise ValueError(f"look_ahead must not be negative, not {given}")
    return given


def local_path(source: str | os.PathLike[str]) -> Path | None:
    """The path that `source` is, or None for a URL. ValueError for what is neither."""
    if isinstance(source, os.PathLike):
        path = Path(source)
        if not path.is_absolute():
            raise ValueError(
                f"{str(source)!r:.200} is a relative path: give an absolute one, such as {path.absolute()}"
            )
        return path
    if not isinstance(source, str):
        raise TypeError(f"source must be a URL or a path, not {type(source).__name__}")
    if source.startswith("/"):
        return Path(source)
    if "://" not in source:
        raise ValueError(f"{source!r:.200} is neither an http(s) URL nor an absolute path")
    return None
