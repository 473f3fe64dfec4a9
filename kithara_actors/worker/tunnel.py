"""The tunnel through an HTTP proxy (CONNECT, RFC 9110 section 9.3.6).

http.client has one too: it tells a refusal only in words, reads as many header lines as the proxy cares to send,
and has no time limit but one for each read.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping

from kithara_actors.errors import ConnectError, ProtocolError
from kithara_actors.worker.attempt import Attempt

__all__ = ["open_tunnel"]

_HEAD_LIMIT = 64 * 1024
_PIECE = 4096
_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: [^\r\n]*)?\r?\n")
_UNSAFE = re.compile(rb"[\x00-\x20\x7f]")
_PASSING = frozenset({408, 429})


def open_tunnel(
    sock: socket.socket | ssl.SSLSocket, attempt: Attempt, host: str, port: int, headers: Mapping[str, str]
) -> None:
    """Have the proxy at the other end of `sock` connect to `host`; `headers` are for the proxy.

    Blocks, until `attempt.deadline` at most; the time left is set on `sock`. Raises ConnectError (refused: for
    good unless the status says that it passes), ProtocolError, TimeoutError and the errors of the socket.
    """
    sock.settimeout(attempt.time_to_connect())
    sock.sendall(_request(host, port, headers))
    proxy = f"the proxy {attempt.via}"
    pending = b""
    while True:
        status, pending = _answer(sock, attempt, pending, proxy)
        if status >= 200:
            break
    if status == 407:
        given = any(name.lower() == "proxy-authorization" for name in headers)
        what = "does not accept the user and password" if given else "wants a user and password: put them into"
        raise ConnectError(f"{proxy} {what} {'of ' if given else ''}its URL", retryable=False)
    if status >= 300:
        passing = status >= 500 or status in _PASSING
        raise ConnectError(f"{proxy} does not connect to {attempt.where}: it answers {status}", retryable=passing)
    if pending:
        # In TLS the client speaks first, so whoever this is from, it is not the origin.
        raise ProtocolError(f"{proxy} sends bytes of its own in the tunnel to {attempt.where}")
    sock.settimeout(attempt.time_to_connect())


def _request(host: str, port: int, headers: Mapping[str, str]) -> bytes:
    try:
        name = host.strip("[]").encode("idna")
    except UnicodeError:
        name = b""
    if not name or _UNSAFE.search(name):
        raise ProtocolError(f"not a host name: {host!r}")
    authority = b"%b:%d" % (b"[%b]" % name if b":" in name else name, port)
    lines = [b"CONNECT %b HTTP/1.1" % authority, b"Host: %b" % authority]
    lines += (f"{field}: {value}".encode("latin-1") for field, value in headers.items())
    return b"\r\n".join((*lines, b"", b""))


def _answer(sock: socket.socket | ssl.SSLSocket, attempt: Attempt, pending: bytes, proxy: str) -> tuple[int, bytes]:
    """Status of the next answer, and what came behind it."""
    head = bytearray(pending)
    searched = 0
    while (end := _END.search(head, searched)) is None:
        if len(head) > _HEAD_LIMIT:
            raise ProtocolError(f"the answer of {proxy} has no end")
        searched = max(len(head) - 3, 0)
        sock.settimeout(attempt.time_to_connect())
        piece = sock.recv(_PIECE)
        if not piece:
            raise ConnectError(f"{proxy} closed the connection instead of opening a tunnel to {attempt.where}")
        head += piece
    status = _STATUS.match(head)
    if status is None:
        raise ProtocolError(f"malformed answer from {proxy}: it is no HTTP proxy")
    return int(status[1]), bytes(head[end.end() :])
