"""Many one-off requests as their caller sees them: `ActorSystem.batch`, an iterator over their answers in order."""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from actors.clock import monotonic
from kithara_actors.assets.collecting import Waiting, abandoned
from kithara_actors.errors import KitharaError, ReadTimeout, restore
from kithara_actors.executing import Executor, result_of
from kithara_actors.fetching import FetchCommand, FetchResult
from kithara_actors.logic.naming import redact
from kithara_actors.messages.commands import Abandon
from kithara_actors.stream.timeouts import checked_timeout

__all__ = ["Batch", "window_of"]

_PIECE = 16
"""How many commands are drawn before they are asked for, if they come at once."""
_SOON = 0.001
"""Seconds after which what was drawn is asked for in any case: the next command may take its time."""
_MOST = 512


def window_of(max_concurrent: int) -> int:
    """How many requests of a batch are known at once, those included whose results wait for their turn."""
    return min(max(3 * max_concurrent, 4 * _PIECE), _MOST)


class _Bell:
    """Wakes the caller of a batch if this is the place that it waits for."""

    __slots__ = ("_batch", "_over", "at")

    def __init__(self, batch: _Wait) -> None:
        self._batch = batch
        self._over = False
        self.at = 0.0

    def set(self) -> None:
        self.at = monotonic()
        self._over = True
        # In this order: who is about to wait for this one says so before it looks.
        if self._batch.awaited is self:
            self._batch.woken.set()

    def is_set(self) -> bool:
        return self._over


class _Wait:
    """What the caller of a batch sleeps on; `awaited` is for whose end."""

    __slots__ = ("awaited", "woken")

    def __init__(self) -> None:
        self.woken = threading.Event()
        self.awaited: _Bell | None = None

    def on(self, bell: _Bell, until: float | None) -> bool:
        """Whether it is set at the time `until`, at the latest."""
        self.woken.clear()
        self.awaited = bell
        try:
            while not bell.is_set():
                if not self.woken.wait(None if until is None else until - monotonic()):
                    return False
                # Perhaps by the bell before, which had seen that it was waited for and was slow to say so.
                self.woken.clear()
            return True
        finally:
            self.awaited = None


class _Place:
    """One command of a batch: the request that was begun for it, or why there is none."""

    __slots__ = ("began", "bell", "number", "refused", "waiting")

    def __init__(self, number: int, bell: _Bell) -> None:
        self.number = number
        self.bell = bell
        self.began = monotonic()
        self.waiting: Waiting | None = None
        self.refused: KitharaError | None = None

    @property
    def over(self) -> bool:
        return self.waiting is None or self.bell.is_set()


class Batch(Iterator["FetchResult | KitharaError"]):
    """The answers to a batch, in the order of its commands; made by `ActorSystem.batch`.

    Iterate in one thread at a time; `close` may come from any. It, the end of a `with` block, an exception out of the
    iteration and the last reference going all cancel what has not ended.
    """

    def __init__(
        self,
        commands: Iterable[FetchCommand],
        timeout: float | None,
        executor: Executor,
        window: int,
        check: Callable[[], object],
    ) -> None:
        """`check` raises where the process is not the one that has the system."""
        self._window: collections.deque[_Place] = collections.deque()
        # Each place is given to the caller or cancelled by `close`. Re-entrant: a signal may close in the middle.
        self._lock = threading.RLock()
        self._turn = threading.Lock()
        self._open = False
        limit = checked_timeout(timeout)
        self._timeout = timeout
        self._until = None if limit is None else monotonic() + limit
        self._commands: Iterator[FetchCommand] | None = iter(commands)
        self._executor = executor
        self._collector = executor.collector
        self._size = window
        self._check = check
        self._wait = _Wait()
        self._drawn = 0
        self._peer = ""
        self._open = True
        try:
            self._fill()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FetchResult | KitharaError:
        """The next answer; blocks. Draws from the commands as far as there is room for them.

        An error that ended this one request is returned. Raises ReadTimeout once the time of the batch is over, what
        the iterable of the commands raises, TypeError or ValueError for what it gives; nothing comes after that.
        ValueError while another call runs, which goes on. Closed meanwhile, the iteration ends.
        """
        if not self._open:
            raise StopIteration
        self._check()
        if not self._turn.acquire(blocking=False):
            raise ValueError("this batch is iterated already, by another thread or around its own commands")
        try:
            return self._next()
        except BaseException:
            self.close()
            raise
        finally:
            self._turn.release()

    def close(self) -> None:
        """Cancel what has not ended, and end the iteration. Idempotent; from any thread; does not block."""
        with self._lock:
            self._open = False
            self._commands = None
            places: list[_Place] = []
            with contextlib.suppress(IndexError):
                while True:  # one by one: a signal that closes in between takes the others
                    places.append(self._window.popleft())
        left = [place.waiting for place in places if place.waiting is not None]
        self._executor.abandon(left)
        for waiting in left:
            waiting.content.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # It may run in the middle of anything: the places for the answers go by themselves.
        left = [place.waiting for place in self._window if place.waiting and not place.bell.is_set()]
        if left and self._collector is not None:
            self._collector.tell(Abandon(tuple(abandoned(waiting) for waiting in left)))

    def __repr__(self) -> str:
        return f"<Batch {'open' if self._open else 'closed'}, {self._drawn} commands drawn>"

    def _next(self) -> FetchResult | KitharaError:
        self._fill()
        place = self._first()
        if place.waiting is not None and not self._wait.on(place.bell, self._until):
            raise ReadTimeout(
                f"{redact(place.waiting.spec.url)}: item {place.number} of the batch has no result within "
                f"{self._timeout:g} s; it and all that follow were cancelled"
            )
        self._first(take=True)
        return self._outcome(place)

    def _first(self, *, take: bool = False) -> _Place:
        """The next place, which with `take` is the caller's from here on; StopIteration if there is none any more."""
        try:
            with self._lock:
                return self._window.popleft() if take else self._window[0]
        except IndexError:
            raise StopIteration from None

    def _fill(self) -> None:
        """Draw commands and have them run, while there is room; not many while the next answer is there already."""
        while self._commands is not None and self._size - len(self._window) >= _PIECE:
            self._draw_piece()
            if self._window and self._window[0].over:
                return

    def _draw_piece(self) -> None:
        drawn: list[_Place] = []
        until = monotonic() + _SOON
        try:
            for _ in range(_PIECE):
                place = self._draw()
                if place is None:
                    self._commands = None
                    return
                drawn.append(place)
                if monotonic() >= until:
                    return
        finally:
            # Also what is cancelled next, so that it has a beginning.
            begun = [place.waiting for place in drawn if place.waiting is not None]
            if begun:
                self._executor.ask(begun)
            with self._lock:
                self._window.extend(drawn)
            if not self._open:
                self.close()

    def _draw(self) -> _Place | None:
        """The place of the next command; None after the last."""
        commands = self._commands
        if commands is None:
            return None  # closed meanwhile
        number = self._drawn
        try:
            command = next(commands)
        except StopIteration:
            return None
        if not isinstance(command, FetchCommand):
            raise TypeError(
                f"item {number} of the batch: give FetchCommand.get(url) or FetchCommand.head(url), "
                f"not {type(command).__name__}"
            )
        self._drawn += 1
        place = _Place(number, _Bell(self._wait))
        try:
            place.waiting = self._executor.begin(command, place.bell, self._peer or None)
        except KitharaError as error:
            place.refused = error
        except ValueError as error:
            raise ValueError(f"item {number} of the batch: {error}") from None
        else:
            self._peer = self._peer or place.waiting.spec.peer
        return place

    def _outcome(self, place: _Place) -> FetchResult | KitharaError:
        waiting = place.waiting
        if waiting is None:
            assert place.refused is not None
            return place.refused
        try:
            if waiting.failure is not None:
                return restore(waiting.failure)
            return result_of(waiting, place.bell.at - place.began)
        finally:
            waiting.content.release()
