"""A meter lets bytes through at its rate and no faster, wastes nothing, and never makes anybody wait without end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kithara_actors.logic import pacing
from kithara_actors.logic.pacing import BURST, cost, piece, receive_buffer, refund, reserve, turn

SECOND = 1_000_000_000
MIB = 1024 * 1024

rates = st.floats(1.0, 1e12)


@dataclass
class Client:
    """Somebody who receives: what is reserved, from when on, and how much of it has not come yet."""

    due: int = 0
    reserved: int = 0
    left: int = 0


class Meter:
    """A meter, its clients, and a log of what came when."""

    def __init__(self, rate: float, clients: int) -> None:
        self.rate = rate
        self.tat = 0
        self.now = 7 * SECOND
        self.clients = [Client() for _ in range(clients)]
        self.came: list[tuple[int, int]] = []
        self.longest = 0

    def reserve(self, client: Client, most: int) -> None:
        client.reserved = client.left = count = piece(self.tat, self.now, self.rate, most)
        self.tat, client.due = reserve(self.tat, self.now, count, self.rate)
        self.longest = max(self.longest, count)

    def receive(self, client: Client, share: float) -> None:
        """Part of what is allowed, if it is its turn."""
        if client.left and turn(client.due, self.now) == 0:
            count = max(1, int(client.left * share))
            client.left -= count
            self.came.append((self.now, count))

    def leave(self, client: Client) -> None:
        self.tat = refund(self.tat, client.reserved, client.reserved - client.left, self.rate)
        client.left = 0

    def total(self, since: int = 0, until: int | None = None) -> int:
        return sum(count for at, count in self.came if since <= at and (until is None or at <= until))


# Who; what: let time go on, receive what there is (for which all of it is reserved first), reserve only, leave. Most
# of the time the clock stands still and all take what they get.
steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.one_of(
            st.tuples(st.just("receive"), st.sampled_from([1.0, 1.0, 0.5, 0.1])),
            st.tuples(st.just("receive"), st.just(1.0)),
            st.tuples(st.just("wait"), st.sampled_from([0.01, 0.05, 0.051, 0.2, 5.0])),
            st.tuples(st.sampled_from(["reserve", "leave"]), st.just(0.0)),
        ),
    ),
    min_size=20,
    max_size=120,
)


def play(rate: float, script: list[tuple[int, tuple[str, float]]]) -> Meter:
    meter = Meter(rate, 3)
    for who, (what, much) in script:
        client = meter.clients[who]
        match what:
            case "wait":
                meter.now += int(much * SECOND)
            case "reserve" if client.left == 0:
                meter.reserve(client, MIB)
            case "receive":
                if client.left == 0:
                    meter.reserve(client, MIB)
                meter.receive(client, much)
            case "leave":
                meter.leave(client)
    return meter


@given(rate=rates, script=steps)
def test_never_faster_than_the_rate_whoever_comes_when(
    rate: float, script: list[tuple[int, tuple[str, float]]]
) -> None:
    meter = play(rate, script)
    began = 7 * SECOND
    for at, _ in meter.came:
        allowed = rate * (at - began + BURST) / SECOND + meter.longest
        # Rounding of costs favours the meter; that of the float below, a byte in 2**40 or so, is nobody's.
        assert meter.total(until=at) <= allowed * (1 + 1e-9) + 1


@given(rate=rates, script=steps)
def test_no_interval_sees_more_than_what_its_clients_may_hold(
    rate: float, script: list[tuple[int, tuple[str, float]]]
) -> None:
    """Who reserved and was kept waiting by the network may receive late: one piece each, and one that was left."""
    meter = play(rate, script)
    held = 2 * len(meter.clients) * meter.longest
    for index, (first, _) in enumerate(meter.came):
        for last, _ in meter.came[index:]:
            assert meter.total(first, last) <= (rate * (last - first + BURST) / SECOND + held) * (1 + 1e-9) + 1


@given(rate=st.floats(1.0, 1e9), clients=st.integers(1, 40))
def test_all_of_the_rate_is_used_in_equal_shares_while_anybody_wants_it(rate: float, clients: int) -> None:
    meter = Meter(rate, clients)
    shares = [0] * clients
    while len(meter.came) < 30 * clients:
        for who, client in enumerate(meter.clients):
            if client.left == 0:
                meter.reserve(client, MIB)
            if turn(client.due, meter.now) == 0:
                shares[who] += client.left
                meter.receive(client, 1.0)
        meter.now += min(turn(client.due, meter.now) for client in meter.clients)
    took = (meter.now - 7 * SECOND) / SECOND
    # What comes in the first moment is beside the rate; after that no time is lost but for the rounding.
    assert meter.total() >= rate * took * (1 - 1e-6)
    assert max(shares) - min(shares) <= 2 * meter.longest


@given(rate=st.floats(1e3, 1e9), share=st.floats(0.05, 0.9))
def test_what_one_leaves_is_there_for_the_other(rate: float, share: float) -> None:
    """One reserves, receives a part of it and leaves, again and again; the other misses nothing."""
    meter = Meter(rate, 2)
    fickle, steady = meter.clients
    while meter.now < 17 * SECOND:
        for client in meter.clients:
            if client.left == 0:
                meter.reserve(client, MIB)
        if turn(fickle.due, meter.now) == 0:
            meter.receive(fickle, share)
            meter.leave(fickle)
        meter.receive(steady, 1.0)
        meter.now += max(1, turn(steady.due, meter.now)) if steady.left else 1
    unreceived = sum(client.left for client in meter.clients)
    assert meter.total() + unreceived >= rate * 10 * 0.99


@given(rate=rates, clients=st.integers(1, 1000))
def test_nobody_waits_longer_than_it_takes_everybody_once(rate: float, clients: int) -> None:
    """The clock stands still: all reserve at the same moment, and each has a turn of its own."""
    meter = Meter(rate, clients)
    for client in meter.clients:
        meter.reserve(client, MIB)
    turns = [client.due for client in meter.clients]
    assert turns == sorted(turns)
    longest = max(50_000_000, cost(1, rate)) + 1
    assert max(turns) - meter.now <= clients * longest
    assert meter.tat < 1 << 64


@given(tat=st.integers(0, 1 << 62), now=st.integers(0, 1 << 62), rate=rates, most=st.integers(1, 1 << 40))
def test_a_piece_is_between_one_byte_and_a_twentieth_of_a_second(tat: int, now: int, rate: float, most: int) -> None:
    count = piece(tat, now, rate, most)
    assert 1 <= count <= most
    assert count == 1 or count <= rate * 0.05 * (1 + 1e-9)


def test_pieces_are_shorter_the_more_wait() -> None:
    of: Callable[[int], int] = lambda queue: piece(queue, 0, 1e6, MIB)  # noqa: E731
    assert [of(0), of(50_000_000), of(100_000_000), of(500_000_000), of(10 * SECOND)] == [
        50_000,
        50_000,
        25_000,
        5_000,
        5_000,
    ]


@given(count=st.integers(0, 1 << 50), used=st.integers(0, 1 << 50), rate=rates, tat=st.integers(0, 1 << 63))
def test_what_is_given_back_is_never_more_than_was_taken(count: int, used: int, rate: float, tat: int) -> None:
    used = min(used, count)
    after, _ = reserve(tat, 0, count, rate)
    assert tat <= refund(after, count, used, rate) <= after
    assert refund(after, count, used, rate) == tat + cost(used, rate)


@pytest.mark.parametrize("rate", [1.0, 1e300, float(1 << 60), 0.1])
def test_any_rate_has_a_finite_cost(rate: float) -> None:
    assert cost(0, rate) == 0
    assert 1 <= cost(1, rate) <= 10 * SECOND
    assert cost(MIB, rate) >= cost(1, rate)
    assert piece(0, 0, rate, MIB) >= 1


def test_after_a_pause_only_the_tolerance_comes_at_once() -> None:
    tat, due = reserve(0, 100 * SECOND, 1000, 1000.0)
    assert (tat, due, turn(due, 100 * SECOND)) == (101 * SECOND, 100 * SECOND, 0)
    _, due = reserve(tat, 100 * SECOND, 1000, 1000.0)
    assert turn(due, 100 * SECOND) == SECOND - BURST


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        ((None, None), None),
        ((1.0, None), 4096),
        ((None, 20_000.0), 10_000),
        ((100_000.0, 20_000.0), 10_000),
        ((131_072.0, None), 65_536),
        ((131_074.0, 1e9), None),
    ],
)
def test_sockets_buffer_little_under_low_limits(limits: tuple[float | None, ...], size: int | None) -> None:
    assert receive_buffer(*limits) == size


def test_the_bounds_are_those_of_the_documentation() -> None:
    """`Config.max_rate` speaks of a tenth of a second: the tolerance and the largest piece."""
    assert (pacing.BURST + cost(piece(0, 0, 1e6, MIB), 1e6)) * 10 == SECOND
