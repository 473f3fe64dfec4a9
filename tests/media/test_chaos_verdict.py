"""What the load test calls wrong, and that its schedule follows from the seed and keeps to the limits."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.errors import Failure
from kithara_actors.messages.commands import COMMANDS
from kithara_actors.messages.events import (
    BodyResumed,
    BodyStalled,
    Event,
    FirstByte,
    Lagged,
    LoadSlow,
    RequestCancelled,
    RequestCompleted,
    RequestEnqueued,
    RequestFailed,
    RequestStarted,
    SystemStopping,
)
from kithara_actors.values import CancelReason, Priority, RequestId

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def module(name: str) -> Any:
    return importlib.import_module(f"storm.{name}")


def enqueued(request: int) -> Event:
    return RequestEnqueued(RequestId(request), "http://one/", "GET", Priority.HIGH, 0, None)


def started(request: int) -> Event:
    return RequestStarted(RequestId(request), 0.0)


def completed(request: int) -> Event:
    return RequestCompleted(RequestId(request), 1, 1.0, 8)


def failed(request: int) -> Event:
    return RequestFailed(RequestId(request), 0, False, Failure("InternalError", "why"))


def cancelled(request: int) -> Event:
    return RequestCancelled(RequestId(request), 0, CancelReason.PEER_CANCEL)


def unstarted(request: int) -> Event:
    return RequestCancelled(RequestId(request), 0, CancelReason.BEFORE_START)


def slow(request: int) -> Event:
    return LoadSlow(RequestId(request), 0, 2.0)


def answered(request: int) -> Event:
    return FirstByte(RequestId(request), 0.1, 200, False)


def wrong(*events: Event) -> list[str]:
    ends = module("verdict").Ends()
    for event in events:
        ends.take(event)
    found: list[str] = ends.wrong()
    return found


@pytest.mark.parametrize("end", [completed, failed, cancelled])
def test_one_end_is_right(end: Any) -> None:
    assert wrong(enqueued(1), started(1), enqueued(2), started(2), end(1), SystemStopping(), end(2)) == []


def test_a_whole_life_is_right() -> None:
    one = RequestId(1)
    life = [FirstByte(one, 0.1, 200, False), LoadSlow(one, 0, 2.0), BodyStalled(one, 1), FirstByte(one, 0.1, 206, True)]
    assert wrong(enqueued(1), started(1), *life, BodyResumed(one, 1), completed(1)) == []
    assert wrong(enqueued(1), RequestCancelled(one, 0, CancelReason.BEFORE_START)) == []


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ([enqueued(1), started(1)], "request 1 has no end"),
        (
            [enqueued(1), started(1), completed(1), completed(1)],
            "request 1: RequestCompleted after its end, RequestCompleted: ",
        ),
        (
            [enqueued(1), started(1), cancelled(1), failed(1)],
            "request 1: RequestFailed after its end, RequestCancelled: ",
        ),
        ([enqueued(1), started(1), completed(1), started(1)], "request 1: RequestStarted after its end"),
        ([enqueued(1), started(1), completed(1), enqueued(1)], "request 1: RequestEnqueued after its end"),
        ([enqueued(1), enqueued(1), started(1), completed(1)], "request 1 was enqueued twice"),
        ([started(1)], "request 1: RequestStarted before it was enqueued"),
        ([completed(1)], "request 1: RequestCompleted before it was enqueued"),
        ([enqueued(1), started(1), Lagged(3), completed(1)], "3 events were lost on the way"),
        ([enqueued(1), started(1), started(1), completed(1)], "request 1: RequestStarted twice"),
        ([enqueued(1), started(1), slow(1), slow(1), completed(1)], "request 1: LoadSlow twice"),
        ([enqueued(1), completed(1)], "request 1: RequestCompleted before it was started"),
        ([enqueued(1), failed(1)], "request 1: RequestFailed before it was started"),
        ([enqueued(1), answered(1), started(1), completed(1)], "request 1: FirstByte before it was started"),
        ([enqueued(1), cancelled(1)], "request 1: it was never started, and was cancelled as PEER_CANCEL"),
        ([enqueued(1), started(1), unstarted(1)], "request 1: it was started, and was cancelled as BEFORE_START"),
    ],
)
def test_wrong_ends(events: list[Event], found: str) -> None:
    (line,) = wrong(*events)
    assert line.startswith(found)


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_first_difference(got: bytes, expected: bytes) -> None:
    at = module("verdict").first_difference(got, expected)
    if at is None:
        assert got == expected
    else:
        assert got[:at] == expected[:at]
        assert got[at : at + 1] != expected[at : at + 1]


def test_good_run_has_no_problem() -> None:
    verdict = module("verdict")
    tally = verdict.Tally(bytes_checked=1, crashed={"registry": 2}, restarted={"registry": 2, "source-1": 1})
    tally.refused, tally.lost = 2, 4
    assert verdict.problems(tally) == []


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ({"wrong_bytes": ["here"]}, "wrong byte: here"),
        ({"errors": ["read: InternalError"]}, "error: read: InternalError"),
        ({"hangs": ["load-1"]}, "hang: load-1"),
        ({"left": ["thread 'x'"]}, "left behind: thread 'x'"),
        ({"survivors": ["registry"]}, "not ended by stop: registry"),
        ({"gave_up": True}, "the system gave up"),
        ({"crashed": {"registry": 2}, "restarted": {"registry": 1}}, "registry was crashed 2 times and restarted 1"),
        ({"restarted": {}, "crashed": {"registry": 1}}, "registry was crashed 1 times and restarted 0"),
        ({"refused": 2, "lost": 3}, "2 requests were refused, and only 3 workers were lost"),
        ({"recorded": True, "replayed": 9, "trace": ["frame 7: another"]}, "trace: frame 7: another"),
        ({"recorded": True}, "trace: no decision was replayed"),
        ({"bytes_checked": 0}, "no byte was read"),
    ],
)
def test_each_finding_is_a_problem(what: dict[str, Any], found: str) -> None:
    verdict = module("verdict")
    (line,) = verdict.problems(verdict.Tally(**{"bytes_checked": 1, **what}))
    assert line.startswith(found)


def test_ends_are_looked_at() -> None:
    verdict = module("verdict")
    tally = verdict.Tally(bytes_checked=1)
    tally.ends.take(enqueued(7))
    assert verdict.problems(tally) == ["events: request 7 has no end"]


def test_many_findings_are_told_in_few_lines() -> None:
    verdict = module("verdict")
    found = verdict.problems(verdict.Tally(bytes_checked=1, errors=[str(n) for n in range(100)]))
    assert len(found) == 6
    assert found[-1] == "error: and 95 more"


# --- The schedule


@given(st.integers(0, 2**32), st.floats(1, 900))
def test_schedule_keeps_to_the_limits(seed: int, seconds: float) -> None:
    schedule = module("schedule")
    plan = schedule.schedule(seed, seconds, 2.0)
    assert plan == schedule.schedule(seed, seconds, 2.0)
    times = [due.at for due in plan]
    assert times == sorted(times)
    assert all(0 < at < seconds for at in times)
    # A crash and each start that fails after it count as a restart.
    spent = [
        (due.at, 1 + due.trap.again) for due in plan if due.trap is not None and not due.trap.actor.startswith("source")
    ]
    for at, _ in spent:
        assert sum(count for other, count in spent if at <= other < at + schedule.WINDOW) <= 5
    for due in plan:
        assert (due.fault == "crash") == (due.trap is not None)
        if due.fault == "starve":
            assert 0 < due.seconds <= schedule.STARVED * 2.0


def test_another_seed_is_another_schedule() -> None:
    schedule = module("schedule").schedule
    assert schedule(1, 60, 2.0) != schedule(2, 60, 2.0)


def test_leaving_a_kind_out_changes_nothing_else() -> None:
    schedule = module("schedule")
    whole = schedule.schedule(1, 60, 2.0)
    assert {due.fault for due in whole} == set(schedule.FAULTS)
    some = schedule.schedule(1, 60, 2.0, ("kill", "crash"))
    assert some == [due for due in whole if due.fault in ("kill", "crash")]


def test_commands_of_the_schedule_are_there() -> None:
    names = {command.__name__ for command in COMMANDS}
    for commands in module("schedule").COMMANDS_OF.values():
        assert set(commands) <= names
