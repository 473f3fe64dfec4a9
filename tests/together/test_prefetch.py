"""Prefetches against a real origin: what they fetch, with whom they share it, and how they end."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_kit import until
from prefetch_kit import SHARE, count_held, held_prefetches
from stream_kit import HANG, Call, answered, asked, settle, waiting, watching

from kithara_actors.errors import (
    Cancelled,
    ConnectError,
    InvalidContentType,
    PolicyError,
    RetryExhausted,
    StatusError,
    SystemStopped,
)
from kithara_actors.messages.events import RequestCancelled, RequestEnqueued, RequestStarted
from kithara_actors.policies import public_only
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Fault, Origin, Resource, body
from kithara_actors.values import CancelReason, Phase, Priority

SIZE = 300_000
RATE = 1_000_000.0


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=2, retry_base=0.01) as running:
        yield running


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


def test_what_was_prefetched_is_read_without_another_request(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", Resource(SIZE, seed=1))
    with system.prefetch(url) as handle:
        assert handle.wait(HANG)
        assert (handle.phase, handle.length, handle.buffered, handle.error) == (Phase.COMPLETE, SIZE, SIZE, None)
        with system.open(url) as stream:
            assert stream.read() == body(1, 0, SIZE)
    with system.open(url) as stream, system.prefetch(url) as again:
        assert again.wait(HANG)
        assert stream.read() == body(1, 0, SIZE)
    assert len(asked(origin, "/a")) == 1
    assert handle.wait(0)  # closed, and complete all the same


def test_in_memory_an_asset_stays_as_long_as_its_handle_is_open(origin: Origin) -> None:
    urls = [origin.add(f"/{number}", Resource(SIZE, seed=number)) for number in range(3)]
    with ActorSystem.start(workers=1, memory_limit=SIZE + 1000) as system:
        handles = []
        for url in urls:  # one after the other: the memory has room for the last
            handles.append(system.prefetch(url))
            assert handles[-1].wait(HANG)
        with system.open(urls[0], subscribe=True) as stream, system.prefetch(urls[0]) as other:
            assert stream.events is not None
            opened = stream.events.get(HANG)
            assert opened is not None
            assert (opened.event.total, opened.event.cached) == (SIZE, True)  # type: ignore[attr-defined]
            handles[0].close()
            assert other.wait(HANG)
            assert other.length == SIZE
            assert stream.read() == body(0, 0, SIZE)
        assert len(asked(origin, "/0")) == 1
        with system.open(urls[0]) as stream:
            assert stream.read() == body(0, 0, SIZE)  # nobody has it any more
        assert len(asked(origin, "/0")) == 2
        for handle in handles:
            handle.close()


def test_on_disk_a_complete_prefetch_holds_nothing(origin: Origin, tmp_path: Path) -> None:
    urls = [origin.add(f"/{number}", Resource(2000, seed=number)) for number in range(12)]
    with ActorSystem.start(workers=1, cache_dir=tmp_path) as system:
        before = len(list(Path("/proc/self/fd").iterdir()))
        handles = [system.prefetch(url) for url in urls]
        assert all(handle.wait(HANG) for handle in handles)
        settle()
        assert len(list(Path("/proc/self/fd").iterdir())) - before < len(urls)
        assert [handle.length for handle in handles] == [2000] * 12
        with system.open(urls[5]) as stream:
            assert stream.read() == body(5, 0, 2000)
        for handle in handles:
            handle.close()
    assert len(origin.requests) == 12


def test_a_stream_joins_the_download_and_it_goes_on_when_the_stream_closes(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", Resource(SIZE, seed=1, rate=RATE))
    with watching(system) as watch, system.prefetch(url) as handle:
        assert watch.first(RequestEnqueued).priority is Priority.LOW
        answered(origin, "/a", 1)
        with system.open(url) as stream:
            assert stream.read(50_000) == body(1, 0, 50_000)
            assert 50_000 <= handle.buffered <= SIZE
        assert handle.wait(HANG)
        assert len(watch.of(RequestEnqueued)) == 1
    assert [seen.range for seen in asked(origin, "/a")] == [(0, None)]


def test_a_stream_that_reads_elsewhere_goes_first_and_no_byte_is_fetched_twice(
    origin: Origin, system: ActorSystem
) -> None:
    size = 2_000_000
    gate = threading.Event()
    url = origin.add("/a", Resource(size, seed=1, script=[Fault(hold=gate, hold_after=200_000)]))
    with system.prefetch(url) as handle:
        answered(origin, "/a", 1)
        with system.open(url, look_ahead=0) as stream:
            assert stream.read(1)  # so that something has landed
            stream.seek(1_500_000)
            assert stream.read(100_000) == body(1, 1_500_000, 1_600_000)
            assert handle.buffered < size
        gate.set()
        assert handle.wait(HANG)
        with system.open(url) as stream:
            assert stream.read() == body(1, 0, size)
    ranges = [seen.range for seen in asked(origin, "/a")]
    assert (1_500_000, 1_599_999) in ranges
    starts = [first for first, _ in filter(None, ranges)]
    assert len(set(starts)) == len(starts), f"asked twice: {ranges}"


def test_to_cancel_a_handle_changes_nothing_for_a_stream(origin: Origin, system: ActorSystem) -> None:
    gate = threading.Event()
    url = origin.add("/a", Resource(SIZE, seed=1, script=[Fault(hold=gate, hold_after=50_000)]))
    handle = system.prefetch(url)
    with system.open(url) as stream:
        assert stream.read(1000) == body(1, 0, 1000)
        waits = Call(handle.wait)
        handle.cancel()
        assert isinstance(waits.error(), Cancelled)
        assert isinstance(handle.error, Cancelled)
        gate.set()
        assert stream.read() == body(1, 1000, SIZE)
    with pytest.raises(Cancelled):
        handle.wait()
    handle.close()
    assert len(asked(origin, "/a")) == 1


def test_the_last_to_leave_ends_the_download(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", Resource(SIZE, always=Fault(stall_after=10_000)))
    with watching(system) as watch:
        handles = [system.prefetch(url), system.prefetch(url)]
        stream = system.open(url)
        assert stream.read(5000)
        handles[0].cancel()
        stream.close()
        assert handles[1].buffered > 0
        assert not watch.of(RequestCancelled)
        handles[1].close()
        assert watch.first(RequestCancelled).reason is CancelReason.PEER_CANCEL
    settle()
    assert len(asked(origin, "/a")) == 1


def test_one_that_was_never_started_ends_before_its_start_or_was_never_asked_for(
    origin: Origin, system: ActorSystem
) -> None:
    with watching(system) as watch, held_prefetches(origin, system, SHARE):
        url = origin.add("/next", Resource(1000))
        urls = [origin.add(f"/later/{number}", Resource(1000)) for number in range(40)]
        handle = system.prefetch(url)
        later = [system.prefetch(each) for each in urls]
        enqueued = watch.first(RequestEnqueued, lambda event: event.url.endswith("/next")).request_id
        handle.cancel()
        end = watch.first(RequestCancelled)
        assert (end.request_id, end.reason, end.bytes) == (enqueued, CancelReason.BEFORE_START, 0)
        for each in reversed(later):
            each.cancel()
        assert not later[-1].wait(0) if later[-1].error is None else isinstance(later[-1].error, Cancelled)
    assert not asked(origin, "/next")
    assert not [seen for seen in origin.requests if seen.path.startswith("/later")]


def test_a_stream_starts_though_five_hundred_prefetches_wait_for_its_host(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/song", Resource(SIZE, seed=7))
    with held_prefetches(origin, system, 500) as handles:
        with system.open(url) as stream:
            assert stream.read() == body(7, 0, SIZE)
            assert stream.wait_complete(HANG)
        assert all(handle.phase is Phase.INIT for handle in handles)
        assert count_held(origin.requests) == SHARE
        # They wait without a Source, which would cost a thread and descriptors.
        assert len(system.stats().actors) < 25


@pytest.mark.parametrize("number", [SHARE - 1, SHARE, 40], ids=["running", "queued", "waiting for its turn"])
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_stream_of_an_asset_whose_prefetch_waits_does_not_wait(
    origin: Origin, system: ActorSystem, number: int, ranges: bool
) -> None:
    gate = threading.Event()
    with held_prefetches(origin, system, SHARE - 1), watching(system) as watch:
        script = [Fault(hold=gate)] if number < SHARE else []
        mine = origin.add("/mine", Resource(SIZE, seed=3, ranges=ranges, script=script))
        before = [
            system.prefetch(origin.add(f"/before/{n}", Resource(10, always=Fault(hold=gate))))
            for n in range(number - SHARE + 1)
        ]
        handle = system.prefetch(mine)
        if number < 40:
            watch.first(RequestEnqueued, lambda event: event.url.endswith("/mine"))
        with system.open(mine) as stream:
            reader = Call(stream.read)
            if script:
                answered(origin, "/mine", 1)
                gate.set()
            assert reader.result() == body(3, 0, SIZE)
            assert handle.wait(HANG)
        assert len(asked(origin, "/mine")) == 1
        started = watch.of(RequestStarted)
        gate.set()
        for each in (handle, *before):
            each.close()
        assert len(started) <= SHARE + 1


def test_a_prefetch_that_a_reader_waits_for_leaves_its_place_to_another(origin: Origin, system: ActorSystem) -> None:
    mine = origin.add("/mine", Resource(SIZE, seed=3, script=[Fault(stall_after=10_000)]))
    with held_prefetches(origin, system, SHARE - 1), system.prefetch(mine) as handle:
        assert until(lambda: handle.buffered == 10_000, HANG)
        with (
            system.prefetch(origin.add("/next", Resource(1000))) as other,
            system.open(mine, look_ahead=0) as stream,
        ):
            assert stream.read(10_000) == body(3, 0, 10_000)
            assert not other.wait(0)
            with waiting(stream, stream.read, 1000):
                assert other.wait(HANG)
        assert len(asked(origin, "/mine")) == 1


def test_errors_come_at_wait_and_stay(origin: Origin) -> None:
    html = origin.add("/html", Resource(SIZE, always=Fault(html=True)))
    missing = origin.add("/missing", Resource(SIZE, always=Fault(status=404)))
    down = origin.add("/down", Resource(SIZE, always=Fault(status=503)))
    cut = origin.add("/cut", Resource(SIZE, always=Fault(cut_after=1000)))
    with ActorSystem.start(workers=1, max_retries=1, retry_base=0.01) as system:
        expected = {html: InvalidContentType, missing: StatusError, down: RetryExhausted, cut: RetryExhausted}
        for url, kind in {**expected, "http://127.0.0.1:9/x": (ConnectError, RetryExhausted)}.items():
            with system.prefetch(url) as handle:
                for _ in range(2):
                    with pytest.raises(kind):
                        handle.wait(HANG)
                settle()  # nothing goes on for it
                assert isinstance(handle.error, kind)
                assert handle.phase is Phase.FAILED
        assert system.health().reasons == ()


def test_a_body_without_a_length_is_prefetched_to_its_end(origin: Origin, system: ActorSystem) -> None:
    for fault in (Fault(chunked=True), Fault(no_length=True)):
        url = origin.add(f"/{fault.chunked}", Resource(SIZE, seed=4, ranges=False, always=fault))
        with system.prefetch(url) as handle:
            assert handle.wait(HANG)
            assert handle.length == SIZE
            with system.open(url) as stream:
                assert stream.read() == body(4, 0, SIZE)


def test_a_prefetch_takes_over_where_the_last_stream_gave_up(origin: Origin) -> None:
    gate = threading.Event()
    first = Fault(hold=gate, hold_after=10_000, cut_after=50_000)
    url = origin.add("/a", Resource(SIZE, seed=5, script=[first, Fault(status=503)]))
    with ActorSystem.start(workers=1, max_retries=1, retry_base=0.01) as system, system.prefetch(url) as handle:
        with system.open(url) as stream:
            assert stream.read(1000)
            gate.set()  # with nobody but the prefetch there, it would have failed
            with pytest.raises(RetryExhausted):
                stream.read()
        assert handle.wait(HANG)
        assert handle.length == SIZE
    assert len(asked(origin, "/a")) == 3


def test_a_handle_that_is_dropped_is_closed(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", Resource(SIZE, always=Fault(stall_after=10_000)))
    with watching(system) as watch:
        handle = system.prefetch(url)
        answered(origin, "/a", 1)
        with pytest.warns(ResourceWarning, match="unclosed prefetch"):
            del handle
        assert watch.first(RequestCancelled).reason is CancelReason.PEER_CANCEL


def test_a_system_that_stops_ends_them_all(origin: Origin) -> None:
    with ActorSystem.start(workers=1) as system:
        with held_prefetches(origin, system, 1):
            pass
        urls = [origin.add(f"/{number}", Resource(SIZE, always=Fault(stall_after=10))) for number in range(20)]
        handles = [system.prefetch(url) for url in urls]
        waits = [Call(handle.wait) for handle in handles]
        assert origin.wait_for(lambda seen: len(seen) == 1 + SHARE, HANG)
        assert system.stop() == []
        for wait, handle in zip(waits, handles, strict=True):
            assert isinstance(wait.error(), SystemStopped)
            assert isinstance(handle.error, SystemStopped)
            handle.close()
        with pytest.raises(SystemStopped):
            system.prefetch(urls[0])


def test_a_local_path_is_complete_at_once(system: ActorSystem, tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(b"x" * 1234)
    with system.prefetch(path) as handle:
        assert handle.wait(0)
        assert (handle.length, handle.phase, handle.buffered) == (1234, Phase.COMPLETE, 1234)
    assert handle.wait(0)
    with pytest.raises(FileNotFoundError):
        system.prefetch(tmp_path / "none.mp3")
    with pytest.raises(ValueError, match="relative"):
        system.prefetch(Path("song.mp3"))
    with ActorSystem.start(workers=1, url_policy=public_only) as other:
        with pytest.raises(PolicyError, match="local path"):
            other.prefetch(path)


def test_credentials_that_nobody_else_has_cannot_be_prefetched_with(origin: Origin, system: ActorSystem) -> None:
    url = origin.add("/a", Resource(SIZE, seed=6))
    with pytest.raises(ValueError, match="discriminator= or shared=True"):
        system.prefetch(url, headers=lambda _: {"Authorization": "Bearer x"})
    with system.prefetch(url, headers=lambda _: {"X-Who": "me"}, discriminator="me") as handle:
        assert handle.wait(HANG)
        with system.open(url, headers=lambda _: {"X-Who": "me"}, discriminator="me") as stream:
            assert stream.read() == body(6, 0, SIZE)
    assert [seen.headers["x-who"] for seen in asked(origin, "/a")] == ["me"]
    for wrong in ("ftp://host/x", "nothing"):
        with pytest.raises(ValueError):
            system.prefetch(wrong)


def test_what_cannot_be_started_fails_at_wait_and_holds_nobody_up(
    origin: Origin, system: ActorSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = system._directory
    spawn = directory._runtime.spawn_source
    lacking = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    calls = iter(range(100))

    def sometimes(*args: object) -> object:
        if next(calls) in (1, 2):
            raise lacking
        return spawn(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(directory._runtime, "spawn_source", sometimes)
    with held_prefetches(origin, system, 1):
        failed = [system.prefetch(origin.add(f"/{number}", Resource(10))) for number in range(3)]
        for handle in failed[:2]:
            with pytest.raises(OSError, match=r"could not be started: .*Too many open files"):
                handle.wait(HANG)
        assert failed[2].wait(HANG)
    for handle in failed:
        handle.close()
