"""What a benchmark calls wrong, and what it exits with."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def module(name: str) -> Any:
    return importlib.import_module(f"benches.{name}")


def transfer(phase: str, *, cancelled: float = 1.0, gone: list[float | None], ended: list[float]) -> Any:
    phases = module("cancel_phases")
    which = next(each for each in phases.PHASES if each.name == phase)
    return phases.Transfer(7, which, "http://127.0.0.1/", "7", cancelled_at=cancelled, gone=gone, ended=ended)


@pytest.mark.parametrize(
    ("phase", "gone", "ended", "found"),
    [
        ("slow body", [1.1], [1.2], []),
        ("slow body", [1.1], [], ["has 0 ends"]),
        ("slow body", [1.1], [1.2, 1.3], ["has 2 ends"]),
        ("slow body", [None], [1.2], ["socket was not shut down"]),
        ("slow body", [], [1.2], ["socket was not shut down"]),
        ("slow body", [1.1, None], [1.2], ["socket was not shut down"]),
        ("slow body", [0.9], [1.2], ["gone before it was cancelled"]),
        ("TLS handshake", [], [1.2], ["socket was not shut down"]),
        ("queued", [], [1.2], []),
        ("connect", [], [1.2], []),
        ("backoff", [], [], ["has 0 ends"]),
    ],
)
def test_what_is_wrong_with_a_cancelled_transfer(
    phase: str, gone: list[float | None], ended: list[float], found: list[str]
) -> None:
    lines = module("cancel").faults([transfer(phase, gone=gone, ended=ended)])
    assert len(lines) == len(found)
    assert all(words in line for words, line in zip(found, lines, strict=True))


def outcome(mode: str, phase: str, seconds: float, **changes: Any) -> Any:
    cancel = module("cancel")
    latencies = cancel.Latencies()
    latencies.add(transfer(phase, gone=[1.0 + seconds], ended=[2.0]))
    return dataclasses.replace(cancel.Outcome({("system", mode): latencies}), **changes)


@pytest.mark.parametrize(
    ("mode", "phase", "seconds", "exits"),
    [
        ("apart", "fast body", 0.009, 0),
        ("apart", "fast body", 0.011, 1),
        ("apart", "no header yet", 0.099, 0),
        ("apart", "no header yet", 0.101, 1),
        ("at once", "fast body", 0.099, 0),
        ("at once", "fast body", 0.101, 1),
    ],
)
def test_a_limit_that_is_missed_is_an_exit_status(mode: str, phase: str, seconds: float, exits: int) -> None:
    assert module("cancel").status(outcome(mode, phase, seconds), verdict=True) == exits


def test_times_of_a_disturbed_run_decide_nothing_and_faults_everything() -> None:
    status = module("cancel").status
    slow = outcome("apart", "fast body", 1.0)
    assert status(slow, verdict=False) == 0
    assert status(dataclasses.replace(slow, disturbed=1), verdict=True) == 0
    assert status(dataclasses.replace(slow, disturbed=1, wrong=["left behind"]), verdict=False) == 1


def test_what_has_no_socket_is_judged_by_its_end() -> None:
    latencies = module("cancel").Latencies()
    latencies.add(transfer("connect", gone=[], ended=[1.5]))
    latencies.add(transfer("no header yet", gone=[1.25], ended=[9.0]))
    assert latencies.judged(body=False) == [0.5, 0.25]
    assert latencies.judged(body=True) == []


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 50), (0.9, 90), (0.99, 99), (0.991, 100), (1.0, 100), (0.0, 1), (0.001, 1)]
)
def test_percentile_is_the_nearest_rank(share: float, value: int) -> None:
    assert module("cancel").percentile(list(range(100, 0, -1)), share) == value


def samples(rounds: Any, cpu: float) -> list[Any]:
    return [rounds.Sample(seconds=1.0, client=cpu, server=0.0, others=0.0, around=1.0)]


@pytest.mark.parametrize(
    ("ours", "pwrite", "splice", "holds"),
    [(1.0, 1.0, 2.0, True), (1.1, 2.0, 1.0, True), (1.2, 2.0, 1.0, False), (1.2, 1.0, 2.0, False)],
)
def test_ours_must_be_near_the_cheaper_way(ours: float, pwrite: float, splice: float, holds: bool) -> None:
    rounds = module("rounds")
    costs = {"ours": ours, "pwrite": pwrite, "splice": splice}
    taken = rounds.Taken({name: samples(rounds, cpu) for name, cpu in costs.items()}, {})
    assert module("paths").within(taken) is holds


def test_samples_that_others_disturbed_are_counted() -> None:
    rounds, cpus = module("rounds"), module("rounds").os.cpu_count()
    quiet = samples(rounds, 1.0)
    noisy = [dataclasses.replace(quiet[0], others=0.16 * cpus), dataclasses.replace(quiet[0], others=0.14 * cpus)]
    assert rounds.Taken({"ours": quiet, "raw": noisy}, {"raw": noisy * 5}).disturbed == 1


def test_a_goal_that_is_missed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    report, rounds = module("report"), module("rounds")
    taken = {"ours": samples(rounds, 1.0), "raw": samples(rounds, 1.0)}
    assert report.print_verdicts(taken, [report.Goal("raw", 1.0, "as fast as raw")])
    assert not report.print_verdicts(taken, [report.Goal("raw", 1.1, "faster than raw")])
    assert [line.partition(": ")[2][:3] for line in capsys.readouterr().out.splitlines()] == ["yes", "no "]


def test_figures_of_the_runtime_are_held_against_their_goals() -> None:
    runtime = module("runtime")
    slow = runtime.Figure("restart", [0.001] * 98 + [0.1] * 2, goal=0.005, share=0.99)
    fast = runtime.Figure("restart", [0.001] * 99 + [0.1], goal=0.005, share=0.5)
    low = runtime.Figure("tell", [0.7, 0.79, 2.0], goal=0.8, ratio=True)
    high = runtime.Figure("tell", [0.7, 0.81, 2.0], goal=0.8, ratio=True)
    free = runtime.Figure("ask", [9.0])
    assert [figure.reached for figure in (slow, fast, low, high, free)] == [False, True, False, True, True]
    assert runtime.status([fast, high, free], verdict=True) == 0
    assert runtime.status([fast, low], verdict=True) == 1
    assert runtime.status([fast, low], verdict=False) == 0


@pytest.mark.parametrize(
    ("ours", "rival", "good"),
    [(2000.0, 1333.0, True), (1999.0, 1000.0, False), (3000.0, 2000.0, True), (2999.0, 2000.0, False)],
)
def test_small_requests_have_to_be_many_and_more_than_the_best_rival_makes(
    ours: float, rival: float, good: bool
) -> None:
    requests = module("requests")

    def taken(*rates: float) -> list[Any]:
        return [requests.Sample(rate, 1.0, 1.0, 1.0, 0.0) for rate in rates]

    fine = {"execute-8": taken(9000.0), "requests-8": taken(1.0), "requests-16": taken(1.0)}
    held = {
        "execute-8": taken(1.0),
        "execute-32": taken(1.0, ours, 9999.0),
        "requests-8": taken(1.0, rival, 9999.0),
        "requests-16": taken(9999.0, rival - 1, 1.0),
    }
    names = [name for name in held if name.startswith("execute")]
    rivals = [name for name in held if name.startswith("requests")]
    assert requests.reached({"HEAD": held}, names, rivals) is good
    fine["execute-32"] = fine["execute-8"]
    assert requests.reached({"GET": fine, "HEAD": held}, names, rivals) is good


def test_logic_that_is_too_slow_is_told() -> None:
    logic = module("logic")
    slow = {"request": [2 * logic.GOAL], "review": [0.0]}
    fast = {"request": [logic.GOAL / 2], "review": [1.0]}
    assert [logic.status(found, verdict=True) for found in (slow, fast)] == [1, 0]
    assert logic.status(slow, verdict=False) == 0
