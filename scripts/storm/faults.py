"""Carries out a schedule: each fault at its time, on whom it is to hit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from actors.clock import monotonic
from actors.testing.saboteur import Saboteur
from kithara_actors import ActorSystem
from storm.schedule import Due
from storm.server import Server

__all__ = ["Faults"]

_BURN = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end:\n    pass\n"


class Faults:
    """`run` blocks; `stop` may come from another thread. What lasts is taken back at the end."""

    def __init__(self, system: ActorSystem, server: Server, saboteur: Saboteur) -> None:
        self.done: Counter[str] = Counter()
        self._system = system
        self._server = server
        self._saboteur = saboteur
        self._stop = threading.Event()
        self._starved: list[tuple[float, int]] = []
        self._burners: list[subprocess.Popen[bytes]] = []

    def stop(self) -> None:
        self._stop.set()

    def run(self, plan: Sequence[Due]) -> None:
        """Do all of it, from now on."""
        began = monotonic()
        try:
            for due in plan:
                if self._wait(began + due.at):
                    break
                self._do(due)
        finally:
            self._take_back(float("inf"))
            for burner in self._burners:
                burner.wait(20)

    def _wait(self, until: float) -> bool:
        """Wait, taking back meanwhile what has lasted long enough; True if it is all to end."""
        while (pause := min([until, *(at for at, _ in self._starved)]) - monotonic()) > 0:
            if self._stop.wait(pause):
                return True
            self._take_back(monotonic())
        self._take_back(monotonic())
        return self._stop.is_set()

    def _take_back(self, now: float) -> None:
        for entry in [entry for entry in self._starved if entry[0] <= now]:
            self._starved.remove(entry)
            _send(entry[1], signal.SIGCONT)
            os.close(entry[1])

    def _do(self, due: Due) -> None:
        if due.fault == "crash":
            assert due.trap is not None
            self._saboteur.set(due.trap)
            return
        act: dict[str, Callable[[Due], bool]] = {
            "kill": lambda due: self._signal(due, signal.SIGKILL),
            "stop": lambda due: self._signal(due, signal.SIGSTOP),
            "starve": self._starve,
            "busy": self._busy,
            "reset": lambda due: bool(self._server.spoil(due.pick)),
        }
        if act[due.fault](due):
            self.done[due.fault] += 1

    def _pick(self, due: Due) -> int | None:
        """A descriptor of a worker that is ready: what is sent by it reaches no other process."""
        pids = sorted(self._system.workers().values())
        if not pids:
            return None
        pid = pids[int(due.pick * len(pids))]
        with suppress(ProcessLookupError):
            return os.pidfd_open(pid)
        return None

    def _signal(self, due: Due, number: signal.Signals) -> bool:
        handle = self._pick(due)
        if handle is None:
            return False
        sent = _send(handle, number)
        os.close(handle)
        return sent

    def _starve(self, due: Due) -> bool:
        handle = self._pick(due)
        if handle is None:
            return False
        self._starved.append((monotonic() + due.seconds, handle))
        return _send(handle, signal.SIGSTOP)

    def _busy(self, due: Due) -> bool:
        for _ in range(os.cpu_count() or 1):
            self._burners.append(subprocess.Popen([sys.executable, "-c", _BURN.format(seconds=due.seconds)]))
        self._burners = [burner for burner in self._burners if burner.poll() is None]
        return True


def _send(handle: int, number: signal.Signals) -> bool:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    return True
