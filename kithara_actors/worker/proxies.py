"""Requests' part in the transport: which proxy serves an origin, and the pool that goes through it.

Imported only when settings or environment name a proxy; importing Requests takes 60 ms.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool

from kithara_actors.errors import ConnectError

__all__ = ["Proxies"]

_Pools = Mapping[str, type[HTTPConnectionPool]]


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
        if proxy.lower().startswith("https"):
            kwargs["proxy_ssl_context"] = self._tls()
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):  # SOCKS has connection classes of its own
            manager.pool_classes_by_scheme = self._pools
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

    def pool(self, origin: str) -> HTTPConnectionPool:
        """The pool for `origin` (scheme, host and port as a URL), through a proxy if one applies. No I/O.

        Raises ConnectError, not retryable, when the proxy cannot be used as it is set.
        """
        try:
            request = requests.Request("GET", origin).prepare()
            # As the request's own proxies: what is set here goes before the environment.
            merged = self._session.merge_environment_settings(origin, dict(self._explicit), None, None, None)
            pool = self._adapter.get_connection_with_tls_context(request, True, proxies=merged["proxies"])
            return cast("HTTPConnectionPool", pool)
        except requests.exceptions.RequestException as error:
            text = f"the proxy settings cannot be used: {type(error).__name__}"
            raise ConnectError(text, retryable=False) from error

    def close(self) -> None:
        """Close the idle connections."""
        self._adapter.close()
        self._session.close()
