"""A stream's questions to the parsing process: what the file is, and what it says of itself.

The process asks for the bytes that it lacks; who waits for the answer fetches them meanwhile, in its own thread.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TypeAlias, cast

from actors.clock import monotonic
from actors.errors import WorkerStartError
from kithara_actors.assets.content import SNIFF, Content
from kithara_actors.errors import InternalError, ReadTimeout
from kithara_actors.messages.parser import BytesNeeded, Described
from kithara_actors.stream.link import Link
from kithara_actors.stream.waiting import ByteWaiter
from kithara_actors.values import MediaDetails, MediaInfo, Phase

__all__ = ["Inspector"]

_Said: TypeAlias = BytesNeeded | Described

_SILENCE = 60.0
"""Seconds without a word of the parsing process after which it is not waited for any more."""


class Inspector:
    """Asks for one stream. Safe from any thread."""

    def __init__(self, waiter: ByteWaiter, link: Link) -> None:
        self._bytes = waiter
        self._link = link

    def details(self, timeout: float | None) -> MediaDetails:
        """All that can be told without decoding; blocks, fetching what that needs. See `Stream.inspect`."""
        deadline = None if timeout is None else monotonic() + timeout

        def left() -> float | None:
            return None if deadline is None else max(0.0, deadline - monotonic())

        try:
            return self._bytes.using(lambda content: content.details or self._ask(content, left))
        except ReadTimeout:
            if deadline is not None and monotonic() >= deadline:
                raise ReadTimeout(f"the file could not be looked at within {timeout:g} s") from None
            raise

    def _ask(self, content: Content, left: Callable[[], float | None]) -> MediaDetails:
        present = self._bytes.bytes_at(content, 0, SNIFF, left())
        heard: collections.deque[_Said] = collections.deque()

        def hear(said: _Said) -> None:
            heard.append(said)
            content.signal()

        length = content.length
        whole = length is not None and (present >= length or _reachable(content))
        parsing = self._link.parsing
        try:
            job = parsing.describe(content.fd, content.content_type, length, present, whole, hear)
        except (OSError, WorkerStartError, RuntimeError) as error:
            raise InternalError(f"the parsing process cannot be started: {error}") from error
        try:
            while True:
                said = self._next(content, heard, left())
                if isinstance(said, Described):
                    # No answer of the process may keep others from asking again.
                    if whole and said.job == job:
                        content.details = said.details
                    return said.details
                reached = self._bytes.bytes_at(content, said.start, said.end, left())
                parsing.supply(job, said.start, min(reached, said.end))
        finally:
            parsing.forget(job)

    def _next(self, content: Content, heard: collections.deque[_Said], limit: float | None) -> _Said:
        """The next word of the parsing process. Ends as a read does: closing the stream, a failed asset."""

        def look() -> _Said | None:
            return heard.popleft() if heard else None

        within = _SILENCE if limit is None else min(limit, _SILENCE)
        try:
            # mypy joins the two to their base.
            said = cast("_Said", self._bytes.until(content, look, within))
        except ReadTimeout:
            if limit is None or limit > _SILENCE:
                raise InternalError("the parsing process does not answer") from None
            raise
        return said

    def info(self, content: Content, known: MediaInfo | None) -> MediaInfo | None:
        """`known`, or what the content says of itself, filled with what was found out; has the rest found out."""
        info = known or content.media_info()
        if info is None or None not in (info.codec, info.sample_rate, info.channels, info.duration, info.bitrate):
            return info
        self._outline(content)
        return _filled(info, content.details, content.outline)

    def _outline(self, content: Content) -> None:
        """Have the first bytes looked at, once, if they are there; what they tell comes to `content.outline`."""
        if content.outline_asked or content.details is not None:
            return
        present = content.available(0)
        length = content.length
        # The first 64 KiB, all of a shorter file, or what there will ever be.
        if present < SNIFF and present != length and content.view.phase is not Phase.COMPLETE:
            return
        content.outline_asked = True
        if not present or not content.retain():
            return

        def hear(said: _Said) -> None:
            if isinstance(said, Described):
                content.outline = said.details

        try:
            with contextlib.suppress(OSError, WorkerStartError, RuntimeError):
                self._link.parsing.describe(content.fd, content.content_type, length, min(present, SNIFF), False, hear)
        finally:
            content.release()


def _reachable(content: Content) -> bool:
    """Whether any byte can be had without all that come before it."""
    answer = content.first_answer()
    return answer is None or answer.ranges or content.view.phase is Phase.COMPLETE


def _filled(info: MediaInfo, *sources: MediaDetails | None) -> MediaInfo:
    """`info` with its unknown parts taken from the first source that knows them."""
    for source in sources:
        if source is not None:
            unknown = {field.name for field in fields(info) if getattr(info, field.name) is None}
            info = replace(info, **{name: getattr(source.info, name) for name in unknown})
    return info
