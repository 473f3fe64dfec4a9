"""Every fault of a server, in every phase of a transfer, of every kind of server: the right bytes or one typed error.

A cell is played through a whole system: origin, worker process, actors, reader. What each must come to is in
`http_matrix_faults`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from http_matrix_faults import FAMILIES
from http_matrix_kit import SECRET, UNTELLABLE, cells, differences
from stream_kit import HANG

from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Fault, Origin, Resource

pytestmark = pytest.mark.long


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        # A chain of redirects that comes back to its beginning.
        for hop in range(1, 6):
            following = f"/loop/{hop % 5 + 1}?token={SECRET}"
            server.add(f"/loop/{hop}", Resource(1, always=Fault(redirect=following)))
        yield server


@pytest.fixture
def system(request: pytest.FixtureRequest) -> Iterator[ActorSystem]:
    with ActorSystem.start(
        max_concurrent=512,
        max_per_host=512,
        max_retries=2,
        retry_base=0.01,
        retry_cap=0.02,
        inactivity_timeout=4.0 if "silence" in request.node.name else HANG,
        read_timeout=HANG,
        proxies={},
    ) as running:
        yield running


@pytest.mark.parametrize("family", FAMILIES)
def test_every_cell_is_the_right_bytes_or_its_one_error(origin: Origin, system: ActorSystem, family: str) -> None:
    count, found = differences(system, origin, FAMILIES[family])
    assert not found, f"{len(found)} of {count} cells:\n" + "\n".join(found)
    assert count >= 70


def test_what_no_client_can_tell_is_this_and_nothing_else() -> None:
    """Without a validator only the length tells one file from another, where no byte comes twice."""
    untold = {
        (cell.fault, cell.validator, cell.ranges)
        for rows in FAMILIES.values()
        for row in rows
        for cell in cells(row)
        if row.expect(cell) == UNTELLABLE
    }
    assert untold == {("replaced, same length", "none", True)}
