"""One attempt of a stream's request, from a worker's side: the answer told, the bytes landed, the end in words."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable

from actors.memory.progress import ProgressBlock, WakeUp
from kithara_actors.errors import Cancelled, Failure, KitharaError
from kithara_actors.logic.naming import redact
from kithara_actors.logic.response import Accepted
from kithara_actors.messages.worker import (
    FINAL_URL_LIMIT,
    HEAD_CODEC,
    AttemptEnded,
    AttemptHeaders,
    Head,
    RunAttempt,
)
from kithara_actors.values import Answer, Validator
from kithara_actors.worker.attempt import Attempt
from kithara_actors.worker.body import BodyBroken, BodyStalled
from kithara_actors.worker.fetcher import FirstByte
from kithara_actors.worker.sink import Sink

__all__ = ["Answered", "Transfer", "internal"]

Answered = Callable[[Accepted, FirstByte], None]
"""Told of an answer before its body is read."""

RANGES_FLAG = 1
_FIELD_LIMIT = 512
"""Bytes of a header's value in the head."""
_REDIRECTS_LIMIT = 800
"""Characters of the redirects in the head, together; ten are followed at most."""
_CHAIN_LIMIT = 10


class Transfer:
    """One attempt on its thread: the head and the progress words of its content are written here."""

    def __init__(
        self,
        order: RunAttempt,
        attempt: Attempt,
        data: int,
        block: ProgressBlock,
        wake: WakeUp,
        report: Callable[[AttemptHeaders], None],
    ) -> None:
        """Into the descriptor `data`, with `report` told of the answer; all of them stay the caller's."""
        self._report = report
        self._order = order
        self._attempt = attempt
        self._block = block
        self._wake = wake
        spec = order.spec
        self._sink = Sink(
            data,
            self._landed,
            spec.limit,
            stop=lambda: block.stop(spec.lane),
            held=spec.start if spec.held is None else spec.held,
        )
        self._sink.landed = order.start

    def run(self, fetch: Callable[[Sink, Answered], tuple[int, int | None]]) -> AttemptEnded:
        """Have `fetch` store the body and say where it ended and the total, if certain; how it ended. Blocks."""
        order = self._order
        failure: Failure | None = None
        total: int | None = None
        complete = broke = cancelled = stalled = False
        try:
            end, total = fetch(self._sink, self._answered)
            self._sink.landed = max(self._sink.landed, end)
            complete = True
            if total is not None and self._block.length is None and self._block.has_head:
                self._block.write_length(total)
                self._wake.signal()
        except Cancelled:
            cancelled = True
        except KitharaError as error:
            failure = error.failure
            broke = isinstance(error, BodyBroken)
            stalled = isinstance(error, BodyStalled)
        except Exception as error:  # noqa: BLE001 - whatever it is must reach the reader as a typed error
            failure = internal(error)
        finally:
            self._sink.release()
        status, seconds = self._attempt.refused or (None, 0.0)
        return AttemptEnded(
            order.spec.request,
            order.attempt,
            self._sink.landed,
            complete,
            total,
            broke,
            cancelled,
            failure,
            status,
            seconds,
            stalled,
        )

    def _answered(self, accepted: Accepted, first: FirstByte) -> None:
        """The answer fits: say so in the block, before any byte, and to the host."""
        spec = self._order.spec
        validator = _bounded(accepted.validator)
        kind = accepted.content_type
        content_type = None if kind is None else kind.encode()[:_FIELD_LIMIT].decode(errors="ignore")
        if spec.validator is None:
            # Nothing is pinned yet, so this is the one request that may say what the asset is.
            answer = Answer(
                first.status, accepted.partial, content_type, validator, _shown(first.redirects), first.seconds
            )
            self._block.write_head(
                accepted.total, RANGES_FLAG if accepted.partial else 0, HEAD_CODEC.encode(Head(answer))
            )
            self._wake.signal()
        self._report(
            AttemptHeaders(
                spec.request,
                self._order.attempt,
                first.status,
                accepted.partial,
                accepted.end,
                accepted.total,
                validator,
                content_type,
                first.url[:FINAL_URL_LIMIT],
                first.seconds,
                first.bare,
                first.ranged,
            )
        )

    def _landed(self, end: int) -> None:
        self._block.publish(self._order.spec.lane, self._order.spec.generation, end)
        self._wake.signal()


def internal(error: BaseException) -> Failure:
    """The end of an attempt that nobody foresaw; its traceback goes to the standard error.

    What was sent and answered may be quoted in messages of errors: kinds and places have to do.
    """
    last = traceback.extract_tb(error.__traceback__)[-1]
    lines: list[str] = []
    each: BaseException | None = error
    while each is not None and len(lines) < _CHAIN_LIMIT:
        lines.insert(0, "".join([*traceback.format_tb(each.__traceback__), f"{type(each).__name__}\n"]))
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    with contextlib.suppress(OSError):
        sys.stderr.write("Traceback (most recent call last):\n" + "which led to\n".join(lines))
        sys.stderr.flush()
    place = f"{os.path.basename(last.filename)}, line {last.lineno}"  # noqa: PTH119 - of text
    return Failure("InternalError", f"the worker failed: {type(error).__name__} in {place}; please report it")


def _shown(redirects: tuple[str, ...]) -> tuple[str, ...]:
    """Redirects for people: without secrets, and short enough for the block's room."""
    limit = _REDIRECTS_LIMIT // max(len(redirects), 1)
    shown = (redact(url).encode("ascii", "replace").decode() for url in redirects)
    return tuple(url if len(url) <= limit else f"{url[: limit - 3]}..." for url in shown)


def _bounded(validator: Validator) -> Validator:
    """A validator longer than the block's room is none: it could not be compared later."""
    return Validator(
        *(
            None if field is not None and len(field.encode()) > _FIELD_LIMIT else field
            for field in (validator.etag, validator.last_modified, validator.date)
        )
    )
