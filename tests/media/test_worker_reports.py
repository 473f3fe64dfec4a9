"""A worker that is asked what it runs says it, and again all that it had said of it, the end of an attempt too."""

from __future__ import annotations

from typing import Any

from actor_kit import request_spec

from actors.messages.codec import Codec
from kithara_actors.messages.worker import (
    WORKER_COMMANDS,
    AttemptEnded,
    AttemptHeaders,
    AttemptsInFlight,
    InFlight,
    ReportAttempts,
    RunAttempt,
)
from kithara_actors.values import RequestId, Validator
from kithara_actors.worker.attempt import Attempt
from kithara_actors.worker.http import Transport
from kithara_actors.worker.main import FetchHandler, _Job

CODEC = Codec(WORKER_COMMANDS)
HEADS = AttemptHeaders(RequestId(2), 12, 206, True, 9, 9, Validator(), None, "http://one/", 0.1, False, True)
END = AttemptEnded(RequestId(3), 13, 9, True, 9, False, False, None)


def handler(*jobs: _Job) -> tuple[FetchHandler, list[Any]]:
    sent: list[Any] = []
    made = FetchHandler(Transport(), lambda frame: sent.append(CODEC.decode(frame)), allow_downgrade=False)
    made._running.update({job.order.attempt: job for job in jobs})
    return made, sent


def job(request: int, **said: Any) -> _Job:
    return _Job(RunAttempt(10 + request, 1000, request_spec(request)), Attempt(), [], **said)


def flight(request: int) -> InFlight:
    return InFlight(RequestId(request), 10 + request, 1000)


def test_an_idle_worker_says_so() -> None:
    idle, sent = handler()
    idle.handle(CODEC.encode(ReportAttempts(4)), [])
    assert sent == [AttemptsInFlight(4, (), True)]


def test_what_was_said_is_said_again_after_what_runs() -> None:
    busy, sent = handler(job(1), job(2, head=HEADS), job(3, ended=END))
    busy.handle(CODEC.encode(ReportAttempts(4)), [])
    assert sent == [AttemptsInFlight(4, (flight(1), flight(2), flight(3)), True), HEADS, END]


def test_a_report_of_thousands_comes_in_parts_that_fit_a_frame() -> None:
    busy, sent = handler(*(job(number) for number in range(2500)))
    busy.handle(CODEC.encode(ReportAttempts(4)), [])
    assert [(len(part.attempts), part.last) for part in sent] == [(1000, False), (1000, False), (500, True)]
