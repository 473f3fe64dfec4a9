"""Who gets which event, in what order, and what a slow or failing subscriber loses."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from actor_kit import CODEC
from hypothesis import given
from hypothesis import strategies as st

from actors.testing.fake_clock import FakeClock
from actors.testing.step import Probe, Step
from kithara_actors.actor.event_bus import EventBus
from kithara_actors.actor.publisher import Publisher
from kithara_actors.messages.commands import Deliver, PeerGone
from kithara_actors.messages.events import (
    EndOfStream,
    Envelope,
    Event,
    Lagged,
    ReadProgress,
    Scope,
    SystemStopping,
)
from kithara_actors.stream.journal import PILE
from kithara_actors.stream.subscription import Subscribers, Subscription, deliver_to

LONG = 20.0
SYSTEM = Scope()
ASSET, OTHER = Scope(1), Scope(2)
STREAM, SIBLING, ELSEWHERE = Scope(1, 10), Scope(1, 11), Scope(2, 20)


class House:
    """A bus fed by hand, with the real subscriptions around it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.table = Subscribers(self.clock)
        self.bus = Step(EventBus(self.table), CODEC)
        self.box = Probe("event_bus", CODEC)
        self.publisher = Publisher(self.box, self.table)

    def subscribe(self, scope: Scope = SYSTEM, capacity: int = 1024) -> Subscription:
        return self.table.create(scope, capacity)

    def publish(self, number: int, scope: Scope = SYSTEM) -> int:
        """How often the bus was told to deliver."""
        self.publisher.publish(EndOfStream(number), scope)
        told = self.box.take()
        self.bus.tell(*told)
        return len(told)


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.table.end_all()


def held(subscription: Subscription) -> list[Envelope]:
    """What is there now; does not wait."""
    envelopes = []
    while (envelope := subscription.get(0)) is not None:
        envelopes.append(envelope)
    return envelopes


def numbers(subscription: Subscription) -> list[int | str]:
    found: list[int | str] = []
    for envelope in held(subscription):
        match envelope.event:
            case EndOfStream(total):
                found.append(total)
            case Lagged(missed):
                found.append(f"lost {missed}")
    return found


def test_capacity_is_at_least_one(house: House) -> None:
    """BUS01"""
    wrong: list[object] = [0, -1, True, 1.5, "2"]
    for capacity in wrong:
        with pytest.raises(ValueError, match="capacity must be a whole number of at least 1"):
            house.table.create(SYSTEM, capacity)  # type: ignore[arg-type]
    assert not house.table.listening
    single = house.subscribe(capacity=1)
    house.publish(1)
    house.publish(2)
    assert numbers(single) == ["lost 1", 2]


def test_nobody_listens(house: House) -> None:
    """BUS02: nothing is even sent then."""
    house.publisher.publish(EndOfStream(1))
    assert house.box.take() == []
    house.bus.tell(Deliver())
    assert not house.publisher.listening
    subscription = house.subscribe()
    house.publish(2)
    subscription.close()
    house.publish(3)
    assert numbers(house.subscribe()) == []
    assert not house.table.journal._entries


def test_each_gets_all_from_its_subscription_on(house: House) -> None:
    """BUS02"""
    first = house.subscribe()
    house.publish(1)
    second = house.subscribe()
    house.publish(2)
    assert numbers(first) == [1, 2]
    assert numbers(second) == [2]


def test_what_was_published_before_is_not_for_who_subscribes_before_it_is_delivered(house: House) -> None:
    listening = house.subscribe()
    house.publish(1)
    assert house.table.journal._entries
    late = house.subscribe()
    house.publish(2)
    assert numbers(late) == [2]
    assert numbers(listening) == [1, 2]


def test_the_bus_is_told_of_a_pile_and_once_of_what_somebody_waits_for(house: House) -> None:
    """Whoever publishes wakes nobody twice before he has looked, and nobody at all where nobody waits."""
    subscription = house.subscribe()
    assert sum(house.publish(1) for _ in range(PILE - 1)) == 0
    assert house.publish(1) == 1
    assert not house.table.journal._entries
    woken: list[int] = []
    house.table.journal.wait(subscription, subscription._log, "me", lambda: woken.append(1))
    house.publisher.publish(EndOfStream(1))
    house.publisher.publish(EndOfStream(2))
    (told,) = house.box.take()
    assert woken == []
    house.bus.tell(told)
    assert woken == [1]
    assert house.publish(3) == 0
    house.bus.tell(Deliver())
    assert woken == [1]


def test_who_waits_for_other_events_is_not_woken_and_not_forgotten(house: House) -> None:
    asset, other = house.subscribe(ASSET), house.subscribe(OTHER)
    woken: list[str] = []
    house.table.journal.wait(asset, asset._log, "me", lambda: woken.append("asset"))
    house.table.journal.wait(other, other._log, "me", lambda: woken.append("other"))
    assert house.publish(1) == 1
    assert woken == []
    assert house.publish(2, ELSEWHERE) == 1
    assert woken == ["other"]
    assert house.publish(3, STREAM) == 1
    assert woken == ["other", "asset"]
    assert house.publish(4, STREAM) == 0


def test_a_bus_made_anew_delivers_what_the_last_one_was_told_of(house: House) -> None:
    """Who has told of an event does not tell again: its word may be lost with the incarnation that it crashed."""
    subscription = house.subscribe()
    woken: list[int] = []
    house.table.journal.wait(subscription, subscription._log, "me", lambda: woken.append(1))
    house.publisher.publish(EndOfStream(1))
    assert len(house.box.take()) == 1
    Step(EventBus(house.table), CODEC)
    assert woken == [1]
    assert Deliver.IDEMPOTENT


def test_scopes(house: House) -> None:
    """BUS03: a stream sees itself and its asset; an asset all of its streams; the system everything, in order."""
    scopes = [SYSTEM, ASSET, OTHER, STREAM, SIBLING, ELSEWHERE]
    subscribed = {scope: house.subscribe(scope) for scope in scopes}
    for number, scope in enumerate(scopes):
        house.publish(number, scope)
    got = {scope: numbers(subscription) for scope, subscription in subscribed.items()}
    assert got == {
        SYSTEM: [0, 1, 2, 3, 4, 5],
        ASSET: [1, 3, 4],
        OTHER: [2, 5],
        STREAM: [1, 3],
        SIBLING: [1, 4],
        ELSEWHERE: [2, 5],
    }


def test_a_slow_subscriber_finds_what_it_lost_in_its_place(house: House) -> None:
    """BUS04"""
    slow = house.subscribe(capacity=2)
    other = house.subscribe()
    for number in range(10):
        house.publish(number)
    assert numbers(slow) == ["lost 8", 8, 9]
    assert numbers(other) == list(range(10))
    house.publish(10)
    assert numbers(slow) == [10]


@given(st.lists(st.sampled_from(["publish", "publish", "get"]), max_size=60), st.integers(1, 5))
def test_what_is_lost_is_counted(steps: list[str], capacity: int) -> None:
    house = House()
    subscription = house.subscribe(capacity=capacity)
    published = seen = lost = 0
    last_seq = 0
    for step in [*steps, *["get"] * 70]:
        if step == "publish":
            house.publish(published)
            published += 1
            continue
        envelope = subscription.get(0)
        if envelope is None:
            continue
        assert envelope.seq > last_seq
        last_seq = envelope.seq
        match envelope.event:
            case Lagged(missed):
                lost += missed
            case EndOfStream(total):
                assert total == seen + lost
                seen += 1
    assert seen + lost == published


def test_envelopes_are_numbered_and_timed(house: House) -> None:
    """BUS05: also when the clock jumps back."""
    subscription = house.subscribe()
    times = []
    for step in (1.0, -50.0, 0.0, 60.0):
        house.clock.advance(step)
        house.publish(1, STREAM)
        times.append(house.clock.now)
    envelopes = held(subscription)
    assert [envelope.seq for envelope in envelopes] == [1, 2, 3, 4]
    assert [envelope.timestamp for envelope in envelopes] == [times[0], times[0], times[0], times[3]]
    assert {envelope.scope for envelope in envelopes} == {STREAM}


def test_numbers_rise_over_the_system_not_per_subscriber(house: House) -> None:
    stream, asset = house.subscribe(STREAM), house.subscribe(OTHER)
    for scope in (STREAM, OTHER, STREAM):
        house.publish(1, scope)
    assert [envelope.seq for envelope in held(stream)] == [1, 3]
    assert [envelope.seq for envelope in held(asset)] == [2]


def test_a_closed_subscription_gets_nothing_more_and_ends(house: House) -> None:
    with house.subscribe() as subscription:
        house.publish(1)
    house.publish(2)
    subscription.close()
    assert subscription.ended
    assert [envelope.event for envelope in subscription] == [EndOfStream(1)]
    assert subscription.get() is None
    assert not house.table.listening


def test_the_end_of_the_system_ends_all_after_what_they_hold(house: House) -> None:
    subscription = house.subscribe()
    house.publish(1)
    house.table.end_all()
    assert [envelope.event for envelope in subscription] == [EndOfStream(1)]
    late = house.subscribe()
    assert late.ended
    assert late.get() is None


def test_who_waits_is_woken_by_an_event_and_by_the_end(house: House) -> None:
    subscription = house.subscribe()
    got: list[Event | None] = []

    def wait() -> None:
        for _ in range(2):
            envelope = subscription.get(LONG)
            got.append(None if envelope is None else envelope.event)

    thread = threading.Thread(target=wait)
    thread.start()
    house.publish(1)
    subscription.close()
    thread.join(LONG)
    assert got == [EndOfStream(1), None]


def test_a_get_has_a_limit(house: House) -> None:
    assert house.subscribe().get(0.001) is None


def test_a_callback_that_raises_harms_nobody(house: House, caplog: pytest.LogCaptureFixture) -> None:
    subscription = house.subscribe()
    seen: list[int] = []

    def callback(envelope: Envelope) -> None:
        assert isinstance(envelope.event, EndOfStream)
        seen.append(envelope.event.total)
        raise ValueError("the application's own mistake")

    thread = deliver_to(subscription, callback)
    other = house.subscribe()
    for number in range(3):
        house.publish(number)
    house.table.end_all()
    thread.join(LONG)
    assert not thread.is_alive()
    assert seen == [0, 1, 2]
    assert caplog.text.count("an event callback failed at EndOfStream") == 1
    assert numbers(other) == [0, 1, 2]


def test_a_command_for_another_is_refused(house: House) -> None:
    with pytest.raises(TypeError, match="EventBus does not handle PeerGone"):
        house.bus.tell(PeerGone("x"))


def test_publishing_to_a_bus_that_is_gone_is_harmless(house: House) -> None:
    house.subscribe()
    house.box.alive = False
    house.publisher.publish(SystemStopping())
    house.publisher.publish(ReadProgress(1, None), STREAM)
    assert house.box.take() == []
