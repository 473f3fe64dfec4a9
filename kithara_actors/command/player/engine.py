"""Plays tracks one after the other, without a gap, while they download."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kithara_actors.command.player.conductor import Conductor, Step
from kithara_actors.command.player.decoder import pyav
from kithara_actors.command.player.opened import Opened
from kithara_actors.command.player.outputs import Output
from kithara_actors.command.player.sound import SoundQueue
from kithara_actors.command.player.tracks import Playing, Track
from kithara_actors.system import ActorSystem

__all__ = ["Player"]

_TICK = 1.0
"""Seconds between two looks whether the output is well."""
_PIECE = 0.1
"""Seconds of sound that are written at a time."""


class Player:
    """Plays tracks one after the other, all of them in the format of the first sound: a first track of 8 kHz, one
    channel, has the others so too. More than two channels become two.

    `on_failure(track, text)`: the track cannot be played, or not to its end; `text` is one line that says why and what
    to do, without the track's name in it. `on_start` and `on_end` get the state when a track begins to sound and when
    its sound is over or was left (not for one that never sounded). All three are called on the thread that runs
    `run`, in the order of what is heard. Raises CommandError where PyAV is missing.
    """

    def __init__(
        self,
        system: ActorSystem,
        tracks: Sequence[Track],
        output: Output,
        headers: Mapping[str, str],
        on_failure: Callable[[Track, str], None],
        on_start: Callable[[Playing], None] | None = None,
        on_end: Callable[[Playing], None] | None = None,
    ) -> None:
        pyav()
        self._count = len(tracks)
        self._output = output
        self._on_failure = on_failure
        self._on_start = on_start or (lambda _: None)
        self._on_end = on_end or (lambda _: None)
        self._sounds: SoundQueue[Opened] = SoundQueue()
        self._conductor = Conductor(system, list(tracks), dict(headers), self._sounds, self._state)
        self._output_open = False
        self._output_paused = False
        self._quit = False

    # --- From any thread

    def now(self) -> Playing | None:
        """What plays, with its position; None before `run`, and the last state after it. Does not block."""
        with self._sounds.changed:
            opened, position = self._sounds.current, self._sounds.position
        return None if opened is None else self._state(opened, position)

    def toggle_pause(self) -> None:
        """Pause, or go on. The download goes on meanwhile. Does not block."""
        with self._sounds.changed:
            self._sounds.paused = not self._sounds.paused
            self._sounds.changed.notify_all()

    def seek_by(self, seconds: float) -> None:
        """Jump forward, or back where negative; past the end is the next track. Does not block."""
        self._conductor.wish(seconds)

    def next_track(self) -> None:
        """Go to the next track; at the last one, to the end. Does not block."""
        self._conductor.wish(Step.NEXT)

    def previous_track(self) -> None:
        """Go to the start of the track, or within its first three seconds to the track before. Does not block."""
        self._conductor.wish(Step.PREVIOUS)

    def quit(self) -> None:
        """Make `run` return, wherever it is. Does not block."""
        self._quit = True
        self._conductor.end()

    # --- The thread of `run`

    def run(self) -> int:
        """Play everything; the number of tracks that failed. Blocks until all is heard, or `quit`. Runs once.

        Raises what the output raises (CommandError, BrokenPipeError) and what the callbacks raise; however it ends,
        all streams are closed, all threads have ended, and nothing is left of an unfinished file.
        """
        try:
            self._conductor.start()
            while not self._conductor.over:
                self._feed()
                self._hear()
            self._conductor.settle()
            if self._conductor.error is not None:
                raise self._conductor.error
            self._hear()
            if self._output_open and not self._quit:
                self._output.finish()
        finally:
            try:
                self._conductor.stop()
            finally:
                self._output.close()
        return len(self._conductor.failed)

    def _hear(self) -> None:
        """Pass on what happened."""
        news = self._conductor.news
        while news:
            what, told = news.popleft()
            if isinstance(told, str):
                assert isinstance(what, Track)
                self._on_failure(what, told)
            else:
                (self._on_start if what else self._on_end)(told)

    def _feed(self) -> None:
        """Hand a piece of sound on, or wait until something happens."""
        sounds = self._sounds
        if sounds.format is not None and not self._output_open:
            self._output_open = True
            self._output.open(sounds.format, sounds.take)
        if self._output_open and self._output_paused != sounds.paused:
            self._output_paused = not self._output_paused
            self._output.pause(paused=self._output_paused)
        if self._output_open:
            self._output.check()
        with sounds.changed:
            sounds.changed.wait_for(self._stirs, _TICK)
        if self._pushes and sounds.format is not None:
            sound = sounds.take(round(_PIECE * sounds.format.rate))
            if sound:
                self._output.write(sound)

    @property
    def _pushes(self) -> bool:
        return self._output_open and not self._output.pulls

    def _stirs(self) -> bool:
        """What there is to do: callbacks to call, sound to write, an output to open or to pause."""
        sounds = self._sounds
        output = sounds.paused != self._output_paused if self._output_open else sounds.format is not None
        return bool(self._conductor.over or self._conductor.news or output or (self._pushes and sounds.ready))

    def _state(self, opened: Opened, position: float) -> Playing:
        sounds = self._sounds
        # An output that takes what comes is starved most of the time, and waits only where bytes are missing.
        missing = self._output.pulls or (opened.file is not None and opened.file.waits)
        waiting = sounds.starved and missing and not sounds.paused and self._conductor.expecting
        return opened.playing(self._count, position, paused=sounds.paused, waiting=waiting)
