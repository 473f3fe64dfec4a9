"""Decides what is opened, decoded and closed: one track heard, at most one more waiting for its turn."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from actors.clock import monotonic
from kithara_actors.command.player.opened import Opened
from kithara_actors.command.player.sound import SoundQueue
from kithara_actors.command.player.threads import Decoder, Job, TagReader
from kithara_actors.command.player.tracks import Playing, Track
from kithara_actors.system import ActorSystem

__all__ = ["Conductor", "News", "Step"]

_TICK = 0.2
"""Seconds between two looks at what nobody tells: downloads, and how fast they are."""
_NEXT = 30.0
"""Seconds before the end of a track at which the next one is opened, if it was not before."""
_RESTART = 3.0
"""Seconds into a track from which on "previous" goes to its own start."""


class Step(Enum):
    """A change of track."""

    NEXT = 1
    PREVIOUS = 2


News = tuple[Track, str] | tuple[bool, Playing]
"""A track that failed, and why; or whether a track has begun, else ended, and its state."""


class Conductor:
    """Runs on a thread of its own, where no signal can tear apart the opening of a stream.

    `look` makes the state of a track at a position. What happens is put into `news`, in the order of what is heard;
    `sounds.changed` is notified of it and guards `news`, `over` and the wishes.
    """

    def __init__(
        self,
        system: ActorSystem,
        tracks: Sequence[Track],
        headers: Mapping[str, str],
        sounds: SoundQueue[Opened],
        look: Callable[[Opened, float], Playing],
    ) -> None:
        self.news: deque[News] = deque()
        self.over = False
        """All that there was has been taken by the output, or nothing more is wanted."""
        self.failed: set[int] = set()
        self.error: BaseException | None = None
        """What ended it before its time: a mistake in it, and nobody else's."""
        self._system = system
        self._tracks = tracks
        self._headers = headers
        self._sounds = sounds
        self._look = look
        self._tags = TagReader()
        self._decoder = Decoder(sounds, self._tags)
        self._wishes: deque[Step | float] = deque()
        self._open: dict[int, Opened] = {}
        self._pending: tuple[int, float] | None = None
        self._frontier = -1
        self._paused = False
        self._measured = 0.0
        self._thread = threading.Thread(target=self._run, name="kithara-play", daemon=True)

    @property
    def expecting(self) -> bool:
        """More sound is to come."""
        return not self.over and (self._pending is not None or self._decoder.job is not None)

    def start(self) -> None:
        """Begin with the first track."""
        self._tags.start()
        self._decoder.start()
        self._thread.start()

    def wish(self, wish: Step | float) -> None:
        """Change the track, or move by so many seconds. From any thread; does not block."""
        with self._sounds.changed:
            self._wishes.append(wish)
            self._sounds.changed.notify_all()

    def end(self) -> None:
        """Play nothing more. From any thread; does not block."""
        with self._sounds.changed:
            self.over = True
            self._sounds.changed.notify_all()

    def settle(self) -> None:
        """Wait until the last of the news is there, when it is over; no network delays that."""
        self._thread.join()

    def stop(self) -> None:
        """End it with all that it has opened and started; blocks until that is done, which no network delays."""
        self.end()
        if self._thread.ident is not None:
            self._thread.join()
        # Not before: until its end it may give the decoder another job, which would wait for room in the queue.
        self._sounds.clear()
        current = self._sounds.current
        if current is not None:
            _ = current.downloaded  # for those who look at the last state
        for opened in self._open.values():
            opened.close()
        self._decoder.stop()
        self._tags.stop()

    def _run(self) -> None:
        try:
            if self._tracks:
                self._go(0, 0.0)
            while not self.over:
                seen = self._signs()
                self._step()
                with self._sounds.changed:
                    self._sounds.changed.wait_for(functools.partial(self._stirs, seen), _TICK)
            self._report()
            current = self._sounds.current
            if current is not None and current.begun:
                self._ended(current, self._sounds.position)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for the end
            self.error = error
        finally:
            self.end()

    def _signs(self) -> tuple[object, ...]:
        return self._decoder.job, self._sounds.empty, self._sounds.paused

    def _stirs(self, seen: tuple[object, ...]) -> bool:
        return bool(self.over or self._wishes or self._sounds.passed or self._signs() != seen)

    def _step(self) -> None:
        self._obey()
        self._report()
        self._assign()
        self._watch()
        with self._sounds.changed:
            # The decoder may have become idle after `_assign` has looked.
            last = self._pending is None and self._frontier + 1 >= len(self._tracks)
            done = last and self._decoder.job is None and self._sounds.empty
            if done and not self._sounds.passed and not self._wishes:
                self.end()

    # --- What the user wants

    def _obey(self) -> None:
        with self._sounds.changed:
            wishes = list(self._wishes)
            self._wishes.clear()
            current, at = self._sounds.current, self._sounds.position
            if not wishes or current is None:
                return
            self._sounds.clear()
        self._report()
        index = current.index
        for wish in wishes:
            if wish is Step.NEXT:
                index, at = min(index + 1, len(self._tracks)), 0.0
            elif wish is Step.PREVIOUS:
                index, at = (index if at > _RESTART else self._before(index)), 0.0
            elif isinstance(wish, float | int):
                at = max(0.0, at + wish)
                duration = self._open[index].duration if index in self._open else None
                if duration is not None and at >= duration:
                    index, at = index + 1, 0.0
        if index != current.index and current.begun:
            self._ended(current, self._sounds.position)
        if index == len(self._tracks):
            self.end()
        else:
            self._go(index, at)

    def _before(self, index: int) -> int:
        """The track before that can be played, as far as is known; else the same."""
        return max((before for before in range(index) if before not in self.failed), default=index)

    def _go(self, index: int, seconds: float) -> None:
        """Play from there on."""
        for other in [other for other, each in self._open.items() if other not in (index, index + 1) or each.over]:
            self._open.pop(other).close()
        opened = self._open.get(index) or self._opened(index)
        self._sounds.show(opened, seconds)
        self._pending, self._frontier = (index, seconds), index

    # --- What was heard

    def _report(self) -> None:
        while self._sounds.passed:
            mark, position = self._sounds.passed.popleft()
            opened = mark.track
            if mark.begins:
                for index in [index for index in self._open if index < opened.index]:
                    self._open.pop(index).close()
                if not opened.begun:
                    opened.begun = True
                    self._tell((True, self._look(opened, mark.seconds)))
                continue
            if opened.begun:
                self._ended(opened, position)
            if mark.failure is not None:
                self.failed.add(opened.index)
                self._tell((opened.track, mark.failure))

    def _ended(self, opened: Opened, position: float) -> None:
        opened.begun = False
        self._tell((False, self._look(opened, position)))

    def _tell(self, news: News) -> None:
        with self._sounds.changed:
            self.news.append(news)
            self._sounds.changed.notify_all()

    # --- What comes next

    def _assign(self) -> None:
        """Give the decoder its next track, if it is free and may have it."""
        if not self._decoder.free():
            return
        if self._pending is None:
            if self._frontier + 1 >= len(self._tracks):
                return
            self._pending = (self._frontier + 1, 0.0)
        index, seconds = self._pending
        opened = self._open.get(index)
        if opened is None:
            for other in [other for other, each in self._open.items() if each.over]:
                self._open.pop(other).close()
            if len(self._open) > 1:
                return  # one is heard still, of the other all waits in the queue
            opened = self._opened(index)
        self._pending, self._frontier = None, index
        with self._sounds.changed:
            if self._sounds.empty and not self._sounds.passed:
                self._sounds.show(opened, seconds)
        opened.play(paused=self._sounds.paused)
        self._decoder.give(Job(opened, seconds, self._sounds.generation))

    def _opened(self, index: int) -> Opened:
        opened = self._open[index] = Opened(self._system, index, self._tracks[index], self._headers)
        return opened

    def _watch(self) -> None:
        """See to the next track's download, and to the speed of this one's."""
        current = self._sounds.current
        if current is not None and self._paused != self._sounds.paused:
            self._paused = self._sounds.paused
            current.play(paused=self._paused)
        now = monotonic()
        if current is None or now < self._measured + _TICK / 2:
            return
        self._measured = now
        current.measure(now)
        self._tags.ask_duration(current)
        index = current.index + 1
        if index != self._frontier + 1 or index in self._open or index >= len(self._tracks) or len(self._open) > 1:
            return
        duration = current.duration
        if current.complete or (duration is not None and duration - self._sounds.position <= _NEXT):
            self._opened(index)
