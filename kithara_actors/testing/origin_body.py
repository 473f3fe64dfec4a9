"""What the test origin serves: bodies whose bytes follow from their position, and resources made of them."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kithara_actors.testing.faults import Fault

__all__ = ["AUTO", "PERIOD", "VIEW", "Resource", "body"]

PERIOD: Final = 1_048_573
"""Bytes after which a body repeats: a prime, so that no usual block or segment size divides it."""

VIEW: Final = 256 * 1024
"""The most bytes one zero-copy view of a body holds."""


@functools.lru_cache(maxsize=16)
def _table(seed: int) -> memoryview:
    # SHAKE rather than `random`: the same bytes on every Python version, and 1 MiB takes a few milliseconds.
    table = hashlib.shake_128(b"kithara origin %d" % seed).digest(PERIOD)
    # The head again behind the end: a view that begins anywhere in the table is contiguous.
    return memoryview(table + table[:VIEW])


def _view(seed: int, start: int, end: int) -> memoryview:
    offset = start % PERIOD
    return _table(seed)[offset : offset + min(end - start, VIEW)]


def body(seed: int, start: int, end: int) -> bytes:
    """Bytes `start` (inclusive) to `end` (exclusive) of the endless body of `seed`.

    A pure function: a slice is computed without the rest of the body, at memory speed once the table of the
    seed is made. Raises ValueError unless ``0 <= start <= end``.
    """
    if not 0 <= start <= end:
        raise ValueError(f"not a slice of a body: {start}..{end}")
    views = []
    while start < end:
        views.append(_view(seed, start, end))
        start += len(views[-1])
    return b"".join(views)


class _Derived(str):
    """An entity tag made from the content; `dataclasses.replace` makes it anew instead of copying it."""

    __slots__ = ()


AUTO: Final[str] = _Derived("auto")
"""The default of `Resource.etag`: a strong tag derived from seed and size, or from the explicit data."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing the origin serves, and how it serves it.

    The body is ``body(seed, 0, size)``, or `data`, which then also decides `size`. Raises ValueError for a
    negative size or delay and for a rate that is not positive.
    """

    size: int = 0
    """Bytes in the body; after construction always the real size, also with `data`."""
    data: bytes | None = None
    seed: int = 0
    content_type: str = "audio/mpeg"
    etag: str | None = AUTO
    """With its quotes, a weak one with its ``W/``. None: no ETag. After construction `AUTO` is resolved."""
    last_modified: str | None = None
    """An HTTP date, sent and compared as it is written. None: no Last-Modified."""
    ranges: bool = True
    """False: Range is ignored, the whole body is sent with 200, and there is no Accept-Ranges."""
    range_status: int | None = None
    """Answer a request with a Range with this status; without `ranges` only."""
    rate: float | None = None
    """Bytes per second on each connection, in pieces of about 20 ms. None: as fast as it goes."""
    delay: float = 0.0
    """Seconds between a request and the header of its answer."""
    chunked: bool = False
    """Transfer-Encoding: chunked, without Content-Length."""
    length: bool = True
    """False, and not chunked: no Content-Length, the end of the connection ends the body."""
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of an answer with a body of this resource, put in place of equally named ones."""
    script: list[Fault | None] = field(default_factory=list)
    """One entry for each GET or HEAD in order of arrival; None means behave. May be appended to any time."""
    always: Fault | None = None
    """What happens to every request that finds the script spent."""

    def __post_init__(self) -> None:
        """Resolve the size and the entity tag."""
        if self.size < 0 or self.delay < 0 or (self.rate is not None and self.rate <= 0):
            raise ValueError(f"not a resource: size {self.size}, delay {self.delay}, rate {self.rate}")
        if self.data is not None:
            object.__setattr__(self, "size", len(self.data))
        if isinstance(self.etag, _Derived):
            tag = f"{self.seed:x}-{self.size:x}"
            if self.data is not None:
                tag = hashlib.blake2b(self.data, digest_size=8).hexdigest()
            object.__setattr__(self, "etag", _Derived(f'"{tag}"'))

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        """Bytes `start` to `end` (exclusive, None: the end) of the body, not past its size.

        Raises ValueError unless ``0 <= start <= end``.
        """
        end = self.size if end is None else min(end, self.size)
        return body(self.seed, start, end) if self.data is None else self.data[start:end]

    def view(self, start: int, end: int) -> memoryview:
        """The next bytes from `start` on, at most `VIEW` and not past `end`, without a copy.

        Positions behind the end have bytes too (of the seed): a lying Content-Range needs some to send.
        """
        if self.data is not None and start < self.size:
            return memoryview(self.data)[start : min(end, start + VIEW)]
        return _view(self.seed, start, end)
