"""What has landed is worth keeping: it is served after the origin died, and never asked for again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from relay_kit import Relay
from stream_kit import HANG, answered, asked, sent_in_all, waiting, watching

from kithara_actors.errors import ProtocolError, RetryExhausted
from kithara_actors.events import RequestRetrying
from kithara_actors.stream.reader import Stream
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Fault, Origin, Resource, body

SIZE = 200_000
LANDED = 70_000


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


def read_on(stream: Stream, way: str, got: bytearray) -> None:
    """Adds piece after piece to `got`: those that landed, then one byte more."""
    while True:
        size = min(7_000, LANDED - len(got)) or 1
        if way == "readinto":
            buffer = bytearray(size)
            piece = bytes(buffer[: stream.readinto(buffer)])
        elif way == "read_at":
            piece = stream.read_at(len(got), size)
        else:
            piece = stream.read1(7_000) if way == "read1" else stream.read(size)
        assert piece, "an end instead of an error"
        got += piece


@pytest.mark.parametrize("way", ["read", "read1", "readinto", "read_at"])
def test_a_reader_gets_all_that_landed_before_the_origin_died_and_then_an_error(origin: Origin, way: str) -> None:
    url = origin.add("/a.mp3", Resource(SIZE, script=[Fault(stall_after=LANDED)]))
    with ActorSystem.start(max_retries=2, retry_base=0.01, proxies={}) as system, system.open(url) as stream:
        assert stream.read_at(LANDED - 1, 1) == body(0, LANDED - 1, LANDED)
        origin.close()
        got = bytearray()
        with pytest.raises(RetryExhausted) as caught:
            read_on(stream, way, got)
        assert got == body(0, 0, LANDED)
        assert caught.value.cause == "ConnectError"
        # As often as one likes, in both directions.
        with pytest.raises(RetryExhausted):
            stream.read_at(LANDED, 1)
        assert stream.read_at(0, LANDED) == got
        assert stream.length == SIZE


def test_a_network_that_is_gone_for_two_seconds_is_survived_with_default_settings(origin: Origin) -> None:
    origin.add("/a.mp3", Resource(SIZE, script=[Fault(stall_after=LANDED)]))
    with (
        Relay(origin.base) as relay,
        ActorSystem.start(proxies={}) as system,
        watching(system) as watch,
        system.open(relay.base + "/a.mp3") as stream,
        waiting(stream, stream.read) as call,
    ):
        assert stream.read_at(LANDED - 1, 1) == body(0, LANDED - 1, LANDED)
        relay.cut()
        two_seconds = threading.Timer(2.0, lambda: None)
        two_seconds.start()
        watch.until(lambda _: len(watch.of(RequestRetrying)) >= 3)
        two_seconds.join(HANG)
        relay.mend()
        assert call.result(HANG) == body(0, 0, SIZE)
        assert [seen.range for seen in asked(origin, "/a.mp3")] == [(0, None), (LANDED, None)]


@pytest.mark.parametrize("phase", ["first", "seek"])
@pytest.mark.parametrize("fault", ["cut", "short", "stall", "worker"])
def test_no_byte_that_landed_is_asked_for_again(origin: Origin, fault: str, phase: str) -> None:
    broken = {
        "cut": Fault(cut_after=LANDED),
        "short": Fault(short_by=SIZE - LANDED),
        "stall": Fault(stall_after=LANDED),
        "worker": Fault(stall_after=LANDED),
    }[fault]
    at = 0 if phase == "first" else 3 * SIZE
    # A seek cuts what runs; its own request meets the fault.
    script: list[Fault | None] = [broken] if phase == "first" else [Fault(stall_after=10), broken]
    size = at + SIZE
    url = origin.add("/a.mp3", Resource(size, script=script))
    limit = 2.0 if fault == "stall" else HANG
    with (
        ActorSystem.start(workers=1, retry_base=0.01, inactivity_timeout=limit, proxies={}) as system,
        system.open(url) as stream,
    ):
        assert stream.read(10) == body(0, 0, 10)
        stream.seek(at)
        with waiting(stream, stream.read) as call:
            if fault == "worker":
                answered(origin, "/a.mp3", len(script), LANDED)
                assert stream.read_at(at + LANDED - 1, 1) == body(0, at + LANDED - 1, at + LANDED)
                os.kill(next(iter(system.workers().values())), signal.SIGKILL)
            assert call.result(HANG) == body(0, at, size)
        assert stream.read_at(0, size) == body(0, 0, size)
        seen = asked(origin, "/a.mp3")
        where = [each.range[0] for each in seen if each.range is not None]
        assert where[: len(script) + 1] == ([0, LANDED] if phase == "first" else [0, at, at + LANDED])
        assert sent_in_all(origin, size) == size


def test_a_body_that_goes_past_its_interval_fails_the_asset_and_adds_nothing(origin: Origin) -> None:
    url = origin.add("/a.mp3", Resource(SIZE, always=Fault(no_length=True, extra=b"and more")))
    with ActorSystem.start(proxies={}) as system, system.open(url) as stream:
        with pytest.raises(ProtocolError):
            stream.wait_complete(HANG)
        with pytest.raises(ProtocolError):
            stream.read()
        assert len(asked(origin, "/a.mp3")) == 1
