"""Whose slot goes to whom: cuts the transfers whose readers need them last. Plans on a copy of the limits. Sans-IO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kithara_actors.logic.limits import Gate, Limits
from kithara_actors.values import FetchKind, RequestId

__all__ = ["Claim", "Cuts", "Victim", "decide"]

_PATIENCE = 1.0
"""Seconds after which a cut that has not come is not waited for."""
_KINDS = (FetchKind.DEMAND, FetchKind.READ_AHEAD, FetchKind.PREFETCH, FetchKind.FILL)
"""Of two that are needed equally late, the one whose kind comes later here is cut."""


@dataclass(frozen=True, slots=True)
class Victim:
    """A running transfer that may be cut.

    `ahead` is how many bytes there are before the next that it brings is needed; None: nobody reads towards it. Bytes
    up to `landed` have landed; `moved`: some of them since it last got a slot.
    """

    request: RequestId
    gate: Gate
    kind: FetchKind
    ahead: int | None
    landed: int
    moved: bool

    @property
    def spare(self) -> tuple[bool, float, int, int]:
        """The greater, the sooner it is cut: one that got nowhere is cut last, of the others the one that is needed
        last is cut first."""
        ahead = float("inf") if self.ahead is None else self.ahead
        return self.moved, ahead, _KINDS.index(self.kind), self.request


@dataclass(frozen=True, slots=True)
class Claim:
    """A queued request that is to have a slot now."""

    request: RequestId
    gate: Gate


@dataclass(slots=True)
class Cuts:
    """The running requests that are being cut: since when, and for whom, if that is a certain one."""

    _cuts: dict[RequestId, tuple[float, RequestId | None]] = field(default_factory=dict)

    def __contains__(self, request: object) -> bool:
        return request in self._cuts

    def add(self, request: RequestId, claimant: RequestId | None, now: float) -> None:
        """The request was chosen."""
        self._cuts[request] = (now, claimant)

    def over(self, request: RequestId) -> RequestId | None:
        """The request has no slot any more; who is to have it."""
        return self._cuts.pop(request, (0.0, None))[1]

    def pending(self) -> list[tuple[RequestId, RequestId | None]]:
        """The requests, and for whom each is cut."""
        return [(request, claimant) for request, (_, claimant) in self._cuts.items()]

    def in_vain(self, now: float) -> list[RequestId]:
        """Those that were to be cut long ago and run on; they are forgotten here."""
        late = [request for request, (at, _) in self._cuts.items() if now - at >= _PATIENCE]
        for request in late:
            del self._cuts[request]
        return late

    def clear(self) -> None:
        """All run on."""
        self._cuts.clear()


def decide(
    claims: Iterable[Claim], victims: Iterable[Victim], queued: Mapping[Gate, int], plan: Limits
) -> list[tuple[Victim, Claim | None]]:
    """Who is cut: for the claims, in their order, and (None) fill for whatever else is `queued`, which is counted by
    gate and none of it fill. `plan` is what will be in use, and is kept up.

    A claim gets the slot that can be spared best of those that help it: where its host has no room, one of that host.
    A claim that needs none, or that none helps, gets none.
    """
    spare = sorted(victims, key=lambda victim: victim.spare, reverse=True)
    rest = dict(queued)
    cuts: list[tuple[Victim, Claim | None]] = []
    for claim in claims:
        if plan.allow(claim.gate):
            plan.take(claim.gate)
        elif (victim := next((each for each in spare if _helps(each, claim.gate, plan)), None)) is not None:
            spare.remove(victim)
            _swap(victim, claim.gate, plan)
            cuts.append((victim, claim))
        else:
            continue
        rest[claim.gate] -= 1
    for gate in rest:
        while rest[gate] > 0 and plan.allow(gate):
            # A slot for it is on its way.
            plan.take(gate)
            rest[gate] -= 1
    for fill in [each for each in spare if each.kind is FetchKind.FILL]:
        use = next((gate for gate, count in rest.items() if count > 0 and _helps(fill, gate, plan)), None)
        if use is not None:
            rest[use] -= 1
            _swap(fill, use, plan)
            cuts.append((fill, None))
    return cuts


def _helps(victim: Victim, claim: Gate, plan: Limits) -> bool:
    """Whether what is behind the gate may run once the victim does not."""
    plan.give_back(victim.gate)
    allowed = plan.allow(claim)
    plan.take(victim.gate)
    return allowed


def _swap(victim: Victim, claim: Gate, plan: Limits) -> None:
    plan.give_back(victim.gate)
    plan.take(claim)
