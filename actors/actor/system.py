"""The actors of one system: started in order, found by name, stopped in reverse."""

from __future__ import annotations

import threading
from collections.abc import Callable

from actors.actor.address import Address
from actors.actor.cell import Behaviour, Cell, CellHooks
from actors.actor.timers import Timers
from actors.clock import Clock, monotonic
from actors.messages.codec import Codec

__all__ = ["Runtime"]


class Runtime:
    """Owns the cells of one system. `spawn` and `address` are safe from any thread.

    Restart policies belong between `Cell` and here; today a cell that crashes stays down and `hooks` decides what
    that means for the system.
    """

    def __init__(self, codec: Codec, hooks: CellHooks, clock: Clock = monotonic) -> None:
        self.codec = codec
        self.timers = Timers(clock)
        self._clock = clock
        self._hooks = _Forgetting(self, hooks)
        self._lock = threading.RLock()
        self._cells: dict[str, Cell] = {}
        self._closed = False

    def start(self) -> None:
        """Start the timers; actors follow with `spawn`."""
        self.timers.start()

    def spawn(self, name: str, make: Callable[[], Behaviour], *, ready_within: float | None = None) -> Address:
        """Start an actor under `name`. `make` runs on the actor's thread.

        With `ready_within` (seconds) it blocks until the behaviour has started and raises what its start raised,
        or TimeoutError. Raises ValueError for a name in use, RuntimeError after `stop` or without threads.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the runtime has stopped")
            if name in self._cells:
                raise ValueError(f"an actor named {name!r} exists already")
            cell = Cell.launch(name, make, self.codec, self._hooks)
            self._cells[name] = cell
        if ready_within is not None:
            if not cell.started.wait(ready_within):
                raise TimeoutError(f"{name} did not start within {ready_within:g} s")
            if cell.start_error is not None:
                raise cell.start_error
        return Address(name, cell.actor_ref, self.codec)

    def address(self, name: str) -> Address | None:
        """The address of a running actor, or None."""
        with self._lock:
            cell = self._cells.get(name)
        return None if cell is None else Address(name, cell.actor_ref, self.codec)

    def names(self) -> list[str]:
        """Running actors in the order of their start."""
        with self._lock:
            return list(self._cells)

    def stop(self, timeout: float) -> list[str]:
        """Stop every actor, last started first, then the timers; blocks at most about `timeout` seconds.

        Each handles what was queued before the stop. Returns the names of those still running.
        """
        deadline = self._clock() + timeout
        with self._lock:
            self._closed = True
            cells = list(self._cells.items())
        left = []
        for name, cell in reversed(cells):
            cell.actor_ref.stop(block=False)
            thread = cell.thread
            if thread is None or thread is threading.current_thread():
                continue
            thread.join(max(0.05, deadline - self._clock()))
            if thread.is_alive():
                left.append(name)
        if not self.timers.stop(max(0.05, deadline - self._clock())):
            left.append("timers")
        return left

    def forget(self, name: str) -> None:
        """A cell has ended: free its name."""
        with self._lock:
            self._cells.pop(name, None)


class _Forgetting(CellHooks):
    """Frees the name of a cell that has ended, then tells the system."""

    def __init__(self, runtime: Runtime, hooks: CellHooks) -> None:
        self._runtime = runtime
        self._hooks = hooks

    def crashed(self, name: str, error: BaseException, text: str) -> None:
        self._hooks.crashed(name, error, text)

    def shown(self, text: str) -> str:
        return self._hooks.shown(text)

    def ended(self, name: str) -> None:
        self._runtime.forget(name)
        self._hooks.ended(name)

    def dead_letter(self, name: str, reason: str) -> None:
        self._hooks.dead_letter(name, reason)
