"""What a supervisor decides: who is stopped, started and given up, in which order. Sans-IO.

Children are started in the order in which they were added and stopped in reverse. A child that fails starts a *round*:
those that the strategy names are stopped one by one, a delay passes, and they are started one by one. What fails in the
middle of a round widens it, or begins it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from actors.logic.restarts import Backoff, Exit, Intensity, RestartType, Strategy, Window, comes_back
from actors.logic.supervision_steps import (
    Action,
    Added,
    Delay,
    Drain,
    Drained,
    Due,
    End,
    Event,
    Exited,
    GaveUp,
    Gone,
    Halt,
    Halted,
    HostStops,
    Start,
    Started,
    StartFailed,
    Terminate,
)

__all__ = [
    "Action",
    "Added",
    "ChildState",
    "Delay",
    "Drain",
    "Drained",
    "Due",
    "End",
    "Event",
    "Exited",
    "GaveUp",
    "Gone",
    "Halt",
    "Halted",
    "HostStops",
    "Start",
    "StartFailed",
    "Started",
    "Supervision",
    "Terminate",
]


class ChildState(StrEnum):
    """Where a child is."""

    STARTING = "starting"
    UP = "up"
    HALTING = "halting"
    """Its incarnation is being stopped, to be followed by another."""
    RESTARTING = "restarting"
    """Down, and to be started again."""
    ENDING = "ending"
    """Being stopped for good."""


@dataclass(slots=True)
class _Child:
    name: str
    restart: RestartType
    state: ChildState = ChildState.STARTING
    incarnation: int = 1
    failures: int = 0
    up_since: float | None = None
    window: Window | None = None


@dataclass(slots=True)
class _Round:
    """A restart under way: of whom, and the delay that has to pass once all of them are down."""

    names: set[str] = field(default_factory=set)
    child: str = ""
    seconds: float = 0.0
    restarts: int = 0
    token: int = 0
    due: bool = False


class Supervision:
    """The children of one supervisor. `handle` is the only door; what is late or unknown changes nothing."""

    def __init__(
        self,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity | None = None,
        backoff: Backoff | None = None,
        *,
        each: bool = False,
        outlives: bool = False,
    ) -> None:
        """`each`: the children are many and alike. Each has a limit of its own and ends alone when that is spent; they
        are stopped all at once. ValueError unless they are restarted one for one.

        `outlives`: when the host stops one child, the others go on; else that is the beginning of the end of all.
        """
        if each and strategy is not Strategy.ONE_FOR_ONE:
            raise ValueError(f"children with limits of their own are restarted one_for_one, not {strategy}")
        self._strategy = strategy
        self._intensity = intensity or Intensity()
        self._backoff = backoff or Backoff()
        self._each = each
        self._outlives = outlives
        self._children: dict[str, _Child] = {}
        self._window = Window(self._intensity)
        self._rounds: dict[str, _Round] = {}
        self._tokens = 0
        self._draining = False
        self._blame: str | None = None
        self._host = False

    @property
    def blame(self) -> str | None:
        """The child that was given up, and all others with it."""
        return self._blame

    @property
    def draining(self) -> bool:
        """Whether nothing is started any more."""
        return self._draining

    def names(self) -> list[str]:
        """The children in the order of their start."""
        return list(self._children)

    def state(self, child: str) -> ChildState | None:
        found = self._children.get(child)
        return None if found is None else found.state

    def incarnation(self, child: str) -> int:
        """The current or last incarnation, counted from 1; 0 for an unknown child."""
        found = self._children.get(child)
        return 0 if found is None else found.incarnation

    def restarts(self, now: float, child: str | None = None) -> int:
        """How many restarts count against the limit: the supervisor's, or the child's where each has its own."""
        found = self._children.get(child) if self._each and child is not None else None
        window = self._window if found is None else found.window
        return 0 if window is None else window.spent(now)

    def handle(self, event: Event, now: float, draw: float) -> list[Action]:
        """What follows from `event` at `now`; `draw` in [0, 1] feeds the jitter.

        Raises ValueError for a name that is in use, and RuntimeError for a new child while draining.
        """
        match event:
            case Added(name, restart):
                return self._add(name, restart)
            case Started(name, incarnation):
                child = self._current(name, incarnation, ChildState.STARTING)
                if child is None:
                    return []
                child.state = ChildState.UP
                child.up_since = now
                return self._settled(child)
            case StartFailed(name, incarnation, resource):
                child = self._current(name, incarnation, ChildState.STARTING)
                return [] if child is None else self._not_started(child, now, draw, resource=resource)
            case Exited(name, incarnation):
                child = self._current(name, incarnation, ChildState.UP, ChildState.HALTING, ChildState.RESTARTING)
                return [] if child is None else self._exited(child, event, now, draw)
            case Halted(name, incarnation):
                child = self._current(name, incarnation, ChildState.HALTING)
                return [] if child is None else self._halted(child)
            case Gone(name, hung):
                return self._gone(name, hung=hung)
            case Due(token):
                return self._due(token)
            case HostStops(name):
                return self._host_stops() if name in self._children else []
            case Terminate(name, drain):
                child = self._children.get(name)
                return [] if child is None else self._end(child, drain=drain)
            case Drain(hurry):
                ended = self._drain(None)
                return self._hurry() if hurry and self._children else ended

    # --- One child

    def _add(self, name: str, restart: RestartType) -> list[Action]:
        if self._draining:
            raise RuntimeError("the supervisor is stopping and takes no new child")
        if name in self._children:
            raise ValueError(f"a child named {name!r} exists already")
        child = self._children[name] = _Child(name, restart)
        if self._each:
            child.window = Window(self._intensity)
        round_ = self._round_of(child)
        if round_ is not None:
            # What it stands on is down: it is started in its turn, after those that were there before.
            child.state, child.incarnation = ChildState.RESTARTING, 0
            round_.names.add(name)
            return []
        return [Start(name, child.incarnation)]

    def _current(self, name: str, incarnation: int, *states: ChildState) -> _Child | None:
        child = self._children.get(name)
        return child if child is not None and child.incarnation == incarnation and child.state in states else None

    def _settled(self, child: _Child) -> list[Action]:
        """The child is up."""
        if self._draining:
            return self._end_next()
        round_ = self._round_of(child)
        if round_ is None:
            return []
        if round_.due:
            round_.names.discard(child.name)
        # Else it was on its way up when a sibling failed: what it stands on is not there, so it goes down again.
        return self._advance(round_)

    def _not_started(self, child: _Child, now: float, draw: float, *, resource: bool) -> list[Action]:
        if child.incarnation == 1 and child.up_since is None:
            # Whoever added it is told; there is nothing to go back to.
            return self._end(child)
        child.state = ChildState.RESTARTING
        if self._draining:
            return self._end_next()
        return self._failed(child, now, draw, resource=resource)

    def _exited(self, child: _Child, event: Exited, now: float, draw: float) -> list[Action]:
        if child.state is ChildState.HALTING and event.how is not Exit.HOST_STOP:
            return self._halted(child)
        if child.state is ChildState.RESTARTING and comes_back(child.restart, event.how):
            return []  # stopped while it waits to be started
        child.state = ChildState.RESTARTING
        if event.how is Exit.HOST_STOP:
            return [*self._end(child), *self._host_stops()]
        if self._draining:
            return self._end_next()
        if comes_back(child.restart, event.how):
            return self._failed(child, now, draw, resource=event.resource)
        return self._end(child)

    def _halted(self, child: _Child) -> list[Action]:
        child.state = ChildState.RESTARTING
        round_ = self._round_of(child)
        if self._draining:
            return self._end_next()
        return [] if round_ is None else self._advance(round_)

    def _host_stops(self) -> list[Action]:
        # The host stops its actors one by one, until none is left: who restarts one is in its way.
        if self._outlives or self._draining:
            return []
        self._host = True
        return self._drain(None)

    def _end(self, child: _Child, *, spent: bool = False, drain: bool = False) -> list[Action]:
        if child.state is ChildState.ENDING:
            return []
        child.state = ChildState.ENDING
        return [End(child.name, spent, drain)]

    def _gone(self, name: str, *, hung: bool) -> list[Action]:
        child = self._children.pop(name, None)
        if child is None:
            return []
        round_ = self._round_of(child)
        if round_ is not None:
            round_.names.discard(name)
        if self._draining:
            return self._end_next()
        if hung and child.state is ChildState.HALTING:
            # Its thread is stuck: what stands on it cannot be started around it.
            return self._drain(name)
        return [] if round_ is None else self._advance(round_)

    # --- Rounds

    def _round_of(self, child: _Child) -> _Round | None:
        return self._rounds.get(self._key(child))

    def _key(self, child: _Child) -> str:
        return child.name if self._strategy is Strategy.ONE_FOR_ONE else ""

    def _failed(self, child: _Child, now: float, draw: float, *, resource: bool) -> list[Action]:
        window = child.window or self._window
        if not window.spend(now):
            return self._end(child, spent=True) if self._each else self._drain(child.name)
        if child.up_since is not None and now - child.up_since >= self._backoff.healthy:
            child.failures = 0
        child.up_since = None
        child.failures += 1
        round_ = self._rounds.setdefault(self._key(child), _Round())
        round_.names = self._affected(child)
        round_.child = child.name
        round_.seconds = self._backoff.delay(child.failures, draw, resource=resource)
        round_.token, round_.due = 0, False
        round_.restarts = window.spent(now)
        return self._advance(round_)

    def _affected(self, child: _Child) -> set[str]:
        names = list(self._children)
        match self._strategy:
            case Strategy.ONE_FOR_ONE:
                return {child.name}
            case Strategy.ONE_FOR_ALL:
                return set(names)
            case Strategy.REST_FOR_ONE:
                return set(names[names.index(child.name) :])

    def _advance(self, round_: _Round) -> list[Action]:
        """The next step of a round; none while one of its children is on its way up or down."""
        children = [child for name, child in self._children.items() if name in round_.names]
        busy = (ChildState.STARTING, ChildState.HALTING, ChildState.ENDING)
        if any(child.state in busy for child in children):
            return []
        for child in reversed(children):
            if child.state is ChildState.UP:
                if child.restart is RestartType.TEMPORARY:
                    return self._end(child)
                child.state = ChildState.HALTING
                return [Halt(child.name, child.incarnation)]
        if not children:
            self._rounds = {key: other for key, other in self._rounds.items() if other is not round_}
            return []
        if not round_.due:
            if round_.token:
                return []
            self._tokens += 1
            round_.token = self._tokens
            return [Delay(round_.token, round_.seconds, round_.child, round_.restarts)]
        child = children[0]
        child.state = ChildState.STARTING
        child.incarnation += 1
        return [Start(child.name, child.incarnation)]

    def _due(self, token: int) -> list[Action]:
        for round_ in self._rounds.values():
            if token and round_.token == token and not self._draining:
                round_.due = True
                return self._advance(round_)
        return []

    # --- The end

    def _drain(self, blame: str | None) -> list[Action]:
        if self._draining:
            return []
        self._draining = True
        self._blame = blame
        self._rounds.clear()
        return self._end_next() if blame is None else [GaveUp(blame), *self._end_next()]

    def _hurry(self) -> list[Action]:
        for child in self._children.values():
            child.state = ChildState.ENDING
        return [End(name) for name in reversed(self._children)]

    def _end_next(self) -> list[Action]:
        """While draining: end the last child that is left, or all of them where their order is of no account."""
        if not self._children:
            return [Drained(self._blame, self._host)]
        ended: list[Action] = []
        for child in reversed(list(self._children.values())):
            # One that is on its way up or down is told too: it listens as soon as it can.
            # Who is given up has no time for what is queued: whoever asked is told at once.
            ended += self._end(child, drain=self._blame is None)
            if not self._each:
                break
        return ended
