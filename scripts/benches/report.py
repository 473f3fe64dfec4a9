"""What was measured, told: a table, ratios against goals, how quiet the machine was, and all of it as JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

from benches.bodies import GIB
from benches.rounds import Sample, Taken

__all__ = [
    "Goal",
    "machine_line",
    "median_of",
    "plain",
    "print_disturbance",
    "print_table",
    "print_verdicts",
    "write_json",
]


@dataclass(frozen=True, slots=True)
class Goal:
    """How many times as fast as a rival ours has to be."""

    rival: str
    least: float
    words: str


Samples = Mapping[str, Sequence[Sample]]


def median_of(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.seconds for sample in samples)


def machine_line() -> str:
    return f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"


def print_table(samples: Samples, size: int) -> None:
    """Of subjects that each took `size` bytes at a time; ours is the one named so."""
    rivals = [name for name in samples if name != "ours"]
    heads = ["median s", "min", "max", "GiB/s", *(f"x {rival}" for rival in rivals), "CPU s/GiB", "nginx s/GiB"]
    print(f"{'':12}" + "".join(f"{head:>12}" for head in heads))
    for name, taken in samples.items():
        median = median_of(taken)
        seconds = [sample.seconds for sample in taken]
        cells = [f"{median:.3f}", f"{min(seconds):.3f}", f"{max(seconds):.3f}", f"{size / GIB / median:.2f}"]
        cells += [f"{median_of(samples[rival]) / median:.2f}" for rival in rivals]
        for field in ("client", "server"):
            used = statistics.median(getattr(sample, field) for sample in taken)
            cells.append(f"{used * GIB / size:.2f}")
        print(f"{name:12}" + "".join(f"{cell:>12}" for cell in cells))


def print_verdicts(samples: Samples, goals: Sequence[Goal], ours: str = "ours") -> bool:
    """One line a goal, from the ratio of the medians, with the ratios round by round behind it: are all reached?"""
    good = True
    for goal in goals:
        ratio = median_of(samples[goal.rival]) / median_of(samples[ours])
        reached = ratio >= goal.least
        good = good and reached
        pairs = zip(samples[goal.rival], samples[ours], strict=True)
        each = sorted(rival.seconds / own.seconds for rival, own in pairs)
        print(
            f"{goal.words}: {'yes' if reached else 'no'} ({ratio:.3f})"
            f"  [round by round {statistics.median(each):.2f}, {each[0]:.2f} to {each[-1]:.2f}]"
        )
    return good


def print_disturbance(taken: Taken) -> None:
    every = [sample for samples in taken.samples.values() for sample in samples]
    share = statistics.mean(sample.others_share for sample in every)
    again = ", ".join(f"{len(dropped)} of {name}" for name, dropped in taken.dropped.items() if dropped)
    left = taken.disturbed
    print(
        f"CPU of the machine that others used meanwhile: {share:.0%}; samples taken again for that: {again or 'none'}"
        f"{f', and {left} left as they are: A DISTURBED RUN' if left else ''}"
    )


def write_json(path: Path, arguments: argparse.Namespace, measured: Mapping[str, object]) -> None:
    """Everything to `path`: how it was called, on what, and what was `measured`."""
    asked = {name: value for name, value in vars(arguments).items() if name not in ("json", "run")}
    told = {
        **asked,
        "machine": {
            "kernel": platform.release(),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "requests": requests.__version__,
        },
        **measured,
    }
    path.write_text(json.dumps(told, indent=1) + "\n")


def plain(taken: Taken) -> dict[str, object]:
    """The samples for `write_json`."""

    def listed(samples: Samples) -> dict[str, list[dict[str, float]]]:
        return {name: [dataclasses.asdict(sample) for sample in each] for name, each in samples.items()}

    return {
        "medians": {name: median_of(samples) for name, samples in taken.samples.items()},
        "samples": listed(taken.samples),
        "dropped": listed(taken.dropped),
    }
