"""A place on disk of a command's own, gone at its end."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kithara_actors.command.explain import CommandError
from kithara_actors.config import Config
from kithara_actors.errors import KitharaError

__all__ = ["Room", "explained_cache", "private_folder", "room_of"]

_KEPT = 1024 * 1024 * 1024
"""Bytes of what is no longer used that are kept, for going back to it."""


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder, removed with all that is in it. On disk: files may be of any size."""
    with tempfile.TemporaryDirectory(prefix="kithara-", dir=_disk()) as folder:
        yield Path(folder)


def _disk() -> str | None:
    """Where temporary files do not lie in memory, as those in /tmp do on many systems; None for the usual place."""
    named = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    return None if named or not os.access("/var/tmp", os.W_OK | os.X_OK) else "/var/tmp"  # noqa: S108


class Room:
    """Where a command's assets are kept: as the settings say, else in a private folder.

    On disk, since an asset may be larger than memory has room for.
    """

    def __init__(self, settings: dict[str, Any], folder: Path | None) -> None:
        self.settings = settings if folder is None else {**settings, "cache_dir": folder}
        self._folder = folder

    def tidy(self) -> None:
        """Remove the oldest assets, so that a long list does not fill the disk. One that is in use is read on."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            kept = [path for path in self._folder.rglob("*") if path.is_file() and path.suffix != ".part"]
            sizes = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in kept)
            total = sum(size for _, size, _ in sizes)
            for _, size, path in sizes:
                if total <= _KEPT:
                    break
                path.unlink()
                total -= size


@contextlib.contextmanager
def room_of(settings: dict[str, Any]) -> Iterator[Room]:
    """The room for a system with these settings; a private one is gone at the end.

    Raises CommandError where `cache_dir` is of no use, which the start of the system inside finds out.
    """
    if settings.get("cache_dir") is not None:
        with explained_cache(settings):
            yield Room(settings, None)
        return
    with private_folder() as folder:
        yield Room(settings, folder)


@contextlib.contextmanager
def explained_cache(settings: dict[str, Any]) -> Iterator[None]:
    """Raises CommandError that names `cache_dir` in place of an OSError about a file there."""
    try:
        yield
    except OSError as error:
        path = Config(**settings).cache_path
        if isinstance(error, KitharaError) or path is None or not isinstance(error.filename, str):
            raise
        if path not in (Path(error.filename), *Path(error.filename).parents):
            raise
        raise CommandError(
            f"cannot keep files in {path}: {error.strerror}; set cache_dir to a directory that you can write"
        ) from error
