"""F16 with the media system: a host that ends all actors, as Mopidy does, is done in one round; nothing is left."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_kit import run

from kithara_actors.testing.origin import Fault, Origin, Resource

SIZE = 4_000_000


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with Origin() as origin:
        origin.add("/slow", Resource(SIZE, seed=2, rate=200_000.0))
        origin.add("/stalls", Resource(SIZE, seed=3, always=Fault(stall_after=100_000)))
        origin.add("/silent", Resource(SIZE, seed=4, always=Fault(stall_headers=True)))
        yield origin.base


# Twenty streams in use, reads that are blocked, a call in the middle, four workers of which one is stopped.
START = """
import gc, os, pathlib, signal, sys, threading, time
import pykka
from actors.testing import leaks
from actors.testing.sabotage import sabotage
from actors.testing.saboteur import Saboteur, Trap
from kithara_actors import ActorSystem, FetchCommand, SystemStopped

base, kept, ended = sys.argv[1], [], []
saboteur = Saboteur()

def expects_the_end(call, *arguments):
    try:
        call(*arguments)
        ended.append("a result")
    except SystemStopped:
        ended.append("stopped")

before = leaks.snapshot()
with sabotage(saboteur):
    system = ActorSystem.start(workers=4, max_per_host=64, worker_python=(sys.argv[2:] or [sys.executable])[0])
kept = [system.open(f"{base}/slow?{number}") for number in range(8)]
kept += [system.open(f"{base}/stalls?{number}") for number in range(8)]
kept += [system.open(f"{base}/silent?{number}") for number in range(4)]
for stream in kept[:16]:
    assert stream.read_at(0, 1000)
threads = [threading.Thread(target=expects_the_end, args=(stream.read,)) for stream in kept]
threads.append(threading.Thread(target=expects_the_end, args=(system.execute, FetchCommand.get(base + "/stalls"))))
for thread in threads:
    thread.start()
os.kill(min(system.workers().values()), signal.SIGSTOP)
"""

# Mopidy's last step, as it is but for its logging; and what a host that is in a hurry does.
MOPIDY = """
began, rounds = time.monotonic(), 0
while pykka.ActorRegistry.get_all():
    rounds += 1
    pykka.ActorRegistry.stop_all()
took = time.monotonic() - began
assert rounds == 1, rounds
"""
HURRY = """
began = time.monotonic()
try:
    pykka.ActorRegistry.stop_all(timeout=1)
except pykka.Timeout:
    pass
took = time.monotonic() - began
"""

END = """
assert system.wait(30)
assert took < 16, took
for thread in threads:
    thread.join(30)
assert ended == ["stopped"] * 21, ended
try:
    system.open(base + "/slow")
except SystemStopped:
    pass
print(system.stop(), pykka.ActorRegistry.get_all(), leaks.compare(before, 8.0))
for stream in kept:
    stream.close()
kept.clear()
del stream, threads, thread
gc.collect()
print(leaks.compare(before, 8.0))
"""
CLEAN = (0, "[] [] []\n[]\n", "")


def clean(code: str, *arguments: str) -> None:
    ended = run(code, *arguments)
    assert ended == CLEAN, ended[2]


@pytest.mark.parametrize("loop", [MOPIDY, HURRY], ids=["mopidy", "in a hurry"])
def test_f16_host_ends_all_actors_while_everything_is_busy(base: str, loop: str) -> None:
    clean(START + loop + END, base)


def test_f16_host_ends_all_actors_while_some_are_down(base: str) -> None:
    """Sources that fail at each start, and a downloader that backs off: none of them comes back."""
    down = """
import logging
logging.disable(logging.CRITICAL)
saboteur.set(*[Trap(f"source-{number}", None, "before", again=4) for number in range(1, 6)])
saboteur.set(Trap("downloader", None, "before", again=3))
for stream in kept[:5]:
    stream.play()
    stream.pause()
late = system.open(base + "/slow?late")
limit = time.monotonic() + 30
while len(saboteur.sprung) < 12 and time.monotonic() < limit:
    threading.Event().wait(0.002)
assert len(saboteur.sprung) >= 12, saboteur.sprung
kept.append(late)
"""
    clean(START + down + MOPIDY + END, base)


def test_f16_host_ends_all_actors_with_workers_that_ignore_sigterm(base: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ntrap '' TERM\nexec {shlex.quote(sys.executable)} \"$@\"\n")
    python.chmod(0o755)
    ignored = """
for pid in system.workers().values():
    masks = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    assert int(masks["SigIgn"], 16) >> (signal.SIGTERM - 1) & 1
"""
    clean(START + ignored + MOPIDY + END, base, str(python))


def test_f16_host_ends_one_actor_after_the_other_by_class(base: str) -> None:
    """As Mopidy does with its own: each stop blocks until that one has ended, whatever it is."""
    by_class = """
import itertools
began = time.monotonic()
for actor in itertools.chain(pykka.ActorRegistry.get_by_class(pykka.ThreadingActor)):
    actor.stop()
took = time.monotonic() - began
"""
    clean(START + by_class + END, base)
