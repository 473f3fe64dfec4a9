"""scripts/chaos.py runs, and ends with 1 when what it looks for is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHAOS = ROOT / "scripts" / "chaos.py"
HANG = 100.0

# One of each thing that must be found.
PLANTED = """
import os, runpy, sys, threading
from pathlib import Path
root = Path(sys.argv.pop(1))
sys.path[:0] = [str(root), str(root / "scripts")]
from kithara_actors.events import RequestCompleted
from storm import load, server, verdict

enter, take, start = server.Server.__enter__, verdict.Ends.take, load.Load.start

def spoilt(self):
    enter(self)
    for file in server.FILES[:5]:
        self.flip(file, file.size // 2)
    return self

dropped = []
def deaf(self, event):
    if isinstance(event, RequestCompleted) and not dropped:
        dropped.append(event)
    else:
        take(self, event)

def leaky(self):
    os.open(os.devnull, os.O_RDONLY)
    start(self)

def stuck(self):
    self._now("a read that never ends")
    threading.Event().wait(4.0)

server.Server.__enter__ = spoilt
verdict.Ends.take = deaf
load.Load.start = leaky
load._Thread._leave = stuck
runpy.run_path(str(root / "scripts" / "chaos.py"), run_name="__main__")
"""

CHANGED = """
import runpy, sys
from pathlib import Path
root = Path(sys.argv.pop(1))
sys.path[:0] = [str(root), str(root / "scripts")]
from kithara_actors import recorder

note, told = recorder.Recorder._note, []

def lie(self, tape, inputs, error, decided):
    if tape.actor == "downloader" and decided and not told:
        told.append(decided)
        decided = decided[:-1]
    note(self, tape, inputs, error, decided)

recorder.Recorder._note = lie
runpy.run_path(str(root / "scripts" / "chaos.py"), run_name="__main__")
"""


def chaos(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG,
    )


def test_faults_that_are_not_seen(tmp_path: Path) -> None:
    record = tmp_path / "trace"
    done = chaos(CHAOS, "--minutes", "0.06", "--seed", "3", "--streams", "6", "--record", record)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout.startswith("seed 3, 0.06 minutes, 6 threads, ")
    assert "nothing was seen of it" in done.stdout
    assert "WRONG" not in done.stdout
    table = {line[:33].strip(): line[33:].split() for line in done.stdout.splitlines()}
    for name in ("requests", "streams", "calls", "MB checked", "WorkerLost", "ActorRestarted", "decisions replayed"):
        assert int(table[name][-1]) > 0, name


@pytest.mark.minutes
def test_ten_thousand_decisions_are_decided_again(tmp_path: Path) -> None:
    """With actors that crash meanwhile: those that decide among them."""
    record = tmp_path / "trace"
    done = chaos(CHAOS, "--minutes", "0.4", "--seed", "13", "--streams", "16", "--record", record)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    table = {line[:33].strip(): line[33:].split() for line in done.stdout.splitlines()}
    assert int(table["decisions replayed"][-1]) >= 10_000
    assert int(table["restarts of downloader"][-1]) > 0
    assert int(table["restarts of registry"][-1]) > 0


@pytest.mark.minutes
def test_a_changed_record_is_found(tmp_path: Path) -> None:
    """One decision of the run is put on record otherwise than it was taken."""
    done = chaos(
        "-c", CHANGED, ROOT, "--minutes", "0.04", "--seed", "3", "--faults", "reset", "--record", tmp_path / "trace"
    )
    assert (done.returncode, done.stderr) == (1, ""), done.stdout + done.stderr
    assert re.search(
        r"^WRONG: trace: frame \d+: another decision of downloader \(incarnation 1\): ", done.stdout, re.MULTILINE
    )
    assert done.stdout.splitlines()[-1] == "FAILED"


@pytest.mark.minutes
def test_planted_faults_are_found() -> None:
    done = chaos("-c", PLANTED, ROOT, "--minutes", "0.04", "--seed", "3", "--faults", "reset", "--patience", "2")
    assert (done.returncode, done.stderr) == (1, ""), done.stdout + done.stderr
    for found in (
        "WRONG: wrong byte: ",
        "WRONG: hang: load-",
        "in a read that never ends",
        "WRONG: events: request ",
        " has no end",
        "WRONG: left behind: descriptor ",
    ):
        assert found in done.stdout, done.stdout
    assert done.stdout.splitlines()[-1] == "FAILED"


def test_unknown_kind_of_fault_is_refused_in_one_line() -> None:
    done = chaos(CHAOS, "--faults", "flood")
    assert done.returncode == 2
    assert "invalid choice: 'flood'" in done.stderr.splitlines()[-1]
