"""So many lines a minute and subject, then silence, then one line that says how many were kept back. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LogLimit"]

_PERIOD = 60.0
"""Seconds."""
_SUBJECTS = 10_000
"""Kept at most: the oldest is forgotten, and begins anew."""


@dataclass(slots=True)
class _Minute:
    began: float
    written: int = 0
    kept_back: int = 0


class LogLimit:
    """At most `lines` a minute for each subject, counted from the first of them."""

    def __init__(self, lines: int = 10) -> None:
        self._lines = lines
        self._minutes: dict[str, _Minute] = {}

    def line(self, subject: str, now: float) -> int | None:
        """One more line is to be written: None if it may not be, else how many were kept back before it."""
        minute = self._minutes.get(subject)
        if minute is None or now - minute.began >= _PERIOD:
            kept_back = 0 if minute is None else minute.kept_back
            self._minutes.pop(subject, None)
            if len(self._minutes) >= _SUBJECTS:
                del self._minutes[next(iter(self._minutes))]
            self._minutes[subject] = _Minute(now, 1)
            return kept_back
        if minute.written < self._lines:
            minute.written += 1
            return 0
        minute.kept_back += 1
        return None

    @property
    def holding(self) -> bool:
        """Whether a summary will be due."""
        return any(minute.kept_back for minute in self._minutes.values())

    def due(self, now: float) -> list[tuple[str, int]]:
        """Subjects whose minute is over, with how many lines were kept back: each is told once."""
        over = [(subject, minute) for subject, minute in self._minutes.items() if now - minute.began >= _PERIOD]
        for subject, _ in over:
            del self._minutes[subject]
        return [(subject, minute.kept_back) for subject, minute in over if minute.kept_back]
