"""Which meter counts the bytes of which origin, while there are fewer meters than origins. Sans-IO."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["MeterTable"]


class MeterTable:
    """Hands out the numbers 1 to `count`. An origin keeps its number between requests while others leave it any:
    a host asked for one small file after the other is still under its limit."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._numbers: dict[str, int] = {}
        self._users: dict[str, int] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()

    def take(self, origin: str) -> tuple[int, bool]:
        """The number for one more user of `origin`, and whether it counted another's bytes before or nobody's.

        Raises RuntimeError when every number is in use by another origin.
        """
        users = self._users.get(origin, 0)
        fresh = origin not in self._numbers
        if fresh:
            self._numbers[origin] = self._number()
        self._idle.pop(origin, None)
        self._users[origin] = users + 1
        return self._numbers[origin], fresh

    def give_back(self, origin: str) -> None:
        """One user of `origin` is done. Raises KeyError if it has none."""
        users = self._users[origin] - 1
        if users:
            self._users[origin] = users
            return
        del self._users[origin]
        self._idle[origin] = None

    def _number(self) -> int:
        if len(self._numbers) < self._count:
            return len(self._numbers) + 1
        if not self._idle:
            raise RuntimeError("more origins are in use than there are meters")
        origin, _ = self._idle.popitem(last=False)
        return self._numbers.pop(origin)
