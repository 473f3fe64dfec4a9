"""F10 to F13: actors that crash, in handlers, hooks and starts."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pykka
import pytest
from family_kit import CODEC, LONG, Actor, Block, Fail, House, Log, Note, housed

from actors.actor.behaviour import Crash
from actors.actor.children import ChildSpec
from actors.clock import monotonic
from actors.logic.restarts import Backoff, RestartType
from actors.logic.supervision import ChildState


@pytest.fixture
def house() -> Iterator[House]:
    yield from housed()


def test_f10_what_was_queued_behind_a_crash_is_handled_by_the_next_incarnation(house: House) -> None:
    """F10: 100 messages queued behind it, in order; same ref, URN and thread."""
    log = Log()
    address = house.add(house.supervisor(), "a", log)
    ref = address._ref
    address.tell(Block())
    assert log.held.wait(LONG)
    address.tell(Fail("ValueError"))
    futures = [ref.ask(CODEC.encode(Note(number)), block=False) for number in range(50)]
    for number in range(50, 100):
        address.tell(Note(number))
    log.gate.set()
    assert [CODEC.decode(future.get(timeout=LONG)) for future in futures] == [Note(2)] * 50
    assert address.ask(Note(100), LONG) == Note(2)
    assert log.seen == [(2, number) for number in range(101)]
    assert log.did == ["start 1", "restart 1: ValueError", "start 2"]
    assert len(log.threads) == 1
    assert address._ref == ref
    assert ref.actor_urn == address._ref.actor_urn
    assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) == ref
    assert house.hooks.told[:3] == [
        ("failed", "a", 1, "ValueError"),
        ("restarting", "a", 1, 1),
        ("restarted", "a", 2),
    ]


@pytest.mark.parametrize(("restart_on", "again"), [((), False), ((LookupError,), True)])
def test_f10_an_error_of_an_ask_restarts_only_where_that_was_said(
    house: House, restart_on: tuple[type[BaseException], ...], again: bool
) -> None:
    log = Log()
    address = house.add(house.supervisor(), "a", log, restart_on=restart_on)
    with pytest.raises(KeyError):
        address.ask(Fail("KeyError"), LONG)
    assert address.ask(Note(0), LONG) == Note(1 + again)
    assert house.hooks.told[0] == ("failed" if again else "asked", "a", 1, "KeyError")


def test_f11_starts_that_fail_four_times_are_tried_again(house: House) -> None:
    """F11: four failures, up on the fifth try; the supervisor answers throughout."""
    log = Log()
    supervisor = house.supervisor()
    address = house.add(supervisor, "a", log)
    log.failing_starts = 4
    address.tell(Fail("ValueError"))
    assert address.ask(Note(0), LONG) == Note(6)
    assert [told[0] for told in house.hooks.told].count("failed") == 5
    (info,) = supervisor.children()
    assert (info.state, info.incarnation, info.restarts, info.error) == (
        ChildState.UP,
        6,
        5,
        "ValueError: cannot start",
    )


@pytest.mark.parametrize("error", [ValueError("always"), SystemExit("always")])
def test_f11_starts_that_always_fail_end_the_supervisor(house: House, error: BaseException) -> None:
    log, other = Log(), Log()
    supervisor = house.supervisor()
    house.add(supervisor, "b", other)
    address = house.add(supervisor, "a", log)
    log.failing_starts, log.start_error = 1000, error
    future = address._ref.ask(CODEC.encode(Fail("Crash")), block=False)
    with pytest.raises(Crash):
        future.get(timeout=LONG)
    waiting = address._ref.ask(CODEC.encode(Note(0)), block=False)
    with pytest.raises(pykka.ActorDeadError):
        waiting.get(timeout=LONG)
    house.hooks.until("drained", "family", "a")
    assert log.incarnation == 6
    assert other.did == ["start 1", "stop 1"]
    with pytest.raises(RuntimeError, match="stopping"):
        supervisor.add(ChildSpec(name="c", make=Log().make))


@pytest.mark.parametrize("what", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopSelf"])
@pytest.mark.parametrize("restart", [RestartType.PERMANENT, RestartType.TRANSIENT])
def test_f12_what_would_end_the_host_ends_an_incarnation(house: House, what: str, restart: RestartType) -> None:
    """F12."""
    log, other = Log(), Log()
    supervisor = house.supervisor()
    bystander = house.add(supervisor, "b", other)
    address = house.add(supervisor, "a", log, restart=restart)
    address.tell(Fail(what))
    if restart is RestartType.PERMANENT or what in ("KeyboardInterrupt", "GeneratorExit"):
        assert address.ask(Note(0), LONG) == Note(2)
    else:
        house.hooks.until("ended", "a")
        assert supervisor.address("a") is None
    assert bystander.ask(Note(0), LONG) == Note(1)


def test_f11_delays_lie_in_the_band_of_their_jitter(house: House) -> None:
    """The k-th of 0.1, 0.2, ... s, at least 0.8 of it; measured by nobody, said by the supervisor."""
    log = Log()
    delays: list[float] = []
    supervisor = house.supervisor(Backoff(base=0.01))
    house.hooks.restarting = lambda child, n, delay, count: delays.append(delay)  # type: ignore[method-assign,assignment,return-value]
    address = house.add(supervisor, "a", log)
    log.failing_starts = 4
    address.tell(Fail("ValueError"))
    assert address.ask(Note(0), LONG) == Note(6)
    assert len(delays) == 5
    for number, delay in enumerate(delays):
        assert 0.8 * 0.01 * 2**number <= delay <= 0.01 * 2**number


def test_f11_a_want_of_memory_waits_for_a_second_at_least(house: House) -> None:
    log = Log()
    delays: list[float] = []
    supervisor = house.supervisor()
    house.hooks.restarting = lambda child, n, delay, count: delays.append(delay)  # type: ignore[method-assign,assignment,return-value]
    address = house.add(supervisor, "a", log)
    address.tell(Fail("MemoryError"))
    assert address.ask(Note(0), LONG) == Note(2)
    assert delays == [1.0]


@pytest.mark.parametrize("error", [SystemExit("told so"), KeyboardInterrupt("told so")])
@pytest.mark.parametrize("hook", ["on_stop", "on_restart"])
def test_f12_hooks_of_an_actor_that_would_end_the_host_are_logged(
    house: House, hook: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []

    def fails(self: Actor, *_: object) -> None:
        called.append(hook)
        raise error

    odd = type("Odd", (Actor,), {hook: fails})
    log, other = Log(), Log()
    supervisor = house.supervisor()
    bystander = house.add(supervisor, "b", other)
    address = supervisor.add(ChildSpec(name="a", make=lambda: odd(log)), ready_within=LONG)
    house.threads += [thread for name, thread in supervisor.threads() if name == "a"]
    with caplog.at_level(logging.ERROR):
        if hook == "on_restart":
            address.tell(Fail("ValueError"))
            assert address.ask(Note(0), LONG) == Note(2)
        assert bystander.ask(Note(0), LONG) == Note(1)
        assert address._ref.stop(block=True, timeout=LONG)
    assert called == [hook]
    assert f"a: {hook} failed" in caplog.text
    assert pykka.ActorRegistry.get_by_urn(address._ref.actor_urn) is None


def test_f13_a_child_that_always_fails_is_given_up_after_five_restarts(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """By the default schedule: 0.1 + 0.2 + 0.4 + 0.8 + 1.6 s, each at least 0.8 of it. It says and does little."""
    log = Log()
    supervisor = house.supervisor(Backoff())
    address = house.add(supervisor, "a", log)
    log.failing_starts = 1000
    caplog.set_level(logging.INFO)
    begin, used = monotonic(), time.process_time()
    address.tell(Fail("ValueError"))
    house.hooks.until("drained", "family", "a")
    took = monotonic() - begin
    assert 2.4 <= took < 4 * 3.3
    assert time.process_time() - used < 0.5 * took
    assert log.incarnation == 1 + 5
    assert [told for told in house.hooks.told if told[0] == "restarting"] == [
        ("restarting", "a", incarnation, incarnation) for incarnation in range(1, 6)
    ]
    assert len(caplog.records) <= 20
    assert supervisor.health().state == "failed"
