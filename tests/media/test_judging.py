"""A worker follows no redirect before the host has judged it, and waits for that no longer than it must."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from actor_kit import request_spec

from actors.messages.codec import Codec
from kithara_actors.errors import Cancelled, Failure, PolicyError
from kithara_actors.messages.worker import WORKER_COMMANDS, AskRedirect, RedirectJudged, RunAttempt
from kithara_actors.values import RequestId
from kithara_actors.worker import main
from kithara_actors.worker.attempt import Attempt
from kithara_actors.worker.http import Transport
from kithara_actors.worker.main import FetchHandler

WAIT = 30.0
URL = "http://two.test/?token=secret"
ORDER = RunAttempt(7, 1000, request_spec())
CODEC = Codec(WORKER_COMMANDS)


class Desk:
    """A handler whose host answers with `answers`, from within its `send`, and keeps what it was sent."""

    def __init__(self, *answers: Any) -> None:
        self.sent: list[Any] = []
        self.attempt = Attempt()
        self._answers = answers
        self.handler = FetchHandler(Transport(), self._send, allow_downgrade=False, asks=True)

    def _send(self, frame: bytes) -> None:
        self.sent.append(CODEC.decode(frame))
        for answer in self._answers:
            if callable(answer):
                answer(self)
            else:
                self.handler.handle(CODEC.encode(answer), [])

    def judge(self, url: str = URL) -> None:
        self.handler._judge(ORDER, self.attempt, url)


def test_the_host_is_asked_and_lets_pass() -> None:
    desk = Desk(RedirectJudged(7, None))
    for _ in range(2):
        desk.judge()
    assert desk.sent == [AskRedirect(RequestId(1), 7, URL)] * 2


def test_what_the_host_refuses_is_raised() -> None:
    with pytest.raises(PolicyError, match=r"^no$"):
        Desk(RedirectJudged(7, Failure("PolicyError", "no"))).judge()


def test_the_verdict_on_another_attempt_is_not_ours() -> None:
    desk = Desk(RedirectJudged(6, None), RedirectJudged(7, Failure("PolicyError", "no")), RedirectJudged(8, None))
    with pytest.raises(PolicyError, match=r"^no$"):
        desk.judge()


def test_silence_is_no_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "_VERDICT_WITHIN", 0.01)
    desk = Desk()
    with pytest.raises(PolicyError, match=r"nobody has judged the redirect to http://two\.test/\?token=… within"):
        desk.judge()
    desk.handler.handle(CODEC.encode(RedirectJudged(7, None)), [])  # too late: of no effect
    with pytest.raises(PolicyError, match="nobody has judged") as caught:
        desk.judge(URL + "&".join("x" * 20_000))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("when", ["before the wait", "in the wait"])
def test_a_cancel_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    monkeypatch.setattr(main, "_VERDICT_WITHIN", 100 * WAIT)
    asked = threading.Event()
    desk = Desk(lambda desk: desk.attempt.cancel() if when == "before the wait" else asked.set())
    raised: list[BaseException] = []

    def judge() -> None:
        try:
            desk.judge()
        except Cancelled as error:
            raised.append(error)

    thread = threading.Thread(target=judge)
    thread.start()
    if when == "in the wait":
        assert asked.wait(WAIT)
        desk.attempt.cancel()
    thread.join(WAIT)
    hangs = thread.is_alive()
    desk.handler.handle(CODEC.encode(RedirectJudged(7, None)), [])
    thread.join(WAIT)
    assert not hangs
    assert len(raised) == 1


def test_a_url_that_fits_no_message_is_refused() -> None:
    desk = Desk(RedirectJudged(7, None))
    with pytest.raises(PolicyError, match="too long to be judged"):
        desk.judge("http://two.test/" + "a" * 50_000)
    assert desk.sent == []
