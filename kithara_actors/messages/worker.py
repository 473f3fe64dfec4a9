"""What is said on the channel between the host and one worker process. Tags 16 to 31.

A worker makes one HTTP attempt, reports, and forgets. `attempt` is counted by the host over all requests, so that
a late report of an older attempt is told from the current one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.messages.codec import Codec
from actors.messages.command import Command
from kithara_actors.errors import Failure
from kithara_actors.messages.records import FetchSpec
from kithara_actors.values import Answer, RequestId, Validator

__all__ = [
    "FINAL_URL_LIMIT",
    "HEAD_CODEC",
    "WORKER_COMMANDS",
    "AskRedirect",
    "AttemptEnded",
    "AttemptHeaders",
    "AttemptsInFlight",
    "CancelAttempt",
    "Head",
    "InFlight",
    "RedirectJudged",
    "ReportAttempts",
    "RunAttempt",
    "WorkerSettings",
    "head_of_present",
]


FINAL_URL_LIMIT = 8192
"""Characters of `AttemptHeaders.final_url`; one that has so many was cut."""


@dataclass(frozen=True, slots=True)
class WorkerSettings(Command):
    """Host → worker, inside `Hello`: how this worker speaks HTTP. Times in seconds.

    `public_only` refuses addresses that are not public; `asks` has the host judge every redirect. Rates in bytes per
    second.
    """

    TAG = 21
    connect_timeout: float
    inactivity_timeout: float
    verify: bool
    ca_bundle: str | None
    certificate: str | None
    key: str | None
    proxies: tuple[tuple[str, str], ...] | None = field(repr=False)
    max_connections: int
    allow_downgrade: bool
    public_only: bool
    asks: bool
    max_rate: float | None
    max_rate_per_host: float | None


@dataclass(frozen=True, slots=True)
class RunAttempt(Command):
    """Host → worker, with three descriptors: the data, the progress block, the wake-up.

    The spec's range is asked from `start` on, which lies past `spec.start` when earlier attempts have landed bytes.
    A spec that is collected comes with one descriptor, the data, and begins at its start each time; for HEAD with none.
    Where rates are limited the meters come before these, and `meter` is the number of the origin's (0: none).
    """

    TAG = 16
    attempt: int
    start: int
    spec: FetchSpec
    meter: int | None = None


@dataclass(frozen=True, slots=True)
class CancelAttempt(Command):
    """Host → worker: shut the attempt's socket down. It is answered by `AttemptEnded`, unless that is under way."""

    TAG = 17
    attempt: int


@dataclass(frozen=True, slots=True)
class AttemptHeaders(Command):
    """Worker → host: an answer was accepted; its head is in the progress block. `seconds` is from send to headers.

    `final_url` is where it came from; `bare`: redirects to another origin have cost the caller's headers. `ranged`:
    it answers a request with a Range, not one that was made again without. Of a collected answer there is no such head:
    `headers` are all of its header fields, and `final_url` is complete.
    """

    TAG = 18
    request: RequestId
    attempt: int
    status: int
    partial: bool
    end: int | None
    total: int | None
    validator: Validator
    content_type: str | None
    final_url: str = field(repr=False)
    seconds: float
    bare: bool
    ranged: bool
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class AttemptEnded(Command):
    """Worker → host: the attempt is over and the worker writes no more.

    `end` is the absolute offset up to which bytes have landed; `complete` says that all that was asked or announced
    has; `total` is the length, once it is certain; `broke` marks a body that ended before its announced end.
    `status` is that of an answer that was not accepted, which took `seconds`; None without such. `stalled`: it broke
    since nothing of the body came for the inactivity limit. `head` is that of the accepted answer, where it was not
    told before: the whole answer came at once.
    """

    TAG = 19
    request: RequestId
    attempt: int
    end: int
    complete: bool
    total: int | None
    broke: bool
    cancelled: bool
    failure: Failure | None
    status: int | None = None
    seconds: float = 0.0
    stalled: bool = False
    head: AttemptHeaders | None = None


@dataclass(frozen=True, slots=True)
class AskRedirect(Command):
    """Worker → host: the attempt was sent to `url`; may it go there? Answered by `RedirectJudged`."""

    TAG = 23
    request: RequestId
    attempt: int
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RedirectJudged(Command):
    """Host → worker: the answer to the attempt's `AskRedirect`; with a `failure` it ends there."""

    TAG = 24
    attempt: int
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class InFlight:
    """An attempt that a worker runs, from `start` on."""

    request: RequestId
    attempt: int
    start: int


@dataclass(frozen=True, slots=True)
class ReportAttempts(Command):
    """Host → worker `worker`: what do you run? Answered by `AttemptsInFlight`."""

    TAG = 25
    worker: int


@dataclass(frozen=True, slots=True)
class AttemptsInFlight(Command):
    """Worker → host: what it runs, in one part or several. What it had said of these attempts follows once more:
    `AttemptHeaders` of those that were answered, `AskRedirect` of those that wait to be judged."""

    TAG = 26
    worker: int
    attempts: tuple[InFlight, ...]
    last: bool


@dataclass(frozen=True, slots=True)
class Head(Command):
    """Worker → readers, in the progress block: what the first answer said, besides the length.

    `answer` has status 0 where nobody was asked: the bytes were there.
    """

    TAG = 20
    answer: Answer


HEAD_CODEC = Codec([Head])
"""The head's blob to bytes and back."""


def head_of_present(content_type: str | None) -> bytes:
    """The head's blob for bytes that need no server."""
    return HEAD_CODEC.encode(Head(Answer(0, False, content_type, Validator(), (), 0.0)))


WORKER_COMMANDS: tuple[type[Command], ...] = (
    RunAttempt,
    CancelAttempt,
    AttemptHeaders,
    AttemptEnded,
    AskRedirect,
    RedirectJudged,
    ReportAttempts,
    AttemptsInFlight,
)
