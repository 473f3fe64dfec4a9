"""Which running attempts a Downloader that has begun anew takes over, and which requests it runs again. Sans-IO.

Three sources tell it, in any order: the Registry, which requests were admitted; each worker, which attempts it runs;
and what workers had said before the question reached them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from actors.messages.command import Command
from kithara_actors.messages.records import InHand
from kithara_actors.messages.worker import AttemptEnded, InFlight
from kithara_actors.values import CancelReason, RequestId

__all__ = ["Adoption", "Found", "Placed"]


@dataclass(frozen=True, slots=True)
class Found:
    """An attempt that runs in `worker`, or (0) did until a moment ago, and what it has said since."""

    worker: int
    flight: InFlight
    said: tuple[Command, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """What has become of an admitted request: its attempt was `found`, or (None) it is to be run again."""

    hand: InHand
    found: Found | None


@dataclass(slots=True)
class Adoption:
    """`awaited` are the workers whose reports are still to come. Attempts of requests that nobody has claimed yet stay
    known, for the Registry may have begun anew as well, and hear of them later."""

    awaited: set[int]
    unanswered: bool = False
    """Whether the Registry has still to answer."""
    _late: dict[RequestId, CancelReason] = field(default_factory=dict)
    _unplaced: dict[RequestId, InHand] = field(default_factory=dict)
    _flights: dict[RequestId, tuple[int, InFlight]] = field(default_factory=dict)
    _said: dict[RequestId, list[Command]] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether nothing is left to be taken over."""
        return not (self.unanswered or self.awaited or self._unplaced or self._flights)

    def says(self, request: RequestId, command: Command) -> bool:
        """A worker spoke of a request that is not known to its Downloader; True if that is kept for later."""
        if not (self.awaited or self.unanswered or request in self._flights):
            return False
        self._said.setdefault(request, []).append(command)
        return True

    def readmitted(self, hands: Iterable[InHand]) -> None:
        """The Registry has answered."""
        self.unanswered = False
        for hand in hands:
            request = hand.spec.request
            self._unplaced[request] = replace(hand, reason=self._late.pop(request, hand.reason))

    def hold(self, hand: InHand) -> None:
        """A request that had a slot before is admitted, and not every worker has answered."""
        self._unplaced[hand.spec.request] = hand

    def late(self) -> list[tuple[RequestId, CancelReason]]:
        """The cancels that were kept and are of no request that the Registry knows."""
        late, self._late = self._late, {}
        return list(late.items())

    def reported(self, worker: int, flights: Iterable[InFlight], *, last: bool) -> None:
        """A worker has answered, in one part or several."""
        self._flights.update((flight.request, (worker, flight)) for flight in flights)
        if last:
            self.awaited.discard(worker)

    def gone(self, worker: int) -> None:
        """A worker has ended, and what it ran with it."""
        self.awaited.discard(worker)
        for request in [request for request, (owner, _) in self._flights.items() if owner == worker]:
            del self._flights[request]

    def cancel(self, request: RequestId, reason: CancelReason) -> bool:
        """End the request as soon as it is placed; False if it waits for no place."""
        hand = self._unplaced.get(request)
        if hand is not None:
            self._unplaced[request] = replace(hand, reason=reason)
        elif self.unanswered:
            self._late[request] = reason
        return hand is not None or self.unanswered

    def waiting(self) -> list[InHand]:
        """Admitted requests that have no place yet."""
        return list(self._unplaced.values())

    def claim(self, request: RequestId) -> Found | None:
        """Take the attempt of a request that is admitted now, if one is known; nobody else gets it."""
        self._unplaced.pop(request, None)
        return self._found(request)

    def unclaimed(self) -> list[RequestId]:
        """Requests whose attempts were found, and which nobody has claimed."""
        return [request for request in self._flights if request not in self._unplaced]

    def place(self) -> list[Placed]:
        """The requests of which it is certain now what has become of them."""
        placed = []
        for request, hand in list(self._unplaced.items()):
            if request in self._flights or not self.awaited:
                del self._unplaced[request]
                placed.append(Placed(hand, self._found(request)))
        if not self.awaited and not self.unanswered:
            # Whose attempt is in no report, and whose request was not admitted: it had ended before.
            self._said = {request: said for request, said in self._said.items() if request in self._flights}
        return placed

    def _found(self, request: RequestId) -> Found | None:
        if request not in self._said and request not in self._flights:
            return None
        said = tuple(self._said.pop(request, ()))
        known = self._flights.pop(request, None)
        if known is not None:
            return Found(*known, tuple(each for each in said if _attempt(each) == known[1].attempt))
        ended = next((each for each in said if isinstance(each, AttemptEnded)), None)
        if ended is None:
            return None
        # It was over before the question came: its last words are all that is left of it.
        flight = InFlight(request, ended.attempt, ended.end)
        return Found(0, flight, tuple(each for each in said if _attempt(each) == ended.attempt))


def _attempt(command: Command) -> int | None:
    attempt = getattr(command, "attempt", None)
    assert attempt is None or isinstance(attempt, int)
    return attempt
