"""The meters that a system's workers share, as the host sees them."""

from __future__ import annotations

from collections import Counter

from actors.memory.words import SharedWords
from kithara_actors.logic.meter_table import MeterTable

__all__ = ["Meters"]


class Meters:
    """One meter for all bytes, numbered 0, and one for each of at most `origins` origins at a time.

    They outlive the workers: a limit holds across the loss of one. Not safe from several threads at once.
    """

    def __init__(self, origins: int) -> None:
        """With `origins` 0 only the total is counted. Raises OSError (no descriptor)."""
        self._words = SharedWords(1 + origins)
        self._table = MeterTable(origins) if origins else None
        self._taken: Counter[str] = Counter()
        self._unclaimed: Counter[str] = Counter()

    @property
    def fd(self) -> int:
        """The descriptor for the workers, which stays owned here."""
        return self._words.fd

    def take(self, origin: str) -> int:
        """The number of the meter for one more attempt at `origin`; `give_back` is due when it has ended."""
        if self._table is None:
            return 0
        self._taken[origin] += 1
        number, fresh = self._table.take(origin)
        if fresh:
            # Nobody uses it now, and what its last origin owed is not this one's.
            self._words[number] = 0
        return number

    def suspend(self) -> None:
        """Whoever took them has begun anew: what is in use is kept until `settle`, or claimed again by `keep`."""
        self._unclaimed += self._taken
        self._taken.clear()

    def keep(self, origin: str) -> None:
        """An attempt at `origin` that had its meter before goes on with it."""
        if self._unclaimed[origin]:
            self._unclaimed[origin] -= 1
            self._taken[origin] += 1
        else:
            self.take(origin)

    def settle(self) -> None:
        """Nothing more is claimed: what is left was in use by attempts that are over."""
        for origin in self._unclaimed.elements():
            if self._table is not None:
                self._table.give_back(origin)
        self._unclaimed.clear()

    def give_back(self, origin: str) -> None:
        """An attempt at `origin` is over, or its worker is gone."""
        if self._table is not None:
            self._table.give_back(origin)
            self._taken[origin] -= 1
            if not self._taken[origin]:
                del self._taken[origin]

    def close(self) -> None:
        """Idempotent; workers that are left keep what they have mapped."""
        self._words.close()
