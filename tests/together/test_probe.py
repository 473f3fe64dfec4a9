"""`kithara probe`: what it says, what it costs, and how it fails."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import mutagen
import numpy as np
import pytest
from recordings import Recordings
from rich.cells import cell_len
from stream_kit import asked
from wave_kit import wave_bytes

from kithara_actors.testing.origin import Fault, Origin, Resource

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "kithara_actors", "probe"]
WAVE = wave_bytes(seconds=2)
HUGE = 1_000_000_000


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


def probe(*arguments: str, cwd: Path | None = None, columns: str = "100") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": columns},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return done


def told(source: str, *arguments: str) -> dict[str, Any]:
    done = probe("--json", source, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_url_in_words(origin: Origin) -> None:
    url = origin.add("/a.wav", Resource(data=WAVE, content_type="audio/wav", etag='"v1"'))
    done = probe(f"{url}?token=secret")
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line[:14].strip(): line[14:].strip() for line in done.stdout.splitlines()}
    assert "secret" not in done.stdout
    assert any("44100 Hz, stereo, 2 s, 1411 kbit/s" in line for line in done.stdout.splitlines())
    assert "352,844 bytes (352.8 kB)" in done.stdout
    assert 'ETag "v1" (strong)' in done.stdout
    assert "answered 206; serves byte ranges" in done.stdout
    assert "first byte after" in done.stdout
    assert lines


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_lines_fit_the_terminal(origin: Origin, columns: str) -> None:
    url = origin.add("/" + "long" * 60 + ".wav", Resource(data=WAVE, content_type="audio/wav"))
    done = probe(url, columns=columns)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= int(columns)


def test_a_url_in_json(origin: Origin) -> None:
    url = origin.add("/a.wav", Resource(data=WAVE, content_type="audio/wav", last_modified=None, etag='W/"weak"'))
    found = told(url)
    assert found["length"] == len(WAVE)
    assert found["media"] == {
        "codec": "Pcm",
        "container": "Wav",
        "sample_rate": 44_100,
        "channels": 2,
        "duration": 2.0,
        "bitrate": 1_411_200,
    }
    assert found["server"] == {
        "status": 206,
        "ranges": True,
        "content_type": "audio/wav",
        "etag": 'W/"weak"',
        "last_modified": None,
        "strong_validator": False,
        "redirects": [],
    }
    assert found["requests"][0]["start"] == 0
    assert found["requests"][0]["first_byte"] > 0
    spans = [seen.range for seen in asked(origin, "/a.wav")]
    assert found["bytes_asked_for"] == sum(end - start + 1 for start, end in spans)


def test_redirects_and_a_server_without_ranges(origin: Origin) -> None:
    target = origin.add("/real.wav", Resource(data=WAVE, content_type="audio/wav", ranges=False))
    url = origin.add("/moved", Resource(always=Fault(redirect=f"{target}?signature=secret")))
    found = told(url)
    assert found["server"]["ranges"] is False
    assert found["server"]["status"] == 200
    assert [address.partition("?")[0] for address in found["server"]["redirects"]] == [target]
    assert "secret" not in json.dumps(found)


def test_a_local_file_with_tags(recordings: Recordings) -> None:
    found = told(str(recordings.path("flac")))
    assert found["server"] is None
    assert found["requests"] == []
    assert found["tags"]["title"] == ["Sweep"]
    assert found["media"]["codec"] == "Flac"
    assert found["media"]["duration"] == pytest.approx(9.0, abs=0.1)


def test_a_relative_path(recordings: Recordings) -> None:
    path = recordings.path("mp3")
    done = probe(path.name, cwd=path.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Mp3 in MpegAudio, 44100 Hz, stereo, 34 s, 320 kbit/s" in done.stdout
    assert "Sweep" in done.stdout


def huge_file(recordings: Recordings, suffix: str, path: Path) -> int:
    """Make a gigabyte at `path` that begins as a recording does; how many bytes its `moov` has."""
    if suffix in ("mp3", "flac", "wav"):
        path.write_bytes(recordings.path(suffix).read_bytes()[:200_000])
        os.truncate(path, HUGE)
        return 0
    small = encoded(path.with_name(f"small.{suffix}"), "libopus" if suffix == "webm" else "aac")
    if suffix == "webm":
        path.write_bytes(small)
        os.truncate(path, HUGE)
        return 0
    # FFmpeg leaves a `free` box before `mdat`, where a longer header of it has room.
    free, moov = small.index(b"free") - 4, small.rindex(b"moov") - 4
    path.write_bytes(small[:free] + b"\0\0\0\1mdat" + (HUGE - len(small[moov:]) - free).to_bytes(8, "big"))
    os.truncate(path, HUGE - len(small[moov:]))
    with path.open("ab") as file:
        file.write(small[moov:])
    return len(small) - moov


def encoded(path: Path, codec: str) -> bytes:
    """Five seconds of a hum in `path`'s container."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000, layout="stereo")
        for at in range(0, 5 * 48_000, 960):
            hum = (np.sin(np.arange(at, at + 960) / 40) * 8000).astype(np.int16).repeat(2).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(hum, format="s16", layout="stereo")
            frame.sample_rate, frame.pts = 48_000, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["mp3", "flac", "wav", "webm", "m4a"])
def test_a_gigabyte_costs_a_few_kilobytes(origin: Origin, recordings: Recordings, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"huge.{suffix}"
    moov = huge_file(recordings, suffix, path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        url = origin.add(f"/huge.{suffix}", Resource(data=data, etag='"huge"', content_type="application/octet-stream"))
        found = told(url)
        assert found["length"] == HUGE
        assert found["media"]["sample_rate"] == (48_000 if suffix in ("webm", "m4a") else 44_100)
        assert found["media"]["channels"] == 2
        answers = asked(origin, f"/huge.{suffix}")
        assert all(seen.range is not None and seen.range[1] is not None for seen in answers)
        assert sum(seen.range[1] - seen.range[0] + 1 for seen in answers if seen.range) < 300_000 + moov
        assert len(answers) <= 4
        origin.close()


# --- What goes wrong


def said(done: subprocess.CompletedProcess[str], status: int = 1) -> str:
    assert done.returncode == status
    (line,) = done.stderr.splitlines()
    assert line.startswith("kithara: ")
    return line


@pytest.mark.parametrize(
    ("data", "seems"),
    [
        (b"a shopping list\nmilk\n" * 20, "text"),
        (bytes(100_000), "nothing but zeros"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "a PNG image"),
        (b"\xff\xd8\xff\xe0" + bytes(500), "a JPEG image"),
        (b"%PDF-1.7\n" + bytes(500), "a PDF document"),
        (b"", "empty"),
    ],
    ids=["text", "zeros", "png", "jpeg", "pdf", "empty"],
)
def test_what_is_no_media(origin: Origin, tmp_path: Path, data: bytes, seems: str) -> None:
    path = tmp_path / "thing.mp3"
    path.write_bytes(data)
    assert seems in said(probe(str(path)))
    url = origin.add("/thing", Resource(data=data, content_type="application/octet-stream"))
    done = probe(url)
    assert seems in said(done)
    assert "answered 206" in done.stdout or "answered 416" in done.stdout or "answered 200" in done.stdout


def test_a_web_page(origin: Origin) -> None:
    url = origin.add("/page", Resource(size=1000, always=Fault(html=True)))
    assert "HTML page" in said(probe(url))


def test_a_truncated_file_still_tells_what_it_can(recordings: Recordings, tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    path.write_bytes(recordings.path("flac").read_bytes()[:50_000])
    assert told(str(path))["media"]["sample_rate"] == 44_100


def test_a_directory_a_missing_file_a_missing_url(origin: Origin, tmp_path: Path) -> None:
    assert "is a directory" in said(probe(str(tmp_path)))
    assert "there is no such file" in said(probe(str(tmp_path / "none.mp3")))
    assert "404" in said(probe(origin.url("/none.mp3")))
    assert "not a" in said(probe("ftp://example.org/a.mp3")) or "http" in said(probe("ftp://example.org/a.mp3"))


@pytest.mark.parametrize(
    ("data", "seems"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40, "a PNG image"),
        (bytes(100_000), "nothing but zeros"),
        (b"<html><body>log in</body></html>" * 50, "a web page"),
        (b"\xff\xfb\x90\x00" + bytes(56), "a piece of 60 bytes, too short"),
        (b"", "is empty"),
    ],
    ids=["png", "zeros", "page", "tiny", "empty"],
)
def test_content_type_and_name_make_no_media(origin: Origin, data: bytes, seems: str) -> None:
    url = origin.add("/thing.mp3", Resource(data=data, content_type="audio/mpeg"))
    done = probe("--json", url)
    assert seems in said(done)
    assert json.loads(done.stdout)["media"] is None


def test_media_that_no_parser_understands_is_named_as_its_server_does(origin: Origin) -> None:
    url = origin.add("/odd.mp3", Resource(size=100_000, content_type="audio/mpeg"))
    done = probe(url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Mp3 in MpegAudio" in done.stdout


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("http://127.0.0.1:1/a.mp3?key=secret", "ConnectError"),
        ("ftp://host/a.mp3", "ValueError"),
        ("nothing.mp3", "CommandError"),
    ],
)
def test_failure_in_json(source: str, error: str) -> None:
    done = probe("--json", "--retries", "0", source)
    failed = json.loads(done.stdout)
    assert (failed["event"], failed["error"], failed["status"]) == ("failed", error, None)
    assert failed["message"] in said(done)
    assert "secret" not in done.stdout + done.stderr


def test_home_that_nobody_has() -> None:
    assert said(probe("~nobody-of-that-name/x")).startswith("kithara: ~nobody-of-that-name/x: there is no such file")


def tagged(recordings: Recordings, path: Path, title: str) -> Path:
    path.write_bytes(recordings.path("flac").read_bytes())
    tags = mutagen.File(path)
    tags["title"] = title
    tags.save()
    return path


def test_output_that_lacks_a_character(recordings: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    done = probe(str(tagged(recordings, tmp_path / "a.flac", "日本 song")))
    assert (done.returncode, done.stderr) == (0, "")
    assert "?? song" in done.stdout
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert said(probe("ünï.aac")).startswith("kithara: ?n?.aac: there is no such file")


def test_wide_characters_keep_their_column(recordings: Recordings, tmp_path: Path) -> None:
    title = "静かな夜の長い歌" * 12
    done = probe(str(tagged(recordings, tmp_path / "a.flac", title)), columns="60")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert max(map(cell_len, lines)) <= 60
    first = next(at for at, line in enumerate(lines) if line.startswith("title"))
    margin = lines[first].index("静")
    pieces = [lines[first]]
    pieces += [line for line in lines[first + 1 : first + 8] if line.startswith(" " * margin) and line[margin] in title]
    assert "".join(piece[margin:] for piece in pieces) == title
    assert all(len(piece) - margin == (60 - margin) // 2 for piece in pieces[:-1])


def test_wrong_usage() -> None:
    done = probe()
    assert done.returncode == 2
    assert done.stderr.startswith("usage: kithara probe")
    done = probe("")
    assert done.returncode == 2
    assert "the SOURCE is empty" in done.stderr
