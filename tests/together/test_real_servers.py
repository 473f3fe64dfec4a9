"""The HTTP contract against nginx and against Python's own server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from nginx_server import NginxServer
from real_servers_kit import ContraryNginx, python_server
from stream_kit import HANG, waiting, watching

from kithara_actors.errors import InvalidContentType, ProtocolError, ResourceChanged, StatusError
from kithara_actors.events import RequestRetrying
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import body

MIB = 1024 * 1024
SIZE = 3 * MIB


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(retry_base=0.01, max_retries=3, inactivity_timeout=HANG, proxies={}) as running:
        yield running


@pytest.fixture(scope="module")
def held() -> Iterator[NginxServer]:
    """Sends half a MiB of each answer under `/held/`, then next to nothing; compresses for who takes it."""
    with ContraryNginx(held={"/held/": "512k"}) as server:
        yield server


def put(server: NginxServer, name: str, seed: int, size: int = SIZE, hour: int = 0) -> str:
    """A file under the root, renamed into place as a careful author does; the path."""
    new = server.root / f"{name}.new"
    new.write_bytes(body(seed, 0, size))
    # nginx makes the entity tag of the time, in seconds, and the length.
    os.utime(new, (1_700_000_000 + 3600 * hour,) * 2)
    new.rename(server.root / name)
    return name


@pytest.mark.nginx
def test_ranges_by_206_and_what_is_there_once_is_not_asked_for_again(held: NginxServer, system: ActorSystem) -> None:
    name = put(held, "ranges.mp3", 1)
    with system.open(held.url(name)) as stream:
        assert stream.read(10) == body(1, 0, 10)
        assert stream.length == SIZE
        assert stream.seek(-100, 2) == SIZE - 100
        assert stream.read() == body(1, SIZE - 100, SIZE)
        assert stream.wait_complete(HANG)
        assert stream.read_at(0, SIZE) == body(1, 0, SIZE)
    log = held.log(f"/{name}", at_least=1)
    assert {each.status for each in log} == {206}
    assert log[0].range == "bytes=0-"


@pytest.mark.nginx
def test_an_empty_file_is_complete(held: NginxServer, system: ActorSystem) -> None:
    name = put(held, "empty.mp3", 1, 0)
    with system.open(held.url(name)) as stream:
        assert stream.read() == b""
        assert stream.length == 0
        assert stream.wait_complete(HANG)


@pytest.mark.nginx
@pytest.mark.parametrize(("place", "status"), [("held", 200), ("bare", 416)])
def test_a_file_that_shrank_is_another_one(held: NginxServer, system: ActorSystem, place: str, status: int) -> None:
    """Told by If-Range where there is a validator, else by the total that a 416 names."""
    name = put(held, f"shrunk-{place}.mp3", 1)
    with system.open(held.url(f"/{place}/{name}"), look_ahead=0) as stream:
        assert stream.read(10) == body(1, 0, 10)
        put(held, name, 2, 1_000, hour=1)
        stream.seek(2 * MIB)
        with pytest.raises(ResourceChanged):
            stream.read(10)
    seen = held.log(f"/{place}/{name}", at_least=2)[1]
    assert (seen.status, seen.if_range is None) == (status, place == "bare")


@pytest.mark.nginx
def test_a_server_that_would_compress_is_asked_not_to(held: NginxServer, system: ActorSystem) -> None:
    (held.root / "zeros.mp3").write_bytes(bytes(SIZE))
    with system.open(held.url("zeros.mp3")) as stream:
        assert stream.read() == bytes(SIZE)
    assert held.log("/zeros.mp3", at_least=1)[0].body_bytes == SIZE


@pytest.mark.nginx
@pytest.mark.parametrize(("place", "error"), [("coded", ProtocolError), ("page", InvalidContentType)])
def test_what_is_not_the_file_is_refused_before_a_byte_lands(
    held: NginxServer, system: ActorSystem, place: str, error: type[Exception]
) -> None:
    name = put(held, f"{place}.mp3", 1)
    with system.open(held.url(f"/{place}/{name}")) as stream:
        with pytest.raises(error):
            stream.read(1)
        assert stream.buffered == 0


@pytest.mark.nginx
def test_a_missing_file_is_a_404_asked_once(held: NginxServer, system: ActorSystem) -> None:
    with system.open(held.url("nowhere.mp3")) as stream:
        with pytest.raises(StatusError) as caught:
            stream.read()
        assert caught.value.status == 404
    assert len(held.log("/nowhere.mp3", at_least=1)) == 1


@pytest.mark.nginx
def test_a_slow_body_is_read_as_it_comes(nginx: NginxServer, system: ActorSystem) -> None:
    name = put(nginx, "limited.mp3", 1, 400_000)
    with system.open(nginx.slow_url(name)) as stream:
        assert b"".join(iter(lambda: stream.read1(50_000), b"")) == body(1, 0, 400_000)
    assert len(nginx.log(f"/slow/{name}", at_least=1)) == 1


@pytest.mark.nginx
def test_a_restart_in_mid_transfer_goes_unnoticed(system: ActorSystem) -> None:
    with NginxServer(rates={"/slow/": "2m"}) as server:
        name = put(server, "restart.mp3", 1)
        with watching(system) as watch, system.open(server.slow_url(name)) as stream:
            assert stream.read(512 * 1024) == body(1, 0, 512 * 1024)
            server.restart()
            assert stream.read() == body(1, 512 * 1024, SIZE)
            watch.first(RequestRetrying)
        # nginx does not log what its own end cut off.
        (resumed,) = server.log(f"/slow/{name}", at_least=1)
        assert resumed.range is not None
        assert resumed.if_range is not None
        assert int(resumed.range.removeprefix("bytes=").partition("-")[0]) >= 512 * 1024


@pytest.mark.nginx
@pytest.mark.parametrize("size", [SIZE, SIZE + 5, MIB], ids=["same", "longer", "shorter"])
def test_a_file_replaced_in_mid_transfer_is_never_joined_to_the_old_one(system: ActorSystem, size: int) -> None:
    with NginxServer(rates={}, held={"/held/": "512k"}) as server:
        name = put(server, "replaced.mp3", 1)
        url = server.url("/held/" + name)
        with system.open(url) as stream, system.open(url) as fresh:
            assert stream.read(512 * 1024) == body(1, 0, 512 * 1024)
            put(server, name, 2, size, hour=1)
            with waiting(stream, stream.read, 1_000) as call:
                server.restart()
                assert isinstance(call.error(HANG), ResourceChanged)
            # Who has read nothing yet goes on with the new one.
            assert fresh.read(300_000) == body(2, 0, 300_000)
            assert fresh.length == size


def test_python_s_server_ignores_ranges_and_is_read_from_the_front(system: ActorSystem, tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(body(1, 0, SIZE))
    with python_server(tmp_path) as base:
        with watching(system) as watch, system.open(base + "/a.mp3") as stream:
            assert stream.read(10) == body(1, 0, 10)
            assert stream.length == SIZE
            stream.seek(-100, 2)
            assert stream.read() == body(1, SIZE - 100, SIZE)
            stream.seek(MIB)
            assert stream.read() == body(1, MIB, SIZE)
            watch.drain()
            assert not watch.of(RequestRetrying)
        (tmp_path / "index.html").write_text("<title>log in</title>")
        with system.open(base + "/") as stream, pytest.raises(InvalidContentType):
            stream.read()
        with system.open(base + "/nothing.mp3") as stream:
            with pytest.raises(StatusError) as caught:
                stream.read()
            assert caught.value.status == 404
