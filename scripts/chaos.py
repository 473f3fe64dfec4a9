#!/usr/bin/env python3
"""Streams and calls under load while actors crash, workers die, hang and starve, and connections break.

    chaos.py --minutes 5 --seed 7 --streams 16

The schedule of faults follows from the seed: crashes of actors at random commands, before or after these, some with a
start that fails too; SIGKILL, SIGSTOP for good, and SIGSTOP for less than the heartbeat limit, of worker processes; no
processor for a moment; connections that are reset or cut and answers that are 503. Static actors are crashed at most
four times a minute, and no source more than four times: five are what a supervisor restarts within a minute.

The load is threads that open streams (lengths known and not, ranges on and off, jumps, look_ahead, several readers of
one asset, left in the middle) and call `execute`; each compares every byte with what it has to be.

A request that was alone in two workers that were killed is refused, as one that kills workers has to be; these are
counted ("refused"), and wrong only if there are more of them than kills can explain.

Ends with 1, and a line for each problem, if a byte was wrong, a read or call failed, or made no progress for longer
than --patience, a request has not exactly one terminal event or anything after it, an actor that was crashed is not
up again, `stop` left something, what was put on record with --record is not decided in the same way again, or a
thread, process, descriptor, shared memory or temporary file is left.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from storm.faults import Faults
from storm.load import Load
from storm.replay import replay
from storm.report import Counting, resident, tell
from storm.schedule import FAULTS, Due, schedule
from storm.server import Server
from storm.verdict import Tally, problems

from actors.clock import monotonic
from actors.testing import leaks
from actors.testing.sabotage import sabotage
from actors.testing.saboteur import Saboteur
from kithara_actors import ActorSystem
from kithara_actors.events import Event
from kithara_actors.stream.subscription import Subscription

__all__ = ["main"]

HEARTBEAT_LIMIT = 2.0
"""Seconds; short, so that a stopped worker is noticed often."""
_CAPACITY = 1_000_000
_QUIET = 0.15
"""The last part of the time, of at most 10 s, without new faults: what was broken has to be whole at the end."""
_WARM = 0.2
"""The part of the time after which what is used again and again is there."""
_POLL = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """0: nothing was seen of the faults. 1: something was."""
    options = _parser().parse_args(arguments)
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    seconds = 60.0 * options.minutes
    quiet = min(10.0, _QUIET * seconds)
    plan = schedule(seed, seconds - quiet, HEARTBEAT_LIMIT, tuple(options.faults))
    print(f"seed {seed}, {options.minutes:g} minutes, {options.streams} threads, {len(plan)} faults", flush=True)
    counting = Counting()
    with _folder(), contextlib.ExitStack() as stack:
        stack.enter_context(counting)
        server = stack.enter_context(Server())
        before = leaks.snapshot()
        tally, counts = _run(options, seed, seconds, plan, server)
        tally.left = leaks.compare(before, 5.0)
    found = problems(tally)
    tell(tally, counts, counting.lines, found)
    return 1 if found else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long the load runs (default 1)")
    parser.add_argument("--seed", type=int, help="which schedule, and which load (default: at random, and printed)")
    parser.add_argument("--streams", type=int, default=16, help="threads that read and call (default 16)")
    parser.add_argument("--workers", type=int, default=3, help="worker processes (default 3)")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=FAULTS, help="only these kinds")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds after which it is a hang (default 30)")
    parser.add_argument("--record", metavar="FILE", help="put on record what is decided, and replay it at the end")
    parser.add_argument("--disk", action="store_true", help="keep the assets in files instead of in memory")
    return parser


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    before = tempfile.tempdir
    folder = Path(tempfile.mkdtemp(prefix="kithara-chaos-"))
    tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


def _run(
    options: argparse.Namespace, seed: int, seconds: float, plan: list[Due], server: Server
) -> tuple[Tally, dict[str, Counter[str]]]:
    """All of it; nothing that it started is left."""
    tally = Tally()
    saboteur = Saboteur(most=4)
    crashed: Counter[str] = Counter()
    cache = tempfile.mkdtemp() if options.disk else None
    with sabotage(saboteur):
        system = ActorSystem.start(
            workers=options.workers,
            heartbeat=HEARTBEAT_LIMIT / 10,
            heartbeat_limit=HEARTBEAT_LIMIT,
            retry_base=0.05,
            retry_cap=1.0,
            memory_limit=64 * 1024 * 1024,
            cache_dir=cache,
            record=options.record,
        )
    restarted: Counter[str] = Counter()
    events = system.subscribe(_CAPACITY)
    listener = threading.Thread(target=_listen, args=(events, tally, restarted), daemon=True)
    listener.start()
    load = Load(system, server.base, seed, options.streams, options.patience)
    faults = Faults(system, server, saboteur)
    injector = threading.Thread(target=faults.run, args=(plan,), daemon=True)
    rss = {"at the start": resident()}
    try:
        load.start()
        injector.start()
        tally.hangs = _watch(load, system, seconds, rss)
        rss["at the end"] = resident()
        tally.gave_up = system.wait(0)
    finally:
        # What is ended by force from here on is no finding.
        tally.wrong_bytes, tally.errors, tally.bytes_checked = load.found()
        faults.stop()
        load.give_up()
        injector.join(30)
        tally.survivors = system.stop()
        listener.join(30)
        if cache is not None:
            shutil.rmtree(cache, ignore_errors=True)
    if options.record is not None:
        replay(options.record, tally)
    for name, trap in saboteur.sprung:
        faults.done[f"crash {'source' if name.startswith('source-') else name}"] += 1
        if trap.moment != "start" and not name.startswith("source-"):
            crashed[name] += 1
    tally.crashed, tally.restarted = crashed, restarted
    tally.refused, tally.lost = load.counts["refused"], faults.done["kill"] + faults.done["stop"]
    planned = Counter(due.fault if due.trap is None else f"crash {due.trap.actor.rstrip('-*')}" for due in plan)
    return tally, {"planned": planned, "done": faults.done, "load": load.counts, "rss": Counter(rss)}


def _watch(load: Load, system: ActorSystem, seconds: float, rss: dict[str, int]) -> list[str]:
    """Let it run; who hangs."""
    pause = threading.Event()
    end = monotonic() + seconds
    while (left := end - monotonic()) > 0:
        pause.wait(_POLL)
        if left < (1 - _WARM) * seconds:
            rss.setdefault("when warm", resident())
        hangs = load.hangs()
        if hangs or system.wait(0):
            return hangs
    load.finish()
    while load.running():
        pause.wait(_POLL)
        if hangs := load.hangs():
            return hangs
    return []


def _listen(events: Subscription, tally: Tally, restarted: Counter[str]) -> None:
    for envelope in events:
        event: Event = envelope.event
        tally.ends.take(event)
        if type(event).__name__ == "ActorRestarted":
            restarted[event.name] += 1  # type: ignore[attr-defined]


if __name__ == "__main__":
    logging.lastResort = None
    leaks.mark()
    os.environ.pop("PYTHONWARNINGS", None)
    sys.exit(main())
