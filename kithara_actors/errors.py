"""What can go wrong, sorted by what the caller can do about it.

Everything that a read raises derives from `StreamError` and so from `OSError`: code written for files keeps
working. Misuse is `ValueError` or `TypeError`, as for a file. Errors pickle, carry `retryable`, and cross process
and actor boundaries as a `Failure`.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.errors import CodecError

__all__ = [
    "BodyTooLarge",
    "Cancelled",
    "CodecError",
    "ConnectError",
    "DigestMismatch",
    "Failure",
    "InternalError",
    "InvalidContentType",
    "InvalidKey",
    "KitharaError",
    "PoisonRequest",
    "PolicyError",
    "ProtocolError",
    "ReadTimeout",
    "ResourceChanged",
    "RetryExhausted",
    "StatusError",
    "StorageFull",
    "StreamError",
    "SystemStopped",
    "TraceError",
    "UnsupportedPlatform",
    "restore",
]


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as plain data: what crosses a process or actor boundary.

    `kind` is the class name in this module; `status` and `retry_after` (seconds) belong to `StatusError`, `cause`
    is the kind of the last error under a `RetryExhausted` and `attempts` the attempts made.
    """

    kind: str
    text: str
    retryable: bool = False
    status: int | None = None
    retry_after: float | None = None
    cause: str | None = None
    attempts: int | None = None


class KitharaError(Exception):
    """Root of the package's own errors.

    `retryable` is True when the same call may succeed later without any change by the caller.
    """

    retryable: bool = False
    status: int | None = None
    retry_after: float | None = None
    cause: str | None = None
    attempts: int | None = None

    def __init__(
        self,
        text: str,
        *,
        retryable: bool | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        cause: str | None = None,
        attempts: int | None = None,
    ) -> None:
        super().__init__(text)
        if retryable is not None:
            self.retryable = retryable
        if status is not None:
            self.status = status
        if retry_after is not None:
            self.retry_after = retry_after
        if cause is not None:
            self.cause = cause
        if attempts is not None:
            self.attempts = attempts

    @property
    def failure(self) -> Failure:
        """This error as plain data; `restore` is the inverse."""
        return Failure(
            kind=type(self).__name__,
            text=str(self),
            retryable=self.retryable,
            status=self.status,
            retry_after=self.retry_after,
            cause=self.cause,
            attempts=self.attempts,
        )


class StreamError(KitharaError, OSError):
    """Root of what reading a stream raises."""


class StatusError(StreamError):
    """The server answered with an HTTP status that carries no body of ours; `status` says which."""


class ProtocolError(StreamError):
    """The answer breaks HTTP's rules or does not fit what was asked; never retried."""


class InvalidContentType(StreamError):
    """A page came where media was asked for: a captive portal, a login form, a soft error page."""


class ResourceChanged(StreamError):
    """The representation was replaced on the server after this handle had read bytes of the old one."""


class RetryExhausted(StreamError):
    """Every attempt that the budget allows failed; `cause` is the kind of the last error."""


class ConnectError(StreamError):
    """No connection, no answer in time, or a connection that broke.

    Retryable unless a certificate, a setting, or a proxy that refuses for good is at fault.
    """

    retryable = True


class StorageFull(StreamError):
    """There is no room for the bytes: `memory_limit`, a quota, or the disk."""


class Cancelled(StreamError):
    """The stream was closed or cancelled while the call was in progress, or before it."""


class SystemStopped(StreamError):
    """The actor system has been stopped; open a new one."""


class PolicyError(StreamError):
    """A rule of the configuration forbids the request, or a callable of the application failed to say how to make it.

    `retryable` where only no thread was free to ask.
    """


class DigestMismatch(StreamError):
    """The complete asset does not have the digest that was asked for."""


class ReadTimeout(StreamError, TimeoutError):
    """The bytes did not arrive within `read_timeout`, and the download goes on; or a call had no result within its
    `timeout`, and its request was cancelled."""

    retryable = True


class BodyTooLarge(StreamError):
    """A collected body is larger than `execute_limit`."""


class InternalError(StreamError):
    """A part of this library failed; the text names it. Please report it."""


class PoisonRequest(InternalError):
    """Two worker processes in a row have died of this request, which ran alone in each; it is not tried again."""


class InvalidKey(KitharaError, ValueError):
    """The key hook returned something that cannot name an asset."""


class TraceError(KitharaError, ValueError):
    """A file is no trace of a recorder's, or is damaged; the text names it and the place."""


class UnsupportedPlatform(KitharaError):
    """This system lacks something that the library is built on; the text names it."""


_KINDS: dict[str, type[KitharaError]] = {
    cls.__name__: cls
    for cls in (
        BodyTooLarge,
        Cancelled,
        ConnectError,
        DigestMismatch,
        InternalError,
        InvalidContentType,
        PoisonRequest,
        PolicyError,
        ProtocolError,
        ReadTimeout,
        ResourceChanged,
        RetryExhausted,
        StatusError,
        StorageFull,
        StreamError,
        SystemStopped,
    )
}


def restore(failure: Failure) -> KitharaError:
    """A fresh exception for `failure`, so that each raise has a traceback of its own.

    An unknown kind (an error from a newer peer) becomes an `InternalError` that keeps the text.
    """
    cls = _KINDS.get(failure.kind, InternalError)
    return cls(
        failure.text,
        retryable=failure.retryable,
        status=failure.status,
        retry_after=failure.retry_after,
        cause=failure.cause,
        attempts=failure.attempts,
    )
