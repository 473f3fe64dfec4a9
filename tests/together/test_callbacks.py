"""When the callback of a subscription is called no more."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from host_kit import until

from kithara_actors import ActorSystem
from kithara_actors.events import EndOfStream, Envelope
from kithara_actors.stream.subscription import Subscription

LONG = 30.0


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=1) as running:
        yield running


def publish(system: ActorSystem) -> None:
    """Three events, all of which have been delivered when this returns."""
    with system.subscribe() as other:
        for number in range(3):
            system._assembly._publisher.publish(EndOfStream(number))
        for _ in range(3):
            assert other.get(LONG) is not None


def ended(subscription: Subscription) -> None:
    """Wait for the thread of its callback."""
    for thread in threading.enumerate():
        if thread.name == f"kithara-subscriber-{subscription.id}":
            thread.join(LONG)
            assert not thread.is_alive()


def test_a_callback_is_not_called_once_it_is_closed_whatever_is_unread(system: ActorSystem) -> None:
    gate = threading.Event()
    seen: list[int] = []

    def callback(envelope: Envelope) -> None:
        assert gate.wait(LONG)
        seen.append(envelope.seq)
        subscription.close()

    subscription = system.subscribe(callback=callback)
    publish(system)
    gate.set()
    ended(subscription)
    assert len(seen) == 1
    assert subscription.closed


def test_a_callback_that_ends_its_thread_is_unsubscribed(system: ActorSystem) -> None:
    def callback(envelope: Envelope) -> None:
        raise SystemExit

    subscription = system.subscribe(callback=callback)
    publish(system)
    ended(subscription)
    assert subscription.closed
    assert subscription.ended


def test_without_a_thread_for_its_callback_nobody_is_subscribed(
    system: ActorSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="new thread"):
            system.subscribe(callback=print)
    assert until(lambda: not system._assembly._subscribers.listening, LONG)
