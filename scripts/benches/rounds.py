"""Subjects that take turns: the same body through each of them, round after round, on a quiet machine."""

from __future__ import annotations

import dataclasses
import gc
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benches.bodies import MIB, SAMPLE
from benches.machine import DISTURBED, TMPFS, cpu_of, machine_busy, own_cpu, touch_memory, wait_free, wait_idle

__all__ = ["Meter", "Place", "Rounds", "Sample", "Subject", "Taken"]

_AGAIN = 5
"""How often, for one sample."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One body. CPU in seconds: of the client with all its processes, and of nginx."""

    seconds: float
    client: float
    server: float
    others: float
    """CPU seconds that nobody of ours used meanwhile, as far as the kernel's ticks tell."""
    around: float
    """For curl the time around the process; else the same as `seconds`."""

    @property
    def others_share(self) -> float:
        """What others used of all processors meanwhile."""
        return self.others / self.around / (os.cpu_count() or 1)


class Meter:
    """Looks at the clocks when a subject begins and when it has its last byte."""

    def __init__(self, client: Sequence[int], server: Sequence[int]) -> None:
        self._client = client
        self._server = server
        self.sample: Sample | None = None

    def start(self) -> None:
        self._before = self._cpu()
        self._began = time.perf_counter()

    def stop(self) -> None:
        around = time.perf_counter() - self._began
        busy, client, server = (now - then for now, then in zip(self._cpu(), self._before, strict=True))
        self.sample = Sample(around, client, server, max(0.0, busy - client - server), around)

    def take(self, seconds: float) -> None:
        """Put a better figure in place of the seconds."""
        if self.sample is not None:
            self.sample = dataclasses.replace(self.sample, seconds=seconds)

    def _cpu(self) -> tuple[float, float, float]:
        return machine_busy(), own_cpu() + cpu_of(self._client), cpu_of(self._server)


@dataclass(frozen=True, slots=True)
class Place:
    """What a subject is given for one body. `full`: compare every byte, the timing does not count."""

    url: str
    scratch: Path
    buffer: bytearray
    offset: int
    full: bool


class Subject(Protocol):
    name: str

    def pids(self) -> Sequence[int]:
        """Processes beside this one that work for the subject."""

    def run(self, place: Place, meter: Meter) -> None:
        """Take the body once, between `meter.start()` and `meter.stop()`, then check it. Leaves nothing on tmpfs."""


@dataclass(slots=True)
class Taken:
    """All samples by subject, round by round, and those that had to be taken again."""

    samples: dict[str, list[Sample]]
    dropped: dict[str, list[Sample]]

    @property
    def disturbed(self) -> int:
        """How many samples had to be left as they are though others used much of the processors."""
        return sum(sample.others_share > DISTURBED for samples in self.samples.values() for sample in samples)


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often to measure and where. `size` is that of what one subject stores at a time.

    `url` gives an address never asked for before that ends in the words it is given. Not `patient`, it measures
    at once and keeps what it gets: to see that everything works, not how fast.
    """

    url: Callable[[str], str]
    server: Sequence[int]
    """Process ids."""
    folder: Path
    size: int
    rounds: int
    seed: int
    patient: bool = True

    def run(self, subjects: Sequence[Subject]) -> Taken:
        """All subjects in each round, shuffled; the warm-up is left out of what is returned."""
        chance = random.Random(self.seed)
        buffer = bytearray(MIB)
        taken = Taken({subject.name: [] for subject in subjects}, {subject.name: [] for subject in subjects})
        again_at_most = _AGAIN if self.patient else 0
        for number in range(self.rounds + 1):
            print(f"round {number}:" if number else "warm-up:", end="", file=sys.stderr)
            for subject in chance.sample(subjects, len(subjects)):
                for go in range(again_at_most + 1):
                    place = Place(
                        self.url(f"{number}-{go}-{subject.name}".replace(" ", "-")),
                        self.folder / f"{subject.name}.bin",
                        buffer,
                        chance.randrange(min(MIB, self.size) - SAMPLE),
                        number == 0,
                    )
                    sample = self._measure(subject, place)
                    again = number > 0 and go < again_at_most and sample.others_share > DISTURBED
                    print(
                        f" {subject.name} {sample.seconds:.3f}{'!' if again else ''}",
                        end="",
                        file=sys.stderr,
                        flush=True,
                    )
                    if not again:
                        break
                    taken.dropped[subject.name].append(sample)
                if number:
                    taken.samples[subject.name].append(sample)
            print(file=sys.stderr)
        return taken

    def _measure(self, subject: Subject, place: Place) -> Sample:
        """One body through one subject, on a quiet machine."""
        gc.collect()
        free = os.statvfs(TMPFS).f_bfree
        if self.patient:
            if not wait_idle():
                print(" (somebody else keeps the machine busy)", end="", file=sys.stderr, flush=True)
            touch_memory(self.size + self.size // 2)
        meter = Meter(subject.pids(), self.server)
        subject.run(place, meter)
        wait_free(free)
        assert meter.sample is not None
        return meter.sample
