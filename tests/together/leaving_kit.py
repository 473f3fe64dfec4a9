"""Programs in the middle of all kinds of things, for the tests of what is left when they end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kithara_actors.testing.origin import Fault, Origin, Resource

__all__ = ["CHECK", "CLEAN", "SCENES", "START", "serving"]

SIZE = 4_000_000


@contextmanager
def serving() -> Iterator[str]:
    """The base URL of what the scenes read."""
    with Origin() as origin:
        origin.add("/whole", Resource(SIZE, seed=1))
        origin.add("/slow", Resource(SIZE, seed=2, rate=100_000.0))
        origin.add("/stalls", Resource(SIZE, seed=3, always=Fault(stall_after=100_000)))
        origin.add("/silent", Resource(SIZE, seed=4, always=Fault(stall_headers=True)))
        yield origin.base


START = """
import gc, os, signal, sys, threading
from actors.testing import leaks
from kithara_actors import ActorSystem, SystemStopped

base, kept, ended = sys.argv[1], [], []

def read(stream):
    try:
        ended.append(len(stream.read()))
    except SystemStopped:
        ended.append("stopped")

def reader(stream):
    thread = threading.Thread(target=read, args=[stream], daemon=True)
    thread.start()
    kept.append(stream)
    return thread

before = leaks.snapshot()
system = ActorSystem.start()
"""

# What a program is doing when the end comes.
SCENES = {
    "idle": "",
    "used": """
with system.open(base + "/whole") as stream:
    assert len(stream.read()) == 4_000_000
""",
    "downloading": """
for number in range(5):
    kept.append(system.open(f"{base}/slow?{number}"))
for stream in kept:
    assert stream.read(1000)
kept[0].close()
""",
    "connecting": """
kept.append(system.open(base + "/silent"))
kept.append(system.open("http://127.0.0.1:9/"))
""",
    "blocked": """
threads = [reader(system.open(base + path)) for path in ("/stalls", "/silent", "/slow")]
assert kept[0].read_at(0, 100_000) and kept[2].read_at(0, 1000)
""",
    "unclosed": """
for path in ("/whole", "/stalls", "/slow"):
    kept.append(system.open(base + path))
    assert kept[-1].read(1000)
""",
    "subscribed": """
subscription = system.subscribe()
follower = threading.Thread(target=lambda: [None for _ in subscription], daemon=True)
follower.start()
kept.append(system.subscribe(callback=lambda envelope: None))
kept.append(system.open(base + "/slow", subscribe=True))
assert kept[-1].read(1000)
""",
    "stopped worker": """
kept.append(system.open(base + "/slow"))
assert kept[-1].read(1000)
os.kill(system.workers()[1], signal.SIGSTOP)
""",
}

CHECK = """
print(leaks.compare(before, 4.0))
kept.clear()
gc.collect()
print(leaks.compare(before, 4.0))
"""
CLEAN = (0, "[]\n[]\n[]\n", "")
