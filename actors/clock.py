"""The one module that reads time, so that everything else can be driven by a clock of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock", "monotonic", "wall"]

Clock = Callable[[], float]
"""Seconds as a float; differences are meaningful, the origin is not."""

monotonic: Clock = time.monotonic
"""Seconds that never go back: every deadline and limit uses these."""

wall: Clock = time.time
"""Seconds since the epoch, for time stamps that people read; may jump."""
