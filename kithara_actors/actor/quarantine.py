"""Which worker runs an attempt; and where suspects run, one at a time, each in a worker that has nothing else.

The first gets a regular worker that is idle, if there is another for the rest or one that is lost is being replaced:
for that the rest waits, but not for ever. Otherwise, and for those behind it, that worker is an extra one, asked for
when a suspect waits and given back when none is left. Where it does not come, a suspect does not wait for ever: after
`PATIENCE` it gets any regular worker that is idle; after `COMPANY_AFTER` it runs like any other attempt, for most that
are suspect are innocent, and those that share a worker with it are run again should it die.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from actors.actor.address import Address
from actors.actor.timers import Timers
from actors.clock import Clock
from kithara_actors.logic.fetch import Cleared, Run
from kithara_actors.logic.routing import least_loaded
from kithara_actors.logic.suspicion import CLEARED_BY
from kithara_actors.messages.commands import WatchSuspects

__all__ = ["COMPANY_AFTER", "PATIENCE", "ExtraWorkers", "Quarantine"]

PATIENCE = 5.0
"""Seconds that a suspect waits for the extra worker, and others for one that replaces a lost one; either takes a
fraction of a second to start."""
COMPANY_AFTER = 60.0
"""Seconds that a suspect waits for any worker of its own."""
_LOOK_EVERY = 0.1
"""Seconds; only while a suspect is about."""


class ExtraWorkers(Protocol):
    """Workers beyond the regular ones, as `FetchPool` gives them."""

    def enlist(self) -> None:
        """Have one more worker started; it comes as `WorkerUp` with `extra`. Not replaced when it dies."""

    def discharge(self, worker: int) -> None:
        """End an extra worker when it is idle. No effect on others."""


class Quarantine:
    """Belongs to the Downloader and runs on its thread. `load` counts the attempts of each regular worker."""

    def __init__(self, pool: ExtraWorkers, find: Callable[[str], Address | None], timers: Timers, clock: Clock) -> None:
        self.load: dict[int, int] = {}
        self._pool = pool
        self._find = find
        self._timers = timers
        self._clock = clock
        self._extra: int | None = None
        self._asked = False
        self._leaving: set[int] = set()
        self._seats: dict[int, Run] = {}
        """The suspect in each worker that has nothing else."""
        self._lent: dict[int, float] = {}
        """Since when these of them are, which are regular."""
        self._missing = 0
        """Regular workers that were lost, and not replaced so far."""
        self._waiting: dict[int, float] = {}
        """Since when each suspect waits, by attempt."""
        self._watching = False

    def up(self, worker: int, *, extra: bool) -> None:
        """A worker takes attempts; that may be known from `found`."""
        if not extra:
            self._missing = max(0, self._missing - (worker not in self.load))
            self.load.setdefault(worker, 0)
        elif self._extra is None:
            self._asked = False
            self._extra = worker
            self._watch()
        else:
            self._discharge(worker)

    def found(self, workers: Iterable[int]) -> None:
        """These were there before this Downloader began; extra ones among them leave, and are asked for anew."""
        for worker in workers:
            self.load.setdefault(worker, 0)
            self._pool.discharge(worker)

    def retires(self, worker: int) -> None:
        """A worker is to leave when it is idle: what it has stays there, and nothing is added."""
        self.load.pop(worker, None)
        self._leaving.add(worker)
        if worker == self._extra:
            self._extra = None

    def gone(self, worker: int) -> bool:
        """A worker takes no more. True if it was to leave."""
        meant = worker in self._leaving
        lent = self._lent.pop(worker, None) is not None
        if self.load.pop(worker, None) is not None or (lent and not meant):
            self._missing += 1
        self._seats.pop(worker, None)
        if worker == self._extra:
            self._extra = None
        self._leaving.discard(worker)
        return meant

    def worker_for(self, run: Run) -> int | None:
        """Where to run an attempt, None as long as there is no worker for it: ask again when something has changed."""
        if not run.alone:
            return least_loaded(self.load)
        if self._extra is not None and self._extra not in self._seats:
            return self._extra
        if not self._seats and self._can_spare and (idle := self._idle()) is not None:
            self._watch()
            return idle
        now = self._clock()
        waited = now - self._waiting.setdefault(run.attempt, now)
        if self._extra is None and not self._asked:
            self._asked = True
            self._pool.enlist()
        self._watch()
        if waited >= COMPANY_AFTER:
            return least_loaded(self.load)
        return self._idle() if waited >= PATIENCE else None

    def took(self, worker: int, run: Run) -> None:
        """The worker was given the attempt."""
        self._waiting.pop(run.attempt, None)
        if run.alone and self.load.get(worker) == 0 and self._can_spare:
            del self.load[worker]
            self._lent[worker] = self._clock()
        if worker in self.load:
            self.load[worker] += 1
        else:
            self._seats[worker] = run

    def left(self, worker: int) -> None:
        """An attempt has ended in a worker that goes on."""
        if worker in self.load:
            self.load[worker] -= 1
        elif self._seats.pop(worker, None) is not None:
            self._lent.pop(worker, None)
            if not self._special(worker):
                self.load[worker] = 0

    def look(self, unassigned: Iterable[Run], landed: Callable[[Run], int]) -> list[Cleared]:
        """Give back what is not needed any more; which suspects are to make room for those that wait."""
        self._watching = False
        waiting = list(unassigned)
        known = {run.attempt for run in waiting}
        self._waiting = {attempt: since for attempt, since in self._waiting.items() if attempt in known}
        cleared: list[Cleared] = []
        for worker, run in list(self._seats.items()):
            end = landed(run)
            well = end - run.start >= CLEARED_BY
            # Those for whom another worker was to come have none.
            needed = not self.load and self._clock() - self._lent.get(worker, self._clock()) >= PATIENCE
            if not self._special(worker):
                if well or needed:
                    # It runs well where it is, and others may join it.
                    del self._seats[worker]
                    self._lent.pop(worker, None)
                    self.load[worker] = 1
            elif well and waiting:
                cleared.append(Cleared(run.spec.request, run.attempt, end))
        if self._extra is not None and self._extra not in self._seats:
            self._discharge(self._extra)
        if self._extra is not None or self._asked or self._waiting or self._seats:
            self._watch()
        return cleared

    @property
    def _can_spare(self) -> bool:
        """Whether the rest has a worker, now or soon, when one is lent."""
        return len(self.load) + self._missing > 1

    def _idle(self) -> int | None:
        return least_loaded({worker: 0 for worker, count in self.load.items() if not count})

    def _special(self, worker: int) -> bool:
        """Whether a worker is not to be given back to the regular work after its suspect."""
        return worker == self._extra or worker in self._leaving

    def _discharge(self, worker: int) -> None:
        self.retires(worker)
        self._pool.discharge(worker)

    def _watch(self) -> None:
        me = self._find("downloader")
        if me is not None and not self._watching:
            self._watching = True
            self._timers.after(_LOOK_EVERY, me, WatchSuspects())
