"""What is published while something else is being delivered does not wait for the next event."""

from __future__ import annotations

from actors.testing.fake_clock import FakeClock
from kithara_actors.messages.events import EndOfStream, Scope
from kithara_actors.stream.journal import Journal


class Reader:
    """Waits for the events of one scope, and publishes one for another as soon as it is woken."""

    def __init__(self, journal: Journal, scope: Scope, then: Scope) -> None:
        self.told: list[bool] = []
        """Whether the bus is to deliver what it published."""
        self._journal = journal
        self._then = then
        log, _ = journal.enter(scope, 8)
        journal.wait(self, log, self, self._woken)

    def _woken(self) -> None:
        self.told.append(self._journal.add(EndOfStream(0), self._then))


def test_an_event_in_the_middle_of_a_delivery_is_delivered_by_it_or_by_the_bus() -> None:
    journal = Journal(FakeClock())
    first, second, third = [Reader(journal, Scope(asset), Scope(asset + 1)) for asset in (1, 2, 3)]
    assert journal.add(EndOfStream(0), Scope(1))
    journal.deliver()
    assert first.told == [False]
    assert second.told == [True]
    assert third.told == []
    journal.deliver()
    assert third.told
