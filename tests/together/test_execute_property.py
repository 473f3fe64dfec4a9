"""For any faults with one good answer left in the budget, a one-off request brings the body of that answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_kit import HANG

from kithara_actors import ActorSystem, FetchCommand, RetryExhausted
from kithara_actors.testing.origin import Fault, Origin, Resource, body

SIZE = 40_000
RETRIES = 2


@pytest.fixture(scope="module")
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=1, retry_base=0.001, max_retries=RETRIES, inactivity_timeout=HANG) as running:
        yield running


CUTS = st.integers(0, SIZE - 1)
BENDS = st.sampled_from([{}, {"chunked": True}, {"encoding": "gzip"}, {"encoding": "gzip", "chunked": True}])
FAULTS = st.one_of(
    st.sampled_from([408, 429, 500, 502, 503, 504]).map(lambda status: {"status": status}),
    st.builds(lambda cut, bend: {"cut_after": cut, **bend}, CUTS, BENDS),
    st.builds(lambda cut, bend: {"reset_after": cut, **bend}, CUTS, BENDS),
    st.builds(lambda short: {"short_by": short}, st.integers(1, SIZE)),
)
SHAPES = st.sampled_from([{}, {"chunked": True}, {"no_length": True}])
CODINGS = st.sampled_from([{}, {"encoding": "gzip"}])
RANGES = st.one_of(st.none(), st.tuples(st.integers(0, SIZE - 1), st.just(None)), st.just((5, 2_000)))


def fits(fault: dict[str, Any], asked: Any) -> dict[str, Any]:
    """The fault as a server can have it that was asked for a range: nothing is compressed then."""
    bent = {name: value for name, value in fault.items() if asked is None or name != "encoding"}
    length = SIZE if asked is None else (SIZE if asked[1] is None else asked[1] + 1) - asked[0]
    for name in ("cut_after", "reset_after"):
        if name in bent:
            bent[name] = bent[name] % length
    return bent


@given(
    faults=st.lists(FAULTS, max_size=RETRIES),
    shape=SHAPES,
    coding=CODINGS,
    asked=RANGES,
    versions=st.lists(st.integers(1, 3), min_size=RETRIES, max_size=RETRIES),
)
@settings(max_examples=40)
def test_the_bytes_are_those_of_the_last_answer(
    system: ActorSystem,
    faults: list[dict[str, Any]],
    shape: dict[str, Any],
    coding: dict[str, Any],
    asked: Any,
    versions: list[int],
) -> None:
    script: list[Fault | None] = [
        Fault(entity=Resource(SIZE, seed=seed), **fits(fault, asked))
        for fault, seed in zip(faults, versions, strict=False)
    ]
    with Origin() as origin:
        resource = Resource(SIZE, seed=9, script=script, always=Fault(**shape, **({} if asked else coding)))
        result = system.execute(FetchCommand.get(origin.add("/a", resource), range=asked), HANG)
        assert len(origin.requests) == len(faults) + 1
    start, end = (0, SIZE) if asked is None else (asked[0], SIZE if asked[1] is None else asked[1] + 1)
    assert result.body == body(9, start, end)
    assert result.partial == (asked is not None)
    assert result.headers["ETag"] == resource.etag


@given(fault=FAULTS, asked=RANGES)
@settings(max_examples=15)
def test_without_a_good_answer_the_budget_is_spent(system: ActorSystem, fault: dict[str, Any], asked: Any) -> None:
    with Origin() as origin:
        url = origin.add("/a", Resource(SIZE, always=Fault(**fits(fault, asked))))
        with pytest.raises(RetryExhausted):
            system.execute(FetchCommand.get(url, range=asked), HANG)
        assert len(origin.requests) == RETRIES + 1
