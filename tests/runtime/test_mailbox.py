"""An envelope is delivered or handed back, exactly once, whatever races."""

from __future__ import annotations

import gc
import threading

import pykka
import pytest
from pykka._envelope import Envelope

from actors.actor.mailbox import Mailbox

LONG = 20.0


def test_first_in_first_out() -> None:
    box = Mailbox()
    assert box.empty()
    for number in range(5):
        box.put(number)
    assert not box.empty()
    assert len(box) == 5
    assert [box.get() for _ in range(5)] == [(None, number) for number in range(5)]


def test_close_hands_back_what_was_queued_and_refuses_the_rest() -> None:
    box = Mailbox()
    box.put(1)
    box.put(2)
    assert box.close() == [1, 2]
    assert box.close() == []
    with pytest.raises(pykka.ActorDeadError, match="not queued"):
        box.put(3)
    assert box.empty()


def test_who_waits_for_an_answer_is_told_in_that_way_that_it_is_closed() -> None:
    """A stop that comes too late must not raise: the host stops its actors one by one, in one loop."""
    box = Mailbox()
    box.close()
    for message in ("a question", pykka.messages._ActorStop()):  # type: ignore[attr-defined]
        future: pykka.Future[None] = pykka.ThreadingFuture()
        box.put(Envelope(message, reply_to=future))
        with pytest.raises(pykka.ActorDeadError, match="not queued"):
            future.get(timeout=LONG)
    with pytest.raises(pykka.ActorDeadError, match="not queued"):
        box.put(Envelope("a tell"))


def test_get_waits_for_a_put() -> None:
    box = Mailbox()
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(box.get()))
    thread.start()
    box.put("here")
    thread.join(LONG)
    assert got == [(None, "here")]


def test_what_races_a_close_is_queued_or_refused_never_both() -> None:
    for _ in range(50):
        box = Mailbox()
        gate = threading.Barrier(5)
        accepted: list[list[int]] = [[] for _ in range(4)]

        def put(
            into: int, box: Mailbox = box, gate: threading.Barrier = gate, accepted: list[list[int]] = accepted
        ) -> None:
            gate.wait(LONG)
            for number in range(50):
                try:
                    box.put(into * 1000 + number)
                except pykka.ActorDeadError:
                    return
                accepted[into].append(into * 1000 + number)

        threads = [threading.Thread(target=put, args=(into,)) for into in range(4)]
        for thread in threads:
            thread.start()
        gate.wait(LONG)
        left = box.close()
        for thread in threads:
            thread.join(LONG)
        assert sorted(left) == sorted(number for numbers in accepted for number in numbers)
        assert box.empty()


def test_a_put_from_a_finalizer_inside_a_put_does_not_deadlock() -> None:
    """The collector may run a finalizer that sends while this thread is inside the same mailbox."""
    box = Mailbox()

    class Sends:
        def __del__(self) -> None:
            box.put("from a finalizer")

    class Collects:
        """Stands for a queue during whose `put` the collector runs."""

        def __init__(self) -> None:
            self.inner = box._queue

        def put(self, item: object) -> None:
            box._queue = self.inner
            gc.collect()
            self.inner.put(item)

    cycle: list[object] = [Sends()]
    cycle.append(cycle)
    del cycle
    box._queue = Collects()  # type: ignore[assignment]
    thread = threading.Thread(target=box.put, args=("first",), daemon=True)
    thread.start()
    thread.join(LONG)
    assert not thread.is_alive()
    assert [box.get(), box.get()] == [(None, "from a finalizer"), (None, "first")]


def test_a_finalizer_during_close_is_refused() -> None:
    box = Mailbox()
    refused: list[bool] = []

    class Sends:
        def __del__(self) -> None:
            try:
                box.put("late")
            except pykka.ActorDeadError:
                refused.append(True)

    box.put(1)
    inner = box._queue

    class Collects:
        def empty(self) -> bool:
            nonlocal_cycle()
            return inner.empty()

        def get(self) -> object:
            return inner.get()

    def nonlocal_cycle() -> None:
        cycle: list[object] = [Sends()]
        cycle.append(cycle)
        del cycle
        gc.collect()

    box._queue = Collects()  # type: ignore[assignment]
    assert box.close() == [1]
    assert refused == [True, True]
