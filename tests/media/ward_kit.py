"""A downloader whose workers die, fed by hand."""

from __future__ import annotations

from test_downloader import House

from kithara_actors.messages.commands import (
    WorkerGone,
    WorkerUp,
)
from kithara_actors.messages.worker import RunAttempt
from kithara_actors.values import RequestId

__all__ = ["EXTRA", "FIRST", "THREE", "Ward"]

THREE = RequestId(3)
EXTRA = 9
FIRST = 7


class Ward(House):
    """A downloader whose workers die, and its attempts by request."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[int, int] = {}

    def taken(self) -> list[tuple[int, int, int]]:
        """Worker, request and start of each attempt that was sent since the last call."""
        ran = []
        for worker, order in self.pool.take():
            if isinstance(order, RunAttempt):
                self.at[order.spec.request] = order.attempt
                ran.append((worker, int(order.spec.request), order.start))
        return ran

    def enlisted(self, worker: int = EXTRA) -> None:
        self.pool.up.add(worker)
        self.tell(WorkerUp(worker, 4000 + worker, extra=True))

    def lose(self, *workers: int, together: bool = False, untaken: int = 0) -> None:
        """They die, having taken all frames but the last `untaken`."""
        self.pool.up -= {*workers}
        for worker in workers:
            together = together or len(workers) > 1
            taken = self.pool.frames[worker] - untaken
            self.tell(WorkerGone(worker, 4000 + worker, "killed by SIGKILL", taken, together))

    def done(self, request: int) -> None:
        self.end(request, self.at[request], at=90_000, complete=True)

    def land(self, request: int, at: int) -> None:
        self.content.block.publish(request, 1, at)

    def tick(self, seconds: float = 0.2) -> None:
        """Time passes, and the downloader hears of it."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.timers.advance(min(0.1, end - self.clock.now + 0.001))
            self.tell(*self.around["downloader"].take())

    def suspects(self, *requests: int) -> None:
        """Have these wait to run alone, behind `FIRST`, which has worker 0; 3 and 4 are for the rest."""
        self.suspected(FIRST, *requests)
        assert self.taken() == [(0, FIRST, 1000)]

    def suspected(self, *requests: int) -> None:
        """Have these be suspect; 1 and 2 were their workers, 0, 3 and 4 are there instead."""
        self.up(1)
        for request in requests:
            self.admit(request)
        self.taken()
        self.lose(1, together=True)
        self.up(2)
        assert self.taken() == [(2, request, 1000) for request in requests]
        self.lose(2, together=True)
        self.events.take()
        self.up(0, 3, 4)
