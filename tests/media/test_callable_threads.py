"""The threads on which callables run: few, replaced while one hangs, and ended with the system whatever they do."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors.clock import monotonic
from actors.messages.codec import Codec
from kithara_actors.actor.callables import Callables, Question
from kithara_actors.errors import PolicyError
from kithara_actors.messages.commands import CallAnswered
from kithara_actors.messages.records import SourceCalls
from kithara_actors.messages.worker import RedirectJudged

WAIT = 30.0
URL = "https://one.test/a?token=secret"


def question(
    headers: Callable[[str], Any] | None = None,
    resolve: Callable[[str], Any] | None = None,
    policy: Callable[[str], object] | None = None,
) -> Question:
    return Question(URL, (), SourceCalls(1, headers, resolve), policy)


def failing(error: BaseException) -> Callable[[str], Any]:
    def hook(url: str) -> Any:
        raise error

    return hook


class Desk:
    def __init__(self) -> None:
        self.callables = Callables()
        self.came = threading.Condition()
        self.heard: dict[int, CallAnswered] = {}
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.questions: list[Question] = []

    def hear(self, answer: CallAnswered) -> None:
        with self.came:
            self.heard[answer.call] = answer
            self.came.notify_all()

    def ask(self, asked: Question) -> int:
        return self.callables.ask(asked, self.hear)

    def answer(self, call: int) -> CallAnswered:
        with self.came:
            assert self.came.wait_for(lambda: call in self.heard, WAIT)
            return self.heard[call]

    def hang(self, url: str) -> None:
        self.entered.release()
        assert self.gate.wait(WAIT)

    def hung(self, count: int) -> list[int]:
        """So many calls that are in their callable until the gate opens; `questions` are theirs."""
        self.questions = [question(policy=self.hang) for _ in range(count)]
        calls = [self.ask(asked) for asked in self.questions]
        for _ in calls:
            assert self.entered.acquire(timeout=WAIT)
        return calls


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "kithara-callables"]


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.gate.set()
    mine = threads()
    made.callables.stop(WAIT)
    for thread in mine:
        thread.join(WAIT)
        assert not thread.is_alive()


def test_an_answer_comes_from_another_thread(desk: Desk) -> None:
    ran: list[threading.Thread] = []

    def policy(url: str) -> None:
        ran.append(threading.current_thread())

    call = desk.ask(question(lambda _: {"A": "1"}, policy=policy))
    assert desk.answer(call) == CallAnswered(call, URL, (("A", "1"),), None)
    assert ran[0] is not threading.current_thread()
    assert ran[0].daemon


def test_a_refusal_is_an_answer(desk: Desk) -> None:
    call = desk.ask(question(policy=lambda _: False))
    failure = desk.answer(call).failure
    assert failure is not None
    assert (failure.kind, failure.retryable) == ("PolicyError", False)


def test_one_thread_is_enough_for_one_after_another(desk: Desk) -> None:
    assert threads() == []
    for _ in range(20):
        desk.answer(desk.ask(question()))
    assert len(threads()) == 1


def test_there_are_at_most_four_and_the_rest_waits(desk: Desk) -> None:
    calls = desk.hung(4)
    late = desk.ask(question())
    assert len(threads()) == 4
    assert desk.heard == {}
    desk.gate.set()
    for call in (*calls, late):
        assert desk.answer(call).failure is None
    assert len(threads()) == 4


def test_a_question_that_was_given_up_is_not_asked(desk: Desk) -> None:
    desk.hung(4)
    asked: list[str] = []
    given_up = Question(URL, (), SourceCalls(1, None, None), asked.append)
    desk.ask(given_up)
    assert not desk.callables.give_up(given_up)
    assert given_up.calls is not None
    held = weakref.ref(given_up.calls)
    del given_up
    assert held() is None
    last = desk.ask(question())
    desk.gate.set()
    desk.answer(last)
    assert asked == []


def test_one_that_hangs_is_replaced_for_as_long(desk: Desk) -> None:
    """Four that hang for good would be the end of all streams that have callables."""
    desk.hung(4)
    behind = desk.ask(question())
    for hanging in desk.questions:
        assert desk.callables.give_up(hanging)
    assert desk.answer(behind).failure is None
    assert desk.answer(desk.ask(question())).failure is None
    assert len(threads()) == 5
    desk.gate.set()
    # Which of the five is the one too many, they settle among themselves.
    deadline = monotonic() + WAIT
    while len(threads()) > 4:
        assert monotonic() < deadline
        threads()[0].join(0.01)


def test_not_more_than_sixteen_are_replaced(desk: Desk) -> None:
    for _ in range(5):
        desk.hung(4)
        for hanging in desk.questions:
            desk.callables.give_up(hanging)
    last = desk.ask(question())
    assert len(threads()) == 20
    assert last not in desk.heard
    desk.gate.set()
    assert desk.answer(last).failure is None


def test_what_comes_back_late_is_heard(desk: Desk) -> None:
    (call,) = desk.hung(1)
    assert desk.callables.give_up(desk.questions[0])
    desk.gate.set()
    assert desk.answer(call).failure is None


def test_who_is_late_is_named() -> None:
    asked = question(policy=failing(ValueError()))
    assert asked.late().text == "no thread was free for the callables for https://one.test/a?token=… within 5 s"
    with pytest.raises(PolicyError):
        asked.answer()
    text = asked.late().text
    assert "hook did not answer for https://one.test/a?token=… within 5 s" in text
    assert asked.late().kind == "PolicyError"


def test_an_object_that_cannot_even_be_looked_at_ends_no_thread(desk: Desk) -> None:
    class Odd:
        @property
        def __class__(self) -> Any:
            raise SystemExit("secret")

    failure = desk.answer(desk.ask(question(lambda _: Odd()))).failure
    assert failure is not None
    assert failure.kind == "PolicyError"
    assert failure.text.endswith("failed for https://one.test/a?token=…: SystemExit")
    assert len(threads()) == 1


def test_an_ear_that_fails_ends_no_thread(desk: Desk) -> None:
    def deaf(answer: CallAnswered) -> None:
        raise RuntimeError("gone")

    desk.callables.ask(question(), deaf)
    assert desk.answer(desk.ask(question())).failure is None


def test_stop_ends_idle_threads(desk: Desk) -> None:
    desk.answer(desk.ask(question()))
    assert desk.callables.stop(WAIT) == []
    assert threads() == []


def test_stop_leaves_behind_what_hangs_and_counts_it(desk: Desk) -> None:
    desk.hung(2)
    left = desk.callables.stop(0.05)
    assert len(left) == 2
    assert all(name.startswith("callable (url_policy") and "hang" in name for name in left)
    desk.gate.set()
    for thread in threads():
        thread.join(WAIT)
    assert threads() == []


def test_a_callable_may_stop_what_it_runs_on(desk: Desk) -> None:
    left: list[list[str]] = []
    call = desk.ask(question(policy=lambda _: left.append(desk.callables.stop(WAIT))))
    assert desk.answer(call).failure is None
    assert left == [[]]
    for thread in threads():
        thread.join(WAIT)
    assert threads() == []


def test_nothing_is_asked_after_stop(desk: Desk) -> None:
    desk.callables.stop(WAIT)
    asked: list[str] = []
    desk.ask(question(policy=asked.append))
    assert (asked, threads()) == ([], [])


def test_without_a_thread_it_is_said_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        call = desk.ask(question())
    failure = desk.heard[call].failure
    assert failure is not None
    assert (failure.kind, failure.retryable) == ("ConnectError", True)
    assert desk.answer(desk.ask(question())).failure is None


def test_what_was_given_goes_with_who_holds_it() -> None:
    callables = Callables()
    calls = callables.keep(lambda _: {}, None)
    other = callables.keep(None, str.upper)
    number = calls.id
    assert callables.find(number) is calls
    assert callables.find(other.id) is other
    del calls
    gc.collect()
    assert callables.find(number) is None


def test_an_idle_thread_holds_nothing_of_the_last_question(desk: Desk) -> None:
    class Token:
        def __call__(self, url: str) -> dict[str, str]:
            return {}

    token = Token()
    desk.answer(desk.ask(question(token)))
    held = weakref.ref(token)
    del token
    deadline = monotonic() + WAIT
    while held() is not None:
        assert monotonic() < deadline
        gc.collect()


# --- What is said fits a message, whatever is raised and wherever a server redirects to


LONG = "https://one.test/" + "a" * 20_000 + "?" + "&".join("b" * 10_000)


@pytest.mark.parametrize("url", [LONG, URL])
@pytest.mark.parametrize(
    "policy",
    [
        lambda _: False,
        failing(ValueError()),
        failing(PolicyError(f"not {LONG}")),
        failing(PolicyError("\ud800 " + "€" * 100_000)),
        failing(PolicyError("one\nline\r\nafter another")),
        lambda url: b"".decode(),
    ],
)
def test_a_refusal_fits_a_message(desk: Desk, url: str, policy: Callable[[str], object]) -> None:
    asked = Question(url, policy=policy)
    failure = desk.answer(desk.ask(asked)).failure
    assert failure is not None
    for said in (failure, asked.late()):
        assert said.kind == "PolicyError"
        assert said.text.isprintable()
        assert len(Codec([RedirectJudged]).encode(RedirectJudged(1, said))) < 16_000
        assert "https://one.test/a" in said.text


def test_a_long_url_leaves_room_for_what_is_wrong(desk: Desk) -> None:
    failure = desk.answer(desk.ask(Question(LONG, policy=failing(ValueError())))).failure
    assert failure is not None
    assert failure.text.endswith("aaa…: ValueError")


@pytest.mark.parametrize("role", ["headers", "resolve", "policy"])
def test_every_kind_of_end_is_an_answer(desk: Desk, role: str) -> None:
    class Own(BaseException):
        pass

    for error in (SystemExit(1), KeyboardInterrupt(), GeneratorExit(), StopIteration(), MemoryError(), Own()):
        failure = desk.answer(desk.ask(question(**{role: failing(error)}))).failure
        assert failure is not None
        assert failure.text.endswith(f"hook failed for https://one.test/a?token=…: {type(error).__name__}")
    assert len(threads()) == 1
