"""Prefetches go on whatever actor crashes: those that run, those that wait, those that a stream has joined."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from crash_walk_kit import ends_wrong
from stream_kit import HANG, Call, settle, watching

from actors.testing.sabotage import Moment, sabotage
from actors.testing.saboteur import Saboteur, Trap
from kithara_actors.messages.events import ActorRestarted
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Origin, Resource, body

SIZE = 40_000
COUNT = 24

TRAPS: dict[str, tuple[tuple[str, Moment], ...]] = {
    "source-*": tuple(
        (command, moment)
        for command in ("AttachPrefetch", "AssetReady", "FetchHeaders", "FetchDone", "AssetCommitted", "Attach")
        for moment in ("before", "after")
    ),
    "registry": (("Fetch", "before"), ("Fetch", "after"), ("Recounted", "before"), ("Released", "after")),
    "downloader": (("Admitted", "after"), ("AttemptHeaders", "after"), ("AttemptEnded", "before")),
    "asset_store": (("AcquireAsset", "before"), ("AcquireAsset", "after"), ("CommitAsset", "before")),
}
"""By actor; those that are always there may crash five times together."""


@pytest.mark.minutes
@pytest.mark.parametrize("actor", TRAPS)
def test_prefetches_survive_every_crash(actor: str) -> None:
    saboteur = Saboteur(most=4)
    with Origin() as origin, sabotage(saboteur), ExitStack() as stack:
        system = stack.enter_context(ActorSystem.start(workers=2, retry_base=0.01))
        watch = stack.enter_context(watching(system))
        urls = [origin.add(f"/{n}", Resource(SIZE, seed=n, rate=400_000.0, ranges=n % 3 > 0)) for n in range(COUNT)]
        saboteur.set(*(Trap(actor, command, moment) for command, moment in TRAPS[actor]))
        handles = [stack.enter_context(system.prefetch(url)) for url in urls]
        for joined in (0, 5, COUNT - 1):
            with system.open(urls[joined]) as stream:
                assert Call(stream.read).result() == body(joined, 0, SIZE)
        for handle in handles:
            assert handle.wait(HANG), handle
        settle()
        for number, url in enumerate(urls):
            with system.open(url) as stream:
                assert stream.read() == body(number, 0, SIZE)
        assert not saboteur.left, "not every crash came about"
        assert system.stop() == []
        watch.drain()
        assert len(watch.of(ActorRestarted)) == len(saboteur.sprung)
        assert ends_wrong(watch.events) == []
