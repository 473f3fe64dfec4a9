"""Each request ends once, whatever happens to its attempts; what is late changes nothing; what landed stays landed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kithara_actors.errors import Failure
from kithara_actors.logic.fetch import (
    WORKER_LOST,
    Action,
    Adopt,
    Answered,
    AskSlot,
    BackOff,
    Begin,
    Cancel,
    Cleared,
    DelayOver,
    End,
    Ended,
    Event,
    FetchBook,
    Lost,
    Preempt,
    Run,
    Start,
    State,
    StopAttempt,
)
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.logic.suspicion import Blame
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import CancelReason, ContentId, FetchKind, RequestId, Validator

ONE = RequestId(1)
SERVER = Failure("StatusError", "503", retryable=True, status=503)
BROKEN = Failure("ConnectError", "broken", retryable=True)
FATAL = Failure("StatusError", "404", status=404)
SPEC = FetchSpec(
    request=ONE,
    asset=1,
    peer="source-1",
    kind=FetchKind.DEMAND,
    url="http://one/file",
    origin="http://one",
    headers=(),
    content=ContentId(1),
    lane=0,
    generation=1,
    start=1000,
    end=None,
    ranged=True,
    total=None,
    validator=None,
    limit=None,
)
KIB64 = 65536


class Book:
    """A book with one request under way."""

    def __init__(self, retries: int = 3, spec: FetchSpec = SPEC) -> None:
        self.book = FetchBook(RetryPolicy(max_retries=retries))
        self.spec = spec
        begin, run = self.do(Start(spec))
        assert begin == Begin(spec)
        assert isinstance(run, Run)
        self.run = run

    def do(self, event: Event) -> list[Action]:
        actions = self.book.handle(event, 1.0)
        for action in actions:
            if isinstance(action, Run):
                self.run = action
        return actions

    def ended(self, end: int | None = None, **how: object) -> list[Action]:
        at = self.run.start if end is None else end
        return self.do(Ended(ONE, self.run.attempt, at, complete=bool(how.pop("complete", False)), **how))  # type: ignore[arg-type]

    def again(self) -> None:
        """The back-off passes and the slot comes."""
        assert self.do(DelayOver(ONE, self.run.attempt)) == [AskSlot(ONE)]
        assert self.do(Start(self.spec, again=True)) == [self.run]

    def to(self, state: State) -> None:
        match state:
            case State.RUNNING:
                pass
            case State.CANCELLING:
                self.do(Cancel(ONE, CancelReason.EPOCH_CANCEL))
            case State.BACKING_OFF:
                self.ended(1500, failure=SERVER)
            case State.QUEUED_AGAIN:
                self.ended(1500, failure=SERVER)
                self.do(DelayOver(ONE, self.run.attempt))
        assert self.book.state(ONE) is state


def end_of(actions: list[Action]) -> End:
    assert len(actions) == 1
    assert isinstance(actions[0], End)
    return actions[0]


def back_off(actions: list[Action]) -> BackOff:
    assert len(actions) == 1
    assert isinstance(actions[0], BackOff)
    return actions[0]


def test_one_attempt_that_does_it_all() -> None:
    book = Book()
    assert book.run == Run(SPEC, 1, 1000)
    assert book.ended(5000, complete=True, total=5000) == [End(SPEC, 5000, total=5000, attempts=1)]
    assert book.book.requests() == []
    assert book.book.state(ONE) is None


def test_a_retry_resumes_at_the_landed_offset_with_what_was_pinned() -> None:
    book = Book()
    validator = Validator('"v"')
    book.do(Answered(ONE, 1, 9000, validator))
    delayed = back_off(book.ended(4000, failure=BROKEN, broke=True))
    assert (delayed.retry, delayed.delay, delayed.cause, delayed.attempt) == (1, 0.1, "ConnectError", 1)
    book.again()
    assert (book.run.start, book.run.attempt) == (4000, 2)
    assert (book.run.spec.total, book.run.spec.validator, book.run.spec.start) == (9000, validator, 1000)


def test_an_answer_to_a_range_that_leaves_things_out_unpins_nothing() -> None:
    """RFC 9110 15.3.7: a 206 to an If-Range should not repeat what the client knows."""
    book = Book()
    pinned = Validator(None, "Sat, 01 Jan 2022 00:00:00 GMT", "Sun, 02 Jan 2022 00:00:00 GMT")
    book.do(Answered(ONE, 1, 9000, pinned))
    book.ended(2000, failure=BROKEN)
    book.again()
    book.do(Answered(ONE, 2, None, Validator(date="Mon, 03 Jan 2022 00:00:00 GMT")))
    book.ended(3000, failure=BROKEN)
    book.again()
    assert (book.run.spec.total, book.run.spec.validator) == (9000, pinned)


def test_landed_never_falls() -> None:
    book = Book()
    book.ended(4000, failure=SERVER)
    book.again()
    book.ended(1000, failure=SERVER)
    book.again()
    assert book.run.start == 4000


@pytest.mark.parametrize("retries", [1, 2, 6])
def test_the_budget_is_max_retries_and_then_it_gave_up(retries: int) -> None:
    book = Book(retries)
    for retry in range(1, retries + 1):
        assert back_off(book.ended(failure=SERVER)).retry == retry
        book.again()
    end = end_of(book.ended(failure=SERVER))
    assert end.failure is not None
    assert (end.failure.kind, end.failure.cause, end.failure.attempts) == ("RetryExhausted", "StatusError", retries + 1)
    assert (end.gave_up, end.attempts, end.end) == (True, retries + 1, 1000)


def test_no_retries_surface_a_status_raw_and_a_broken_body_as_exhausted() -> None:
    end = end_of(Book(0).ended(failure=SERVER))
    assert (end.failure, end.gave_up) == (SERVER, True)
    broken = end_of(Book(0).ended(1003, failure=BROKEN, broke=True))
    assert broken.failure is not None
    assert (broken.failure.kind, broken.end, broken.gave_up) == ("RetryExhausted", 1003, True)


def test_sixty_four_kib_renew_the_budget() -> None:
    book = Book(2)
    at = 1000
    for _ in range(10):
        assert back_off(book.ended(at, failure=BROKEN)).retry in (1, 2)
        book.again()
        at += KIB64
        delayed = back_off(book.ended(at, failure=BROKEN))
        assert (delayed.retry, delayed.delay) == (1, 0.1)
        book.again()


def test_less_adds_up_to_a_renewal_over_attempts() -> None:
    book = Book(2)
    book.ended(1000 + KIB64 // 2, failure=BROKEN)
    book.again()
    assert back_off(book.ended(1000 + KIB64 - 1, failure=BROKEN)).retry == 2
    book.again()
    assert back_off(book.ended(1000 + KIB64, failure=BROKEN)).retry == 1


def test_trickles_without_a_renewal_spend_the_budget() -> None:
    book = Book(2)
    for step in (1, 2):
        book.ended(1000 + step, failure=BROKEN)
        book.again()
    assert end_of(book.ended(1003, failure=BROKEN)).gave_up


@pytest.mark.parametrize(
    ("failure", "landed", "gave_up"),
    [
        (FATAL, 2000, False),
        (replace(FATAL, status=403), 2000, True),
        (replace(FATAL, status=401), 2000, True),
        (replace(FATAL, status=403), 1000, True),
        (replace(FATAL, status=404), 1000, False),
        (Failure("ProtocolError", "nonsense"), 2000, False),
        (Failure("StorageFull", "no room"), 2000, True),
        (replace(SERVER, retry_after=31.0), 1000, True),
    ],
)
def test_which_end_keeps_the_partial(failure: Failure, landed: int, gave_up: bool) -> None:
    end = end_of(Book().ended(landed, failure=failure))
    assert (end.failure, end.end, end.gave_up) == (failure, landed, gave_up)


def test_a_right_that_is_refused_before_a_byte_has_landed_leaves_nothing_to_keep() -> None:
    book = Book(spec=replace(SPEC, start=0))
    assert not end_of(book.ended(0, failure=replace(FATAL, status=403))).gave_up


def test_an_attempt_that_ends_without_a_word_is_an_internal_error() -> None:
    end = end_of(Book().ended())
    assert end.failure is not None
    assert end.failure.kind == "InternalError"


# --- Lost workers


def test_a_lost_worker_costs_no_budget_and_keeps_the_slot() -> None:
    book = Book(1)
    lost, run = book.do(Lost(ONE, 1, 3000))
    assert lost == BackOff(SPEC, 1, 1, 0.0, WORKER_LOST)
    assert run == Run(SPEC, 2, 3000)
    assert back_off(book.ended(3000, failure=SERVER)).retry == 1


@pytest.mark.parametrize(("end", "total"), [(3000, None), (3000, 9000), (None, 3000)])
def test_a_worker_lost_after_the_last_byte_has_done_it_all(end: int | None, total: int | None) -> None:
    """There is nothing left to ask for: a range from the end on is not satisfiable."""
    book = Book(spec=replace(SPEC, end=end, total=total))
    ended = end_of(book.do(Lost(ONE, 1, 3000)))
    assert (ended.end, ended.total, ended.failure, ended.reason) == (3000, total, None, None)


@pytest.mark.parametrize("failure", [None, BROKEN])
def test_a_connection_that_breaks_after_the_last_byte_has_done_it_all(failure: Failure | None) -> None:
    book = Book(spec=replace(SPEC, end=3000))
    assert end_of(book.ended(3000, failure=failure)).failure is None
    other = Book(spec=replace(SPEC, end=3000))
    assert end_of(other.ended(3000, failure=FATAL)).failure == FATAL


# --- Cancel, in every state


@pytest.mark.parametrize("state", [State.BACKING_OFF, State.QUEUED_AGAIN])
def test_a_cancel_between_attempts_ends_at_once(state: State) -> None:
    book = Book()
    book.to(state)
    end = end_of(book.do(Cancel(ONE, CancelReason.PEER_CANCEL)))
    assert (end.reason, end.end, end.failure) == (CancelReason.PEER_CANCEL, 1500, None)
    assert book.do(DelayOver(ONE, 1)) == []
    assert book.do(Start(SPEC, again=True)) == []
    assert book.book.requests() == []


def test_a_slot_that_crosses_a_cancel_starts_nothing() -> None:
    """The registry admits a request again while the cancel is on the way: the end stays the only one."""
    book = Book()
    book.to(State.QUEUED_AGAIN)
    end_of(book.do(Cancel(ONE, CancelReason.DOWNLOADER_SHUTDOWN)))
    assert book.do(Start(SPEC, again=True)) == []
    assert book.book.state(ONE) is None


@pytest.mark.parametrize("how", ["cancelled", "failed", "fatal", "lost"])
def test_a_cancel_while_running_ends_with_the_attempt(how: str) -> None:
    book = Book()
    assert book.do(Cancel(ONE, CancelReason.EPOCH_CANCEL)) == [StopAttempt(ONE, 1)]
    assert book.do(Cancel(ONE, CancelReason.PEER_CANCEL)) == []
    if how == "lost":
        end = end_of(book.do(Lost(ONE, 1, 2000)))
    else:
        failure = {"cancelled": None, "failed": BROKEN, "fatal": FATAL}[how]
        end = end_of(book.ended(2000, cancelled=how == "cancelled", failure=failure))
    assert (end.reason, end.end) == (CancelReason.EPOCH_CANCEL, 2000)


def test_what_completed_before_its_cancel_arrived_has_completed() -> None:
    book = Book()
    book.do(Cancel(ONE, CancelReason.EPOCH_CANCEL))
    end = end_of(book.ended(9000, complete=True))
    assert (end.reason, end.failure, end.end) == (None, None, 9000)


def test_a_cancel_of_nothing_does_nothing() -> None:
    book = Book()
    assert book.do(Cancel(RequestId(9), CancelReason.PEER_CANCEL)) == []


# --- Late and out of place


# A request that is asked about goes through one state more: test_fetch_asking.
@pytest.mark.parametrize("state", [state for state in State if state is not State.ASKING])
@pytest.mark.parametrize("attempt", [0, 2, 99])
def test_an_attempt_that_is_not_current_changes_nothing(state: State, attempt: int) -> None:
    book = Book()
    book.to(state)
    for late in (
        Answered(ONE, attempt, 1, Validator('"x"')),
        Ended(ONE, attempt, 99999, complete=True),
        Ended(ONE, attempt, 99999, complete=False, failure=FATAL),
        Lost(ONE, attempt, 99999),
        DelayOver(ONE, attempt),
    ):
        assert book.do(late) == []
        assert book.book.state(ONE) is state
    end = book.do(Cancel(ONE, CancelReason.PEER_CANCEL)) or book.ended(cancelled=True)
    if isinstance(end[0], StopAttempt):
        end = book.ended(cancelled=True)
    assert end_of(end).end in (1000, 1500)


@pytest.mark.parametrize("state", [State.BACKING_OFF, State.QUEUED_AGAIN])
def test_the_current_attempt_reports_only_once(state: State) -> None:
    book = Book()
    book.to(state)
    assert book.do(Ended(ONE, 1, 9999, complete=True)) == []
    assert book.do(Lost(ONE, 1, 9999)) == []
    assert book.do(Answered(ONE, 1, 1, Validator())) == []


@pytest.mark.parametrize("state", [State.RUNNING, State.CANCELLING, State.BACKING_OFF])
def test_a_slot_that_nobody_asked_for_is_our_mistake(state: State) -> None:
    book = Book()
    book.to(state)
    with pytest.raises(RuntimeError, match=f"request 1: admitted again in state {state}"):
        book.do(Start(SPEC, again=True))


REQUESTS = st.integers(1, 3).map(RequestId)


class Lives(RuleBasedStateMachine):
    """Any event at any time, with right and wrong attempt numbers."""

    @initialize(retries=st.integers(0, 3))
    def begin(self, retries: int) -> None:
        self.book = FetchBook(RetryPolicy(max_retries=retries))
        self.begun: dict[RequestId, int] = {}
        self.ends: dict[RequestId, int] = {}
        self.attempts: dict[RequestId, int] = {}
        self.landed: dict[RequestId, int] = {}
        self.seen: set[int] = set()
        self.names = 0
        self.at: dict[RequestId, RequestId] = {}

    def do(self, event: Event, draw: float = 0.5) -> None:
        for action in self.book.handle(event, draw):
            match action:
                case Begin(spec):
                    self.begun[spec.request] = self.begun.get(spec.request, 0) + 1
                case Run(spec, attempt, start):
                    assert spec.request not in self.ends
                    assert attempt not in self.seen
                    self.seen.add(attempt)
                    self.attempts[spec.request] = attempt
                    assert start == self.landed.setdefault(spec.request, spec.start)
                case StopAttempt(request, attempt):
                    assert attempt == self.attempts[request]
                    assert request not in self.ends
                case BackOff(spec):
                    assert spec.request not in self.ends
                case AskSlot(request):
                    assert request not in self.ends
                case End(spec, end):
                    self.ends[spec.request] = self.ends.get(spec.request, 0) + 1
                    assert end == self.landed[spec.request]
                    assert action.failure is None or action.reason is None

    def attempt(self, request: RequestId, shift: int) -> int:
        return self.attempts.get(request, 0) + shift

    def land(self, request: RequestId, attempt: int, by: int) -> int:
        """Where an attempt of this number would have come to; noted if it is the current one, and reports."""
        at = self.landed.get(request, 0) + by
        current = attempt == self.attempts.get(request) and request not in self.ends
        if current and self.book.state(request) in (State.RUNNING, State.CANCELLING):
            self.landed[request] = max(self.landed[request], at)
        return at

    @rule(request=REQUESTS)
    def preempt(self, request: RequestId) -> None:
        self.do(Preempt(self.at.get(request, request)))

    @rule(slot=REQUESTS)
    def start(self, slot: RequestId) -> None:
        request = self.at.get(slot)
        if request is None or request in self.ends:
            self.names += 1
            request = self.at[slot] = RequestId(self.names)
            self.do(Start(replace(SPEC, request=request)))
        elif self.book.state(request) is State.QUEUED_AGAIN:
            self.do(Start(replace(SPEC, request=request), again=True))

    @rule(slot=REQUESTS)
    def late_slot(self, slot: RequestId) -> None:
        request = self.at.get(slot)
        if request is not None and request in self.ends:
            self.do(Start(replace(SPEC, request=request), again=True))

    @rule(slot=REQUESTS, shift=st.sampled_from([0, 0, 0, -1, 1]), total=st.none() | st.just(1 << 30))
    def answered(self, slot: RequestId, shift: int, total: int | None) -> None:
        request = self.at.get(slot, slot)
        self.do(Answered(request, self.attempt(request, shift), total, Validator('"v"')))

    @rule(
        slot=REQUESTS,
        shift=st.sampled_from([0, 0, 0, -1, 1]),
        by=st.sampled_from([-5, 0, 1, KIB64]),
        how=st.sampled_from(["complete", "cancelled", "silent", SERVER, BROKEN, FATAL]),
        draw=st.floats(0, 1),
    )
    def ended(self, slot: RequestId, shift: int, by: int, how: str | Failure, draw: float) -> None:
        request = self.at.get(slot, slot)
        attempt = self.attempt(request, shift)
        failure = how if isinstance(how, Failure) else None
        end = self.land(request, attempt, by)
        self.do(
            Ended(
                request,
                attempt,
                end,
                complete=how == "complete",
                broke=how is BROKEN,
                cancelled=how == "cancelled",
                failure=failure,
            ),
            draw,
        )

    @rule(
        slot=REQUESTS,
        shift=st.sampled_from([0, 0, 0, -1, 1]),
        by=st.sampled_from([0, 1, KIB64]),
        blame=st.sampled_from(Blame),
    )
    def lost(self, slot: RequestId, shift: int, by: int, blame: Blame) -> None:
        request = self.at.get(slot, slot)
        attempt = self.attempt(request, shift)
        self.do(Lost(request, attempt, self.land(request, attempt, by), blame))

    @rule(slot=REQUESTS, shift=st.sampled_from([0, 0, 0, -1, 1]), by=st.sampled_from([0, KIB64]))
    def cleared(self, slot: RequestId, shift: int, by: int) -> None:
        request = self.at.get(slot, slot)
        self.do(Cleared(request, self.attempt(request, shift), self.landed.get(request, 0) + by))

    @rule(slot=REQUESTS, shift=st.sampled_from([0, 0, -1]))
    def delay_over(self, slot: RequestId, shift: int) -> None:
        request = self.at.get(slot, slot)
        self.do(DelayOver(request, self.attempt(request, shift)))

    @rule(slot=REQUESTS, reason=st.sampled_from(CancelReason))
    def cancel(self, slot: RequestId, reason: CancelReason) -> None:
        self.do(Cancel(self.at.get(slot, slot), reason))

    @invariant()
    def each_ends_once(self) -> None:
        if hasattr(self, "book"):
            assert all(count == 1 for count in (*self.begun.values(), *self.ends.values()))
            assert set(self.book.requests()) == set(self.begun) - set(self.ends)

    def teardown(self) -> None:
        for request in self.book.requests():
            self.do(Cancel(request, CancelReason.DOWNLOADER_SHUTDOWN))
            if request not in self.ends:
                self.do(Ended(request, self.attempts[request], self.landed[request], complete=False, cancelled=True))
        assert set(self.ends) == set(self.begun)


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=50)


def test_cut_whose_reason_is_known_to_nobody_is_run_again() -> None:
    """It was ordered by an incarnation that is gone."""
    book = FetchBook(RetryPolicy(max_retries=3))
    assert book.handle(Adopt(SPEC, 1000, 7), 1.0) == []
    (run,) = book.handle(Ended(ONE, 7, 5000, complete=False, cancelled=True), 1.0)
    assert isinstance(run, Run)
    assert run.start == 5000
    assert book.handle(Cancel(ONE, CancelReason.PEER_CANCEL), 1.0) == [StopAttempt(ONE, run.attempt)]
    (end,) = book.handle(Ended(ONE, run.attempt, 6000, complete=False, cancelled=True), 1.0)
    assert isinstance(end, End)
    assert (end.reason, end.end, end.failure) == (CancelReason.PEER_CANCEL, 6000, None)
