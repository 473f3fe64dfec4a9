"""Collector and EventBus that begin anew, fed by hand: nobody waits in vain, and no event is heard twice."""

from __future__ import annotations

import pytest
from actor_kit import CODEC, begin_call

from actors.testing.step import Neighbours, Probe, Step
from kithara_actors.actor.collector import Collector
from kithara_actors.actor.event_bus import EventBus
from kithara_actors.actor.publisher import Publisher
from kithara_actors.assets.collecting import WaitingTable
from kithara_actors.assets.content import ContentTable
from kithara_actors.messages.commands import (
    CancelFetch,
    Collect,
    CollectedHead,
    Deliver,
    Fetch,
    FetchCancelled,
    FetchDone,
    FetchOver,
)
from kithara_actors.messages.events import EndOfStream, Envelope, Scope
from kithara_actors.stream.event_log import EventLog
from kithara_actors.stream.subscription import Subscribers
from kithara_actors.values import CancelReason, RequestId

ONE, TWO, THREE = RequestId(1), RequestId(2), RequestId(3)


def test_a_new_collector_asks_again_for_what_somebody_waits_for() -> None:
    contents = ContentTable()
    table = WaitingTable(contents)
    around = Neighbours(CODEC, "registry")
    one, two = begin_call(table, 1), begin_call(table, 2)
    table.abandon(two)
    step = Step(Collector(table, around.find, lambda: THREE), CODEC)
    assert around["registry"].take() == [
        Fetch(one.spec),
        Fetch(two.spec),
        CancelFetch(TWO, CancelReason.PEER_CANCEL),
    ]
    step.tell(Collect((ONE,)))
    assert around["registry"].take() == [Fetch(one.spec)]
    step.tell(FetchOver(ONE))  # how it ended is known to nobody: once more, under another id
    (again,) = around["registry"].take()
    assert isinstance(again, Fetch)
    assert (again.spec.request, again.spec.content) == (THREE, one.spec.content)
    step.tell(CollectedHead(THREE, 200, False, 5, "http://one/", ()), FetchDone(THREE, 5, None))
    assert (one.ended.is_set(), one.size, one.failure) == (True, 5, None)
    step.tell(FetchCancelled(TWO, 0, CancelReason.PEER_CANCEL))
    for waiting in (one, two):
        waiting.content.release()


def test_an_answer_whose_head_was_lost_is_asked_for_once_more() -> None:
    contents = ContentTable()
    table = WaitingTable(contents)
    around = Neighbours(CODEC, "registry")
    step = Step(Collector(table, around.find, lambda: TWO), CODEC)
    waiting = begin_call(table, 1)
    step.tell(FetchDone(ONE, 5, None))
    (again,) = around["registry"].take()
    assert isinstance(again, Fetch)
    assert again.spec.request == TWO
    step.tell(CollectedHead(TWO, 200, False, 5, "http://one/", ()), FetchDone(TWO, 5, None))
    assert waiting.size == 5
    waiting.content.release()


# --- EventBus


def test_a_call_that_is_abandoned_and_asked_for_once_more_is_ended() -> None:
    contents = ContentTable()
    table = WaitingTable(contents)
    around = Neighbours(CODEC, "registry")
    step = Step(Collector(table, around.find, lambda: TWO), CODEC)
    waiting = begin_call(table, 1)
    table.abandon(waiting)
    step.tell(FetchOver(ONE))
    assert around["registry"].take() == [Fetch(waiting.spec), CancelFetch(TWO, CancelReason.PEER_CANCEL)]
    step.tell(FetchCancelled(TWO, 0, CancelReason.PEER_CANCEL), FetchOver(TWO))
    assert around["registry"].take() == []
    waiting.content.release()


def test_a_delivery_that_was_interrupted_goes_on_and_each_event_is_heard_once() -> None:
    """By the death of the bus, or by a Ctrl-C in a reader that had found something new to deliver."""

    class Interrupted(BaseException):
        pass

    class Crashing(EventLog):
        def add(self, envelope: Envelope) -> None:
            super().add(envelope)
            if envelope.event == EndOfStream(1) and not crashed:
                crashed.append(envelope)
                raise Interrupted

    crashed: list[Envelope] = []
    table = Subscribers()
    publisher = Publisher(Probe("event_bus", CODEC), table)
    bus = Step(EventBus(table), CODEC)
    before, asset = table.create(Scope(), 10), table.create(Scope(7), 10)
    for subscription in (before, asset):
        log = subscription._log
        log.__class__ = Crashing
    for at in range(3):
        publisher.publish(EndOfStream(at), Scope(7))
    with pytest.raises(Interrupted):
        bus.tell(Deliver())
    Step(EventBus(table), CODEC)
    for subscription in (before, asset):
        got = [subscription.get(0.0) for _ in range(3)]
        assert [(each.seq, each.event) for each in got if each] == [(at + 1, EndOfStream(at)) for at in range(3)]
        assert subscription.get(0.0) is None
