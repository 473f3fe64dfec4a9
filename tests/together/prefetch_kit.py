"""What the tests of prefetches share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from stream_kit import HANG

from kithara_actors.stream.prefetch import Prefetch
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Fault, Origin, Resource, Seen

__all__ = ["SHARE", "count_held", "held_prefetches"]

SHARE = 4
"""How many prefetches of one host run at once."""


def count_held(seen: list[Seen]) -> int:
    """How many of `held_prefetches` have been asked for."""
    return sum(each.path.startswith("/held/") for each in seen)


@contextmanager
def held_prefetches(origin: Origin, system: ActorSystem, count: int, size: int = 1000) -> Iterator[list[Prefetch]]:
    """So many prefetches, none of which is answered before the block has ended; then all are completed."""
    gate = threading.Event()
    with ExitStack() as stack:
        handles = [
            stack.enter_context(
                system.prefetch(origin.add(f"/held/{number}", Resource(size, seed=number, script=[Fault(hold=gate)])))
            )
            for number in range(count)
        ]
        try:
            # Which of the first come first is a race of their threads.
            assert origin.wait_for(lambda seen: count_held(seen) == min(count, SHARE), HANG), origin.requests
            yield handles
        finally:
            gate.set()
        for handle in handles:
            assert handle.wait(HANG), handle
