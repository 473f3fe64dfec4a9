"""The player obeys: it seeks, pauses, changes tracks and ends, whatever it is doing at that moment."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from player_kit import Scripted, moved, player_of, reference, sound_file, tracks, until
from stream_kit import Call

from kithara_actors import ActorSystem
from kithara_actors.command.interrupts import Interrupted, Interrupts
from kithara_actors.command.player.engine import Player
from kithara_actors.command.player.outputs import device_output, null_output, wav_output
from kithara_actors.testing.origin import Fault, Origin, Resource

pytestmark = pytest.mark.long

RATE = 8_000
FRAME = 2
SOUND = Resource(data=sound_file("flac", 10, RATE, "mono"), content_type="audio/flac")
HEARD = reference(sound_file("flac", 10, RATE, "mono"), RATE, "mono")


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=1) as system:
        yield system


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No decoder writes to the terminal."""
    yield
    assert capfd.readouterr() == ("", "")


def cut(start: float, end: float | None = None) -> bytes:
    return HEARD[round(start * RATE) * FRAME : None if end is None else round(end * RATE) * FRAME]


class Acting(Scripted):
    """Does the next of its acts when so many seconds were written since the last."""

    def __init__(self, *acts: tuple[float, Callable[[Player], object]]) -> None:
        super().__init__(self.act)
        self.acts = list(acts)
        self.lengths: list[float] = []
        """Seconds that were really written between the acts."""
        self.player: Player
        self._from = 0.0

    def act(self) -> None:
        while self.acts and self.seconds - self._from > self.acts[0][0] - 0.01:
            _, act = self.acts.pop(0)
            self.lengths.append(self.seconds - self._from)
            self._from = self.seconds
            moved(self.player, functools.partial(act, self.player))


def played(
    system: ActorSystem, urls: list[str], *acts: tuple[float, Callable[[Player], object]]
) -> tuple[bytes, list[int], list[float]]:
    """The sound, the tracks in the order in which they began, and how long it was between the acts."""
    output = Acting(*acts)
    output.player, heard = player_of(system, tracks(*urls), output)
    assert output.player.run() == 0
    assert output.acts == []
    assert heard.failures == []
    assert len(heard.ended) == len(heard.started)
    return bytes(output.sound), heard.order, output.lengths


def several(player: Player, *wishes: Callable[[], object]) -> None:
    """All of them before the first is obeyed."""
    with player._sounds.changed:
        for wish in wishes:
            wish()


def leave(player: Player) -> None:
    """As `quit`, counted as obeyed at once."""
    several(player, player.quit, player._sounds.clear)


def test_seeking_is_exact_and_presses_add_up(system: ActorSystem, origin: Origin) -> None:
    url = origin.add("/a.flac", SOUND)
    sound, order, (a, b, c, d) = played(
        system,
        [url],
        (1.0, lambda player: player.seek_by(2)),
        (1.0, lambda player: several(player, *[lambda: player.seek_by(1)] * 3)),
        (0.5, lambda player: player.seek_by(-6)),
        (0.5, lambda player: player.seek_by(-100)),
    )
    second, third = a + 2, a + 2 + b + 3
    fourth = third + c - 6
    expected = (cut(0, a), cut(second, second + b), cut(third, third + c), cut(fourth, fourth + d), cut(0))
    assert sound == b"".join(expected)
    assert order == [0], "it has begun once"


def test_a_seek_past_the_end_is_the_next_track(system: ActorSystem, origin: Origin) -> None:
    urls = [origin.add(f"/{number}.flac", SOUND) for number in range(2)]
    sound, order, (a, b) = played(
        system, urls, (1.0, lambda player: player.seek_by(60)), (2.0, lambda player: player.seek_by(60))
    )
    assert sound == cut(0, a) + cut(0, b)
    assert order == [0, 1]


def test_next_and_previous(system: ActorSystem, origin: Origin) -> None:
    urls = [origin.add(f"/{number}.flac", SOUND) for number in range(4)]
    sound, order, lengths = played(
        system,
        urls,
        (1.0, lambda player: several(player, player.next_track, player.next_track)),
        (3.5, lambda player: player.previous_track()),  # to its start
        (1.0, lambda player: player.previous_track()),
        (1.0, lambda player: several(player, *[player.previous_track] * 3)),
        (4.0, lambda player: several(player, *[player.next_track] * 3)),
        (5.0, lambda player: player.next_track()),
    )
    assert sound == b"".join(cut(0, length) for length in lengths)
    assert order == [0, 2, 1, 0, 3]


def test_going_back_skips_what_failed(system: ActorSystem, origin: Origin) -> None:
    urls = [origin.add("/0.flac", SOUND), origin.base + "/dead.flac", origin.add("/2.flac", SOUND)]
    output = Acting((10.5, lambda player: player.previous_track()), (1.0, leave))
    output.player, heard = player_of(system, tracks(*urls), output)
    assert output.player.run() == 1
    a, b = output.lengths
    assert output.sound == cut(0) + cut(0, a - 10) + cut(0, b)
    assert heard.order == [0, 2, 0]
    assert len(heard.failures) == 1


def test_a_seek_in_an_mp3_costs_one_request(system: ActorSystem, origin: Origin) -> None:
    data = sound_file("mp3", 60)
    url = origin.add("/a.mp3", Resource(data=data, rate=100_000))
    output = Acting(
        (0.2, lambda player: player.seek_by(45)),
        (0.2, lambda player: several(player, player.quit, player._sounds.clear)),
    )
    output.player, _ = player_of(system, tracks(url), output)
    assert output.player.run() == 0
    asked = sorted(seen.range[0] / len(data) for seen in origin.requests if seen.range is not None)
    # The others are the first and the one that fetches what was left out.
    assert [at for at in asked if at > 0.1] == [pytest.approx(0.75, abs=0.03)]
    assert len(asked) < 4


def test_a_seek_ends_the_wait_for_bytes_that_do_not_come(system: ActorSystem, origin: Origin) -> None:
    data = sound_file("wav", 60, RATE, "mono")
    stalls = Fault(stall_after=200_000)
    url = origin.add("/a.wav", Resource(data=data, content_type="audio/wav", script=[stalls]))
    output = Scripted()
    player, heard = player_of(system, tracks(url), output)
    running = Call(player.run)
    until(player, lambda: output.seconds > 11 and (playing := player.now()) and playing.waiting)
    moved(player, lambda: player.seek_by(20))
    assert running.result() == 0
    everything = reference(data, RATE, "mono")
    left_out = 20 * RATE * FRAME
    assert len(output.sound) == len(everything) - left_out
    assert output.sound.startswith(everything[: 11 * RATE * FRAME])
    assert output.sound.endswith(everything[11 * RATE * FRAME + left_out + 2 * RATE * FRAME :])
    assert heard.order == [0]
    starts = [seen.range[0] for seen in origin.requests if seen.range is not None]
    assert starts[1] == pytest.approx(200_000 + left_out, abs=2 * RATE * FRAME)


def test_pause_keeps_the_download_going(system: ActorSystem, origin: Origin) -> None:
    url = origin.add("/a.flac", SOUND)
    output = Scripted(lambda: None)
    player, _ = player_of(system, tracks(url), output)
    output.then = lambda: (
        player.toggle_pause() if not output.pauses and not paused.is_set() and not paused.set() else None
    )  # type: ignore[func-returns-value]
    paused = threading.Event()
    running = Call(player.run)
    until(player, lambda: output.pauses == [True] and (playing := player.now()) and playing.downloaded == SOUND.size)
    playing = player.now()
    assert playing is not None
    assert (playing.paused, playing.waiting, playing.position) == (True, False, output.seconds)
    moved(player, lambda: player.seek_by(5))
    until(player, lambda: (playing := player.now()) and playing.position == output.seconds + 5)
    at = output.seconds
    player.toggle_pause()
    assert running.result() == 0
    assert output.pauses == [True, False]
    assert output.sound == cut(0, at) + cut(at + 5)


STATES = {
    "before the answer": Fault(stall_headers=True),
    "before any sound": Fault(stall_after=20),
    "in the middle": Fault(stall_after=30_000),
    "when all is there": None,
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("pulls", [True, False], ids=["device", "file"])
def test_quit_at_any_moment(system: ActorSystem, origin: Origin, tmp_path: Path, state: str, pulls: bool) -> None:
    assert SOUND.size > 50_000
    url = origin.add("/a.flac", Resource(data=SOUND.data, always=STATES[state]))
    output = device_output("null") if pulls else wav_output(str(tmp_path / "out.wav"))
    player, _ = player_of(system, tracks(url, url + "?2"), output)
    running = Call(player.run)
    if state == "when all is there":
        until(player, lambda: (playing := player.now()) and playing.downloaded == SOUND.size)
    else:
        until(player, lambda: (playing := player.now()) and playing.waiting)
        assert origin.wait_for(lambda seen: len(seen) == 1)
    player.quit()
    assert running.result() == 0
    if state != "when all is there":
        assert list(tmp_path.iterdir()) == []
        assert origin.wait_for(lambda seen: all(each.ended for each in seen)), "the download has ended with it"


@pytest.mark.parametrize("state", STATES)
def test_a_signal_leaves_nothing(system: ActorSystem, origin: Origin, tmp_path: Path, state: str) -> None:
    url = origin.add("/a.flac", Resource(data=SOUND.data, always=STATES[state]))
    (tmp_path / "out.wav").write_bytes(b"old")
    player, _ = player_of(system, tracks(url), wav_output(str(tmp_path / "out.wav")))

    def interrupt() -> None:
        until(player, lambda: (playing := player.now()) and (playing.waiting or playing.downloaded == SOUND.size))
        os.kill(os.getpid(), signal.SIGINT)

    with Interrupts() as interrupts:
        call = Call(interrupt)
        # Where the run was quicker than the signal, it comes while the call is waited for.
        with pytest.raises(Interrupted), interrupts.armed():
            (player.run(), call.result())
        call.result()
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]
    if state != "when all is there":
        assert (tmp_path / "out.wav").read_bytes() == b"old"


def test_what_a_callback_raises_ends_the_run(system: ActorSystem, origin: Origin) -> None:
    player, _ = player_of(system, tracks(origin.add("/a.flac", SOUND)), null_output())

    def started(_: object) -> None:
        raise Interrupted(signal.SIGTERM)

    player._on_start = started
    with pytest.raises(Interrupted):
        player.run()


def test_the_device_is_given_silence_while_bytes_are_missing(origin: Origin) -> None:
    data, gate = sound_file("wav", 2), threading.Event()
    stalls = Fault(stall_after=len(data) * 3 // 4)
    url = origin.add("/a.wav", Resource(data=data, content_type="audio/wav", script=[stalls], always=Fault(hold=gate)))
    with ActorSystem.start(workers=1, inactivity_timeout=1.0, max_retries=100) as system:
        player, heard = player_of(system, tracks(url), device_output("null"))
        running = Call(player.run)
        until(player, lambda: (playing := player.now()) and playing.waiting and playing.position > 1)
        assert running.running
        gate.set()
        until(player, lambda: (playing := player.now()) and not playing.waiting and playing.position > 1.6)
        assert running.result() == 0
    assert heard.failures == []
    assert heard.ended[0].position == pytest.approx(2)


def test_a_paused_device_asks_for_nothing(system: ActorSystem, origin: Origin) -> None:
    output = device_output("null")
    player, heard = player_of(system, tracks(origin.add("/a.flac", SOUND)), output)
    running = Call(player.run)
    until(player, lambda: (playing := player.now()) and playing.position > 0.2)
    player.toggle_pause()
    until(player, lambda: not output._device.running)  # type: ignore[attr-defined]
    playing = player.now()
    assert playing is not None
    assert playing.paused
    player.seek_by(9 - playing.position)
    player.toggle_pause()
    assert running.result() == 0
    assert heard.ended[0].position == pytest.approx(10)
