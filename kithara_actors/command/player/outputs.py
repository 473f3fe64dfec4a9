"""Where the sound goes: to a sound device, to a WAV file, or nowhere."""

from __future__ import annotations

import argparse
import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol

from kithara_actors.command.explain import CommandError
from kithara_actors.command.player.sound import Format
from kithara_actors.command.player.wav import WavFile

__all__ = ["Output", "device_output", "null_output", "wav_output"]

_PERIOD = 50
"""Milliseconds of sound that a device asks for at a time."""
_PERIODS = 3
_DRAIN = 2.0
"""Seconds after which the last sound counts as played, whatever the device does."""
_BACKENDS = ("pulseaudio", "alsa", "jack", "oss")
"""What can be asked for, beside "null", which plays to nobody."""


class Output(Protocol):
    """Where the sound goes. Only the thread that runs the player calls it.

    `pulls`: it fetches the sound by itself, with the `take` given to `open`, on a thread of its own. The others are
    given the sound by `write`, which blocks until it is gone. All raise CommandError for what the user has to mend,
    and `write` BrokenPipeError.
    """

    pulls: bool

    def open(self, form: Format, take: Callable[[int], bytes]) -> None:
        """Begin: sound of this format follows. Called once, when there is sound."""

    def write(self, sound: bytes) -> None: ...

    def pause(self, *, paused: bool) -> None:
        """Stop fetching, or go on."""

    def check(self) -> None:
        """Raise what went wrong on its own thread."""

    def finish(self) -> None:
        """All sound was taken or written; blocks until it was heard or is safe."""

    def close(self) -> None:
        """Let everything go, also what is unfinished. Idempotent."""


def device_output(backend: str | None) -> Output:
    """The sound device of `backend`, or of the first backend that has one; "null" takes the time and plays to nobody.

    Opens the device for a moment, so that a machine without one is told before anything is downloaded. Raises
    CommandError, and argparse.ArgumentTypeError for an unknown backend.
    """
    return _Device(backend)


def wav_output(path: str) -> Output:
    """A WAV file (16 bit) at `path`, written under another name and renamed when complete; - is the standard output.

    Raises CommandError where `path` cannot be written; nothing is made before there is sound.
    """
    return _Wav(WavFile(path))


def null_output() -> Output:
    """Nowhere: what comes is dropped, as fast as it comes."""
    return _Null()


class _Null:
    pulls = False

    def open(self, form: Format, take: Callable[[int], bytes]) -> None:
        """Nothing to open."""

    def write(self, sound: bytes) -> None:
        """Drop it."""

    def pause(self, *, paused: bool) -> None:
        """It is given nothing then."""

    def check(self) -> None:
        """Nothing can go wrong."""

    def finish(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""


class _Wav(_Null):
    def __init__(self, file: WavFile) -> None:
        self._file = file

    def open(self, form: Format, take: Callable[[int], bytes]) -> None:  # noqa: ARG002
        self._file.open(form.rate, form.channels)

    def write(self, sound: bytes) -> None:
        self._file.write(sound)

    def finish(self) -> None:
        self._file.finish()

    def close(self) -> None:
        self._file.close()


class _Device:
    pulls = True

    def __init__(self, backend: str | None) -> None:
        try:
            import miniaudio
        except ImportError:
            raise CommandError(
                "sound is played with miniaudio, which is missing: pip install 'kithara-actors[play]'"
            ) from None
        self._library: Any = miniaudio
        names = _likely() if backend is None else (backend.lower(),)
        if backend is not None and names[0] not in (*_BACKENDS, "null"):
            choices = ", ".join(sorted((*_BACKENDS, "null")))
            raise argparse.ArgumentTypeError(f"--backend is one of {choices}, not {backend!r:.40}")
        self._device: Any = None
        self._changed = threading.Condition()
        self._silent = 0
        self._asked_to_stop = False
        self._lost = False
        self._backend = self._first_that_works(names)

    def open(self, form: Format, take: Callable[[int], bytes]) -> None:
        self._form = form
        self._take = take
        try:
            self._device = self._made(self._backend, form)
            self._device.stop_callback = self._stopped
            self._start()
        except self._library.MiniaudioError as error:
            raise CommandError(f"the sound device cannot be used: {_words(error)}; {_ELSE}") from None

    def write(self, sound: bytes) -> None:  # noqa: ARG002
        raise AssertionError("a device fetches its sound")

    def pause(self, *, paused: bool) -> None:
        if self._device is None:
            return
        try:
            if paused:
                self._stop()
            else:
                self._start()
        except self._library.MiniaudioError as error:
            raise CommandError(f"the sound device fails: {_words(error)}; {_ELSE}") from None

    def check(self) -> None:
        if self._lost:
            raise CommandError(f"the sound device went away; plug it in again, or {_ELSE}")

    def finish(self) -> None:
        if self._device is None:
            return
        # What was taken last is heard when the device has asked for as much again as it keeps.
        enough = self._form.rate * _PERIOD * _PERIODS // 1000
        with self._changed:
            self._silent = 0
            self._changed.wait_for(lambda: self._silent >= enough or self._lost, _DRAIN)

    def close(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            self._asked_to_stop = True
            device.close()

    def _start(self) -> None:
        self._asked_to_stop = False
        feed = self._feed()
        next(feed)
        self._device.start(feed)

    def _stop(self) -> None:
        self._asked_to_stop = True
        self._device.stop()

    def _feed(self) -> Generator[bytes, int, None]:
        """Runs on the device's thread: what is yielded short is followed by silence."""
        wanted = yield b""
        while True:
            sound = self._take(wanted)
            with self._changed:
                self._silent += wanted - len(sound) // self._form.frame
                self._changed.notify_all()
            wanted = yield sound

    def _stopped(self) -> None:
        """Runs on the device's thread, when it stops for whatever reason."""
        if not self._asked_to_stop:
            with self._changed:
                self._lost = True
                self._changed.notify_all()

    def _first_that_works(self, names: tuple[str, ...]) -> str:
        reasons = []
        with _quiet():
            for name in names:
                try:
                    self._made(name, Format(44_100, 2)).close()
                except self._library.MiniaudioError as error:
                    reasons.append(f"{name}: {_words(error)}")
                else:
                    return name
        raise CommandError(f"no sound device was found ({'; '.join(reasons)}): {_ELSE}")

    def _made(self, name: str, form: Format) -> Any:
        return self._library.PlaybackDevice(
            output_format=self._library.SampleFormat.SIGNED16,
            nchannels=form.channels,
            sample_rate=form.rate,
            buffersize_msec=_PERIOD,
            callback_periods=_PERIODS,
            backends=[self._library.Backend[name.upper()]],
            app_name="kithara",
        )


def _likely() -> tuple[str, ...]:
    """What to try where no backend was asked for, in this order.

    The libraries of PulseAudio and JACK make files, in the user's folders and in /dev/shm, when they look for a server,
    and leave them there: PulseAudio is tried where there are signs of one, JACK never.
    """
    runtime, home = os.environ.get("XDG_RUNTIME_DIR"), os.path.expanduser("~")  # noqa: PTH111 - there may be no home
    served = bool(os.environ.get("PULSE_SERVER")) or bool(runtime and Path(runtime, "pulse", "native").exists())
    with contextlib.suppress(OSError):
        served = served or any(Path(home, ".config", "pulse").glob("*-runtime"))
    return ("pulseaudio", "alsa", "oss") if served else ("alsa", "oss")


_ELSE = "write to a file with --output FILE.wav, or use --null"


def _words(error: Exception) -> str:
    return " ".join(str(part) for part in error.args)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """ALSA and JACK write a page to the standard error where there is no device; one line is promised."""
    try:
        kept = os.dup(2)
    except OSError:
        yield  # closed: nothing to keep quiet
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.dup2(nowhere, 2)
        finally:
            os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
