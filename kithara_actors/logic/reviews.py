"""When to find out who waits for a slot: as soon as somebody may claim one, and now and then. Sans-IO."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from kithara_actors.values import RequestId

__all__ = ["Reviews"]

_PACE = 0.05
"""Seconds between two reviews, at least: each looks at every transfer."""
_ROUND = 0.5
"""Seconds between two reviews while anything is queued, at most: a reader may come to wait at any time."""
_EDGE = 0.001
"""Seconds: a timer that is set a moment later may end a moment earlier."""


@dataclass(slots=True)
class Reviews:
    """`after` is for how long a request has to be queued before it claims a slot; None: it never does."""

    after: float | None
    _due: float | None = None
    _last: float = float("-inf")
    _urgent: bool = False
    _claims: deque[tuple[float, RequestId]] = field(default_factory=deque)

    def claims(self, since: float, now: float) -> bool:
        """Whether what is queued since then may have another's slot."""
        return self.after is not None and since + self.after <= now + _EDGE

    def is_due(self, now: float) -> bool:
        """Whether the time of the next one has come."""
        return self._due is not None and self._due <= now + _EDGE

    def expect(self, request: RequestId, since: float) -> None:
        """The request, queued since then, is one that somebody may wait for."""
        if self.after is None:
            return
        claim = (since + self.after, request)
        if self._claims and claim < self._claims[0]:
            # It was queued before these, as one that nobody waited for.
            self._claims.appendleft(claim)
        else:
            self._claims.append(claim)
        if self._due is not None and claim[0] < self._due:
            self._due = None

    def hurry(self) -> None:
        """Something may be decided at once."""
        self._urgent = True

    def held(self, now: float) -> None:
        """One has been held."""
        self._due = None
        self._urgent = False
        self._last = now
        while self._claims and self._claims[0][0] <= now + _EDGE:
            self._claims.popleft()

    def earlier(self, now: float, queued: Callable[[RequestId], bool]) -> float | None:
        """In how many seconds the next is to be, if that is earlier than was known. `queued` tells whether a request
        waits for a slot."""
        if self._due is not None and not self._urgent:
            return None  # what was expected since comes later
        while self._claims and not queued(self._claims[0][1]):
            self._claims.popleft()
        soonest = now + min(_ROUND, self.after or _ROUND)
        if self._urgent:
            soonest = now
        elif self._claims:
            soonest = min(soonest, self._claims[0][0])
        soonest = max(soonest, now, self._last + _PACE)
        if self._due is not None and self._due <= soonest:
            return None
        self._due = soonest
        return soonest - now
