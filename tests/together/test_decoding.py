"""Decoders read a stream as they read the file, while it downloads from a real nginx."""

from __future__ import annotations

import shutil
import threading
import wave
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import mutagen
import pytest
from nginx_server import NginxServer
from recordings import Frame, Recordings, decode

from actors.messages.command import Command
from kithara_actors import ActorSystem
from kithara_actors.errors import StatusError
from kithara_actors.events import Event, Opened, RequestEnqueued, RequestFailed, WorkerLost
from kithara_actors.stream.reader import Stream
from kithara_actors.values import Phase

pytestmark = pytest.mark.nginx

HELD = 448 * 1024
"""Bytes of each answer that `/held/` sends; the rest never comes. Enough for the last 30 % of a recording."""
FORMATS = ("mp3", "flac")


class Player:
    """A running system, the events of its life, and the addresses of the recordings."""

    def __init__(self, server: NginxServer, recordings: Recordings, **settings: Any) -> None:
        self.system = ActorSystem.start(**settings)
        self.events = self.system.subscribe(capacity=100_000)
        self._server = server
        self._recordings = recordings

    def publish(self, suffix: str, place: str, query: str) -> str:
        """The address of a recording under `place`; `query` makes it an asset of this test alone."""
        served = self._server.root / f"sweep.{suffix}"
        if not served.exists():
            shutil.copyfile(self._recordings.path(suffix), served)
        return self._server.url(f"{place}/{served.name}?{query}")

    def path(self, url: str) -> str:
        """What the server's log calls `url`."""
        return "/" + url.removeprefix(self._server.url(""))

    def stop(self) -> list[Event]:
        """End the system, nothing being left over: all that happened in it."""
        assert self.system.stop() == []
        return [envelope.event for envelope in self.events]


@pytest.fixture(scope="module")
def server() -> Iterator[NginxServer]:
    with NginxServer(rates={"/slow/": "250k"}, held={"/held/": str(HELD)}) as server:
        yield server


@pytest.fixture(params=["memory", "disk"])
def player(
    server: NginxServer, recordings: Recordings, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Player]:
    """One for each kind of storage."""
    player = Player(server, recordings, cache_dir=None if request.param == "memory" else tmp_path)
    yield player
    player.stop()


def only_in_memory(test: Callable[..., None]) -> Any:
    """For what has nothing to do with storage."""
    return pytest.mark.parametrize("player", ["memory"], indirect=True)(test)


class Traced:
    """A stream with its calls counted, as a decoder sees it: PyAV looks for no more than this."""

    def __init__(self, stream: Stream) -> None:
        self.name = stream.name
        self.mode = stream.mode
        self.reads: list[int] = []
        self.seeks: list[tuple[int, int]] = []
        self.told_by_seeks: list[Command] = []
        self.told: list[Command] = []
        self._stream = stream
        self._link = stream._link
        self._tell = self._link.tell
        self._link.tell = self._note  # type: ignore[method-assign]

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.reads.append(len(data))
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        before = len(self.told)
        position = self._stream.seek(offset, whence)
        self.seeks.append((offset, whence))
        self.told_by_seeks += self.told[before:]
        return position

    def tell(self) -> int:
        return self._stream.tell()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return self._stream.seekable()

    def _note(self, command: Command) -> None:
        self.told.append(command)
        self._tell(command)


def same(frames: list[Frame], expected: list[Frame]) -> bool:
    """Whether all are equal; an assertion on the lists themselves would print megabytes of samples."""
    return len(frames) == len(expected) > 1 and all(map(Frame.__eq__, frames, expected))


def requests(events: list[Event]) -> list[tuple[int, int | None]]:
    """The ranges that were asked for; fails if anything went wrong on the way."""
    assert not [event for event in events if isinstance(event, RequestFailed | WorkerLost)]
    return [(event.start, event.end) for event in events if isinstance(event, RequestEnqueued)]


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_samples_while_the_download_runs(
    player: Player,
    server: NginxServer,
    recordings: Recordings,
    suffix: str,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    url = player.publish(suffix, "slow", f"whole-{request.node.callspec.id}")
    expected = recordings.frames(suffix)
    size = recordings.path(suffix).stat().st_size
    with player.system.open(url) as stream:
        traced = Traced(stream)
        frames: list[Frame] = []
        for frame in decode(traced):
            if not frames:
                record_property("landed", stream.tell() + stream.buffered)
                assert stream.tell() + stream.buffered < size
                assert stream.phase is not Phase.COMPLETE
            frames.append(frame)
        assert same(frames, expected)
        assert sum(traced.reads) >= size
        assert (-1, 2) in traced.seeks
        # Size probes only move a number.
        assert traced.told_by_seeks == []
        assert stream.wait_complete(30)
    with player.system.open(url) as again:
        assert same(list(decode(again)), expected)
    events = player.stop()
    assert requests(events) == [(0, None)]
    assert [event.cached for event in events if isinstance(event, Opened)] == [False, True]
    (logged,) = server.log(player.path(url), at_least=1)
    assert (logged.status, logged.range, logged.body_bytes) == (206, "bytes=0-", size)


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_first_samples_come_from_the_first_bytes(
    player: Player, recordings: Recordings, suffix: str, request: pytest.FixtureRequest
) -> None:
    url = player.publish(suffix, "held", f"first-{request.node.callspec.id}")
    size = recordings.path(suffix).stat().st_size
    assert HELD < max(size // 10, 1_000_000) < size
    with player.system.open(url) as stream:
        first = next(frames := decode(stream))
        frames.close()
        assert 0 < stream.tell() + stream.buffered < HELD + 1000
        assert first == recordings.frames(suffix)[0]
    assert requests(player.stop()) == [(0, None)]


@pytest.mark.parametrize(("suffix", "options"), [("mp3", {"fflags": "fastseek"}), ("flac", {})], ids=FORMATS)
def test_a_seek_by_time_needs_nothing_of_what_it_skips(
    player: Player, recordings: Recordings, suffix: str, options: dict[str, str], request: pytest.FixtureRequest
) -> None:
    url = player.publish(suffix, "held", f"seek-{request.node.callspec.id}")
    size = recordings.path(suffix).stat().st_size
    with player.system.open(url) as stream:
        # The first answer never gets there: reading on from it would hang.
        assert same(list(decode(stream, 0.7, **options)), recordings.frames(suffix, 0.7, **options))
    (first, second, *_) = requests(player.stop())
    assert first == (0, None)
    assert second[0] > size * 0.6


@only_in_memory
@pytest.mark.parametrize(("suffix", "options"), [("mp3", {"fflags": "fastseek"}), ("flac", {})], ids=FORMATS)
def test_a_seek_by_time_skips_what_is_not_read_ahead(
    player: Player, recordings: Recordings, suffix: str, options: dict[str, str]
) -> None:
    url = player.publish(suffix, "slow", "ahead")
    size = recordings.path(suffix).stat().st_size
    with player.system.open(url, look_ahead=64 * 1024) as stream:
        assert same(list(decode(stream, 0.7, **options)), recordings.frames(suffix, 0.7, **options))
        assert stream.phase is Phase.DOWNLOADING
        stream.seek(0)
        assert 0 < stream.buffered < size // 2
    requests(player.stop())


@only_in_memory
def test_a_seek_that_reads_its_way_follows_the_download(player: Player, recordings: Recordings) -> None:
    """FFmpeg's own choice for MP3: it reads all frames before the target, so the one transfer serves it."""
    url = player.publish("mp3", "slow", "linear")
    with player.system.open(url) as stream:
        assert same(list(decode(stream, 0.7)), recordings.frames("mp3", 0.7))
    assert requests(player.stop()) == [(0, None)]


@only_in_memory
def test_two_decoders_share_one_download(player: Player, server: NginxServer, recordings: Recordings) -> None:
    url = player.publish("mp3", "slow", "shared")
    expected = recordings.frames("mp3")
    both = threading.Barrier(2, timeout=30)

    def play(stream: Stream) -> list[Frame]:
        both.wait()
        return list(decode(stream))

    with (
        player.system.open(url) as one,
        player.system.open(url) as other,
        ThreadPoolExecutor(2) as threads,
    ):
        assert all(same(frames, expected) for frames in threads.map(play, (one, other)))
    assert requests(player.stop()) == [(0, None)]
    assert len(server.log(player.path(url), at_least=1)) == 1


@only_in_memory
def test_a_missing_file_reaches_the_caller(player: Player, server: NginxServer) -> None:
    with player.system.open(server.url("no/such.flac")) as stream:
        with pytest.raises(StatusError, match="404"):
            av.open(stream)
        assert isinstance(stream.error, StatusError)
        with pytest.raises(StatusError, match="404"):
            stream.read(1)


@only_in_memory
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_local_file_decodes_the_same(player: Player, recordings: Recordings, suffix: str) -> None:
    with player.system.open(recordings.path(suffix)) as stream:
        assert same(list(decode(stream)), recordings.frames(suffix))
    with player.system.open(recordings.path(suffix)) as stream:
        assert same(list(decode(stream, 0.7)), recordings.frames(suffix, 0.7))
    assert requests(player.stop()) == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_mutagen_needs_no_whole_file(
    player: Player, recordings: Recordings, suffix: str, request: pytest.FixtureRequest
) -> None:
    url = player.publish(suffix, "held", f"tags-{request.node.callspec.id}")
    expected = mutagen.File(recordings.path(suffix), easy=True)
    with player.system.open(url) as stream:
        found = mutagen.File(stream, easy=True)
        assert stream.phase is Phase.DOWNLOADING
    assert type(found) is type(expected)
    assert found.info.length == expected.info.length > 5
    assert dict(found.tags) == dict(expected.tags)
    assert found.tags["title"] == ["Sweep"]


@only_in_memory
def test_the_wave_module_reads_a_stream(player: Player, recordings: Recordings) -> None:
    url = player.publish("wav", "held", "wave")
    with (
        wave.open(str(recordings.path("wav")), "rb") as expected,
        player.system.open(url) as stream,
        wave.open(stream, "rb") as found,
    ):
        assert found.getparams() == expected.getparams()
        assert found.readframes(found.getnframes()) == expected.readframes(expected.getnframes())
        found.rewind()
        assert found.readframes(1) != b""


@only_in_memory
def test_asking_for_the_size_costs_nothing(player: Player) -> None:
    url = player.publish("flac", "held", "probes")
    with player.system.open(url) as stream:
        traced = Traced(stream)
        traced.read(1)
        told = len(traced.told)
        for _ in range(100):
            assert traced.seek(-1, 2) == stream.length - 1
            assert traced.seek(0, 2) == stream.length
            assert traced.seek(1) == traced.tell() == 1
            assert traced.seekable()
        assert len(traced.told) == told
    assert requests(player.stop()) == [(0, None)]
