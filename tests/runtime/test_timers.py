"""Timers: in order, not before their time, harmed by nothing that they run, and gone after stop."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from actors.actor.timers import Timers
from actors.clock import monotonic
from actors.messages.codec import Codec
from actors.messages.command import Command
from actors.testing.fake_clock import FakeClock, FakeTimers
from actors.testing.step import Probe

LONG = 20.0


@dataclass(frozen=True, slots=True)
class Ring(Command):
    TAG = 16
    number: int


CODEC = Codec([Ring])


class Bell(Probe):
    """Notes when it was rung, and opens `rung` at the last."""

    def __init__(self, last: int) -> None:
        super().__init__("bell", CODEC)
        self.times: list[float] = []
        self.rung = threading.Event()
        self._last = last

    def forward(self, data: bytes) -> bool:
        self.times.append(monotonic())
        known = super().forward(data)
        if Ring(self._last) in self.received:
            self.rung.set()
        return known


@pytest.fixture
def timers() -> Iterator[Timers]:
    made = Timers()
    made.start()
    yield made
    assert made.stop(LONG)


def test_in_the_order_of_their_time_and_then_of_their_setting(timers: Timers) -> None:
    bell = Bell(9)
    gate = threading.Event()
    timers.soon(lambda: gate.wait(LONG))
    begin = monotonic()
    timers.after(0.03, bell, Ring(9))
    timers.after(0.01, bell, Ring(2))
    timers.after(0.02, bell, Ring(5))
    timers.after(0.0, bell, Ring(1))
    gate.set()
    assert bell.rung.wait(LONG)
    assert bell.received == [Ring(1), Ring(2), Ring(5), Ring(9)]
    assert bell.times[-1] - begin >= 0.03


def test_equal_times_keep_their_order() -> None:
    """The clock stands, so all are due at one moment."""
    timers = Timers(FakeClock())
    bell = Bell(99)
    for number in range(100):
        timers.after(0.0, bell, Ring(number))
    timers.start()
    assert bell.rung.wait(LONG)
    assert bell.received == [Ring(number) for number in range(100)]
    assert timers.stop(LONG)


def test_a_stopped_address_is_ignored(timers: Timers) -> None:
    dead, bell = Bell(1), Bell(1)
    dead.alive = False
    timers.after(0.0, dead, Ring(1))
    timers.after(0.0, bell, Ring(1))
    assert bell.rung.wait(LONG)
    assert dead.received == []


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt()])
def test_a_call_that_raises_stops_nothing(timers: Timers, error: BaseException) -> None:
    bell = Bell(1)

    def fails() -> None:
        raise error

    timers.soon(fails)
    timers.after(0.0, bell, Ring(1))
    assert bell.rung.wait(LONG)


def test_a_stop_from_a_timer_does_not_wait_for_itself() -> None:
    timers = Timers()
    timers.start()
    answers: list[bool] = []
    timers.soon(lambda: answers.append(timers.stop(LONG)))
    timers._thread.join(LONG)
    assert not timers._thread.is_alive()
    assert answers == [True]
    assert timers.stop(LONG)


def test_what_is_pending_at_the_stop_is_dropped() -> None:
    timers = Timers()
    timers.start()
    bell = Bell(1)
    timers.after(3600.0, bell, Ring(1))
    assert timers.stop(LONG)
    assert bell.received == []
    timers.after(0.0, bell, Ring(1))
    assert bell.received == []


def test_stop_without_start() -> None:
    assert Timers().stop(0.0)


def test_a_stop_that_takes_too_long_says_so() -> None:
    timers = Timers()
    timers.start()
    held, gate = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        gate.wait(LONG)

    timers.soon(hold)
    assert held.wait(LONG)
    assert not timers.stop(0.01)
    gate.set()
    assert timers.stop(LONG)


def test_a_finalizer_may_set_a_timer(timers: Timers) -> None:
    bell = Bell(1)

    class Rings:
        def __del__(self) -> None:
            timers.after(0.0, bell, Ring(1))

    cycle: list[object] = [Rings()]
    cycle.append(cycle)
    del cycle
    timers.soon(gc.collect)
    gc.collect()
    assert bell.rung.wait(LONG)


def test_fake_timers_run_what_is_due_at_its_moment() -> None:
    clock = FakeClock(100.0)
    timers = FakeTimers(clock)
    timers.start()
    probe = Probe("probe", CODEC)
    moments: list[float] = []
    timers.after(2.0, probe, Ring(2))
    timers.after(1.0, probe, Ring(1))
    timers.soon(lambda: moments.append(clock()))
    assert timers.delays == [0.0, 1.0, 2.0]
    timers.advance(1.5)
    assert (probe.take(), moments, clock()) == ([Ring(1)], [100.0], 101.5)
    timers.advance(0.5)
    assert probe.take() == [Ring(2)]
    timers.after(9.0, probe, Ring(3))
    assert timers.stop(0.0)
    timers.advance(10.0)
    assert probe.take() == []
