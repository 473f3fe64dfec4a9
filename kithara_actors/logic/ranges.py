"""Which bytes of a representation are present: immutable, sorted, disjoint, coalesced half-open intervals."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter

__all__ = ["Ranges"]

_START = itemgetter(0)
_END = itemgetter(1)


@dataclass(frozen=True, slots=True)
class Ranges:
    """A set of byte positions held as islands `(start, end)`, `end` not included.

    `pairs` is sorted, and no two islands overlap or touch; build from other data with `from_pairs`. Lookups
    take O(log n) of the number of islands, `add` and the walks over gaps O(n). ValueError for a negative
    position or a reversed interval.
    """

    pairs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[int, int]]) -> Ranges:
        """The union of any intervals, in any order; empty ones count for nothing."""
        joined: list[tuple[int, int]] = []
        for start, end in sorted(pairs):
            _check(start, end)
            if start == end:
                continue
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        return cls(tuple(joined))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        """The number of islands."""
        return len(self.pairs)

    @property
    def total_bytes(self) -> int:
        """How many bytes are present."""
        return sum(end - start for start, end in self.pairs)

    def add(self, start: int, end: int) -> Ranges:
        """These ranges and `start..end`; the same object when nothing is new."""
        if self.covers(start, end):
            return self
        # The islands that overlap or touch start..end are those from `first` to before `last`.
        first = bisect_left(self.pairs, start, key=_END)
        last = bisect_right(self.pairs, end, key=_START)
        if first < last:
            start = min(start, self.pairs[first][0])
            end = max(end, self.pairs[last - 1][1])
        return Ranges((*self.pairs[:first], (start, end), *self.pairs[last:]))

    def covers(self, start: int, end: int) -> bool:
        """Whether every byte of `start..end` is present; true of an empty interval."""
        _check(start, end)
        return start == end or self.covered_end(start) >= end

    def covered_end(self, pos: int) -> int:
        """The end of the island that holds `pos`, or `pos` itself where the byte is missing."""
        _check(pos, pos)
        index = bisect_right(self.pairs, pos, key=_START) - 1
        return pos if index < 0 else max(pos, self.pairs[index][1])

    def covered_start(self, pos: int) -> int:
        """Where the unbroken stretch before `pos` begins; `pos` itself where the byte before it is missing."""
        _check(pos, pos)
        index = bisect_left(self.pairs, pos, key=_START) - 1
        return self.pairs[index][0] if index >= 0 and self.pairs[index][1] >= pos else pos

    def next_start(self, pos: int) -> int | None:
        """The start of the first island that begins at or after `pos`, or None."""
        _check(pos, pos)
        index = bisect_left(self.pairs, pos, key=_START)
        return self.pairs[index][0] if index < len(self.pairs) else None

    def first_gap(self, start: int, end: int) -> tuple[int, int] | None:
        """The first missing interval inside `start..end`, or None if all of it is present."""
        _check(start, end)
        missing = self.covered_end(start)
        if missing >= end:
            return None
        following = self.next_start(missing)
        return missing, end if following is None else min(end, following)

    def gaps(self, total: int) -> tuple[tuple[int, int], ...]:
        """Every missing interval of a representation of `total` bytes, in order."""
        _check(0, total)
        found: list[tuple[int, int]] = []
        position = 0
        while (gap := self.first_gap(position, total)) is not None:
            found.append(gap)
            position = gap[1]
        return tuple(found)


def _check(start: int, end: int) -> None:
    if start < 0 or end < start:
        raise ValueError(f"{start}..{end} is no interval of byte positions")
