"""Ready-made policies for `Config.url_policy`."""

from __future__ import annotations

import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from kithara_actors.errors import PolicyError
from kithara_actors.logic.addresses import refusal
from kithara_actors.logic.naming import canonical_url, redact_briefly

__all__ = ["host_policy", "public_only"]


def public_only(url: str) -> bool:
    """Nothing but http(s) URLs on hosts of the public internet: `Config(url_policy=public_only)`.

    Refused are local paths, and hosts with any address that is loopback, link-local, private, multicast,
    unspecified, reserved, of a carrier's NAT or a metadata service of a cloud, also as IPv4 inside IPv6; on every
    redirect too. Set as `url_policy` itself it is enforced by the worker processes: the addresses that a lookup
    found are checked, and the socket connects to one of these, so that a name that changes its addresses in between
    gains nothing. Through a proxy the name is looked up here as well and refused by the same rule, but the proxy
    looks it up for itself, and may get another answer: give the proxy such a rule too. Public addresses of this
    machine itself count as public.

    As a function, inside a policy of your own, it looks the name up (blocking) and returns True, or raises
    PolicyError; the worker then looks it up again, and is not bound to what was found here.
    """
    try:
        parts = urlsplit(canonical_url(url))
    except ValueError:
        raise PolicyError(f"public_only refuses {redact_briefly(url)!r:.200}: it is not an http(s) URL") from None
    host = parts.hostname or ""
    try:
        # Without a port: the names of services are not known everywhere.
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise PolicyError(f"public_only refuses {redact_briefly(url)}: its host cannot be resolved") from None
    for *_, address in found:
        why = refusal(str(address[0]))
        if why is not None:
            raise PolicyError(f"public_only refuses {redact_briefly(url)}: {address[0]} is {why}")
    return True


def host_policy(policy: Callable[[str], object] | None) -> Callable[[str], object] | None:
    """The `url_policy` that has to be asked in this process: none for `public_only`, which the workers know."""
    return None if policy is public_only else policy
