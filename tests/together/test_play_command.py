"""`kithara play` without a terminal: what it says, what it makes, and with which status it ends."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest
from play_kit import COMMAND, HANG, environment, play
from recordings import Recordings

from kithara_actors.command import room as module
from kithara_actors.testing.origin import Fault, Origin, Resource

pytestmark = pytest.mark.long

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738"
    "550000000049454e44ae426082"
)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def song(origin: Origin, recordings: Recordings) -> str:
    return origin.add("/sweep.mp3", Resource(data=recordings.path("mp3").read_bytes()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the command runs; the tests look at what it leaves there."""
    inside = tmp_path / "here"
    inside.mkdir()
    return inside


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def lines(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return done.stderr.decode().splitlines()


def refused(done: subprocess.CompletedProcess[bytes], status: int, *said: str) -> None:
    """That status, and one line with all of `said` in it."""
    assert done.returncode == status, done.stderr.decode()
    (line,) = lines(done)
    assert line.startswith("kithara: ")
    for text in said:
        assert text in line


# --- What goes well


def test_all_good(song: str, folder: Path, recordings: Recordings) -> None:
    done = play(folder, "--null", song, str(recordings.path("flac")))
    assert (done.returncode, done.stdout) == (0, b"")
    assert lines(done) == [
        "1/2 Sweep – kithara – Recordings (Mp3, 44100 Hz, 2 channels, 0:34)",
        "2/2 Sweep – kithara – Recordings (Flac, 44100 Hz, 2 channels, 0:09)",
    ]


def test_dead_url_among_good_ones(song: str, origin: Origin, folder: Path, recordings: Recordings) -> None:
    dead = origin.add("/dead.mp3", Resource(size=1000, always=Fault(status=404))) + "?key=secret"
    done = play(folder, "--null", song, dead, str(recordings.path("wav")))
    assert done.returncode == 1
    first, failure, last = lines(done)
    assert first.startswith("1/3 Sweep")
    assert failure.startswith(f"kithara: {origin.url('/dead.mp3')}?key=…: ")
    assert "404 Not Found; check the URL" in failure
    assert last.startswith("3/3 sweep.wav (Pcm, 44100 Hz, 2 channels, 0:02)")


def test_quiet(song: str, folder: Path) -> None:
    done = play(folder, "--quiet", "--null", song)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    refused(play(folder, "-q", "--null", song, "missing.mp3"), 1, "missing.mp3")


def test_relative_path_and_file(folder: Path, recordings: Recordings) -> None:
    os.link(recordings.path("wav"), folder / "a b.wav")
    done = play(folder, "-o", "c.wav", "a b.wav")
    assert (done.returncode, lines(done)) == (0, ["1/1 a b.wav (Pcm, 44100 Hz, 2 channels, 0:02)"])
    assert (folder / "c.wav").read_bytes() == (folder / "a b.wav").read_bytes()
    assert names(folder) == ["a b.wav", "c.wav"]


def test_playlist(song: str, folder: Path, recordings: Recordings) -> None:
    (folder / "list.m3u").write_text(f"#EXTM3U\n#EXTINF:2,From the \x1b[31mlist\n{recordings.path('wav')}\n{song}\n")
    done = play(folder, "--null", "list.m3u")
    assert done.returncode == 0
    first, second = lines(done)
    assert first.startswith("1/2 From the ")
    assert second.startswith("2/2 Sweep – kithara – Recordings (")
    assert b"\x1b" not in done.stderr


def test_standard_output_gets_the_sound_alone(song: str, folder: Path) -> None:
    done = play(folder, "-o", "-", song)
    assert done.returncode == 0
    with wave.open(io.BytesIO(done.stdout)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (44_100, 2, 2)
    assert abs((len(done.stdout) - 44) / 4 / 44_100 - 34) < 0.1
    assert names(folder) == []


def test_device_that_plays_to_nobody_takes_its_time(folder: Path, recordings: Recordings) -> None:
    done = play(folder, "--backend", "null", str(recordings.path("wav")))
    assert (done.returncode, lines(done)) == (0, ["1/1 sweep.wav (Pcm, 44100 Hz, 2 channels, 0:02)"])


def test_track_larger_than_the_memory_for_tracks(song: str, folder: Path) -> None:
    (folder / "kithara.toml").write_text("memory_limit = 100_000\n")
    done = play(folder, "--null", song)
    assert done.returncode == 0, done.stderr


def test_own_cache_is_used(song: str, folder: Path) -> None:
    (folder / "kithara.toml").write_text('cache_dir = "kept"\n')
    assert play(folder, "--null", "--config", "kithara.toml", song).returncode == 0
    assert len(list((folder / "kept").rglob("*.mp3"))) == 1


def test_long_list_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 250)
    with module.room_of({"workers": 1}) as room:
        place = Path(room.settings["cache_dir"]) / "v1" / "ab"
        place.mkdir(parents=True)
        for age, name in enumerate(("new.mp3", "middle.mp3", "old.mp3", "next.part")):
            (place / name).write_bytes(bytes(100))
            os.utime(place / name, (1000 - age, 1000 - age))
        room.tidy()
        assert names(place) == ["middle.mp3", "new.mp3", "next.part"]
    assert not place.exists()
    with module.room_of({"cache_dir": str(tmp_path)}) as room:
        (tmp_path / "a").write_bytes(bytes(1000))
        room.tidy()
        assert (tmp_path / "a").exists()


# --- What goes wrong


@pytest.mark.parametrize(
    ("name", "data", "content_type", "said"),
    [
        ("text.mp3", b"Not found.\n" * 100, "text/plain", "is not audio that can be decoded"),
        ("zeros.mp3", bytes(100_000), "audio/mpeg", "is not audio that can be decoded"),
        ("image.png", PNG, "image/png", ""),
        ("empty.mp3", b"", "audio/mpeg", "is empty"),
        ("page.mp3", b"<!doctype html><html>" * 100, "text/html", "HTML page instead of media"),
    ],
)
def test_what_is_not_audio(origin: Origin, folder: Path, name: str, data: bytes, content_type: str, said: str) -> None:
    url = origin.add(f"/{name}", Resource(data=data, content_type=content_type))
    refused(play(folder, "--null", url), 1, url, said)
    (folder / name).write_bytes(data)
    local = play(folder, "--null", name)
    refused(local, 1, name)


def test_truncated_file(origin: Origin, folder: Path, recordings: Recordings) -> None:
    data = recordings.path("flac").read_bytes()
    url = origin.add("/a.flac", Resource(data=data[: len(data) // 2], content_type="audio/flac"))
    done = play(folder, "-o", "a.wav", url)
    assert done.returncode == 1
    assert lines(done)[0].startswith("1/1 Sweep")
    assert "of 0:09: the file is cut short" in lines(done)[1]
    assert (folder / "a.wav").stat().st_size > 3 * 44_100 * 4


def test_directory_and_missing_file(folder: Path) -> None:
    refused(play(folder, "--null", "."), 1, "is a directory: name the files in it")
    refused(play(folder, "--null", "missing.mp3"), 1, "missing.mp3", "no such file")


def test_empty_playlist(folder: Path) -> None:
    (folder / "list.m3u").write_text("#EXTM3U\n\n# nothing\n")
    refused(play(folder, "--null", "list.m3u"), 1, "list.m3u", "holds no tracks")


def test_no_sound_device(song: str, origin: Origin, folder: Path) -> None:
    refused(play(folder, song), 1, "no sound device was found", "--output FILE.wav, or use --null")
    assert origin.requests == []


def test_search_for_a_sound_device_leaves_no_files(song: str, folder: Path) -> None:
    home, temporary = folder.parent / "home", folder.parent / "temporary"
    home.mkdir()
    settings = environment(temporary)
    for name in ("PULSE_SERVER", "PULSE_RUNTIME_PATH", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "JACK_NO_START_SERVER"):
        settings.pop(name, None)
    shared = Path("/dev/shm")  # other programs have things of theirs there
    before = {path.name for path in shared.iterdir()}
    done = subprocess.run(
        [*COMMAND, "play", song],
        cwd=folder,
        env={**settings, "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=HANG,
    )
    refused(done, 1, "no sound device was found")
    assert [*home.rglob("*"), *temporary.rglob("*")] == []
    made = {path.name for path in shared.iterdir()} - before
    assert not [name for name in made if name.startswith(("jack", "pulse", "sem.jack"))]


def test_sources_are_not_written_over(folder: Path, recordings: Recordings) -> None:
    data = recordings.path("wav").read_bytes()
    (folder / "a.wav").write_bytes(data)
    (folder / "link.wav").symlink_to("a.wav")
    (folder / "list.m3u").write_text("a.wav\n")
    said = "is one of the sources: name another file with --output"
    for output, source in [
        ("a.wav", "a.wav"),
        ("link.wav", "./a.wav"),
        ("a.wav", "list.m3u"),
        ("list.m3u", "list.m3u"),
    ]:
        refused(play(folder, "-o", output, source), 1, output, said)
    assert (folder / "a.wav").read_bytes() == data
    assert names(folder) == ["a.wav", "link.wav", "list.m3u"]


def test_paths_are_called_what_the_user_calls_them(folder: Path) -> None:
    (folder / "list.m3u").write_text("missing.mp3\n../other/missing.mp3\n")
    done = play(folder, "--null", "list.m3u", "~nosuchuser/x")
    assert done.returncode == 1
    assert [line.partition(": there is no such file")[0] for line in lines(done)] == [
        "kithara: missing.mp3",
        "kithara: ../other/missing.mp3",
        "kithara: ~nosuchuser/x",
    ]


def test_wrong_usage(song: str, folder: Path) -> None:
    for arguments in (
        ["--backend", "walkman", song],
        ["--null", "--output", "a.wav", song],
        ["--null", "-H", "nonsense", song],
        ["--output", "a.mp3", song],
        ["--null"],
    ):
        done = play(folder, *arguments)
        assert done.returncode == 2
        assert lines(done)[0].startswith("usage: kithara play")
    assert b"walkman" in play(folder, "--backend", "walkman", song).stderr
    assert b"--output writes WAV and not mp3: name it FILE.wav" in play(folder, "-o", "a.mp3", song).stderr


def test_full_disk(song: str, folder: Path) -> None:
    refused(play(folder, "-q", "-o", "/dev/full", song), 1, "no room for /dev/full: make room, or name another disk")
    assert names(folder) == []


@pytest.mark.root
def test_disk_that_fills_up(song: str, folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    try:
        refused(play(folder, "-q", "-o", str(folder / "a.wav"), song), 1, "no room for", "a.wav: make room")
        assert names(folder) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.root
def test_disk_for_downloads_that_fills_up(song: str, folder: Path) -> None:
    temporary = folder.parent / "temporary"
    temporary.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(temporary)], check=True)
    try:
        done = play(folder, "--null", song)
        assert done.returncode == 1
        assert lines(done)[-1].startswith(f"kithara: {song}: ")
        assert "make room" in lines(done)[-1]
    finally:
        subprocess.run(["umount", str(temporary)], check=True)


def test_closed_standard_output(song: str, folder: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "play", "-o", "-", song],
        cwd=folder,
        env=environment(folder.parent / "temporary"),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        timeout=HANG,
    )
    refused(done, 1, "the standard output is closed")


def test_reader_of_the_sound_goes_away(song: str, folder: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "play", "-o", "-", song],
        cwd=folder,
        env=environment(folder.parent / "temporary"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.read(4) == b"RIFF"
        running.stdout.close()
        said = running.stderr.read()
        assert running.wait(HANG) == 141
    assert b"kithara:" not in said
    assert b"Error" not in said


def test_reader_of_the_lines_goes_away(song: str, folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = subprocess.run(
            [*COMMAND, "play", "-o", "a.wav", song],
            cwd=folder,
            env=environment(folder.parent / "temporary"),
            stdin=subprocess.DEVNULL,
            stderr=nobody,
            check=False,
            timeout=HANG,
        )
    # The sound is what it is for: that is there all the same.
    assert done.returncode in (0, 141)
    assert names(folder) == ["a.wav"]


@pytest.mark.parametrize(
    ("missing", "arguments"), [("av", ["--null"]), ("av", ["--backend", "null"]), ("miniaudio", ["--backend", "null"])]
)
def test_missing_library(song: str, origin: Origin, folder: Path, missing: str, arguments: list[str]) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from kithara_actors.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, "play", *arguments, song],
        cwd=folder,
        env=environment(folder.parent / "temporary"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=HANG,
    )
    refused(done, 1, "not installed: pip install 'kithara-actors[play]'")
    assert origin.requests == []
