"""Where the answers to one-off requests land: each body in memory of its own, and none for what has no body."""

from __future__ import annotations

import os

from kithara_actors.assets.content import ContentTable, Landing


def inode(landing: Landing) -> int:
    return os.fstat(landing.fd).st_ino


def test_each_body_has_memory_of_its_own() -> None:
    table = ContentTable()
    one, two = table.land(), table.land()
    os.pwrite(one.fd, b"secret", 0)
    assert os.pread(two.fd, 6, 0) == b""
    assert inode(one) != inode(two)
    for landing in (one, two):
        table.discard(landing)
    assert len(table) == 0


def test_what_has_no_body_has_no_memory() -> None:
    table = ContentTable()
    landing = table.land(body=False)
    with table.descriptors(landing.id) as sent:
        assert sent == ()
    assert (landing.landed, table.collected(landing.id), table.landing()) == (0, 0, 0)
    table.discard(landing)
    with table.descriptors(landing.id) as sent:
        assert sent is None


def test_one_that_nobody_has_released_goes_by_itself() -> None:
    """The fixture that counts descriptors looks for what is left."""
    table = ContentTable()
    table.land(body=False)
    table.land()
    del table
