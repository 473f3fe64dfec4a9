"""The peers whose requests are collected for somebody who waits for all of it, and which of them may claim a slot.

Sans-IO.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import RequestId

__all__ = ["Callers"]


@dataclass(slots=True)
class _Caller:
    """What it has queued, in order, and how much it has running; `served` is when it last lost a slot."""

    queued: dict[RequestId, None] = field(default_factory=dict)
    running: int = 0
    served: float = float("-inf")


@dataclass(slots=True)
class Callers:
    """Told of every request; those that are not collected it passes over."""

    _callers: dict[str, _Caller] = field(default_factory=dict)

    def queued(self, spec: FetchSpec) -> None:
        """The request waits for a slot."""
        if spec.collection is not None:
            self._callers.setdefault(spec.peer, _Caller()).queued[spec.request] = None

    def unqueued(self, spec: FetchSpec) -> None:
        """It does not any more."""
        if spec.collection is not None:
            del self._callers[spec.peer].queued[spec.request]

    def began(self, spec: FetchSpec) -> None:
        """It has a slot."""
        if spec.collection is not None:
            self._callers.setdefault(spec.peer, _Caller()).running += 1

    def freed(self, spec: FetchSpec, now: float) -> None:
        """It has none any more."""
        if spec.collection is not None:
            caller = self._callers[spec.peer]
            caller.running -= 1
            caller.served = now

    def forget(self, peer: str) -> None:
        """The peer has no request left."""
        self._callers.pop(peer, None)

    def heads(self, long_ago: Callable[[float], bool]) -> Iterator[RequestId]:
        """The next request of each that has no slot, and has had none for long."""
        for caller in self._callers.values():
            if caller.queued and not caller.running and long_ago(caller.served):
                yield next(iter(caller.queued))
