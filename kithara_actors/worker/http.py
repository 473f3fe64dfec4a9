"""HTTP transport of a worker: a keep-alive pool per origin, and errors in the package's own terms.

urllib3's pools do the HTTP. Requests is asked about proxies only, and imported only when there may be one:
it takes 60 ms more to import than urllib3.
"""

from __future__ import annotations

import errno
import http.client
import os
import re
import ssl
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import certifi
import urllib3.exceptions
from urllib3.response import HTTPResponse
from urllib3.util import Retry, Timeout
from urllib3.util.ssl_ import create_urllib3_context
from urllib3.util.ssl_match_hostname import CertificateError

from actors.clock import monotonic
from kithara_actors.errors import Cancelled, ConnectError, KitharaError, ProtocolError
from kithara_actors.logic.addresses import refusal
from kithara_actors.worker.attempt import Attempt, Dialer
from kithara_actors.worker.connections import POOLS, Malformed, PlainConnection, PlainPool, SecurePool, active
from kithara_actors.worker.targets import address_of, completed

if TYPE_CHECKING:
    from kithara_actors.worker.proxies import Proxies

__all__ = ["USER_AGENT", "Attempt", "Transport", "TransportSettings", "causes", "translate"]

USER_AGENT = "kithara-actors/0.1.0"

_PROXY_NAMES = frozenset({"http_proxy", "https_proxy", "all_proxy"})
_BUNDLE_NAMES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

# BadStatusLine: what an untidy server sent late behind the last body came before the answer to this request. An answer
# that breaks the protocol after such a line is one, and final.
_GONE = (ConnectionError, ssl.SSLEOFError, http.client.BadStatusLine)

# A cut counts as one, where the build of OpenSSL would take it for the end.
_IGNORE_CUTS = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)

_TLS_FINAL = re.compile(
    r"(SSLV3|TLSV1|TLSV13)_(ALERT|UNRECOGNIZED)_(?!INTERNAL_ERROR|DECODE_ERROR|DECRYPT|BAD_RECORD|RECORD|USER_CANCEL).*"
    r"|WRONG_VERSION_NUMBER|UNSUPPORTED_PROTOCOL|NO_(SHARED_CIPHER|PROTOCOLS_AVAILABLE|CIPHERS_AVAILABLE)|.*_TOO_SMALL"
    r"|UNSAFE_LEGACY_RENEGOTIATION_DISABLED"
)
"""Why a handshake fails that fails tomorrow as well: one side does not take what the other has set."""

_FAULTS = (
    (http.client.LineTooLong, "a line in its head of more than 64 KiB"),
    (http.client.UnknownProtocol, "not HTTP/1.1"),
    (http.client.BadStatusLine, "it does not begin as HTTP/1.1 does (is there an HTTP server on this port?)"),
)
_ORIGINS = 64
"""Pools kept; the one unused for longest goes."""

_ONCE = Retry(False, redirect=False)
"""Made once: urllib3 makes one for each request otherwise."""


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """How a worker connects. Times in seconds; up to `max_connections` idle connections are kept per origin.

    `verify` is True, False or a CA bundle (file or directory); `cert` a PEM file or a pair of certificate
    and key, which has no password; `proxies` as Requests takes them, completed from the environment where
    `trust_env`; SOCKS needs PySocks. With `public_only` no host is asked that has an address which is not
    public; a proxy may have one. `receive_buffer` is what the system may buffer of one connection, in bytes, None for
    its own choice.
    """

    connect_timeout: float = 10.0
    inactivity_timeout: float = 30.0
    verify: bool | str = True
    cert: str | tuple[str, str] | None = None
    proxies: Mapping[str, str] | None = field(default=None, repr=False)
    trust_env: bool = True
    max_connections: int = 16
    user_agent: str = USER_AGENT
    public_only: bool = False
    receive_buffer: int | None = None


class Transport:
    """The connections of one worker. Safe from any thread; cookies are not kept and netrc is not read."""

    def __init__(self, settings: TransportSettings | None = None) -> None:
        self.settings = settings or TransportSettings()
        buffer = self.settings.receive_buffer
        self._dialer = Dialer(self.settings.connect_timeout, refusal if self.settings.public_only else None, buffer)
        self._proxy_dialer = Dialer(self.settings.connect_timeout, None, buffer, what="the proxy ")
        self._limits = Timeout(connect=self.settings.connect_timeout, read=self.settings.inactivity_timeout)
        self._lock = threading.RLock()
        self._pools: OrderedDict[tuple[str, str, int], PlainPool] = OrderedDict()
        self._context: ssl.SSLContext | None = None
        self._proxies: Proxies | None = None
        self._may_proxy = bool(self.settings.proxies) or (
            self.settings.trust_env and any(name.lower() in _PROXY_NAMES for name in os.environ)
        )
        if self.settings.verify is False:
            # Chosen by the configuration; one warning per request would say nothing new.
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)

    @property
    def abandoned_lookups(self) -> int:
        """Name lookups whose thread was left behind since the start: cancelled or late."""
        return self._dialer.abandoned + self._proxy_dialer.abandoned

    def open(self, attempt: Attempt, url: str, headers: Mapping[str, str], method: str = "GET") -> HTTPResponse:
        """Send one request and return its response, body unread; redirects are not followed.

        Blocks up to `connect_timeout` for a connection and `inactivity_timeout` for the headers. The attempt
        stays bound to the connection until that goes back to its pool or `attempt.unbind` is called. A keep-
        alive connection that the server closed meanwhile, or on which something else than an answer comes,
        is replaced once. Raises ConnectError, ProtocolError, PolicyError, Cancelled.
        """
        attempt.check()
        attempt.asked = False
        try:
            pool, attempt.target, attempt.where = self._route(url)
            attempt.via = pool.via
            if pool.proxy is not None:
                # The proxy looks the name up for itself; what is known to be refused is not even named to it.
                host, _, port = attempt.where.rpartition(":")
                self._dialer.permit(attempt, host.strip("[]"), int(port))
            return self._send(attempt, pool, headers, method)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            attempt.unbind()
            limit = self.settings.inactivity_timeout if attempt.asked else self.settings.connect_timeout
            told = translate(error, attempt, limit)
            raise told from None if told.__traceback__ else error
        except BaseException:
            attempt.unbind()
            raise

    def close(self) -> None:
        """Close the idle connections; those in use are closed by their attempts."""
        with self._lock:
            pools = list(self._pools.values())
            self._pools.clear()
            proxies, self._proxies = self._proxies, None
        for pool in pools:
            pool.close()
        if proxies is not None:
            proxies.close()

    def _send(self, attempt: Attempt, pool: PlainPool, headers: Mapping[str, str], method: str) -> HTTPResponse:
        sent = completed(headers, self.settings.user_agent)
        attempt.fresh = attempt.plain = False
        active.attempt, active.names = attempt, self._dialer
        active.dialer = self._proxy_dialer if pool.via else self._dialer
        try:
            while True:
                attempt.asked, attempt.deadline = False, monotonic() + self.settings.connect_timeout
                try:
                    response = pool.urlopen(
                        method,
                        attempt.target,
                        headers=sent,
                        timeout=self._limits_of(attempt),
                        retries=_ONCE,
                        redirect=False,
                        assert_same_host=False,
                        preload_content=False,
                        decode_content=False,
                    )
                    return cast("HTTPResponse", response)
                except (urllib3.exceptions.HTTPError, OSError) as error:
                    attempt.unbind()
                    stale = any(isinstance(cause, _GONE) for cause in causes(error))
                    if not stale or attempt.fresh or attempt.cancelled or active.fresh_only:
                        raise
                    active.fresh_only = True
        finally:
            active.attempt = active.dialer = active.names = None
            active.fresh_only = False

    def _limits_of(self, attempt: Attempt) -> Timeout:
        """The time for a connection, and for an answer: what is left of it where that is waited for already."""
        if attempt.ahead is None or attempt.began is None:
            return self._limits
        left = attempt.began + self.settings.inactivity_timeout - monotonic()
        return Timeout(connect=self.settings.connect_timeout, read=max(left, 0.001))

    def kept(self, attempt: Attempt, url: str) -> tuple[PlainPool, PlainConnection] | None:
        """A connection that waits for a request to `url`, and its pool; None if there is none to take at once.

        Neither over TLS nor through a proxy. Does not block. It goes back by `PlainPool.put_back`.
        """
        try:
            key, attempt.target, attempt.where = address_of(url)
        except (ValueError, KitharaError):
            return None  # said by `open`
        if not self._lock.acquire(blocking=False):
            return None  # a pool is being made, which may take a while
        try:
            pool = self._pools.get(key)
            if pool is not None:
                self._pools.move_to_end(key)
        finally:
            self._lock.release()
        if type(pool) is not PlainPool or pool.proxy is not None:
            return None
        connection = pool.kept()
        return None if connection is None else (pool, connection)

    def _route(self, url: str) -> tuple[PlainPool, str, str]:
        """Pool, request target and host:port for `url`."""
        key, target, where = address_of(url)
        pool = self._pool(*key, where)
        if pool.proxy is not None and key[0] == "http":
            netloc = where.removesuffix(":80")
            target = f"http://{netloc}{target}"
        return pool, target, where

    def _pool(self, scheme: str, host: str, port: int, where: str) -> PlainPool:
        key = (scheme, host, port)
        with self._lock:
            pool = self._pools.get(key)
            if pool is not None:
                self._pools.move_to_end(key)
                return pool
            size = self.settings.max_connections
            if self._may_proxy:
                pool = self._proxy_settings().pool(f"{scheme}://{where}/")
            elif scheme == "https":
                pool = SecurePool(host, port, maxsize=size, ssl_context=self._tls())
            else:
                pool = PlainPool(host, port, maxsize=size)
            self._pools[key] = pool
            if len(self._pools) > _ORIGINS:
                # Not closed, for attempts may be using it: the last of them leaves it to its finalizer,
                # which does.
                self._pools.popitem(last=False)
            return pool

    def _proxy_settings(self) -> Proxies:
        if self._proxies is None:
            from kithara_actors.worker.proxies import Proxies

            self._proxies = Proxies(
                POOLS,
                self._tls,
                proxies=self.settings.proxies,
                trust_env=self.settings.trust_env,
                size=self.settings.max_connections,
            )
        return self._proxies

    def _tls(self) -> ssl.SSLContext:
        """One context for all connections: reading the CA bundle takes longer than a handshake."""
        with self._lock:
            if self._context is None:
                self._context = _tls_context(self.settings)
            return self._context


def _tls_context(settings: TransportSettings) -> ssl.SSLContext:
    verify = settings.verify
    if verify is True:
        names = _BUNDLE_NAMES if settings.trust_env else ()
        verify = next(filter(None, map(os.environ.get, names)), None) or certifi.where()
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if verify else ssl.CERT_NONE)
    context.options &= ~_IGNORE_CUTS
    if isinstance(verify, str):
        try:
            is_folder = Path(verify).is_dir()
            context.load_verify_locations(**{"capath" if is_folder else "cafile": verify})
        except OSError as error:
            text = f"the CA bundle {verify} cannot be read: {_unreadable(error)}"
            raise ConnectError(text, retryable=False) from error
    if settings.cert is not None:
        cert, key = (settings.cert, None) if isinstance(settings.cert, str) else settings.cert
        try:
            context.load_cert_chain(cert, key, _no_password)
        except OSError as error:
            named = cert if key is None else f"{cert} with the key {key}"
            text = f"the client certificate {named} cannot be read: {_unreadable(error)}"
            raise ConnectError(text, retryable=False) from error
    return context


def _no_password() -> bytes:
    """Without this OpenSSL would ask for the password of an encrypted key at the terminal."""
    raise PermissionError(errno.EACCES, "the key is encrypted; give one without a password")


def _unreadable(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        known = {"KEY_VALUES_MISMATCH": "the key is of another certificate"}
        return known.get(error.reason or "", "it is no PEM file of that kind")
    return error.strerror or str(error)


def translate(error: BaseException, attempt: Attempt, limit: float) -> KitharaError:
    """What `error` of urllib3, http.client, ssl or a socket is in the package's terms.

    `limit` is how many seconds were waited. After a cancel every error is `Cancelled`: what the shutdown
    made of the connection is of no interest.
    """
    if attempt.cancelled:
        return Cancelled("the transfer was cancelled")
    chain = list(causes(error))
    where = attempt.where

    def first(*kinds: type[BaseException]) -> Any:
        return next((cause for cause in chain if isinstance(cause, kinds)), None)

    if own := first(KitharaError):
        return cast("KitharaError", own)
    if attempt.via and first(urllib3.exceptions.ProxyError):
        where = f"the proxy {attempt.via}"
    if bad := first(ssl.SSLCertVerificationError, CertificateError):
        reason = getattr(bad, "verify_message", "") or "it names another host"
        return ConnectError(f"the certificate of {where} is not accepted: {reason}", retryable=False)
    if first(TimeoutError, urllib3.exceptions.TimeoutError):
        if attempt.asked:
            return ConnectError(f"no answer from {where} within {limit:g} s")
        through = f" through the proxy {attempt.via}" if attempt.via and where == attempt.where else ""
        return ConnectError(f"no connection to {where}{through} within {limit:g} s")
    if gone := first(ConnectionError):
        return ConnectError(f"connection to {where} broke: {gone.strerror or 'closed by the server'}")
    if bad := first(ssl.SSLError):
        if isinstance(bad, ssl.SSLEOFError):
            return ConnectError(f"TLS with {where} broke: closed by the server")
        reason = bad.reason or ""
        said = reason.replace("_", " ").lower() or "broken off in the handshake"
        hint = "; set `cert` to a client certificate" if reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED" else ""
        return ConnectError(f"TLS with {where} failed: {said}{hint}", retryable=not _TLS_FINAL.fullmatch(reason))
    malformed = first(http.client.HTTPException, urllib3.exceptions.InvalidHeader, ValueError)
    if malformed is not None and not _ended_early(malformed):
        return ProtocolError(f"malformed answer from {where}: {_fault(malformed)}" if where else "not a valid URL")
    if system := first(OSError):
        # What a proxy says to a tunnel is not ours to repeat: it may be what it was told.
        reason = system.strerror or re.sub(r"(Tunnel connection failed: [0-9]+).*", r"\1", str(system), flags=re.DOTALL)
        return ConnectError(f"connection to {where} failed: {reason}")
    return ConnectError(f"connection to {where} failed: {type(error).__name__}")


def _fault(error: BaseException) -> str:
    """What is wrong with an answer, in words; those of http.client may quote it, and what was sent in it."""
    if isinstance(error, Malformed):
        return str(error)
    if type(error) is http.client.HTTPException:
        return "more than 100 header fields"  # the only reason left for one of no kind of its own
    return next((words for kind, words in _FAULTS if isinstance(error, kind)), type(error).__name__)


def _ended_early(error: BaseException) -> bool:
    # An invalid chunk length is an IncompleteRead to urllib3; a short body has no more to say than that.
    return isinstance(error, http.client.IncompleteRead) and not isinstance(
        error, urllib3.exceptions.InvalidChunkLength
    )


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and all that it wraps: urllib3 keeps causes in arguments and attributes as well."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += (*cause.args, cause.__cause__, cause.__context__)
            waiting.append(getattr(cause, "original_error", None))
