"""What is public and what is not, in every form in which an address can be written."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from kithara_actors import public_only
from kithara_actors.errors import PolicyError
from kithara_actors.logic.addresses import refusal

V4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
V6 = st.one_of(
    st.integers(0, 2**128 - 1),
    st.integers(0, 2**125 - 1).map(lambda low: low | 1 << 125),
    st.integers(0, 2**48),
).map(ipaddress.IPv6Address)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "carrier's NAT"),
        ("100.127.255.255", "carrier's NAT"),
        ("169.254.1.1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("168.63.129.16", "metadata"),
        ("100.100.100.200", "metadata"),
        ("192.0.0.8", "reserved"),
        ("192.0.2.1", "reserved"),
        ("198.18.0.1", "reserved"),
        ("198.51.100.7", "reserved"),
        ("203.0.113.7", "reserved"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fec0::1", "private"),
        ("fc00::1", "private"),
        ("fd12:3456::1", "private"),
        ("fd00:ec2::254", "metadata"),
        ("ff02::1", "multicast"),
        ("2001:db8::1", "reserved"),
        ("2001::1", "reserved"),
        ("3fff::1", "reserved"),
        ("100::1", "reserved"),
        ("5f00::1", "reserved"),
        ("64:ff9b:1::808:808", "private"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "metadata"),
        ("::ffff:0:10.0.0.1", "private"),
        ("::127.0.0.1", "loopback"),
        ("64:ff9b::10.0.0.1", "private"),
        ("2002:7f00:1::1", "loopback"),
        ("2002:c0a8:101:ffff::", "private"),
        ("2001:470:1f0b::5efe:a00:1", "private"),
        ("2a00:1450:4001:0:200:5efe:7f00:1", "loopback"),
        ("2002:808:808::5efe:a9fe:a9fe", "metadata"),
        ("4000::5efe:808:808", "reserved"),
        ("localhost", "not an address"),
        ("", "not an address"),
    ],
)
def test_refused(address: str, why: str) -> None:
    said = refusal(address)
    assert said is not None
    assert why in said


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450:4001::200e%eth0",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "2a00:1450:4001:0:200:5efe:808:808",
        "2a00:1450:4001:0:5efe:1:7f00:1",
        "2a00:1450:4001:0:100:5efe:7f00:1",
    ],
)
def test_let_pass(address: str) -> None:
    assert refusal(address) is None


@given(V4 | V6)
@example(ipaddress.ip_address("fec0::1"))
def test_nothing_passes_that_the_standard_library_calls_private(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    kinds = ("is_private", "is_loopback", "is_link_local", "is_multicast", "is_reserved", "is_unspecified")
    inside = isinstance(address, ipaddress.IPv6Address) and (
        address in ipaddress.ip_network("64:ff9b::/96") or address in ipaddress.ip_network("::/80")
    )
    # It calls all of NAT64 and of ::/8 reserved, also where the IPv4 address within is public.
    assume(not inside)
    if any(getattr(address, kind) for kind in kinds):
        assert refusal(str(address)) is not None


@given(V4, st.integers(0, 2**80 - 1))
@example(ipaddress.IPv4Address("127.0.0.1"), 0)
@example(ipaddress.IPv4Address("169.254.169.254"), 1)
@example(ipaddress.IPv4Address("8.8.8.8"), 7)
def test_an_address_inside_another_counts_as_itself(address: ipaddress.IPv4Address, rest: int) -> None:
    number = int(address)
    assume(number > 1)  # ::0 and ::1 are addresses of their own
    own = refusal(str(address))
    for prefix in ("::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "::"):
        assert refusal(str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | number))) == own
    assert refusal(str(ipaddress.IPv6Address(0x2002 << 112 | number << 80 | rest))) == own


@given(st.text(max_size=50))
def test_what_is_no_address_is_refused_without_an_error(text: str) -> None:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        assert refusal(text) == "not an address"


# --- The policy as a function


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a",
        "http://localhost:8080/a",
        "https://[::1]/a",
        "http://[::ffff:127.0.0.1]/a",
        "http://2130706433/a",
        "http://127.1/a",
        "http://0x7f.0.0.1/a",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "/etc/passwd",
        "ftp://1.1.1.1/a",
        "http://",
    ],
)
def test_public_only_refuses(url: str) -> None:
    with pytest.raises(PolicyError, match="public_only refuses"):
        public_only(url)


def test_public_only_shows_no_secrets() -> None:
    with pytest.raises(PolicyError) as caught:
        public_only("http://user:password@127.0.0.1/a?token=secret")
    assert str(caught.value) == "public_only refuses http://…@127.0.0.1/a?token=…: 127.0.0.1 is a loopback address"


def test_public_only_lets_public_hosts_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    assert public_only("https://1.1.1.1/a")
    assert public_only("http://[2606:4700:4700::1111]:8080/a")
    kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(*kind, ("8.8.8.8", 80)), (*kind, ("10.0.0.1", 80))])
    with pytest.raises(PolicyError, match=r"10\.0\.0\.1 is a private address"):
        public_only("http://music.test/a")


def test_public_only_needs_no_list_of_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small images of containers have none, and nothing would be public there."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: object, *args: Any, **options: Any) -> Any:
        if isinstance(port, str):
            raise socket.gaierror(socket.EAI_SERVICE, "Servname not supported for ai_socktype")
        return real(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert public_only("https://1.1.1.1/a")


def test_public_only_refuses_a_host_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "no such thing")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(PolicyError, match="its host cannot be resolved"):
        public_only("http://music.test/a")
