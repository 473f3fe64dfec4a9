"""Callables that fail in the middle of a file, that use the system they belong to, that hang, and what is left then."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from host_kit import Host, running, until
from stream_kit import HANG, Call, waiting

from kithara_actors import ActorSystem, PolicyError, SystemStopped
from kithara_actors.testing.origin import Fault, Origin, Resource, body

SIZE = 100_000
BODY = body(5, 0, SIZE)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=1, retry_base=0.01) as running:
        yield running


def resource(*script: Fault | None, always: Fault | None = None) -> Resource:
    return Resource(SIZE, seed=5, etag='"v"', script=script, always=always)


class Switch:
    """A callable that fails when it is called, once `broken` is set."""

    def __init__(self, answer: Callable[[str], Any]) -> None:
        self.answer = answer
        self.broken = False

    def __call__(self, url: str) -> Any:
        if self.broken:
            raise OSError("the database is down")
        return self.answer(url)


class Gate:
    """A callable that hangs until the gate opens."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, url: str) -> dict[str, str]:
        self.entered.release()
        assert self.open.wait(HANG)
        return {}


# --- In the middle of a file


@pytest.mark.parametrize("role", ["headers", "resolve", "url_policy"])
def test_what_has_landed_is_served_when_a_callable_fails_later(origin: Origin, role: str) -> None:
    """The token service may be down for a minute; the bytes that are there were allowed, and are right."""
    cut = Fault(cut_after=40_000)
    url = origin.add("/a", resource(cut, always=Fault(status=403)))
    hook = Switch({"headers": lambda _: {"X": "1"}, "resolve": lambda _: url, "url_policy": lambda _: True}[role])
    settings: dict[str, Any] = {"url_policy": hook} if role == "url_policy" else {}
    options: dict[str, Any] = {} if settings else {role: hook}
    with ActorSystem.start(workers=1, retry_base=0.01, **settings) as system:
        with system.open(url, **options) as stream:
            assert stream.read(1) == BODY[:1]
            hook.broken = True
            assert stream.read(39_999) == BODY[1:40_000]
            for _ in range(2):
                with pytest.raises(PolicyError, match=rf"{role} Switch failed for {url}: OSError$"):
                    stream.read(1)
            assert stream.read_at(10, 1000) == BODY[10:1010]
            hook.broken = False
            origin.replace("/a", resource())
            assert stream.read() == BODY[40_000:]


# --- In the system they belong to


def test_a_callable_may_read_from_the_same_system(origin: Origin, system: ActorSystem) -> None:
    tokens = origin.add("/token", Resource(10, seed=1))

    def headers(url: str) -> dict[str, str]:
        with system.open(tokens) as stream:
            return {"X-Token": stream.read().hex()}

    with system.open(origin.add("/a", resource()), headers=headers) as stream:
        assert stream.read() == BODY
    assert origin.requests[-1].headers["x-token"] == body(1, 0, 10).hex()


@pytest.mark.parametrize("role", ["headers", "url_policy"])
def test_a_callable_may_stop_the_system(origin: Origin, role: str) -> None:
    left: list[list[str]] = []
    systems: list[ActorSystem] = []

    def stop(url: str) -> dict[str, str]:
        left.append(systems[0].stop(10.0))
        return {}

    settings: dict[str, Any] = {"url_policy": stop} if role == "url_policy" else {}
    options: dict[str, Any] = {} if settings else {"headers": stop}
    systems.append(ActorSystem.start(workers=1, **settings))
    with systems[0] as system, system.open(origin.add("/a", resource()), **options) as stream:
        with pytest.raises(SystemStopped):
            stream.read(1)
        assert system.wait(HANG)
    assert until(lambda: not [one for one in threading.enumerate() if one.name == "kithara-callables"])
    assert left == [[]]
    assert origin.requests == []


def test_a_redirect_to_a_long_url_ends_no_worker(origin: Origin) -> None:
    """The query of this one is twice as long when its values are hidden: more than a message holds."""
    url = origin.add("/a", Resource(always=Fault(redirect="/b?" + "&".join("x" * 20_000))))
    with ActorSystem.start(workers=1, url_policy=lambda url: "/b?" not in url) as system:
        before = system.workers()
        with system.open(url) as stream, pytest.raises(PolicyError, match=r"<lambda> refuses http.*/b\?…&…"):
            stream.read(1)
        assert system.workers() == before
    assert len(origin.requests) == 1


# --- Callables that hang


def test_callables_that_hang_are_no_matter_for_other_streams(origin: Origin, system: ActorSystem) -> None:
    """Four threads are all there are, until somebody gives up what they run."""
    gate = Gate()
    url = origin.add("/a", resource())
    streams = [system.open(url, headers=gate) for _ in range(4)]
    calls = [Call(stream.read, 1) for stream in streams]
    try:
        for _ in streams:
            assert gate.entered.acquire(timeout=HANG)
        with system.open(url, headers=lambda _: {"X-Token": "1"}) as other, waiting(other, other.read) as reading:
            for stream in streams:
                stream.cancel()
            assert reading.result() == BODY
    finally:
        gate.open.set()
        for call in calls:
            call.error()
        for stream in streams:
            stream.close()
    assert [seen.headers.get("x-token") for seen in origin.requests] == ["1"]


def test_many_streams_at_once_get_what_is_theirs(origin: Origin, system: ActorSystem) -> None:
    def headers(number: int) -> Callable[[str], dict[str, str]]:
        def give(url: str) -> dict[str, str]:
            if number % 5 == 0:
                raise SystemExit(number)
            return {"X-Token": str(number)}

        return give

    urls = [origin.add(f"/{number}", resource()) for number in range(40)]
    streams = [system.open(url, headers=headers(number)) for number, url in enumerate(urls)]
    calls = [Call(stream.read) for stream in streams]
    for number, call in enumerate(calls):
        if number % 5:
            assert call.result() == BODY
        else:
            assert isinstance(call.error(), PolicyError)
    for stream in streams:
        stream.close()
    assert {(seen.path, seen.headers["x-token"]) for seen in origin.requests} == {
        (f"/{number}", str(number)) for number in range(40) if number % 5
    }


HANGING = """
import sys, threading
from kithara_actors import ActorSystem
entered = threading.Event()
def hang(url):
    entered.set()
    threading.Event().wait()
system = ActorSystem.start(workers=1, url_policy=hang)
stream = system.open(sys.argv[1])
reader = threading.Thread(target=stream.read, daemon=True)
threading.excepthook = lambda _: None
reader.start()
assert entered.wait(60)
print("over")
"""


def test_a_program_ends_while_a_callable_hangs(origin: Origin) -> None:
    with running(HANGING, origin.add("/a", resource())) as host:
        code, output, errors = host.end()
        assert (code, output) == (0, "over\n")
        assert errors.strip().splitlines() == ["not ended within 8.0 s: callable (url_policy hang)"]
        assert gone(host)


def gone(host: Host) -> bool:
    return until(lambda: host.alive() == [])


# --- What is left


@pytest.mark.parametrize("policy", [None, lambda _: True])
def test_callables_go_with_their_stream(origin: Origin, policy: Callable[[str], object] | None) -> None:
    class Token:
        def __call__(self, url: str) -> dict[str, str]:
            return {"X-Token": "1"}

    url = origin.add("/a", resource(Fault(status=401)))
    with ActorSystem.start(workers=1, url_policy=policy) as system:
        tokens = [Token() for _ in range(20)]
        held = [weakref.ref(token) for token in tokens]
        for at, token in enumerate(tokens):
            with system.open(url, headers=token) as stream:
                if at % 2:
                    assert stream.read() == BODY
        del tokens, token
        assert until(lambda: (gc.collect(), not any(ref() for ref in held))[1])
