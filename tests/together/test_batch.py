"""Many one-off requests by one call: in order, side by side within the limits, each with its own end."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from execute_kit import nothing_held, one_end_each
from host_kit import run, until
from stream_kit import HANG, Call, answered, asked, watching

from actors.testing.sabotage import sabotage
from actors.testing.saboteur import Saboteur, Trap
from kithara_actors import (
    ActorSystem,
    Batch,
    FetchCommand,
    FetchResult,
    KitharaError,
    Priority,
    ReadTimeout,
    StatusError,
    SystemStopped,
    batching,
)
from kithara_actors.messages.events import (
    ActorRestarted,
    RequestCancelled,
    RequestCompleted,
    RequestEnqueued,
    RequestStarted,
)
from kithara_actors.testing.origin import Fault, Origin, Resource, body
from kithara_actors.values import CancelReason

get, head = FetchCommand.get, FetchCommand.head
HELLO = b"Hello, World!"


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def shared() -> Iterator[ActorSystem]:
    with ActorSystem.start(retry_base=0.01) as running:
        yield running


@pytest.fixture
def system(shared: ActorSystem) -> Iterator[ActorSystem]:
    yield shared
    nothing_held(shared)


def results(batch: Batch) -> list[FetchResult]:
    """All of them, which have to be answers."""
    found = list(batch)
    assert all(isinstance(each, FetchResult) for each in found), found
    return [each for each in found if isinstance(each, FetchResult)]


# --- Answers


def test_answers_come_in_the_order_of_the_commands(origin: Origin, system: ActorSystem) -> None:
    """The first is the last to be answered."""
    gate = threading.Event()
    first = origin.add("/first", Resource(1000, seed=1, always=Fault(hold=gate)))
    url = origin.add("/a", Resource(50_000, seed=2))
    ranges = [(at, 2 * at) for at in range(1, 40)]
    commands = [get(first), *(get(url, range=each) for each in ranges), head(url)]
    with system.batch(commands) as batch:
        assert origin.wait_for(lambda seen: sum(each.path == "/a" for each in seen) == 40, HANG)
        gate.set()
        found = results(batch)
    assert found[0].body == body(1, 0, 1000)
    assert [each.body for each in found[1:-1]] == [body(2, start, end + 1) for start, end in ranges]
    assert (found[-1].body, found[-1].total) == (b"", 50_000)
    assert len({each.request_id for each in found}) == 41
    assert all(each.elapsed > 0 for each in found)


def test_one_that_fails_leaves_the_others_alone(origin: Origin, system: ActorSystem) -> None:
    good = origin.add("/ok", Resource(data=HELLO))
    bad = origin.add("/bad", Resource(always=Fault(status=404)))
    found = list(system.batch(get(url) for url in (good, bad, good)))
    assert [type(each) for each in found] == [FetchResult, StatusError, FetchResult]
    error = found[1]
    assert isinstance(error, StatusError)
    assert error.status == 404


def test_an_empty_batch_has_no_answers(system: ActorSystem) -> None:
    assert list(system.batch([])) == []


# --- Limits and turns


def test_a_thousand_heads_keep_to_the_limit_and_reach_it(origin: Origin) -> None:
    """The first five are held until all of them have come, which no fewer than five slots can have."""
    gate = threading.Event()
    held = [origin.add(f"/held-{n}", Resource(data=HELLO, always=Fault(hold=gate))) for n in range(5)]
    url = origin.add("/a", Resource(data=HELLO))
    with ActorSystem.start(max_concurrent=5) as system:
        commands = [head(each) for each in held] + [head(url)] * 995
        with system.batch(commands) as batch:
            assert origin.wait_for(lambda seen: len(seen) == 5, HANG)
            gate.set()
            found = results(batch)
        assert [each.status for each in found] == [200] * 1000
        assert origin.peak == 5
        nothing_held(system)


def test_commands_are_drawn_as_results_are_taken(origin: Origin, system: ActorSystem) -> None:
    """Endless ones too; what is known at once is bounded."""
    url = origin.add("/a", Resource(data=HELLO))
    drawn = 0

    def endless() -> Iterator[FetchCommand]:
        nonlocal drawn
        while True:
            drawn += 1
            yield head(url)

    window = 3 * system.config.max_concurrent
    with system.batch(endless()) as batch:
        for taken, each in enumerate(batch, 1):
            assert isinstance(each, FetchResult)
            assert drawn <= window + taken
            if taken == 3 * window:
                break
    assert not list(batch)


def test_what_waits_long_for_the_next_command_is_asked_for_meanwhile(
    origin: Origin, system: ActorSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the batch each command takes a second, and none comes before the server was asked for the one before."""
    ticks = itertools.count()
    monkeypatch.setattr(batching, "monotonic", lambda: float(next(ticks)))
    url = origin.add("/a", Resource(data=HELLO))

    def slow() -> Iterator[FetchCommand]:
        for number in range(3):
            assert origin.wait_for(lambda seen, number=number: len(seen) == number, HANG)  # type: ignore[misc]
            yield head(url)

    assert len(results(system.batch(slow()))) == 3


def test_a_batch_takes_turns_with_others_as_one(origin: Origin) -> None:
    """Of one slot, a single call gets the turn after the next, however many of the batch came before it."""
    gate = threading.Event()
    held = origin.add("/held", Resource(data=HELLO, always=Fault(hold=gate)))
    url = origin.add("/a", Resource(data=HELLO))
    alone = origin.add("/alone", Resource(data=HELLO))
    with ActorSystem.start(max_concurrent=1) as system, watching(system) as watch:
        with system.batch([get(held), *([get(url)] * 30)]) as batch:
            answered(origin, "/held", 1)
            watch.until(lambda _: len(watch.of(RequestEnqueued)) == 31)
            call = Call(system.execute, get(alone))
            watch.until(lambda _: len(watch.of(RequestEnqueued)) == 32)
            gate.set()
            assert len(results(batch)) == 31
            assert call.result().status == 200
    order = [seen.path for seen in origin.requests]
    assert order.index("/alone") <= 2
    assert {event.priority for event in watch.of(RequestEnqueued)} == {Priority.HIGH}


# --- Ends


def test_leaving_early_cancels_the_rest_once_each(origin: Origin) -> None:
    stuck = origin.add("/stuck", Resource(1000, always=Fault(stall_headers=True)))
    url = origin.add("/a", Resource(data=HELLO))
    with ActorSystem.start(max_concurrent=2) as system, watching(system) as watch:
        with system.batch([get(url), get(stuck), get(stuck), *([get(url)] * 20)]) as batch:
            assert isinstance(next(batch), FetchResult)
            answered(origin, "/stuck", 2)
        watch.until(lambda _: len(watch.of(RequestCancelled)) == 22)
        assert [event.reason for event in watch.of(RequestCancelled)].count(CancelReason.PEER_CANCEL) == 2
        assert len(watch.of(RequestStarted)) == 3
        one_end_each(watch)
        batch.close()
        with pytest.raises(StopIteration):
            next(batch)
        assert system.execute(get(url), HANG).body == HELLO
        nothing_held(system)


def test_one_that_nobody_holds_any_more_is_cancelled(origin: Origin) -> None:
    stuck = origin.add("/stuck", Resource(1000, always=Fault(stall_headers=True)))
    url = origin.add("/a", Resource(data=HELLO))
    with ActorSystem.start() as system, watching(system) as watch:
        batch = system.batch([get(url), get(stuck), get(stuck)])
        answered(origin, "/stuck", 2)
        watch.first(RequestCompleted)
        del batch
        gc.collect()
        watch.until(lambda _: len(watch.of(RequestCancelled)) == 2)
        one_end_each(watch)
        nothing_held(system)


def test_the_time_is_that_of_all_and_names_what_is_missing(origin: Origin, system: ActorSystem) -> None:
    stuck = origin.add("/stuck", Resource(1000, always=Fault(stall_headers=True)))
    url = origin.add("/a", Resource(data=HELLO))
    with watching(system) as watch:
        batch = system.batch([get(url), get(f"{stuck}?key=secret"), get(url)], timeout=2.0)
        assert isinstance(next(batch), FetchResult)
        with pytest.raises(ReadTimeout, match=rf"^{stuck}\?key=…: item 1 of the batch has no result within 2 s"):
            next(batch)
        assert watch.first(RequestCancelled).reason is CancelReason.PEER_CANCEL
        watch.until(lambda _: len(watch.of(RequestCompleted)) == 2)
        one_end_each(watch)
    assert list(batch) == []


@pytest.mark.parametrize("at", [0, 3, 100])
def test_commands_that_raise_cancel_the_rest(origin: Origin, at: int) -> None:
    stuck = origin.add("/stuck", Resource(1000, always=Fault(stall_headers=True)))

    def commands() -> Iterator[FetchCommand]:
        for _ in range(at):
            yield get(stuck)
        raise LookupError("no more")

    with ActorSystem.start(max_concurrent=300, max_per_host=300) as system, watching(system) as watch:
        with pytest.raises(LookupError, match="no more"):
            system.batch(commands())
        watch.until(lambda _: len(watch.of(RequestCancelled)) == at)
        one_end_each(watch)
        nothing_held(system)


@pytest.mark.parametrize(
    ("wrong", "kind", "said"),
    [
        ("http://one/", TypeError, r"^item 2 of the batch: give FetchCommand.get\(url\) .*, not str$"),
        (get("http://one/", headers={"X": "x" * 50_000}), ValueError, r"^item 2 of the batch: .*under 49152 bytes"),
    ],
)
def test_what_cannot_be_asked_for_is_named(
    origin: Origin, system: ActorSystem, wrong: Any, kind: type[Exception], said: str
) -> None:
    url = origin.add("/a", Resource(data=HELLO))
    with watching(system) as watch:
        with pytest.raises(kind, match=said):
            list(system.batch([get(url), get(url), wrong, get(url)]))
        watch.until(lambda _: len(watch.of(RequestCancelled)) + len(watch.of(RequestCompleted)) == 2)
        one_end_each(watch)


def test_a_wrong_timeout_is_refused(system: ActorSystem) -> None:
    for late, kind in ((0, ValueError), ("5", TypeError)):
        with pytest.raises(kind, match="timeout"):
            system.batch([], late)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not iterable"):
        system.batch(None)  # type: ignore[arg-type]


def test_stop_ends_what_is_left_each_in_its_place(origin: Origin) -> None:
    stuck = origin.add("/stuck", Resource(1000, always=Fault(stall_headers=True)))
    url = origin.add("/a", Resource(data=HELLO))
    with ActorSystem.start() as system, watching(system) as watch:
        batch = system.batch([get(url), get(stuck), *([get(url)] * 300)])
        assert isinstance(next(batch), FetchResult)
        taking = Call(list, batch)
        answered(origin, "/stuck", 1)
        watch.until(lambda _: len(watch.of(RequestCompleted)) >= 20)  # many are there and wait for their turn
        assert system.stop() == []
        rest = taking.result()
        assert len(rest) == 301
        assert isinstance(rest[0], SystemStopped)
        assert {type(each) for each in rest} == {SystemStopped, FetchResult}
        assert all(isinstance(each, SystemStopped) for each in rest[-100:])
        watch.drain()
        one_end_each(watch)
        with pytest.raises(SystemStopped):
            system.execute(get(url), HANG)
        assert [str(each) for each in system.batch([get(url)])] == ["the system has been stopped"]
        nothing_held(system)


@pytest.mark.parametrize(
    "point",
    [("collector", "Collect"), ("collector", "FetchDone"), ("registry", "Fetch"), ("downloader", "AttemptEnded")],
)
def test_a_part_that_crashes_in_the_middle_is_not_noticed(origin: Origin, point: tuple[str, str]) -> None:
    url = origin.add("/a", Resource(20_000))
    saboteur = Saboteur()
    with sabotage(saboteur):
        system = ActorSystem.start(retry_base=0.01)
    with system, watching(system) as watch:
        batch = system.batch(get(url, range=(at, at + 99)) for at in range(300))
        found: list[FetchResult | KitharaError] = [next(batch) for _ in range(20)]
        saboteur.set(Trap(*point, "before"))
        found += list(batch)
        assert not saboteur.left
        for at, each in enumerate(found):
            assert isinstance(each, FetchResult), each
            assert each.body == body(0, at, at + 100)
        assert len(found) == 300
        assert watch.first(ActorRestarted).name == point[0]
        watch.until(lambda _: len(watch.of(RequestCompleted)) >= 300)
        assert until(lambda: not system._assembly._requests, HANG)
        watch.drain()
        one_end_each(watch)
        nothing_held(system)


def test_a_forked_process_is_told_to_start_its_own() -> None:
    code = """
import os
from kithara_actors import ActorSystem, FetchCommand, SystemStopped
with ActorSystem.start(workers=1) as system:
    batch = system.batch([FetchCommand.head("http://127.0.0.1:1/")] * 3)
    child = os.fork()
    if not child:
        try:
            next(batch)
        except SystemStopped as error:
            del batch
            os._exit(7 if "start one after the fork" in str(error) else 8)
        os._exit(9)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(code)[:2] == (0, "7\n")


def test_two_batches_at_once_do_not_mix(origin: Origin, system: ActorSystem) -> None:
    urls = [origin.add(f"/{seed}", Resource(2000, seed=seed)) for seed in (1, 2)]

    def take(seed: int) -> None:
        commands = (get(urls[seed - 1], range=(at, at + 9)) for at in range(200))
        for at, each in enumerate(results(system.batch(commands))):
            assert each.body == body(seed, at, at + 10)

    calls = [Call(take, seed) for seed in (1, 2)]
    for call in calls:
        call.result()
    assert len(asked(origin, "/1")) == len(asked(origin, "/2")) == 200
