"""A `SlotMap` on a clock of its own, with a call for each event and its answers sorted."""

from __future__ import annotations

from kithara_actors.logic import slots_steps as steps
from kithara_actors.logic.slots import SlotMap, SlotState
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import CancelReason, Priority, RequestId

__all__ = ["Desk"]


class Desk:
    """Each call is one event at `now`; it returns the requests that get a slot thereby, in order."""

    def __init__(self, all_: int, per_host: int, share: int = 4, after: float | None = None) -> None:
        self.map = SlotMap(all_, per_host, share, after)
        self.now = 0.0
        self.told: list[steps.Action] = []
        """Of the last event, what is no admission."""

    def do(self, event: steps.Event) -> list[FetchSpec]:
        actions = self.map.handle(event, self.now)
        self.told = [action for action in actions if not isinstance(action, steps.Admit)]
        return [action.spec for action in actions if isinstance(action, steps.Admit)]

    def submit(self, spec: FetchSpec) -> list[FetchSpec]:
        return self.do(steps.Submit(spec))

    def reclassify(self, spec: FetchSpec) -> list[FetchSpec]:
        return self.do(steps.Reclassify(spec))

    def park(self, request: int) -> list[FetchSpec]:
        return self.do(steps.Park(RequestId(request)))

    def requeue(self, request: int) -> list[FetchSpec]:
        return self.do(steps.Requeue(RequestId(request)))

    def finish(self, request: int) -> list[FetchSpec]:
        return self.do(steps.Finish(RequestId(request)))

    def cancel(self, request: int) -> list[FetchSpec]:
        return self.do(steps.Cancel(RequestId(request), CancelReason.PEER_CANCEL))

    def prioritize(self, peer: str, priority: Priority) -> list[FetchSpec]:
        return self.do(steps.Prioritize(peer, priority))

    def review(self, *waited: int, leads: dict[int, tuple[int | None, int]]) -> list[int]:
        """Who is cut, now that somebody waits for each of `waited`; `leads` has by request how far it is ahead of its
        readers, and up to where it has landed."""
        found = [steps.Lead(RequestId(request), *lead) for request, lead in leads.items()]
        assert self.do(steps.Review(tuple(map(RequestId, waited)), tuple(found))) == []
        return [action.request for action in self.told if isinstance(action, steps.Preempt)]

    def yields(self, request: int) -> list[int]:
        """The request was cut, and wants a slot again: who gets one."""
        return [spec.request for spec in [*self.park(request), *self.requeue(request)]]

    def looks_in(self) -> float | None:
        """In how many seconds a review was asked for by the last event."""
        delays = [action.delay for action in self.told if isinstance(action, steps.LookAfter)]
        return delays[-1] if delays else None

    def forget_peer(self, peer: str) -> None:
        assert self.do(steps.ForgetPeer(peer)) == []

    def state(self, request: int) -> SlotState | None:
        return self.map.state(RequestId(request))
