"""One attempt under a limit: every byte that comes is paid for, by whichever way, and no wait outlasts its use."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_worker_http import CERTIFICATE, KEY, WAIT, Desk, Got, Scripted, full

from actors.clock import monotonic
from actors.memory.words import SharedWords
from kithara_actors.errors import Cancelled
from kithara_actors.logic.response import Asked
from kithara_actors.testing.origin import Fault, Origin, Resource, body
from kithara_actors.worker import body as byte_path
from kithara_actors.worker import framing
from kithara_actors.worker.body import BodyBroken, Sink
from kithara_actors.worker.http import Attempt
from kithara_actors.worker.pace import Meter, Pace, PacedFraming, Pacing

MIB = 1 << 20
BYTE_A_NANOSECOND = 1e9
"""A rate at which a meter that began at zero, by a clock that stands there, shows how many bytes were paid for."""


@pytest.fixture
def desk() -> Iterator[Desk]:
    one = Desk()
    with one.stack:
        yield one


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as one:
        yield one


@pytest.fixture
def words() -> Iterator[SharedWords]:
    made = SharedWords(4)
    yield made
    made.close()


@pytest.fixture(params=["splice", "bounce", "public"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the ways that a body can take."""
    name: str = request.param
    monkeypatch.setattr(byte_path, "_SPLICE_FROM", 1 if name == "splice" else 1 << 60)
    if name == "public":
        monkeypatch.setattr(byte_path, "framing_of", lambda response, *_: framing._Public(response))
    return name


def counted(got: Got, words: SharedWords) -> Got:
    """Every byte that `got` receives shows in the first word."""
    got.attempt.pace = Pace([Meter(words, 0, BYTE_A_NANOSECOND)], got.attempt, lambda: 0)
    return got


def limited(got: Got, words: SharedWords, rate: float, *more: float) -> Got:
    meters = [Meter(words, index, each) for index, each in enumerate((rate, *more))]
    got.attempt.pace = Pace(meters, got.attempt)
    return got


# --- What is paid for


@pytest.mark.parametrize("size", [0, 1, 5_000, 3 * MIB + 17])
@pytest.mark.parametrize("shape", ["length", "chunked", "close"])
def test_every_byte_of_a_body_is_paid_for_and_no_other(
    desk: Desk, origin: Origin, words: SharedWords, way: str, shape: str, size: int
) -> None:
    url = origin.add("/a", Resource(size=size, seed=3, chunked=shape == "chunked", length=shape != "close"))
    got = counted(desk.get(url, Asked(0, None, ranged=False)), words)
    assert got.run().end == size
    assert got.bytes(0, size + 1) == body(3, 0, size)
    assert words[0] == size
    assert desk.get(url, Asked(0, None, ranged=False)).run().reused is (shape != "close")


def test_what_a_resume_has_to_skip_is_paid_for(desk: Desk, origin: Origin, words: SharedWords, way: str) -> None:
    url = origin.add("/a", Resource(size=2 * MIB, ranges=False))
    got = counted(desk.get(url, Asked(700_000, None)), words)
    assert got.run().end == 2 * MIB
    assert got.bytes(700_000, 2 * MIB) == body(0, 700_000, 2 * MIB)
    assert words[0] == 2 * MIB


def test_a_range_costs_its_own_bytes(desk: Desk, origin: Origin, words: SharedWords, way: str) -> None:
    got = counted(desk.get(origin.add("/a", Resource(size=2 * MIB)), Asked(1000, 1_500_000, total=2 * MIB)), words)
    assert got.run().end == 1_500_000
    assert words[0] == 1_499_000


def test_what_is_read_to_keep_a_connection_is_paid_for(desk: Desk, origin: Origin, words: SharedWords) -> None:
    there = origin.add("/there", Resource(size=9000))
    moved = origin.add("/moved", Resource(size=5, always=Fault(redirect=there)))
    got = counted(desk.get(moved), words)
    assert got.run().end == 9000
    paid_for_the_redirect = words[0] - 9000
    assert 0 < paid_for_the_redirect < 1000
    whole = origin.add("/whole", Resource(size=9000, ranges=False))
    words[0] = 0
    assert counted(desk.get(whole, Asked(100, 900)), words).run().end == 900
    assert words[0] == 9000


def test_what_did_not_come_is_given_back(desk: Desk, origin: Origin, words: SharedWords) -> None:
    url = origin.add("/a", Resource(size=2 * MIB, always=Fault(cut_after=300_001)))
    got = counted(desk.get(url), words)
    with pytest.raises(BodyBroken):
        got.run()
    assert words[0] == got.sink.landed == 300_001


def test_tls_is_paid_for_in_bytes_of_the_body(desk: Desk, words: SharedWords, tmp_path: Path) -> None:
    for name, text in (("cert.pem", CERTIFICATE), ("key.pem", KEY)):
        (tmp_path / name).write_text(text)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    data = body(1, 0, 2 * MIB)
    with Scripted(lambda sock: server.answers(full(data))(sock), tls=tls) as server:
        via = desk.connect(verify=str(tmp_path / "cert.pem"))
        got = counted(desk.get(server.url, Asked(0, None, ranged=False), via), words)
        assert got.run().end == len(data)
        assert words[0] == len(data)
        assert got.bytes(0, len(data)) == data


def test_both_limits_are_paid_and_the_lower_one_decides(desk: Desk, origin: Origin, words: SharedWords) -> None:
    url = origin.add("/a", Resource(size=2 * MIB))
    got = desk.get(url)
    got.attempt.pace = Pace(
        [Meter(words, 0, BYTE_A_NANOSECOND), Meter(words, 2, BYTE_A_NANOSECOND / 2)], got.attempt, lambda: 0
    )
    got.run()
    assert [words[index] for index in range(4)] == [2 * MIB, 0, 4 * MIB, 0]
    allowed, seconds = limited(desk.get(url), words, 1e6, 1e4).attempt.pace.allow(MIB)  # type: ignore[union-attr]
    assert (allowed, seconds) == (500, 0.0)


# --- How it comes


@pytest.mark.parametrize("known", [True, False])
def test_pieces_are_no_larger_than_a_twentieth_of_a_second(
    desk: Desk, origin: Origin, words: SharedWords, way: str, known: bool
) -> None:
    url = origin.add("/a", Resource(size=MIB, length=known))
    got = limited(desk.get(url, Asked(0, None, ranged=False)), words, 4e6)
    began = monotonic()
    got.run()
    steps = [after - before for before, after in zip([0, *got.published], got.published, strict=False)]
    assert max(steps) <= 200_000
    # All but the tolerance and the first piece.
    assert monotonic() - began >= (MIB - 400_000) / 4e6
    assert got.bytes(0, MIB) == body(0, 0, MIB)


def test_a_limit_is_no_stall(desk: Desk, origin: Origin, words: SharedWords) -> None:
    """A byte a second for one who tolerates no such gap in what the network brings."""
    via = desk.connect(inactivity_timeout=0.9)
    got = limited(desk.get(origin.add("/a", Resource(size=3)), via=via), words, 1.0)
    began = monotonic()
    assert got.run().end == 3
    assert monotonic() - began >= 1.9
    assert got.published == [1, 2, 3]


def test_large_pieces_are_spliced(
    desk: Desk, origin: Origin, words: SharedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled = []
    pull = Sink.pull

    def spy(sink: Sink, source: int, at: int, count: int, seconds: float) -> int | None:
        moved = pull(sink, source, at, count, seconds)
        pulled.append(moved or 0)
        return moved

    monkeypatch.setattr(Sink, "pull", spy)
    got = limited(desk.get(origin.add("/a", Resource(size=8 * MIB))), words, 1e9)
    assert got.run().end == 8 * MIB
    assert sum(pulled) > 4 * MIB
    assert max(pulled) <= MIB
    assert got.bytes(0, 8 * MIB) == body(0, 0, 8 * MIB)


def test_a_body_read_through_something_else_is_paced_and_paid_for(
    desk: Desk, origin: Origin, words: SharedWords
) -> None:
    url = origin.add("/a", Resource(size=100_000, seed=3))
    attempt = Attempt()
    response = desk.transport.open(attempt, url, {})
    pace = Pace([Meter(words, 0, 1e5)], attempt)
    paced = PacedFraming(framing.framing_of(response, WAIT), pace)
    began = monotonic()
    pieces = []
    while data := paced.take(MIB):
        pieces.append(bytes(data))
    assert monotonic() - began >= 0.9
    assert b"".join(pieces) == body(3, 0, 100_000)
    assert max(map(len, pieces)) <= 5000
    assert (paced.ended, paced.left, paced.unread) == (True, 0, 0)
    pace.settle()
    byte_path.close(response, attempt)


def test_a_cancel_ends_the_wait_of_what_is_read_through_something_else(
    desk: Desk, origin: Origin, words: SharedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    fully_reserved(words)
    got = desk.get(origin.add("/a", Resource(size=1000)))
    waits = Waits(got, monkeypatch)
    response = desk.transport.open(got.attempt, origin.url("/a"), {})
    paced = PacedFraming(framing.framing_of(response, WAIT), Pace([Meter(words, 0, 1.0)], got.attempt))
    canceller = threading.Thread(target=lambda: waits.begun.wait(WAIT) and got.attempt.cancel())
    canceller.start()
    with pytest.raises(Cancelled):
        paced.take(10)
    canceller.join(WAIT)
    byte_path.close(response, got.attempt)


# --- While it waits


class Waits:
    """Tells when the attempt begins to wait for its meter."""

    def __init__(self, got: Got, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        self.pipes: list[Any] = []
        wait = Pace.wait

        def spy(pace: Pace, seconds: float) -> None:
            self.pipes.append(got.sink._pipe)
            self.begun.set()
            wait(pace, seconds)

        monkeypatch.setattr(Pace, "wait", spy)


def fully_reserved(words: SharedWords) -> None:
    """Others have reserved the next three hundred years."""
    words[0] = 1 << 63


@pytest.mark.parametrize("resumed", [False, True])
def test_a_cancel_ends_the_wait(
    desk: Desk, origin: Origin, words: SharedWords, monkeypatch: pytest.MonkeyPatch, resumed: bool
) -> None:
    fully_reserved(words)
    url = origin.add("/a", Resource(size=MIB, ranges=False))
    got = limited(desk.get(url, Asked(1000 if resumed else 0, None)), words, 1.0)
    waits = Waits(got, monkeypatch)
    got.start()
    assert waits.begun.wait(WAIT)
    got.attempt.cancel()
    got.join()
    assert isinstance(got.error, Cancelled)
    # And what it had reserved is there for others.
    assert words[0] == 1 << 63


def test_a_wait_ends_when_another_takes_over(
    desk: Desk, origin: Origin, words: SharedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    fully_reserved(words)
    got = limited(desk.get(origin.add("/a", Resource(size=MIB))), words, 1.0)
    stop: list[int] = []
    got.sink = Sink(got.fd, got.publish, stop=lambda: stop[0] if stop else None)
    waits = Waits(got, monkeypatch)
    got.start()
    assert waits.begun.wait(WAIT)
    stop.append(0)
    got.join()
    assert got.end is not None
    assert (got.end.end, got.sink.stopped, words[0]) == (0, True, 1 << 63)


def test_no_pipe_is_held_during_a_long_wait(
    desk: Desk, origin: Origin, words: SharedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byte_path, "_SPLICE_FROM", 1)
    got = limited(desk.get(origin.add("/a", Resource(size=70_000))), words, 500_000.0)
    moved = []
    pull = Sink.pull
    monkeypatch.setattr(Sink, "pull", lambda *args: moved.append(True) or pull(*args))
    waits = Waits(got, monkeypatch)
    # Somebody else reserves as much again after each of its pieces.
    reserve = Pace.took
    monkeypatch.setattr(Pace, "took", lambda pace, count: (reserve(pace, count), reserve(pace, 30_000)))
    got.run()
    assert moved
    assert waits.pipes
    assert set(waits.pipes) == {None}


def test_a_pace_of_a_cancelled_attempt_never_waits(words: SharedWords) -> None:
    attempt = Attempt()
    attempt.cancel()
    with pytest.raises(Cancelled):
        Pace([Meter(words, 0, 1.0)], attempt).wait(WAIT)


# --- The meters of a worker


def test_the_meters_are_mapped_once(words: SharedWords) -> None:
    pacing = Pacing(1000.0, 100.0)
    with pytest.raises(RuntimeError, match="without meters"):
        pacing.pace(0, Attempt())
    given = [os.dup(words.fd) for _ in range(3)]
    for fd in given:
        pacing.take_over(fd)
    opened = []
    for fd in given:
        try:
            os.fstat(fd)
            opened.append(fd)
        except OSError:
            pass
    assert opened == given[:1]
    pacing.pace(2, Attempt()).took(50)
    assert words[0] > 0
    assert words[2] - words[0] in range(400_000_000, 500_000_000)
    pacing.close()
    pacing.close()


@pytest.mark.parametrize(
    ("limits", "paid"), [((1000.0, None), [True, False]), ((None, 1000.0), [False, True]), ((9.0, 9.0), [True, True])]
)
def test_only_what_is_limited_is_counted(
    words: SharedWords, limits: tuple[float | None, float | None], paid: list[bool]
) -> None:
    pacing = Pacing(*limits)
    pacing.take_over(os.dup(words.fd))
    pacing.pace(1, Attempt()).took(10)
    assert [words[index] > 0 for index in range(2)] == paid
    pacing.close()


def test_sockets_of_a_limited_worker_buffer_little(desk: Desk, origin: Origin) -> None:
    sizes: Callable[[Any], int] = lambda via: buffered(via, url)  # noqa: E731
    url = origin.add("/a", Resource(size=10))
    assert sizes(desk.connect(receive_buffer=10_000)) == 20_000
    assert sizes(desk.connect()) > 20_000


def buffered(via: Any, url: str) -> int:
    import socket

    attempt = Attempt()
    response = via.open(attempt, url, {})
    with socket.socket(fileno=os.dup(attempt.fileno())) as sock:
        size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    byte_path.close(response, attempt)
    return size
