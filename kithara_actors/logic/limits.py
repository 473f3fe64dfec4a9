"""What may run at once: so many requests in all, so many to one host, of which background takes a share. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from kithara_actors.messages.records import FetchSpec

__all__ = ["Gate", "Limits", "gate_of"]


class Gate(NamedTuple):
    """What the limits count: a host, and of it fill and prefetch."""

    origin: str
    background: bool


def gate_of(spec: FetchSpec) -> Gate:
    """What the request counts as."""
    return Gate(spec.origin, spec.kind.in_background)


@dataclass(slots=True)
class Limits:
    """How much of each limit is in use. `background_per_host` is the share of `max_per_host` for fill and prefetch."""

    max_concurrent: int
    max_per_host: int
    background_per_host: int
    running: int = 0
    per_host: dict[str, int] = field(default_factory=dict)
    background: dict[str, int] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        """Whether nothing more may run, wherever to."""
        return self.running >= self.max_concurrent

    def open(self, gate: Gate) -> bool:
        """Whether its host has room for another; `full` is not looked at."""
        if self.per_host.get(gate.origin, 0) >= self.max_per_host:
            return False
        return not gate.background or self.background.get(gate.origin, 0) < self.background_per_host

    def allow(self, gate: Gate) -> bool:
        """Whether another may run now."""
        return not self.full and self.open(gate)

    def take(self, gate: Gate) -> None:
        """One more runs."""
        self._count(gate, 1)

    def give_back(self, gate: Gate) -> None:
        """One of those that ran does not."""
        self._count(gate, -1)

    def copy(self) -> Limits:
        """The same, to plan on."""
        return Limits(
            self.max_concurrent,
            self.max_per_host,
            self.background_per_host,
            self.running,
            dict(self.per_host),
            dict(self.background),
        )

    def _count(self, gate: Gate, step: int) -> None:
        self.running += step
        _add(self.per_host, gate.origin, step)
        if gate.background:
            _add(self.background, gate.origin, step)


def _add(counts: dict[str, int], origin: str, step: int) -> None:
    count = counts.get(origin, 0) + step
    if count:
        counts[origin] = count
    else:
        del counts[origin]
