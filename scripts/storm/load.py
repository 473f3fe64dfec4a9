"""Readers and callers who look at every byte that they get, and say when they last got one."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator

from actors.clock import monotonic
from kithara_actors import ActorSystem, FetchCommand, Stream
from kithara_actors.errors import PoisonRequest
from kithara_actors.testing.origin import body
from storm.server import FILES, File
from storm.verdict import first_difference

__all__ = ["Load"]

_PIECE = 64 * 1024
_MOST_AT_ONCE = 3
"""Streams of one thread that are open at once."""


class Load:
    """So many threads, each doing one thing after the other until told to end. What they do follows from the seed."""

    def __init__(self, system: ActorSystem, base: str, seed: int, threads: int, patience: float) -> None:
        """`patience`: seconds without progress after which a thread is taken to hang."""
        self.counts: Counter[str] = Counter()
        self.wrong_bytes: list[str] = []
        self.errors: list[str] = []
        self.bytes_checked = 0
        self._system = system
        self._base = base
        self.patience = patience
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._serial = 0
        self._workers = [_Thread(self, random.Random(f"{seed} {number}"), number) for number in range(threads)]

    def start(self) -> None:
        for worker in self._workers:
            worker.thread.start()

    def finish(self) -> None:
        """Have each thread end after what it is doing. Does not wait."""
        self._end.set()

    def running(self) -> bool:
        return any(worker.thread.is_alive() for worker in self._workers)

    def hangs(self) -> list[str]:
        """Who has had no progress for longer than the patience."""
        now = monotonic()
        return [
            f"{worker.thread.name} for {now - worker.since:.0f} s in {worker.doing}"
            for worker in self._workers
            if worker.thread.is_alive() and now - worker.since > self.patience
        ]

    def found(self) -> tuple[list[str], list[str], int]:
        """Wrong bytes, errors, and how many bytes were looked at, so far."""
        with self._lock:
            return list(self.wrong_bytes), list(self.errors), self.bytes_checked

    def give_up(self) -> None:
        """End what hangs, so that its threads do; blocks, at most as long as the patience."""
        self._end.set()
        for worker in self._workers:
            worker.cancel()
        deadline = monotonic() + self.patience
        for worker in self._workers:
            worker.thread.join(max(0.0, deadline - monotonic()))

    @property
    def ending(self) -> bool:
        return self._end.is_set()

    @property
    def system(self) -> ActorSystem:
        return self._system

    def url(self, file: File, *, own: bool) -> str:
        """Of an asset that nobody else has (`own`), or of one that all share."""
        with self._lock:
            self._serial += 1
            return f"{self._base}{file.path}" + (f"?{self._serial}" if own else "")

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def check(self, what: str, file: File, start: int, got: bytes, expected_size: int) -> None:
        """Compare what was read from `start` on with what has to be there."""
        expected = body(file.number, start, min(start + expected_size, file.size))
        wrong = first_difference(got, expected)
        with self._lock:
            self.bytes_checked += len(got)
            if wrong is not None:
                self.wrong_bytes.append(
                    f"{what}: {len(got):,} bytes from {start:,} of {file.path}, {len(expected):,} expected, "
                    f"the first wrong one at {start + wrong:,}"
                )

    def failed(self, what: str, error: BaseException) -> None:
        with self._lock:
            self.errors.append(f"{what}: {type(error).__name__}: {error}")


class _Thread:
    """One of them."""

    def __init__(self, load: Load, chance: random.Random, number: int) -> None:
        self._load = load
        self._chance = chance
        self.thread = threading.Thread(target=self._run, name=f"load-{number}", daemon=True)
        self.since = monotonic()
        self.doing = "nothing yet"
        self._open: list[Stream] = []

    def cancel(self) -> None:
        for stream in list(self._open):
            stream.cancel()

    def _run(self) -> None:
        acts: list[tuple[int, Callable[[], None]]] = [
            (6, self._read),
            (2, self._read_together),
            (2, self._leave),
            (2, self._complete),
            (3, self._call),
        ]
        self._now("nothing yet")
        while not self._load.ending:
            weights, what = zip(*acts, strict=True)
            act = self._chance.choices(what, weights)[0]
            self._load.count(act.__name__.strip("_"))
            try:
                act()
            except PoisonRequest:
                # It was alone in two workers that were killed: for all that can be known, they died of it.
                self._load.count("refused")
            except Exception as error:  # noqa: BLE001 - all of them are to be told
                self._load.failed(self.doing, error)

    def _now(self, doing: str) -> None:
        """There was progress; this comes next."""
        self.since = monotonic()
        self.doing = doing

    @contextlib.contextmanager
    def _opened(self, file: File, *, own: bool, look_ahead: int | None = None) -> Iterator[Stream]:
        self._now(f"open of {file.path}")
        with self._load.system.open(self._load.url(file, own=own), look_ahead=look_ahead) as stream:
            self._load.count("streams")
            self._open.append(stream)
            try:
                yield stream
            finally:
                self._open.remove(stream)

    # --- What they do

    def _read(self) -> None:
        """To the end, in pieces, with jumps where those are possible, perhaps fetched only so far ahead."""
        chance = self._chance
        file = chance.choice(FILES)
        look_ahead = chance.choice((None, None, 0, 100_000, 1_000_000)) if file.seekable else None
        with self._opened(file, own=chance.random() < 0.7, look_ahead=look_ahead) as stream:
            jumps = chance.randrange(4)
            while self._piece(stream, file):
                if jumps and chance.random() < 0.2:
                    jumps -= 1
                    self._jump(stream, file)
                if chance.random() < 0.02:
                    stream.play()
                elif chance.random() < 0.02:
                    stream.pause()

    def _read_together(self) -> None:
        """Several streams of one asset, taking turns."""
        file = self._chance.choice(FILES)
        with contextlib.ExitStack() as stack:
            own = self._load.url(file, own=True)
            streams = []
            for _ in range(_MOST_AT_ONCE):
                self._now(f"open of {file.path}")
                stream = stack.enter_context(self._load.system.open(own))
                self._load.count("streams")
                self._open.append(stream)
                stack.callback(self._open.remove, stream)
                streams.append(stream)
            self._jump(streams[0], file)
            left = list(streams)
            while left:
                stream = self._chance.choice(left)
                if not self._piece(stream, file):
                    left.remove(stream)

    def _leave(self) -> None:
        """In the middle: closed, or cancelled."""
        file = self._chance.choice(FILES)
        with self._opened(file, own=self._chance.random() < 0.5) as stream:
            for _ in range(self._chance.randrange(4)):
                self._piece(stream, file)
            if self._chance.random() < 0.5:
                stream.cancel()

    def _complete(self) -> None:
        """Wait for all of it, and then look at it."""
        file = self._chance.choice(FILES)
        with self._opened(file, own=self._chance.random() < 0.5) as stream:
            self._now(f"wait_complete of {file.path}")
            if not stream.wait_complete(self._load.patience):
                raise TimeoutError(f"{file.path} was not complete in time")
            while self._piece(stream, file):
                pass

    def _call(self) -> None:
        """One request of its own."""
        file = self._chance.choice([each for each in FILES if each.size < 1_000_000])
        self._load.count("calls")
        url = self._load.url(file, own=True)
        if self._chance.random() < 0.2:
            self._now(f"HEAD of {file.path}")
            answer = self._load.system.execute(FetchCommand.head(url), timeout=self._load.patience)
            if answer.status != 200 or answer.body:
                raise ValueError(f"HEAD was answered {answer.status} with {len(answer.body)} bytes")
            return
        start, size = 0, file.size
        asked = None
        if file.ranges and self._chance.random() < 0.5:
            start = self._chance.randrange(file.size)
            size = self._chance.randrange(1, file.size - start + 1)
            asked = (start, start + size - 1)
        self._now(f"GET of {file.path}")
        result = self._load.system.execute(FetchCommand.get(url, range=asked), timeout=self._load.patience)
        self._load.check(self.doing, file, start, result.body, size)

    # --- Steps

    def _piece(self, stream: Stream, file: File) -> bool:
        """Read and compare the next bytes; False at the end."""
        at = stream.tell()
        size = self._chance.randrange(1, _PIECE)
        self._now(f"read of {size:,} from {at:,} of {file.path}")
        if file.seekable and self._chance.random() < 0.1:
            at = self._chance.randrange(file.size)
            self._load.check(self.doing, file, at, stream.read_at(at, size), size)
            return True
        got = stream.read(size)
        self._load.check(self.doing, file, at, got, size)
        return bool(got)

    def _jump(self, stream: Stream, file: File) -> None:
        """Anywhere if the server has ranges, else back."""
        self._now(f"seek in {file.path}")
        here = stream.tell()
        stream.seek(self._chance.randrange(file.size) if file.seekable else self._chance.randrange(here + 1))
