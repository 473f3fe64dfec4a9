"""The parsers of others, imported when they are needed; some are extras, and each may be missing."""

from __future__ import annotations

import logging
from functools import lru_cache
from importlib import import_module
from typing import Any

__all__ = ["MissingLibraryError", "library"]

_REMEDIES = {
    "enzyme": "install enzyme for Matroska and WebM: pip install 'kithara-actors[tags]'",
    "mutagen": "install mutagen for tags: pip install 'kithara-actors[tags]'",
    "pymp4": "install pymp4 for MP4: pip install pymp4",
}


class MissingLibraryError(Exception):
    """Its text says what to install."""


def library(name: str) -> Any:
    """The module of that name. Raises MissingLibraryError."""
    root = name.partition(".")[0]
    try:
        # The package first: a module of it may be loaded though the package is barred.
        import_module(root)
        module = import_module(name)
    except ImportError:
        raise MissingLibraryError(_REMEDIES[root]) from None
    _quieten(root)
    return module


@lru_cache
def _quieten(root: str) -> None:
    # enzyme reports what it does not know, which newer files have, as errors; nobody reads those here.
    logging.getLogger(root).addHandler(logging.NullHandler())
