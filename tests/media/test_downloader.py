"""The downloader carries requests through their attempts: events in order, one end, whatever its workers do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from actor_kit import CODEC, FakePool, Published, begun, issued, request_spec

from actors.testing.fake_clock import FakeClock, FakeTimers
from actors.testing.step import Neighbours
from kithara_actors.actor.callables import Callables
from kithara_actors.actor.downloader import Downloader
from kithara_actors.actor.enquiries import Enquiries
from kithara_actors.assets.content import ContentTable
from kithara_actors.errors import Failure
from kithara_actors.logic.fetch import FetchBook
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.messages.commands import (
    Admitted,
    BackoffOver,
    CancelAdmitted,
    Done,
    EndRequests,
    FetchCancelled,
    FetchDone,
    FetchFailed,
    FetchHeaders,
    Parked,
    PeerGone,
    Released,
    Requeue,
    WorkerGone,
    WorkerUp,
)
from kithara_actors.messages.events import (
    Event,
    FirstByte,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
    RequestRetrying,
    RequestStarted,
    RetryExhausted,
    WorkerLost,
    WorkerStarted,
)
from kithara_actors.messages.records import FetchSpec
from kithara_actors.messages.worker import AttemptEnded, AttemptHeaders, CancelAttempt, RunAttempt
from kithara_actors.values import CancelReason, ContentId, RequestId, Validator

ONE, TWO = RequestId(1), RequestId(2)
SERVER = Failure("StatusError", "503", retryable=True, status=503)
LOOK = 1.0
"""Seconds between two looks at what runs, for which there is a timer too."""
FATAL = Failure("StatusError", "404", status=404)


class House:
    def __init__(self, retries: int = 2) -> None:
        self.clock = FakeClock()
        self.timers = FakeTimers(self.clock)
        self.events = Published()
        self.around = Neighbours(CODEC, "registry", "source-1", "downloader")
        self.pool = FakePool(CODEC)
        self.contents = ContentTable()
        self.content = self.contents.create()
        self.step = begun(
            Downloader(
                FetchBook(RetryPolicy(max_retries=retries)),
                self.pool,
                self.contents,
                self.around.find,
                self.timers,
                self.events,
                retries,
                self.clock,
                lambda: 1.0,
                requests=issued(),
                enquiries=Enquiries(Callables(), None, self.around.find, self.timers),
            ),
            self.around,
        )
        self.tell = self.step.tell
        self.registry = self.around["registry"]
        self.source = self.around["source-1"]

    def up(self, *workers: int) -> None:
        for worker in workers:
            self.pool.up.add(worker)
            self.tell(WorkerUp(worker, 4000 + worker))
        self.events.take()

    def spec(self, request: int = 1, **changes: object) -> FetchSpec:
        return request_spec(request, **{"content": self.content.id, "lane": request, **changes})

    def admit(self, request: int = 1, **changes: object) -> None:
        spec = self.spec(request, **changes)
        content = self.content
        content.block.open_lane(spec.lane, spec.generation, spec.start)
        self.tell(Admitted(spec, 0.25, again=False))

    def answer(
        self,
        request: int = 1,
        attempt: int = 1,
        *,
        total: int | None = 3000,
        status: int = 206,
        url: str = "http://one/file?token=secret",
        bare: bool = False,
        ranged: bool = True,
    ) -> None:
        validator = Validator('"v"')
        self.tell(
            AttemptHeaders(
                RequestId(request),
                attempt,
                status,
                True,
                total,
                total,
                validator,
                "audio/mpeg",
                url,
                0.02,
                bare,
                ranged,
            )
        )

    def end(
        self,
        request: int = 1,
        attempt: int = 1,
        at: int = 1000,
        *,
        complete: bool = False,
        failure: Failure | None = None,
        cancelled: bool = False,
    ) -> None:
        self.tell(
            AttemptEnded(RequestId(request), attempt, at, complete, at if complete else None, False, cancelled, failure)
        )

    def back_off(self) -> None:
        """The delay passes; the timer's command comes to the downloader."""
        self.timers.advance(30.0)
        self.tell(*self.around["downloader"].take())

    def named(self) -> list[str]:
        return [type(event).__name__ for event in self.events.take()]


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.contents.discard(made.content)
    assert len(made.contents) == 0


def test_one_request_from_slot_to_end(house: House) -> None:
    """EVENT01"""
    house.up(1)
    house.admit()
    assert house.pool.take() == [(1, RunAttempt(1, 1000, house.spec()))]
    content = house.content
    assert house.pool.descriptors == [(content.fd, content.block.fd, content.wake.fd)]
    house.clock.advance(0.1)
    house.answer()
    assert house.source.take() == [FetchHeaders(ONE, True, 3000, 3000, Validator('"v"'), "audio/mpeg", None, True)]
    house.clock.advance(0.4)
    house.end(at=2000, complete=True)
    assert house.source.take() == [FetchDone(ONE, 2000, 2000)]
    assert house.registry.take() == [Released(ONE)]
    events = house.events.take()
    assert events[:2] == [RequestStarted(ONE, 0.25), FirstByte(ONE, 0.02, 206, True)]
    (done,) = events[2:]
    assert isinstance(done, RequestCompleted)
    assert (done.bytes, done.bandwidth_bps) == (1000, 16_000)
    assert done.duration == pytest.approx(0.5)


def test_a_retry_starts_once_and_counts(house: House) -> None:
    house.up(1)
    house.admit()
    house.end(failure=SERVER)
    assert house.registry.take() == [Parked(ONE)]
    assert [each for each in house.timers.delays if each != LOOK] == [pytest.approx(0.1)]
    house.back_off()
    assert house.registry.take() == [Requeue(ONE)]
    house.pool.take()
    house.tell(Admitted(house.spec(), 0.0, again=True))
    assert house.pool.take() == [(1, RunAttempt(2, 1000, house.spec()))]
    house.answer(attempt=2)
    house.end(attempt=2, at=3000, complete=True)
    events = house.events.take()
    assert [type(event) for event in events] == [RequestStarted, RequestRetrying, FirstByte, RequestCompleted]
    assert events[1] == RequestRetrying(ONE, 1, 2, 0.1, "StatusError")


def test_a_spent_budget_is_said_and_then_failed() -> None:
    house = House(retries=1)
    house.up(1)
    house.admit()
    house.end(at=1500, failure=SERVER)
    house.back_off()
    house.tell(Admitted(house.spec(), 0.0, again=True))
    house.end(attempt=2, at=1600, failure=SERVER)
    events = house.events.take()
    assert [type(event) for event in events][-2:] == [RetryExhausted, RequestFailed]
    assert events[-2] == RetryExhausted(ONE, 600, 2)
    failed = house.source.take()[-1]
    assert isinstance(failed, FetchFailed)
    assert (failed.end, failed.gave_up, failed.failure.kind) == (1600, True, "RetryExhausted")
    assert events[-1] == RequestFailed(ONE, 600, False, failed.failure)
    assert house.registry.take()[-1] == Released(ONE)
    house.contents.discard(house.content)


def test_a_fatal_error_fails_at_once(house: House) -> None:
    house.up(1)
    house.admit()
    house.end(failure=FATAL)
    assert house.source.take() == [FetchFailed(ONE, 1000, False, replace(FATAL, text="http://one/file?token=…: 404"))]
    assert house.named() == ["RequestStarted", "RequestFailed"]


def test_reports_of_older_attempts_and_ended_requests_are_ignored(house: House) -> None:
    house.up(1)
    house.admit()
    house.end(failure=SERVER)
    for _ in range(2):
        house.events.take()
        house.source.take()
        house.answer(attempt=1)
        house.end(attempt=1, at=99999, complete=True)
        house.tell(BackoffOver(ONE, 7), BackoffOver(TWO, 1))
        assert (house.events.take(), house.source.take()) == ([], [])
        house.back_off()
        house.tell(CancelAdmitted(ONE, CancelReason.PEER_CANCEL))
    assert house.pool.take() == [(1, RunAttempt(1, 1000, house.spec()))]


# --- Workers


def test_a_lost_worker_is_replaced_from_the_landed_offset(house: House) -> None:
    """The progress word outlives the worker that wrote it."""
    house.up(1, 2)
    house.admit(1)
    house.admit(2)
    assert [worker for worker, _ in house.pool.take()] == [1, 2]
    house.content.block.publish(1, 1, 2345)
    house.events.take()
    house.pool.up.discard(1)
    house.tell(WorkerGone(1, 4001, "killed by SIGKILL", 0))
    assert house.events.take() == [
        WorkerLost(1, 4001, "killed by SIGKILL", (ONE,)),
        RequestRetrying(ONE, 1, 2, 0.0, "WORKER_LOST"),
    ]
    assert house.pool.take() == [(2, RunAttempt(3, 2345, house.spec(1)))]
    assert house.registry.take() == []  # the slot is kept
    house.end(attempt=1, at=99999, complete=True)  # its last words, too late
    assert house.source.take() == []
    house.end(attempt=3, at=3000, complete=True)
    assert house.source.take() == [FetchDone(ONE, 3000, 3000)]


@pytest.mark.parametrize("word", ["another generation", "behind"])
def test_a_progress_word_that_is_not_the_attempts_is_not_believed(house: House, word: str) -> None:
    house.up(1, 2)
    house.admit()
    house.content.block.publish(1, 2 if word == "another generation" else 1, 5000 if word != "behind" else 10)
    house.pool.take()
    house.tell(WorkerGone(1, 4001, "gone", 0))
    assert house.pool.take() == [(2, RunAttempt(2, 1000, house.spec()))]


def test_without_a_worker_requests_wait_for_one(house: House) -> None:
    house.admit(1)
    house.admit(2)
    assert house.pool.take() == []
    house.up(1)
    assert [command for _, command in house.pool.take()] == [
        RunAttempt(1, 1000, house.spec(1)),
        RunAttempt(2, 1000, house.spec(2)),
    ]


def test_a_request_cancelled_while_it_waits_for_a_worker_is_not_run(house: House) -> None:
    house.admit()
    house.tell(CancelAdmitted(ONE, CancelReason.EPOCH_CANCEL))
    assert house.source.take() == [FetchCancelled(ONE, 1000, CancelReason.EPOCH_CANCEL)]
    assert house.named() == ["RequestStarted", "RequestCancelled"]
    house.up(1)
    assert house.pool.take() == []


def test_attempts_go_to_the_least_loaded_worker(house: House) -> None:
    house.up(1, 2)
    for request in (1, 2, 3, 4):
        house.admit(request)
    house.end(request=2, attempt=2, at=3000, complete=True)
    house.end(request=4, attempt=4, at=3000, complete=True)
    house.admit(5)
    assert [worker for worker, _ in house.pool.take()] == [1, 2, 1, 2, 2]


def test_a_worker_that_takes_nothing_is_left_out_until_it_is_reported_gone(house: House) -> None:
    house.up(1, 2)
    house.pool.up.discard(1)
    house.admit()
    assert [worker for worker, _ in house.pool.take()] == [2]
    house.events.take()
    house.tell(WorkerGone(1, 4001, "gone", 0))
    assert house.events.take() == [WorkerLost(1, 4001, "gone", ())]


def test_a_worker_that_is_ready_is_announced(house: House) -> None:
    house.tell(WorkerUp(7, 4007))
    assert house.events.take() == [WorkerStarted(7, 4007)]


# --- Cancel


def test_a_cancel_reaches_the_worker_and_ends_with_its_report(house: House) -> None:
    house.up(1)
    house.admit()
    house.pool.take()
    house.tell(CancelAdmitted(ONE, CancelReason.PEER_CANCEL))
    assert house.pool.take() == [(1, CancelAttempt(1))]
    assert house.source.take() == []
    house.end(at=1700, cancelled=True)
    assert house.source.take() == [FetchCancelled(ONE, 1700, CancelReason.PEER_CANCEL)]
    assert house.events.take()[-1] == RequestCancelled(ONE, 700, CancelReason.PEER_CANCEL)
    assert house.registry.take() == [Released(ONE)]


def test_a_cancel_in_back_off_ends_at_once_and_asks_for_no_slot(house: House) -> None:
    house.up(1)
    house.admit()
    house.end(at=1100, failure=SERVER)
    house.registry.take()
    house.tell(CancelAdmitted(ONE, CancelReason.EPOCH_CANCEL))
    assert house.source.take() == [FetchCancelled(ONE, 1100, CancelReason.EPOCH_CANCEL)]
    house.back_off()
    assert house.registry.take() == [Released(ONE)]


def test_a_slot_that_crosses_a_cancel_runs_nothing(house: House) -> None:
    """Registry: cancel, then the slot that was asked for before; without a word it would run for nobody."""
    house.up(1)
    house.admit()
    house.end(failure=SERVER)
    house.back_off()
    house.tell(CancelAdmitted(ONE, CancelReason.PEER_CANCEL))
    house.pool.take()
    house.events.take()
    house.tell(Admitted(house.spec(), 0.0, again=True))
    assert house.pool.take() == []
    assert house.events.take() == []
    assert house.step.ask(EndRequests()) == Done(0)


def test_a_request_whose_content_is_gone_is_cancelled_not_failed(house: House) -> None:
    house.admit(1, content=ContentId(77))
    house.up(1)
    assert house.pool.take() == []
    assert house.source.take() == [FetchCancelled(ONE, 1000, CancelReason.EPOCH_CANCEL)]
    assert house.registry.take() == [Released(ONE)]


# --- The end


def test_at_the_end_all_are_cancelled_and_those_that_run_are_waited_for(house: House) -> None:
    house.up(1)
    house.admit(1)
    house.admit(2)
    house.end(request=2, attempt=2, failure=SERVER)
    house.events.take()
    assert house.step.ask(EndRequests()) == Done(1)
    assert house.events.take() == [RequestCancelled(TWO, 0, CancelReason.DOWNLOADER_SHUTDOWN)]
    assert house.pool.take()[-1] == (1, CancelAttempt(1))
    house.end(request=1, at=1200, cancelled=True)
    assert house.events.take() == [RequestCancelled(ONE, 200, CancelReason.DOWNLOADER_SHUTDOWN)]
    assert house.step.ask(EndRequests()) == Done(0)
    house.tell(WorkerGone(1, 4001, "exited with status 0", 0))
    assert house.events.take() == []


def test_a_worker_lost_at_the_end_ends_its_requests(house: House) -> None:
    house.up(1)
    house.admit()
    house.content.block.publish(1, 1, 1234)
    house.step.ask(EndRequests())
    house.tell(WorkerGone(1, 4001, "killed", 0))
    assert house.source.take() == [FetchCancelled(ONE, 1234, CancelReason.DOWNLOADER_SHUTDOWN)]
    assert house.step.ask(EndRequests()) == Done(0)


@pytest.mark.parametrize("way", ["complete", "fatal", "cancelled", "lost", "gave up"])
def test_every_request_has_one_terminal_event_and_it_is_the_last(way: str) -> None:
    house = House(retries=0)
    terminal = (RequestCompleted, RequestFailed, RequestCancelled)
    house.up(1)
    house.admit()
    house.answer()
    match way:
        case "complete":
            house.end(at=3000, complete=True)
        case "fatal":
            house.end(failure=FATAL)
        case "gave up":
            house.end(failure=SERVER)
        case "cancelled":
            house.tell(CancelAdmitted(ONE, CancelReason.EPOCH_CANCEL))
            house.end(cancelled=True)
        case "lost":
            house.tell(CancelAdmitted(ONE, CancelReason.EPOCH_CANCEL), WorkerGone(1, 4001, "gone", 0))
    house.end(at=3000, complete=True)
    house.tell(CancelAdmitted(ONE, CancelReason.PEER_CANCEL), WorkerGone(1, 4001, "gone", 0))
    mine: list[Event] = [event for event in house.events.take() if not isinstance(event, WorkerLost)]
    assert [type(event) for event in mine[:2]] == [RequestStarted, FirstByte]
    assert [isinstance(event, terminal) for event in mine] == [False] * (len(mine) - 1) + [True]
    ends = [c for c in house.source.take() if isinstance(c, FetchDone | FetchFailed | FetchCancelled)]
    assert len(ends) == 1
    assert [c for c in house.registry.take() if isinstance(c, Released)] == [Released(ONE)]
    house.contents.discard(house.content)


def test_a_source_that_is_gone_is_not_missed(house: House) -> None:
    house.up(1)
    house.admit(1, peer="source-77")
    house.answer()
    house.end(at=3000, complete=True)
    assert house.registry.take() == [Released(ONE)]


def test_a_command_for_another_is_refused(house: House) -> None:
    with pytest.raises(TypeError, match="Downloader does not handle PeerGone"):
        house.tell(PeerGone("x"))
