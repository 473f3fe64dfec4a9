"""What is left after `stop`, and of programs that end without it: nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from host_kit import GONE, run, running, until
from leaving_kit import CHECK, CLEAN, SCENES, START, serving


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.mark.parametrize("scene", SCENES)
def test_stop(base: str, scene: str) -> None:
    assert run(START + SCENES[scene] + "print(system.stop())" + CHECK, base) == CLEAN


def test_stop_reaches_every_blocked_reader(base: str) -> None:
    code = """
system.stop()
for thread in threads:
    thread.join(30)
print(ended)
"""
    assert run(START + SCENES["blocked"] + code, base) == (0, f"{['stopped'] * 3}\n", "")


def test_stop_ends_every_subscription_after_what_it_holds(base: str) -> None:
    code = """
subscriptions = [system.subscribe(), system.subscribe(), kept[-1].events]
system.stop()
follower.join(30)
print(follower.is_alive(), [type(e.event).__name__ for e in subscriptions[0]][:1], [s.ended for s in subscriptions])
"""
    expected = "False ['SystemStopping'] [True, True, True]\n"
    assert run(START + SCENES["subscribed"] + code, base) == (0, expected, "")


def test_descriptor_given_out_by_fileno_goes_with_its_stream(base: str) -> None:
    scene = """
stream = system.open(base + "/whole")
assert stream.wait_complete(30) and stream.fileno() > 2
local = system.open(os.path.realpath(sys.executable))
assert local.fileno() > 2
kept += [stream, local]
del stream, local
print(system.stop())
kept.clear()
gc.collect()
print(leaks.compare(before, 4.0))
"""
    assert run(START + scene, base, flags=("-W", "ignore")) == (0, "[]\n[]\n", "")


@pytest.mark.parametrize("scene", ["idle", "downloading"])
def test_stop_twice_and_wait(base: str, scene: str) -> None:
    code = """
assert not system.wait(0.01)
print(system.stop())
assert system.stop() == [] and system.stop(timeout=0) == [] and system.wait() and system.wait(0)
try:
    system.open(base + "/whole")
except SystemStopped:
    pass
assert list(system.subscribe()) == []
"""
    assert run(START + SCENES[scene] + code + CHECK, base) == CLEAN


def test_stop_from_several_threads_at_once(base: str) -> None:
    code = """
gate = threading.Barrier(8)
answers = []
def end():
    gate.wait()
    answers.append((system.stop(), system.wait(0)))
threads = [threading.Thread(target=end) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert answers == [([], True)] * 8, answers
print([])
"""
    assert run(START + SCENES["downloading"] + code + CHECK, base) == CLEAN


@pytest.mark.parametrize("scene", ["idle", "blocked"])
def test_stop_from_a_signal_handler(base: str, scene: str) -> None:
    code = """
signal.signal(signal.SIGTERM, lambda *_: system.stop(timeout=0))
threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
assert system.wait(30)
print(system.stop())
"""
    assert run(START + SCENES[scene] + code + CHECK, base) == CLEAN


def test_signals_that_come_while_stop_runs(base: str) -> None:
    """A handler that asks again must not make the thread wait that `stop` is about to join."""
    code = """
import time
asked = []
def again(*_):
    asked.append(system.stop(timeout=0))
signal.signal(signal.SIGALRM, again)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
began = time.monotonic()
left = system.stop()
took = time.monotonic() - began
signal.setitimer(signal.ITIMER_REAL, 0)
assert took < 5, took
print(left)
"""
    assert run(START + SCENES["downloading"] + code + CHECK, base) == CLEAN


def test_stop_that_is_interrupted_leaves_no_process(base: str) -> None:
    code = """
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    system.stop()
except KeyboardInterrupt:
    print("interrupted", [line for line in leaks.compare(before, 4.0) if line.startswith("process")])
assert system.wait(10)
"""
    assert run(START + SCENES["stopped worker"] + code, base) == (0, "interrupted []\n", "")


def test_stop_from_an_event_callback(base: str) -> None:
    code = """
answers = []
def callback(envelope):
    if type(envelope.event).__name__ == "FirstByte":
        answers.append(system.stop())
system.subscribe(callback=callback)
reader(system.open(base + "/slow"))
assert system.wait(30)
print(system.stop())
"""
    assert run(START + code + CHECK, base) == CLEAN


def test_with_block(base: str) -> None:
    code = """
try:
    with system, system.open(base + "/slow") as stream:
        stream.read(1000)
        raise KeyError("mine")
except KeyError:
    pass
print(system.stop())
"""
    assert run(START + code + CHECK, base) == CLEAN


def test_actor_stopped_by_the_host_program_ends_the_system(base: str) -> None:
    """As Mopidy ends: pykka.ActorRegistry.stop_all."""
    code = """
import pykka
pykka.ActorRegistry.stop_all()
assert system.wait(30)
for thread in threads:
    thread.join(30)
assert ended == ["stopped"] * 3, ended
assert pykka.ActorRegistry.get_all() == []
print(system.stop())
"""
    assert run(START + SCENES["blocked"] + code + CHECK, base) == CLEAN


def test_exit_of_a_system_with_a_changed_switch_interval(base: str) -> None:
    code = """
import sys
from kithara_actors import ActorSystem
before = sys.getswitchinterval()
with ActorSystem.start(workers=1, switch_interval=0.0005):
    assert sys.getswitchinterval() == 0.0005
print(sys.getswitchinterval() == before)
"""
    assert run(code) == (0, "True\n", "")


def test_files_being_written_are_gone_or_complete(base: str, tmp_path: Path) -> None:
    code = """
import os, sys
from kithara_actors import ActorSystem
base, folder = sys.argv[1:]
system = ActorSystem.start(cache_dir=folder + "/cache")
whole = system.save(base + "/whole", folder + "/whole")
assert whole.wait_complete(30)
slow = system.save(base + "/slow", folder + "/slow")
assert slow.read(1000)
sys.exit(3)
"""
    with running(code, base, str(tmp_path)) as host:
        assert host.end() == (3, "", "")
        assert until(lambda: host.alive() == [], GONE)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cache", "whole"]
