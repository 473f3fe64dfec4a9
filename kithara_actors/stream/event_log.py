"""The last events of one scope: written once by the bus, read by each subscriber at a place of its own."""

from __future__ import annotations

from collections.abc import Callable

from kithara_actors.messages.events import Envelope

__all__ = ["EventLog"]


class EventLog:
    """One thread adds and takes no lock for it, however many read; readers come from any thread.

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
        """Never waits for a reader. An envelope that is here already is left alone."""
        if envelope.seq <= self._last_seq:
            return  # the second time: the bus has begun anew in the middle of it
        self._last_seq = envelope.seq
        number = self.count
        self.items[number] = envelope
        # In this order: whoever misses an old one finds a higher count, and looks further on.
        self.count = number + 1
        self.items.pop(number - self._keep, None)
        if self.waiters:
            self.wake()

    def wake(self) -> None:
        """Have all that wait now look again; each once, however fast they are back."""
        for key in list(self.waiters):
            call = self.waiters.pop(key, None)
            if call is not None:  # else it gave up just now
                call()

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

    def done(self, number: int) -> None:
        """A reader has read it: it goes at once if there is no other."""
        if len(self._capacities) == 1:
            self.items.pop(number, None)

    def copy(self, start: int) -> EventLog:
        """What is here from `start` on, to which nothing is added."""
        made = EventLog()
        made.count = self.count
        kept = ((number, self.items.get(number)) for number in range(max(start, made.count - self._keep), made.count))
        made.items = {number: envelope for number, envelope in kept if envelope is not None}
        return made

    def _fit(self) -> None:
        self._keep = max(self._capacities, default=-1) + 1
        for number in [number for number in list(self.items) if number < self.count - self._keep]:
            self.items.pop(number, None)
