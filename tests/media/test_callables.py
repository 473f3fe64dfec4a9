"""What an application gives to be asked: run apart, within limits, and whatever it does, told in safe words."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from kithara_actors.actor.callables import REQUEST_LIMIT, Callables, Question
from kithara_actors.errors import PolicyError
from kithara_actors.messages.commands import CallAnswered
from kithara_actors.messages.records import SourceCalls

WAIT = 30.0
URL = "https://one.test/a?token=secret"
SHOWN = r"https://one\.test/a\?token=…"


def question(
    headers: Callable[[str], Any] | None = None,
    resolve: Callable[[str], Any] | None = None,
    policy: Callable[[str], object] | None = None,
    given: Mapping[str, str] | None = None,
) -> Question:
    return Question(URL, tuple((given or {}).items()), SourceCalls(1, headers, resolve), policy)


def failing(error: BaseException) -> Callable[[str], Any]:
    def hook(url: str) -> Any:
        raise error

    return hook


# --- What is asked, and what follows


def test_the_order_is_resolve_headers_policy() -> None:
    heard: list[tuple[str, str]] = []

    def resolve(url: str) -> str:
        heard.append(("resolve", url))
        return "https://two.test/b?signature=1"

    def headers(url: str) -> dict[str, str]:
        heard.append(("headers", url))
        return {"Authorization": "Bearer 1"}

    def policy(url: str) -> None:
        heard.append(("policy", url))

    way = question(headers, resolve, policy).answer()
    two = "https://two.test/b?signature=1"
    assert way == (two, (("Authorization", "Bearer 1"),))
    assert heard == [("resolve", URL), ("headers", two), ("policy", two)]


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("https://one.test/b", {"X-Token": "1", "Authorization": "2", "Accept": "audio/*"}),
        ("https://one.test:443/b", {"X-Token": "1", "Authorization": "2", "Accept": "audio/*"}),
        ("https://two.test/b", {"Accept": "audio/*"}),
        ("https://one.test:444/b", {"Accept": "audio/*"}),
        ("http://one.test/b", {"Accept": "audio/*"}),
    ],
)
def test_a_resolved_address_elsewhere_gets_no_credentials(target: str, kept: dict[str, str]) -> None:
    given = {"X-Token": "1", "Authorization": "2", "Accept": "audio/*"}
    assert question(resolve=lambda _: target, given=given).answer()[1] == tuple(kept.items())


def test_userinfo_of_a_resolved_address_becomes_a_header() -> None:
    url, headers = question(resolve=lambda _: "https://u:p@two.test/b").answer()
    assert (url, headers) == ("https://two.test/b", (("Authorization", "Basic dTpw"),))


def test_what_the_callable_says_goes_before_what_was_given() -> None:
    asked = question(lambda _: {"AUTHORIZATION": " new "}, given={"authorization": "old", "Accept": "x"})
    assert asked.answer() == (URL, (("Accept", "x"), ("AUTHORIZATION", "new")))


@pytest.mark.parametrize("said", [True, 1, None, "yes", {"any": 1}])
def test_a_policy_lets_pass(said: object) -> None:
    assert question(policy=lambda _: said).answer() == (URL, ())


@pytest.mark.parametrize("said", [False, 0, "", []])
def test_a_policy_refuses(said: object) -> None:
    with pytest.raises(PolicyError, match=rf"url_policy .*<lambda> refuses {SHOWN}$"):
        question(policy=lambda _: said).answer()


# --- What goes wrong is told with the name of the callable, and without a secret


@pytest.mark.parametrize("role", ["headers", "resolve", "policy"])
@pytest.mark.parametrize("error", [ValueError("secret"), KeyError("secret"), SystemExit("secret"), KeyboardInterrupt()])
def test_what_is_raised_becomes_a_policy_error(role: str, error: BaseException) -> None:
    with pytest.raises(PolicyError, match=rf"{role} .*hook failed for {SHOWN}: {type(error).__name__}$") as caught:
        question(**{role: failing(error)}).answer()
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert not caught.value.retryable


def test_a_policy_error_of_theirs_keeps_its_words_but_not_the_query() -> None:
    with pytest.raises(PolicyError, match=rf"hook refuses {SHOWN}: {SHOWN} is not on the list$"):
        question(policy=failing(PolicyError(f"{URL} is not on the list"))).answer()


@pytest.mark.parametrize("said", [None, 5, b"https://two.test", ["https://two.test"]])
def test_a_resolve_that_returns_no_text(said: object) -> None:
    with pytest.raises(PolicyError, match=rf"returned {type(said).__name__} for {SHOWN}, not a URL"):
        question(resolve=lambda _: said).answer()


@pytest.mark.parametrize("said", ["", "file:///etc/passwd", "/etc/passwd", "http://", "http://a b/", "two.test/secret"])
def test_a_resolve_that_returns_no_url(said: str) -> None:
    with pytest.raises(PolicyError, match=rf"returned no usable URL for {SHOWN}") as caught:
        question(resolve=lambda _: said).answer()
    assert "passwd" not in str(caught.value)


@pytest.mark.parametrize(
    "said", [None, 5, "Authorization: secret", [("a", "secret")], {"a": None}, {"a b": "secret"}, {"a": "sec\nret"}]
)
def test_headers_that_are_none(said: object) -> None:
    with pytest.raises(PolicyError, match=rf"headers .* returned no usable headers for {SHOWN}") as caught:
        question(lambda _: said).answer()
    assert "ret" not in str(caught.value).replace("returned", "")


def test_a_mapping_that_breaks_when_it_is_read() -> None:
    class Odd(dict[str, str]):
        def items(self) -> Any:
            raise OSError("secret")

    with pytest.raises(PolicyError, match=r"failed for .*: OSError$"):
        question(lambda _: Odd()).answer()


def test_a_truth_that_breaks_when_it_is_asked() -> None:
    class Odd:
        def __bool__(self) -> bool:
            raise OSError("secret")

    with pytest.raises(PolicyError, match=r"failed for .*: OSError$"):
        question(policy=lambda _: Odd()).answer()


@pytest.mark.parametrize("role", ["headers", "resolve", "policy"])
def test_an_asynchronous_function_is_refused_and_leaves_no_warning(role: str) -> None:
    async def hook(url: str) -> Any:
        return True

    with pytest.raises(PolicyError, match=f"{role} .*hook is asynchronous"):
        question(**{role: hook}).answer()
    gc.collect()


def test_more_than_a_message_holds_is_refused() -> None:
    with pytest.raises(PolicyError, match=f"under {REQUEST_LIMIT} bytes"):
        question(lambda _: {"a": "\xff" * (REQUEST_LIMIT // 2)}).answer()
    with pytest.raises(PolicyError, match=f"under {REQUEST_LIMIT} bytes"):
        question(resolve=lambda _: "https://two.test/" + "a" * REQUEST_LIMIT).answer()


def test_an_object_without_a_name_is_named_by_its_class() -> None:
    class Rules:
        def __call__(self, url: str) -> bool:
            return False

    with pytest.raises(PolicyError, match="url_policy Rules refuses"):
        question(policy=Rules()).answer()


# --- The threads


class Desk:
    def __init__(self) -> None:
        self.callables = Callables()
        self.came = threading.Condition()
        self.heard: dict[int, CallAnswered] = {}
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)

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
        """So many calls that are in their callable until the gate opens."""
        calls = [self.ask(question(policy=self.hang)) for _ in range(count)]
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
    given_up = question(policy=asked.append)
    desk.ask(given_up)
    given_up.dropped = True
    last = desk.ask(question())
    desk.gate.set()
    desk.answer(last)
    assert asked == []


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
