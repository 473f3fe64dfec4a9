"""`kithara demo`: the whole system at work on this machine, each claim checked while it is made."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from actors.clock import monotonic
from kithara_actors.command.interrupts import Interrupts
from kithara_actors.command.recording import RATE, make_recording
from kithara_actors.command.text import amount, wrapped, write_json, write_line
from kithara_actors.command.timeline import Timeline
from kithara_actors.errors import Cancelled, StreamError
from kithara_actors.events import Envelope, FirstByte, RequestCancelled, RequestEnqueued, WorkerLost, WorkerStarted
from kithara_actors.stream.reader import Stream
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Origin, Resource, Seen
from kithara_actors.values import CancelReason

__all__ = ["PACE", "PATH", "PATIENCE", "RATE", "ROUND_TRIP", "SECONDS", "Demo", "decode", "run"]

PATH = "/recording.mp3"
SECONDS = 60
PACE = 250_000
"""Bytes per second of each of the origin's connections."""
ROUND_TRIP = 0.05
PATIENCE = 20.0
"""Seconds after which what should have happened counts as not happening."""


def run(options: argparse.Namespace, interrupts: Interrupts) -> int:
    """Run it, and return the exit status: 0 if every claim held. Blocks for about ten seconds.

    Raises CommandError, Interrupted, BrokenPipeError.
    """
    json: bool = options.json
    if not json:
        write_line("Making a recording ...")
    with interrupts.armed():
        recording = make_recording(SECONDS)
    if not json:
        write_line(
            wrapped(
                f"{SECONDS} s of stereo MP3, {amount(len(recording))}. An HTTP server on this machine sends it at "
                f"{amount(PACE)}/s, {ROUND_TRIP * 1000:.0f} ms away. Lines with 'ok' are claims that were checked."
            )
            + "\n"
        )
    if options.chaos:
        from kithara_actors.command.demo_chaos import ChaosDemo

        return ChaosDemo(recording, recording, interrupts, json=json).run()
    return Demo(recording, recording, interrupts, json=json).run()


class Demo:
    """One run: `served` is what the origin has, `expected` what has to arrive."""

    def __init__(self, served: bytes, expected: bytes, interrupts: Interrupts, *, json: bool) -> None:
        self._served = served
        self._expected = expected
        self._interrupts = interrupts
        self._json = json
        self._held = 0
        self._failed: list[str] = []
        self._pids: set[int] = set()

    def run(self) -> int:
        """Play it all; 0 if every claim held, else 1."""
        self._timeline = Timeline(json=self._json)
        try:
            threads, descriptors = set(threading.enumerate()), _descriptors()
            self._play()
            left = {thread.name for thread in set(threading.enumerate()) - threads if thread.is_alive()}
            alive = {pid for pid in self._pids if Path(f"/proc/{pid}").exists()}
            more = _descriptors() - descriptors
            self._claim(
                not left and not alive and not more,
                "stopped: no process, thread or descriptor is left",
                f"left behind: threads {sorted(left)}, processes {sorted(alive)}, descriptors {sorted(more)}",
            )
        finally:
            self._timeline.close()
        if self._timeline.error is not None:
            raise self._timeline.error
        self._sum_up()
        return 1 if self._failed else 0

    def _sum_up(self) -> None:
        if self._json:
            write_json({"event": "result", "held": self._held, "failed": self._failed})
            return
        write_line("")
        for claim in self._failed:
            write_line(f"FAILED: {claim}")
        write_line(f"{self._held} of {self._held + len(self._failed)} claims held.")

    def _play(self) -> None:
        with ExitStack() as stack:
            self._origin = origin = stack.enter_context(Origin())
            url = origin.add(
                PATH,
                Resource(data=self._served, content_type="audio/mpeg", rate=PACE, delay=ROUND_TRIP),
            )
            self._system = system = ActorSystem.start()
            stack.callback(self._stop)
            stack.enter_context(self._watch())
            self._await_workers()
            with self._interrupts.armed(), system.open(url) as stream:
                self._listen(stream)
                self._cancel_another()
                self._kill_a_worker()
                self._compare(stream)

    @contextmanager
    def _watch(self) -> Iterator[None]:
        """Put the system's events into the table until it has stopped."""
        events = self._system.subscribe(capacity=100_000)

        def run() -> None:
            for envelope in events:
                event = envelope.event
                if isinstance(event, WorkerStarted):
                    self._pids.add(event.pid)
                self._timeline.event(envelope, known=self._known(envelope))

        thread = threading.Thread(target=run, name="kithara-demo-events", daemon=True)
        thread.start()
        try:
            yield
        finally:
            # Here rather than as the last step: what happens while it stops belongs into the table.
            self._stop()
            thread.join(PATIENCE)
            events.close()

    def _known(self, envelope: Envelope) -> bool:
        """Whether the table does without this event: the first workers are in the line that says that all is ready."""
        return isinstance(envelope.event, WorkerStarted) and envelope.event.worker <= self._system.config.workers

    def _await_workers(self) -> None:
        """The system serves as soon as one worker is ready; the demo wants them all."""
        count = self._system.config.workers
        end = monotonic() + PATIENCE
        pause = threading.Event()
        while len(self._system.workers()) < count and monotonic() < end:
            pause.wait(0.01)
        workers = self._system.workers()
        self._pids.update(workers.values())
        named = [f"worker {number} is process {pid}" for number, pid in sorted(workers.items())]
        self._timeline.step("system", f"ready; {', '.join(named)}")

    def _stop(self) -> None:
        survivors = self._system.stop()
        if survivors:
            self._claim(False, "", f"not ended: {', '.join(survivors)}")

    # --- The steps

    def _listen(self, stream: Stream) -> None:
        """Decode the beginning, jump far ahead, decode there, all while the file downloads."""
        import av

        size = len(self._served)
        begun = monotonic()
        # Without fastseek FFmpeg reads through an MP3 instead of jumping in it.
        with av.open(stream, mode="r", options={"fflags": "+fastseek"}) as container:
            samples = decode(container, 1.0)
            there = stream.tell() + stream.buffered
            self._claim(
                samples >= RATE and there < size,
                f"1 s of sound decoded {_ms(begun)} after open, with {there * 100 // size} % of the file there",
                f"{samples} samples decoded with {there:,} of {size:,} bytes there",
            )
            target = size * 8 // 10
            begun = monotonic()
            byte = stream.read_at(target, 1)
            took = monotonic() - begun
            # What is sent is more than what has arrived: with less than the way to the target, it was jumped to.
            sent = self._sent()
            wait = (target - there) / PACE
            self._claim(
                byte == self._expected[target : target + 1] and sent < target and took < wait,
                f"jump to 80 %: its first byte read after {took * 1000:.0f} ms; a round trip is "
                f"{ROUND_TRIP * 1000:.0f} ms, all that lies before it would take {wait:.1f} s",
                f"byte {target:,} came after {took:.3f} s, when {sent:,} bytes had been sent",
            )
            begun = monotonic()
            at = SECONDS * 0.82
            container.seek(int(at * 1_000_000))
            frame = next(container.decode(audio=0))
            took, sent = monotonic() - begun, self._sent()
            self._claim(
                frame.time is not None and abs(frame.time - at) < 1 and sent < target,
                f"sound decoded from {frame.time:.1f} s on after {took * 1000:.0f} ms, "
                f"with {sent * 100 // size} % of the file sent in all",
                f"the decoder is at {frame.time} s instead of {at} s, with {sent:,} bytes sent",
            )
        stream.raise_for_error()

    def _cancel_another(self) -> None:
        """Cancel a stream whose reader is blocked: the reader hears of it, and so does the origin."""
        path = "/other.flac"
        url = self._origin.add(path, Resource(size=50_000_000, content_type="audio/flac", rate=PACE))
        ends: list[tuple[float, BaseException | None]] = []
        with self._system.open(url) as other:

            def read() -> None:
                error: BaseException | None = None
                try:
                    other.read()
                except (StreamError, ValueError) as raised:
                    error = raised
                ends.append((monotonic(), error))

            reader = threading.Thread(target=read, name="kithara-demo-reader", daemon=True)
            reader.start()
            try:
                flowing = self._origin.wait_for(
                    lambda seen: any(each.path == path and each.sent > 50_000 for each in seen), PATIENCE
                )
                blocked = reader.is_alive()
                self._timeline.step("demo", "cancels another stream, in whose read a thread is blocked")
                begun = monotonic()
                other.cancel()
            finally:
                other.cancel()
                reader.join(PATIENCE)
        at, error = ends[0] if ends else (begun, None)
        self._claim(
            flowing and blocked and isinstance(error, Cancelled),
            f"its reader got Cancelled after {(at - begun) * 1000:.1f} ms",
            f"the reader of the cancelled stream got {error!r}",
        )
        closed = self._origin.wait_for(
            lambda seen: any(each.path == path and each.client_closed for each in seen), PATIENCE
        )
        self._claim(
            closed, f"the server saw that connection close after {_ms(begun)}", "the server saw no connection close"
        )
        ids = {event.request_id for event in self._timeline.of(RequestEnqueued) if event.url == url}
        ended = self._timeline.wait(RequestCancelled, 0, lambda event: event.request_id in ids, PATIENCE)
        self._claim(
            ended is not None and ended.reason is CancelReason.PEER_CANCEL,
            "its request ended as cancelled",
            f"its request ended with {ended}",
        )

    def _kill_a_worker(self) -> None:
        """SIGKILL the worker that is fetching the recording: another one goes on from the last byte."""
        if not self._origin.wait_for(lambda _: self._in_the_middle() is not None, PATIENCE):
            self._claim(False, "", "no transfer of the recording to kill a worker in")
            return
        mark = self._timeline.mark()
        asked = len(self._about(PATH))
        ours = {event.request_id for event in self._timeline.of(RequestEnqueued) if event.url.endswith(PATH)}
        lost = None
        # Which worker has the transfer is the system's secret. The jump began it while the first worker was still
        # at the transfer before, so mostly it is the last one; one that was idle is no loss, and the next is tried.
        for number, pid in sorted(self._system.workers().items(), reverse=True):
            self._timeline.step("demo", f"kills worker {number}: kill -9 {pid}")
            os.kill(pid, signal.SIGKILL)
            lost = self._timeline.wait(WorkerLost, mark, lambda event, pid=pid: event.pid == pid, PATIENCE)  # type: ignore[misc]
            if lost is None or ours.intersection(lost.requests):
                break
        if lost is None or not ours.intersection(lost.requests):
            self._claim(False, "", "no worker was lost with the transfer" if lost else "a worker's loss went unnoticed")
            return
        request = min(ours.intersection(lost.requests))
        answer = self._timeline.wait(FirstByte, mark, lambda event: event.request_id == request, PATIENCE)
        before, after = self._about(PATH)[asked - 1], self._about(PATH)[asked:]
        start = _start(after[0]) if after else 0
        self._claim(
            answer is not None and _start(before) < start <= _start(before) + before.sent,
            f"request {request} goes on from byte {start:,}, where it was cut",
            f"request {request} did not go on where it was, but from byte {start:,}",
        )
        started = self._timeline.wait(WorkerStarted, mark, lambda event: event.worker > lost.worker, PATIENCE)
        self._claim(started is not None, "the lost worker was replaced", "the lost worker was not replaced")

    def _in_the_middle(self) -> Seen | None:
        """The transfer of the recording that has long begun and is far from its end."""
        for seen in self._about(PATH):
            end = len(self._served)
            if seen.range is not None and seen.range[1] is not None:
                end = seen.range[1] + 1
            if not seen.ended and 30_000 < seen.sent < end - _start(seen) - 100_000:
                return seen
        return None

    def _compare(self, stream: Stream) -> None:
        """Wait for the rest and look at every byte, and listen to all of it."""
        import av

        complete = stream.wait_complete(PATIENCE)
        stream.seek(0)
        got = stream.read() if complete else b""
        self._claim(
            complete and got == self._expected,
            f"all {len(got):,} bytes are there, and are those of the recording",
            "the bytes that arrived are not those of the recording",
        )
        stream.seek(0)
        with av.open(stream, mode="r") as container:
            seconds = decode(container, float("inf")) / RATE
        stream.raise_for_error()
        self._claim(
            abs(seconds - SECONDS) < 0.2, f"{seconds:.1f} s of sound decoded from them", f"{seconds:.1f} s decoded"
        )

    # --- Helpers

    def _claim(self, held: bool, claim: str, otherwise: str) -> None:
        if held:
            self._held += 1
            self._timeline.step("ok", claim, ok=True)
        else:
            self._failed.append(otherwise)
            self._timeline.step("FAILED", otherwise, ok=False)

    def _sent(self) -> int:
        """Bytes of the recording that the origin has sent, whatever for."""
        return sum(seen.sent for seen in self._about(PATH))

    def _about(self, path: str) -> list[Seen]:
        return [seen for seen in self._origin.requests if seen.path == path]


def decode(container: Any, seconds: float) -> int:
    """Decode so many seconds, or to the end; the samples of each channel."""
    samples = 0
    for frame in container.decode(audio=0):
        samples += frame.samples
        if samples >= seconds * RATE:
            break
    return samples


def _start(seen: Seen) -> int:
    return 0 if seen.range is None else seen.range[0]


def _ms(begun: float) -> str:
    return f"{(monotonic() - begun) * 1000:.0f} ms"


def _descriptors() -> set[str]:
    """Open descriptors by number and what they are."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{entry.name} -> {entry.readlink()}")
        except OSError:  # the descriptor of this listing
            continue
    return found
