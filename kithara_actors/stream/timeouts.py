"""Time-outs as callers give them: checked before anything waits."""

from __future__ import annotations

import math
import threading

__all__ = ["checked_timeout", "checked_wait"]


def checked_timeout(timeout: float | None) -> float | None:
    """As much of it as can be waited. TypeError or ValueError if it is no positive number of seconds, or None."""
    if timeout is None:
        return None
    _check_number(timeout)
    if not math.isfinite(timeout) or timeout <= 0:
        raise ValueError(f"timeout must be a positive number of seconds or None, not {timeout}")
    return min(timeout, threading.TIMEOUT_MAX)


def checked_wait(timeout: float | None) -> float | None:
    """The same for what may be only a look: 0 is one, and a negative number too, as for `threading.Event.wait`."""
    if timeout is None:
        return None
    _check_number(timeout)
    if math.isnan(timeout):
        raise ValueError("timeout must be a number of seconds or None, not nan")
    return min(max(timeout, 0.0), threading.TIMEOUT_MAX)


def _check_number(timeout: object) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r:.40}")
