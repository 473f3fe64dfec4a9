"""What an application gave to be asked runs here, on a few threads that nothing else waits for.

No object of the application's leaves this module but as text: what is said travels in a `CallAnswered`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from actors.clock import monotonic
from kithara_actors.errors import Failure, KitharaError, PolicyError
from kithara_actors.logic.naming import (
    HARMLESS_HEADERS,
    check_headers,
    origin_of,
    redact,
    redact_briefly,
    redact_text,
    split_userinfo,
)
from kithara_actors.messages.commands import CallAnswered
from kithara_actors.messages.records import SourceCalls

__all__ = ["CALL_LIMIT", "REQUEST_LIMIT", "Callables", "Question", "request_size"]

CALL_LIMIT = 5.0
"""Seconds that the callables of one question have, together."""
REQUEST_LIMIT = 48 * 1024
"""Bytes that a URL and its headers may have together, so that they fit one message."""
_TEXT_LIMIT = 2_000
"""Characters of an error: a server chooses where it redirects to, and what is said of that must fit a message."""
_THREADS = 4
_LEFT_BEHIND = 16
"""Threads that may hang in a callable that was given up, and are replaced for as long."""
_STOP_WITHIN = 1.0

_Pairs = tuple[tuple[str, str], ...]


@dataclass(slots=True, eq=False)
class Question:
    """What is to be found out about `url`: first `resolve` of `calls`, then `policy`, last `headers` of `calls`.

    The policy is asked about `place` instead, where redirects from `url` are known to lead to.

    `label` names the callable that runs, for who gives it up; None before the first. `dropped`: it was given up.
    """

    url: str = field(repr=False)
    headers: _Pairs = field(default=(), repr=False)
    calls: SourceCalls | None = None
    policy: Callable[[str], object] | None = field(default=None, repr=False)
    place: str | None = field(default=None, repr=False)
    label: str | None = field(default=None, init=False)
    dropped: bool = field(default=False, init=False)

    def answer(self) -> tuple[str, _Pairs]:
        """Where to go and with which headers. Blocks in the application's code; raises PolicyError."""
        url, headers = self.url, dict(self.headers)
        if self.calls is not None and self.calls.resolve is not None:
            url, headers = self._resolved(self.calls.resolve, headers)
        if self.policy is not None:
            judged = self.place or url
            said = self._call("url_policy", self.policy, judged)
            # None too lets pass: it is what a policy that raises returns for what it likes.
            if said is not None and not self._guard(lambda: bool(said), judged):
                raise PolicyError(f"{self.label} refuses {redact_briefly(judged)}")
        # Only now: no credentials are made for an address that is refused.
        if self.calls is not None and self.calls.headers is not None:
            headers = self._with_headers(self.calls.headers, url, headers)
        if self.calls is not None and request_size(url, headers) > REQUEST_LIMIT:
            raise PolicyError(f"{self.label}: URL and headers must stay under {REQUEST_LIMIT} bytes together")
        return url, tuple(headers.items())

    def late(self) -> Failure:
        """The answer of who no longer waits for this one; retryable where others were in the way."""
        who = "no thread was free for the callables" if self.label is None else f"{self.label} did not answer"
        text = f"{who} for {redact_briefly(self.url)} within {CALL_LIMIT:g} s"
        return _fit(PolicyError(text, retryable=self.label is None).failure)

    def _resolved(self, resolve: Callable[[str], str], headers: dict[str, str]) -> tuple[str, dict[str, str]]:
        said: object = self._call("resolve", resolve, self.url)
        if not isinstance(said, str):
            raise PolicyError(f"{self.label} returned {type(said).__name__} for {redact_briefly(self.url)}, not a URL")
        try:
            url, authorization = split_userinfo(said)
            same = origin_of(url) == origin_of(self.url)
        except ValueError as error:
            raise PolicyError(f"{self.label} returned no usable URL for {redact_briefly(self.url)}: {error}") from None
        # As at a redirect: what was meant for one host is not told to another.
        kept = {name: value for name, value in headers.items() if same or name.lower() in HARMLESS_HEADERS}
        if authorization is not None and not any(name.lower() == "authorization" for name in kept):
            kept["Authorization"] = authorization
        return url, kept

    def _with_headers(
        self, give: Callable[[str], Mapping[str, str]], url: str, headers: dict[str, str]
    ) -> dict[str, str]:
        said = self._call("headers", give, url)
        # Whose the mapping is, is whose errors it raises.
        pairs: Any = self._guard(lambda: dict(said.items()) if isinstance(said, Mapping) else said, url)
        try:
            given = check_headers(pairs)
        except (TypeError, ValueError) as error:
            raise PolicyError(f"{self.label} returned no usable headers for {redact_briefly(url)}: {error}") from None
        names = {name.lower() for name in given}
        return {name: value for name, value in headers.items() if name.lower() not in names} | given

    def _call(self, role: str, call: Callable[[str], Any], url: str) -> Any:
        self.label = role
        self.label = f"{role} {_name(call)}"
        said = self._guard(lambda: call(url), url)
        if inspect.isawaitable(said):
            if inspect.iscoroutine(said):
                said.close()
            raise PolicyError(f"{self.label} is asynchronous: give an ordinary function")
        return said

    def _guard(self, call: Callable[[], Any], url: str) -> Any:
        """What `call` returns. What it raises may hold anything, secrets too: only its type is told.

        The text of a PolicyError is meant for the reader: URLs in it are redacted.
        """
        try:
            return call()
        except PolicyError as error:
            text = redact_text(str(error).replace(self.url, redact(self.url)).replace(url, redact(url)))
            raise PolicyError(f"{self.label} refuses {redact_briefly(url)}: {text}") from None
        except BaseException as error:  # noqa: BLE001 - a SystemExit of theirs must not end a thread of ours
            raise PolicyError(f"{self.label} failed for {redact_briefly(url)}: {type(error).__name__}") from None


class Callables:
    """Asks on up to four daemon threads, started when needed. Safe from any thread; only `stop` blocks.

    A thread whose callable was given up is replaced, so that one that hangs is no matter for others; of such there
    may be 16 more.
    """

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._changed = threading.Condition()
        self._given: weakref.WeakValueDictionary[int, SourceCalls] = weakref.WeakValueDictionary()
        self._asked: dict[Question, tuple[int, Callable[[CallAnswered], object]]] = {}
        self._threads: dict[threading.Thread, Question | None] = {}
        self._stopped = False

    def keep(
        self, headers: Callable[[str], Mapping[str, str]] | None, resolve: Callable[[str], str] | None
    ) -> SourceCalls:
        """The callables of one source under an id, by which `find` finds them for as long as somebody holds them."""
        calls = SourceCalls(next(self._ids), headers, resolve)
        with self._changed:
            self._given[calls.id] = calls
        return calls

    def find(self, number: int) -> SourceCalls | None:
        """What was kept under this id, or None when nobody holds it any more."""
        with self._changed:
            return self._given.get(number)

    def ask(self, question: Question, hear: Callable[[CallAnswered], object]) -> int:
        """Have `question` answered to `hear`, on another thread; returns the number of the call. Does not block."""
        call = next(self._ids)
        short: RuntimeError | None = None
        with self._changed:
            if not self._stopped:
                self._asked[question] = (call, hear)
                short = self._make_room()
                if short is None:
                    self._changed.notify()
                else:
                    del self._asked[question]
        if short is not None:
            failure = Failure("ConnectError", f"no thread to ask the callables on: {short}", retryable=True)
            hear(CallAnswered(call, question.url, (), failure))
        return call

    def give_up(self, question: Question) -> bool:
        """Nobody waits for `question` any more. Does not block.

        True if its callable was called: the answer is heard all the same, when that returns. False if it is not asked.
        """
        with self._changed:
            question.dropped = True
            if self._asked.pop(question, None) is not None:
                return False
            self._make_room()
            return True

    def stop(self, timeout: float) -> list[str]:
        """End the threads, and leave those behind whose callable hangs: returns what these are. Blocks up to 1 s.

        A callable may call it too: its own thread ends when it returns.
        """
        with self._changed:
            self._stopped = True
            self._asked.clear()
            threads = [thread for thread in self._threads if thread is not threading.current_thread()]
            self._changed.notify_all()
        deadline = monotonic() + min(timeout, _STOP_WITHIN)
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))
        with self._changed:
            hanging = [self._threads.get(thread) for thread in threads if thread.is_alive()]
        return [f"callable ({question.label})" if question is not None else "callable" for question in hanging]

    def _make_room(self) -> RuntimeError | None:
        """A thread for what waits, unless there are enough. What prevents it matters only without any."""
        busy = [question for question in self._threads.values() if question is not None]
        idle = len(self._threads) - len(busy)
        if idle >= len(self._asked) or self._serving() >= _THREADS:
            return None
        if len(self._threads) >= _THREADS + _LEFT_BEHIND:
            return None
        thread = threading.Thread(target=self._work, name="kithara-callables", daemon=True)
        self._threads[thread] = None
        try:
            thread.start()
        except RuntimeError as error:
            del self._threads[thread]
            return None if self._threads else error
        return None

    def _serving(self) -> int:
        """Threads that are idle, or run what somebody waits for."""
        return sum(question is None or not question.dropped for question in self._threads.values())

    def _work(self) -> None:
        me = threading.current_thread()
        try:
            while (asked := self._next(me)) is not None:
                question, call, hear = asked
                answer = _answer(call, question)
                with self._changed:
                    # Before anybody hears: who asks next then finds this thread idle.
                    self._threads[me] = None
                # What asked may be gone, and with it whoever wants to hear.
                with contextlib.suppress(Exception):
                    hear(answer)
                # Nothing of theirs is held while there is nothing to do.
                del asked, question, hear, answer
        finally:
            with self._changed:
                del self._threads[me]

    def _next(self, me: threading.Thread) -> tuple[Question, int, Callable[[CallAnswered], object]] | None:
        """What is to be asked next; None when this thread is to end. Blocks."""
        with self._changed:
            while not self._asked:
                # Whose callable came back after it was given up may have been replaced.
                if self._stopped or self._serving() > _THREADS:
                    return None
                self._changed.wait()
            question = next(iter(self._asked))
            call, hear = self._asked.pop(question)
            self._threads[me] = question
            return question, call, hear


def request_size(url: str, headers: Mapping[str, str]) -> int:
    """Bytes that a URL and its headers take in a message."""
    texts = (url, *itertools.chain.from_iterable(headers.items()))
    return len("".join(texts).encode("utf-8", "surrogatepass")) + 2 * len(texts)


def _answer(call: int, question: Question) -> CallAnswered:
    try:
        url, headers = question.answer()
    except KitharaError as error:
        return CallAnswered(call, question.url, (), _fit(error.failure))
    except BaseException as error:  # noqa: BLE001 - an object of theirs can fail at whatever is done with it
        text = f"{question.label} failed for {redact_briefly(question.url)}: {type(error).__name__}"
        return CallAnswered(call, question.url, (), _fit(PolicyError(text).failure))
    return CallAnswered(call, url, headers, None)


def _fit(failure: Failure) -> Failure:
    """The failure with a text that is one line, and that any message can carry."""
    text = " ".join(failure.text.encode("utf-8", "replace").decode().split())
    return replace(failure, text=text if len(text) <= _TEXT_LIMIT else f"{text[:_TEXT_LIMIT]}…")


def _name(call: Callable[[str], Any]) -> str:
    while isinstance(call, functools.partial):
        call = call.func
    return str(getattr(call, "__qualname__", type(call).__name__))
