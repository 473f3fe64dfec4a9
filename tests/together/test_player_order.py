"""The player's threads meet in the worst order there is: nothing is skipped, and nothing waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from player_kit import HANG, Scripted, player_of, sound_file, tracks
from stream_kit import Call

from kithara_actors import ActorSystem
from kithara_actors.command.player.threads import Job


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=1) as system:
        yield system


def test_a_decoder_that_gets_idle_between_two_looks_does_not_end_the_list(
    system: ActorSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player, heard = player_of(system, tracks(*[str(tmp_path / f"{number}.mp3") for number in range(5)]), Scripted())
    conductor = player._conductor
    decoder = conductor._decoder
    work, free, leave = decoder._work, decoder.free, threading.Event()

    def held(job: Job) -> None:
        work(job)
        assert leave.wait(HANG)
        leave.clear()

    def freed_a_moment_later() -> bool:
        # Its failure was told, and still it is busy when this looks.
        if decoder.job is None or decoder.job.opened.index not in conductor.failed:
            return free()
        leave.set()
        with player._sounds.changed:
            assert player._sounds.changed.wait_for(lambda: decoder.job is None, HANG)
        return False

    monkeypatch.setattr(decoder, "_work", held)
    monkeypatch.setattr(decoder, "free", freed_a_moment_later)
    assert player.run() == 5
    assert len(heard.failures) == 5


def test_a_track_that_is_begun_in_the_moment_of_stopping(
    system: ActorSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More sound than the queue has room for, and no output to take it.
    (tmp_path / "a.flac").write_bytes(sound_file("flac", 10, 8_000, "mono"))
    player, _ = player_of(system, tracks(str(tmp_path / "a.flac")), Scripted())
    conductor, sounds = player._conductor, player._sounds
    assign, clear, join = conductor._assign, sounds.clear, conductor._thread.join
    arrived, go_on = threading.Event(), threading.Event()

    def late() -> None:
        arrived.set()
        assert go_on.wait(HANG)
        assign()

    def cleared() -> None:
        clear()
        go_on.set()

    def joined(timeout: float | None = None) -> None:
        go_on.set()
        join(timeout)
        # Until its thread waits for room in the queue: closing the stream does not reach it there.
        with sounds.changed:
            assert sounds.changed.wait_for(lambda: sounds._frames >= 2 * 8_000, HANG)

    monkeypatch.setattr(conductor, "_assign", late)
    monkeypatch.setattr(sounds, "clear", cleared)
    monkeypatch.setattr(conductor._thread, "join", joined)
    conductor.start()
    assert arrived.wait(HANG)
    Call(conductor.stop).result(HANG)
