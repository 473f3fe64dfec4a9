"""Records that travel inside commands of several receivers, or are given to an actor when it is made.

What may be a secret is not in their `repr`, which ends up in reports of crashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kithara_actors.values import ContentId, FetchKind, RequestId, Validator

__all__ = ["FetchSpec", "SourceCalls", "SourceSpec"]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class SourceCalls:
    """What an application gave to be asked about one source: arguments of `ActorSystem.open`, or None.

    It stays in the host: a request carries `id` only, and what was given goes when the source does.
    """

    id: int
    headers: Callable[[str], Mapping[str, str]] | None = field(repr=False)
    resolve: Callable[[str], str] | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class FetchSpec:
    """All that is needed to run one request, on whichever worker, as often as it takes.

    Bytes `start` to `end` (half-open; `end` None: to the end) of `url` go into lane `lane` of generation
    `generation` of the content's progress block. `total` and `validator` are pinned by an earlier answer or None.
    `asset` is the scope of the request's events, `peer` the name of the Source that asked, `origin` the
    `scheme://host:port` that limits count by; `limit` is the offset that must not be written past, or None.
    `ranged` is False only for a server known to have no ranges. `calls` is the id of the `SourceCalls` that say what
    is really asked for, and as whom; 0 for none.
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
