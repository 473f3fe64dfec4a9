"""Which worker runs an attempt."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["least_loaded"]


def least_loaded(load: Mapping[int, int]) -> int | None:
    """The worker with the fewest attempts, the lowest number among equals; None when there is no worker."""
    return min(load, key=lambda worker: (load[worker], worker), default=None)
