"""How a reader waits for bytes: looks, says what it lacks, sleeps on the wake-up, looks again.

Runs in the caller's thread and never waits on an actor. No lock is held while it sleeps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

from actors.clock import monotonic
from actors.memory.progress import Waiter
from kithara_actors.assets.content import Content
from kithara_actors.errors import Failure, InternalError, ReadTimeout, ResourceChanged, SystemStopped, restore
from kithara_actors.logic.demand import NEAR
from kithara_actors.messages.commands import ReaderAt, SetPlaying, WantAll, WantLength
from kithara_actors.stream.link import Link
from kithara_actors.values import Phase, StreamId

__all__ = ["ByteWaiter"]

T = TypeVar("T")

_NET = 1.0
"""Seconds after which a waiting reader looks again even if no wake came: the net under the wake-up."""
_REPORT_STEP = 64 * 1024


class ByteWaiter:
    """One stream's view of its content: follows a replaced one, waits, and turns failures into exceptions."""

    def __init__(
        self,
        stream: StreamId,
        content: Content,
        link: Link,
        look_ahead: int | None,
        read_timeout: float | None,
    ) -> None:
        self.stream = stream
        self.link = link
        self.error: Exception | None = None
        self.touched = False
        self._content = content
        self._look_ahead = look_ahead
        self._read_timeout = read_timeout
        self._lock = threading.RLock()
        self._users = 0
        self._ended: Failure | None = None
        self._released = False
        self._play_known = False
        self._reported = -1
        self._idle: list[tuple[Content, Waiter]] = []

    # --- Lifetime

    def end(self, failure: Failure) -> bool:
        """Make every read, in progress or to come, raise `failure`; descriptors go with the last one inside.

        False if it was ended before.
        """
        with self._lock:
            if self._ended is not None:
                return False
            self._ended = failure
            content = self._content
            if not self._released:
                content.wake.signal()
            self._release_if_unused()
        return True

    @property
    def ended(self) -> Failure | None:
        return self._ended

    def using(self, work: Callable[[Content], T]) -> T:
        """What `work` makes of the content, whose descriptors stay open meanwhile. Raises what ended the stream."""
        while True:
            with self._lock:
                self.check()
                self._follow()
                content = self._content
                if content.view.failure is not None:
                    self.fail(restore(content.view.failure))
                self._users += 1
            try:
                return work(content)
            except _ReplacedError:
                continue
            finally:
                with self._lock:
                    self._users -= 1
                    self._release_if_unused()

    def _release_if_unused(self) -> None:
        if self._ended is not None and not self._users and not self._released:
            self._released = True
            self._drop_waiters()
            self._content.release()

    def _drop_waiters(self) -> None:
        for _, waiter in self._idle:
            waiter.close()
        self._idle.clear()

    def _follow(self) -> None:
        """Go on with the content that replaced ours, if nothing of ours was read; else it is an error."""
        while (successor := self._content.successor) is not None:
            if self.touched:
                self._changed()
            if self._users or not successor.retain():
                return
            self._drop_waiters()
            self._content.release()
            self._content = successor

    # --- Errors

    def fail(self, error: Exception) -> NoReturn:
        """Remember the error and raise it."""
        self.error = error
        raise error

    def check(self) -> None:
        """Raise what ended the stream."""
        if self._ended is not None:
            self.fail(restore(self._ended))

    # --- What is there

    @property
    def content(self) -> Content:
        return self._content

    def is_end(self, content: Content, offset: int) -> bool:
        """Whether `offset` is certainly at or past the end."""
        length = content.length
        return length is not None and offset >= length

    # --- Waiting

    def bytes_at(self, content: Content, start: int, end: int) -> int:
        """Block until bytes from `start` to `end`, or to the end of the file, are present: the offset reached.

        Raises the typed failure, ReadTimeout, Cancelled, SystemStopped, ResourceChanged.
        """
        reached = self._reached(content, start, end)
        if reached is not None:
            if self._look_ahead is not None and abs(reached - self._reported) >= _REPORT_STEP:
                self._reported = reached
                self.link.tell(ReaderAt(self.stream, reached, None))
            return reached
        if not self._play_known:
            self._play_known = True
            self.link.tell(SetPlaying(self.stream, playing=True, implied=True))
        told: list[bool] = []

        def look() -> int | None:
            found = self._reached(content, start, end)
            if found is None and not (told or self._coming(content, start)):
                # Once per wait, and again only after the net: the Source keeps what it was told.
                told.append(True)
                self._reported = start
                self.link.tell(ReaderAt(self.stream, start, end))
            return found

        def again() -> None:
            told.clear()

        return self._until(content, look, again)

    def head(self, content: Content) -> bool:
        """Block until the first answer has said what it is: False if the asset failed before. See `bytes_at`."""

        def look() -> bool | None:
            if content.block.has_head:
                return True
            return None

        if look():
            return True
        self.link.tell(WantLength(self.stream))
        try:
            return self._until(content, look, lambda: None)
        except (ResourceChanged, SystemStopped, ReadTimeout):
            raise
        except OSError as error:
            if self._ended is not None:
                raise
            self.error = error
            return False

    def complete(self, content: Content, timeout: float | None) -> bool:
        """Block until the asset is complete, asking for what is missing. False at the limit; raises a failure."""

        def look() -> bool | None:
            return True if content.view.phase is Phase.COMPLETE else None

        if look():
            return True
        self.link.tell(WantAll(self.stream))
        try:
            return self._until(content, look, lambda: None, timeout, limited=True)
        except ReadTimeout:
            return False

    def _reached(self, content: Content, start: int, end: int) -> int | None:
        reached = content.available(start)
        if reached >= end:
            return reached
        length = content.length
        if length is not None and (reached >= length or start >= length):
            return reached
        return None

    def _coming(self, content: Content, start: int) -> bool:
        """Whether a fetch under way will soon reach the first missing byte, as far as is known here."""
        missing = content.available(start)
        for lane in content.view.lanes:
            landed = content.block.landed(lane.slot, lane.generation)
            if landed is not None and 0 <= missing - landed <= NEAR and (lane.end is None or missing < lane.end):
                return content.block.has_head
        return False

    def _until(
        self,
        content: Content,
        look: Callable[[], T | None],
        again: Callable[[], None],
        limit: float | None = None,
        *,
        limited: bool = False,
    ) -> T:
        """Sleep on the wake-up until `look` finds something. `again` is called when the net had to catch it."""
        limit = limit if limited else self._read_timeout
        deadline = None if limit is None else monotonic() + limit
        setbacks = content.view.setbacks
        waiter = self._borrow(content)
        try:
            while True:
                # A signal between this look and the sleep ends the sleep at once.
                found = look()
                if found is not None:
                    return found
                self._check_waiting(content, setbacks)
                pause = _NET if deadline is None else min(_NET, deadline - monotonic())
                if pause <= 0:
                    self.fail(ReadTimeout(f"the bytes did not arrive within {limit:g} s"))
                if not waiter.wait(pause):
                    again()
        finally:
            self._give_back(content, waiter)

    def _check_waiting(self, content: Content, setbacks: int) -> None:
        self.check()
        if content.successor is not None:
            if self.touched:
                self._changed()
            raise _ReplacedError
        view = content.view
        if view.failure is not None:
            self.fail(restore(view.failure))
        if view.setbacks > setbacks and view.setback is not None:
            self.fail(restore(view.setback))

    def _changed(self) -> NoReturn:
        self.fail(ResourceChanged("the file was replaced on the server after part of it had been read; open it again"))

    def _borrow(self, content: Content) -> Waiter:
        """A waiter of this thread's own; kept for the next wait, since making one costs a descriptor."""
        with self._lock:
            while self._idle:
                owner, waiter = self._idle.pop()
                if owner is content:
                    return waiter
                waiter.close()
        try:
            return Waiter(content.wake)
        except OSError as error:
            self.fail(InternalError(f"no descriptor to wait on: {error.strerror}; raise the descriptor limit"))

    def _give_back(self, content: Content, waiter: Waiter) -> None:
        with self._lock:
            if self._ended is None and not self._idle:
                self._idle.append((content, waiter))
            else:
                waiter.close()


class _ReplacedError(Exception):
    """The content was replaced while nothing of it had been read: begin again with its successor."""
