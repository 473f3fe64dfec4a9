"""F17 and F18 with the media system: a host that is killed takes its workers with it, whatever they were doing."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator

import pytest
from host_kit import GONE, Host, running, until

from kithara_actors.testing.origin import Fault, Origin, Resource

INSTANTS = 30
LATEST = 0.6
STOPS_WITHIN = 0.4
"""Seconds in which a system is stopped, another started, and that stopped too."""

# `kept` holds what must not be collected.
START = """
import ctypes, os, signal, sys, threading
from kithara_actors import ActorSystem
base, kept = sys.argv[1], []
system = ActorSystem.start(workers=4, cache_dir=os.environ["TMPDIR"] + "/cache" if len(sys.argv) > 2 else None)
"""
SAID = """
print("ready")
signal.pause()
"""
STOPS = """
print("ready")
while True:
    for stream in kept:
        stream.close()
    kept.clear()
    assert system.stop() == []
    system = ActorSystem.start(workers=4)
    kept.append(system.open(base + "/slow"))
    assert kept[0].read(1000)
"""
SCENES = {
    "idle": "",
    "busy": """
for number in range(8):
    kept.append(system.open(f"{base}/slow?{number}"))
for stream in kept:
    assert stream.read(1000)
""",
    "waiting": """
kept.append(system.open(base + "/silent"))
thread = threading.Thread(target=lambda: kept[0].read(), daemon=True)
thread.start()
""",
    "stopped worker": """
kept.append(system.open(base + "/slow"))
assert kept[0].read(1000)
for pid in system.workers().values():
    os.kill(pid, signal.SIGSTOP)
""",
    "holding the GIL": """
print("ready", flush=True)
ctypes.PyDLL(None).sleep(600)
""",
}


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with Origin() as origin:
        origin.add("/slow", Resource(4_000_000, seed=2, rate=100_000.0))
        origin.add("/silent", Resource(1000, seed=4, always=Fault(stall_headers=True)))
        yield origin.base


def nothing_left(host: Host) -> None:
    assert until(lambda: host.alive() == [], GONE), f"left running: {host.alive()}"
    assert host.names() == []


@pytest.mark.parametrize("group", [False, True], ids=["alone", "with its group"])
@pytest.mark.parametrize("scene", SCENES)
def test_f17_host_killed_in_steady_state(base: str, scene: str, group: bool) -> None:
    with running(START + SCENES[scene] + SAID, base) as host:
        assert host.line() == "ready"
        assert len(host.workers()) == 4
        host.kill(group=group)
        nothing_left(host)


@pytest.mark.parametrize("group", [False, True], ids=["alone", "with its group"])
def test_f18_host_killed_at_any_instant(base: str, group: bool) -> None:
    """Start-up included: some instants lie before a worker has armed its parent-death signal."""
    instants = random.Random(20 + group)
    pause = threading.Event()
    for number in range(INSTANTS):
        with running(START + SCENES["busy"] + SAID, base) as host:
            # Evenly spread, with a little noise; an instant is a delay by nature.
            pause.wait(LATEST * (number + instants.random()) / INSTANTS)
            host.kill(group=group)
            nothing_left(host)


@pytest.mark.minutes
def test_f18_host_killed_while_it_stops(base: str) -> None:
    """Stop and start over and over: some instants lie between the signal to a worker and its end."""
    instants = random.Random(40)
    pause = threading.Event()
    for number in range(INSTANTS):
        with running(START + SCENES["busy"] + STOPS, base) as host:
            assert host.line() == "ready"
            pause.wait(STOPS_WITHIN * (number + instants.random()) / INSTANTS)
            host.kill(group=number % 2 == 1)
            nothing_left(host)


def test_f18_host_killed_right_after_a_worker_appears(base: str) -> None:
    """Between fork and the first line of its program a worker is hardest to reach."""
    pause = threading.Event()
    for number in range(20):
        with running(START + SAID, base) as host:
            assert until(host.workers)
            pause.wait(number * 0.002)
            host.kill()
            nothing_left(host)


def test_f18_workers_of_a_killed_host_say_nothing(base: str) -> None:
    pause = threading.Event()
    for number in range(10):
        with running(START + SAID, base) as host:
            assert until(host.workers)
            pause.wait(number * 0.02)
            host.kill()
            nothing_left(host)
            assert host.process.stderr is not None
            assert host.process.stderr.read() == ""


def test_f17_stopped_host_that_is_killed(base: str) -> None:
    with running(START + SCENES["busy"] + SAID, base) as host:
        assert host.line() == "ready"
        host.process.send_signal(signal.SIGSTOP)
        host.kill()
        nothing_left(host)


def test_f17_partial_files_of_a_killed_host_are_all_that_stays(base: str) -> None:
    """They are data: in the cache directory, under names of its own."""
    with running(START + SCENES["busy"] + SAID, base, "cache") as host:
        assert host.line() == "ready"
        host.kill()
        assert until(lambda: host.alive() == [], GONE)
        assert host.names() == ["cache"]
        left = [path for path in (host.scratch / "cache").rglob("*") if path.is_file()]
        assert len(left) == 8
        assert {path.suffix for path in left} == {".part"}
