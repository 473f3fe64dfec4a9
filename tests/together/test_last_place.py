"""Ranges go to where redirects have led, without asking for the way again; and servers that refuse every Range."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stream_kit import watching

from kithara_actors import ActorSystem, ResourceChanged, StatusError
from kithara_actors.events import RequestCompleted, RequestEnqueued, RequestRetrying
from kithara_actors.testing.origin import Fault, Origin, Resource, body

SIZE = 1_000_000
BODY = body(5, 0, SIZE)
SEEKS = (800_000, 400_000, 900_000)


@pytest.fixture
def door() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def store() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=1, retry_base=0.01, max_retries=2, proxies={}) as running:
        yield running


def resource(*script: Fault | None, always: Fault | None = None, **how: object) -> Resource:
    return Resource(SIZE, seed=5, etag='"v"', script=list(script), always=always, **how)  # type: ignore[arg-type]


def test_a_seek_behind_a_redirect_is_one_request(door: Origin, store: Origin, system: ActorSystem) -> None:
    place = store.add("/signed", resource())
    url = door.add("/a", Resource(always=Fault(redirect=f"{place}?signature=1")))
    headers = {"Authorization": "Bearer 1", "Accept": "audio/mpeg"}
    with system.open(url, headers=headers, look_ahead=0) as stream:
        for at in SEEKS:
            stream.seek(at)
            assert stream.read(1000) == BODY[at : at + 1000]
    assert [seen.headers.get("authorization") for seen in door.requests] == ["Bearer 1"]
    assert len(store.requests) == 1 + len(SEEKS)
    assert {seen.headers.get("authorization") for seen in store.requests} == {None}
    assert {seen.headers.get("accept") for seen in store.requests} == {"audio/mpeg"}
    assert {seen.target for seen in store.requests} == {"/signed?signature=1"}


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_place_that_is_gone_is_asked_for_anew(door: Origin, store: Origin, system: ActorSystem, status: int) -> None:
    old = store.add("/old", resource(None, always=Fault(status=status)))
    new = store.add("/new", resource())
    url = door.add("/a", Resource(script=[Fault(redirect=old)], always=Fault(redirect=new)))
    with watching(system) as watch, system.open(url, look_ahead=0) as stream:
        for at in SEEKS:
            stream.seek(at)
            assert stream.read(1000) == BODY[at : at + 1000]
            # Bytes are faster than the word of where they came from.
            mine = watch.first(RequestEnqueued, lambda event, at=at: event.start == at).request_id
            watch.first(RequestCompleted, lambda event, mine=mine: event.request_id == mine)
        retrying = watch.of(RequestRetrying)
    assert [(event.delay, event.cause) for event in retrying] == [(0.0, "RETURNED")]
    assert len(door.requests) == 2
    assert [seen.path for seen in store.requests] == ["/old", "/old", *["/new"] * len(SEEKS)]


def test_what_the_original_refuses_too_is_refused(door: Origin, store: Origin, system: ActorSystem) -> None:
    place = store.add("/old", resource(None, always=Fault(status=410)))
    url = door.add("/a", Resource(script=[Fault(redirect=place)], always=Fault(status=404)))
    with system.open(url, look_ahead=0) as stream:
        assert stream.read_at(0, 1000) == BODY[:1000]
        with pytest.raises(StatusError) as caught:
            stream.read_at(SEEKS[0], 1000)
        assert caught.value.status == 404
    assert (len(door.requests), len(store.requests)) == (2, 2)


def test_a_place_that_is_down_is_left_for_the_original(door: Origin, store: Origin, system: ActorSystem) -> None:
    down = store.add("/down", resource(Fault(cut_after=100_000), always=Fault(reset_after=0)))
    up = store.add("/up", resource())
    url = door.add("/a", Resource(script=[Fault(redirect=down)], always=Fault(redirect=up)))
    with system.open(url) as stream:
        assert stream.read() == BODY
    assert [seen.path for seen in store.requests] == ["/down", "/down", "/up"]
    assert store.requests[-1].headers["range"] == "bytes=100000-"


@pytest.mark.parametrize("status", [400, 405, 406, 416, 501])
def test_a_server_that_refuses_ranges_is_asked_without_from_then_on(
    store: Origin, system: ActorSystem, status: int
) -> None:
    cut = Fault(cut_after=400_000)
    url = store.add("/a", resource(None, cut, None, ranges=False, range_status=status))
    with system.open(url) as stream:
        assert stream.read() == BODY
    assert [seen.headers.get("range") for seen in store.requests] == ["bytes=0-", None, None]


def test_a_later_request_of_the_asset_asks_it_without_too(store: Origin, system: ActorSystem) -> None:
    script = [None, Fault(cut_after=100_000), *[Fault(status=503)] * 3]
    url = store.add("/a", resource(*script, ranges=False, range_status=405))
    with system.open(url) as stream:
        assert stream.read(100_000) == BODY[:100_000]
        with pytest.raises(OSError, match="gave up after 3 attempts"):
            stream.read(1)
        assert stream.read() == BODY[100_000:]
    assert [seen.headers.get("range") for seen in store.requests[1:]] == [None] * (len(store.requests) - 1)


@pytest.mark.parametrize("refuses", [None, 405])
def test_a_file_that_was_replaced_is_told_by_its_bytes(store: Origin, system: ActorSystem, refuses: int | None) -> None:
    """Without validators, and of the same length: what comes again is not what was held."""
    other = Resource(SIZE, seed=6, etag=None, ranges=False, range_status=refuses)
    first: list[Fault | None] = [None] if refuses else []
    script = [*first, Fault(cut_after=400_000), Fault(entity=other)]
    url = store.add("/a", Resource(SIZE, seed=5, etag=None, ranges=False, range_status=refuses, script=script))
    with system.open(url) as stream:
        assert stream.read(1000) == BODY[:1000]
        with pytest.raises(ResourceChanged):
            stream.read()
