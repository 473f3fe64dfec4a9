"""Requests' part in the transport: which proxy serves an origin, and the pool that goes through it.

Imported only when settings or environment name a proxy; importing Requests takes 60 ms.
"""

from __future__ import annotations

import importlib.util
import os
import ssl
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, cast

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy, should_bypass_proxies

from kithara_actors.errors import ConnectError
from kithara_actors.logic.naming import redact
from kithara_actors.worker.connections import PlainPool

__all__ = ["Proxies"]

_SOCKS = frozenset({"socks4", "socks4a", "socks5", "socks5h"})
_SCHEMES = frozenset({"http", "https"}) | _SOCKS
_Pools = Mapping[str, type[PlainPool]]


class _Adapter(HTTPAdapter):
    """Makes pools of our own classes, with our TLS context instead of one CA file read per connection."""

    def __init__(self, pools: _Pools, tls: Callable[[], ssl.SSLContext], size: int) -> None:
        self._pools = dict(pools)
        self._tls = tls
        super().__init__(pool_maxsize=size)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        pools = self._pools
        if proxy.lower().startswith("https"):
            kwargs["proxy_ssl_context"] = self._tls()
        manager = super().proxy_manager_for(proxy, **kwargs)
        if proxy.lower().startswith("socks"):
            from kithara_actors.worker.socks import POOLS

            pools = POOLS
        manager.pool_classes_by_scheme = pools
        return manager

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {"ssl_context": self._tls()} if host["scheme"] == "https" else {}


class Proxies:
    """A Requests session reduced to its proxy settings. Not thread-safe."""

    def __init__(
        self,
        pools: _Pools,
        tls: Callable[[], ssl.SSLContext],
        *,
        proxies: Mapping[str, str] | None,
        trust_env: bool,
        size: int,
    ) -> None:
        self._explicit = dict(proxies or {})
        self._session = requests.Session()
        self._session.trust_env = trust_env
        self._adapter = _Adapter(pools, tls, size)

    def pool(self, origin: str) -> PlainPool:
        """The pool for `origin` (scheme, host and port as a URL), through a proxy if one applies. No I/O.

        Raises ConnectError, not retryable, when the proxy cannot be used as it is set.
        """
        proxy = self._proxy(origin)
        try:
            request = requests.Request("GET", origin).prepare()
            proxies = {"all": _checked(proxy)} if proxy else {}
            pool = self._adapter.get_connection_with_tls_context(request, True, proxies=proxies)
            return cast("PlainPool", pool)
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, ValueError):
            # What they say of it may show its password.
            text = f"the proxy {_shown(proxy)} cannot be used: not the URL of a proxy" if proxy else "not a valid URL"
            raise ConnectError(text, retryable=False) from None

    def close(self) -> None:
        """Close the idle connections."""
        self._adapter.close()
        self._session.close()

    def _proxy(self, origin: str) -> str | None:
        """What is set goes before the environment; an empty one there means a direct connection."""
        listed = self._explicit.get("no_proxy")
        if listed is not None and _listed(origin, listed):
            return None
        proxy = select_proxy(origin, {name: url for name, url in self._explicit.items() if name != "no_proxy"})
        if proxy is not None or not self._session.trust_env or _listed(origin, None):
            return proxy
        found = self._session.merge_environment_settings(origin, {}, None, None, None)
        return select_proxy(origin, dict(found["proxies"]))


def _listed(origin: str, no_proxy: str | None) -> bool:
    """Whether `no_proxy` (None: the environment's) lists `origin`."""
    text = no_proxy if no_proxy is not None else os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    parts = urllib.parse.urlsplit(origin)
    # Requests knows ports of names, and addresses without brackets or ports.
    exact = {parts.netloc, parts.netloc.rpartition(":")[0]}
    if exact & {entry.strip() for entry in text.split(",")}:
        return True
    return should_bypass_proxies(origin, no_proxy)


def _checked(proxy: str) -> str:
    """`proxy` with a scheme; raises ConnectError for one that nothing here can do, ValueError if it is malformed."""
    url = proxy if "://" in proxy else f"http://{proxy}"
    if not urllib.parse.urlsplit(url).hostname:
        raise ValueError("no host")
    scheme = url.partition(":")[0].lower()
    if scheme not in _SCHEMES:
        known = ", ".join(sorted(_SCHEMES))
        raise ConnectError(
            f"the proxy {_shown(proxy)} cannot be used: its scheme must be one of {known}", retryable=False
        )
    if scheme in _SOCKS and importlib.util.find_spec("socks") is None:
        text = f"the proxy {_shown(proxy)} needs PySocks: pip install 'kithara-actors[socks]'"
        raise ConnectError(text, retryable=False)
    return url


def _shown(proxy: str) -> str:
    return redact(proxy if "://" in proxy else f"http://{proxy}")
