"""`bench.py requests`: many small requests through a warm system, against sessions of requests in threads, and aiohttp.

A real nginx on loopback answers `GET` of 4 KiB and `HEAD`; every request has a URL of its own. The subjects take turns
in every round, in an order shuffled anew, after a warm-up round that is not counted, opens the connections, and in
which every byte is compared; later the status and the length of each answer are looked at. All of them share the
processors with nginx.

* execute-N: `system.execute` from N threads of this process. batch: one thread that takes all from `system.batch`.
* requests-N: a session per thread, N threads of this process, without what it reads from the environment. The best of
  the three is who ours is compared with.
* aiohttp: one session of at most 32 connections, 32 tasks, one thread.

Each thread or task takes the next number as soon as it has an answer; making the command or calling `get` is counted.
CPU in milliseconds for each request: `host` is this process, `workers` are the processes that the system has.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benches.machine import DISTURBED, TMPFS, cpu_of, machine_busy, own_cpu, wait_idle
from benches.options import Commands, common, positive
from benches.report import machine_line, write_json
from benches.requests_subjects import Aiohttp, Batch, Execute, Requests, Subject, Task
from benches.servers import Nginx
from kithara_actors import ActorSystem

__all__ = ["Sample", "add", "reached"]

SIZE = 4096
PER_SECOND = 2000
TIMES_REQUESTS = 1.5
METHODS = ("GET", "HEAD")
THREADS = (8, 16, 32)
"""Of the rival."""
_AGAIN = 3
"""How often, for one sample."""
_IDLE_WITHIN = 10.0


def add(commands: Commands) -> None:
    """The sub-command and its options."""
    one = commands.add_parser(
        "requests",
        help="small requests per second, against sessions of requests in threads, and aiohttp",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("--count", type=positive, default=3000, help="requests of a sample (default 3000)")
    one.add_argument("--workers", type=positive, default=2, help="processes of ours (default 2)")
    common(one, rounds=5)
    one.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class Sample:
    """Requests per second; CPU seconds for all of them; what others used of all processors meanwhile."""

    rate: float
    host: float
    workers: float
    server: float
    others: float


Samples = Mapping[str, Sequence[Sample]]
"""By subject, round by round."""


class _Rounds:
    """All subjects with both methods in each round."""

    def __init__(self, arguments: argparse.Namespace, nginx: Nginx, body: bytes, pids: Callable[[], list[int]]) -> None:
        self._arguments = arguments
        self._nginx = nginx
        self._body = body
        self._pids = pids
        self.disturbed = 0

    def run(self, subjects: Sequence[Subject]) -> dict[str, dict[str, list[Sample]]]:
        """Samples by method and subject; the warm-up is left out."""
        chance = random.Random(self._arguments.seed)
        samples: dict[str, dict[str, list[Sample]]] = {
            method: {subject.name: [] for subject in subjects} for method in METHODS
        }
        for number in range(self._arguments.rounds + 1):
            print(f"round {number}:" if number else "warm-up:", end="", file=sys.stderr)
            turns = [(method, subject) for method in METHODS for subject in subjects]
            for method, subject in chance.sample(turns, len(turns)):
                sample = self._sample(subject, method, number)
                print(f" {subject.name} {method} {sample.rate:.0f}", end="", file=sys.stderr, flush=True)
                if number:
                    samples[method][subject.name].append(sample)
            print(file=sys.stderr)
        return samples

    def _sample(self, subject: Subject, method: str, number: int) -> Sample:
        """One that nobody has disturbed, if there is one."""
        patient = number > 0 and not self._arguments.smoke
        for go in range(_AGAIN + 1 if patient else 1):
            if patient and not wait_idle(_IDLE_WITHIN):
                print(" (somebody else keeps the machine busy)", end="", file=sys.stderr, flush=True)
            sample = self._measure(subject, self._task(method, f"{number}-{go}-{subject.name}", full=number == 0))
            if sample.others <= DISTURBED:
                break
        else:
            self.disturbed += 1
        return sample

    def _task(self, method: str, words: str, *, full: bool) -> Task:
        want = self._body if method == "GET" else b""

        def check(status: int, body: bytes) -> None:
            if status != 200 or len(body) != len(want) or (full and body != want):
                raise SystemExit(f"a wrong answer: status {status}, {len(body)} bytes")

        return Task(method, self._arguments.count, lambda n: self._nginx.url(f"small.bin?{words}={n}"), check)

    def _measure(self, subject: Subject, task: Task) -> Sample:
        gc.collect()
        before = self._clocks()
        subject.run(task)
        wall, busy, *used = (now - then for now, then in zip(self._clocks(), before, strict=True))
        host, workers, server = used
        others = max(0.0, busy - sum(used)) / wall / (os.cpu_count() or 1)
        return Sample(task.count / wall, host, workers, server, others)

    def _clocks(self) -> tuple[float, float, float, float, float]:
        return time.perf_counter(), machine_busy(), own_cpu(), cpu_of(self._pids()), cpu_of(self._nginx.pids)


def best(samples: Samples, names: Sequence[str]) -> str:
    """The one with the highest median of those named."""
    return max(names, key=lambda name: _median(samples[name]))


def reached(samples: Mapping[str, Samples], ours: Sequence[str], rivals: Sequence[str]) -> bool:
    """A line for each method: whether the best of ours reaches both goals against the best of the rivals."""
    good = True
    for method, taken in samples.items():
        own, rival = best(taken, ours), best(taken, rivals)
        rate = _median(taken[own])
        ratio = rate / _median(taken[rival])
        pairs = zip(taken[own], taken[rival], strict=True)
        each = sorted(mine.rate / other.rate for mine, other in pairs)
        for words, value, least in (
            (f"at least {PER_SECOND} a second", rate, PER_SECOND),
            (f"at least {TIMES_REQUESTS} x {rival}", ratio, TIMES_REQUESTS),
        ):
            good = good and value >= least
            shown = f"{value:.0f}" if value is rate else f"{value:.2f}"
            print(f"{method}, {own}: {words}: {'yes' if value >= least else 'no'} ({shown})", end="")
            print(f"  [round by round {each[0]:.2f} to {each[-1]:.2f}]" if value is ratio else "")
    return good


def print_tables(samples: Mapping[str, Samples], rivals: Sequence[str], count: int) -> None:
    """One for each method; ratios to the best of the rivals, above 1 is faster."""
    for method, taken in samples.items():
        rival = best(taken, rivals)
        heads = ("a second", "min", "max", f"x {rival}", "host ms", "workers ms", "nginx ms")
        print(f"{method:12}" + "".join(f"{head:>15}" for head in heads))
        for name, each in taken.items():
            rates = [sample.rate for sample in each]
            cells = [f"{_median(each):.0f}", f"{min(rates):.0f}", f"{max(rates):.0f}"]
            cells.append(f"{_median(each) / _median(taken[rival]):.2f}")
            for field in ("host", "workers", "server"):
                used = statistics.median(getattr(sample, field) for sample in each)
                cells += [f"{used / count * 1000:.2f}"]
            print(f"{name:12}" + "".join(f"{cell:>15}" for cell in cells))


def _median(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.rate for sample in samples)


def run(arguments: argparse.Namespace) -> int:
    """Small requests; 1 if a goal is missed."""
    if arguments.smoke:
        arguments.count = 50
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="kithara-bench-", dir=TMPFS))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        nginx = Nginx(folder)
        stack.callback(nginx.stop)
        body = random.Random(SIZE).randbytes(SIZE)
        (nginx.www / "small.bin").write_bytes(body)
        most = max(THREADS)
        system = stack.enter_context(
            ActorSystem.start(workers=arguments.workers, max_per_host=most, max_concurrent=2 * most)
        )
        subjects: list[Subject] = [
            Batch(system),
            *(Execute(system, threads) for threads in (8, 32)),
            *(Requests(threads) for threads in THREADS),
            Aiohttp(most),
        ]
        for subject in subjects:
            stack.callback(subject.close)
        rounds = _Rounds(arguments, nginx, body, lambda: list(system.workers().values()))
        samples = rounds.run(subjects)
    rivals = [subject.name for subject in subjects if isinstance(subject, Requests)]
    print(f"{arguments.count} requests at a time, {arguments.rounds} rounds, {machine_line()}; CPU for one request")
    print_tables(samples, rivals, arguments.count)
    if arguments.json is not None:
        told = {
            method: {name: [asdict(sample) for sample in each] for name, each in taken.items()}
            for method, taken in samples.items()
        }
        write_json(arguments.json, arguments, {"samples": told})
    if rounds.disturbed:
        print(f"A DISTURBED RUN: others used the machine during {rounds.disturbed} samples; no verdict")
    if arguments.no_verdict or rounds.disturbed:
        return 0
    return 0 if reached(samples, [subject.name for subject in subjects if subject.ours], rivals) else 1
