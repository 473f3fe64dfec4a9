"""`kithara demo --chaos`: plays and downloads while actors crash and worker processes are killed, and checks it all."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from contextlib import ExitStack
from typing import Any

from actors.clock import monotonic
from actors.testing.sabotage import sabotage
from actors.testing.saboteur import Saboteur, Trap
from kithara_actors.command.demo import PACE, PATH, PATIENCE, RATE, ROUND_TRIP, SECONDS, Demo, decode
from kithara_actors.command.interrupts import Interrupts
from kithara_actors.command.text import amount
from kithara_actors.events import (
    ActorRestarted,
    Envelope,
    RequestCancelled,
    RequestCompleted,
    RequestEnqueued,
    RequestFailed,
    WorkerLost,
    WorkerStarted,
)
from kithara_actors.fetching import FetchCommand
from kithara_actors.stream.reader import Stream
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Origin, Resource

__all__ = ["ChaosDemo"]

_DOWNLOAD = "/album.flac"
_DOWNLOAD_SIZE = 3_000_000
_DOWNLOAD_PACE = 600_000
_SMALL = "/cover.jpg"
_SMALL_SIZE = 20_000
_PAUSE = 0.45
"""Seconds between two troubles."""

# Four of the actors that are always there: the sixth failure of those within a minute would end the system.
_TROUBLES = (
    "source-1",
    "a worker",
    "registry",
    "downloader",
    "a worker",
    "asset_store",
    "source-2",
    "event_bus",
    "all workers",
)


class ChaosDemo(Demo):
    """One run. Crashes come at whatever command the actor is about to handle."""

    def __init__(self, served: bytes, expected: bytes, interrupts: Interrupts, *, json: bool) -> None:
        super().__init__(served, expected, interrupts, json=json)
        self._done = threading.Event()
        self._errors: list[str] = []
        self._reads = 0
        self._sound = 0.0
        self._downloaded = False
        self._small: set[object] = set()

    def _play(self) -> None:
        saboteur = Saboteur()
        with ExitStack() as stack:
            self._origin = origin = stack.enter_context(Origin())
            url = origin.add(PATH, Resource(data=self._served, content_type="audio/mpeg", rate=PACE, delay=ROUND_TRIP))
            album = Resource(_DOWNLOAD_SIZE, seed=1, content_type="audio/flac", rate=_DOWNLOAD_PACE)
            cover = Resource(_SMALL_SIZE, seed=2, content_type="image/jpeg")
            with sabotage(saboteur):
                self._system = system = ActorSystem.start()
            stack.callback(self._stop)
            stack.enter_context(self._watch())
            self._await_workers()
            other = origin.add(_DOWNLOAD, album)
            with self._interrupts.armed(), system.open(url) as stream, system.open(other) as rest:
                threads = [
                    threading.Thread(target=self._guarded, args=call, name="kithara-demo-load", daemon=True)
                    for call in (
                        (self._decode, stream),
                        (self._download, rest, album.read()),
                        (self._call, origin.add(_SMALL, cover), cover.read()),
                    )
                ]
                for thread in threads:
                    thread.start()
                try:
                    self._trouble(saboteur, stream, rest)
                    threads[0].join(PATIENCE)
                finally:
                    self._done.set()
                    self._join(threads, stream, rest)
                self._compare(stream)
                self._compare_load()
        self._check_ends()

    def _join(self, threads: list[threading.Thread], *streams: Stream) -> None:
        """Wait for what is under way; what hangs is cancelled, and was read in vain."""
        end = monotonic() + PATIENCE
        for thread in threads:
            thread.join(max(0.0, end - monotonic()))
        if any(thread.is_alive() for thread in threads):
            for stream in streams:
                stream.cancel()

    def _known(self, envelope: Envelope) -> bool:
        """Also all about the small files: there are many."""
        event, asset = envelope.event, envelope.scope.asset
        request = getattr(event, "request_id", None)
        if isinstance(event, RequestEnqueued) and _SMALL in event.url:
            self._small |= {("request", request), ("asset", asset)} - {("asset", None)}
        return super()._known(envelope) or not self._small.isdisjoint({("request", request), ("asset", asset)})

    # --- What goes on meanwhile

    def _guarded(self, call: Any, *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001 - each is what the demo says does not happen
            self._errors.append(f"{type(error).__name__}: {error}")

    def _decode(self, stream: Stream) -> None:
        import av

        with av.open(stream, mode="r") as container:
            self._sound = decode(container, float("inf")) / RATE

    def _download(self, stream: Stream, expected: bytes) -> None:
        got = b"".join(stream.iter_chunks(50_000))
        self._downloaded = got == expected
        self._reads += 1

    def _call(self, url: str, expected: bytes) -> None:
        """Small requests and streams all the time, so that there is something for every actor to do."""
        number = 0
        while not self._done.wait(0.02):
            number += 1
            if number % 2:
                right = self._system.execute(FetchCommand.get(f"{url}?{number}"), timeout=PATIENCE).body == expected
            else:
                with self._system.open(f"{url}?{number}") as stream:
                    stream.play()
                    right = stream.read() == expected
            self._reads += 1
            if not right:
                self._errors.append(f"wrong bytes in small file {number}")

    # --- What goes wrong

    def _trouble(self, saboteur: Saboteur, *streams: Stream) -> None:
        pause = threading.Event()
        mark = self._timeline.mark()
        killed = 0
        for trouble in _TROUBLES:
            pause.wait(_PAUSE)
            if trouble in ("a worker", "all workers"):
                workers = sorted(self._system.workers().items())
                for number, pid in workers if trouble == "all workers" else workers[-1:]:
                    self._timeline.step("demo", f"kills worker {number}: kill -9 {pid}")
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                continue
            self._timeline.step("demo", f"crashes {trouble}, at the next command that it gets")
            saboteur.set(Trap(trouble))
            for stream in streams:
                stream.play()  # a command for its source
                stream.pause()
            end = monotonic() + PATIENCE
            while not saboteur.wait(0.1) and monotonic() < end and not self._system.wait(0):
                pass
        crashed = Counter(name for name, _ in saboteur.sprung)
        for name, times in crashed.items():
            wanted = (name, times + 1)
            last = self._timeline.wait(
                ActorRestarted,
                mark,
                lambda event, wanted=wanted: (event.name, event.incarnation) == wanted,  # type: ignore[misc]
                PATIENCE,
            )
            self._claim(last is not None, f"{name} is up again, as incarnation {times + 1}", f"{name} is not up again")
        self._claim(not saboteur.left, f"{sum(crashed.values())} actors were crashed", f"not crashed: {saboteur.left}")
        end = monotonic() + PATIENCE
        while len(self._timeline.of(WorkerLost)) < killed and monotonic() < end:
            pause.wait(0.02)
        while len(self._system.workers()) != self._system.config.workers and monotonic() < end:
            pause.wait(0.02)
        lost = len(self._timeline.of(WorkerLost))
        started = len(self._timeline.of(WorkerStarted))
        self._claim(
            lost == killed and len(self._system.workers()) == self._system.config.workers,
            f"{killed} workers were killed, and each was replaced",
            f"{killed} workers were killed, {lost} losses noticed, {started} workers started",
        )

    # --- What is checked

    def _compare_load(self) -> None:
        self._claim(
            self._downloaded,
            f"the other download is complete: {amount(_DOWNLOAD_SIZE)}, each byte right",
            "the other download did not bring the right bytes",
        )
        self._claim(
            abs(self._sound - SECONDS) < 0.2,
            f"{self._sound:.1f} s of sound were decoded meanwhile",
            f"only {self._sound:.1f} s of sound were decoded meanwhile",
        )
        self._claim(
            not self._errors,
            f"none of {self._reads} other reads and calls failed or got a wrong byte",
            f"{len(self._errors)} reads or calls failed, the first with {self._errors[:1]}",
        )

    def _check_ends(self) -> None:
        """After the system has stopped: every request has had exactly one end."""
        asked = Counter(event.request_id for event in self._timeline.of(RequestEnqueued))
        ends = Counter(event.request_id for event in self._timeline.of(RequestCompleted))
        ends.update(event.request_id for event in self._timeline.of(RequestFailed))
        ends.update(event.request_id for event in self._timeline.of(RequestCancelled))
        self._claim(
            asked == ends and set(asked.values()) == {1},
            f"each of {len(asked)} requests had one end",
            f"requests with no end, or several: {sorted((asked - ends) + (ends - asked))}",
        )
