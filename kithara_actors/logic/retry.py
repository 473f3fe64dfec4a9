"""When a failed attempt is made again: a value that is asked, with the random number as an argument."""

from __future__ import annotations

from dataclasses import dataclass

from kithara_actors.errors import Failure, RetryExhausted

__all__ = ["Again", "Final", "RetryPolicy"]


@dataclass(frozen=True, slots=True)
class Again:
    """Make another attempt after `delay` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class Final:
    """Make no further attempt; `failure` is what the caller gets."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The budget of one request (docs/http.md).

    `max_retries` counts attempts after the first, as long as none makes progress; `base`, `cap` and
    `retry_after_limit` are seconds; `renew_after` is the bytes that must land to renew the budget.
    ValueError, naming the field, for a negative or undefined number.
    """

    max_retries: int = 6
    base: float = 0.1
    cap: float = 5.0
    retry_after_limit: float = 30.0
    renew_after: int = 65536

    def __post_init__(self) -> None:
        for name in ("max_retries", "base", "cap", "retry_after_limit", "renew_after"):
            value = getattr(self, name)
            # Written so that a NaN fails as well.
            if not value >= 0:
                raise ValueError(f"{name} must not be negative, not {value!r}")

    def renews(self, landed: int) -> bool:
        """Whether `landed` bytes since the budget was last full make it full again."""
        return landed >= self.renew_after

    def after(
        self, failure: Failure, attempts_without_progress: int, draw: float, *, body_broke: bool = False
    ) -> Again | Final:
        """What follows a failed attempt.

        `attempts_without_progress` counts the attempts since the budget was last renewed, the failed one
        included; 0 says that the failed attempt itself renewed it. `draw` is a random number in [0, 1]
        (ValueError outside). `body_broke` says that the body had begun.

        The delay before retry n is drawn from [b/2, b], b = min(cap, base * 2**(n - 1)): exponential
        backoff with equal jitter. A Retry-After up to `retry_after_limit` replaces it; a longer one is
        final at once, with the failure itself. So is a failure that is not retryable, and any with no
        budget to begin with, but for a broken body. A spent budget is a RetryExhausted that names it, the
        last error and its status.
        """
        if not 0.0 <= draw <= 1.0:
            raise ValueError(f"draw must be in [0, 1], not {draw!r}")
        if not failure.retryable or (self.max_retries == 0 and not body_broke):
            return Final(failure)
        if self.max_retries == 0 or attempts_without_progress > self.max_retries:
            return Final(self._exhausted(failure, max(1, attempts_without_progress)))
        if failure.retry_after is not None:
            if failure.retry_after > self.retry_after_limit:
                return Final(failure)
            return Again(max(0.0, failure.retry_after))
        # Above 2**62 times the base every cap is reached; larger powers would overflow a float.
        doublings = min(max(1, attempts_without_progress) - 1, 62)
        bound = min(self.cap, self.base * 2.0**doublings)
        return Again(bound * (0.5 + 0.5 * draw))

    def _exhausted(self, failure: Failure, attempts: int) -> Failure:
        tries = "attempt" if attempts == 1 else "attempts"
        spent = f"gave up after {attempts} {tries} (max_retries {self.max_retries})"
        return Failure(
            kind=RetryExhausted.__name__,
            text=f"{spent}; last error: {failure.text}",
            retryable=False,
            status=failure.status,
            cause=failure.kind,
            attempts=attempts,
        )
