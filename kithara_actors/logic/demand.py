"""Demand is where readers are: from their positions and what is there, what to fetch, what to cut.

Nothing here is remembered: `plan` is a function of what its caller knows, asked again whenever that changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kithara_actors.logic.ranges import Ranges
from kithara_actors.values import FetchKind, RequestId

__all__ = ["NEAR", "TAIL", "Plan", "Reader", "Running", "Situation", "Want", "plan"]

NEAR = 256 * 1024
"""Bytes: a running fetch that is no further than this before a position will reach it soon."""
TAIL = 64 * 1024
"""Bytes: a read this close to the end is served by one bounded range, and what runs is left alone."""
_RESUME_SHARE = 0.75
"""Read-ahead is topped up once less than this share of it is there."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Where one reader is. `waiting_to` is the end of what it is blocked for; `look_ahead` None: the whole file."""

    position: int
    waiting_to: int | None = None
    look_ahead: int | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A fetch under way: `landed` is the next offset it will deliver, `end` None while that is unknown.

    `cancelling` marks one that was cut already: it serves nobody, but still writes.
    """

    request: RequestId
    landed: int
    end: int | None
    kind: FetchKind
    cancelling: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """`answered` is False until a first answer was accepted; `ranges` tells whether the server has them.

    `want_length` and `want_all` say that somebody waits for the head, or for every byte; `prefetched` that all of it
    is wanted by one that does not wait.
    """

    answered: bool
    ranges: bool
    total: int | None
    coverage: Ranges
    readers: tuple[Reader, ...]
    running: tuple[Running, ...]
    want_length: bool = False
    want_all: bool = False
    prefetched: bool = False
    near: int = NEAR


@dataclass(frozen=True, slots=True)
class Want:
    """Bytes `start` to `end` (None: to the end) should be fetched."""

    start: int
    end: int | None
    kind: FetchKind


@dataclass(frozen=True, slots=True)
class Plan:
    """What to cut, then what to start; what runs and is needed more than its kind says is raised to another."""

    cut: tuple[RequestId, ...] = ()
    start: tuple[Want, ...] = ()
    raised: tuple[tuple[RequestId, FetchKind], ...] = ()


def plan(now: Situation) -> Plan:
    """What to do in this situation; an empty plan when what runs is what is wanted."""
    if not now.answered:
        return _first(now)
    if not now.ranges:
        return _from_the_front(now)
    cut, start = _demand(now)
    if not start and not cut:
        cut, start = _ahead(now)
    return Plan(cut, start, _raised(now, cut))


def _first(now: Situation) -> Plan:
    """Only one request runs before the first answer, so that only one can say what the asset is."""
    end = _first_end(now)
    if now.running:
        return Plan() if end == 0 else Plan(raised=_all_as_demand(now))
    if now.prefetched:
        return Plan(start=(Want(0, None, FetchKind.PREFETCH if end == 0 else FetchKind.DEMAND),))
    return Plan() if end == 0 else Plan(start=(Want(0, end, FetchKind.DEMAND),))


def _first_end(now: Situation) -> int | None:
    """How much of the front is wanted at first by those who read: None for all, 0 for nothing."""
    if now.want_all or any(reader.look_ahead is None for reader in now.readers):
        return None
    ahead = max((reader.look_ahead or 0 for reader in now.readers), default=0)
    if ahead:
        return ahead
    waiting = [reader for reader in now.readers if reader.waiting_to is not None]
    if waiting:
        # A reader that is not at the start learns the length with one byte; its own range follows.
        return waiting[0].waiting_to if waiting[0].position == 0 else 1
    return 1 if now.want_length else 0


def _from_the_front(now: Situation) -> Plan:
    """Without ranges there is one way to any byte: all that comes before it."""
    lacking = now.want_all or any(_missing(now, reader) is not None for reader in now.readers)
    if now.running:
        return Plan(raised=_all_as_demand(now)) if lacking else Plan()
    at = now.coverage.covered_end(0)
    if now.total is not None and at >= now.total:
        return Plan()
    # Somewhere behind `at` for every reader that lacks something: there are no islands.
    if lacking or now.prefetched:
        return Plan(start=(Want(at, None, FetchKind.DEMAND if lacking else FetchKind.PREFETCH),))
    return Plan()


def _all_as_demand(now: Situation) -> tuple[tuple[RequestId, FetchKind], ...]:
    kind = FetchKind.DEMAND
    return tuple((run.request, kind) for run in now.running if run.kind is not kind and not run.cancelling)


def _raised(now: Situation, cut: tuple[RequestId, ...]) -> tuple[tuple[RequestId, FetchKind], ...]:
    """What a blocked reader waits for is demand, whatever it was started as; what a reader comes to is read-ahead."""
    raised: dict[RequestId, FetchKind] = {}
    for reader in now.readers:
        missing = _missing(now, reader)
        if missing is None:
            continue
        blocked = reader.waiting_to is not None and missing < reader.waiting_to
        server = _serving(now.running, missing, now.near if blocked else None)
        if server is None or server.request in cut:
            continue
        if blocked and server.kind is not FetchKind.DEMAND:
            raised[server.request] = FetchKind.DEMAND
        elif server.kind.in_background:
            raised.setdefault(server.request, FetchKind.READ_AHEAD)
    return tuple(raised.items())


def _demand(now: Situation) -> tuple[tuple[RequestId, ...], tuple[Want, ...]]:
    """A fetch for each blocked reader that nothing running will reach soon; what nobody needs makes way."""
    wants: list[Want] = []
    keep: set[RequestId] = set()
    for reader in now.readers:
        missing = _missing(now, reader)
        if missing is None:
            continue
        blocked = reader.waiting_to is not None and missing < reader.waiting_to
        server = _serving(now.running, missing, now.near if blocked else None)
        if server is not None:
            keep.add(server.request)
        elif blocked and not any(_reaches_soon(want, missing, now.near) for want in wants):
            wants.append(_want(now, reader, missing))
    if not wants:
        return (), ()
    if all(_is_tail(now, want) for want in wants):
        return (), _apart(wants)
    # The one byte that told the length comes with the answer: to cut that would cost its connection, and save nothing.
    spare = [run for run in now.running if run.request not in keep and not run.cancelling and run.end != 1]
    return tuple(run.request for run in spare), _apart(wants)


def _apart(wants: list[Want]) -> tuple[Want, ...]:
    """The same bytes, each in one of them only: every one ends where the next begins."""
    wants = sorted(wants, key=lambda want: want.start)
    ends = [following.start for following in wants[1:]] + [None]
    return tuple(
        replace(want, end=_least(want.end, end)) for want, end in zip(wants, ends, strict=True) if want.start != end
    )


def _missing(now: Situation, reader: Reader) -> int | None:
    """The first byte that the reader lacks: is blocked for, or will need as far as it is known to look ahead."""
    at = now.coverage.covered_end(reader.position)
    if now.total is not None and at >= now.total:
        return None
    if reader.waiting_to is not None and at < reader.waiting_to:
        return at
    if now.want_all or reader.look_ahead is None or at - reader.position < reader.look_ahead * _RESUME_SHARE:
        return at
    return None


def _serving(running: Iterable[Running], position: int, near: int | None) -> Running | None:
    """The fetch that will deliver `position`; with `near` only if it is no further than that before it."""
    for run in running:
        if run.cancelling or (run.end is not None and position >= run.end) or position < run.landed:
            continue
        if near is None or position - run.landed <= near:
            return run
    return None


def _reaches_soon(want: Want, position: int, near: int) -> bool:
    return 0 <= position - want.start <= near and (want.end is None or position < want.end)


def _is_tail(now: Situation, want: Want) -> bool:
    return now.total is not None and want.start >= now.total - TAIL and bool(now.running)


def _want(now: Situation, reader: Reader, missing: int) -> Want:
    limit = _limit(now, missing)
    assert reader.waiting_to is not None
    if reader.look_ahead is not None and not now.want_all:
        end = max(reader.waiting_to, reader.position + reader.look_ahead)
        return Want(missing, end if limit is None else min(end, limit), FetchKind.DEMAND)
    if now.total is not None and missing >= now.total - TAIL:
        # Decoders look at the tail on opening and come back: fetch all of it once.
        start = max(missing - TAIL, now.total - TAIL, 0)
        while (gap := now.coverage.first_gap(start, now.total)) is not None and gap[1] <= missing:
            start = gap[1]
        return Want(missing if gap is None else max(gap[0], start), limit, FetchKind.DEMAND)
    return Want(missing, limit, FetchKind.DEMAND)


def _limit(now: Situation, start: int) -> int | None:
    """Where a fetch from `start` has to end: at the next island, or where another fetch writes.

    The other way round, whoever starts a fetch ends those that would run into it at its start.
    """
    end = _least(now.coverage.next_start(start), now.total)
    for run in now.running:
        if run.landed > start:
            end = _least(end, run.landed)
    return end


def _least(one: int | None, other: int | None) -> int | None:
    """The smaller of two ends, where None is none at all."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _ahead(now: Situation) -> tuple[tuple[RequestId, ...], tuple[Want, ...]]:
    """Read-ahead for readers that have less than they should; else, with nothing running, fill, then prefetch, which
    makes way for read-ahead elsewhere."""
    if any(run.kind is not FetchKind.PREFETCH for run in now.running):
        return (), ()
    wants = _for_readers(now)
    if not now.running:
        return (), wants or (_fill(now, FetchKind.PREFETCH, FetchKind.PREFETCH) if now.prefetched else ())
    if not wants or wants[0].kind is not FetchKind.READ_AHEAD or _serving(now.running, wants[0].start, None):
        return (), ()
    return tuple(run.request for run in now.running if not run.cancelling), wants


def _for_readers(now: Situation) -> tuple[Want, ...]:
    if now.want_all or any(reader.look_ahead is None for reader in now.readers):
        return _fill(now, FetchKind.READ_AHEAD, FetchKind.FILL)
    for reader in now.readers:
        if not reader.look_ahead:
            continue
        at = now.coverage.covered_end(reader.position)
        goal = reader.position + reader.look_ahead
        if now.total is not None:
            goal = min(goal, now.total)
        if at < goal and at - reader.position < reader.look_ahead * _RESUME_SHARE:
            limit = _limit(now, at)
            return (Want(at, goal if limit is None else min(goal, limit), FetchKind.READ_AHEAD),)
    return ()


def _fill(now: Situation, follow: FetchKind, rest: FetchKind) -> tuple[Want, ...]:
    """What follows a reader first, then the gaps from the front."""
    for reader in now.readers:
        at = now.coverage.covered_end(reader.position)
        if now.total is None or at < now.total:
            return (Want(at, _limit(now, at), follow),)
    if now.total is None:
        at = now.coverage.covered_end(0)
        return (Want(at, _limit(now, at), rest),) if now.prefetched else ()
    gap = now.coverage.first_gap(0, now.total)
    return () if gap is None else (Want(gap[0], gap[1], rest),)
