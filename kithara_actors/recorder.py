"""The flight recorder: puts on file what the pure machines are given and what they decide.

It writes on the threads of those who decide, one frame for each decision, before they carry it out: what a process
had decided when it was killed is in the file. Whatever goes wrong with the file ends the recording, and nothing else.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import stat
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

from actors.clock import Clock, monotonic, wall
from kithara_actors.errors import Failure, TraceError
from kithara_actors.forks import watch_forks
from kithara_actors.logic.machines import MACHINES, VOCABULARY, Machine, hiding
from kithara_actors.logic.plain import Encoder, Plain
from kithara_actors.messages.frames import Event, State, Words
from kithara_actors.traces import (
    FRAME,
    FRAMES_AT,
    HEADER,
    MAGIC,
    STOP,
    Header,
    framed,
    lap_header,
    pack,
)

__all__ = ["SIZE", "Recorder"]

logger = logging.getLogger(__name__)

M = TypeVar("M")

SIZE = 16 * 1024 * 1024
"""Bytes of the file."""
_SPARE = 8
"""A lap ends when less than this part of it is left: what follows a state is to be in the same lap."""
_STATE = 4
"""A state takes at most this part of a lap, or it is left out: else there would be room for nothing else."""
_SLOW = 5.0
"""Seconds for one write, or to wait for one: a file that takes longer is not worth what waits for it."""


class Recorder:
    """Records into one file, from its making until `close`. Safe from any thread."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: int = SIZE,
        clock: Clock = monotonic,
        write: Callable[[int, bytes, int], int] = os.pwrite,
        patience: float = _SLOW,
    ) -> None:
        """Takes the file over. Raises ValueError for one that is no trace or that another recorder writes, OSError."""
        self.path = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - keeps symbolic links
        self._clock = clock
        self._write = write
        self._patience = patience
        self._half = (size - HEADER) // 2
        self._encode = Encoder(VOCABULARY, hiding(secrets.token_bytes(32))).encode
        # Held while a machine decides: what is on file is in the order in which it was decided. Re-entrant, for a
        # finalizer may have another decide on the same thread.
        self._lock = threading.RLock()
        self._incarnations: Counter[str] = Counter()
        self._seq = 0
        self._lap = 0
        self._at = 0
        self._why: str | None = None
        self._fd = -1
        self.running = True
        """False once the recording has ended."""
        try:
            self._fd = _take(self.path)
            os.ftruncate(self._fd, 0)
            self._put(Header(self._half, wall(), clock(), os.getpid()).pack(), 0)
            # Of its full size from the beginning on: one that is shorter was cut.
            os.ftruncate(self._fd, HEADER + 2 * self._half)
            self._begin_lap()
        except OSError as error:
            if self._fd >= 0:
                os.ftruncate(self._fd, 0)
            self._end()
            raise OSError(error.errno, error.strerror, self.path) from error
        except BaseException:
            self._end()
            raise
        watch_forks(self)

    def machine(self, actor: str, machine: M) -> M:
        """The next incarnation of the actor's machine, recorded. What is returned stands for it."""
        tape = self._tape(actor, type(machine).__name__, machine)
        return cast("M", _Recorded(machine, tape))

    def function(self, actor: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The function, recorded, as the next incarnation of the actor calls it."""
        tape = self._tape(actor, function.__name__, None)
        return lambda given: tape.run(function, (given,))

    def close(self) -> None:
        """End the recording; what is on file stays. Idempotent."""
        if self._acquire():
            try:
                self._end()
            finally:
                self._lock.release()

    def forked(self, failure: Failure) -> None:  # noqa: ARG002
        """In the child of a fork: the recording is the parent's."""
        self._lock = threading.RLock()
        self._end()

    def run(self, tape: _Tape, call: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
        """Have a machine decide, and note what. Raises what it raises, and nothing else."""
        if not self.running or not self._acquire():
            return call(*inputs)
        try:
            return self._run(tape, call, inputs)
        finally:
            self._lock.release()
            self._say()

    def answered(self, tape: _Tape, answer: Any) -> None:
        """A port of the machine has been answered, while it decides."""
        if self.running:
            try:
                tape.answers.append(self._encode(answer))
            except Exception as error:  # noqa: BLE001 - the machine has to decide, whatever becomes of the recording
                self._give_up(error)

    # --- With the lock held

    def _acquire(self) -> bool:
        if self._lock.acquire(timeout=self._patience):
            return True
        # Whoever has it may be in the middle of a write: the descriptor stays open.
        self.running = False
        self._why = f"it was not to be had for {self._patience:g} s"
        self._say()
        return False

    def _run(self, tape: _Tape, call: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
        tape.answers = []
        try:
            if self._half - self._at < self._half // _SPARE:
                self._begin_lap()
            if tape.lap != self._lap:
                self._put_state(tape)
        except Exception as error:  # noqa: BLE001 - as above
            self._give_up(error)
        try:
            decided = call(*inputs)
        except BaseException as error:
            self._note(tape, inputs, type(error).__name__, str(error))
            raise
        self._note(tape, inputs, None, decided)
        return decided

    def _note(self, tape: _Tape, inputs: tuple[Any, ...], error: str | None, decided: Any) -> None:
        if not self.running:
            return
        try:
            event = Event(
                *(self._seq, self._clock(), tape.actor, tape.incarnation, tape.step, tape.kind),
                self._encode(inputs),
                tuple(tape.answers),
                error,
                self._encode(decided),
            )
            tape.step += 1
            packed = pack(event)
            if not self._fits(packed):
                # It can still be shown. It is not replayed, for the state before it is not in this lap.
                self._begin_lap()
                packed = pack(replace(event, seq=self._seq))
            if self._fits(packed):
                self._append(packed)
        except Exception as failure:  # noqa: BLE001 - as above
            self._give_up(failure)

    def _give_up(self, error: Exception) -> None:
        if self.running:
            known = isinstance(error, OSError | TraceError)
            self._why = f"{getattr(error, 'strerror', None) or error}" if known else f"{type(error).__name__}: {error}"
        self._end()

    def _end(self) -> None:
        self.running = False
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _say(self) -> None:
        # Not under the lock: a handler of the log may take its time.
        why, self._why = self._why, None
        if why is not None:
            logger.warning("the recording to %s has ended: %s", self.path, why)

    # --- The file

    def _tape(self, actor: str, kind: str, machine: object) -> _Tape:
        if self.running and self._acquire():
            try:
                self._incarnations[actor] += 1
            finally:
                self._lock.release()
        return _Tape(self, actor, self._incarnations[actor], kind, machine)

    def _put_state(self, tape: _Tape) -> None:
        if tape.machine is not None:
            state = State(
                *(self._seq, self._clock(), tape.actor, tape.incarnation, tape.step, tape.kind),
                self._encode(tape.machine),
            )
            packed = pack(state)
            if len(packed) <= self._half // _STATE:
                if not self._fits(packed):
                    self._begin_lap()
                    packed = pack(replace(state, seq=self._seq))
                self._append(packed)
        tape.lap = self._lap

    def _begin_lap(self) -> None:
        self._lap += 1
        self._put(lap_header(self._lap), self._begin)
        self._at = FRAMES_AT
        self._append(pack(Words(self._seq, self._clock(), VOCABULARY.described)))

    @property
    def _begin(self) -> int:
        """Where the half of this lap is: the first lap is in the first."""
        return HEADER + (self._lap - 1) % 2 * self._half

    def _fits(self, packed: bytes) -> bool:
        return self._at + FRAME + len(packed) + len(STOP) <= self._half

    def _append(self, packed: bytes) -> None:
        self._put(framed(packed, self._lap) + STOP, self._begin + self._at)
        self._at += FRAME + len(packed)
        self._seq += 1

    def _put(self, data: bytes, at: int) -> None:
        began = self._clock()
        written = self._write(self._fd, data, at)
        if written < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        took = self._clock() - began
        if took > self._patience:
            raise TraceError(f"a write took {took:.1f} s")


class _Tape:
    """What one incarnation of a machine is given and decides, in order."""

    def __init__(self, recorder: Recorder, actor: str, incarnation: int, kind: str, machine: object) -> None:
        self._recorder = recorder
        self.actor = actor
        self.incarnation = incarnation
        self.kind = kind
        self.machine = machine
        self.step = 0
        self.lap = 0
        """The last lap that has its state."""
        self.answers: list[Plain] = []

    def run(self, call: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
        """Have the machine decide."""
        return self._recorder.run(self, call, inputs)

    def port(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A port of the machine: what it answers is an input as well."""

        def ask(*arguments: Any) -> Any:
            answer = call(*arguments)
            # At once: the machine may change what it has got.
            self._recorder.answered(self, answer)
            return answer

        return ask


class _Recorded:
    """Stands for a machine."""

    def __init__(self, machine: Any, tape: _Tape) -> None:
        described = MACHINES.get(tape.kind, Machine(()))
        for port in described.ports:
            setattr(machine, port, tape.port(getattr(machine, port)))
        self._machine = machine
        self._tape = tape

    def handle(self, *inputs: Any) -> Any:
        return self._tape.run(self._machine.handle, inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)


def _take(path: str) -> int:
    """Open the file for a recording, and keep all others from it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(f"record: {path} is a symbolic link: name the file itself") from None
        raise type(error)(error.errno, f"record: {error.strerror}", path) from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"record: {path} is no file: name one")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"record: another system records to {path}: name another file") from None
        if status.st_size and not os.pread(fd, len(MAGIC), 0).startswith(MAGIC):
            raise ValueError(f"record: {path} exists and is not a trace: name another file")
        os.fchmod(fd, 0o600)
    except BaseException:
        os.close(fd)
        raise
    return fd
