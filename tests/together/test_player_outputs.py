"""Where the sound goes: whole WAV files or none, pipes that get all, devices that are really there."""

from __future__ import annotations

import argparse
import os
import struct
import sys
import wave
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from player_kit import player_of, reference, sound_file, tracks
from stream_kit import Call

from kithara_actors import ActorSystem
from kithara_actors.command.explain import CommandError
from kithara_actors.command.player import outputs
from kithara_actors.command.player.outputs import device_output, null_output, wav_output
from kithara_actors.command.player.sound import Format
from kithara_actors.command.player.wav import LARGEST, WavFile

SOUND = bytes(range(256)) * 4_000
"""More than a pipe holds."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    inside = tmp_path / "here"
    inside.mkdir()
    yield inside
    inside.chmod(0o700)


def write(path: str, *, finish: bool = True) -> None:
    output = wav_output(path)
    try:
        output.open(Format(8_000, 2), lambda _: b"")
        output.write(SOUND)
        if finish:
            output.finish()
    finally:
        output.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_wav_file_is_whole_or_not_there(folder: Path) -> None:
    path = folder / "out.wav"
    output = wav_output(str(path))
    assert names(folder) == []
    output.open(Format(8_000, 2), lambda _: b"")
    output.write(SOUND)
    assert not path.exists()
    assert len(names(folder)) == 1
    output.finish()
    output.close()
    assert names(folder) == ["out.wav"]
    with wave.open(str(path)) as file:
        assert file.getparams()[:4] == (2, 2, 8_000, len(SOUND) // 4)
        assert file.readframes(len(SOUND)) == SOUND
    write(str(path), finish=False)
    assert names(folder) == ["out.wav"]
    assert path.stat().st_size == len(SOUND) + 44


def test_an_existing_file_is_replaced_where_a_link_leads_to_it(folder: Path) -> None:
    (folder / "real.wav").write_text("old")
    (folder / "link.wav").symlink_to("real.wav")
    write(str(folder / "link.wav"))
    assert (folder / "link.wav").is_symlink()
    assert (folder / "real.wav").stat().st_size == len(SOUND) + 44
    assert names(folder) == ["link.wav", "real.wav"]


def test_nothing_is_made_where_there_is_no_sound(folder: Path) -> None:
    output = wav_output(str(folder / "out.wav"))
    output.finish()
    output.close()
    output.close()
    assert names(folder) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "is empty"),
        (".", "it is a directory; name a file in it"),
        ("new/", "it is a directory"),
        ("missing/out.wav", "there is no directory"),
        ("file/out.wav", "Not a directory"),
    ],
)
def test_places_that_cannot_be_written(folder: Path, name: str, words: str) -> None:
    (folder / "file").write_text("x")
    with pytest.raises(CommandError, match=words):
        wav_output(f"{folder}/{name}" if name else "")


def test_a_full_disk(folder: Path) -> None:
    with pytest.raises(CommandError, match=r"^no room for /dev/full: make room, or name another disk with --output$"):
        write("/dev/full")


def test_a_wav_file_has_an_end(folder: Path) -> None:
    file = WavFile(str(folder / "out.wav"))
    file.open(8_000, 1)
    file._written = LARGEST - 10
    file.write(bytes(10))
    with pytest.raises(CommandError, match="holds at most 4 GiB; name fewer tracks"):
        file.write(b"xx")
    file.close()
    assert names(folder) == []


def test_the_size_in_the_header_is_the_largest_there_is(folder: Path) -> None:
    file = WavFile(str(folder / "out.wav"))
    file.open(8_000, 1)
    file._written = LARGEST
    file.finish()
    file.close()
    head = (folder / "out.wav").read_bytes()
    assert struct.unpack("<L", head[4:8])[0] == LARGEST + 36 <= 0xFFFF_FFFF


class _Output:
    """Stands for sys.stdout."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


@pytest.mark.parametrize("blocking", [True, False])
def test_the_standard_output_gets_everything(monkeypatch: pytest.MonkeyPatch, blocking: bool) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    monkeypatch.setattr(sys, "stdout", _Output(writing))
    with os.fdopen(reading, "rb") as pipe:
        call = Call(pipe.read)
        write("-")
        os.close(writing)
        data = call.result()
    assert data[:4] == b"RIFF"
    assert data[4:8] == data[40:44] == b"\xff" * 4
    assert data[44:] == SOUND
    with wave.open(BytesIO(data)) as file:
        assert file.getparams()[:3] == (2, 2, 8_000)


def test_a_pipe_whose_reader_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(sys, "stdout", _Output(writing))
    with pytest.raises(BrokenPipeError):
        write("-")
    os.close(writing)


def test_a_named_pipe_is_written_to_and_stays(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    call = Call((folder / "pipe").read_bytes)
    write(str(folder / "pipe"))
    assert call.result()[44:] == SOUND
    assert (folder / "pipe").is_fifo()


def test_without_a_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(CommandError, match="the standard output is closed"):
        wav_output("-")


# --- Devices: this machine need not have one


def test_an_unknown_backend_is_wrong_usage() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="alsa, jack, null, oss, pulseaudio, not 'wasapi'"):
        device_output("wasapi")


def test_no_device_is_one_line_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import miniaudio

    made = outputs._Device._made

    def fails(self: outputs._Device, name: str, form: Format) -> object:
        os.write(2, b"ALSA lib: a page of it\n")
        if name == "null":
            return made(self, name, form)
        raise miniaudio.MiniaudioError("failed to init device", -401)

    monkeypatch.setattr(outputs._Device, "_made", fails)
    monkeypatch.setattr(outputs, "_likely", lambda: ("alsa", "oss"))
    with pytest.raises(CommandError) as caught:
        device_output(None)
    assert str(caught.value) == (
        "no sound device was found (alsa: failed to init device -401; oss: failed to init device -401): "
        "write to a file with --output FILE.wav, or use --null"
    )
    with pytest.raises(CommandError, match=r"found \(jack: failed"):
        device_output("JACK")
    device_output("null")
    assert capfd.readouterr().err == ""


def test_pulseaudio_is_tried_where_there_are_signs_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULSE_SERVER", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    # Neither the one that plays to nobody, nor the one that leaves files behind.
    assert outputs._likely() == ("alsa", "oss")
    (tmp_path / "run" / "pulse").mkdir(parents=True)
    assert outputs._likely() == ("alsa", "oss")
    (tmp_path / "run" / "pulse" / "native").touch()
    assert outputs._likely() == ("pulseaudio", "alsa", "oss")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    (tmp_path / "home" / ".config" / "pulse" / "abc-runtime").mkdir(parents=True)
    assert outputs._likely() == ("pulseaudio", "alsa", "oss")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert outputs._likely() == ("alsa", "oss")
    monkeypatch.setenv("PULSE_SERVER", "unix:/run/pulse")
    assert outputs._likely() == ("pulseaudio", "alsa", "oss")


@pytest.fixture
def song(tmp_path: Path) -> str:
    (tmp_path / "a.flac").write_bytes(sound_file("flac", 2))
    return str(tmp_path / "a.flac")


@pytest.fixture
def system() -> Iterator[ActorSystem]:
    with ActorSystem.start(workers=1) as system:
        yield system


def test_a_device_gets_all_the_sound(system: ActorSystem, song: str) -> None:
    output = device_output("null")
    player, heard = player_of(system, tracks(song), output)
    given: list[bytes] = []
    take = player._sounds.take

    def taken(frames: int) -> bytes:
        given.append(take(frames))
        assert len(given[-1]) <= frames * 4
        return given[-1]

    player._sounds.take = taken  # type: ignore[method-assign]
    assert player.run() == 0
    assert b"".join(given) == reference(sound_file("flac", 2))
    silent = len(given) - max(index for index, sound in enumerate(given) if sound) - 1
    assert silent >= 2, "what was taken last had the time to be heard"
    assert heard.ended[0].position == pytest.approx(2)


def test_a_device_that_goes_away(system: ActorSystem, song: str) -> None:
    output = device_output("null")
    player, _ = player_of(system, tracks(song), output)
    device: Any = output
    open_it = device.open

    def opens(*arguments: Any) -> None:
        open_it(*arguments)
        device._device._stop_callback(None)

    device.open = opens
    with pytest.raises(CommandError, match="the sound device went away; plug it in again, or write to a file"):
        player.run()


def test_an_output_that_fails_ends_the_run(system: ActorSystem, song: str) -> None:
    player, _ = player_of(system, tracks(song, song), wav_output("/dev/full"))
    with pytest.raises(CommandError, match="no room for /dev/full"):
        player.run()


def test_null_takes_no_time(system: ActorSystem, tmp_path: Path) -> None:
    (tmp_path / "long.flac").write_bytes(sound_file("flac", 120, 8_000, "mono"))
    player, heard = player_of(system, tracks(str(tmp_path / "long.flac")), null_output())
    call = Call(player.run)
    assert call.result(60) == 0
    assert heard.ended[0].position == pytest.approx(120)
