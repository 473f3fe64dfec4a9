"""What went wrong, in one line, with what the user can do about it."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

from actors.errors import WorkerStartError
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
from kithara_actors.logic.naming import redact_briefly, redact_text, split_userinfo

__all__ = ["CommandError", "explain", "os_remedy", "without_url"]

_LIMITS = "raise the limits on processes and memory (ulimit -u, ulimit -v), or end other programs"
_OS_REMEDIES = {
    errno.EACCES: "check its permissions and those of its directory, or run the command as another user",
    errno.EPERM: "check its permissions and those of its directory, or run the command as another user",
    errno.EMFILE: "raise the limit on open files: ulimit -n 4096",
    errno.ENFILE: "end programs that have many files open",
    errno.ENOMEM: _LIMITS,
    errno.EAGAIN: _LIMITS,
    errno.ENOSPC: "make room there, or choose another place",
    errno.EDQUOT: "make room there, or choose another place",
    errno.EROFS: "choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file",
    errno.ELOOP: "check where its symbolic links lead",
    errno.EIO: "check the disk",
}


class CommandError(Exception):
    """The command cannot go on; the text is for the user."""


def explain(
    error: BaseException, url: str | None = None, settings: Mapping[str, Any] | None = None, *, named: bool = False
) -> str:
    """One line about `error`, which came up with `url`, whose secrets are not shown, under `settings` of the system.

    It begins with the URL, unless that is `named` already where the line is put. Nothing is sent. Reads the
    certificates that are set, if a connection failed.
    """
    if isinstance(error, CommandError | UnsupportedPlatform):
        return str(error)
    if isinstance(error, KitharaError):
        text, remedy = _told(error, url, settings or {})
    elif isinstance(error, OSError):
        return _of_system(error)
    elif isinstance(error, WorkerStartError):
        text, remedy = str(error), "check the setting worker_python, and the machine with: kithara doctor"
    elif isinstance(error, MemoryError) or _is_thread_limit(error):
        text, remedy = f"the system gives no more: {str(error) or 'out of memory'}", _LIMITS
    elif isinstance(error, ValueError):
        text, remedy = str(error), None
    else:
        return redact_text(f"internal error: {type(error).__name__}: {error}; please report it")
    if url is not None:
        text = without_url(text, url)
    where = "" if url is None or named else f"{redact_briefly(url)}: "
    return where + text + (f"; {remedy}" if remedy else "")


def without_url(text: str, url: str) -> str:
    """`text` of an error of the library's without `url` before it, which is named there in canonical form."""
    try:
        url = split_userinfo(url)[0]
    except ValueError:
        return text
    return text.removeprefix(f"{redact_briefly(url)}: ")


def os_remedy(number: int | None) -> str:
    """What to do about an error of the operating system, with `; ` before it; empty where that is not known."""
    remedy = _OS_REMEDIES.get(number or 0)
    return f"; {remedy}" if remedy else ""


def _of_system(error: OSError) -> str:
    if error.errno == errno.ENOENT and not error.filename and _is_homeless():
        return "the current directory does not exist any more; change to another one"
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}{os_remedy(error.errno)}"


def _is_homeless() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - only asked
    except FileNotFoundError:
        return True
    return False


def _is_thread_limit(error: BaseException) -> bool:
    # Python has no kind of its own for this.
    return isinstance(error, RuntimeError) and "can't start new thread" in str(error)


def _told(error: KitharaError, url: str | None, settings: Mapping[str, Any]) -> tuple[str, str | None]:
    kind = error.cause if isinstance(error, RetryExhausted) else type(error).__name__
    if kind == ConnectError.__name__:
        return _of_connection(error, url, settings)
    return str(error), _remedy(error, kind)


def _of_connection(error: KitharaError, url: str | None, settings: Mapping[str, Any]) -> tuple[str, str]:
    # What these need is loaded only for one who waits for an explanation anyway.
    from kithara_actors.command.checks.finding import State
    from kithara_actors.command.checks.network import proxy_of, shown_proxy, tls
    from kithara_actors.config import Config

    secure = url is not None and url.lower().startswith("https:")
    certificates = tls(Config(**settings)) if secure else None
    if certificates is not None and certificates.state is State.PROBLEM:
        return certificates.finding, str(certificates.remedy)
    proxy = None if url is None else proxy_of(url, settings.get("proxies"))
    if proxy is not None:
        remedy = f"the way there is through the proxy {shown_proxy(proxy)}: check that, or exempt the host in no_proxy"
    elif error.retryable or isinstance(error, RetryExhausted):
        remedy = "check the host, the port and the network, or try later with more --retries"
    else:
        remedy = f"check the host name and the network{', or trust any certificate with --insecure' if secure else ''}"
    return str(error), remedy


def _remedy(error: KitharaError, kind: str | None) -> str | None:
    gave_up = isinstance(error, RetryExhausted) or error.retryable
    match kind:
        case StatusError.__name__ if error.status in (401, 403, 407):
            return "if it needs credentials, give them with --header 'Authorization: …'"
        case StatusError.__name__ if error.status in (404, 410):
            return "check the URL"
        case StatusError.__name__ if not gave_up:
            return "check the URL and the headers"
        case ProtocolError.__name__ if not gave_up:
            return "check the URL: its server or a proxy does not answer as it should"
        case StatusError.__name__ | ProtocolError.__name__:
            return "try again later"
        case InvalidContentType.__name__:
            return "open it in a browser: it may need a login, or be the page and not the media"
        case StorageFull.__name__:
            return "make room, or save to another disk with -o"
        case ResourceChanged.__name__:
            return "run the command again"
        case _:
            return None
