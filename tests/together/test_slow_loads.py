"""Slow answers and bodies that stall, as the listeners of a running system are told of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from host_kit import until
from stream_kit import HANG, Call, answered, watching

from kithara_actors.errors import RetryExhausted
from kithara_actors.events import (
    BodyResumed,
    BodyStalled,
    FirstByte,
    LoadSlow,
    RequestCompleted,
    RequestEnqueued,
    RequestFailed,
    RequestRetrying,
    RequestStarted,
)
from kithara_actors.events import RetryExhausted as BudgetSpent
from kithara_actors.fetching import FetchCommand
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Fault, Origin, Resource, body


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    "resource",
    [
        Resource(10_000, seed=1, script=[Fault(delay=0.5)]),
        Resource(10_000, seed=1, rate=20_000.0),
    ],
    ids=["headers", "body"],
)
def test_a_slow_answer_is_told_once_and_is_right(origin: Origin, resource: Resource, *, streamed: bool) -> None:
    """EVENT02: the whole takes half a second, the soft time-out is a tenth of it."""
    url = origin.add("/slow", resource)
    with ActorSystem.start(workers=1, soft_timeout=0.05) as system, watching(system) as watch:
        if streamed:
            with system.open(url) as stream:
                assert stream.read() == body(1, 0, 10_000)
        else:
            assert system.execute(FetchCommand.get(url), HANG).body == body(1, 0, 10_000)
        watch.first(RequestCompleted)
    assert len(watch.of(LoadSlow)) == 1
    assert watch.of(LoadSlow)[0].seconds >= 0.05
    kinds = [type(event) for event in watch.events]
    assert kinds.index(RequestStarted) < kinds.index(LoadSlow) < kinds.index(RequestCompleted)


def test_a_body_that_stalls_for_good(origin: Origin) -> None:
    """EVENT04"""
    url = origin.add("/stalls", Resource(10_000, seed=1, always=Fault(stall_after=2)))
    with (
        ActorSystem.start(workers=1, inactivity_timeout=0.5, max_retries=2, retry_base=0.01) as system,
        watching(system) as watch,
    ):
        with system.open(url) as stream, pytest.raises(RetryExhausted):
            stream.read()
        failed = watch.first(RequestFailed)
        mine = [event for event in watch.events if getattr(event, "request_id", None) == failed.request_id]
    assert [type(event) for event in mine] == [
        RequestEnqueued,
        RequestStarted,
        *[FirstByte, BodyStalled, RequestRetrying],
        *[FirstByte, BodyResumed, BodyStalled, RequestRetrying],
        *[FirstByte, BodyResumed, BodyStalled, BudgetSpent],
        RequestFailed,
    ]
    assert [event.consumed for event in mine if isinstance(event, BodyStalled)] == [2, 4, 6]
    assert [event.resume for event in mine if isinstance(event, BodyResumed)] == [1, 2]
    (spent,) = (event for event in mine if isinstance(event, BudgetSpent))
    assert (spent.consumed, spent.attempts) == (6, 3)


def test_a_call_whose_body_stalls_begins_again(origin: Origin) -> None:
    url = origin.add("/stalls", Resource(10_000, seed=1, script=[Fault(stall_after=2)]))
    with ActorSystem.start(workers=1, inactivity_timeout=0.5, retry_base=0.01) as system, watching(system) as watch:
        assert system.execute(FetchCommand.get(url), HANG).body == body(1, 0, 10_000)
        watch.first(RequestCompleted)
    assert [event.consumed for event in watch.of(BodyStalled)] == [2]
    assert [event.resume for event in watch.of(BodyResumed)] == [1]


def test_how_far_a_call_has_come_is_known_while_it_runs(origin: Origin) -> None:
    """Also of another attempt, which begins anew."""
    first, second = threading.Event(), threading.Event()
    script = [Fault(hold=first, hold_after=100_000, reset_after=150_000), Fault(hold=second, hold_after=0)]
    url = origin.add("/held", Resource(200_000, seed=1, script=script))
    with ActorSystem.start(workers=1, soft_timeout=0.1, retry_base=0.01) as system, watching(system) as watch:
        call = Call(system.execute, FetchCommand.get(url), HANG)
        try:
            assert until(lambda: system.stats().bytes == 100_000, HANG)
            assert until(lambda: system.stats().hosts[origin.base].bytes == 100_000, HANG)
            assert watch.first(LoadSlow).bytes <= 100_000
            first.set()
            watch.until(lambda _: len(watch.of(FirstByte)) == 2)
            assert system.stats().bytes == 0
        finally:
            first.set()
            second.set()
        assert call.result().body == body(1, 0, 200_000)
        assert until(lambda: system.stats().bytes == 200_000, HANG)


def test_a_server_that_never_answers_has_no_body_that_stalls(origin: Origin) -> None:
    url = origin.add("/silent", Resource(10_000, always=Fault(stall_headers=True)))
    with (
        ActorSystem.start(workers=1, inactivity_timeout=0.12, max_retries=1, retry_base=0.01) as system,
        watching(system) as watch,
    ):
        with system.open(url) as stream, pytest.raises(RetryExhausted):
            stream.read()
        watch.first(RequestFailed)
    assert watch.of(BodyStalled) == watch.of(BodyResumed) == []


def test_the_hosts_of_a_system(origin: Origin) -> None:
    """What a host brings is known while a long body runs, and after it."""
    rate = 400_000.0
    url = origin.add("/a", Resource(2_000_000, seed=1, rate=rate))
    with ActorSystem.start(workers=1, soft_timeout=0.2) as system:
        with system.open(url) as stream:
            reading = Call(stream.read)
            answered(origin, "/a", 1)
            assert until(lambda: origin.base in system.stats().hosts, HANG)
            key = origin.base

            def known() -> bool:
                host = system.stats().hosts[key]
                return host.running == 1 and host.bandwidth_bps is not None and host.bytes > 0

            assert until(known, HANG)
            host = system.stats().hosts[key]
            assert host.bandwidth_bps is not None
            # A machine under load makes the server slower, never faster than it was told to be.
            assert host.bandwidth_bps <= 2 * 8 * rate
            assert host.ttfb is not None
            stream.cancel()
            reading.error()
        assert until(lambda: system.stats().hosts[key].running == 0, HANG)
