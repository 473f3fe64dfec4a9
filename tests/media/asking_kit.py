"""A downloader whose callables answer when the test says so, and all around it fed by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actor_kit import CODEC, FakePool, Published, begun, issued, request_spec

from actors.testing.fake_clock import FakeClock, FakeTimers
from actors.testing.step import Neighbours
from kithara_actors.actor.callables import Callables, Question
from kithara_actors.actor.downloader import Downloader
from kithara_actors.actor.enquiries import Enquiries
from kithara_actors.assets.content import ContentTable
from kithara_actors.errors import Failure
from kithara_actors.logic.fetch import FetchBook
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.messages.commands import Admitted, CallAnswered, FetchFailed, WorkerUp
from kithara_actors.messages.records import FetchSpec, SourceCalls
from kithara_actors.messages.worker import AttemptEnded, RunAttempt
from kithara_actors.values import RequestId

__all__ = ["NO", "ONE", "SHOWN", "TWO", "URL", "ByHand", "House"]

ONE, TWO = RequestId(1), RequestId(2)
URL = "http://one/file?token=secret"
SHOWN = "http://one/file?token=…"
NO = Failure("PolicyError", "no")


class ByHand(Callables):
    """Answers nothing until `answer` is called, which runs what was asked on the caller's thread.

    `hangs`: what was asked counts as running, and no longer as waiting for a thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hangs = False
        self.asked: list[tuple[int, Question, Callable[[CallAnswered], object]]] = []

    def ask(self, question: Question, hear: Callable[[CallAnswered], object]) -> int:
        call = 1000 + len(self.asked)
        self.asked.append((call, question, hear))
        return call

    def give_up(self, question: Question) -> bool:
        question.dropped = True
        return self.hangs

    def answer(self, at: int = -1, failure: Failure | None = None) -> None:
        call, question, hear = self.asked[at]
        url, headers = question.answer()
        hear(CallAnswered(call, url, headers, failure))


class House:
    def __init__(self, policy: Callable[[str], object] | None = None) -> None:
        self.clock = FakeClock()
        self.timers = FakeTimers(self.clock)
        self.events = Published()
        self.around = Neighbours(CODEC, "registry", "source-1", "downloader")
        self.pool = FakePool(CODEC)
        self.contents = ContentTable()
        self.content = self.contents.create()
        self.callables = ByHand()
        self.told: list[str] = []
        self.calls: SourceCalls | None = None
        self.enquiries = Enquiries(self.callables, policy, self.around.find, self.timers)
        book = FetchBook(RetryPolicy(max_retries=2), asks=policy is not None)
        self.step = begun(
            Downloader(
                book,
                self.pool,
                self.contents,
                self.around.find,
                self.timers,
                self.events,
                2,
                self.clock,
                lambda: 1.0,
                requests=issued(),
                enquiries=self.enquiries,
            ),
            self.around,
        )
        self.tell = self.step.tell
        self.source = self.around["source-1"]
        for worker in (1, 2):
            self.pool.up.add(worker)
            self.tell(WorkerUp(worker, 4000 + worker))
        self.events.take()

    def keep(self, *, headers: bool = False, resolve: bool = False) -> None:
        """Give the source callables whose answers count up."""

        def give(url: str) -> dict[str, str]:
            self.told.append(url)
            return {"Authorization": f"Bearer {len(self.told)}"}

        def find(url: str) -> str:
            self.told.append(url)
            return f"http://two/{len(self.told)}"

        self.calls = self.callables.keep(give if headers else None, find if resolve else None)

    def spec(self, request: int = 1, **changes: Any) -> FetchSpec:
        calls = 0 if self.calls is None else self.calls.id
        return request_spec(request, **{"content": self.content.id, "lane": request, "calls": calls, **changes})

    def admit(self, request: int = 1, **changes: Any) -> None:
        spec = self.spec(request, **changes)
        self.content.block.open_lane(spec.lane, spec.generation, spec.start)
        self.tell(Admitted(spec, 0.0, again=False))

    def answer(self, at: int = -1, failure: Failure | None = None) -> None:
        self.callables.answer(at, failure)
        self.tell(*self.around["downloader"].take())

    def later(self, seconds: float) -> None:
        self.timers.advance(seconds)
        self.tell(*self.around["downloader"].take())

    def denied(self, request: int, attempt: int, status: int = 401, at: int = 1000) -> None:
        failure = Failure("StatusError", f"the server answered {status}", status=status)
        self.tell(AttemptEnded(RequestId(request), attempt, at, False, None, False, False, failure))

    def ran(self) -> list[tuple[int, str, dict[str, str]]]:
        """Attempt, URL and headers of each order since the last call."""
        taken = [command for _, command in self.pool.take()]
        assert all(isinstance(command, RunAttempt) for command in taken)
        return [(run.attempt, run.spec.url, dict(run.spec.headers)) for run in taken]

    def failure(self, *, gave_up: bool = True) -> Failure:
        """How the one request that has ended failed; by default bytes have landed, as requests start at 1000."""
        (failed,) = self.source.take()
        assert isinstance(failed, FetchFailed)
        assert failed.gave_up is gave_up
        return failed.failure
