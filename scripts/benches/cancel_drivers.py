"""Who is told to cancel: the whole system, or a worker's part alone, whose threads then run in this process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

from actors.actor.pool import PoolSettings
from benches import hanging_lookup
from benches.cancel_phases import Transfer
from kithara_actors import ActorSystem, Stream
from kithara_actors.errors import Cancelled
from kithara_actors.events import (
    Envelope,
    RequestCancelled,
    RequestCompleted,
    RequestEnqueued,
    RequestFailed,
    RequestRetrying,
    RequestStarted,
)
from kithara_actors.logic.response import Asked
from kithara_actors.worker.fetcher import Order, run
from kithara_actors.worker.http import Attempt, Transport, TransportSettings
from kithara_actors.worker.sink import Sink

__all__ = ["Attempts", "Driver", "System"]

_PATIENCE = 60.0
"""Seconds: longer than any transfer stays in its phase."""
_DESCRIPTORS_WITHIN = 5.0


class Driver(Protocol):
    """Runs the transfers of one round."""

    name: str

    def serves(self, phase: str) -> bool:
        """Whether a transfer can be in this phase here."""

    def start(self, transfers: Sequence[Transfer], ca: Path) -> None:
        """Begin them all; returns when those that have to wait for nobody are on their way."""

    def started(self) -> bool:
        """Whether they are in their phases, as far as this side can say."""

    def cancel(self, transfer: Transfer) -> None:
        """End one, and note when."""

    def settled(self) -> bool:
        """Note the ends that were told; whether each transfer has one."""

    def stop(self) -> list[str]:
        """End everything; what was left behind, one line each."""

    def pids(self) -> list[int]:
        """Processes beside this one."""


class System:
    """A system with worker processes: `Stream.cancel` and `Stream.close` by turns, ends as they are published."""

    name = "system"

    def serves(self, phase: str) -> bool:  # noqa: ARG002 - all of them
        return True

    def start(self, transfers: Sequence[Transfer], ca: Path) -> None:
        self._transfers = {transfer.number: transfer for transfer in transfers}
        queued = [transfer for transfer in transfers if transfer.phase.name == "queued"]
        # A request in backoff gives its slot back, so they come first; then all slots are taken for good.
        backing = [transfer for transfer in transfers if transfer.phase.name == "backoff"]
        rest = [transfer for transfer in transfers if transfer.phase.name not in ("queued", "backoff")]
        rest.sort(key=lambda transfer: transfer.phase.busy)
        slots = max(len(rest), 1)
        handler = f"{hanging_lookup.__name__}:{hanging_lookup.make_handler.__name__}"

        def settings(**given: Any) -> PoolSettings:
            return PoolSettings(**{**given, "handler": handler})

        with mock.patch("kithara_actors.workers.PoolSettings", settings):
            self._system = ActorSystem.start(
                max_concurrent=slots,
                max_per_host=slots,
                memory_limit=1 << 40,
                connect_timeout=_PATIENCE,
                inactivity_timeout=_PATIENCE,
                retry_after_limit=_PATIENCE,
                verify=str(ca),
            )
        self._events = self._system.subscribe(capacity=1 << 20)
        self._ids: dict[int, Transfer] = {}
        self._retrying = self._started = 0
        self._streams: dict[int, Stream] = {}
        self._before = self._held()
        self._open(backing)
        self._wait(lambda: self._retrying == len(backing), "every 503 is backed off from")
        self._open(rest)
        # Announced by an actor each, they could come to the queue in another order than they were opened.
        self._wait(lambda: self._started == len(backing) + len(rest), "every slot is taken")
        self._open(queued)

    def started(self) -> bool:
        self._drain()
        return len(self._ids) == len(self._transfers)

    def cancel(self, transfer: Transfer) -> None:
        stream = self._streams[transfer.number]
        end = stream.close if transfer.number % 2 else stream.cancel
        transfer.cancelled_at = time.monotonic()
        end()
        transfer.call_seconds = time.monotonic() - transfer.cancelled_at

    def settled(self) -> bool:
        self._drain()
        return all(transfer.ended for transfer in self._transfers.values())

    def stop(self) -> list[str]:
        left = []
        deadline = time.monotonic() + _DESCRIPTORS_WITHIN
        while (held := self._held()) - self._before and time.monotonic() < deadline:
            time.sleep(0.01)
        if more := held - self._before:
            left = [f"the workers hold {len(more)} descriptors more than before, such as {min(more)[2]}"]
        for stream in self._streams.values():
            stream.close()
        left += [f"{name} could not be ended" for name in self._system.stop()]
        self._drain()
        self._events.close()
        return left

    def pids(self) -> list[int]:
        return list(self._system.workers().values())

    def _open(self, transfers: Sequence[Transfer]) -> None:
        for transfer in transfers:
            self._streams[transfer.number] = self._system.open(transfer.url)

    def _wait(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                raise SystemExit(f"it does not come to pass that {what}")
            self._drain(0.01)

    def _drain(self, seconds: float = 0.0) -> None:
        while (envelope := self._events.get(seconds)) is not None:
            self._note(envelope)

    def _note(self, envelope: Envelope) -> None:
        # The kernel's two clocks run alike; an event has the other.
        at = envelope.timestamp + time.monotonic() - time.time()
        match envelope.event:
            case RequestEnqueued(request, url):
                self._ids[request] = self._transfers[int(url.rsplit("/", 1)[1])]
            case RequestStarted():
                self._started += 1
            case RequestRetrying():
                self._retrying += 1
            case RequestCancelled(request) | RequestCompleted(request) | RequestFailed(request):
                self._ids[request].ended.append(at)

    def _held(self) -> set[tuple[int, str, str]]:
        """Sockets, files and the like that the workers hold: process, number and what it is."""
        held = set()
        for pid in self.pids():
            for entry in os.scandir(f"/proc/{pid}/fd"):
                try:
                    what = str(Path(entry.path).readlink())
                except FileNotFoundError:
                    continue
                # A worker takes hold of its host's process only after it has said that it is ready.
                if "pidfd" not in what:
                    held.add((pid, entry.name, what))
        return held


class Attempts:
    """What a worker does with an attempt, one thread each: `Attempt.cancel`, the end is that of its `run`."""

    name = "attempt"

    def serves(self, phase: str) -> bool:
        return phase not in ("queued", "backoff")

    def start(self, transfers: Sequence[Transfer], ca: Path) -> None:
        self._stack = ExitStack()
        self._stack.callback(hanging_lookup.hang())
        self._transport = Transport(
            TransportSettings(
                connect_timeout=_PATIENCE,
                inactivity_timeout=_PATIENCE,
                verify=str(ca),
                trust_env=False,
                max_connections=len(transfers),
            )
        )
        self._stack.callback(self._transport.close)
        self._wrong: list[str] = []
        self._transfers = transfers
        self._attempts = {transfer.number: Attempt() for transfer in transfers}
        self._threads = [
            threading.Thread(target=self._run, args=(transfer,), daemon=True)
            for transfer in sorted(transfers, key=lambda transfer: transfer.phase.busy)
        ]
        for thread in self._threads:
            thread.start()

    def started(self) -> bool:
        return True

    def cancel(self, transfer: Transfer) -> None:
        attempt = self._attempts[transfer.number]
        transfer.cancelled_at = time.monotonic()
        attempt.cancel()
        transfer.call_seconds = time.monotonic() - transfer.cancelled_at

    def settled(self) -> bool:
        return all(transfer.ended for transfer in self._transfers)

    def stop(self) -> list[str]:
        for attempt in self._attempts.values():
            attempt.cancel()
        for thread in self._threads:
            thread.join(_DESCRIPTORS_WITHIN)
        self._stack.close()
        return self._wrong

    def pids(self) -> list[int]:
        return []

    def _run(self, transfer: Transfer) -> None:
        fd = os.memfd_create("bench", os.MFD_CLOEXEC)
        try:
            sink = Sink(fd, lambda _: None)
            asked = Asked(0, None)
            order = Order(transfer.url, (), asked)
            run(self._transport, self._attempts[transfer.number], order, sink, lambda _answer, _first: None)
            self._wrong.append(f"{transfer.name} came to an end")
        except Cancelled:
            transfer.ended.append(time.monotonic())
        except Exception as error:  # noqa: BLE001 - told as what went wrong
            self._wrong.append(f"{transfer.name} ended with {error!r}")
        finally:
            os.close(fd)
