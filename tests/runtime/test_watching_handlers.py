"""A worker's handler may wait for more than frames: a descriptor and a time, on the control thread."""

from __future__ import annotations

from pool_handlers import said
from pool_kit import pool_of

HOUR = 3600.0


def test_a_handler_looks_when_its_descriptor_is_readable() -> None:
    with pool_of("Watches", heartbeat=HOUR / 2, heartbeat_limit=HOUR) as (pool, heard):
        for turn in (1, 2):
            pool.send(1, said("ring"))
            assert heard.wait("seen", turn)[1:3] == (7, True)
        pool.send(1, said("echo", "as before"))
        assert heard.wait("echo")[1] == "as before"


def test_a_handler_looks_when_its_time_has_come() -> None:
    """Long before the next heartbeat would wake the thread."""
    with pool_of("Watches", heartbeat=HOUR / 2, heartbeat_limit=HOUR) as (pool, heard):
        pool.send(1, said("wake_me", 0.05))
        assert heard.wait("late")[1] is True
        assert heard.of("seen") == []
