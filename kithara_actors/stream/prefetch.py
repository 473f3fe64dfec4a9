"""The handle of a download that nobody reads."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from actors.clock import monotonic
from kithara_actors.assets.content import Content
from kithara_actors.errors import Failure, KitharaError, restore
from kithara_actors.stream.link import Link
from kithara_actors.stream.timeouts import checked_wait
from kithara_actors.stream.waiting import ByteWaiter
from kithara_actors.values import Phase, StreamId

__all__ = ["Prefetch"]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What the handle says for good. `failure` is None where all is there."""

    phase: Phase
    length: int | None
    buffered: int
    failure: Failure | None


class Prefetch:
    """The download of one asset, without a reader; made by `ActorSystem.prefetch`. Safe from any thread.

    It goes on until all is there, it fails, or the handle is closed. Streams of the same asset share it, and it goes
    on when they close. The last of them, handles and streams, ends it.
    """

    _settled = True  # until __init__ has run, so that a finalizer of a half-made handle does nothing

    def __init__(
        self,
        handle: StreamId,
        name: str,
        leave: Callable[[StreamId], object],
        soon: Callable[[Callable[[], object]], object],
    ) -> None:
        """`leave` is called once, when the handle is closed; `soon` runs a call on another thread."""
        self.id = handle
        self.name = name
        self._leave = leave
        self._soon = soon
        self._lock = threading.RLock()
        self._known = threading.Event()
        self._bytes: ByteWaiter | None = None
        self._outcome: _Outcome | None = None
        self._error: Exception | None = None
        self._settled = False

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the asset is complete and committed: True, or False after `timeout` seconds.

        Raises the typed error if the download fails, Cancelled once the handle has been closed or cancelled before
        the end, SystemStopped.
        """
        timeout = checked_wait(timeout)
        deadline = None if timeout is None else monotonic() + timeout
        if not self._known.wait(timeout):
            return False
        waiter = self._bytes
        if waiter is not None and self._outcome is None:
            left = None if deadline is None else max(0.0, deadline - monotonic())
            try:
                return waiter.using(lambda content: waiter.complete(content, left))
            except KitharaError:
                # A download that gave up while a stream shared it may go on: that is told to who waited.
                if self._outcome is None:
                    raise
        if (failure := self._now().failure) is not None:
            raise restore(failure)
        return True

    def cancel(self) -> None:
        """Want it no more: a `wait` in progress and every later one raises Cancelled. Streams of the asset are not
        touched; without any its download ends, and what came of it is dropped. No effect when it is complete.
        Idempotent."""
        self._end(Failure("Cancelled", "the prefetch was cancelled"), leave=True)

    def close(self) -> None:
        """Let go of the asset. Before it is complete this is `cancel`. Idempotent."""
        self._end(Failure("Cancelled", "the prefetch was closed"), leave=True)

    @property
    def phase(self) -> Phase:
        """Where the asset is in its life; INIT while the prefetch waits for its turn. Does not block."""
        return self._now().phase

    @property
    def length(self) -> int | None:
        """Bytes in all, or None while that is not certain. Does not block."""
        return self._now().length

    @property
    def buffered(self) -> int:
        """How many bytes are there so far. Does not block."""
        return self._now().buffered

    @property
    def error(self) -> Exception | None:
        """What the download failed with, or why the handle was let go of before the end; else None. Does not block."""
        failure = self._now().failure
        if failure is not None and self._error is None:
            self._error = restore(failure)
        return self._error

    def _now(self) -> _Outcome:
        outcome, waiter = self._outcome, self._bytes
        if outcome is not None:
            return outcome
        if waiter is not None:
            with contextlib.suppress(KitharaError):
                return waiter.using(_look)
            content = waiter.content
            if content.view.failure is not None:
                return _Outcome(content.view.phase, None, 0, content.view.failure)
        return self._outcome or _Outcome(Phase.INIT, None, 0, None)

    # --- For the system

    def begin(self, content: Content, link: Link) -> bool:
        """It is being fetched into `content`, which is held for it from here on; False if it is wanted no more."""
        with self._lock:
            if self._settled or not content.retain():
                return False
            self._bytes = ByteWaiter(self.id, content, link, None, None)
        self._known.set()
        return True

    def settle(self) -> None:
        """The asset is complete or has failed, and is not to be held."""
        self._end(None)

    def stop(self, failure: Failure) -> None:
        """It is over, with `failure` unless it is complete; the system does not ask to be told."""
        self._end(failure)

    def found(self, length: int) -> None:
        """All is there already, and there is nothing to hold."""
        self._outcome = _Outcome(Phase.COMPLETE, length, length, None)
        self._end(None)

    def forked(self, failure: Failure) -> None:
        """In the child of a fork: `wait` raises `failure`. Takes no lock, for its holder may not be here."""
        self._lock = threading.RLock()
        self._known = threading.Event()
        self._known.set()
        self._outcome = _Outcome(Phase.FAILED, None, 0, failure)
        self._settled = True
        if self._bytes is not None:
            self._bytes.forked(failure)

    def _end(self, failure: Failure | None, *, leave: bool = False) -> None:
        """Say from here on what is so now: that it is complete, or what it failed with; else `failure`."""
        with self._lock:
            if self._settled:
                return
            self._settled = True
            now = self._now()
            if now.phase is not Phase.COMPLETE and now.failure is None:
                now = replace(now, failure=failure)
            self._outcome = now
        if leave:
            # Before the content goes: the system hands that of a handle that it knows to the next.
            self._leave(self.id)
        if self._bytes is not None:
            self._bytes.end(failure or Failure("Cancelled", "the prefetch was closed"))
            self._bytes.let_go()
        self._known.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._settled:
            return
        warnings.warn(f"unclosed prefetch {self!r}", ResourceWarning, source=self, stacklevel=2)
        # Collection may run in the middle of anything: closing takes locks, so it happens on another thread.
        self._soon(self.close)

    def __repr__(self) -> str:
        return f"<Prefetch {self.id} {self.name!r} {self.phase}>"

    def __reduce__(self) -> Any:
        raise TypeError("a Prefetch cannot be pickled")


def _look(content: Content) -> _Outcome:
    view = content.view
    return _Outcome(view.phase, content.length, content.present().total_bytes, None)
