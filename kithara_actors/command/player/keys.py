"""Single keys from the terminal, while the terminal stays what its user takes it for.

Keys come without Enter and without echo; Ctrl-C, Ctrl-Z and Ctrl-\\ stay signals. Whatever ends or stops the process by
way of Python leaves the terminal as it was. A process in the background touches nothing of it.
"""

from __future__ import annotations

import contextlib
import enum
import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Final, Self

__all__ = ["Key", "KeyDecoder", "Keyboard", "in_foreground"]


class Key(enum.Enum):
    """What a key of the player asks for."""

    PAUSE = "pause"
    BACK = "back"
    FORWARD = "forward"
    FAR_BACK = "far back"
    FAR_FORWARD = "far forward"
    NEXT = "next"
    PREVIOUS = "previous"
    QUIT = "quit"


_PLAIN: Final = {ord(" "): Key.PAUSE, ord("n"): Key.NEXT, ord("p"): Key.PREVIOUS, ord("q"): Key.QUIT}
_ARROWS: Final = {ord("A"): Key.FAR_FORWARD, ord("B"): Key.FAR_BACK, ord("C"): Key.FORWARD, ord("D"): Key.BACK}
_ESCAPE: Final = 0x1B


class KeyDecoder:
    """Bytes of a terminal to keys; how they are cut into pieces does not matter. Unknown keys give nothing.

    An arrow is ESC [ A to D, or ESC O A to D where the terminal is in application mode (ECMA-48, DEC VT100). A key with
    a modifier is another key. ESC alone begins nothing: call `pause` when nothing has followed it for a while.
    """

    def __init__(self) -> None:
        self._state = "text"
        self._modified = False

    @property
    def pending(self) -> bool:
        """Whether the bytes so far may be the beginning of a key."""
        return self._state != "text"

    def pause(self) -> None:
        """Nothing came for a while: what is pending was not the beginning of anything."""
        self._state = "text"

    def feed(self, data: bytes) -> list[Key]:
        """The keys that `data` completes."""
        found = (self._byte(byte) for byte in data)
        return [key for key in found if key is not None]

    def _byte(self, byte: int) -> Key | None:
        if byte == _ESCAPE:
            self._state = "escape"
            return None
        if self._state == "text":
            return _PLAIN.get(byte)
        if self._state == "escape" and byte in b"[O":
            self._state = "control" if byte == ord("[") else "single"
            self._modified = False
            return None
        if self._state == "control" and 0x20 <= byte < 0x40:
            # Parameters: what an arrow with Shift, Alt or Ctrl has.
            self._modified = True
            return None
        arrow = None if self._state == "escape" or self._modified else _ARROWS.get(byte)
        # Anything else ends the sequence too; with ESC before it, it was a key pressed together with Alt.
        self._state = "text"
        return arrow


_SEQUENCE: Final = 0.1
"""Seconds within which the bytes of one key follow each other, over a slow line too."""
_BACKGROUND: Final = 0.5
"""Seconds after which a process in the background looks whether it is in the foreground again."""
_JOB_SIGNALS: Final = {signal.SIGTTIN, signal.SIGTTOU}


def in_foreground(terminal: int) -> bool:
    """Whether `terminal` controls this process and its keys are for this process and no other."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False


class Keyboard:
    """Reads keys on a thread of its own, for the length of a with statement; enter and leave it in the main thread.

    `on_key` is called on that thread. The terminal is standard input, or, where that is something else, the one that
    controls the process, provided that standard error is a terminal. Without one there are no keys; with
    `listen=False` there are none either, but Ctrl-Z is still taken care of.

    `on_leave` is called in the main thread before Ctrl-Z stops the process or Ctrl-\\ ends it, `on_return` when the
    process goes on. They may be called while the main thread is anywhere else, and must not wait for it.
    """

    def __init__(
        self,
        on_key: Callable[[Key], object],
        on_leave: Callable[[], object] = lambda: None,
        on_return: Callable[[], object] = lambda: None,
        *,
        listen: bool = True,
    ) -> None:
        self._on_key = on_key
        self._on_leave = on_leave
        self._on_return = on_return
        self._listen = listen
        self._terminal = -1
        self._own = False
        self._wake = -1
        self._thread: threading.Thread | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._leaving = False
        self._again = False
        self._ending = False
        # Guards what follows. The main thread takes it only where no signal handler of ours can run or is running.
        self._lock = threading.Lock()
        self._away = False
        self._before: list[Any] | None = None

    @property
    def active(self) -> bool:
        """Whether a key that is pressed now reaches this process at once."""
        return self._before is not None

    def __enter__(self) -> Self:
        if self._listen:
            self._terminal, self._own = _terminal()
        try:
            if self._terminal >= 0:
                self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                self._thread = threading.Thread(target=self._run, name="kithara-keys", daemon=True)
                self._thread.start()
            if threading.current_thread() is threading.main_thread():
                self._catch(signal.SIGTSTP, self._leave)
                self._catch(signal.SIGQUIT, self._leave)
                self._catch(signal.SIGCONT, self._return)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._ending = True
        self._poke()
        if self._thread is not None:
            self._thread.join()
        self._release(away=True)
        # Only now: before, Ctrl-Z would have stopped the process with the terminal changed.
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        if self._wake >= 0:
            os.close(self._wake)
        if self._own:
            os.close(self._terminal)
        self._wake = self._terminal = -1

    def _catch(self, number: signal.Signals, handler: Callable[[int, FrameType | None], None]) -> None:
        # What the parent has ignored for us stays ignored; a handler set outside Python (None) cannot be put back.
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            self._handlers[number] = signal.signal(number, handler)

    # --- Signal handlers: in the main thread, between any two steps of what it does

    def _leave(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Leave the terminal as it was, then do what the signal does to a process that does not catch it."""
        if self._leaving or self._ending:
            return
        self._leaving = True
        try:
            self._on_leave()
            self._release(away=True)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            # Here the process is stopped until SIGCONT. An orphan, which nobody could wake, is not stopped at all.
            signal.signal(number, self._leave)
        finally:
            self._leaving = False
            with self._lock:
                self._away = False
            self._poke()
            self._on_return()

    def _return(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """The process goes on; after SIGSTOP, which no one can catch, the terminal may be in any state."""
        if not self._leaving:
            self._again = True
            self._poke()
            self._on_return()

    # --- The terminal's attributes

    def _take(self) -> bool:
        """Have keys come singly and unseen, if this process is in the foreground; whether they do."""
        with self._lock:
            again, self._again = self._again, False
            if self._away or (self._before is not None and not again):
                return not self._away
            if not in_foreground(self._terminal):
                return False
            try:
                before = termios.tcgetattr(self._terminal) if self._before is None else self._before
                changed = [*before[:6], list(before[6])]
                changed[3] &= ~(termios.ICANON | termios.ECHO)
                # A read returns at once whatever there is: another reader may have been quicker.
                changed[6][termios.VMIN] = changed[6][termios.VTIME] = 0
                termios.tcsetattr(self._terminal, termios.TCSANOW, changed)
            except termios.error:
                return False
            self._before = before
            return True

    def _release(self, *, away: bool = False) -> None:
        """Set the terminal back, unless somebody else is in the foreground now, who has set it as they need it."""
        with self._lock:
            self._away = self._away or away
            before, self._before = self._before, None
            if before is not None and in_foreground(self._terminal):
                with _no_job_signals(), contextlib.suppress(termios.error):
                    termios.tcsetattr(self._terminal, termios.TCSANOW, before)

    # --- The thread

    def _poke(self) -> None:
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        # In the background a read then fails, where it would stop the whole process.
        signal.pthread_sigmask(signal.SIG_BLOCK, _JOB_SIGNALS)
        decoder = KeyDecoder()
        both, woken = select.poll(), select.poll()
        for poll in (both, woken):
            poll.register(self._wake, select.POLLIN)
        both.register(self._terminal, select.POLLIN)
        while not self._ending:
            if not self._take():
                woken.poll(_BACKGROUND * 1000)
                self._calm()
                continue
            ready = dict(both.poll(_SEQUENCE * 1000 if decoder.pending else None))
            self._calm()
            if not ready:
                decoder.pause()
            events = ready.get(self._terminal, 0)
            if events & ~select.POLLIN:
                return  # the terminal is gone
            if events:
                self._read(decoder)

    def _calm(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def _read(self, decoder: KeyDecoder) -> None:
        try:
            data = os.read(self._terminal, 1024)
        except OSError:
            # In the background by now. What the shell sets there is its own.
            self._release()
            return
        for key in decoder.feed(data):
            self._on_key(key)


def _terminal() -> tuple[int, bool]:
    """A descriptor of the terminal to read keys from, and whether it has to be closed; -1 without one."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stdin is not None and sys.stdin.isatty():
            return sys.stdin.fileno(), False
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None and sys.stderr.isatty():
            return os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC), True
    return -1, False


@contextlib.contextmanager
def _no_job_signals() -> Iterator[None]:
    """Keeps a process that is moved to the background at this very moment from being stopped in the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _JOB_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
