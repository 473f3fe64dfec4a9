"""Descriptors of memory: sealed against shrinking, read and written in full."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.memory import buffer
from actors.memory.buffer import memory_file, read_into, write_all


@pytest.fixture
def fd() -> Iterator[int]:
    made = memory_file("test", 100)
    yield made
    os.close(made)


def test_it_grows_but_never_shrinks(fd: int) -> None:
    assert os.fstat(fd).st_size == 100
    os.ftruncate(fd, 200)
    for size in (0, 199):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    assert os.fstat(fd).st_size == 200


def test_it_is_not_inherited_and_has_no_name_but_in_proc(fd: int) -> None:
    assert not os.get_inheritable(fd)
    assert str(Path(f"/proc/self/fd/{fd}").readlink()) == "/memfd:test (deleted)"


def test_a_failure_on_the_way_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, size: int) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(os, "ftruncate", full)
    with pytest.raises(OSError, match="no memory"):
        memory_file("test", 1)  # the fixture that counts descriptors looks for what is left


def test_what_was_written_is_read_at_any_offset(fd: int) -> None:
    write_all(fd, memoryview(b"hello"), 300)
    into = bytearray(7)
    assert read_into(fd, memoryview(into), 299) == 6
    assert into == b"\x00hello\x00"
    assert read_into(fd, memoryview(into), 305) == 0
    assert read_into(fd, memoryview(bytearray()), 0) == 0


class Short:
    """Stands for a system that reads and writes a few bytes at a time."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.calls = 0

    def preadv(self, fd: int, buffers: list[Any], offset: int) -> int:
        self.calls += 1
        return os.preadv(fd, [buffers[0][: self.step]], offset)

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        self.calls += 1
        return os.pwrite(fd, data[: self.step], offset)


@given(st.binary(max_size=60), st.integers(1, 20), st.integers(0, 30), st.integers(0, 80))
def test_short_reads_and_writes_go_on(data: bytes, step: int, offset: int, size: int) -> None:
    fd = memory_file("test")
    short = Short(step)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(buffer, "os", short)
            write_all(fd, memoryview(data), offset)
            into = bytearray(size)
            got = read_into(fd, memoryview(into), offset)
        assert got == min(size, len(data))
        assert into[:got] == data[:got]
        assert short.calls >= -(-len(data) // step)
    finally:
        os.close(fd)


def test_a_write_that_fails_half_way_raises() -> None:
    class Full(Short):
        def pwrite(self, fd: int, data: Any, offset: int) -> int:
            if self.calls:
                raise OSError(errno.ENOSPC, "no room")
            return super().pwrite(fd, data, offset)

    fd = memory_file("test")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(buffer, "os", Full(3))
            with pytest.raises(OSError, match="no room"):
                write_all(fd, memoryview(b"abcdef"), 0)
        assert os.fstat(fd).st_size == 3
    finally:
        os.close(fd)
