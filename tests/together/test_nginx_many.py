"""Many streams from a real nginx, and one that dies under a transfer."""

from __future__ import annotations

import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from nginx_server import NginxServer

from kithara_actors import ActorSystem
from kithara_actors.events import (
    Event,
    RequestCompleted,
    RequestEnqueued,
    RequestFailed,
    RequestRetrying,
    WorkerLost,
)
from kithara_actors.values import Phase

pytestmark = pytest.mark.nginx

STREAMS = 100
HELD = 512 * 1024


def count(events: list[Event], kind: type[Event]) -> int:
    return sum(isinstance(event, kind) for event in events)


def test_a_hundred_streams_at_once(nginx: NginxServer) -> None:
    rng = random.Random(3)
    folder = nginx.root / "many"
    folder.mkdir()
    bodies = [rng.randbytes(rng.randrange(1, 400_000)) for _ in range(STREAMS)]
    for number, body in enumerate(bodies):
        (folder / f"{number}.bin").write_bytes(body)
    together = threading.Barrier(STREAMS, timeout=30)

    with ActorSystem.start(workers=2) as system:
        events = system.subscribe(capacity=100_000)
        assert len(system.workers()) == 2

        def fetch(number: int) -> str:
            with system.open(nginx.url(f"many/{number}.bin")) as stream:
                together.wait()
                body = stream.read()
                # Closed before, the request could end as cancelled with all its bytes there.
                assert stream.wait_complete(30)
                return hashlib.sha256(body).hexdigest()

        with ThreadPoolExecutor(STREAMS) as threads:
            digests = list(threads.map(fetch, range(STREAMS)))
        assert digests == [hashlib.sha256(body).hexdigest() for body in bodies]
    seen = [envelope.event for envelope in events]
    assert count(seen, RequestEnqueued) == count(seen, RequestCompleted) == STREAMS
    assert count(seen, RequestRetrying) == count(seen, RequestFailed) == count(seen, WorkerLost) == 0
    for number, body in enumerate(bodies):
        (request,) = nginx.log(f"/many/{number}.bin", at_least=1)
        assert (request.status, request.body_bytes) == (206, len(body))


def test_a_stream_outlives_its_server() -> None:
    body = random.Random(4).randbytes(3 * HELD)
    # Each answer ends up waiting after HELD bytes, so that each restart meets a transfer under way.
    with NginxServer(held={"/held/": "512k"}) as server, ActorSystem.start() as system:
        events = system.subscribe(capacity=100_000)
        (server.root / "a.bin").write_bytes(body)
        with system.open(server.url("held/a.bin")) as stream:
            assert stream.read(HELD) == body[:HELD]
            server.restart()
            assert stream.read(HELD) == body[HELD : 2 * HELD]
            assert stream.phase is Phase.DOWNLOADING
            server.restart()
            assert stream.read() == body[2 * HELD :]
            assert stream.wait_complete(30)
        assert system.stop() == []
        seen = [envelope.event for envelope in events]
        assert count(seen, RequestEnqueued) == count(seen, RequestCompleted) == 1
        assert count(seen, RequestRetrying) >= 2
        assert count(seen, WorkerLost) == 0
        last = server.log("/held/a.bin", at_least=1)[-1]
        assert last.range is not None
        start = int(last.range.removeprefix("bytes=").removesuffix("-"))
        # From the last byte that had arrived, and only if the file is still the same.
        assert start >= 2 * HELD
        assert last.body_bytes == len(body) - start
        assert last.if_range


def test_a_slow_transfer_does_not_look_like_a_dead_worker(nginx: NginxServer) -> None:
    """A worker's heart beats while its transfers crawl: the file takes three seconds at 250 KiB/s."""
    body = random.Random(5).randbytes(1000 * 1024)
    (nginx.root / "crawl.bin").write_bytes(body)
    with ActorSystem.start(heartbeat=0.1, heartbeat_limit=3.0) as system:
        events = system.subscribe(capacity=100_000)
        with system.open(nginx.slow_url("crawl.bin")) as stream:
            assert stream.read() == body
            assert stream.wait_complete(30)
    seen = [envelope.event for envelope in events]
    assert [event for event in seen if isinstance(event, WorkerLost)] == []
    assert count(seen, RequestEnqueued) == count(seen, RequestCompleted) == 1
    assert len(nginx.log("/slow/crawl.bin", at_least=1)) == 1
