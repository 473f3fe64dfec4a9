"""`bench.py runtime`: what supervision costs, and how soon it acts.

* tell: a command told to an actor, by address, codec and cell, until the last of many is handled; against a raw Pykka
  `tell` of the same command, packed and decoded with msgpack by hand. They take turns; the figure is the ratio.
* ask: one round trip, one at a time; against a raw Pykka `ask` of the same bytes.
* restart: from the crash to the answer of the next incarnation, its back-off being none; less the round trip of an ask.
* stop now: from `terminate` to the refusal of an ask that waits behind a command; 100 more wait, each of which would
  take 10 ms.
* escalation: from the failure that is one too many until the last of ten children has ended.
* children: `Supervisor.children()` of a hundred.

The goals: a tell at 0.8 of the raw one's speed, a restart below 5 ms at p99, a stop below 100 ms, an escalation below
1 s, `children()` below 10 ms.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import pykka

from actors import Backoff, Behaviour, ChildSpec, Codec, Command, Intensity, Supervisor, SupervisorHooks
from benches.machine import DISTURBED, machine_busy, own_cpu, wait_idle
from benches.options import Commands, common
from benches.report import machine_line, write_json

__all__ = ["Figure", "add", "figures", "status"]

_LIMIT = 60.0
"""Seconds after which something hangs."""
_AT_ONCE = Backoff(base=0.0, cap=0.0)
_OFTEN = Intensity(1_000_000, 1e6)


@dataclass(frozen=True, slots=True)
class Move(Command):
    TAG = 16
    stream: int
    position: int
    what: str


@dataclass(frozen=True, slots=True)
class Last(Command):
    TAG = 17


@dataclass(frozen=True, slots=True)
class Fail(Command):
    TAG = 18


@dataclass(frozen=True, slots=True)
class Hold(Command):
    TAG = 19


_CODEC = Codec([Move, Last, Fail, Hold])


class _Does(Behaviour):
    def __init__(self, last: threading.Event) -> None:
        self._last = last

    def handle(self, command: Command) -> Command | None:
        if type(command) is Last:
            self._last.set()
        elif type(command) is Fail:
            raise ValueError("told so")
        elif type(command) is Hold:
            self._last.set()
            threading.Event().wait(0.01)
        return command


class _Raw(pykka.ThreadingActor):
    def __init__(self, last: threading.Event) -> None:
        super().__init__()
        self._last = last

    def on_receive(self, message: Any) -> Any:
        fields = msgpack.unpackb(message)
        if fields[0] == Last.TAG:
            self._last.set()
            return None
        command = Move(*fields[1:])
        return msgpack.packb((Move.TAG, command.stream, command.position, command.what))


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured: seconds, or (`ratio`) how many times as fast as the rival; and what is asked for."""

    name: str
    values: list[float]
    goal: float | None = None
    share: float = 0.5
    """Of the values, at which the goal is held against: 0.99 for the 99th percentile."""
    ratio: bool = False

    def at(self, share: float) -> float:
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def reached(self) -> bool:
        """Whether the goal is; one that has none, too."""
        found = self.at(self.share)
        return self.goal is None or (found >= self.goal if self.ratio else found <= self.goal)


def add(commands: Commands) -> None:
    """The sub-command and its options."""
    one = commands.add_parser(
        "runtime",
        help="supervision by itself: telling, asking, restarting, stopping",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("--count", type=int, default=20_000, metavar="N", help="of commands in a sample (default 20000)")
    common(one, rounds=11)
    one.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0, or 1 if a goal is missed."""
    count = 500 if arguments.smoke else arguments.count
    if not arguments.smoke:
        wait_idle()
    logging.disable()  # thousands of crashes, each with its traceback
    busy, own, began = machine_busy(), own_cpu(), time.monotonic()
    try:
        found = figures(count, arguments.rounds, random.Random(arguments.seed))
    finally:
        logging.disable(logging.NOTSET)
    used = max(0.0, machine_busy() - busy - (own_cpu() - own))
    others = used / (time.monotonic() - began) / (os.cpu_count() or 1)
    print(f"{count} commands a sample, {arguments.rounds} rounds, {machine_line()}\n")
    _print_table(found)
    for figure in [] if arguments.smoke else found:
        if figure.goal is not None:
            asked = f"at least {figure.goal:g}x" if figure.ratio else f"at most {_said(figure.goal)}"
            print(f"{figure.name}, p{figure.share * 100:g} {asked}: {'yes' if figure.reached else 'no'}")
    disturbed = others > DISTURBED
    note = ": A DISTURBED RUN, its times decide nothing" if disturbed else ""
    print(f"CPU of the machine that others used meanwhile: {others:.0%}{note}")
    if arguments.json is not None:
        write_json(arguments.json, arguments, {"figures": {figure.name: figure.values for figure in found}})
    return status(found, verdict=not arguments.no_verdict and not disturbed)


def status(found: Sequence[Figure], *, verdict: bool) -> int:
    """What to exit with."""
    return 1 if verdict and not all(figure.reached for figure in found) else 0


def _print_table(found: Sequence[Figure]) -> None:
    heads = ["count", "p50", "p90", "p99", "max"]
    print(f"{'':22}" + "".join(f"{head:>11}" for head in heads))
    for figure in found:
        values = [figure.at(share) for share in (0.5, 0.9, 0.99, 1.0)]
        cells = [f"{value:.2f}x" if figure.ratio else _said(value) for value in values]
        print(f"{figure.name:22}{len(figure.values):>11}" + "".join(f"{cell:>11}" for cell in cells))
    print()


def _said(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def figures(count: int, rounds: int, chance: random.Random) -> list[Figure]:
    """All of them, in the order of the table."""
    few = max(20, count // 20)
    ratios, ours, raws = _tells(count, rounds, chance)
    asks, raw_asks = _asks(few, rounds)
    restarts = _restarts(few * rounds // 4, statistics.median(asks))
    return [
        Figure("tell", ours),
        Figure("tell, raw Pykka", raws),
        Figure("tell, of raw's speed", ratios, goal=0.8, ratio=True),
        Figure("ask", asks),
        Figure("ask, raw Pykka", raw_asks),
        Figure("restart", restarts, goal=0.005, share=0.99),
        Figure("stop now", [_stop_now() for _ in range(3 * rounds)], goal=0.1, share=0.99),
        Figure("escalation", [_escalation() for _ in range(3 * rounds)], goal=1.0, share=0.99),
        Figure("children() of 100", _children(few), goal=0.01, share=0.99),
    ]


def _tells(count: int, rounds: int, chance: random.Random) -> tuple[list[float], list[float], list[float]]:
    last = threading.Event()
    raw = _Raw.start(last)
    with Supervisor("bench", _CODEC) as supervisor:
        address = supervisor.add(ChildSpec(name="a", make=lambda: _Does(last), bound=None))

        def ours() -> None:
            for position in range(count):
                address.tell(Move(7, position, "position"))
            address.tell(Last())

        def rival() -> None:
            for position in range(count):
                move = Move(7, position, "position")
                raw.tell(msgpack.packb((Move.TAG, move.stream, move.position, move.what)))
            raw.tell(msgpack.packb((Last.TAG,)))

        def timed(send: Callable[[], None]) -> float:
            last.clear()
            gc.collect()
            began = time.perf_counter()
            send()
            if not last.wait(_LIMIT):
                raise TimeoutError("the last command was not handled")
            return (time.perf_counter() - began) / count

        taken: dict[Callable[[], None], list[float]] = {ours: [], rival: []}
        for number in range(rounds + 1):
            for send in chance.sample([ours, rival], 2):
                seconds = timed(send)
                if number:  # the first round is not counted
                    taken[send].append(seconds)
    raw.stop()
    pairs = zip(taken[rival], taken[ours], strict=True)
    return [raws / own for raws, own in pairs], taken[ours], taken[rival]


def _asks(count: int, rounds: int) -> tuple[list[float], list[float]]:
    last = threading.Event()
    raw = _Raw.start(last)
    data = msgpack.packb((Move.TAG, 7, 1, "position"))
    ours, raws = [], []
    with Supervisor("bench", _CODEC) as supervisor:
        address = supervisor.add(ChildSpec(name="a", make=lambda: _Does(last)))
        for _ in range(rounds):
            for _ in range(count // 4):
                began = time.perf_counter()
                address.ask(Move(7, 1, "position"), _LIMIT)
                ours.append(time.perf_counter() - began)
                began = time.perf_counter()
                raw.ask(data, timeout=_LIMIT)
                raws.append(time.perf_counter() - began)
    raw.stop()
    return ours, raws


def _restarts(count: int, ask: float) -> list[float]:
    taken = []
    with Supervisor("bench", _CODEC, backoff=_AT_ONCE, intensity=_OFTEN) as supervisor:
        address = supervisor.add(ChildSpec(name="a", make=lambda: _Does(threading.Event())))
        for _ in range(count):
            began = time.perf_counter()
            address.tell(Fail())
            address.ask(Move(7, 1, "position"), _LIMIT)
            taken.append(max(0.0, time.perf_counter() - began - ask))
    return taken


def _stop_now() -> float:
    held = threading.Event()
    with Supervisor("bench", _CODEC) as supervisor:
        address = supervisor.add(ChildSpec(name="a", make=lambda: _Does(held)))
        for _ in range(100):
            address.tell(Hold())
        refused = threading.Event()
        ends: list[float] = []

        def asks() -> None:
            refused.set()
            try:
                address.ask(Move(7, 1, "position"), _LIMIT)
            except pykka.ActorDeadError:
                ends.append(time.perf_counter())

        asker = threading.Thread(target=asks)
        asker.start()
        refused.wait(_LIMIT)
        held.wait(_LIMIT)
        began = time.perf_counter()
        supervisor.terminate("a")
        asker.join(_LIMIT)
    if not ends:
        raise RuntimeError("an ask that waited behind a stop was answered")
    return max(0.0, ends[0] - began)


def _escalation() -> float:
    over = threading.Event()

    class Hooks(SupervisorHooks):
        def drained(self, supervisor: str, blame: str | None) -> None:  # noqa: ARG002
            over.set()

    with Supervisor("bench", _CODEC, intensity=Intensity(0), hooks=Hooks()) as supervisor:
        specs = [ChildSpec(name=f"{at}", make=lambda: _Does(threading.Event())) for at in range(10)]
        addresses = [supervisor.add(spec, ready_within=_LIMIT) for spec in specs]
        began = time.perf_counter()
        addresses[5].tell(Fail())
        over.wait(_LIMIT)
        return time.perf_counter() - began


def _children(count: int) -> list[float]:
    taken = []
    with Supervisor("bench", _CODEC) as supervisor:
        for at in range(100):
            supervisor.add(ChildSpec(name=f"{at}", make=lambda: _Does(threading.Event())), ready_within=_LIMIT)
        for _ in range(count):
            began = time.perf_counter()
            supervisor.children()
            taken.append(time.perf_counter() - began)
    return taken
