"""How a reader waits for bytes: looks, says what it lacks, sleeps on the wake-up, looks again.

Runs in the caller's thread and never waits on an actor. No lock is held while it sleeps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

from actors.clock import monotonic
from actors.memory.progress import Waiter
from kithara_actors.assets.content import Content, View
from kithara_actors.errors import Failure, InternalError, ReadTimeout, ResourceChanged, SystemStopped, restore
from kithara_actors.logic.demand import NEAR
from kithara_actors.logic.leads import Reading
from kithara_actors.messages.commands import ReaderAt, SetPlaying, WantAll, WantLength
from kithara_actors.stream.link import Link
from kithara_actors.values import FetchKind, Phase, StreamId

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
        self.reading = Reading()
        self._content = content
        content.readings[stream] = self.reading
        self._look_ahead = look_ahead
        self._read_timeout = read_timeout
        self._lock = threading.RLock()
        self._users = 0
        self._ended: Failure | None = None
        self._leaving = False
        self._released = False
        self._play_known = False
        self._reported = -1
        self._idle: list[tuple[Content, Waiter]] = []

    # --- Lifetime

    def end(self, failure: Failure) -> bool:
        """Make every read, in progress or to come, raise `failure`; False if it was ended before. `let_go` follows."""
        with self._lock:
            if self._ended is not None:
                return False
            self._ended = failure
            self._content.signal()
        return True

    def let_go(self) -> None:
        """Release the descriptors, when the last read has left. Not before the system has forgotten the stream: it
        hands the content of one that it knows to the next."""
        with self._lock:
            self._leaving = True
            self._release_if_unused()

    def forked(self, failure: Failure) -> None:
        """In the child of a fork: `end`, without a lock, for its holder may not be here. What is open stays open."""
        self._lock = threading.RLock()
        self._ended = failure

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
        if self._leaving and not self._users and not self._released:
            self._released = True
            self._drop_waiters()
            self._content.readings.pop(self.stream, None)
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
            if self._users:
                return
            successor.retain()  # open, since the old one holds it and is held by us
            self._drop_waiters()
            self._content.readings.pop(self.stream, None)
            self._content.release()
            self._content = successor
            successor.readings[self.stream] = self.reading

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

    def bytes_at(self, content: Content, start: int, end: int, within: float | None = None) -> int:
        """Block until bytes from `start` to `end`, or to the end of the file, are present: the offset reached.

        `within` limits the wait, in seconds, where it is shorter than `read_timeout`. Raises the typed failure,
        ReadTimeout, Cancelled, SystemStopped, ResourceChanged.
        """
        reached = self._reached(content, start, end)
        if reached is not None:
            self.reading.last = min(reached, end)
            self._report(min(reached, end))
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

        def concerned(view: View) -> bool:
            low, high = view.unreached
            missing = content.available(start)
            return low <= missing and (high is None or missing < high)

        try:
            mine = within is not None and (self._read_timeout is None or within < self._read_timeout)
            with self._waiting(start):
                reached = self._until(
                    content, look, again, within if mine else self._read_timeout, concerned, lasting=not mine
                )
                self.reading.last = min(reached, end)
                return reached
        except BaseException:
            self.link.tell(ReaderAt(self.stream, start, None))
            raise

    @contextmanager
    def _waiting(self, start: int) -> Iterator[None]:
        """While the block runs a call waits for bytes from `start` on, for who wants to know."""
        call = object()
        self.reading.waits[call] = start
        try:
            yield
        finally:
            # In this order: who looks in between takes it for one that waits or has waited just now.
            self.reading.waited = monotonic()
            del self.reading.waits[call]

    def _report(self, position: int) -> None:
        """Say where a reader is that the download may run ahead of only so far."""
        if self._look_ahead and abs(position - self._reported) >= min(_REPORT_STEP, max(1, self._look_ahead // 4)):
            self._reported = position
            self.link.tell(ReaderAt(self.stream, position, None))

    def head(self, content: Content) -> bool:
        """Block until the first answer has said what it is: False if the asset failed before. See `bytes_at`."""

        def look() -> bool | None:
            if content.block.has_head:
                return True
            return None

        if look():
            return True

        def tell() -> None:
            self.link.tell(WantLength(self.stream))

        tell()
        try:
            with self._waiting(0):
                return self._until(content, look, tell, self._read_timeout)
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

        def tell() -> None:
            self.link.tell(WantAll(self.stream))

        tell()
        try:
            return self._until(content, look, tell, timeout, lasting=False)
        except ReadTimeout:
            return False

    def until(self, content: Content, look: Callable[[], T | None], within: float) -> T:
        """Block until `look`, called at every signal of the content, finds something; at most `within` seconds.

        Raises what a wait for bytes does, but for setbacks of the download.
        """
        return self._until(content, look, lambda: None, within, lambda _: False, lasting=False)

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
            if lane.spec.kind is not FetchKind.DEMAND:
                continue  # nobody knows yet that it is waited for
            landed = content.block.landed(lane.slot, lane.generation)
            if landed is not None and 0 <= missing - landed <= NEAR and (lane.end is None or missing < lane.end):
                return content.block.has_head
        return False

    def _until(
        self,
        content: Content,
        look: Callable[[], T | None],
        again: Callable[[], None],
        limit: float | None,
        concerned: Callable[[View], bool] = lambda _: True,
        *,
        lasting: bool = True,
    ) -> T:
        """Sleep on the wake-up until `look` finds something, at most `limit` seconds.

        `again` is called when what the Source was told may be lost: it has begun anew, or the net had to catch the
        caller. `concerned` tells whether a setback is the caller's; the limit
        is an error of the stream only if `lasting`.
        """
        deadline = None if limit is None else monotonic() + limit
        setbacks, incarnation = content.view.setbacks, content.view.incarnation
        waiter = self._borrow(content)
        try:
            while True:
                # A signal between this look and the sleep ends the sleep at once.
                if content.view.incarnation != incarnation:
                    incarnation = content.view.incarnation
                    again()
                found = look()
                if found is not None:
                    return found
                setbacks = self._check_waiting(content, setbacks, concerned)
                pause = _NET if deadline is None else min(_NET, deadline - monotonic())
                if pause <= 0:
                    late = ReadTimeout(f"the bytes did not arrive within {limit:g} s")
                    if lasting:
                        self.fail(late)
                    raise late
                if not waiter.wait(pause):
                    again()
        finally:
            self._give_back(content, waiter)

    def _check_waiting(self, content: Content, setbacks: int, concerned: Callable[[View], bool]) -> int:
        """Raise what concerns a waiting caller that knows of so many setbacks; how many it knows of now."""
        self.check()
        if content.successor is not None:
            if self.touched:
                self._changed()
            raise _ReplacedError
        view = content.view
        if view.failure is not None:
            self.fail(restore(view.failure))
        if view.setbacks > setbacks and view.setback is not None and concerned(view):
            self.fail(restore(view.setback))
        return view.setbacks

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
