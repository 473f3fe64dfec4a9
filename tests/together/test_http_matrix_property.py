"""Whatever passes, in whatever order: with one good answer left in the budget the bytes are those of the body."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stream_kit import HANG, asked

from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Fault, Origin, Resource, body

RETRIES = 4
DATE = "Mon, 05 Jan 2026 10:00:00 GMT"

counts = st.integers(0, 70_000)

passing = st.one_of(
    st.sampled_from([408, 429, 500, 501, 502, 503, 504]).map(lambda status: Fault(status=status)),
    counts.map(lambda count: Fault(cut_after=count)),
    counts.map(lambda count: Fault(cut_after=count, chunked=True)),
    counts.map(lambda count: Fault(reset_after=count)),
    st.integers(1, 70_000).map(lambda count: Fault(short_by=count)),
    st.sampled_from([b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Type: au"]).map(lambda raw: Fault(raw=raw)),
    st.just(Fault(status=503, headers={"Retry-After": "0"})),
    st.just(Fault(redirect="http://127.0.0.1:1/")),
)
"""Attempts that fail for a reason that passes."""

odd = st.sampled_from([Fault(chunked=True), Fault(redirect="#here"), Fault(delay=0.001), Fault(extra=b"\r\n")])
"""Answers that are good, though unusual. One redirect takes the next answer of the script as well."""

resources = st.builds(
    Resource,
    size=st.integers(0, 70_000),
    seed=st.integers(0, 3),
    ranges=st.booleans(),
    chunked=st.booleans(),
).flatmap(
    lambda plain: st.sampled_from(
        [plain, replace(plain, etag=None), replace(plain, etag='W/"a"'), replace(plain, etag=None, last_modified=DATE)]
    )
)


def test_any_sequence_of_faults_with_a_good_answer_in_the_budget_gives_the_body() -> None:
    numbers = count()

    @example(Resource(0, chunked=True), [Fault(cut_after=0), Fault(cut_after=0)], None)
    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(resources, st.lists(passing, max_size=RETRIES), st.none() | odd)
    def holds(resource: Resource, faults: list[Fault], last: Fault | None) -> None:
        path = f"/{next(numbers)}"
        url = origin.add(path, replace(resource, script=[*faults, last]))
        with system.open(url) as stream:
            assert stream.read() == body(resource.seed, 0, resource.size)
            assert stream.read(1) == b""
            assert stream.length == resource.size
            assert stream.error is None
        seen = asked(origin, path)
        # A refused range is asked for again without; every other attempt begins where the one before it ended.
        starts = [each.range[0] for each in seen if each.range is not None]
        assert starts == sorted(starts)
        if resource.ranges and not any(fault.reset_after is not None for fault in faults):
            landed = 0
            for each in seen:
                if each.range is not None:
                    assert each.range[0] == landed
                if each.status == 206:
                    landed += each.sent
                elif each.status == 200:
                    landed = max(landed, each.sent)

    with (
        Origin() as origin,
        ActorSystem.start(
            max_retries=RETRIES,
            retry_base=0.001,
            retry_cap=0.002,
            inactivity_timeout=HANG,
            read_timeout=HANG,
            proxies={},
        ) as system,
    ):
        holds()
