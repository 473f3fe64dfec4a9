"""Proxies and certificates: what environment and settings make of connections. Nothing is sent."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path

from kithara_actors.command.checks.finding import Finding, State
from kithara_actors.config import Config
from kithara_actors.logic.naming import redact

__all__ = ["proxies", "proxy_of", "shown_proxy", "tls"]

_OUTSIDE = ("http://example.org/", "https://example.org/")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_EXEMPT = "localhost,127.0.0.1,::1"
_CREDENTIALS = re.compile(r"([A-Za-z0-9+.-]+:/{0,2})?.*@", re.DOTALL)
"""Up to the last @: a password that is not percent-encoded may hold any character."""
_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


def shown_proxy(url: str) -> str:
    """The URL of a proxy without user and password, however these are written."""
    return redact(_CREDENTIALS.sub(lambda found: f"{found[1] or ''}…@", url, count=1))


def proxy_of(url: str, own: Mapping[str, str] | None = None) -> str | None:
    """The proxy that `url` is reached through, None for none: of the setting `own`, else of the environment."""
    if not own and not any(name.lower() in _VARIABLES for name in os.environ):
        return None
    # Requests decides in the workers too; 60 ms to load.
    import requests
    from requests.utils import select_proxy

    with requests.Session() as session:
        merged = session.merge_environment_settings(url, dict(own or {}), None, None, None)
        return select_proxy(url, merged["proxies"]) or None


def proxies(config: Config) -> Finding:
    """Which proxies would be used; a problem if one stands between this machine and itself."""
    used = {url: proxy_of(url, config.proxies) for url in _OUTSIDE}
    inside = {host: proxy_of(f"http://{host}/", config.proxies) for host in _LOOPBACK}
    parts = [f"{url.partition(':')[0]} through {shown_proxy(proxy)}" for url, proxy in used.items() if proxy]
    finding = ", ".join(parts) or "none"
    exempt = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    if exempt and parts:
        finding += f"; not for {exempt} (no_proxy)"
    through = [host for host, proxy in inside.items() if proxy]
    if not through:
        return Finding("proxies", State.OK, finding)
    finding += f"; this machine itself ({', '.join(through)}) through {shown_proxy(str(inside[through[0]]))}"
    if config.proxies:
        direct = ", ".join(f'"http://{host.strip("[]")}" = ""' for host in _LOOPBACK)
        remedy = f"add {direct} to the setting proxies"
    else:
        remedy = f"add {_EXEMPT} to the variable no_proxy: export no_proxy={_EXEMPT}"
    return Finding("proxies", State.NOTE if through == ["[::1]"] else State.PROBLEM, finding, remedy)


def tls(config: Config) -> Finding:
    """How servers are checked, and whether the files named for that can be read."""
    version = ssl.OPENSSL_VERSION
    verify = config.verify
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    variable = next((name for name in names if verify is True and os.environ.get(name)), None)
    bundle = os.environ[variable] if variable is not None else verify
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if isinstance(bundle, str):
            context.load_verify_locations(**{"capath" if Path(bundle).is_dir() else "cafile": bundle})
    except OSError as error:
        return Finding(
            "tls",
            State.PROBLEM,
            f"{variable or 'verify'} names {bundle}, which cannot be read: {error.strerror or error}",
            f"name a PEM file or a folder of certificates in {variable or 'verify'}, or leave it out",
        )
    pair = (config.cert, None) if isinstance(config.cert, str | None) else config.cert
    try:
        if pair[0] is not None:
            # Without the callback OpenSSL would ask the terminal for the key's password, and wait.
            context.load_cert_chain(pair[0], pair[1], password=lambda: b"")
    except OSError as error:
        return Finding(
            "tls",
            State.PROBLEM,
            f"cert names {' and '.join(filter(None, pair))}, which cannot be used: {error.strerror or error}",
            "name a PEM file with certificate and key without a password, or a pair of them",
        )
    if verify is False:
        return Finding(
            "tls",
            State.NOTE,
            f"{version}; every certificate is accepted (verify is false)",
            "name the CA's certificate in verify instead",
        )
    trusted = f"certificates in {bundle} ({variable or 'verify'})" if isinstance(bundle, str) else "public CAs"
    return Finding(
        "tls", State.OK, f"{version}; trusts {trusted}{'; shows a certificate of its own' if config.cert else ''}"
    )
