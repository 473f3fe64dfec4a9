"""`bench.py cancel`: how soon a cancelled transfer is over, with a hundred in flight at random phases.

Each round makes a system of its own with two worker processes (`system`), or runs the attempts of a worker on
threads of this process (`attempt`); a server keeps every transfer in the phase that chance gave it:

* queued for a slot; in a name lookup that hangs (the resolver is replaced in the worker); in a connect to a full
  backlog; in a TLS handshake that is not answered; before the header, in the middle of the header; in a back-off of
  30 s; in a body that trickles; in one that comes as fast as it can, plain, by TLS, or in chunks.

When all are in their phases they are cancelled in a random order, `apart` (0 to 10 ms between two) or all `at once`.

What is timed, from just before the call, by the clock that all processes share:

* socket: until the server's kernel tells it that the connection is over. A connect has nobody to see it: the kernel
  is asked that none goes on, and the end, which is told after the socket was closed, stands for it.
* end: `system`: until the request's terminal event is published; `attempt`: until its thread has raised `Cancelled`.

p99 of the socket, or where there is none of the end, has to be below 10 ms for those in the body and below 100 ms
for the others. A hundred at once queue for one interpreter: of them it has to be below 100 ms, wherever they are.
Whatever the times: a socket that stays open, a request with no end or two, or anything left behind afterwards is an
error. A round during which others took much of the processors is made again.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from actors.testing import leaks
from benches import hanging_lookup
from benches.cancel_drivers import Attempts, Driver, System
from benches.cancel_phases import PHASES, Origin, Phase, Transfer
from benches.machine import DISTURBED, Busyness, wait_idle
from benches.options import Commands, common, positive
from benches.report import machine_line, write_json
from benches.servers import Authority

__all__ = ["Latencies", "Outcome", "add", "faults", "percentile", "status", "verdicts"]

MODES = ("apart", "at once")
LIMITS = {("apart", True): 0.010, ("apart", False): 0.100, ("at once", True): 0.100, ("at once", False): 0.100}
"""Seconds of p99, by mode and whether in the body."""
GAP = 0.010
"""Seconds at most between two cancels that are `apart`."""

_AGAIN = 5
_IN_PHASE_WITHIN = 30.0
_OVER_WITHIN = 10.0
_POLL = 0.01


def add(commands: Commands) -> None:
    """The sub-command and its options."""
    one = commands.add_parser(
        "cancel",
        help="a hundred transfers at random phases: how soon is the socket shut down, the end told",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("--transfers", type=positive, default=100, help="in flight at once (default 100)")
    one.add_argument("--fast", type=int, default=3, help="of these at full speed (default 3)")
    one.add_argument("--layer", choices=("system", "attempt", "both"), default="both", help="(default both)")
    common(one, rounds=8)
    one.set_defaults(run=run)


@dataclass(slots=True)
class Latencies:
    """Seconds by phase, of all rounds of one layer and mode."""

    socket: dict[str, list[float]] = field(default_factory=dict)
    end: dict[str, list[float]] = field(default_factory=dict)
    call: list[float] = field(default_factory=list)

    def add(self, transfer: Transfer) -> None:
        name = transfer.phase.name
        self.socket.setdefault(name, []).extend(gone - transfer.cancelled_at for gone in transfer.gone if gone)
        self.end.setdefault(name, []).extend(end - transfer.cancelled_at for end in transfer.ended)
        self.call.append(transfer.call_seconds)

    def judged(self, *, body: bool) -> list[float]:
        """Of the phases in the body, or the others: the sockets, or the ends of what has none."""
        return [
            seconds
            for phase in PHASES
            if phase.body is body
            for seconds in (self.socket.get(phase.name) or self.end.get(phase.name, []))
        ]


@dataclass(slots=True)
class Outcome:
    """All that was measured, and what was wrong."""

    latencies: dict[tuple[str, str], Latencies] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    disturbed: int = 0
    again: int = 0


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by `share` of all."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def run(arguments: argparse.Namespace) -> int:
    """1 if a limit is missed on a quiet machine, or anything is wrong."""
    if arguments.smoke:
        # One in each phase.
        arguments.transfers, arguments.fast = len(PHASES), sum(phase.busy for phase in PHASES)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    drivers: list[Callable[[], Driver]] = []
    if arguments.layer != "attempt":
        drivers.append(System)
    if arguments.layer != "system":
        drivers.append(Attempts)
    chance = random.Random(arguments.seed)
    outcome = Outcome()
    with _folder() as folder:
        authority = Authority(folder)
        lookups = folder / "lookups"
        lookups.mkdir()
        os.environ[hanging_lookup.FOLDER] = str(lookups)
        with contextlib.closing(Origin(authority, lookups, arguments.transfers, nice=not arguments.smoke)) as server:
            for number in range(arguments.rounds + (not arguments.smoke)):
                print(f"round {number}:" if number else "warm-up:", end="", file=sys.stderr, flush=True)
                for make in drivers:
                    for mode in MODES:
                        counted = number > 0 or arguments.smoke
                        _measure(make, mode, server, authority.ca, chance, arguments, outcome, counted=counted)
                print(file=sys.stderr)
    return _tell(arguments, outcome)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    before = tempfile.tempdir
    folder = Path(tempfile.mkdtemp(prefix="kithara-bench-"))
    try:
        # So that what appears there while nothing should was left by us.
        tempfile.tempdir = str(folder)
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


def _measure(
    make: Callable[[], Driver],
    mode: str,
    server: Origin,
    ca: Path,
    chance: random.Random,
    arguments: argparse.Namespace,
    outcome: Outcome,
    *,
    counted: bool,
) -> None:
    """One round of one layer and mode, again while others disturb it."""
    tries = 1 if arguments.smoke else _AGAIN + 1
    for go in range(tries):
        if not arguments.smoke and not wait_idle():
            print(" (somebody else keeps the machine busy)", end="", file=sys.stderr)
        driver = make()
        phases = [phase for phase in PHASES if driver.serves(phase.name)]
        transfers = server.transfers(_some(phases, arguments.transfers, arguments.fast, chance))
        before = leaks.snapshot()
        others = _round(driver, mode, server, ca, chance, transfers, outcome)
        outcome.wrong += [f"left behind: {line}" for line in leaks.compare(before)]
        disturbed = others > DISTURBED
        print(f" {driver.name} {mode}{'!' if disturbed else ''}", end="", file=sys.stderr, flush=True)
        if not disturbed or go == tries - 1:
            break
        outcome.again += 1
    if counted:
        outcome.disturbed += disturbed
        latencies = outcome.latencies.setdefault((driver.name, mode), Latencies())
        for transfer in transfers:
            latencies.add(transfer)


def _some(phases: Sequence[Phase], count: int, fast: int, chance: random.Random) -> list[Phase]:
    """So many phases by chance, none left out as long as there is room; at most `fast` at full speed."""

    def chosen_of(those: list[Phase], number: int) -> list[Phase]:
        return [*chance.sample(those, min(number, len(those))), *chance.choices(those, k=max(0, number - len(those)))]

    fast = min(fast, count)
    chosen = chosen_of([phase for phase in phases if phase.busy], fast)
    chosen += chosen_of([phase for phase in phases if not phase.busy], count - fast)
    chance.shuffle(chosen)
    return chosen


def _round(
    driver: Driver,
    mode: str,
    server: Origin,
    ca: Path,
    chance: random.Random,
    transfers: list[Transfer],
    outcome: Outcome,
) -> float:
    """Start, wait, cancel, and look at what became of it. What others used of the processors meanwhile."""
    try:
        driver.start(transfers, ca)
        if not _until(lambda: driver.started() and not server.missing(transfers), _IN_PHASE_WITHIN):
            names = ", ".join(transfer.name for transfer in server.missing(transfers)) or "the system's own"
            raise SystemExit(f"not in their phases after {_IN_PHASE_WITHIN:g} s: {names}")
        busyness = Busyness([*driver.pids(), *server.pids])
        for transfer in chance.sample(transfers, len(transfers)):
            driver.cancel(transfer)
            if mode == "apart":
                time.sleep(chance.uniform(0.0, GAP))
        # Not asked at once: the server' answers take time from what is measured.
        time.sleep(0.2)
        others = busyness.others_share()
        _until(lambda: driver.settled() and server.collect(transfers), _OVER_WITHIN)
    finally:
        left = driver.stop()
    server.collect(transfers)
    outcome.wrong += left
    outcome.wrong += faults(transfers)
    return others


def faults(transfers: Sequence[Transfer]) -> list[str]:
    """What must not be, whatever the times: one line each."""
    found = []
    for transfer in transfers:
        if len(transfer.ended) != 1:
            found.append(f"{transfer.name} has {len(transfer.ended)} ends")
        if transfer.phase.connected and (not transfer.gone or None in transfer.gone):
            found.append(f"{transfer.name}: its socket was not shut down")
        if any(gone is not None and gone < transfer.cancelled_at for gone in transfer.gone):
            found.append(f"{transfer.name}: its socket was gone before it was cancelled")
    return found


def _until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(_POLL)
    return held


def verdicts(outcome: Outcome) -> Iterator[tuple[str, bool]]:
    """Each limit in words, and whether it holds."""
    for (layer, mode), latencies in outcome.latencies.items():
        for body in (True, False):
            values = latencies.judged(body=body)
            if values:
                p99, limit = percentile(values, 0.99), LIMITS[mode, body]
                where = "in the body" if body else "elsewhere"
                words = f"{layer}, {mode}: p99 {where} below {limit * 1000:g} ms"
                yield f"{words}: {'yes' if p99 < limit else 'no'} ({p99 * 1000:.2f}, of {len(values)})", p99 < limit


def status(outcome: Outcome, *, verdict: bool) -> int:
    """What to exit with: times count where there is to be a verdict on them and nobody disturbed the run."""
    if outcome.wrong:
        return 1
    missed = not all(holds for _, holds in verdicts(outcome))
    return 1 if missed and verdict and not outcome.disturbed else 0


def _tell(arguments: argparse.Namespace, outcome: Outcome) -> int:
    print(f"{arguments.transfers} transfers in flight, {arguments.rounds} rounds, {machine_line()}; milliseconds")
    for (layer, mode), latencies in outcome.latencies.items():
        _print_table(f"{layer}, {mode}", latencies)
    print()
    for words, _ in verdicts(outcome):
        print(words)
    print(f"rounds made again for what others did meanwhile: {outcome.again or 'none'}")
    if outcome.disturbed:
        print(f"{outcome.disturbed} rounds left as they are: A DISTURBED RUN, its times decide nothing")
    for line in outcome.wrong:
        print(f"wrong: {line}")
    if arguments.json is not None:
        write_json(arguments.json, arguments, {"latencies": _plain(outcome), "wrong": outcome.wrong})
    return status(outcome, verdict=not arguments.no_verdict)


def _print_table(title: str, latencies: Latencies) -> None:
    shares = (0.5, 0.9, 0.99, 1.0)
    heads = [f"{what} {name}" for what in ("socket", "end") for name in ("p50", "p90", "p99", "max")]
    print(f"\n{title:20}{'count':>7}" + "".join(f"{head:>11}" for head in heads))
    for phase in PHASES:
        ends = latencies.end.get(phase.name)
        if ends is None:
            continue
        cells = []
        for values in (latencies.socket.get(phase.name, []), ends):
            cells += [f"{percentile(values, share) * 1000:.2f}" if values else "-" for share in shares]
        print(f"{phase.name:20}{len(ends):>7}" + "".join(f"{cell:>11}" for cell in cells))
    calls = [percentile(latencies.call, share) * 1000 for share in shares]
    print("the call itself: " + ", ".join(f"{call:.2f}" for call in calls) + " (p50, p90, p99, max)")


def _plain(outcome: Outcome) -> dict[str, object]:
    return {
        f"{layer}, {mode}": {"socket": latencies.socket, "end": latencies.end, "call": latencies.call}
        for (layer, mode), latencies in outcome.latencies.items()
    }
