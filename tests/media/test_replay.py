"""What was recorded leads to the same decisions again, whatever the events were; a change of the logic is found."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize
from recorder_kit import first_difference, frames, recorder, replayed
from test_fetch_book import BROKEN, SERVER, SPEC, Lives

from actors.logic.restarts import Exit, Intensity, RestartType, Strategy
from actors.logic.supervision import (
    Added,
    Delay,
    Drain,
    Due,
    Event,
    Exited,
    Gone,
    Halted,
    HostStops,
    Started,
    StartFailed,
    Supervision,
    Terminate,
)
from kithara_actors.logic import demand
from kithara_actors.logic.demand import Plan, Reader, Running, Situation, plan
from kithara_actors.logic.fetch import Adopt, BackOff, Cancel, DelayOver, Ended, FetchBook, Lost, Start
from kithara_actors.logic.machines import MACHINES, VOCABULARY
from kithara_actors.logic.plain import Encoder
from kithara_actors.logic.ranges import Ranges
from kithara_actors.logic.replay import Replay
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.logic.suspicion import Blame, Suspicion
from kithara_actors.messages.frames import Event as Decision
from kithara_actors.messages.frames import State
from kithara_actors.recorder import Recorder
from kithara_actors.values import CancelReason, FetchKind, RequestId

ONE = RequestId(1)


# --- Any sequence


class RecordedLives(Lives):
    """Whatever may happen to requests."""

    @initialize(retries=st.integers(0, 3))
    def begin(self, retries: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.recorder = recorder(self.folder / "trace")
        Lives.begin(self, retries)
        self.book = self.recorder.machine("downloader", self.book)

    def teardown(self) -> None:
        try:
            Lives.teardown(self)
            replay = replayed(self.folder / "trace")
            assert not replay.passed
            events = [frame for frame in frames(self.folder / "trace") if isinstance(frame, Decision)]
            assert sum(replay.replayed.values()) == len(events)
        finally:
            self.recorder.close()
            shutil.rmtree(self.folder)


TestRecordedLives = RecordedLives.TestCase
TestRecordedLives.settings = settings(
    max_examples=20, stateful_step_count=50, suppress_health_check=[HealthCheck.too_slow]
)

names = st.sampled_from(["a", "b", "c", "d"])
incarnations = st.integers(0, 3)
events = st.one_of(
    st.builds(Added, names, st.sampled_from(RestartType)),
    st.builds(Started, names, incarnations),
    st.builds(StartFailed, names, incarnations, st.booleans()),
    st.builds(Exited, names, incarnations, st.sampled_from(Exit), st.booleans()),
    st.builds(Halted, names, incarnations),
    st.builds(Gone, names, st.booleans()),
    st.builds(Due, st.integers(0, 5)),
    st.builds(HostStops, names),
    st.builds(Terminate, names, st.booleans()),
)


@given(
    strategy=st.sampled_from(Strategy),
    outlives=st.booleans(),
    restarts=st.integers(0, 4),
    given_=st.lists(st.tuples(events, st.floats(0, 20), st.floats(0, 1)), max_size=60),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_through_a_supervisor(
    tmp_path: Path, strategy: Strategy, outlives: bool, restarts: int, given_: list[tuple[Event, float, float]]
) -> None:
    made = recorder(tmp_path / "trace")
    machine = made.machine("root", Supervision(strategy, Intensity(restarts, 30.0), outlives=outlives))
    now = 0.0
    for event, later, draw in given_:
        now += later
        # For a name in use, or a child while it drains: a decision as well.
        with contextlib.suppress(ValueError, RuntimeError):
            machine.handle(event, now, draw)
    made.close()
    assert sum(replayed(tmp_path / "trace").replayed.values()) == len(given_)


readers = st.lists(
    st.builds(Reader, st.integers(0, 900), st.none() | st.integers(0, 1000), st.none() | st.integers(0, 400)),
    max_size=3,
)
running = st.lists(
    st.builds(
        Running,
        st.integers(1, 9).map(RequestId),
        st.integers(0, 900),
        st.none() | st.integers(0, 1000),
        st.sampled_from(FetchKind),
        st.booleans(),
    ),
    max_size=3,
)
situations = st.builds(
    Situation,
    st.booleans(),
    st.booleans(),
    st.none() | st.integers(1, 1000),
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 90)), max_size=4).map(
        lambda pairs: Ranges.from_pairs((start, start + size) for start, size in pairs)
    ),
    readers.map(tuple),
    running.map(tuple),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(situations, max_size=10))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_situation_of_a_source(tmp_path: Path, all_: list[Situation]) -> None:
    made = recorder(tmp_path / "trace")
    planned = made.function("source-1", plan)
    for now in all_:
        planned(now)
    made.close()
    assert sum(replayed(tmp_path / "trace").replayed.values()) == len(all_)


# --- Changes that must be found


def fetches(path: Path) -> None:
    """A life with a bit of everything."""
    made = recorder(path)
    try:
        live(made)
    finally:
        made.close()


def live(made: Recorder) -> None:
    kept: dict[int, Suspicion] = {}
    book = FetchBook(RetryPolicy(), suspicions=lambda request, since: kept.setdefault(request, Suspicion(since)))
    machine = made.machine("downloader", book)
    machine.handle(Start(SPEC), 0.5)
    machine.handle(Ended(ONE, 1, 2000, complete=False, failure=SERVER), 0.25)
    machine.handle(DelayOver(ONE, 1), 0.5)
    machine.handle(Start(SPEC, again=True), 0.5)
    machine.handle(Lost(ONE, 2, 3000, Blame.ALONE), 0.5)
    machine.handle(Ended(ONE, 3, 4000, complete=False, failure=BROKEN), 0.75)
    machine.handle(Cancel(ONE, CancelReason.PEER_CANCEL), 0.5)
    machine.handle(Adopt(replace(SPEC, request=RequestId(2)), 1500, 9), 0.5)
    machine.handle(Ended(RequestId(2), 9, 5000, complete=True, total=5000), 0.5)
    planned = made.function("source-1", plan)
    planned(Situation(True, True, 1000, Ranges(), (Reader(0, 10),), ()))
    supervision = made.machine("root", Supervision())
    supervision.handle(Added("one"), 1.0, 0.5)
    supervision.handle(Started("one", 1), 1.0, 0.5)
    (delay,) = supervision.handle(Exited("one", 1, Exit.CRASH), 2.0, 0.5)
    assert isinstance(delay, Delay)
    supervision.handle(Due(delay.token), 3.0, 0.5)
    supervision.handle(Drain(), 4.0, 0.5)


def test_the_life_replays(tmp_path: Path) -> None:
    fetches(tmp_path / "trace")
    assert replayed(tmp_path / "trace").replayed == {"downloader": 9, "source-1": 1, "root": 5}


def changed_delay(self: RetryPolicy, failure: Any, tries: int, draw: float, **how: Any) -> Any:
    from kithara_actors.logic.retry import Again

    return Again(0.123)


def raising(*_: object, **__: object) -> Any:
    raise KeyError("planted")


def silent(*_: object, **__: object) -> Any:
    return []


@pytest.mark.parametrize(
    ("target", "name", "new", "actor", "kind"),
    [
        (RetryPolicy, "after", changed_delay, "downloader", BackOff),
        (FetchBook, "_lost", silent, "downloader", Lost),
        (FetchBook, "_cancel", raising, "downloader", Cancel),
        (Suspicion, "lost", silent, "downloader", Lost),
        (Supervision, "_due", silent, "root", Due),
        (demand, "_want", lambda now, reader, missing: demand.Want(1, 2, FetchKind.FILL), "source-1", Plan),
    ],
    ids=["delay", "no decision", "an exception", "a state", "supervision", "demand"],
)
def test_a_change_of_the_logic_is_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: Any,
    name: str,
    new: Callable[..., Any],
    actor: str,
    kind: type,
) -> None:
    fetches(tmp_path / "trace")
    with monkeypatch.context() as patch:
        patch.setattr(target, name, new)
        found, replay = first_difference(tmp_path / "trace")
    assert found is not None
    assert found.frame.actor == actor
    assert found.what == "decision"
    assert isinstance(found.frame, Decision)
    assert replay.replayed[actor] < 11
    # With the logic as it was, all is well again.
    replayed(tmp_path / "trace")


def test_the_place_of_a_difference_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetches(tmp_path / "trace")
    monkeypatch.setattr(RetryPolicy, "after", changed_delay)
    found, _ = first_difference(tmp_path / "trace")
    assert found is not None
    assert found.where == "[0].delay"


def test_a_state_that_changed_unseen_is_found_at_the_next_lap(tmp_path: Path) -> None:
    """Something beside the one door has changed it."""
    made = recorder(tmp_path / "trace")
    machine = made.machine("downloader", FetchBook(RetryPolicy()))
    machine.handle(Start(SPEC), 0.5)
    machine._lives[ONE].landed = 77_777
    for number in range(2, 2000):
        machine.handle(DelayOver(RequestId(number), 1), 0.5)
    made.close()
    found, _ = first_difference(tmp_path / "trace")
    assert found is not None
    assert isinstance(found.frame, State)
    assert (found.what, found.where) == ("state", "._lives[1].landed")


@pytest.mark.parametrize("more", [True, False])
def test_other_questions_are_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: bool) -> None:
    fetches(tmp_path / "trace")

    def start(self: FetchBook, spec: Any, *, again: bool) -> Any:
        if more:
            self._attempts()
            self._attempts()
        return original(self, spec, again=again) if more else []

    original = FetchBook._start
    monkeypatch.setattr(FetchBook, "_start", start)
    found, _ = first_difference(tmp_path / "trace")
    assert found is not None
    assert found.replayed == ("PlainError" if more else "fewer questions asked")


def test_what_has_no_state_in_the_trace_is_passed_and_counted() -> None:
    replay = Replay()
    encode = Encoder(VOCABULARY).encode
    event = Decision(5, 1.0, "downloader", 1, 3, "FetchBook", encode((DelayOver(ONE, 1), 0.5)), (), None, encode([]))
    assert replay.take(event) is None
    assert replay.take(replace(event, kind="Unheard")) is None
    assert replay.passed == {"downloader": 2}
    # A gap: one event is not there.
    assert replay.take(State(6, 1.0, "downloader", 1, 4, "FetchBook", encode(FetchBook(RetryPolicy())))) is None
    assert replay.take(replace(event, step=5)) is None
    assert replay.passed == {"downloader": 3}
    assert not replay.replayed


def test_machines_that_are_recorded_are_those_that_there_are() -> None:
    assert set(MACHINES) == {"FetchBook", "SlotMap", "Supervision", "plan"}
