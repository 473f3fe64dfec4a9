"""SOCKS proxies: the handshake of PySocks on connections that the attempt's own dialer opens.

So a cancel reaches it, and it ends with the time to connect, where PySocks by itself has a limit for each read and
looks names up with nothing that could end it. Imported only when a SOCKS proxy is set; needs the extra `socks`.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import socks

from kithara_actors.errors import ConnectError, KitharaError, ProtocolError
from kithara_actors.worker.attempt import Attempt, Dialer
from kithara_actors.worker.connections import PlainConnection, PlainPool, SecureConnection, SecurePool, active

__all__ = ["POOLS", "Server"]

_PORT = 1080
_LONGEST = 127
"""PySocks writes a length of more as two bytes of UTF-8."""

_ELSEWHERE = frozenset({0x03, 0x04, 0x05, 0x08})
"""Replies about an address (RFC 1928 section 6): another of the same host may do."""
_FINAL = frozenset({0x02, 0x07, 0x08, 0x5C, 0x5D})
"""Replies that will not change; the last two are of SOCKS4, which has one code for all the rest."""


class _Connected(socket.socket):
    """Comes below PySocks' socket in the order of resolution, where that dials its proxy: it is dialed already."""

    def connect(self, address: Any) -> None:
        """Nothing is left to do."""


class _Handshake(socks.socksocket, _Connected):  # type: ignore[misc]
    """Takes over a connection to a proxy, for as long as the handshake lasts."""

    def __init__(self, sock: socket.socket, attempt: Attempt) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.attempt = attempt
        self.heard = b""
        self.ended = False

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        socket.socket.settimeout(self, self.attempt.time_to_connect())
        count = super().recv_into(*args, **kwargs)
        self.heard += bytes(args[0][:count])
        self.ended = count == 0
        return int(count)

    def send(self, *args: Any, **kwargs: Any) -> int:
        socket.socket.settimeout(self, self.attempt.time_to_connect())
        return int(super().send(*args, **kwargs))

    @property
    def reply(self) -> int:
        """The code of a refusal, which PySocks tells only in words: it stops reading behind it."""
        return self.heard[-7] if len(self.heard) == 8 and self.heard[0] == 0 else self.heard[-2]


class _Refused(ConnectError):
    """The proxy could not reach this one address."""


@dataclass(frozen=True, slots=True)
class Server:
    """A SOCKS proxy, and which side looks names up."""

    version: int
    host: str
    port: int
    user: str | None
    password: str | None
    names: bool

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Server:
        """From what urllib3 hands to the connections of its own."""
        return cls(
            options["socks_version"],
            str(options["proxy_host"] or "").strip("[]"),
            int(options["proxy_port"] or _PORT),
            options["username"],
            options["password"],
            bool(options["rdns"]),
        )

    @property
    def where(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def connect(
        self, attempt: Attempt, dialer: Dialer, names: Dialer, host: str, port: int, options: Iterable[tuple[Any, ...]]
    ) -> socket.socket:
        """A connection through the proxy, bound to `attempt`, with the rest of the connect time-out set on it.

        `dialer` reaches the proxy, `names` looks `host` up where that is done here. It is done here also where
        `names` refuses some addresses: the proxy is then told the address that was looked at, not the name.
        Raises what `Dialer.dial` raises.
        """
        self._check()
        refused: _Refused | None = None
        for address in self._targets(attempt, names, host, port):
            sock = dialer.dial(attempt, self.host, self.port, options)
            try:
                return self._shake_hands(sock, attempt, address, port)
            except _Refused as error:
                refused = error
        assert refused is not None
        raise ConnectError(str(refused), retryable=refused.retryable)

    def _check(self) -> None:
        for what, value in (("user", self.user), ("password", self.password)):
            if value is not None and len(value.encode()) > _LONGEST:
                text = (
                    f"the {what} for the proxy {self.where} has more than {_LONGEST} bytes, which PySocks cannot send"
                )
                raise ConnectError(text, retryable=False)

    def _targets(self, attempt: Attempt, names: Dialer, host: str, port: int) -> list[str]:
        if self.names and not names.refuses and not _is_address(host):
            return [_checked_name(host)]
        found = names.look_up(attempt, host, port)
        if not found:
            raise ConnectError(f"cannot connect to {attempt.where}: no address")
        if self.version == socks.SOCKS4:
            found = [(family, address) for family, address in found if family == socket.AF_INET]
        if not found:
            text = f"the proxy {self.where} is reached by SOCKS4, which has no IPv6, and {host} no other address"
            raise ConnectError(text, retryable=False)
        return [address for _, address in found]

    def _shake_hands(self, sock: socket.socket, attempt: Attempt, target: str, port: int) -> socket.socket:
        shaking = _Handshake(sock, attempt)
        try:
            shaking.set_proxy(self.version, self.host, self.port, self.names, self.user, self.password)
            shaking.connect((target, port))
            left = attempt.time_to_connect()
            connected = socket.socket(fileno=shaking.detach())
        except OSError as error:  # among them all of PySocks
            raise self._explain(error, shaking, attempt) from None
        finally:
            if shaking.fileno() >= 0:
                shaking.close()
        connected.settimeout(left)
        return connected

    def _explain(self, error: Exception, shaking: _Handshake, attempt: Attempt) -> Exception:
        cause = getattr(error, "socket_err", None)
        if isinstance(cause, socks.ProxyError):
            # They are OSErrors, so PySocks wraps its own.
            return self._explain(cause, shaking, attempt)
        proxy = f"the proxy {self.where}"
        match error:
            case KitharaError() | TimeoutError():
                return error
            case _ if isinstance(cause, KitharaError | TimeoutError):
                return cause
            case _ if isinstance(cause, OSError):
                # Not as it is: urllib3 takes a reset for that of a request, whose answer may still come.
                return ConnectError(f"the connection to {proxy} broke: {cause.strerror}")
            case socks.SOCKS5AuthError():
                given = self.user and self.password
                what = (
                    "does not accept the user and password of" if given else "wants a user and password: put them into"
                )
                return ConnectError(f"{proxy} {what} its URL", retryable=False)
            case socks.SOCKS5Error() | socks.SOCKS4Error():
                code = shaking.reply
                known = socks.SOCKS5_ERRORS if isinstance(error, socks.SOCKS5Error) else socks.SOCKS4_ERRORS
                kind = _Refused if code in _ELSEWHERE else ConnectError
                said = known.get(code, f"code {code}").rstrip(".").lower()
                return kind(f"{proxy} does not connect to {attempt.where}: {said}", retryable=code not in _FINAL)
        if shaking.ended:
            return ConnectError(f"{proxy} closed the connection in the SOCKS handshake")
        version = 4 if self.version == socks.SOCKS4 else 5
        return ConnectError(f"{proxy} does not speak SOCKS{version}", retryable=False)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _checked_name(host: str) -> str:
    try:
        length = len(host.encode("idna"))
    except UnicodeError:
        raise ProtocolError(f"not a host name: {host}") from None
    if length > _LONGEST:
        raise ConnectError(f"a host name of {length} bytes: PySocks cannot send more than {_LONGEST}", retryable=False)
    return host


class _Plain(PlainConnection):
    """A connection through a SOCKS proxy."""

    indirect = True

    def __init__(self, *args: Any, _socks_options: Mapping[str, Any], **kwargs: Any) -> None:
        self._server = Server.of(_socks_options)
        super().__init__(*args, **kwargs)

    def dial(self, attempt: Attempt, dialer: Dialer) -> socket.socket:
        names = active.names
        assert names is not None
        return self._server.connect(attempt, dialer, names, self.host, self.port, self.socket_options or ())


class _Secure(_Plain, SecureConnection):
    pass


class _PlainPool(PlainPool):
    ConnectionCls = _Plain

    @property
    def via(self) -> str:
        return Server.of(self.conn_kw["_socks_options"]).where


class _SecurePool(_PlainPool, SecurePool):
    ConnectionCls = _Secure


POOLS: dict[str, type[PlainPool]] = {"http": _PlainPool, "https": _SecurePool}
