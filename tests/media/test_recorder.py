"""The recorder's file: bounded, private, whole for at least half of its size, and no trouble to who decides."""

from __future__ import annotations

import itertools
import os
import stat
import threading
from pathlib import Path

import pytest
from recorder_kit import KIB, SPEC, book, end, frames, recorder, replayed, requests, spec

from actors.logic.supervision import Added, Started, Supervision
from kithara_actors.logic.demand import Reader, Situation, plan
from kithara_actors.logic.fetch import DelayOver, FetchBook, Run, Start
from kithara_actors.logic.ranges import Ranges
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.logic.suspicion import Suspicion
from kithara_actors.messages.frames import Event, State, Words
from kithara_actors.recorder import SIZE, Recorder
from kithara_actors.traces import HEADER, read_trace
from kithara_actors.values import RequestId

# --- The file


def test_what_was_decided_is_on_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    made = recorder(path)
    machine = made.machine("downloader", book())
    machine.handle(Start(SPEC), 0.25)
    words, state, event = frames(path)
    assert isinstance(words, Words)
    assert isinstance(state, State)
    assert isinstance(event, Event)
    assert (state.actor, state.incarnation, state.step, state.kind) == ("downloader", 1, 0, "FetchBook")
    assert (event.actor, event.incarnation, event.step, event.error) == ("downloader", 1, 0, None)
    assert [words.seq, state.seq, event.seq] == [0, 1, 2]
    assert sum(replayed(path).replayed.values()) == 1
    made.close()
    assert len(frames(path)) == 3


def test_file_is_its_owners_and_of_its_size_from_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    before = os.umask(0)
    try:
        made = Recorder(path)
    finally:
        os.umask(before)
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert SIZE - 2 <= status.st_size <= SIZE
    made.close()


def test_a_trace_of_before_is_overwritten_and_made_private(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    first = recorder(path)
    requests(first.machine("downloader", book()), range(1, 50))
    first.close()
    path.chmod(0o644)
    second = recorder(path)
    assert [type(frame) for frame in frames(path)] == [Words]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second.close()


def test_laps_follow_each_other_and_half_of_the_file_is_always_whole(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    made = recorder(path)
    machine = made.machine("downloader", book())
    total = 0
    half = (256 * KIB - HEADER) // 2
    for number in range(1, 1500):
        requests(machine, range(number, number + 1))
        total += 2
        if number % 100 == 0:
            trace = read_trace(path)
            assert trace.damage == []
            last = trace.laps[-1].number
            assert [lap.number for lap in trace.laps] == list(range(max(1, last - 1), last + 1))
            replay = replayed(path)
            assert not replay.passed
            if last == 1:
                assert sum(replay.replayed.values()) == total
            else:
                # The lap before is whole: all but what was spared is filled.
                begin, end = trace.laps[0].frames[0][0], trace.laps[0].frames[-1][0]
                assert end - begin > half * 3 // 4
    assert last > 3
    seqs = [frame.seq for frame in trace]
    assert seqs == list(range(seqs[0], seqs[-1] + 1))
    assert path.stat().st_size <= 256 * KIB
    made.close()


def test_large_events_are_in_the_lap_of_the_state_before_them(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    made = recorder(path)
    machine = made.machine("downloader", book())
    for number in range(1, 60):
        requests(machine, range(number, number + 1), "http://one/" + "a" * 3 * KIB)
        assert not replayed(path).passed
    assert read_trace(path).laps[-1].number > 2
    made.close()


def test_each_lap_begins_with_the_state_of_who_decides_in_it(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    made = recorder(path)
    machine = made.machine("downloader", book())
    idle = made.machine("other", book())
    idle.handle(Start(SPEC), 0.5)
    machine.handle(Start(spec(2)), 0.5)
    requests(machine, range(3, 1000))
    trace = read_trace(path)
    assert trace.laps[0].number > 1
    for lap in trace.laps:
        states = [frame for _, frame in lap.frames if isinstance(frame, State)]
        assert [state.actor for state in states] == ["downloader"]
    end(idle, 1)
    assert replayed(path).replayed["other"] == 1
    made.close()


def test_incarnations_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    made = recorder(path)
    for _ in range(3):
        requests(made.machine("downloader", book()), range(1, 3))
    found = [(frame.incarnation, frame.step) for frame in frames(path) if isinstance(frame, Event)]
    assert found == [(incarnation, step) for incarnation in (1, 2, 3) for step in range(4)]
    assert replayed(path).replayed == {"downloader": 12}
    made.close()


def test_functions_and_supervisors_are_recorded_too(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    made = recorder(path)
    planned = made.function("source-1", plan)
    now = Situation(False, False, None, Ranges(), (Reader(0),), ())
    assert planned(now) == plan(now)
    supervision = made.machine("root", Supervision())
    supervision.handle(Added("one"), 1.0, 0.5)
    supervision.handle(Started("one", 1), 2.0, 0.5)
    assert supervision.names() == ["one"]
    assert replayed(path).replayed == {"source-1": 1, "root": 2}
    made.close()


def test_what_others_answer_is_an_input(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    made = recorder(path)
    numbers = itertools.count(41)
    kept = Suspicion(0, alone=1)
    machine = made.machine("downloader", FetchBook(RetryPolicy(), attempts=numbers, suspicions=lambda *_: kept))
    _, run = machine.handle(Start(SPEC), 0.5)
    assert isinstance(run, Run)
    assert (run.attempt, run.alone) == (41, True)
    (event,) = [frame for frame in frames(path) if isinstance(frame, Event)]
    assert len(event.answers) == 2
    assert replayed(path).replayed == {"downloader": 1}
    made.close()


def test_what_is_raised_is_a_decision(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    made = recorder(path)
    machine = made.machine("downloader", book())
    machine.handle(Start(SPEC), 0.5)
    with pytest.raises(RuntimeError, match="admitted again"):
        machine.handle(Start(SPEC), 0.5)
    machine.handle(DelayOver(RequestId(1), 1), 0.5)
    assert [frame.error for frame in frames(path) if isinstance(frame, Event)] == [None, "RuntimeError", None]
    assert replayed(path).replayed == {"downloader": 3}
    made.close()


def test_threads_are_recorded_in_the_order_in_which_they_decide(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    made = recorder(path, 1024 * KIB)
    machines = [made.machine(f"downloader-{number}", book()) for number in range(4)]
    threads = [threading.Thread(target=requests, args=(machine, range(1, 200))) for machine in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [frame.seq for frame in frames(path)] == list(range(frames(path)[0].seq, frames(path)[-1].seq + 1))
    assert not replayed(path).passed
    made.close()


# --- What does not fit


def test_an_event_too_large_for_a_lap_is_left_out_and_that_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    made = recorder(path)
    machine = made.machine("downloader", book())
    machine.handle(Start(SPEC), 0.5)
    machine.handle(Start(spec(2, "http://one/" + "a" * 300 * KIB)), 0.5)
    end(machine, 2)
    requests(machine, range(3, 6))
    steps = [frame.step for frame in frames(path) if isinstance(frame, Event)]
    assert 1 not in steps
    assert made.running
    made.close()


def test_an_event_too_large_for_what_was_spared_begins_a_lap(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    made = recorder(path)
    machine = made.machine("downloader", book())
    requests(machine, range(1, 180))
    machine.handle(Start(spec(500, "http://one/" + "a" * 30 * KIB)), 0.5)
    end(machine, 500)
    requests(machine, range(501, 510))
    replay = replayed(path)
    # It is there to be seen; what follows is replayed again.
    assert replay.passed["downloader"] <= 1
    assert any(len(str(frame)) > 30 * KIB for frame in frames(path))
    assert made.running
    made.close()


def test_a_state_that_takes_too_much_is_left_out_until_it_is_small_again(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    made = recorder(path)
    machine = made.machine("downloader", book())
    machine.handle(Start(spec(1, "http://one/" + "a" * 60 * KIB)), 0.5)
    requests(machine, range(2, 400))
    assert made.running
    assert replayed(path).passed["downloader"] > 100
    end(machine, 1)
    requests(machine, range(400, 900))
    replay = replayed(path)
    assert replay.replayed["downloader"] > 100
    assert not replay.passed["downloader"]
    made.close()
