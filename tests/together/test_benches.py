"""Every sub-command of scripts/bench.py works: at the smallest size, without looking at how fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "scripts" / "bench.py"
HANG = 100.0


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", BENCH, *arguments], capture_output=True, text=True, timeout=HANG, check=False
    )


def smoke(name: str, folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """What the sub-command measured, and what it printed."""
    told = folder / f"{name}.json"
    done = bench(name, "--smoke", "--seed", "1", "--json", told, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(told.read_text()), done.stdout


def test_every_sub_command_has_a_test_here() -> None:
    done = bench("--help")
    assert done.returncode == 0
    names = done.stdout.partition("{")[2].partition("}")[0].split(",")
    assert sorted(names) == ["cancel", "events", "logic", "paths", "requests", "runtime", "single"]


def test_runtime(tmp_path: Path) -> None:
    told, printed = smoke("runtime", tmp_path)
    assert len(told["figures"]) == 9
    assert all(values and min(values) >= 0 for values in told["figures"].values())
    assert "at most" not in printed


def test_logic(tmp_path: Path) -> None:
    told, printed = smoke("logic", tmp_path)
    assert set(told["figures"]) == {"request", "request, 10,000 queued", "review"}
    assert all(values and min(values) > 0 for values in told["figures"].values())
    assert "10,000 requests a second" not in printed


@pytest.mark.nginx
def test_single(tmp_path: Path) -> None:
    told, printed = smoke("single", tmp_path)
    assert set(told["samples"]) == {"raw", "raw-warm", "curl", "requests", "ours"}
    assert all(len(samples) == 1 for samples in told["samples"].values())
    assert told["size"] == 2 * 1024 * 1024
    assert "not slower than curl" not in printed


@pytest.mark.nginx
def test_requests(tmp_path: Path) -> None:
    told, printed = smoke("requests", tmp_path)
    assert set(told["samples"]) == {"GET", "HEAD"}
    for samples in told["samples"].values():
        rivals = {"requests-8", "requests-16", "requests-32", "aiohttp"}
        assert set(samples) == {"batch", "execute-8", "execute-32"} | rivals
        assert all(len(taken) == 1 and taken[0]["rate"] > 0 for taken in samples.values())
        assert all(bool(taken[0]["workers"]) for name, taken in samples.items() if name not in rivals)
    assert "at least" not in printed


@pytest.mark.nginx
@pytest.mark.servers
def test_paths(tmp_path: Path) -> None:
    told, printed = smoke("paths", tmp_path)
    assert len(told["groups"]) == 8
    assert set(told["groups"]["memfd, plain, 16K"]["samples"]) == {"ours", "pwrite", "splice", "mapping", "urllib3"}
    assert set(told["groups"]["disk, tls, 1M"]["samples"]) == {"ours", "mapping", "urllib3"}
    assert "ours within" not in printed


@pytest.mark.nginx
def test_events(tmp_path: Path) -> None:
    told, printed = smoke("events", tmp_path, "--listeners", "3")
    (taken,) = told["rounds"]
    assert set(taken) == {"nobody", "one reads", "many, unread", "many read", "many in a loop"}
    assert all(sample["requests"] > 0 and sample["bytes"] > 0 for sample in taken.values())
    assert "of what there is without any" not in printed


@pytest.mark.servers
def test_cancel(tmp_path: Path) -> None:
    told, printed = smoke("cancel", tmp_path, "--layer", "system")
    assert told["wrong"] == []
    measured = told["latencies"]["system, apart"]
    assert set(told["latencies"]) == {"system, apart", "system, at once"}
    assert [len(ends) for ends in measured["end"].values()] == [1] * 12
    unseen = {phase for phase, gone in measured["socket"].items() if not gone}
    assert unseen == {"queued", "lookup", "connect", "backoff"}
    assert len(measured["call"]) == 12
    assert "system, apart: p99 in the body below 10 ms" in printed


@pytest.mark.servers
def test_cancel_of_a_worker_alone(tmp_path: Path) -> None:
    told, _ = smoke("cancel", tmp_path, "--layer", "attempt")
    assert told["wrong"] == []
    assert set(told["latencies"]) == {"attempt, apart", "attempt, at once"}


def test_a_size_that_is_none_is_refused_in_one_line() -> None:
    done = bench("paths", "--sizes", "16K,much")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("must be like 16K,256K,512K,1M,4M,512M, not '16K,much'")
