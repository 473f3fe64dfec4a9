"""What may be written for each setting, in a file and in a variable of the environment."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

__all__ = ["FOR_PYTHON_ONLY", "SETTABLE", "from_file", "from_text"]

FOR_PYTHON_ONLY = ("key", "url_policy")
"""Fields of `Config` that are functions."""

_SIZES = {"": Decimal(1)} | {
    prefix.lower() + unit: Decimal(base) ** power
    for power, prefix in enumerate(("", "K", "M", "G", "T"))
    for unit, base in (("b", 1000), ("ib", 1024))
    if prefix or unit == "b"
}
_TIMES = {"": Decimal(1), "ms": Decimal("0.001"), "s": Decimal(1), "min": Decimal(60), "h": Decimal(3600)}
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def from_file(name: str, value: Any) -> Any:
    """The setting `name` from the TOML value `value`; what has no meaning is returned as it is, for Config to refuse.

    Raises ValueError that names the setting.
    """
    return SETTABLE[name].from_toml(name, value)


def from_text(name: str, text: str) -> Any:
    """The setting `name` from the text of a variable, which is not empty. Raises ValueError that names the setting."""
    return SETTABLE[name].from_text(name, text.strip())


class _Kind:
    """How a kind of setting is written. With `strings`, a string in a file is read as the text of a variable is."""

    def __init__(self, from_text: Callable[[str, str], Any], *, strings: bool) -> None:
        self.from_text = from_text
        self._strings = strings

    def from_toml(self, name: str, value: Any) -> Any:
        return self.from_text(name, value.strip()) if self._strings and isinstance(value, str) else value


class _Certificate(_Kind):
    def from_toml(self, name: str, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(_path(name, part) if isinstance(part, str) else part for part in value)
        return super().from_toml(name, value)


def _quantity(name: str, text: str, units: dict[str, Decimal], remedy: str) -> Decimal:
    match = _QUANTITY.fullmatch(text)
    unit = None if match is None else units.get(match[2].lower())
    if match is None or unit is None:
        raise ValueError(f"{name} must be written {remedy}, not {text!r:.40}")
    return Decimal(match[1]) * unit


def _size(name: str, text: str) -> int:
    return int(_quantity(name, text, _SIZES, 'as bytes or like "256 MiB" or "1.5 GB"'))


def _rate(name: str, text: str) -> float:
    bare = text.removesuffix("/s")
    return float(_quantity(name, bare, _SIZES, 'as bytes per second or like "500 kB/s" or "1 MiB/s"'))


def _time(name: str, text: str) -> float:
    return float(_quantity(name, text, _TIMES, 'as seconds or like "500 ms", "30 s" or "2 min"'))


def _whole(name: str, text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{name} must be a whole number, not {text!r:.40}")
    return int(text)


def _truth(name: str, text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError(f"{name} must be true or false, not {text!r:.40}")
    return _TRUTH[text.lower()]


def _word(name: str, text: str) -> str:  # noqa: ARG001 - as the others
    return text


def _path(name: str, text: str) -> str:
    if not text.startswith("~"):
        return text
    # No shell has looked at it.
    try:
        return str(Path(text).expanduser())
    except RuntimeError:
        raise ValueError(f"{name} names a home directory that is not known: {text!r:.40}") from None


def _verify(name: str, text: str) -> bool | str:
    return _TRUTH[text.lower()] if text.lower() in _TRUTH else _path(name, text)


def _certificate(name: str, text: str) -> Any:
    if not text.startswith("["):
        return _path(name, text)
    return SETTABLE[name].from_toml(name, _structure(name, text, 'a path or ["certificate.pem", "key.pem"]'))


def _mapping(name: str, text: str) -> Any:
    return _structure(name, text, '{"https": "http://proxy:3128"}')


def _structure(name: str, text: str, example: str) -> Any:
    """JSON, or a TOML value. The text is not shown: a proxy's URL may hold a password."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        read = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        read = {}
    if set(read) != {"value"}:
        raise ValueError(f"{name} must be written like {example}")
    return read["value"]


_COUNT = _Kind(_whole, strings=False)
_SIZE = _Kind(_size, strings=True)
_RATE = _Kind(_rate, strings=True)
_TIME = _Kind(_time, strings=True)
_NAME = _Kind(_word, strings=False)
_PLACE = _Kind(_path, strings=True)
_SWITCH = _Kind(_truth, strings=False)

SETTABLE: dict[str, _Kind] = {
    "allow_downgrade": _SWITCH,
    "cache_dir": _PLACE,
    "cert": _Certificate(_certificate, strings=True),
    "connect_timeout": _TIME,
    "connections_per_asset": _COUNT,
    "event_capacity": _COUNT,
    "execute_limit": _SIZE,
    "fill": _NAME,
    "freshness": _NAME,
    "heartbeat": _TIME,
    "heartbeat_limit": _TIME,
    "inactivity_timeout": _TIME,
    "look_ahead": _SIZE,
    "max_assets": _COUNT,
    "max_bytes": _SIZE,
    "max_concurrent": _COUNT,
    "max_per_host": _COUNT,
    "max_rate": _RATE,
    "max_rate_per_host": _RATE,
    "max_retries": _COUNT,
    "memory_limit": _SIZE,
    "min_free_bytes": _SIZE,
    "preempt_after": _TIME,
    "proxies": _Kind(_mapping, strings=False),
    "read_timeout": _TIME,
    "record": _PLACE,
    "retry_after_limit": _TIME,
    "retry_base": _TIME,
    "retry_cap": _TIME,
    "soft_timeout": _TIME,
    "switch_interval": _TIME,
    "verify": _Kind(_verify, strings=True),
    "worker_python": _PLACE,
    "workers": _COUNT,
}
"""The fields of `Config` that a file or a variable can set."""
