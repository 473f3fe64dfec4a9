"""Where rates are limited, every attempt carries the meters and the number of its origin's, for as long as it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest
from actor_kit import CODEC, FakePool, Published, begun, issued, request_spec

from actors.memory.words import SharedWords
from actors.testing.fake_clock import FakeClock, FakeTimers
from actors.testing.step import Neighbours
from kithara_actors.actor.callables import Callables
from kithara_actors.actor.downloader import Downloader
from kithara_actors.actor.enquiries import Enquiries
from kithara_actors.actor.meters import Meters
from kithara_actors.assets.content import ContentTable
from kithara_actors.errors import Failure
from kithara_actors.logic.fetch import FetchBook
from kithara_actors.logic.retry import RetryPolicy
from kithara_actors.messages.commands import Admitted, WorkerGone, WorkerUp
from kithara_actors.messages.worker import AttemptEnded, RunAttempt
from kithara_actors.values import RequestId

ONE, TWO = "http://one:80", "https://two:443"


class Pool(FakePool):
    """Out of descriptors when told so."""

    full = False

    def send(self, worker: int, frame: bytes, fds: Sequence[int] = ()) -> bool:
        if self.full:
            raise OSError(24, "Too many open files")
        return super().send(worker, frame, fds)


class House:
    def __init__(self, meters: Meters | None) -> None:
        self.meters = meters
        clock = FakeClock()
        timers = FakeTimers(clock)
        around = Neighbours(CODEC, "registry", "source-1", "downloader")
        self.pool = Pool(CODEC)
        self.contents = ContentTable()
        self.content = self.contents.create()
        self.step = begun(
            Downloader(
                FetchBook(RetryPolicy(max_retries=2)),
                self.pool,
                self.contents,
                around.find,
                timers,
                Published(),
                2,
                clock,
                lambda: 1.0,
                requests=issued(),
                enquiries=Enquiries(Callables(), None, around.find, timers),
                meters=meters,
            ),
            around,
        )

    def up(self, worker: int) -> None:
        self.pool.up.add(worker)
        self.step.tell(WorkerUp(worker, 4000 + worker))

    def run(self, request: int, origin: str) -> int | None:
        """Admit a request: the number of the meter that its attempt was given."""
        spec = request_spec(request, content=self.content.id, lane=request, origin=origin)
        self.content.block.open_lane(spec.lane, spec.generation, spec.start)
        self.step.tell(Admitted(spec, 0.25, again=False))
        return self.sent()[-1].meter

    def sent(self) -> list[RunAttempt]:
        return [frame for _, frame in self.pool.take() if isinstance(frame, RunAttempt)]

    def end(self, request: int, attempt: int, failure: Failure | None = None) -> None:
        self.step.tell(
            AttemptEnded(
                RequestId(request), attempt, 2000, failure is None, 2000, False, cancelled=False, failure=failure
            )
        )


@pytest.fixture
def house() -> Iterator[House]:
    meters = Meters(2)
    made = House(meters)
    made.up(1)
    yield made
    made.contents.discard(made.content)
    meters.close()


def idle(house: House) -> bool:
    """Whether no meter is in use: then two new origins find one each."""
    assert house.meters is not None
    numbers = {house.meters.take("new-a"), house.meters.take("new-b")}
    house.meters.give_back("new-a")
    house.meters.give_back("new-b")
    return numbers == {1, 2}


def test_without_limits_there_is_nothing_to_carry() -> None:
    house = House(None)
    house.up(1)
    assert house.run(1, ONE) is None
    content = house.content
    assert house.pool.descriptors == [(content.fd, content.block.fd, content.wake.fd)]
    house.contents.discard(content)


def test_the_total_alone_has_the_number_nought() -> None:
    meters = Meters(0)
    house = House(meters)
    house.up(1)
    assert [house.run(1, ONE), house.run(2, TWO)] == [0, 0]
    assert [fds[:-3] for fds in house.pool.descriptors] == [(meters.fd,)] * 2
    house.end(1, 1)
    house.contents.discard(house.content)
    meters.close()


def test_requests_to_one_origin_share_a_meter(house: House) -> None:
    assert [house.run(1, ONE), house.run(2, TWO), house.run(3, ONE)] == [1, 2, 1]
    assert house.meters is not None
    assert {fds[:-3] for fds in house.pool.descriptors} == {(house.meters.fd,)}


def test_an_origin_keeps_its_meter_between_requests(house: House) -> None:
    assert house.run(1, ONE) == 1
    house.end(1, 1)
    assert house.run(2, TWO) == 2
    assert house.run(3, ONE) == 1


def test_a_meter_that_changes_hands_owes_nothing(house: House) -> None:
    assert house.meters is not None
    with_meters = SharedWords(fd=os.dup(house.meters.fd))
    house.run(1, ONE)
    house.run(2, TWO)
    with_meters[0] = with_meters[1] = with_meters[2] = 77
    house.end(1, 1)
    assert house.run(3, "http://three:80") == 1
    assert [with_meters[index] for index in range(3)] == [77, 0, 77]
    with_meters.close()


@pytest.mark.parametrize(
    "failure", [None, Failure("StatusError", "404", status=404), Failure("ConnectError", "", True)]
)
def test_a_meter_is_given_back_at_the_end(house: House, failure: Failure | None) -> None:
    house.run(1, ONE)
    house.run(2, TWO)
    house.end(1, 1, failure)
    house.end(2, 2, failure)
    assert idle(house)


def test_a_lost_worker_gives_its_meters_back(house: House) -> None:
    house.up(2)
    house.run(1, ONE)
    house.run(2, TWO)
    house.pool.up.remove(1)
    house.step.tell(WorkerGone(1, 4001, "killed", 0))
    again = house.sent()
    # The request goes on elsewhere, under the same meter.
    assert [order.meter for order in again] == [1]
    house.end(1, 3)
    house.end(2, 2)
    assert idle(house)


def test_an_attempt_that_could_not_be_sent_holds_no_meter(house: House) -> None:
    house.pool.full = True
    spec = request_spec(1, content=house.content.id, origin=ONE)
    house.step.tell(Admitted(spec, 0.0, again=False))
    assert idle(house)


def test_a_worker_that_was_gone_already_holds_no_meter(house: House) -> None:
    house.up(2)
    house.pool.up = set()
    house.step.tell(Admitted(request_spec(1, content=house.content.id, origin=ONE), 0.0, again=False))
    assert house.sent() == []
    assert idle(house)
