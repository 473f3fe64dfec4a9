"""Bytes by descriptor: memory or a file, written by one process and read by another, with no name to leak.

A memfd is sealed against shrinking, so a reader of it can never meet a truncated file; it may grow, in steps, as
bytes arrive (memfd_create(2), F_ADD_SEALS in fcntl(2)).
"""

from __future__ import annotations

import fcntl
import os

__all__ = ["memory_file", "read_into", "write_all"]


def memory_file(label: str, size: int = 0) -> int:
    """A new descriptor of anonymous memory, close-on-exec; `label` shows in /proc only. `size` in bytes.

    Raises OSError (EMFILE, ENFILE, ENOMEM). Does not block.
    """
    fd = os.memfd_create(label, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        if size:
            os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_into(fd: int, buffer: memoryview, offset: int) -> int:
    """Fill `buffer` from `offset`; the bytes read, fewer only where the file ends. Releases the GIL."""
    done = 0
    size = len(buffer)
    while done < size:
        got = os.preadv(fd, [buffer[done:] if done else buffer], offset + done)
        if got == 0:
            break
        done += got
    return done


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """Write all of `data` at `offset`. A short write goes on; OSError (ENOSPC, EDQUOT, EFBIG, EIO) is raised."""
    done = 0
    size = len(data)
    while done < size:
        done += os.pwrite(fd, data[done:] if done else data, offset + done)
