"""The sound between the decoder and the output: at most two seconds of it, and the marks of where tracks begin."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Format", "Mark", "Passed", "SoundQueue", "StaleError"]

T = TypeVar("T")

_AHEAD = 2.0
"""Seconds of sound that may wait."""
_REFILL = 0.25
"""Seconds of sound that an output which ran dry waits for, so that it does not stutter."""
_SAMPLE = 2
"""Bytes of a sample of one channel: 16 bits."""


class Format(NamedTuple):
    """How the sound is laid out: 16-bit samples, native byte order, channels interleaved; `rate` in Hz."""

    rate: int
    channels: int

    @property
    def frame(self) -> int:
        """Bytes of one sample of every channel."""
        return self.channels * _SAMPLE


class StaleError(Exception):
    """What is being decoded is not wanted any more."""


@dataclass(frozen=True, slots=True)
class Mark(Generic[T]):
    """Between two pieces of sound: here `track` begins at `seconds`, or ends; `failure` says why, if it failed."""

    track: T
    begins: bool
    seconds: float = 0.0
    failure: str | None = None


class Passed(NamedTuple, Generic[T]):
    """A mark that the output has reached, and the position in the track that was heard until then."""

    mark: Mark[T]
    position: float


class SoundQueue(Generic[T]):
    """Filled by one decoding thread, emptied by one output, looked at by any; T is what tells tracks apart.

    Each `clear` begins a new generation, and sound of an older one is refused: what was decoded for the place before
    a seek is never heard. `changed` is notified of everything; it is held for a moment only, so that the thread of a
    sound device may wait for it.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.format: Format | None = None
        self.generation = 0
        self.current: T | None = None
        self.paused = False
        self.starved = True
        self.passed: deque[Passed[T]] = deque()
        self._items: deque[memoryview | Mark[T]] = deque()
        self._frames = 0
        self._ends = 0
        self._base = 0.0
        self._taken = 0

    # --- The decoder's side

    def agree(self, rate: int, channels: int) -> Format:
        """The format of the output: that of the first sound there is, of at most two channels."""
        with self.changed:
            if self.format is None:
                self.format = Format(rate, min(channels, 2))
                self.changed.notify_all()
            return self.format

    def wanted(self, generation: int) -> bool:
        return generation == self.generation

    def put(self, generation: int, sound: bytes) -> None:
        """Add sound; blocks while two seconds wait. Raises StaleError as soon as it is of an older generation."""
        with self.changed:
            assert self.format is not None
            limit = _AHEAD * self.format.rate
            self.changed.wait_for(lambda: generation != self.generation or self._frames < limit)
            if generation != self.generation:
                raise StaleError
            self._items.append(memoryview(sound))
            self._frames += len(sound) // self.format.frame
            self.changed.notify_all()

    def mark(self, generation: int, mark: Mark[T]) -> bool:
        """Add a mark behind the sound; False if it is of an older generation."""
        with self.changed:
            if generation != self.generation:
                return False
            self._items.append(mark)
            self._ends += not mark.begins
            if not self._frames:
                # Nothing to be heard before it, so no output needs to come by.
                self._pass_marks()
            self.changed.notify_all()
            return True

    # --- The output's side

    def take(self, frames: int) -> bytes:
        """At most `frames` samples of every channel: fewer, or none, where there are no more yet. Does not block."""
        with self.changed:
            if self.paused or self.format is None or self._filling():
                return b""
            size = self.format.frame
            parts: list[memoryview] = []
            wanted = frames * size
            while self._items:
                item = self._items[0]
                if isinstance(item, Mark):
                    self._pass_marks()
                    continue
                if not wanted:
                    break
                part = item[:wanted]
                if len(part) == len(item):
                    self._items.popleft()
                else:
                    self._items[0] = item[len(part) :]
                parts.append(part)
                wanted -= len(part)
                count = len(part) // size
                self._frames -= count
                self._taken += count
            self.starved = not self._frames and not self._ends
            self.changed.notify_all()
            return b"".join(parts)

    @property
    def ready(self) -> bool:
        """Whether `take` has something to give."""
        return not self.paused and self.format is not None and bool(self._items) and not self._filling()

    def _filling(self) -> bool:
        assert self.format is not None
        return self.starved and not self._ends and self._frames < _REFILL * self.format.rate

    def _pass_marks(self) -> None:
        while self._items and isinstance(mark := self._items[0], Mark):
            self._items.popleft()
            self.passed.append(Passed(mark, self.position))
            if mark.begins:
                self.current, self._base, self._taken = mark.track, mark.seconds, 0
            else:
                self._ends -= 1

    # --- For the one who decides what is played

    def clear(self) -> None:
        """Drop all sound, and refuse what is still being made of it."""
        with self.changed:
            self.generation += 1
            self._items.clear()
            self._frames = self._ends = 0
            self.starved = True
            self.changed.notify_all()

    def show(self, track: T, seconds: float) -> None:
        """`track` is what one waits for, from `seconds` on; for a queue without sound."""
        with self.changed:
            self.current, self._base, self._taken = track, seconds, 0

    @property
    def position(self) -> float:
        """Seconds into the track `current` that the output has taken. Hold `changed` to get both of one moment."""
        return self._base + (self._taken / self.format.rate if self.format is not None else 0.0)

    @property
    def empty(self) -> bool:
        """No sound and no mark waits."""
        return not self._items
