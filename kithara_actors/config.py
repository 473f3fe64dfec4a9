"""Every setting, checked when it is made. The command reads the same names from its file and `KITHARA_*`."""

from __future__ import annotations

import inspect
import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Config"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of one system. Sizes are in bytes, times in seconds, rates in bytes per second.

    Raises ValueError (or TypeError) that names the field. `repr` leaves out what may hold a secret: proxies and
    functions. Fields whose part
    of the library is not built yet are checked too, and refused by `ActorSystem.start` unless left at their default.
    """

    cache_dir: str | os.PathLike[str] | None = None
    """Where assets are kept; None keeps everything in shared memory, which goes with the system."""
    memory_limit: int = 256 * MIB
    workers: int = 2
    worker_python: str = field(default_factory=lambda: sys.executable)
    max_concurrent: int = 64
    max_per_host: int = 16
    preempt_after: float | None = 0.5
    """Seconds that a request waits for a slot before it takes another's, if a reader or a caller waits for it.

    The slot is that of the transfer which its readers need last; it is cut and goes on later from where it was. Of
    those that somebody waits for none is cut. 0: at once; None: never.
    """
    connect_timeout: float = 10.0
    inactivity_timeout: float = 30.0
    soft_timeout: float = 2.0
    read_timeout: float | None = None
    max_retries: int = 6
    retry_base: float = 0.1
    retry_cap: float = 5.0
    retry_after_limit: float = 30.0
    look_ahead: int | None = None
    fill: str = "whole"
    freshness: str = "forever"
    max_bytes: int = 1024 * MIB
    max_assets: int | None = None
    min_free_bytes: int | None = None
    heartbeat: float = 0.5
    heartbeat_limit: float = 5.0
    verify: bool | str = True
    cert: str | tuple[str, str] | None = None
    proxies: Mapping[str, str] | None = field(default=None, repr=False)
    url_policy: Callable[[str], object] | None = field(default=None, repr=False)
    """Asked about each URL before it is requested, the first of every attempt and each redirect.

    It refuses by raising, or by returning something false; the read then raises PolicyError. None lets pass: a
    function that only raises returns it. So does `re.match` where nothing matches: wrap that in `bool`. Of what it
    raises only the type is told to the reader, but of a PolicyError the text, with the URLs in it redacted. It runs on
    up to four threads of the system's at once and has 5 seconds. Local paths it is not asked about. It judges names,
    not addresses: `public_only`, which is ready-made, binds the connection to the addresses that were allowed.
    """
    key: Callable[[str], str] | None = field(default=None, repr=False)
    """Called by `open` with the canonical URL, for the one that names the asset; what it raises `open` raises."""
    event_capacity: int = 1024
    execute_limit: int = 8 * MIB
    """The most bytes that a body may have, decoded, which `ActorSystem.execute` collects; in memory, for each call."""
    max_rate: float | None = None
    """Bytes of bodies per second, of all transfers together, as they come off the connections; at least 1.

    Transfers under one limit get equal shares, and what one does not use goes to the others. At any moment a tenth
    of a second's bytes may be ahead of the rate. What a server sends ahead on a connection waits there: at
    most about a second's bytes of a low limit, or 8 KiB.
    """
    max_rate_per_host: float | None = None
    """The same for the transfers of each origin (scheme, host and port). A redirect to another counts for the first."""
    allow_downgrade: bool = False
    connections_per_asset: int = 1
    switch_interval: float | None = None
    record: str | os.PathLike[str] | None = None
    """Where to put on record, in 16 MiB, what happens and what is decided: see docs/trace.md. None: nowhere."""

    def __post_init__(self) -> None:
        for name in ("memory_limit", "max_bytes", "execute_limit"):
            self._whole(name, least=1)
        for name in ("workers", "max_concurrent", "max_per_host", "event_capacity", "connections_per_asset"):
            self._whole(name, least=1)
        self._whole("max_retries", least=0)
        for name in ("max_assets", "min_free_bytes", "look_ahead"):
            if getattr(self, name) is not None:
                self._whole(name, least=1 if name == "max_assets" else 0)
        for name in (
            "connect_timeout",
            "inactivity_timeout",
            "soft_timeout",
            "retry_base",
            "retry_cap",
            "heartbeat",
            "heartbeat_limit",
        ):
            self._positive(name)
        self._positive("retry_after_limit", zero=True)
        if self.preempt_after is not None:
            self._positive("preempt_after", zero=True)
        for name in ("read_timeout", "max_rate", "max_rate_per_host", "switch_interval"):
            if getattr(self, name) is not None:
                self._positive(name)
        for name in ("max_rate", "max_rate_per_host"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1 byte per second, not {getattr(self, name)}")
        self._one_of("fill", ("whole", "demand"))
        self._one_of("freshness", ("forever", "validate", "http"))
        if self.heartbeat_limit < 2 * self.heartbeat:
            raise ValueError("heartbeat_limit must be at least twice heartbeat, or healthy workers are killed")
        if not isinstance(self.worker_python, str) or not self.worker_python or "\0" in self.worker_python:
            raise ValueError("worker_python must name a Python interpreter, such as /usr/bin/python3")
        for name in ("url_policy", "key"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(f"{name} must be callable or None, not {type(value).__name__}")
        if inspect.iscoroutinefunction(self.url_policy):
            raise TypeError("url_policy must be an ordinary function, not an asynchronous one: nothing awaits it")
        for name in ("cache_dir", "record"):
            self._path(name)
        self._tls()
        if self.proxies is not None and not (
            isinstance(self.proxies, Mapping)
            and all(isinstance(part, str) for item in self.proxies.items() for part in item)
        ):
            raise TypeError("proxies must map a scheme to a URL, such as {'https': 'http://proxy:3128'}, or be None")

    @property
    def cache_path(self) -> Path | None:
        """`cache_dir` as an absolute path with `~` expanded, or None."""
        if self.cache_dir is None:
            return None
        return Path(os.path.abspath(Path(self.cache_dir).expanduser()))  # noqa: PTH100 - keeps symbolic links

    def _path(self, name: str) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
            raise TypeError(f"{name} must be a path or None, not {type(value).__name__}")
        if not os.fspath(value) or "\0" in os.fspath(value):
            raise ValueError(f"{name} must be a path, not {os.fspath(value)!r:.40}")

    def _tls(self) -> None:
        if not isinstance(self.verify, bool | str) or self.verify == "":
            raise TypeError(f"verify must be True, False or the path of a CA bundle, not {self.verify!r:.40}")
        pair = self.cert if isinstance(self.cert, tuple) else (self.cert, self.cert)
        if self.cert is not None and not (len(pair) == 2 and all(isinstance(part, str) and part for part in pair)):
            raise TypeError("cert must be a path, a pair of paths (certificate, key) or None")
        if not isinstance(self.allow_downgrade, bool):
            raise TypeError(f"allow_downgrade must be True or False, not {self.allow_downgrade!r:.40}")

    def _whole(self, name: str, *, least: int) -> None:
        value: Any = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be a whole number, not {value!r:.40}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")

    def _positive(self, name: str, *, zero: bool = False) -> None:
        value: Any = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number, not {value!r:.40}")
        if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
            raise ValueError(f"{name} must be a positive number, not {value}")

    def _one_of(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r:.40}")
