"""F17, F18, F21 and F24 with worker processes alone: the host is killed, ends without a word, or is stopped."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import pytest
from host_kit import GONE, HANG, Host, state_of, until
from worker_hosts_kit import ALL_AT_ONCE, SCENES, START, host_of, ran

STARTED = START + "calls.start()\n"
SAID = """
print("ready", flush=True)
signal.pause()
"""
HELPER = """
helper = calls.call("call_functions:start_sleeper").get(timeout=60)
"""


def nothing_left(host: Host) -> None:
    assert until(lambda: host.alive() == [], GONE), f"left running: {host.alive()}"
    assert host.names() == []


# --- F17


@pytest.mark.parametrize("group", [False, True], ids=["alone", "with its group"])
def test_f17_host_killed_with_workers_idle_busy_stopped_and_holding_the_gil(group: bool) -> None:
    """Nor a name in /dev/shm, which the fixture of every test looks for, other runs on the machine or not."""
    with host_of(STARTED + ALL_AT_ONCE + SAID) as host:
        assert host.line() == "ready"
        assert len(host.workers()) == 4
        host.kill(group=group)
        nothing_left(host)


def test_f08_worker_that_holds_the_gil_goes_with_its_host() -> None:
    with host_of(STARTED + SCENES["holding the GIL"] + SAID) as host:
        assert host.line() == "ready"
        assert len(host.workers()) == 4
        host.kill()
        nothing_left(host)


# --- F18


@pytest.mark.minutes
def test_f18_host_killed_at_30_instants_of_its_start() -> None:
    instants = random.Random(18)
    pause = threading.Event()
    code = START + 'print("now", flush=True)\ncalls.start()\n' + HELPER + SAID
    for number in range(30):
        with host_of(code) as host:
            assert host.line() == "now"
            # 0 to 80 ms, evenly spread with a little noise; an instant is a delay by nature.
            pause.wait(0.08 * (number + instants.random()) / 30)
            host.kill()
            nothing_left(host)


def test_f18_helper_of_a_worker_goes_with_the_host() -> None:
    """The worker's parent-death signal does not reach its children: they have to have their own."""
    with host_of(STARTED + HELPER + 'print("ready", helper, flush=True)\nsignal.pause()\n') as host:
        word, helper = host.line().split()
        assert word == "ready"
        assert until(lambda: Path(f"/proc/{helper}/comm").read_text() == "sleep\n")
        assert int(helper) in host.alive()
        host.kill()
        nothing_left(host)


# --- F21

ENDS = {
    "main returns": ("", 0, ""),
    "sys.exit": ("sys.exit(3)", 3, ""),
    "exception": ("raise KeyError('mine')", 1, "KeyError: 'mine'"),
}


@pytest.mark.parametrize(
    ("scene", "end"), [*((scene, "main returns") for scene in SCENES), ("busy", "sys.exit"), ("stopped", "exception")]
)
def test_f21_interpreter_ends_without_stop(scene: str, end: str) -> None:
    code, status, last = ENDS[end]
    exit_code, output, errors = ran(STARTED + SCENES[scene] + code)
    assert (exit_code, output) == (status, "")
    assert errors.strip().splitlines()[-1:] == ([last] if last else [])
    assert errors.count("Traceback") == bool(last)


# --- F24

PAUSED = """
import time
calls.stop()
calls = WorkerCalls(2, heartbeat=0.1, heartbeat_limit=1.6).start()
before = calls.workers()
print("ready", *before.values(), flush=True)
sys.stdin.readline()
# Long enough for a watcher to have looked several times since it was continued.
answers = [calls.call("call_functions:echo", n).get(timeout=60) for n in range(20)]
end = time.monotonic() + 2.0
while time.monotonic() < end:
    answers.append(calls.call("call_functions:echo", 1).get(timeout=60))
print(calls.workers() == before, len(answers) > 20, calls.stop(), flush=True)
"""


@pytest.mark.minutes
@pytest.mark.parametrize("whole", [False, True], ids=["the host alone", "the whole tree"])
def test_f24_no_healthy_worker_is_killed_after_a_pause(whole: bool) -> None:
    """Longer than the limit of silence, and at two phases of the watcher's round."""
    pause = threading.Event()
    with host_of(START + PAUSED, interactive=True) as host:
        word, *pids = host.line().split()
        assert word == "ready"
        everybody = [host.process.pid, *map(int, pids)] if whole else [host.process.pid]
        for wait in (0.0, 0.05):
            pause.wait(wait)
            for pid in everybody:
                os.kill(pid, signal.SIGSTOP)
            assert until(lambda: all(state_of(pid) == "T" for pid in everybody))
            pause.wait(2.2)
            for pid in reversed(everybody):
                os.kill(pid, signal.SIGCONT)
        assert host.process.stdin is not None
        host.process.stdin.write("on\n")
        host.process.stdin.flush()
        assert host.line() == "True True []"
        assert host.process.wait(HANG) == 0
