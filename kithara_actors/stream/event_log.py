"""The last events of one scope: written once, read by each subscriber at a place of its own."""

from __future__ import annotations

from collections.abc import Callable

from kithara_actors.messages.events import Envelope

__all__ = ["EventLog"]


class EventLog:
    """Readers come from any thread and take no lock for it; all else is done by who holds the journal's.

    The envelope numbered n is followed by n + 1; of the oldest no more are kept than the most patient reader may
    have unread, and one that tells where the others were lost.
    """

    def __init__(self) -> None:
        self.count = 0
        """How many were added; the next one has this number."""
        self.items: dict[int, Envelope] = {}
        self.waiters: dict[object, Callable[[], object]] = {}
        """What is called once, soon, when there is more; each under a key of its own."""
        self._capacities: list[int] = []
        self._keep = 0
        self._last_seq = 0

    def add(self, envelope: Envelope) -> None:
        """An envelope that is here already is left alone. Wakes nobody."""
        if envelope.seq <= self._last_seq:
            return  # the second time: whoever delivered it was interrupted
        self._last_seq = envelope.seq
        number = self.count
        self.items[number] = envelope
        # In this order: whoever misses an old one finds a higher count, and looks further on.
        self.count = number + 1
        self.items.pop(number - self._keep, None)

    def wake(self) -> None:
        """Have all that wait now look again; each once, however fast they are back."""
        for key, call in list(self.waiters.items()):
            # Called first: who is interrupted here has left nobody asleep.
            call()
            self.waiters.pop(key, None)

    def enter(self, capacity: int) -> int:
        """One more reads here, with at most so many unread; the number at which it begins."""
        self._capacities.append(capacity)
        self._fit()
        return self.count

    def leave(self, capacity: int) -> None:
        """One of those reads no more."""
        if capacity in self._capacities:
            self._capacities.remove(capacity)
            self._fit()

    def take(self, start: int, most: int) -> list[Envelope] | None:
        """Up to `most` envelopes from number `start` on; None if the first of them has gone meanwhile.

        They go from here at once if there is no other reader.
        """
        numbers = range(start, min(self.count, start + most))
        found = list(map(self.items.get, numbers))
        if not all(found):
            return None
        if len(self._capacities) == 1:
            for number in numbers:
                self.items.pop(number, None)
        return found  # type: ignore[return-value]  # mypy does not see what all() has seen

    def copy(self) -> EventLog:
        """What is here now, to which nothing is added."""
        made = EventLog()
        made.count = self.count
        made.items = dict(self.items)
        return made

    def _fit(self) -> None:
        self._keep = max(self._capacities, default=-1) + 1
        for number in [number for number in list(self.items) if number < self.count - self._keep]:
            self.items.pop(number, None)
