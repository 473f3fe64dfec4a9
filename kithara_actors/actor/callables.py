"""What an application gave to be asked runs here, on a few threads that nothing else waits for.

No object of the application's leaves this module but as text: what is said travels in a `CallAnswered`.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import queue
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
"""Characters of a PolicyError of the application's that are told: it has to fit a message to a worker."""
_THREADS = 4
_STOP_WITHIN = 1.0

_Pairs = tuple[tuple[str, str], ...]


@dataclass(slots=True, eq=False)
class Question:
    """What is to be found out about `url`: first `resolve`, then `headers` of `calls`, last `policy`.

    `label` names the callable that runs, for who gives it up; None before the first.
    """

    url: str = field(repr=False)
    headers: _Pairs = field(default=(), repr=False)
    calls: SourceCalls | None = None
    policy: Callable[[str], object] | None = field(default=None, repr=False)
    label: str | None = field(default=None, init=False)
    dropped: bool = field(default=False, init=False)

    def answer(self) -> tuple[str, _Pairs]:
        """Where to go and with which headers. Blocks in the application's code; raises PolicyError."""
        url, headers = self.url, dict(self.headers)
        if self.calls is not None and self.calls.resolve is not None:
            url, headers = self._resolved(self.calls.resolve, headers)
        if self.calls is not None and self.calls.headers is not None:
            headers = self._with_headers(self.calls.headers, url, headers)
        if self.calls is not None and request_size(url, headers) > REQUEST_LIMIT:
            raise PolicyError(f"{self.label}: URL and headers must stay under {REQUEST_LIMIT} bytes together")
        if self.policy is not None:
            said = self._call("url_policy", self.policy, url)
            # None too lets pass: it is what a policy that raises returns for what it likes.
            if said is not None and not self._guard(lambda: bool(said), url):
                raise PolicyError(f"{self.label} refuses {redact_briefly(url)}")
        return url, tuple(headers.items())

    def late(self) -> Failure:
        """The answer of who no longer waits for this one."""
        who = "no thread was free for the callables" if self.label is None else f"{self.label} did not answer"
        return PolicyError(f"{who} for {redact_briefly(self.url)} within {CALL_LIMIT:g} s").failure

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
        self.label = f"{role} {getattr(call, '__qualname__', type(call).__name__)}"
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
            text = redact_text(str(error).replace(self.url, redact(self.url)).replace(url, redact(url)))[:_TEXT_LIMIT]
            raise PolicyError(f"{self.label} refuses {redact_briefly(url)}: {text}") from None
        except BaseException as error:  # noqa: BLE001 - a SystemExit of theirs must not end a thread of ours
            raise PolicyError(f"{self.label} failed for {redact_briefly(url)}: {type(error).__name__}") from None


class Callables:
    """Asks on up to four daemon threads, started when needed. Safe from any thread; only `stop` blocks."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._given: weakref.WeakValueDictionary[int, SourceCalls] = weakref.WeakValueDictionary()
        self._asked: queue.SimpleQueue[tuple[int, Question, Callable[[CallAnswered], object]] | None] = (
            queue.SimpleQueue()
        )
        self._threads: dict[threading.Thread, Question | None] = {}
        self._waiting = 0
        self._stopped = False

    def keep(
        self, headers: Callable[[str], Mapping[str, str]] | None, resolve: Callable[[str], str] | None
    ) -> SourceCalls:
        """The callables of one source under an id, by which `find` finds them for as long as somebody holds them."""
        calls = SourceCalls(next(self._ids), headers, resolve)
        with self._lock:
            self._given[calls.id] = calls
        return calls

    def find(self, number: int) -> SourceCalls | None:
        """What was kept under this id, or None when nobody holds it any more."""
        with self._lock:
            return self._given.get(number)

    def ask(self, question: Question, hear: Callable[[CallAnswered], object]) -> int:
        """Have `question` answered to `hear`, on another thread; returns the number of the call. Does not block."""
        call = next(self._ids)
        short: RuntimeError | None = None
        with self._lock:
            if not self._stopped:
                short = self._make_room()
                self._waiting += short is None
        if short is not None:
            failure = Failure("ConnectError", f"no thread to ask the callables on: {short}", retryable=True)
            hear(CallAnswered(call, question.url, (), failure))
        else:
            self._asked.put((call, question, hear))
        return call

    def stop(self, timeout: float) -> list[str]:
        """End the threads, and leave those behind whose callable hangs: returns what these are. Blocks up to 1 s."""
        with self._lock:
            self._stopped = True
            threads = list(self._threads)
        for _ in threads:
            self._asked.put(None)
        deadline = monotonic() + min(timeout, _STOP_WITHIN)
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))
        with self._lock:
            hanging = [question for thread, question in self._threads.items() if thread.is_alive()]
        return [f"callable ({question.label})" if question is not None else "callable" for question in hanging]

    def _make_room(self) -> RuntimeError | None:
        """A thread for one question more, unless there are enough. What prevents it matters only without any."""
        busy = sum(question is not None for question in self._threads.values())
        if len(self._threads) - busy > self._waiting or len(self._threads) == _THREADS:
            return None
        thread = threading.Thread(target=self._work, name="kithara-callables", daemon=True)
        self._threads[thread] = None
        try:
            thread.start()
        except RuntimeError as error:
            del self._threads[thread]
            return None if self._threads else error
        return None

    def _work(self) -> None:
        me = threading.current_thread()
        while (asked := self._asked.get()) is not None:
            call, question, hear = asked
            with self._lock:
                self._waiting -= 1
                if question.dropped or self._stopped:
                    continue
                self._threads[me] = question
            try:
                answer = _answer(call, question)
            finally:
                with self._lock:
                    self._threads[me] = None
            # What asked may be gone, and with it whoever wants to hear.
            with contextlib.suppress(Exception):
                hear(answer)
            del asked, question, hear, answer
        with self._lock:
            self._threads.pop(me, None)


def request_size(url: str, headers: Mapping[str, str]) -> int:
    """Bytes that a URL and its headers take in a message."""
    texts = (url, *itertools.chain.from_iterable(headers.items()))
    return sum(len(text.encode("utf-8", "surrogatepass")) + 2 for text in texts)


def _answer(call: int, question: Question) -> CallAnswered:
    try:
        url, headers = question.answer()
    except KitharaError as error:
        return CallAnswered(call, question.url, (), error.failure)
    except BaseException as error:  # noqa: BLE001 - an object of theirs can fail at whatever is done with it
        failure = PolicyError(
            f"{question.label} failed for {redact_briefly(question.url)}: {type(error).__name__}"
        ).failure
        return CallAnswered(call, question.url, (), failure)
    return CallAnswered(call, url, headers, None)
