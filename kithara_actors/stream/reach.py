"""How far a position may move: whether the length is known, and what waits until it is."""

from __future__ import annotations

import io

from kithara_actors.assets.content import Content
from kithara_actors.errors import KitharaError
from kithara_actors.stream.waiting import ByteWaiter

__all__ = ["Reach"]


class Reach:
    """Of one stream. With `wait_for_length` a body that has no length is waited for to its end."""

    def __init__(self, waiter: ByteWaiter, wait_for_length: bool) -> None:
        self._bytes = waiter
        self._wait_for_length = wait_for_length

    def seekable(self) -> bool:
        """Whether the length is known, so that any byte can be reached. Waits for the first answer's headers only."""
        try:
            return self._bytes.using(self._known)
        except KitharaError:
            if self._bytes.ended is not None:
                raise
            return False

    def _known(self, content: Content) -> bool:
        if content.length is not None:
            return True
        if not self._bytes.head(content):
            return False
        if content.length is None and self._wait_for_length:
            self._bytes.complete(content, None)
        return content.length is not None

    def length(self) -> int:
        """The length, waiting as `seekable` does. Raises the stream's error, io.UnsupportedOperation."""
        if not self.seekable():
            self._raise_for_error()
            raise io.UnsupportedOperation("the length is not known before the download is complete")
        return self._bytes.using(lambda content: content.length or 0)

    def check(self, target: int) -> None:
        """Raise the stream's error, or io.UnsupportedOperation, if `target` cannot be reached."""

        def present(content: Content) -> bool:
            return content.length is not None or content.available(target) > target

        if self._bytes.using(present) or self.seekable() or self._bytes.using(present):
            return
        self._raise_for_error()
        raise io.UnsupportedOperation("the length is not known and the byte has not arrived: cannot seek to it")

    def _raise_for_error(self) -> None:
        if self._bytes.error is not None:
            raise self._bytes.error
