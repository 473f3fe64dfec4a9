"""The HTTP contract against lighttpd with TLS, its certificate from a private authority."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_servers_kit import Authority, LighttpdServer
from stream_kit import HANG

from kithara_actors.errors import ConnectError, PolicyError, StatusError
from kithara_actors.fetching import FetchCommand
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Origin, Resource, body

pytestmark = pytest.mark.servers

SIZE = 3_000_000


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with tempfile.TemporaryDirectory() as folder:
        yield Authority(Path(folder))


@pytest.fixture(scope="module")
def lighttpd(authority: Authority) -> Iterator[LighttpdServer]:
    with Origin() as plain:
        plain.add("/a.mp3", Resource(100))
        with LighttpdServer(authority.issue("localhost"), plain.base + "/") as server:
            (server.root / "a.mp3").write_bytes(body(1, 0, SIZE))
            (server.root / "empty.mp3").write_bytes(b"")
            yield server


@pytest.fixture
def system(authority: Authority) -> Iterator[ActorSystem]:
    with ActorSystem.start(verify=str(authority.path), retry_base=0.01, max_retries=2, proxies={}) as running:
        yield running


def test_ranges_over_tls(lighttpd: LighttpdServer, system: ActorSystem) -> None:
    with system.open(lighttpd.url("a.mp3")) as stream:
        assert stream.read(100) == body(1, 0, 100)
        assert stream.length == SIZE
        stream.seek(-100, 2)
        assert stream.read() == body(1, SIZE - 100, SIZE)
        assert stream.wait_complete(HANG)
        assert stream.read_at(0, SIZE) == body(1, 0, SIZE)
        answer = stream.answer
        assert answer is not None
        assert answer.status == 206
        assert answer.ranges


def test_an_empty_file_and_a_missing_one(lighttpd: LighttpdServer, system: ActorSystem) -> None:
    with system.open(lighttpd.url("empty.mp3")) as stream:
        assert stream.read() == b""
        assert stream.length == 0
    with system.open(lighttpd.url("missing.mp3")) as stream:
        with pytest.raises(StatusError) as caught:
            stream.read()
        assert caught.value.status == 404


def test_a_certificate_of_another_name_is_refused_at_once(lighttpd: LighttpdServer, system: ActorSystem) -> None:
    with system.open(lighttpd.url("a.mp3?token=s3cr3t", "127.0.0.1")) as stream:
        with pytest.raises(ConnectError, match="certificate") as caught:
            stream.read()
        assert not caught.value.retryable
        assert "s3cr3t" not in str(caught.value)


def test_a_certificate_of_an_unknown_authority_is_refused_at_once(lighttpd: LighttpdServer) -> None:
    with (
        ActorSystem.start(proxies={}) as stranger,
        stranger.open(lighttpd.url("a.mp3")) as stream,
        pytest.raises(ConnectError, match="certificate"),
    ):
        stream.read()


def test_verification_can_be_turned_off(lighttpd: LighttpdServer) -> None:
    with ActorSystem.start(verify=False, proxies={}) as trusting:
        with trusting.open(lighttpd.url("a.mp3", "127.0.0.1")) as stream:
            assert stream.read() == body(1, 0, SIZE)


def test_a_redirect_out_of_tls_needs_permission(
    lighttpd: LighttpdServer, system: ActorSystem, authority: Authority
) -> None:
    url = lighttpd.url("down/a.mp3")
    with system.open(url) as stream, pytest.raises(PolicyError, match="allow_downgrade"):
        stream.read()
    with ActorSystem.start(verify=str(authority.path), allow_downgrade=True, proxies={}) as lax:
        with lax.open(url) as stream:
            assert stream.read() == body(0, 0, 100)


def test_one_off_requests_over_tls(lighttpd: LighttpdServer, system: ActorSystem) -> None:
    url = lighttpd.url("a.mp3")
    assert system.execute(FetchCommand.head(url), HANG).total == SIZE
    assert system.execute(FetchCommand.get(url), HANG).body == body(1, 0, SIZE)
    part = system.execute(FetchCommand.get(url, range=(SIZE - 100, None)), HANG)
    assert (part.status, part.body) == (206, body(1, SIZE - 100, SIZE))
    with ActorSystem.start(workers=1, max_retries=0, proxies={}) as strict:
        with pytest.raises(ConnectError, match="certificate"):
            strict.execute(FetchCommand.head(url), HANG)
