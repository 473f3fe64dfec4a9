"""Which worker is started, replaced and retired when: the decisions of a pool, without processes, clock or thread.

A slot is the place of one worker. A worker that retires leaves its slot at once and goes on outside it until its
successor is ready, so that a slot never has two. Losses are counted for each slot and only space out its
replacements: nothing here gives up while the pool runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.logic.restarts import Backoff

__all__ = ["STARTS_AT_ONCE", "Arrival", "Recycling", "Slot", "Slots"]

STARTS_AT_ONCE = 2
"""Replacements that may be on their way at the same time: starting many would starve those that still serve."""

_BOOT_FAILURES = 3


@dataclass(slots=True, eq=False)
class Slot:
    """The place of one worker. `losses` are in a row; `due` is when it may be filled, while it is empty."""

    due: float
    extra: bool = False
    """Beyond the pool's size: filled until a worker was ready in it once, and not again."""
    losses: int = 0
    worker: int | None = None
    ready_at: float | None = None
    predecessor: int | None = None
    """Who serves in its stead until a worker is ready in it."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A worker is ready: whether it is an extra one, and who may retire now."""

    extra: bool
    retiring: int | None


@dataclass(frozen=True, slots=True)
class Recycling:
    """When a worker has done enough: `frames` taken, `age` in seconds, `growth` of its memory in bytes; None: never."""

    frames: int | None = None
    age: float | None = None
    growth: int | None = None

    def reason(self, frames: int, age: float, growth: int) -> str | None:
        """Why a worker that has come so far is to be replaced, in words; None while it is not."""
        if self.frames is not None and frames >= self.frames:
            return f"{frames} frames taken"
        if self.age is not None and age >= self.age:
            return f"{age:.0f} s old"
        if self.growth is not None and growth >= self.growth:
            return f"grown by {growth / 2**20:.1f} MiB"
        return None


class Slots:
    """All slots of one pool. `now` is on one clock that never goes back; `draw` is random in [0, 1].

    `barren_limit` is in seconds: without a serving worker for that long the pool counts as exhausted.
    """

    def __init__(self, size: int, backoff: Backoff, barren_limit: float, now: float) -> None:
        self.booted = False
        """Whether all of the pool's size were ready once; until then there is no limit to starts at once."""
        self._backoff = backoff
        self._barren_limit = barren_limit
        self._slots = [Slot(now) for _ in range(size)]
        self._leaving: set[int] = set()
        self._boot_losses = 0
        self._given_up = False
        self._barren_since = now

    # --- Starting

    def startable(self, now: float) -> list[Slot]:
        """The empty slots to be filled now, the first due first."""
        return [slot for slot in self._next() if slot.due <= now]

    def pause(self, now: float) -> float | None:
        """Seconds until `startable` may have more than now; None while that depends on something else."""
        return min((max(0.0, slot.due - now) for slot in self._next()), default=None)

    def _next(self) -> list[Slot]:
        empty = sorted((slot for slot in self._slots if slot.worker is None), key=lambda slot: slot.due)
        return empty[: max(0, STARTS_AT_ONCE - self.starting)] if self.booted else empty

    @property
    def starting(self) -> int:
        """Workers that were started and are not ready yet."""
        return sum(slot.worker is not None and slot.ready_at is None for slot in self._slots)

    def started(self, slot: Slot, worker: int) -> None:
        """The process runs."""
        slot.worker = worker
        slot.ready_at = None

    def failed(self, slot: Slot, now: float, draw: float, *, resource: bool = False, fatal: bool = False) -> bool:
        """No process could be started. True if, while the pool boots, that makes further attempts useless."""
        self._empty(slot, now, draw, resource=resource)
        self._boot_losses += 1
        if self.booted or not (fatal or self._boot_losses >= _BOOT_FAILURES):
            return False
        self._slots.clear()
        self._given_up = True
        return True

    def ready(self, worker: int, now: float) -> Arrival:
        """A started worker has said that it is ready."""
        if self._given_up:
            return Arrival(extra=False, retiring=None)
        slot = self._of(worker)
        slot.ready_at = now
        self._boot_losses = 0
        retiring, slot.predecessor = slot.predecessor, None
        if retiring is not None:
            self._leaving.add(retiring)
        if not self.booted:
            self.booted = all(each.ready_at is not None for each in self._slots if not each.extra)
        return Arrival(slot.extra, retiring)

    # --- Ending

    def lost(self, worker: int, now: float, draw: float) -> bool:
        """A worker has ended. True if it was never ready, and that makes further attempts useless (see `failed`)."""
        if self._given_up:
            return False  # started before that was known
        if worker in self._leaving:
            self._leaving.remove(worker)
            return False
        for slot in self._slots:
            if slot.predecessor == worker:
                slot.predecessor = None  # its successor is on the way
                return False
        slot = self._of(worker)
        if slot.ready_at is None:
            return self.failed(slot, now, draw)
        if slot.extra:
            self._slots.remove(slot)
            return False
        if now - slot.ready_at >= self._backoff.healthy:
            slot.losses = 0
        self._empty(slot, now, draw)
        return False

    def _empty(self, slot: Slot, now: float, draw: float, *, resource: bool = False) -> None:
        """Have it filled again: at once after a first loss, then after delays that grow."""
        delay = 0.0
        if slot.losses or resource:
            delay = self._backoff.delay(slot.losses, draw, resource=resource)
        slot.losses += 1
        slot.due = now + delay
        slot.worker = slot.ready_at = None

    # --- By our own wish

    def enlist(self, now: float) -> None:
        """One worker beyond the size."""
        self._slots.append(Slot(now, extra=True))

    def discharge(self, worker: int) -> bool:
        """An extra worker is to leave when it is idle; False if it is none, or leaves already."""
        for slot in self._slots:
            if slot.worker == worker and slot.extra and slot.ready_at is not None:
                self._slots.remove(slot)
                self._leaving.add(worker)
                return True
        return False

    def recycle(self, worker: int, now: float) -> bool:
        """Have a successor started for this worker; False while another is being replaced, or where it has no slot."""
        filled = all(slot.ready_at is not None for slot in self._slots if not slot.extra)
        if not self.booted or not filled or self._leaving:
            return False
        for slot in self._slots:
            if slot.worker == worker and not slot.extra:
                if slot.ready_at is not None and now - slot.ready_at >= self._backoff.healthy:
                    slot.losses = 0
                slot.predecessor, slot.worker, slot.ready_at = worker, None, None
                slot.due = now
                return True
        return False

    # --- Looking

    def losses(self, worker: int) -> int:
        """Losses in a row of the slot that this worker is in."""
        return next((slot.losses for slot in self._slots if slot.worker == worker), 0)

    def exhausted(self, now: float) -> bool:
        """Whether no worker has served for as long as the limit; True once in each such period."""
        serving = any(
            slot.ready_at is not None or slot.predecessor is not None for slot in self._slots if not slot.extra
        )
        if serving:
            self._barren_since = now
        elif now - self._barren_since > self._barren_limit:
            self._barren_since = now
            return True
        return False

    def _of(self, worker: int) -> Slot:
        for slot in self._slots:
            if slot.worker == worker:
                return slot
        raise KeyError(f"worker {worker} has no slot")
