"""Fragments of MP4 without an index: how long they last is known when all are there, a seek works before that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from player_kit import Scripted, moved, player_of, reference, sound_file, tracks, until
from stream_kit import Call

from kithara_actors import ActorSystem
from kithara_actors.testing.origin import Origin, Resource

pytestmark = pytest.mark.long

DATA = sound_file("mp4", 20)
RATE = 44_100
FRAME = 4


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=1) as system:
        yield system


@pytest.fixture
def url() -> Iterator[str]:
    """20 s in fragments of half a second, which take some seconds to come."""
    with Origin() as origin:
        yield origin.add("/a.mp4", Resource(data=DATA, content_type="audio/mp4", rate=len(DATA) // 4))


def test_a_seek_while_they_come_goes_on_in_the_track(system: ActorSystem, url: str) -> None:
    at: list[int] = []

    def then() -> None:
        if not at and output.seconds >= 1:
            at.append(len(output.sound))
            assert (player.now() or heard.started[0]).downloaded < len(DATA)
            moved(player, lambda: player.seek_by(10))

    output = Scripted(then)
    player, heard = player_of(system, tracks(url), output)
    assert player.run() == 0
    assert heard.failures == []
    whole = reference(DATA)
    assert output.sound[: at[0]] == whole[: at[0]]
    after = bytes(output.sound[at[0] :])
    assert whole.endswith(after)
    assert len(after) == pytest.approx(len(whole) - at[0] - 10 * RATE * FRAME, abs=FRAME)
    assert heard.order == [0]


def test_the_duration_is_known_once_they_are_there(system: ActorSystem, url: str) -> None:
    output = Scripted()
    player, heard = player_of(system, tracks(url), output)
    player.toggle_pause()
    running = Call(player.run)
    until(player, lambda: (playing := player.now()) and playing.sample_rate)
    playing = player.now()
    assert playing is not None
    assert playing.duration is None, "not that of the first fragment"
    assert playing.bitrate == pytest.approx(128_000, rel=0.2)
    until(player, lambda: (playing := player.now()) and playing.duration is not None)
    playing = player.now()
    assert playing is not None
    assert playing.duration == pytest.approx(20, abs=0.1)
    player.toggle_pause()
    assert running.result() == 0
    assert heard.ended[0].duration == pytest.approx(20, abs=0.1)
    assert output.sound == reference(DATA)


def test_when_they_are_there_ffmpeg_finds_the_place(system: ActorSystem, url: str) -> None:
    with system.open(url) as stream:
        assert stream.wait_complete(30)
        at: list[int] = []

        def then() -> None:
            if not at:
                at.append(len(output.sound))
                moved(player, lambda: player.seek_by(15))

        output = Scripted(then)
        player, heard = player_of(system, tracks(url), output)
        assert player.run() == 0
    assert heard.started[0].duration == pytest.approx(20, abs=0.1)
    assert len(output.sound) - at[0] == pytest.approx(len(reference(DATA)) - at[0] - 15 * RATE * FRAME, abs=FRAME)
