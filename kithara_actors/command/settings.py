"""The settings of a command's system: what its options say."""

from __future__ import annotations

import argparse
from typing import Any

from kithara_actors.logic.naming import check_headers

__all__ = ["request_headers", "system_settings"]


def system_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Fields of `Config`, as the options give them."""
    settings: dict[str, Any] = {"workers": 1}
    if options.workers is not None:
        settings["workers"] = options.workers
    if options.retries is not None:
        settings["max_retries"] = options.retries
    if options.timeout is not None:
        settings["inactivity_timeout"] = options.timeout
        settings["connect_timeout"] = min(10.0, options.timeout)
    if options.insecure:
        settings["verify"] = False
    return settings


def request_headers(options: argparse.Namespace) -> dict[str, str]:
    """The headers of `--header`. Raises argparse.ArgumentTypeError, which shows no value: it may be a credential."""
    headers: dict[str, str] = {}
    for text in options.headers:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise argparse.ArgumentTypeError("a header is written 'Name: value'")
        if name.strip() in headers:
            raise argparse.ArgumentTypeError(f"the header {name.strip()!r} is given twice")
        headers[name.strip()] = value.strip()
    try:
        return check_headers(headers)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
