"""`bench.py logic`: what a request costs in the pure logic of Registry and Downloader, on one core.

* request: from `Submit` to its end: admission, start, answer, the last byte, and the slot to the next; of 100 sources,
  two on each of 50 hosts, with so many queued that all slots are in use.
* request, 10,000 queued: the same behind a long queue.
* review: one look at who is to be cut for whom, with 64 transfers running and 1,000 requests queued.

Times are of CPU, of this thread alone. The goal: 10,000 requests a second, so 100 us for one.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections import deque
from collections.abc import Callable

from benches.options import Commands, common
from benches.report import machine_line, write_json
from kithara_actors.logic import fetch
from kithara_actors.logic import slots_steps as steps
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.logic.slots import SlotMap
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import ContentId, FetchKind, Priority, RequestId, Validator

__all__ = ["GOAL", "add", "status"]

GOAL = 100e-6
"""Seconds of CPU for one request."""
_KINDS = (FetchKind.DEMAND, FetchKind.DEMAND, FetchKind.READ_AHEAD, FetchKind.PREFETCH)


class _System:
    """Both machines, and what their actors would pass between them."""

    def __init__(self, chance: random.Random, queued: int) -> None:
        self._slots = SlotMap(64, 16, preempt_after=0.5)
        self._book = fetch.FetchBook(RetryPolicy(6))
        self._chance = chance
        self._now = 0.0
        self._next = 0
        self._running: deque[RequestId] = deque()
        self._attempts: dict[RequestId, int] = {}
        for peer in range(0, 100, 2):
            self._do(steps.Prioritize(f"source-{peer}", Priority.HIGH))
        for _ in range(queued):
            self.ask()

    def ask(self) -> None:
        """One more request."""
        self._next += 1
        self._do(steps.Submit(self._spec(RequestId(self._next))))

    def serve(self) -> None:
        """The oldest of those that run comes to its end."""
        request = self._running.popleft()
        attempt = self._attempts.pop(request)
        self._fetch(fetch.Answered(request, attempt, 5000, Validator('"v"')))
        self._fetch(fetch.Ended(request, attempt, 5000, complete=True, total=5000))

    def review(self) -> None:
        """Somebody waits for a tenth of what is there; all that run are ahead."""
        waited = tuple(RequestId(number) for number in range(1, self._next, 10))
        leads = tuple(steps.Lead(request, 1000 + request, 2000) for request in self._running)
        self._now += 1.0
        for action in self._slots.handle(steps.Review(waited, leads), self._now):
            assert isinstance(action, steps.Preempt | steps.LookAfter)

    def _do(self, event: steps.Event) -> None:
        self._now += 1e-5
        for action in self._slots.handle(event, self._now):
            if isinstance(action, steps.Admit):
                self._running.append(action.spec.request)
                self._fetch(fetch.Start(action.spec, action.again))

    def _fetch(self, event: fetch.Event) -> None:
        for action in self._book.handle(event, 0.5):
            if isinstance(action, fetch.Run):
                self._attempts[action.spec.request] = action.attempt
            elif isinstance(action, fetch.End):
                self._do(steps.Finish(action.spec.request))

    def _spec(self, request: RequestId) -> FetchSpec:
        peer = self._chance.randrange(100)
        origin = f"http://host-{peer % 50}"
        return FetchSpec(
            request=request,
            asset=1,
            peer=f"source-{peer}",
            kind=self._chance.choice(_KINDS),
            url=f"{origin}/file",
            origin=origin,
            headers=(),
            content=ContentId(1),
            lane=0,
            generation=1,
            start=0,
            end=None,
            ranged=True,
            total=None,
            validator=None,
            limit=None,
        )


def add(commands: Commands) -> None:
    """The sub-command and its options."""
    one = commands.add_parser(
        "logic",
        help="the pure logic of admission and of requests",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("--count", type=int, default=5_000, metavar="N", help="of requests in a sample (default 5000)")
    common(one, rounds=11)
    one.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0, or 1 if the goal is missed."""
    count = 200 if arguments.smoke else arguments.count
    chance = random.Random(arguments.seed)
    found: dict[str, list[float]] = {"request": [], "request, 10,000 queued": [], "review": []}
    for _ in range(arguments.rounds):
        for name, queued in (("request", 200), ("request, 10,000 queued", 10_000)):
            found[name].append(_requests(_System(chance, queued), count))
        found["review"].append(_timed(_System(chance, 1064).review))
    print(f"{count} requests a sample, {arguments.rounds} rounds, {machine_line()}\n")
    print(f"{'':24}{'p50':>11}{'max':>11}{'a second':>11}")
    for name, values in found.items():
        middle = _median(values)
        print(f"{name:24}{middle * 1e6:>8.1f} us{max(values) * 1e6:>8.1f} us{1 / middle:>11,.0f}")
    if not arguments.smoke:
        print(f"\n10,000 requests a second: {'yes' if not status(found, verdict=True) else 'no'}")
    if arguments.json is not None:
        write_json(arguments.json, arguments, {"figures": found})
    return status(found, verdict=not arguments.no_verdict)


def status(found: dict[str, list[float]], *, verdict: bool) -> int:
    """What to exit with."""
    slow = any(_median(values) > GOAL for name, values in found.items() if name.startswith("request"))
    return 1 if verdict and slow else 0


def _requests(system: _System, count: int) -> float:
    def serve() -> None:
        for _ in range(count):
            system.ask()
            system.serve()

    return _timed(serve) / count


def _timed(call: Callable[[], object]) -> float:
    gc.collect()
    began = time.thread_time()
    call()
    return time.thread_time() - began


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
