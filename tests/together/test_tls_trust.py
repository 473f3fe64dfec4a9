"""Certificates of both sides: whom we trust, who we are, and what is said when either is not accepted."""

from __future__ import annotations

import datetime
import os
import pty
import select
import ssl
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from transport_kit import HANG, Bench, Papers, Peer, bench, media, papers, ranged

from kithara_actors import ActorSystem
from kithara_actors.errors import ConnectError

__all__ = ["bench", "papers"]

DATA = media(200_000)


# --- Whom we trust


def folder_of(papers: Papers) -> str:
    """The bundle as OpenSSL wants it in a folder: under the hash of its subject."""
    folder = papers.folder / "folder"
    folder.mkdir()
    context = ssl.create_default_context(cafile=papers.bundle)
    subject = context.get_ca_certs(binary_form=True)
    assert len(subject) == 1
    (folder / f"{subject_hash(papers.ca)}.0").write_bytes(papers.ca.cert_pem.bytes())
    return str(folder)


def subject_hash(ca: trustme.CA) -> str:
    """X509_NAME_hash of OpenSSL: the first bytes of the SHA-1 of the canonical subject."""
    import hashlib

    from cryptography import x509

    subject = x509.load_pem_x509_certificate(ca.cert_pem.bytes()).subject
    canonical = b""
    for relative in subject.rdns:
        encoded = b""
        for attribute in relative:
            name = x509.Name([x509.RelativeDistinguishedName([attribute])]).public_bytes()
            oid = name[6 : 8 + name[7]]  # within SEQUENCE, SET, SEQUENCE: the object identifier
            text = " ".join(str(attribute.value).split()).lower().encode()
            pair = oid + b"\x0c" + bytes((len(text),)) + text
            encoded += b"\x30" + bytes((len(pair),)) + pair
        canonical += b"\x31" + bytes((len(encoded),)) + encoded
    return hashlib.sha1(canonical).digest()[3::-1].hex()


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("where", ["verify", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_private_authority_is_trusted_where_it_is_named(
    bench: Bench, papers: Papers, monkeypatch: pytest.MonkeyPatch, kind: str, where: str
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    trusted = papers.bundle if kind == "file" else folder_of(papers)
    if where != "verify":
        monkeypatch.setenv(where, trusted)
    via = bench.transport(**({"verify": trusted} if where == "verify" else {"trust_env": True}))
    with Peer(ranged(DATA), tls=papers.server()) as server:
        fetch = bench.fetch(via, server.url)
        assert fetch.run().end == len(DATA)
        assert fetch.bytes() == DATA
        via.close()


def test_the_environment_is_not_asked_without_leave(
    bench: Bench, papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", papers.bundle)
    with Peer(ranged(DATA), tls=papers.server()) as server:
        error = bench.fetch(bench.transport(), server.url).failure()
        assert "is not accepted" in str(error)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("name", "not valid for '127.0.0.1'"),
        ("expired", "has expired"),
        ("not yet", "not yet valid"),
        ("authority", "unable to get local issuer certificate"),
        ("self-signed", "self-signed certificate"),
    ],
)
def test_a_certificate_that_is_not_accepted_is_final_and_said_so(
    bench: Bench, papers: Papers, tmp_path: Path, fault: str, reason: str
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    match fault:
        case "name":
            tls = papers.server("other.test")
        case "expired":
            tls = papers.server("127.0.0.1", not_before=now - 9 * day, not_after=now - day)
        case "not yet":
            tls = papers.server("127.0.0.1", not_before=now + day, not_after=now + 9 * day)
        case "authority":
            other = tmp_path / "other"
            other.mkdir()
            tls = Papers(other).server()
        case _:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            own = trustme.CA()
            chain = tmp_path / "own.pem"
            chain.write_bytes(own.private_key_pem.bytes() + own.cert_pem.bytes())
            tls.load_cert_chain(chain)
    with Peer(ranged(DATA), tls=tls) as server:
        via = bench.transport(verify=papers.bundle)
        error = bench.fetch(via, f"{server.url}?token=secret").failure()
        assert isinstance(error, ConnectError)
        assert not error.retryable
        assert f"the certificate of 127.0.0.1:{server.port} is not accepted: " in str(error)
        assert reason in str(error).lower().replace("ip address mismatch, certificate is ", "")
        assert "secret" not in str(error)
        assert server.accepted == 1
        assert bench.fetch(bench.transport(verify=False), server.url).run().end == len(DATA)


def test_a_stream_asks_once_where_the_certificate_is_not_accepted(papers: Papers) -> None:
    with Peer(ranged(DATA), tls=papers.server()) as server, ActorSystem.start(workers=1, retry_base=0.01) as system:
        with system.open(server.url) as stream:
            for _ in range(2):
                with pytest.raises(ConnectError, match=rf"certificate of 127\.0\.0\.1:{server.port}") as caught:
                    stream.read()
                assert not caught.value.retryable
        assert server.accepted == 1


# --- Who we are


def demanding(papers: Papers, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = papers.server()
    context.verify_mode = ssl.CERT_REQUIRED
    papers.ca.configure_trust(context)
    context.maximum_version = version
    return context


def encrypted(papers: Papers) -> tuple[str, str]:
    cert, key = papers.pair("locked")
    secret = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    locked = secret.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    Path(key).write_bytes(locked)
    return cert, key


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("shape", ["pair", "one file"])
def test_a_client_certificate_is_shown(bench: Bench, papers: Papers, version: ssl.TLSVersion, shape: str) -> None:
    cert, key = papers.pair()
    given: Any = (cert, key)
    if shape == "one file":
        given = str(papers.folder / "both.pem")
        Path(given).write_bytes(Path(key).read_bytes() + Path(cert).read_bytes())
    with Peer(ranged(DATA), tls=demanding(papers, version)) as server:
        via = bench.transport(verify=papers.bundle, cert=given)
        assert bench.fetch(via, server.url).run().end == len(DATA)
        via.close()


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (ssl.TLSVersion.TLSv1_2, "handshake failure"),
        (ssl.TLSVersion.TLSv1_3, "certificate required; set `cert` to a client certificate"),
    ],
)
@pytest.mark.parametrize("turn", range(5))
def test_a_server_that_misses_a_client_certificate_is_final(
    bench: Bench, papers: Papers, version: ssl.TLSVersion, reason: str, turn: int
) -> None:
    """In TLS 1.3 its alert comes after the handshake, with the request on its way already."""
    with Peer(ranged(DATA), tls=demanding(papers, version)) as server:
        error = bench.fetch(bench.transport(verify=papers.bundle), server.url).failure()
        assert isinstance(error, ConnectError)
        assert reason in str(error)
        assert f"127.0.0.1:{server.port}" in str(error)
        assert not error.retryable
        assert server.accepted == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("missing", "No such file"),
        ("no key in it", "it is no PEM file of that kind"),
        ("wrong key", "the key is of another certificate"),
        ("nonsense", "it is no PEM file of that kind"),
        ("encrypted", "the key is encrypted; give one without a password"),
    ],
)
def test_a_client_certificate_that_cannot_be_used_is_final(
    bench: Bench, papers: Papers, fault: str, reason: str
) -> None:
    cert, key = papers.pair()
    given: Any = (cert, key)
    match fault:
        case "missing":
            given = (cert, str(papers.folder / "nowhere.key"))
        case "no key in it":
            given = cert
        case "wrong key":
            given = (cert, papers.pair("other")[1])
        case "nonsense":
            Path(cert).write_text("nonsense")
        case "encrypted":
            given = encrypted(papers)
    error = bench.fetch(bench.transport(verify=papers.bundle, cert=given), "https://127.0.0.1:1/").failure()
    assert isinstance(error, ConnectError)
    assert not error.retryable
    assert reason in str(error)
    assert "client certificate" in str(error)
    assert Path(given if isinstance(given, str) else given[0]).name in str(error)


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), ("", "no PEM file"), ("x", "no PEM file")])
def test_a_bundle_that_cannot_be_used_is_final_and_named(
    bench: Bench, tmp_path: Path, content: str | None, reason: str
) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_text(content)
    error = bench.fetch(bench.transport(verify=str(path)), "https://127.0.0.1:1/").failure()
    assert isinstance(error, ConnectError)
    assert not error.retryable
    assert str(path) in str(error)
    assert reason in str(error)


def test_nobody_is_asked_for_a_password_at_the_terminal(papers: Papers) -> None:
    """OpenSSL asks at the controlling terminal, whatever standard input is."""
    cert, key = encrypted(papers)
    code = (
        "from kithara_actors.worker.http import Transport, TransportSettings\n"
        "from kithara_actors.worker.attempt import Attempt\n"
        "from kithara_actors.errors import ConnectError\n"
        f"via = Transport(TransportSettings(trust_env=False, cert=({cert!r}, {key!r})))\n"
        "try:\n    via.open(Attempt(), 'https://127.0.0.1:1/', {})\n"
        "except ConnectError as error:\n    print('typed', error)\n"
    )
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # A session of its own, whose terminal becomes the controlling one when it is opened.
    command = [sys.executable, "-c", f"import os; os.close(os.open({os.ttyname(theirs)!r}, os.O_RDWR))\n{code}"]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment
    )
    try:
        attributes = termios.tcgetattr(ours)
        os.close(theirs)
        said = b""
        while select.select([ours], [], [], HANG)[0]:
            try:
                said += os.read(ours, 4096)
            except OSError:  # the last one at the other side has left
                break
            assert b"phrase" not in said
        assert process.wait(HANG) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"typed" in said
    assert b"the key is encrypted" in said
    assert attributes[3] & termios.ECHO
