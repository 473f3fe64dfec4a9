"""Which network addresses are public: what a server may be asked for on behalf of strangers, and what it may not.

Sources: the IANA registries of special-purpose addresses (RFC 6890, as of 2025) and of IPv6 address space; RFC 4291
(IPv4 inside IPv6), RFC 3056 (6to4), RFC 5214 (ISATAP), RFC 6052 and RFC 8215 (NAT64), RFC 2765 (SIIT).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

__all__ = ["refusal"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# First match names the reason, so what is said most exactly comes first.
_REFUSED_4 = tuple(
    (ipaddress.IPv4Network(network), what)
    for network, what in (
        ("169.254.169.254/32", "the metadata service of a cloud"),
        ("100.100.100.200/32", "the metadata service of a cloud"),
        ("192.0.0.192/32", "the metadata service of a cloud"),
        # A public number, but answered by the virtualization host of every Azure machine.
        ("168.63.129.16/32", "the metadata service of a cloud"),
        ("0.0.0.0/8", "an unspecified address"),
        ("127.0.0.0/8", "a loopback address"),
        ("10.0.0.0/8", "a private address"),
        ("172.16.0.0/12", "a private address"),
        ("192.168.0.0/16", "a private address"),
        ("100.64.0.0/10", "an address of a carrier's NAT"),
        ("169.254.0.0/16", "a link-local address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "a reserved address"),
        ("192.88.99.0/24", "a reserved address"),
        ("198.18.0.0/15", "a reserved address"),
        ("198.51.100.0/24", "a reserved address"),
        ("203.0.113.0/24", "a reserved address"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)
_REFUSED_6 = tuple(
    (ipaddress.IPv6Network(network), what)
    for network, what in (
        ("fd00:ec2::254/128", "the metadata service of a cloud"),
        ("fd20:ce::254/128", "the metadata service of a cloud"),
        ("::/128", "an unspecified address"),
        ("::1/128", "a loopback address"),
        ("64:ff9b:1::/48", "a private address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a private address"),
        ("ff00::/8", "a multicast address"),
        ("2001::/23", "a reserved address"),
        ("2001:db8::/32", "a reserved address"),
        ("3fff::/20", "a reserved address"),
    )
)
_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")
"""All that has been given out for use between networks; of the rest only embedded IPv4 is looked at."""

# Where the four bytes of an IPv4 address lie in an IPv6 address, counted in bits from the right.
_EMBEDDED = tuple(
    (ipaddress.IPv6Network(network), shift)
    for network, shift in (
        ("::ffff:0:0/96", 0),
        ("::ffff:0:0:0/96", 0),
        ("64:ff9b::/96", 0),
        ("::/96", 0),
        ("2002::/16", 80),
    )
)

_ISATAP = 0x5EFE
"""Stands before the IPv4 address in an interface identifier, in any network; with 0x0200 in front for a public one."""


def refusal(address: str) -> str | None:
    """Why `address` is not public, in words such as "a loopback address"; None if it is.

    `address` is an IPv4 or IPv6 address as getaddrinfo writes it, with or without a zone. An IPv4 address inside an
    IPv6 one counts as itself. What is no address at all is refused too.
    """
    try:
        # A zone names an interface of this machine; where the packets go is in the number.
        given = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "not an address"
    if isinstance(given, ipaddress.IPv4Address):
        return _within(given, _REFUSED_4)
    exact = _within(given, _REFUSED_6)
    if exact is not None:
        return exact
    inside = next(_inside(given), None)
    if inside is None and given not in _GLOBAL_6:
        return "a reserved address"
    why = None if inside is None else _within(inside, _REFUSED_4)
    if why is None and int(given) >> 32 & 0xFDFFFFFF == _ISATAP:
        return _within(ipaddress.IPv4Address(int(given) & 0xFFFFFFFF), _REFUSED_4)
    return why


def _within(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: tuple[tuple[_Network, str], ...]
) -> str | None:
    return next((what for network, what in networks if address in network), None)


def _inside(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    for network, shift in _EMBEDDED:
        if address in network:
            yield ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
