"""`bench.py events`: what listeners cost: requests and bytes per second with none, one, and a hundred of them.

One system with two worker processes and nginx. Each round takes every way of listening in a random order, and in each
measures small requests (4 KiB, `system.execute`, by several threads) and one large body (read by `system.open`):

* nobody; one that reads, on a thread of its own;
* many that never read; many that read all events, each on a thread of its own; many that do so in one event loop.

A request has four events, whoever listens; without a listener none is made. The goals: many that never read, and one
that reads all, each leave nine tenths of what there is without any, in the median of the rounds, each compared within
itself. Beside it stands the processor time of this process for a request, which says more on a machine that has other
things to do. A hundred that read take every event a hundred times, in the interpreter that also runs the requests: what
that costs is shown, and has no goal.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benches.machine import wait_idle
from benches.options import Commands, common, positive
from benches.report import machine_line, write_json
from benches.servers import Nginx
from kithara_actors import ActorSystem, FetchCommand, Subscription

__all__ = ["JUDGED", "LISTENERS", "Sample", "add", "enough", "ratio"]

SMALL, LARGE = 4096, 64 << 20
GOAL = 0.9
JUDGED = {"many, unread": "many that never read", "one reads": "one that reads all"}


def add(commands: Commands) -> None:
    """The sub-command and its options."""
    one = commands.add_parser(
        "events",
        help="what listeners cost: requests and bytes per second with none, one and a hundred",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("--listeners", type=positive, default=100, help="how many are many (default 100)")
    one.add_argument("--requests", type=positive, default=500, help="small ones in a sample (default 500)")
    one.add_argument("--threads", type=positive, default=8, help="that ask for them (default 8)")
    common(one, rounds=15)
    one.set_defaults(run=run)


@contextlib.contextmanager
def _subscribed(system: ActorSystem, count: int) -> Iterator[list[Subscription]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(system.subscribe()) for _ in range(count)]


@contextlib.contextmanager
def _reading(system: ActorSystem, count: int) -> Iterator[None]:
    def read(subscription: Subscription) -> None:
        for _ in subscription:
            pass

    with _subscribed(system, count) as subscriptions:
        threads = [threading.Thread(target=read, args=(each,)) for each in subscriptions]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for subscription in subscriptions:
                subscription.close()
            for thread in threads:
                thread.join()


@contextlib.contextmanager
def _looping(system: ActorSystem, count: int) -> Iterator[None]:
    async def read(subscription: Subscription) -> None:
        async for _ in subscription:
            pass

    async def read_all(subscriptions: list[Subscription]) -> None:
        await asyncio.gather(*(read(each) for each in subscriptions))

    with _subscribed(system, count) as subscriptions:
        thread = threading.Thread(target=lambda: asyncio.run(read_all(subscriptions)))
        thread.start()
        try:
            yield
        finally:
            for subscription in subscriptions:
                subscription.close()
            thread.join()


Listening = Callable[[ActorSystem, int], contextlib.AbstractContextManager[object]]
LISTENERS: dict[str, Listening] = {
    "nobody": lambda _, __: contextlib.nullcontext(),
    "one reads": lambda system, _: _reading(system, 1),
    "many, unread": _subscribed,
    "many read": _reading,
    "many in a loop": _looping,
}


@dataclass(slots=True)
class Sample:
    """Requests and bytes per second, and seconds of this process's processor time for a request."""

    requests: float
    bytes: float
    cpu: float


def enough(rounds: Sequence[dict[str, Sample]], name: str) -> bool:
    """Whether that way of listening leaves enough, of requests and of bytes."""
    return min(ratio(rounds, name, "requests"), ratio(rounds, name, "bytes")) >= GOAL


def ratio(rounds: Sequence[dict[str, Sample]], name: str, what: str) -> float:
    """`what` with these listeners, as a part of what it is with nobody: the median of the rounds."""
    ratios = [getattr(each[name], what) / getattr(each["nobody"], what) for each in rounds]
    return float(statistics.median(ratios))


def run(arguments: argparse.Namespace) -> int:
    """1 if the goal is missed; raises what a request raised."""
    if arguments.smoke:
        arguments.requests = 20
    size = 1 << 20 if arguments.smoke else LARGE
    chance = random.Random(arguments.seed)
    rounds: list[dict[str, Sample]] = []
    with tempfile.TemporaryDirectory() as folder:
        nginx = Nginx(Path(folder))
        try:
            (nginx.www / "small").write_bytes(bytes(SMALL))
            (nginx.www / "large").write_bytes(bytes(size))
            with ActorSystem.start(memory_limit=4 * LARGE) as system:
                if not arguments.smoke:
                    wait_idle()
                for number in range(arguments.rounds + 1):
                    taken: dict[str, Sample] = {}
                    for name in chance.sample(list(LISTENERS), len(LISTENERS)):
                        with LISTENERS[name](system, arguments.listeners):
                            large = nginx.url(f"large?{number}-{name}".replace(" ", "-"))
                            taken[name] = _sample(system, nginx.url("small"), large, size, arguments)
                    if number:
                        rounds.append(taken)
                    print(".", end="", file=sys.stderr, flush=True)
                print(file=sys.stderr)
        finally:
            nginx.stop()
    print(f"{machine_line()}; {arguments.listeners} listeners, seed {arguments.seed}")
    print(f"{'listeners':<16}{'requests/s':>11}{'ratio':>7}{'MB/s':>8}{'ratio':>7}{'CPU ms/request':>16}{'ratio':>7}")
    for name in LISTENERS:
        middle = {what: statistics.median(getattr(each[name], what) for each in rounds) for what in Sample.__slots__}
        print(
            f"{name:<16}{middle['requests']:>11.0f}{ratio(rounds, name, 'requests'):>7.2f}"
            f"{middle['bytes'] / 1e6:>8.0f}{ratio(rounds, name, 'bytes'):>7.2f}"
            f"{middle['cpu'] * 1000:>16.3f}{ratio(rounds, name, 'cpu'):>7.2f}"
        )
    if arguments.json is not None:
        plain = [{name: asdict(sample) for name, sample in each.items()} for each in rounds]
        write_json(arguments.json, arguments, {"rounds": plain})
    if arguments.no_verdict:
        return 0
    for name, words in JUDGED.items():
        verdict = "ok" if enough(rounds, name) else "MISSED"
        print(f"{verdict}: with {words}, {GOAL:.0%} of what there is without any")
    return 0 if all(enough(rounds, name) for name in JUDGED) else 1


def _sample(system: ActorSystem, small: str, large: str, size: int, arguments: argparse.Namespace) -> Sample:
    cpu = time.process_time()
    requests = _small(system, small, arguments.requests, arguments.threads)
    cpu = time.process_time() - cpu
    return Sample(requests, _large(system, large, size), cpu / arguments.requests)


def _small(system: ActorSystem, url: str, count: int, threads: int) -> float:
    """Requests per second."""
    left = iter(range(count))
    wrong: list[BaseException] = []
    command = FetchCommand.get(url)

    def ask() -> None:
        try:
            for _ in left:
                if len(system.execute(command, 30.0).body) != SMALL:
                    raise ValueError("a body of another length")
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            wrong.append(error)

    asking = [threading.Thread(target=ask) for _ in range(threads)]
    began = time.perf_counter()
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    seconds = time.perf_counter() - began
    if wrong:
        raise wrong[0]
    return count / seconds


def _large(system: ActorSystem, url: str, size: int) -> float:
    """Bytes per second."""
    buffer = bytearray(1 << 20)
    count = 0
    began = time.perf_counter()
    with system.open(url) as stream:
        while got := stream.readinto(buffer):
            count += got
    if count != size:
        raise ValueError(f"{count} bytes of {size}")
    return count / (time.perf_counter() - began)
