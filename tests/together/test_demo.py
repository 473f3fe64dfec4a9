"""The two things a newcomer runs first: the demo, and the example of the documentation."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]

SPOILT = """
import sys
from kithara_actors.command.demo import Demo
from kithara_actors.command.interrupts import Interrupts
from kithara_actors.command.recording import make_recording

recording = make_recording(60)
spoilt = bytearray(recording)
spoilt[700_000] ^= 1
with Interrupts() as interrupts:
    sys.exit(Demo(bytes(spoilt), recording, interrupts, json=False).run())
"""

SPOILT_CHAOS = SPOILT.replace("demo import Demo", "demo_chaos import ChaosDemo as Demo")

WITHOUT_AV = """
import sys
sys.modules["av"] = None
from kithara_actors.cli import main
sys.exit(main(["demo"]))
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_demo_tells_what_happened() -> None:
    done = python("-m", "kithara_actors", "demo")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    text = " ".join(done.stdout.split())
    for said in (
        "ok 1 s of sound decoded",
        "ok jump to 80 %",
        "ok sound decoded from 49.2 s on",
        "ok its reader got Cancelled",
        "ok the server saw that connection close",
        "lost: killed by SIGKILL; had request",
        "ok the lost worker was replaced",
        "bytes are there, and are those of the recording",
        "ok 60.0 s of sound decoded from them",
        "ok stopped: no process, thread or descriptor is left",
        "11 of 11 claims held.",
    ):
        assert said in text


def test_demo_in_json() -> None:
    done = python("-m", "kithara_actors", "demo", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    *lines, result = [json.loads(line) for line in done.stdout.splitlines()]
    assert result == {"event": "result", "held": 11, "failed": []}
    times = [line["seconds"] for line in lines]
    assert times == sorted(times)
    assert {"WorkerLost", "WorkerStarted", "RequestCancelled", "RequestCompleted", "Committed"} <= {
        line.get("event") for line in lines
    }


def test_demo_fails_when_a_byte_is_wrong() -> None:
    done = python("-c", SPOILT)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED: the bytes that arrived are not those of the recording" in done.stdout
    assert "10 of 11 claims held." in done.stdout


@pytest.mark.minutes
def test_demo_of_chaos() -> None:
    done = python("-m", "kithara_actors", "demo", "--chaos")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    text = " ".join(done.stdout.split())
    for actor in ("source-1", "source-2", "registry", "downloader", "asset_store", "event_bus"):
        assert f"demo crashes {actor}, at the next command that it gets" in text
        assert f"{actor} failed (Sabotaged: {actor} was crashed on purpose" in text
        assert f"ok {actor} is up again, as incarnation 2" in text
    for said in (
        "ok 6 actors were crashed",
        "lost: killed by SIGKILL",
        "bytes are there, and are those of the recording",
        "ok 60.0 s of sound were decoded meanwhile",
        "ok the other download is complete: 3.0 MB, each byte right",
        "other reads and calls failed or got a wrong byte",
        "requests had one end",
        "ok stopped: no process, thread or descriptor is left",
        "15 of 15 claims held.",
    ):
        assert said in text
    # A kill for which no worker is up at its moment is left out.
    assert re.search(r"ok [2-4] workers were killed, and each was replaced", text)


@pytest.mark.minutes
def test_demo_of_chaos_fails_when_a_byte_is_wrong() -> None:
    done = python("-c", SPOILT_CHAOS)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED: the bytes that arrived are not those of the recording" in done.stdout
    assert "14 of 15 claims held." in done.stdout


def test_demo_without_pyav_says_what_to_install() -> None:
    done = python("-c", WITHOUT_AV)
    assert done.returncode == 1
    assert done.stderr == "kithara: the demo decodes sound with PyAV: pip install 'kithara-actors[play]'\n"


def test_example_runs() -> None:
    done = python(str(ROOT / "docs" / "examples" / "embed.py"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "read 1000 bytes from 8000000 while" in done.stdout
    assert "complete: True" in done.stdout
    assert "RequestCompleted" in done.stdout
