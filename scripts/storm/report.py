"""The table at the end of a run, and what goes into it besides the faults."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from storm.verdict import Tally

__all__ = ["Counting", "resident", "tell"]

_LOGGERS = ("actors", "kithara_actors", "pykka")
_TOLD = (
    "ActorRestarted",
    "WorkerLost",
    "WorkerStarted",
    "RequestRetrying",
    "RequestCompleted",
    "RequestCancelled",
    "RequestFailed",
    "DeadLetter",
)


class Counting(logging.Handler):
    """Counts what the library logs instead of showing it, for use in a with statement."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines[record.levelname.lower()] += 1

    def __enter__(self) -> Self:
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(self)


def resident() -> int:
    """KiB of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def tell(tally: Tally, counts: Mapping[str, Counter[str]], logged: Counter[str], found: Sequence[str]) -> None:
    """Print it."""
    print(f"\n{'fault':24}{'planned':>9}{'done':>9}")
    for name in sorted(counts["planned"] | counts["done"]):
        print(f"{name:24}{counts['planned'][name]:>9}{counts['done'][name]:>9}")
    load, events = counts["load"], tally.ends.counts
    print(f"\n{'load':24}{'':>9}{'count':>9}")
    for name in sorted(load):
        print(f"{name.replace('_', ' '):33}{load[name]:>9}")
    print(f"{'MB checked':33}{tally.bytes_checked / 1e6:>9.0f}")
    print(f"\n{'events':24}{'':>9}{'count':>9}")
    print(f"{'requests':33}{tally.ends.requests:>9}")
    for name in _TOLD:
        print(f"{name:33}{events[name]:>9}")
    for name in sorted(tally.restarted):
        if not name.startswith("source-"):
            print(f"{'  restarts of ' + name:33}{tally.restarted[name]:>9}")
    print(f"{'lines logged':33}{sum(logged.values()):>9}")
    if tally.recorded:
        print(f"{'decisions replayed':33}{tally.replayed:>9}")
    for name, kib in counts["rss"].items():
        print(f"{'MiB resident ' + name:33}{kib / 1024:>9.1f}")
    print()
    for line in found:
        print(f"WRONG: {line}")
    print("FAILED" if found else "nothing was seen of it: every byte right, every request ended once, nothing left")
