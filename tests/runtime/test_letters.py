"""What is told or asked in vain: dead letters, full mailboxes, long waits, and the errors that say so."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Iterator

import pykka
import pytest
from family_kit import CODEC, LONG, NEVER, Block, Fail, Hooks, House, Log, Note, housed
from hypothesis import given
from hypothesis import strategies as st

from actors.actor import errors
from actors.actor.children import DEFAULT_BOUND, ChildSpec
from actors.actor.errors import MailboxFullError, MailboxWaitError
from actors.actor.letters import DeadLetters
from actors.logic.log_limit import LogLimit
from actors.testing.fake_clock import FakeClock


@pytest.fixture
def house() -> Iterator[House]:
    yield from housed()


@pytest.mark.parametrize("drop", [False, True])
def test_a_full_mailbox_refuses_or_drops_what_is_told(house: House, drop: bool) -> None:
    log = Log()
    supervisor = house.supervisor()
    lost: list[tuple[str, str]] = []
    house.hooks.undelivered = lambda child, reason: lost.append((child, reason))  # type: ignore[method-assign,assignment,return-value]
    address = house.add(supervisor, "a", log, bound=1, drop=drop)
    address.tell(Block())
    assert log.held.wait(LONG)
    assert address.tell(Note(1))
    if drop:
        assert address.tell(Note(2))
    else:
        with pytest.raises(MailboxFullError, match="1 messages wait already") as full:
            address.tell(Note(2))
        assert full.value.temporary
    with pytest.raises(MailboxFullError):  # who asks is always told
        address.ask(Note(3), LONG)
    assert (lost, supervisor.letters.count) == ([("a", "1 messages wait already; the message was not queued")], 1)
    supervisor.terminate("a")  # an order is never refused
    log.gate.set()
    house.hooks.until("ended", "a")
    assert [child for child, _ in lost] == ["a", "a"]
    assert log.seen == []


def test_an_ask_waits_no_longer_than_it_may_while_its_actor_backs_off(house: House) -> None:
    log = Log()
    supervisor = house.supervisor(NEVER)
    address = house.add(supervisor, "a", log, max_wait=1.0)
    assert address.ask(Note(0), LONG) == Note(1)
    address.tell(Fail("ValueError"))
    house.hooks.until("restarting", "a", 1, 1)
    with pytest.raises(MailboxWaitError, match=r"a did not come to it within 1 s"):
        address.ask(Note(1), LONG)
    supervisor.terminate("a")
    house.hooks.until("ended", "a")
    assert log.seen == [(1, 0)]


def test_what_waited_too_long_is_not_handled_and_what_is_being_handled_goes_on(house: House) -> None:
    log = Log()
    supervisor = house.supervisor()
    address = house.add(supervisor, "a", log, max_wait=1.0)
    running = address._ref.ask(CODEC.encode(Block()), block=False)
    assert log.held.wait(LONG)
    with pytest.raises(MailboxWaitError):
        address.ask(Note(1), LONG)
    passed = threading.Event()
    house.timers.call(0.04, passed.set)  # the limit of the one that runs is over, too
    assert passed.wait(LONG)
    log.gate.set()
    assert running.get(timeout=LONG) is None
    assert address.ask(Note(2), LONG) == Note(1)
    assert log.seen == [(1, 2)]
    assert supervisor.discarded == 0


def test_there_is_a_bound_unless_another_is_given() -> None:
    assert ChildSpec(name="a", make=Log().make).bound == DEFAULT_BOUND == 10_000
    assert ChildSpec(name="a", make=Log().make, bound=None).bound is None


def test_what_is_told_in_vain_is_counted_and_reported(house: House) -> None:
    log = Log()
    supervisor = house.supervisor()
    lost: list[tuple[str, str]] = []

    def undelivered(child: str, reason: str) -> None:
        lost.append((child, reason))
        raise SystemExit("changes nothing")

    house.hooks.undelivered = undelivered  # type: ignore[method-assign]
    address = house.add(supervisor, "a", log)
    address.tell(Block())
    assert log.held.wait(LONG)
    for number in range(3):
        address.tell(Note(number))
    supervisor.terminate("a")
    log.gate.set()
    house.threads[0].join(LONG)
    assert not address.tell(Note(9))
    assert lost == [*[("a", "a has stopped")] * 3, ("a", "the actor has stopped; the message was not queued")]
    assert supervisor.letters.count == 4


def test_ten_lines_a_minute_and_actor_and_one_that_sums_up(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    later: list[tuple[float, object]] = []
    letters = DeadLetters(Hooks(), lambda delay, call: later.append((delay, call)), clock)
    with caplog.at_level(logging.INFO):
        for number in range(25):
            letters.unread("a", f"number {number}")
        letters.undelivered("b", "another")
    assert [record.getMessage() for record in caplog.records] == [
        *(f"dead letter for a: number {number}" for number in range(10)),
        "dead letter for b: another",
    ]
    assert letters.count == 26
    ((delay, call),) = later
    assert delay == 60.0
    clock.advance(60.0)
    caplog.clear()
    call()  # type: ignore[operator]
    assert [record.getMessage() for record in caplog.records] == ["dead letters for a: 15 more within a minute"]
    letters.unread("a", "and again")
    assert len(later) == 1
    assert caplog.records[-1].getMessage() == "dead letter for a: and again"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 30)), max_size=200))
def test_no_line_is_lost_and_no_minute_has_more_than_its_share(steps: list[tuple[str, float]]) -> None:
    limit = LogLimit(lines=3)
    now = 0.0
    written: dict[str, list[float]] = {}
    told: dict[str, int] = {}
    for subject, gap in steps:
        now += gap
        kept_back = limit.line(subject, now)
        if kept_back is not None:
            written.setdefault(subject, []).append(now)
            told[subject] = told.get(subject, 0) + kept_back
    for subject, kept_back in limit.due(now + 60.0):
        told[subject] = told.get(subject, 0) + kept_back
    assert not limit.holding
    for subject in "abc":
        times = written.get(subject, [])
        assert len(times) + told.get(subject, 0) == sum(name == subject for name, _ in steps)
        # Minutes are counted from a first line on: at most twice the share in any sixty seconds.
        assert all(sum(at <= other < at + 60 for other in times) <= 6 for at in times)


@pytest.mark.parametrize(
    ("error", "text", "temporary"),
    [
        (errors.ActorGoneError("gone"), "gone", False),
        (errors.ActorHungError("hangs"), "hangs", False),
        (errors.MailboxFullError("full"), "full", True),
        (errors.MailboxWaitError("late"), "late", True),
        (errors.PoisonRequest("no"), "no", False),
        (errors.SupervisorGaveUp("root", "a"), "root gave up: a failed once too often", False),
        (errors.WatchedActorEnded("a"), "a", False),
        (errors.WorkerLostError(7, "killed by SIGKILL"), "process 7 was lost: killed by SIGKILL", True),
        (errors.WorkerTimeoutError(7, 1.5), "process 7 gave no answer within 1.5 s and was ended", False),
    ],
)
def test_errors_are_pykkas_and_cross_processes(error: pykka.ActorDeadError, text: str, temporary: bool) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), text, vars(error))
    assert isinstance(error, pykka.ActorDeadError)
    assert error.temporary is temporary  # type: ignore[attr-defined]


def test_every_error_is_in_the_table_above() -> None:
    marks = test_errors_are_pykkas_and_cross_processes.pytestmark  # type: ignore[attr-defined]
    assert {type(case[0]).__name__ for case in marks[0].args[1]} == set(errors.__all__)
