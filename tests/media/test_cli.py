"""The command as its users see it: exit status, what is on which output, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kithara_actors.cli import main
from kithara_actors.command.explain import explain
from kithara_actors.command.progress import Meter
from kithara_actors.command.text import amount, duration
from kithara_actors.errors import ConnectError, RetryExhausted, StatusError
from kithara_actors.testing.origin import Fault, Origin, Resource

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "kithara_actors"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
SONG = Resource(size=300_000)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the command runs; the tests look at what it leaves there."""
    inside = tmp_path / "here"
    inside.mkdir()
    return inside


def run(folder: Path, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
        **{"stdout": subprocess.PIPE, **settings},
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- What goes well


def test_file_is_named_after_the_url(origin: Origin, folder: Path) -> None:
    done = run(folder, "get", origin.add("/album/01%20intro.mp3", SONG) + "?token=secret")
    assert (done.returncode, done.stdout) == (0, b"")
    assert (folder / "01%20intro.mp3").read_bytes() == SONG.read()
    assert names(folder) == ["01%20intro.mp3"]
    assert b"01%20intro.mp3 (MpegAudio Mp3): 300.0 kB in" in done.stderr


def test_existing_file_is_replaced_where_a_link_leads_to_it(origin: Origin, folder: Path) -> None:
    (folder / "real").write_text("old")
    (folder / "link").symlink_to("real")
    assert run(folder, "get", "-q", "-o", "link", origin.add("/a.mp3", SONG)).returncode == 0
    assert (folder / "link").is_symlink()
    assert (folder / "real").read_bytes() == SONG.read()


def test_standard_output_gets_the_bytes_alone(origin: Origin, folder: Path) -> None:
    done = run(folder, "get", "-o", "-", origin.add("/a.mp3", SONG))
    assert (done.returncode, done.stdout) == (0, SONG.read())
    assert names(folder) == []


def test_device_is_written_to_and_not_replaced(origin: Origin, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with (folder / "copy").open("wb") as copy:
        reader = subprocess.Popen(["cat", "pipe"], cwd=folder, stdout=copy)
        done = run(folder, "get", "-q", "-o", "pipe", origin.add("/a.mp3", SONG))
        assert reader.wait(30) == 0
    assert done.returncode == 0
    assert (folder / "copy").read_bytes() == SONG.read()
    assert (folder / "pipe").is_fifo()


def test_empty_file_is_fetched_as_empty(origin: Origin, folder: Path) -> None:
    assert run(folder, "get", origin.add("/empty.mp3", Resource(size=0))).returncode == 0
    assert (folder / "empty.mp3").read_bytes() == b""


def test_body_without_length(origin: Origin, folder: Path) -> None:
    resource = Resource(size=200_000, length=False)
    assert run(folder, "get", origin.add("/a.mp3", resource)).returncode == 0
    assert (folder / "a.mp3").read_bytes() == resource.read()


def test_headers_are_sent_and_not_shown(origin: Origin, folder: Path) -> None:
    url = origin.add("/a.mp3", SONG)
    done = run(folder, "get", "-H", "Authorization: Bearer s3cret", "--header", "X-Two:2", "--json", url)
    assert done.returncode == 0
    assert origin.requests[0].headers["authorization"] == "Bearer s3cret"
    assert origin.requests[0].headers["x-two"] == "2"
    assert b"s3cret" not in done.stdout + done.stderr


def test_json_lines(origin: Origin, folder: Path) -> None:
    url = origin.add("/a.mp3", Resource(size=300_000, rate=200_000))
    done = run(folder, "get", "--json", "-o", "b.mp3", url + "?sig=secret")
    assert (done.returncode, done.stderr) == (0, b"")
    *progress, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert progress
    assert all(line["event"] == "progress" and 0 < line["bytes"] <= line["total"] == 300_000 for line in progress)
    assert last["seconds"] > 0
    assert last["bytes_per_second"] > 0
    del last["seconds"], last["bytes_per_second"]
    assert last == {
        "event": "done",
        "url": url + "?sig=…",
        "path": str(folder / "b.mp3"),
        "bytes": 300_000,
        "codec": "Mp3",
        "container": "MpegAudio",
    }


def test_progress_is_plain_lines_without_a_terminal(origin: Origin, folder: Path) -> None:
    done = run(folder, "get", origin.add("/a.mp3", Resource(size=500_000, rate=250_000)))
    *progress, summary = done.stderr.decode().splitlines()
    assert progress
    assert all(" kB of 500.0 kB (" in line for line in progress)
    assert summary.startswith("a.mp3 ")
    assert b"\x1b" not in done.stderr


def test_quiet(origin: Origin, folder: Path) -> None:
    done = run(folder, "get", "--quiet", origin.add("/a.mp3", Resource(size=500_000, rate=400_000)))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# --- What goes wrong


def refused(done: subprocess.CompletedProcess[bytes], folder: Path, *said: str) -> None:
    """One line, with all of `said` in it, status 1, and nothing left."""
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("kithara: ")
    for text in said:
        assert text in line
    assert names(folder) == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(status=404), "404 Not Found; check the URL"),
        (Fault(status=401), "401 Unauthorized; if it needs credentials"),
        (Fault(status=503), "503 Service Unavailable"),
        (Fault(html=True), "HTML page instead of media"),
        (Fault(short_by=1000), "closed after"),
        (Fault(stall_after=1000), "nothing came from"),
        (Fault(raw=b"What?\r\n\r\n"), ""),
    ],
    ids=["404", "401", "503", "html", "short", "stall", "nonsense"],
)
def test_bad_answer(origin: Origin, folder: Path, fault: Fault, said: str) -> None:
    url = origin.add("/a.mp3", Resource(size=100_000, always=fault))
    # Of the others none is silent: they have the time that a busy machine takes.
    timeout = "0.3" if fault.stall_after else "10"
    done = run(folder, "get", "--retries", "0", "--timeout", timeout, url + "?key=secret")
    refused(done, folder, f"{url}?key=…: ", said)
    assert b"secret" not in done.stderr


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1/a.mp3", "Connection refused; check the host"),
        ("http://user:pw@127.0.0.1:1/a.mp3", "http://…@127.0.0.1:1/a.mp3: "),
        ("http://host.invalid/a.mp3", "cannot resolve host host.invalid"),
        ("ftp://example.org/a.mp3", "give an http:// or https:// URL"),
        ("example.org/a.mp3", "not a URL"),
        ("http:///a.mp3", "names no host"),
    ],
)
def test_bad_url(folder: Path, url: str, said: str) -> None:
    refused(run(folder, "get", "--retries", "0", url), folder, said)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("missing/a.mp3", "there is no directory"),
        (".", "it is a directory"),
        ("a.mp3/", "it is a directory"),
        ("n" * 300, "File name too long"),
        ("/dev/full", "No space left on device"),
        ("/proc/a.mp3", "/proc/a.mp3"),
    ],
    ids=["no directory", "directory", "slash", "long name", "full", "no file system for files"],
)
def test_bad_output(origin: Origin, folder: Path, output: str, said: str) -> None:
    refused(run(folder, "get", "-q", "-o", output, origin.add("/a.mp3", SONG)), folder, said)


def test_full_standard_output(origin: Origin, folder: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run(folder, "get", "-q", "-o", "-", origin.add("/a.mp3", SONG), stdout=full)
    refused(done, folder, "cannot write to the standard output: No space left on device")


def test_failure_in_json(origin: Origin, folder: Path) -> None:
    done = run(folder, "get", "--json", origin.url("/nothing.mp3"))
    refused(done, folder, "404")
    failed = json.loads(done.stdout)
    assert (failed["event"], failed["error"], failed["status"]) == ("failed", "StatusError", 404)


def test_failed_download_leaves_the_old_file(origin: Origin, folder: Path) -> None:
    (folder / "a.mp3").write_text("old")
    url = origin.add("/a.mp3", Resource(size=100_000, always=Fault(short_by=10)))
    assert run(folder, "get", "--retries", "0", url).returncode == 1
    assert names(folder) == ["a.mp3"]
    assert (folder / "a.mp3").read_text() == "old"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("play",),
        ("get",),
        ("get", "--retries", "-1", "http://127.0.0.1:1/a"),
        ("get", "--retries", "many", "http://127.0.0.1:1/a"),
        ("get", "--timeout", "0", "http://127.0.0.1:1/a"),
        ("get", "--timeout", "nan", "http://127.0.0.1:1/a"),
        ("get", "--workers", "0", "http://127.0.0.1:1/a"),
        ("get", "-H", "no colon", "http://127.0.0.1:1/a"),
        ("get", "-H", "A: 1", "-H", "a: 2", "http://127.0.0.1:1/a"),
        ("get", "-o", "", "http://127.0.0.1:1/a"),
        ("get", "--json", "-o", "-", "http://127.0.0.1:1/a"),
        ("get", "http://127.0.0.1:1/"),
        ("get", "http://127.0.0.1:1/a/.."),
        ("demo", "now"),
    ],
    ids=" ".join,
)
def test_wrong_usage(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: kithara")
    assert "error: " in err.splitlines()[-1]


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "examples:\n  kithara play https://" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("kithara ")


# --- How it is ended


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal_leaves_nothing(origin: Origin, folder: Path, number: signal.Signals, status: int) -> None:
    url = origin.add("/a.mp3", Resource(size=100_000_000, rate=500_000))
    with subprocess.Popen([*COMMAND, "get", "-q", url], cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE) as process:
        assert origin.wait_for(lambda seen: any(each.sent > 100_000 for each in seen), 30)
        assert names(folder) == ["a.mp3.part"]
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (status, b"")
    assert names(folder) == []


@pytest.mark.parametrize("arguments", [("-o", "-"), ("--json",)])
def test_closed_pipe_ends_it_quietly(origin: Origin, folder: Path, arguments: tuple[str, ...]) -> None:
    url = origin.add("/a.mp3", Resource(size=100_000_000, rate=5_000_000))
    with subprocess.Popen(
        [*COMMAND, "get", "-q", *arguments, url],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(50)
        process.stdout.close()
        err = process.stderr.read()
        process.wait(30)
    assert (process.returncode, err) == (141, b"")
    assert names(folder) == []


# --- The parts


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (999.9, "1.0 kB"), (1_441_376, "1.4 MB"), (5e15, "5000.0 TB")]
)
def test_amount(count: float, text: str) -> None:
    assert amount(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (185, "3:05"), (3600, "1:00:00")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_meter_forgets_what_is_long_ago() -> None:
    meter = Meter()
    assert meter.left(100) is None
    meter.add(0.0, 0)
    assert meter.speed is None
    meter.add(1.0, 1000)
    assert meter.speed == 1000
    assert meter.left(3000) == 2
    for second in range(2, 12):
        meter.add(float(second), 1000)
    assert meter.speed == 0
    assert meter.left(3000) is None
    assert meter.left(None) is None


def test_explanation_has_a_remedy_and_no_secret() -> None:
    url = "https://user:pw@example.org/a?sig=abc"
    for error in (
        StatusError("the server answered 403 Forbidden", status=403),
        ConnectError("cannot resolve host example.org", retryable=False),
        RetryExhausted("gave up after 3 attempts", cause="ConnectError"),
    ):
        line = explain(error, url)
        assert line.startswith(f"https://…@example.org/a?sig=…: {error}; ")
        assert "pw" not in line
        assert "abc" not in line
    assert explain(KeyError("x")).startswith("internal error: KeyError")
