"""Records that travel inside commands of several receivers, or are given to an actor when it is made.

What may be a secret is not in their `repr`, which ends up in reports of crashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from kithara_actors.values import CancelReason, ContentId, FetchKind, RequestId, Validator

__all__ = ["Collection", "FetchSpec", "InHand", "Place", "SourceCalls", "SourceSpec", "Standing"]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class SourceCalls:
    """What an application gave to be asked about one source: arguments of `ActorSystem.open`, or None.

    It stays in the host: a request carries `id` only, and what was given goes when the source does.
    """

    id: int
    headers: Callable[[str], Mapping[str, str]] | None = field(repr=False)
    resolve: Callable[[str], str] | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where redirects have led: later ranges are asked for there. `bare`: the caller's headers were left on the way."""

    url: str = field(repr=False)
    bare: bool


@dataclass(frozen=True, slots=True)
class Collection:
    """How the one answer to a `FetchCommand` is collected, and for whom.

    `owner` is the name of the actor that hears of the request; `method` is GET or HEAD. The whole answer is stored
    from position 0 of the content on, decoded, and every attempt begins there again.
    """

    owner: str
    method: str
    refuse_html: bool


@dataclass(frozen=True, slots=True)
class FetchSpec:
    """All that is needed to run one request, on whichever worker, as often as it takes.

    Bytes `start` to `end` (half-open; `end` None: to the end) of `url` go into lane `lane` of generation
    `generation` of the content's progress block. `total` and `validator` are pinned by an earlier answer or None.
    `asset` is the scope of the request's events (0: the system's), `peer` the name of the Source that asked, `origin`
    the `scheme://host:port` that limits count by; `limit` is the offset that must not be written past, or None.
    `ranged` is False only for a server known to refuse ranges. `calls` is the id of the `SourceCalls` that say what
    is really asked for, and as whom; 0 for none. `place` is where an earlier answer came from, None for `url` itself.
    Bytes from `held` (None: `start`) to `start` are there already, for a body that begins before them to be compared.

    With a `collection` the request is a call's: `peer` is what takes turns with the others, `ranged` says whether a
    range was asked for, `limit` is the most bytes that the answer may have.
    """

    request: RequestId
    asset: int
    peer: str
    kind: FetchKind
    url: str = field(repr=False)
    origin: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    content: ContentId
    lane: int
    generation: int
    start: int
    end: int | None
    ranged: bool
    total: int | None
    validator: Validator | None
    limit: int | None
    calls: int = 0
    place: Place | None = None
    held: int | None = None
    collection: Collection | None = None

    @property
    def method(self) -> str:
        """Of HTTP."""
        return "GET" if self.collection is None else self.collection.method

    @property
    def owner(self) -> str:
        """The name of the actor that hears of the request."""
        return self.peer if self.collection is None else self.collection.owner


class Standing(StrEnum):
    """Whether an admitted request holds a slot: `PARKED` is one that backs off, `RETURNING` one that wants a slot
    again."""

    RUNNING = "running"
    PARKED = "parked"
    RETURNING = "returning"


@dataclass(frozen=True, slots=True)
class InHand:
    """An admitted request, as Registry and Downloader tell each other when one of them has begun anew.

    `reason` is set for one that is to be ended.
    """

    spec: FetchSpec
    standing: Standing = Standing.RUNNING
    reason: CancelReason | None = None


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What a source fetches, and as whom. `limit` is the most bytes that may be stored, None for no limit.

    An empty `key`: nobody else may have the bytes, now or later.
    """

    asset: int
    name: str
    url: str = field(repr=False)
    origin: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    key: str
    extension: str
    target: str | None
    limit: int | None
    calls: SourceCalls | None = None
