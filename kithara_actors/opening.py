"""From what the caller names to what the directory opens: checks, identity, settings. Touches no network, no file."""

from __future__ import annotations

import inspect
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kithara_actors.actor.callables import REQUEST_LIMIT, Callables, request_size
from kithara_actors.config import Config
from kithara_actors.logic.naming import (
    asset_key,
    check_headers,
    digested_url,
    extension,
    redact_source,
    target_of,
)
from kithara_actors.messages.records import SourceSpec
from kithara_actors.values import Priority

__all__ = ["Named", "ahead_of", "local_path", "named", "priority_of"]

_DEMAND_LOOK_AHEAD = 8 * 1024 * 1024
_BYTES_PER_SECOND = 40_000  # 320 kbit/s, where a look-ahead is given in seconds


@dataclass(frozen=True, slots=True)
class Named:
    """A remote source under the name that its cache file would have; equal identities share one download.

    Who holds `spec` holds the callables in it.
    """

    spec: SourceSpec
    identity: str
    name: str


def named(
    config: Config,
    secret: bytes,
    source: str,
    headers: Mapping[str, str] | Callable[[str], Mapping[str, str]] | None,
    discriminator: str | None = None,
    *,
    callables: Callables,
    resolve: Callable[[str], str] | None = None,
    shared: bool = False,
    hint: str | None = None,
    target: Path | None = None,
) -> Named:
    """What `source` is to be fetched as. ValueError, TypeError or InvalidKey for what can be known without asking."""
    url, authorization, origin = target_of(source)
    digested = digested_url(source, config.key)
    given = None if isinstance(headers, Mapping) or not callable(headers) else headers
    sent = {} if callable(given) or headers is None else check_headers(headers)  # type: ignore[arg-type]
    _check_callable("headers", given)
    _check_callable("resolve", resolve)
    if authorization is not None and not any(name.lower() == "authorization" for name in sent):
        sent["Authorization"] = authorization
    if request_size(url, sent) > REQUEST_LIMIT:
        raise ValueError(f"URL and headers must stay under {REQUEST_LIMIT} bytes together")
    suffix = extension(url, hint)
    # Nobody knows what the callable will say, nor for whom: no other stream may take these bytes for its own.
    alone = given is not None and discriminator is None and not shared
    if alone:
        discriminator = secrets.token_hex(16)
    key = asset_key(digested, sent, secret, discriminator, shared, authorization)
    in_memory = target is None and (alone or config.cache_path is None)
    spec = SourceSpec(
        asset=0,
        name="",
        url=url,
        origin=origin,
        headers=tuple(sent.items()),
        key="" if alone else key,
        extension=suffix,
        target=None if target is None else str(target),
        limit=config.memory_limit if in_memory else None,
        calls=None if given is None and resolve is None else callables.keep(given, resolve),
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


def priority_of(given: Priority | None) -> Priority:
    """The class that a stream begins in; Low unless another is given."""
    if given is None:
        return Priority.LOW
    if not isinstance(given, int):
        raise TypeError(f"priority must be Priority.LOW or Priority.HIGH, not {given!r:.40}")
    if given not in list(Priority):
        raise ValueError(f"priority must be Priority.LOW or Priority.HIGH, not {given!r:.40}")
    return Priority(given)


def local_path(source: str | os.PathLike[str]) -> Path | None:
    """The path that `source` is, or None for a URL. ValueError for what is neither."""
    if isinstance(source, os.PathLike):
        path = Path(source)
        if not path.is_absolute():
            shown = redact_source(str(source))
            raise ValueError(f"{shown!r:.200} is a relative path: give an absolute one, such as {path.cwd() / shown}")
        return path
    if not isinstance(source, str):
        raise TypeError(f"source must be a URL or a path, not {type(source).__name__}")
    if source.startswith("/"):
        return Path(source)
    if "://" not in source:
        raise ValueError(f"{redact_source(source)!r:.200} is neither an http(s) URL nor an absolute path")
    return None


def _check_callable(name: str, given: object) -> None:
    if given is not None and not callable(given):
        raise TypeError(f"{name} must be callable or None, not {type(given).__name__}")
    if inspect.iscoroutinefunction(given):
        raise TypeError(f"{name} must be an ordinary function, not an asynchronous one: nothing awaits it")
