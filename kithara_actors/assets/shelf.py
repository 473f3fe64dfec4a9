"""What the AssetStore holds: assets being filled and assets that are committed, with their descriptors.

Lives as long as the system, whatever becomes of the store's incarnations.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from kithara_actors.values import ContentId

__all__ = ["Active", "Kept", "Shelf", "is_at"]


@dataclass(slots=True)
class Active:
    """A content being filled. `part` and `final` are None in memory."""

    source: str
    key: str
    fd: int
    part: Path | None
    final: Path | None
    own_target: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """A committed asset. In memory it is this descriptor; on disk the file at `path`."""

    length: int
    content_type: str | None
    fd: int
    path: Path | None


@dataclass(slots=True)
class Shelf:
    """`committed` are contents whose owners may not have heard of it yet. Only the store's thread uses it."""

    active: dict[ContentId, Active] = field(default_factory=dict)
    kept: OrderedDict[str, Kept] = field(default_factory=OrderedDict)
    committed: set[ContentId] = field(default_factory=set)

    def drop(self, content: ContentId) -> None:
        """Forget a content, with what is stored of it unless that is committed. Harmless for an unknown one."""
        self.committed.discard(content)
        active = self.active.pop(content, None)
        if active is None:
            return
        if active.part is not None:
            # A successor may have put another file there.
            with contextlib.suppress(OSError):
                if is_at(active.part, active.fd):
                    active.part.unlink(missing_ok=True)
            fcntl.flock(active.fd, fcntl.LOCK_UN)
        os.close(active.fd)

    def close(self) -> None:
        """Drop everything; idempotent. The store must have ended."""
        for content in list(self.active):
            self.drop(content)
        while self.kept:
            _, kept = self.kept.popitem()
            if kept.fd >= 0:
                os.close(kept.fd)


def is_at(part: Path, fd: int) -> bool:
    """Whether the file behind `fd` is the one at `part`."""
    try:
        return os.path.samestat(os.fstat(fd), part.stat())
    except FileNotFoundError:
        return False
