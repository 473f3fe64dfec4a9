"""One-off requests through a running system: as whom, how often, in which turn, and what is told of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from stream_kit import HANG, Call, answered, asked, watching

from kithara_actors import (
    ActorSystem,
    ConnectError,
    FetchCommand,
    FetchResult,
    PolicyError,
    RetryExhausted,
    StatusError,
    public_only,
)
from kithara_actors.actor import enquiries
from kithara_actors.messages.events import (
    FirstByte,
    RequestCompleted,
    RequestEnqueued,
    RequestFailed,
    RequestRetrying,
    RequestStarted,
    Scope,
)
from kithara_actors.messages.events import RetryExhausted as BudgetSpent
from kithara_actors.testing.origin import Fault, Origin, Resource, body

HELLO = b"Hello, World!"
LIMIT = 256 * 1024
get, head = FetchCommand.get, FetchCommand.head


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(
        workers=1, retry_base=0.01, max_retries=2, execute_limit=LIMIT, inactivity_timeout=5.0
    ) as running:
        yield running


@pytest.fixture
def once() -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=1, max_retries=0, inactivity_timeout=5.0) as running:
        yield running


# --- Who asks, and where


def test_headers_reach_every_request_and_userinfo_is_a_header(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", Resource(data=HELLO, script=[Fault(status=503), None]))
    system.execute(get(url.replace("http://", "http://me:pw@"), headers={"X-Token": "t"}), HANG)
    for seen in origin.requests:
        assert (seen.headers["x-token"], seen.headers["authorization"]) == ("t", "Basic bWU6cHc=")
    with pytest.raises(StatusError) as caught:
        system.execute(get(origin.add("/b", Resource(always=Fault(status=401)))), HANG)
    assert caught.value.status == 401


def test_redirects_are_followed_without_credentials(origin: Origin, system: ActorSystem) -> None:
    with Origin() as other:
        target = other.add("/b", Resource(data=HELLO))
        url = origin.add("/a", Resource(always=Fault(redirect=f"{target}?to=1")))
        for command in (get(url, range=(7, 11), headers={"X-Token": "t"}), head(url, headers={"X-Token": "t"})):
            result = system.execute(command, HANG)
            assert result.url == f"{target}?to=1"
        assert [seen.headers.get("x-token") for seen in origin.requests] == ["t", "t"]
        assert [(seen.method, seen.headers.get("x-token")) for seen in other.requests] == [
            ("GET", None),
            ("HEAD", None),
        ]


def test_a_policy_is_asked_about_every_address(origin: Origin) -> None:
    judged: list[str] = []

    def policy(url: str) -> bool:
        judged.append(url)
        return "/no" not in url

    ok = origin.add("/ok", Resource(data=HELLO))
    away = origin.add("/away", Resource(always=Fault(redirect="/no")))
    with ActorSystem.start(workers=1, url_policy=policy) as system:
        assert system.execute(head(ok), HANG).total == 13
        for command in (get(origin.url("/no")), get(away)):
            with pytest.raises(PolicyError, match="policy refuses"):
                system.execute(command, HANG)
    assert judged == [ok, origin.url("/no"), away, origin.url("/no")]
    assert [seen.path for seen in origin.requests] == ["/ok", "/away"]


def test_a_policy_that_hangs_is_given_up(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enquiries, "CALL_LIMIT", 0.1)
    gate = threading.Event()
    with ActorSystem.start(workers=1, url_policy=lambda url: gate.wait(HANG)) as system:
        with pytest.raises(PolicyError, match="did not answer"):
            system.execute(head(origin.url("/a")), HANG)
        gate.set()


def test_public_only_holds_for_calls(origin: Origin) -> None:
    with ActorSystem.start(workers=1, url_policy=public_only) as system:
        with pytest.raises(PolicyError, match="loopback"):
            system.execute(get(origin.add("/a", Resource(data=HELLO))), HANG)
    assert origin.requests == []


# --- Retries


@pytest.mark.parametrize(("make", "faults"), [(get, 2), (head, 1)])
def test_a_passing_fault_is_asked_again(origin: Origin, system: ActorSystem, make: Any, faults: int) -> None:
    url = origin.add("/a", Resource(data=HELLO, script=[Fault(status=503)] * faults))
    assert system.execute(make(url), HANG).status == 200
    assert len(origin.requests) == faults + 1


@pytest.mark.parametrize("fault", [Fault(cut_after=5), Fault(reset_after=5), Fault(short_by=3)])
@pytest.mark.parametrize("given", [None, (2, 9)])
def test_a_broken_body_is_asked_for_from_its_start(
    origin: Origin, system: ActorSystem, fault: Fault, given: Any
) -> None:
    """A second answer may be of another version: nothing of two is joined."""
    first = Resource(data=b"A" * 13, etag='"1"')
    url = origin.add("/a", Resource(data=HELLO, etag='"2"', script=[Fault(entity=first, **_fields(fault))]))
    result = system.execute(get(url, range=given), HANG)
    assert result.body == (HELLO if given is None else HELLO[2:10])
    assert result.headers["etag"] == '"2"'
    assert [seen.range for seen in origin.requests] == [given, given]
    assert all("if-range" not in seen.headers for seen in origin.requests)


def _fields(fault: Fault) -> dict[str, Any]:
    return {name: getattr(fault, name) for name in ("cut_after", "reset_after", "short_by")}


def test_a_shorter_second_answer_leaves_nothing_of_the_first(origin: Origin, system: ActorSystem) -> None:
    first = Fault(entity=Resource(data=b"A" * 500), cut_after=400)
    url = origin.add("/a", Resource(data=b"short", script=[first]))
    assert system.execute(get(url), HANG).body == b"short"


def test_silence_is_given_up_and_asked_again(origin: Origin) -> None:
    script = [Fault(stall_headers=True), Fault(stall_after=5)]
    url = origin.add("/a", Resource(data=HELLO, script=script))
    silent = origin.add("/silent", Resource(data=HELLO, always=Fault(stall_headers=True)))
    with ActorSystem.start(workers=1, retry_base=0.01, max_retries=2, inactivity_timeout=2.0) as system:
        never = Call(system.execute, head(silent), HANG)
        assert system.execute(get(url), HANG).body == HELLO
        error = never.error()
    assert isinstance(error, RetryExhausted)
    assert (error.attempts, len(asked(origin, "/silent")), len(asked(origin, "/a"))) == (3, 3, 3)


def test_a_slow_body_is_not_a_silent_one(origin: Origin) -> None:
    """The limit is for each gap: 100 pieces come within it, and all together take longer."""
    url = origin.add("/a", Resource(100_000, rate=50_000))
    with ActorSystem.start(workers=1, max_retries=0, inactivity_timeout=1.0) as system:
        assert system.execute(get(url), HANG).body == body(0, 0, 100_000)


def test_a_budget_of_none_surfaces_the_status_itself(origin: Origin, once: ActorSystem) -> None:
    with pytest.raises(StatusError) as caught:
        once.execute(get(origin.add("/a", Resource(always=Fault(status=503)))), HANG)
    assert (caught.value.status, caught.value.retryable, len(origin.requests)) == (503, True, 1)
    with pytest.raises(RetryExhausted) as broken:
        once.execute(get(origin.add("/b", Resource(data=HELLO, always=Fault(cut_after=5)))), HANG)
    assert (broken.value.cause, len(origin.requests)) == ("ConnectError", 2)


@pytest.mark.parametrize("status", [500, 429, 408])
@pytest.mark.parametrize("make", [get, head])
def test_a_spent_budget_is_named(origin: Origin, system: ActorSystem, status: int, make: Any) -> None:
    url = origin.add("/a", Resource(always=Fault(status=status)))
    with pytest.raises(RetryExhausted, match=r"gave up after 3 attempts \(max_retries 2\)") as caught:
        system.execute(make(url), HANG)
    error = caught.value
    assert (error.retryable, error.cause, error.status, error.attempts) == (False, "StatusError", status, 3)
    assert len(origin.requests) == 3


def test_nobody_there(system: ActorSystem, once: ActorSystem) -> None:
    with socket.socket() as place:  # bound, so that nobody else takes it, and never listening
        place.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{place.getsockname()[1]}/a"
        with pytest.raises(ConnectError, match="cannot connect"):
            once.execute(get(url), HANG)
        with pytest.raises(RetryExhausted):
            system.execute(get(url), HANG)


# --- Events


def test_the_events_of_a_call_share_its_id(origin: Origin) -> None:
    with ActorSystem.start(workers=1) as system, watching(system) as watch:
        url = origin.add("/a", Resource(data=HELLO))
        results = [system.execute(get(f"{url}?k=secret"), HANG), system.execute(head(url), HANG)]
        watch.until(lambda _: len(watch.of(RequestCompleted)) == 2)
        assert {envelope.scope for envelope in watch.seen} == {Scope()}
        for result, method, size in zip(results, ("GET", "HEAD"), (13, 0), strict=True):
            mine = [event for event in watch.events if getattr(event, "request_id", 0) == result.request_id]
            assert [type(event) for event in mine] == [RequestEnqueued, RequestStarted, FirstByte, RequestCompleted]
            enqueued, _, first, done = mine
            assert isinstance(enqueued, RequestEnqueued)
            assert (enqueued.method, enqueued.priority.name) == (method, "HIGH")
            assert "secret" not in enqueued.url
            assert isinstance(first, FirstByte)
            assert (first.status, first.partial) == (200, False)
            assert isinstance(done, RequestCompleted)
            assert done.bytes == size
        assert [result.request_id for result in results] == [1, 2]


def test_the_events_of_a_retry(origin: Origin, system: ActorSystem) -> None:
    """EVENT03"""
    url = origin.add("/a", Resource(data=HELLO, script=[Fault(status=500), Fault(cut_after=5)]))
    with watching(system) as watch:
        assert system.execute(get(url), HANG).body == HELLO
        watch.first(RequestCompleted)
    assert len(watch.of(RequestStarted)) == 1
    assert [event.status for event in watch.of(FirstByte)] == [500, 200, 200]
    assert [(event.attempt, event.limit, event.cause) for event in watch.of(RequestRetrying)] == [
        (1, 2, "StatusError"),
        (2, 2, "ConnectError"),
    ]
    assert [event.bytes for event in watch.of(RequestCompleted)] == [13]


@pytest.mark.parametrize(("status", "kind", "spent"), [(404, "StatusError", 0), (500, "RetryExhausted", 1)])
def test_the_events_of_a_failure(origin: Origin, system: ActorSystem, status: int, kind: str, spent: int) -> None:
    """EVENT05"""
    with watching(system) as watch:
        with pytest.raises((StatusError, RetryExhausted)):
            system.execute(get(origin.add("/a", Resource(always=Fault(status=status)))), HANG)
        failed = watch.first(RequestFailed)
    assert (failed.error.kind, failed.retryable, failed.bytes) == (kind, False, 0)
    assert {event.status for event in watch.of(FirstByte)} == {status}
    assert len(watch.of(BudgetSpent)) == spent


def test_what_may_pass_is_flagged(origin: Origin, once: ActorSystem) -> None:
    with watching(once) as watch:
        with pytest.raises(StatusError):
            once.execute(get(origin.add("/a", Resource(always=Fault(status=503)))), HANG)
        assert watch.first(RequestFailed).retryable


# --- Among others


def test_calls_from_many_threads(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", Resource(size=100_000))

    def work(start: int) -> list[FetchResult]:
        return [system.execute(get(url, range=(start + n, start + 2000 * n)), HANG) for n in range(1, 20)]

    calls = [Call(work, 100 * number) for number in range(8)]
    for number, call in enumerate(calls):
        for n, result in enumerate(call.result(), 1):
            assert result.body == body(0, 100 * number + n, 100 * number + 2000 * n + 1)
    assert len(asked(origin, "/a")) == 8 * 19


def test_calls_and_streams_share_the_slots(origin: Origin) -> None:
    gate = threading.Event()
    held = origin.add("/held", Resource(1000, always=Fault(hold=gate)))
    url = origin.add("/a", Resource(data=HELLO))
    with ActorSystem.start(workers=1, max_concurrent=1) as system, watching(system) as watch:
        stream = system.open(held)
        reading = Call(stream.read)
        watch.first(RequestStarted)
        waiting = Call(system.execute, get(url), HANG)
        watch.until(lambda _: len(watch.of(RequestEnqueued)) == 2)
        answered(origin, "/held", 1)
        assert origin.peak == 1
        gate.set()
        assert waiting.result().body == HELLO
        assert reading.result() == body(0, 0, 1000)
        stream.close()


# --- Misuse


def test_misuse_is_refused_before_anything_is_asked(origin: Origin, system: ActorSystem) -> None:
    command = get(origin.add("/a", Resource(data=HELLO)))
    for wrong in (origin.url("/a"), None, ("GET", origin.url("/a"))):
        with pytest.raises(TypeError, match=r"FetchCommand.get\(url\)"):
            system.execute(wrong)  # type: ignore[arg-type]
    for late in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="timeout"):
            system.execute(command, late)
    for late in ("5", True, [5]):
        with pytest.raises(TypeError, match="timeout"):
            system.execute(command, late)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="under 49152 bytes together"):
        system.execute(get(origin.url("/a"), headers={"X": "x" * 50_000}))
    assert origin.requests == []
    assert system.execute(command, 1e12).body == HELLO
