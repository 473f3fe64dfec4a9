"""What a lost worker had taken up of all that it was sent, as the Downloader counts it: the rest is not to blame."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from test_beginning_anew import Yard
from ward_kit import EXTRA, Ward

from kithara_actors.messages.commands import CancelAdmitted, Readmitted, WorkerGone
from kithara_actors.messages.records import InHand
from kithara_actors.messages.worker import AttemptsInFlight, InFlight
from kithara_actors.values import CancelReason, RequestId


@pytest.fixture
def ward() -> Iterator[Ward]:
    made = Ward()
    yield made
    made.contents.discard(made.content)


def test_all_that_a_worker_is_sent_is_counted(ward: Ward) -> None:
    """Orders and cuts alike: it had taken three of four frames, and the fourth is the second order."""
    ward.up(1)
    ward.admit(1)
    ward.admit(3)
    ward.tell(CancelAdmitted(RequestId(3), CancelReason.EPOCH_CANCEL))
    ward.end(3, 2, at=1000, cancelled=True)
    ward.admit(2)
    ward.pool.take()
    ward.lose(1, untaken=1)
    ward.up(2)
    assert ward.taken() == [(2, 2, 1000)]
    ward.enlisted()
    assert ward.taken() == [(EXTRA, 1, 1000)]


def test_nobody_is_to_blame_where_nothing_was_taken(ward: Ward) -> None:
    """Its order waits for it in the socket: it may be sent to worker after worker that dies before it looks."""
    for worker in range(1, 6):
        ward.up(worker)
        if worker == 1:
            ward.admit(1)
        assert ward.taken() == [(worker, 1, 1000)]
        ward.lose(worker, untaken=1)
    assert ward.pool.enlisted == 0


def test_what_a_worker_reports_it_has_taken() -> None:
    """A Downloader that has begun anew does not know which frame it was."""
    yard = Yard()
    attempt = yard.admit()
    yard.anew()
    flights = (InFlight(RequestId(1), attempt, 1000),)
    yard.step.tell(
        Readmitted((InHand(yard.spec()),)), AttemptsInFlight(1, flights, True), AttemptsInFlight(2, (), True)
    )
    # Whatever the count says.
    yard.step.tell(WorkerGone(1, 4001, "killed", 0))
    ((_, order),) = yard.pool.take()
    assert (order.spec.request, order.attempt) == (RequestId(1), 50)
    yard.pool.up.discard(2)
    yard.step.tell(WorkerGone(2, 4002, "killed", yard.pool.frames[2]))
    assert yard.pool.take() == []
    assert [failed.failure.kind for failed in yard.source.take()] == ["PoisonRequest"]
    yard.contents.discard(yard.content)
