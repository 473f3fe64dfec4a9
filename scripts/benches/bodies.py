"""What is downloaded: a body whose every page says where it belongs, and how it is checked."""

from __future__ import annotations

import io
import mmap
import random
from collections.abc import Sequence
from pathlib import Path

__all__ = ["BODY", "GIB", "MIB", "SAMPLE", "Body", "drain"]

MIB = 1024 * 1024
GIB = 1024 * MIB
BODY = "body.bin"
SAMPLE = 8
"""Bytes that are compared of every MiB where not all are."""


class Body:
    """`size` bytes in a file of tmpfs: random, with the number of its page at the head of each page."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        block = bytearray(random.Random(size).randbytes(MIB))
        with path.open("wb") as file:
            for at in range(0, size, MIB):
                for page in range(0, MIB, 4096):
                    block[page : page + 8] = (at + page).to_bytes(8, "little")
                file.write(block[: size - at])
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
        self._view = memoryview(self._map)

    def close(self) -> None:
        self._view.release()
        self._map.close()

    def check(self, source: io.BufferedIOBase | io.RawIOBase) -> None:
        """Compare every byte that `source` gives. Raises SystemExit."""
        buffer = bytearray(MIB)
        view, at = memoryview(buffer), 0
        while count := source.readinto(buffer):
            if view[:count] != self._view[at : at + count]:
                raise SystemExit(f"wrong bytes between {at} and {at + count}")
            at += count
        self.check_length(at)

    def check_length(self, count: int) -> None:
        if count != self.size:
            raise SystemExit(f"{count} bytes instead of {self.size}")

    def check_samples(self, samples: Sequence[bytes], offset: int) -> None:
        """Compare what was taken at `offset` in each MiB."""
        ends = range(offset, self.size - SAMPLE + 1, MIB)
        if len(samples) < len(ends):
            raise SystemExit(f"{len(samples)} samples instead of {len(ends)}")
        for at, sample in zip(ends, samples, strict=False):
            if sample != self._view[at : at + SAMPLE]:
                raise SystemExit(f"wrong bytes at {at}")


def drain(source: io.BufferedIOBase | io.RawIOBase, buffer: bytearray, offset: int) -> tuple[int, list[bytes]]:
    """Read to the end as an application does, keeping a few bytes of each piece: the length and these."""
    readinto, total = source.readinto, 0
    samples: list[bytes] = []
    while count := readinto(buffer):
        total += count
        samples.append(bytes(buffer[offset : offset + SAMPLE]))
    return total, samples
