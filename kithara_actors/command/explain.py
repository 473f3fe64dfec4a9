"""What went wrong, in one line, with what the user can do about it."""

from __future__ import annotations

from kithara_actors.errors import (
    ConnectError,
    InvalidContentType,
    KitharaError,
    ProtocolError,
    ResourceChanged,
    RetryExhausted,
    StatusError,
    StorageFull,
    UnsupportedPlatform,
)
from kithara_actors.logic.naming import redact

__all__ = ["CommandError", "explain"]


class CommandError(Exception):
    """The command cannot go on; the text is for the user."""


def explain(error: BaseException, url: str | None = None) -> str:
    """One line about `error`, which came up with `url`, whose secrets are not shown."""
    if isinstance(error, CommandError | UnsupportedPlatform):
        return str(error)
    if isinstance(error, KitharaError):
        text, remedy = str(error), _remedy(error, url)
    elif isinstance(error, OSError):
        where = f" {error.filename}:" if error.filename else ""
        return f"{where} {error.strerror or error}".strip()
    elif isinstance(error, ValueError):
        text, remedy = str(error), None
    else:
        return f"internal error: {type(error).__name__}: {error}; please report it"
    where = "" if url is None else f"{redact(url)}: "
    return where + text + (f"; {remedy}" if remedy else "")


def _remedy(error: KitharaError, url: str | None) -> str | None:
    kind = error.cause if isinstance(error, RetryExhausted) else type(error).__name__
    match kind:
        case StatusError.__name__ if error.status in (401, 403, 407):
            return "if it needs credentials, give them with --header 'Authorization: …'"
        case StatusError.__name__ if error.status in (404, 410):
            return "check the URL"
        case StatusError.__name__ | ProtocolError.__name__:
            return "try again later" if isinstance(error, RetryExhausted) or error.retryable else None
        case ConnectError.__name__ if error.retryable or isinstance(error, RetryExhausted):
            return "check the host, the port and the network, or try later with more --retries"
        case ConnectError.__name__:
            trust = ", or trust any certificate with --insecure" if url and url.lower().startswith("https:") else ""
            return f"check the host name and the network{trust}"
        case InvalidContentType.__name__:
            return "open it in a browser: it may need a login, or be the page and not the media"
        case StorageFull.__name__:
            return "make room, or save to another disk with -o"
        case ResourceChanged.__name__:
            return "run the command again"
        case _:
            return None
