"""The player's two helpers: a thread that decodes, and one that asks for tags."""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from kithara_actors.command.player.decoder import Decoding, Facts, SourceFile
from kithara_actors.command.player.opened import Opened
from kithara_actors.command.player.sound import Mark, SoundQueue, StaleError
from kithara_actors.errors import KitharaError

__all__ = ["Decoder", "Job", "TagReader"]

_PATIENCE = 60.0
"""Seconds for the tags of a track to come; its stream ends the wait before, when it is closed."""


@dataclass(frozen=True, slots=True)
class Job:
    """Decode `opened` from `start` seconds to its end, for one generation of the queue."""

    opened: Opened
    start: float
    generation: int


class Decoder:
    """Decodes one job after the other into the queue, on a thread of its own.

    Every job that stays wanted ends with one mark behind its sound, which says whether it failed.
    """

    def __init__(self, sounds: SoundQueue[Opened], tags: TagReader) -> None:
        self.job: Job | None = None
        """What it works at; None when it is idle. Set by `give`, under the queue's lock."""
        self._sounds = sounds
        self._tags = tags
        self._freed: Job | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="kithara-decode", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def give(self, job: Job) -> None:
        """Begin with `job`; only while idle."""
        with self._sounds.changed:
            assert self.job is None
            self.job = job
            self._sounds.changed.notify_all()

    def free(self) -> bool:
        """Whether it is idle. If not, and what it does is not wanted any more, its read is made to end."""
        job = self.job
        if job is None:
            return True
        file = job.opened.file
        if job is self._freed or self._sounds.wanted(job.generation) or file is None or not file.reading:
            return False
        if not job.opened.complete:
            self._freed = job
            job.opened.renew()
        return False

    def stop(self) -> None:
        """End the thread, whose job is not wanted any more and whose stream is closed; blocks until it has ended."""
        with self._sounds.changed:
            self._stopped = True
            self._sounds.changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._sounds.changed:
                self._sounds.changed.wait_for(lambda: self._stopped or self.job is not None)
                job = self.job
                if self._stopped or job is None:
                    return
            try:
                self._work(job)
            finally:
                with self._sounds.changed:
                    self.job = None
                    self._sounds.changed.notify_all()

    def _work(self, job: Job) -> None:
        opened = job.opened
        failure: str | None
        try:
            failure = self._decode(job)
        except StaleError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the user gets a line and the next track
            if not self._sounds.wanted(job.generation):
                return
            failure = opened.failure(error)
        opened.over = failure is not None
        self._sounds.mark(job.generation, Mark(opened, begins=False, failure=failure))

    def _decode(self, job: Job) -> str | None:
        """Why it failed, None if it did not. Raises StaleError, and what the stream and the decoder raise."""
        opened, sounds = job.opened, self._sounds
        if opened.error is not None or opened.stream is None:
            raise opened.error or StaleError
        opened.file = file = SourceFile(opened.stream, lambda: sounds.wanted(job.generation))

        def learn(facts: Facts) -> None:
            opened.facts = facts

        begun = False
        decoding = Decoding(file, job.start, sounds.agree)
        for piece in decoding.sound(learn):
            if not sounds.wanted(job.generation):
                raise StaleError
            if not piece:
                continue
            if not begun:
                begun = True
                sounds.mark(job.generation, Mark(opened, begins=True, seconds=job.start))
            sounds.put(job.generation, piece)
            # Behind the first sound: its requests are not to be in front of it.
            self._tags.ask(opened)
        if not decoding.frames and not job.start:
            return opened.no_audio()
        return opened.cut_short(decoding.reached)


class TagReader:
    """Finds out what tracks say of themselves, one after the other, on a thread of its own."""

    def __init__(self) -> None:
        self._questions: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="kithara-tags", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask(self, opened: Opened) -> None:
        """Have its `details` filled in, soon; the first time only."""
        if not opened.asked:
            opened.asked = True
            self._questions.put(functools.partial(_learn_details, opened))

    def ask_duration(self, opened: Opened) -> None:
        """Have its `duration` found out, soon, if only now it can be; the first time only."""
        if not opened.walked and opened.walkable:
            opened.walked = True
            self._questions.put(opened.walk)

    def stop(self) -> None:
        """End the thread; blocks until it has ended, at once where the streams are closed."""
        self._questions.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while (question := self._questions.get()) is not None:
            question()


def _learn_details(opened: Opened) -> None:
    stream = None
    # A stream that was closed in the middle may have been replaced by another.
    while opened.details is None and stream is not opened.stream:
        stream = opened.stream
        # Its tags can be done without; what is wrong with the bytes the decoder will say.
        with contextlib.suppress(KitharaError, OSError, ValueError):
            if stream is not None:
                opened.details = stream.inspect(timeout=_PATIENCE)
