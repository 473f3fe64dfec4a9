"""One-off requests against nginx, which compresses, and against Python's own server, which knows no ranges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from nginx_server import NginxServer
from real_servers_kit import ContraryNginx, python_server
from stream_kit import HANG, Call

from kithara_actors import ActorSystem, FetchCommand, ProtocolError, StatusError
from kithara_actors.testing.origin import body

get, head = FetchCommand.get, FetchCommand.head
TEXT = json.dumps([{"track": n, "title": f"Song {n}"} for n in range(2_000)]).encode()


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(retry_base=0.01, max_retries=3, inactivity_timeout=HANG, proxies={}) as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[NginxServer]:
    with ContraryNginx() as running:
        (running.root / "list.json").write_bytes(TEXT)
        (running.root / "song.mp3").write_bytes(body(1, 0, 100_000))
        (running.root / "empty").write_bytes(b"")
        yield running


@pytest.mark.nginx
def test_a_list_comes_compressed_and_is_read_as_it_is(server: NginxServer, system: ActorSystem) -> None:
    before = len(server.log("/list.json"))
    result = system.execute(get(server.url("list.json")), HANG)
    assert result.headers["content-encoding"] == "gzip"
    assert (result.body, result.json()[7]["title"], result.total) == (TEXT, "Song 7", None)
    sent = server.log("/list.json", at_least=before + 1)[-1].body_bytes
    assert 0 < sent < len(TEXT) // 2
    plain = system.execute(get(server.url("list.json"), headers={"Accept-Encoding": "identity"}), HANG)
    assert (plain.body, plain.headers.get("Content-Encoding"), plain.total) == (TEXT, None, len(TEXT))


@pytest.mark.nginx
def test_a_part_is_never_compressed(server: NginxServer, system: ActorSystem) -> None:
    result = system.execute(get(server.url("list.json"), range=(100, 199)), HANG)
    assert (result.status, result.body, result.total) == (206, TEXT[100:200], len(TEXT))
    with pytest.raises(StatusError) as caught:
        system.execute(get(server.url("list.json"), range=(len(TEXT), None)), HANG)
    assert caught.value.status == 416


@pytest.mark.nginx
def test_head_tells_the_length_of_what_would_come(server: NginxServer, system: ActorSystem) -> None:
    result = system.execute(head(server.url("list.json")), HANG)
    assert (result.status, result.body, result.total) == (200, b"", len(TEXT))
    assert result.headers["ETag"]
    condition = {"If-None-Match": result.headers["etag"]}
    for command in (get, head):
        unchanged = system.execute(command(server.url("list.json"), headers=condition), HANG)
        assert (unchanged.status, unchanged.body) == (304, b"")
    with pytest.raises(StatusError):
        system.execute(head(server.url("nowhere")), HANG)


@pytest.mark.nginx
def test_a_label_that_lies_is_no_body(server: NginxServer, system: ActorSystem) -> None:
    with pytest.raises(ProtocolError):
        system.execute(get(server.url("coded/song.mp3"), headers={"Accept-Encoding": "identity"}), HANG)


@pytest.mark.nginx
def test_many_calls_keep_their_connections(server: NginxServer, system: ActorSystem) -> None:
    def work() -> None:
        for _ in range(50):
            assert system.execute(head(server.url("song.mp3")), HANG).total == 100_000
            assert system.execute(get(server.url("song.mp3"), range=(5, 9)), HANG).body == body(1, 5, 10)

    before = len(server.log("/song.mp3"))
    for call in [Call(work) for _ in range(8)]:
        call.result()
    log = server.log("/song.mp3", at_least=before + 800)[before:]
    assert len(log) == 800
    assert len({each.connection for each in log}) <= 2 * 8


def test_a_server_without_ranges_sends_the_whole(system: ActorSystem, tmp_path: Path) -> None:
    (tmp_path / "song.mp3").write_bytes(body(1, 0, 5_000))
    (tmp_path / "empty").write_bytes(b"")
    with python_server(tmp_path) as url:
        result = system.execute(get(f"{url}/song.mp3", range=(5, 9)), HANG)
        assert (result.status, result.partial, result.body) == (200, False, body(1, 0, 5_000))
        assert system.execute(head(f"{url}/song.mp3"), HANG).total == 5_000
        assert system.execute(get(f"{url}/empty"), HANG).body == b""
