"""A descriptor that a complete stream hands out, and whose offset keeps step with the stream."""

from __future__ import annotations

import os

__all__ = ["OwnDescriptor"]


class OwnDescriptor:
    """Not open until `open`. The stream calls this under its own lock."""

    def __init__(self) -> None:
        self.fd = -1

    def open(self, source: int, position: int) -> int:
        """A descriptor of the file behind `source` at `position`; the same one every time. Raises OSError (EMFILE)."""
        if self.fd < 0:
            # A new open file description: an offset shared with other streams would move under us.
            self.fd = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_CLOEXEC)
            self.follow(position)
        return self.fd

    def follow(self, position: int) -> None:
        """The stream's position is now this."""
        if self.fd >= 0:
            os.lseek(self.fd, position, os.SEEK_SET)

    def close(self) -> None:
        """Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
