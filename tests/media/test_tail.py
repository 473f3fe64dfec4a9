"""`kithara get --events FILE` writes what happens, and `kithara tail FILE` says it in words."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorder_kit import recorder

from kithara_actors.cli import main
from kithara_actors.command.tail import _Reading
from kithara_actors.events import (
    BodyResumed,
    CacheComplete,
    Committed,
    DeadLetter,
    Envelope,
    Event,
    FirstByte,
    Lagged,
    PriorityChanged,
    ReadProgress,
    RequestCancelled,
    RequestCompleted,
    RequestEnqueued,
    Scope,
    SystemStopping,
    WorkerLost,
    from_json,
    to_json,
)
from kithara_actors.testing.origin import Fault, Origin, Resource
from kithara_actors.values import CancelReason, Priority, RequestId

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "kithara_actors"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TZ": "UTC"}
HANG = 60.0
ONE, TWO = RequestId(1), RequestId(2)
STORY: list[tuple[Event, Scope]] = [
    (RequestEnqueued(ONE, "http://one/a", "GET", Priority.HIGH, 0, 500), Scope(1)),
    (RequestEnqueued(TWO, "http://one/b", "HEAD", Priority.HIGH, 0, None), Scope()),
    (FirstByte(ONE, 0.054, 206, True), Scope(1)),
    (PriorityChanged(Priority.LOW, (ONE,)), Scope(1)),
    (ReadProgress(100, 500), Scope(1, 4)),
    (WorkerLost(2, 77, "killed by SIGKILL", (ONE, TWO)), Scope()),
    (RequestCancelled(TWO, 0, CancelReason.PEER_CANCEL), Scope()),
    (RequestCompleted(ONE, 500, 1.0, 4000), Scope(1)),
    (SystemStopping(), Scope()),
]
LINES = [
    to_json(Envelope(event, scope, seq, 1_700_000_000.25 + seq)) for seq, (event, scope) in enumerate(STORY, start=1)
]


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f"{line}\n" for line in LINES))
    return path


class Tail:
    """What one run says."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> None:
        capsys.readouterr()
        self.status = main(["tail", *map(str, arguments)])
        shown = capsys.readouterr()
        self.lines = shown.out.splitlines()
        self.said = [line[14:].strip() for line in self.lines]
        self.errors = shown.err.splitlines()


def test_a_file_of_events_in_words(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tail = Tail(capsys, log)
    assert (tail.status, tail.errors) == (0, [])
    assert tail.said == [
        "request 1   asked for: bytes 0 to 500 of http://one/a, for file 1",
        "request 2   asked for: the head of http://one/b",
        "request 1   answered 206 after 54 ms",
        "queue       priority low for request 1",
        "stream 4    has read to 100 of 500",
        "worker 2    lost: killed by SIGKILL; had request 1, 2",
        "request 2   cancelled after 0 B: peer_cancel",
        "request 1   complete: 500 B in 1.0 s",
        "system      stops",
    ]
    assert [line[6:12] for line in tail.lines[:2]] == ["21.250", "22.250"]


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        (["--request", "2"], [1, 5, 6]),
        (["--request", "1", "--kind", "priorityCHANGED"], [3]),
        (["--kind", "FirstByte", "--kind", "SystemStopping"], [2, 8]),
        (["--request", "1", "--request", "2", "--kind", "WorkerLost"], [5]),
        (["--request", "99"], []),
    ],
)
def test_filters(log: Path, capsys: pytest.CaptureFixture[str], filters: list[str], shown: list[int]) -> None:
    whole = Tail(capsys, log).lines
    tail = Tail(capsys, *filters, log)
    assert (tail.status, tail.errors) == (0, [])
    assert tail.lines == [whole[at] for at in shown]


def test_files_have_their_numbers_and_times_a_unit_that_fits(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story: list[tuple[Event, Scope]] = [
        (CacheComplete(5000), Scope(3)),
        (Committed("key", 5000), Scope(4)),
        (RequestCompleted(ONE, 5000, 0.0244, 4000), Scope(3)),
        (BodyResumed(ONE, 1), Scope(3)),
        (BodyResumed(ONE, 2), Scope(3)),
    ]
    log.write_text("".join(f"{to_json(Envelope(event, scope, 1, 1.0))}\n" for event, scope in story))
    assert Tail(capsys, log).said == [
        "file 3      complete: 5,000 bytes",
        "store       file 4: committed: 5,000 bytes",
        "request 1   complete: 5.0 kB in 24 ms",
        "request 1   goes on with the body that stalled",
        "request 1   goes on with the body that stalled, resume 2",
    ]


def test_a_gap_is_shown_whatever_was_asked_for(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write_text(to_json(Envelope(Lagged(7), Scope(), 1, 1.0)))
    assert Tail(capsys, "--request", "5", log).said == ["events      7 lost"]


def test_lines_that_are_none_are_told_and_passed_by(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newer = json.dumps({**json.loads(LINES[2]), "event": "Sneezed"})
    log.write_text(f"{LINES[0]}\n\x1b[31mgarbage\n\n{newer}\n{LINES[2]}\n{LINES[7][:40]}")
    tail = Tail(capsys, log)
    assert tail.status == 1
    assert [line.split()[0] for line in tail.said] == ["request", "request"]
    assert [error.partition(":")[2].partition(":")[0] for error in tail.errors] == [
        f" {log}, line 2",
        f" {log}, line 3",
        f" {log}, line 4",
        f" {log}, line 6",
        f" {log}",
    ]
    assert "unknown event 'Sneezed': it may be of a newer version" in tail.errors[2]
    assert tail.errors[3].endswith("(the last line, cut short)")
    assert tail.errors[4].endswith("4 of 6 lines are no events that this version can read")


def test_much_garbage_is_told_in_few_lines(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write_bytes(b"\x00\xff\n" * 1000 + b"x" * 3_000_000 + b"\n" + LINES[0].encode() + b"\n")
    tail = Tail(capsys, log)
    assert tail.status == 1
    assert len(tail.lines) == 1
    assert len(tail.errors) == 6
    assert "1001 of 1002 lines" in tail.errors[-1]


def test_a_line_without_end_that_can_be_read_is_shown(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write_text(LINES[2])
    assert (Tail(capsys, log).status, len(Tail(capsys, log).lines)) == (0, 1)


def test_text_of_servers_does_nothing_to_a_terminal(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write_text(to_json(Envelope(DeadLetter("\x1b]0;x\x07", "a\nb\x9b2J"), Scope(), 1, 1e300)))
    tail = Tail(capsys, log)
    assert tail.lines == ["??:??:??.???  ]0;x        dead letter: a b 2J"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("empty", "is empty: events are written there by kithara get --events FILE"),
        ("missing", "No such file or directory; check the path"),
        ("folder", "Is a directory; name a file"),
        ("record", "is a record, and no file of events: see kithara trace --help"),
    ],
)
def test_nothing_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, why: str) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    recorder(tmp_path / "record").close()
    tail = Tail(capsys, tmp_path / name)
    assert (tail.status, tail.lines) == (1, [])
    (line,) = tail.errors
    assert name in line
    assert line.endswith(why)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--kind", "Request", "LOG"], "no event is named 'Request'; there is RequestEnqueued"),
        (["--kind", "Sneezed", "LOG"], "no event is named 'Sneezed'; there are ActorRestarted"),
        (["--request", "one", "LOG"], "must be a whole number of at least 0, not 'one'"),
        (["-f", "-"], "-f is for files"),
        ([], "required: FILE"),
    ],
)
def test_wrong_usage(log: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str) -> None:
    tail = Tail(capsys, *(str(log) if each == "LOG" else each for each in arguments))
    assert tail.status == 2
    assert why in " ".join(" ".join(tail.errors).split())


def test_the_standard_input(log: Path) -> None:
    with log.open("rb") as file:
        done = subprocess.run(
            [*COMMAND, "tail", "-"], stdin=file, env=ENVIRONMENT, capture_output=True, timeout=HANG, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == len(LINES)
    assert done.stdout.startswith(b"22:13:21.250  request 1")


def test_a_file_is_followed_as_it_grows_and_begins_anew(log: Path) -> None:
    log.write_text(LINES[0] + "\n" + LINES[2][:30])
    tail = subprocess.Popen(
        [*COMMAND, "tail", "-f", str(log)],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert tail.stdout is not None
        assert b"asked for: bytes 0 to 500" in tail.stdout.readline()
        with log.open("a") as file:
            file.write(LINES[2][30:] + "\n")
        assert b"answered 206" in tail.stdout.readline()
        log.write_text(LINES[8] + "\n")
        assert b"system      stops" in tail.stdout.readline()
        tail.send_signal(signal.SIGINT)
        out, errors = tail.communicate(timeout=HANG)
        assert (tail.returncode, out, errors) == (130, b"", b"")
    finally:
        tail.kill()
        tail.communicate()


@given(st.lists(st.sampled_from([*LINES[:3], "", "x", "y" * 70_000]), max_size=8), st.booleans())
def test_every_line_is_read_once(lines: list[str], end: bool) -> None:
    data = "\n".join(lines) + ("\n" if end and lines else "")
    expected = data.split("\n")
    if not expected[-1]:
        del expected[-1]
    found = list(_Reading("x", io.BytesIO(data.encode()), follow=False)._read())
    assert [line.decode() for line, _ in found] == expected
    assert all(whole for _, whole in found[:-1])


# --- Writing them


def get(folder: Path, *arguments: str, **settings: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, "get", *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        timeout=HANG,
        check=False,
        **{"capture_output": True, **settings},  # type: ignore[call-overload]
    )


def named(data: bytes) -> list[str]:
    return [type(from_json(line).event).__name__ for line in data.splitlines()]


def test_get_writes_its_events(origin: Origin, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = origin.add("/a.mp3", Resource(100_000, script=[Fault(status=503)])) + "?token=s3cret"
    (tmp_path / "log").write_text("of a run before\n")
    done = get(tmp_path, "-q", "--events", "log", "-H", "X-Key: s3cret", url)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    data = (tmp_path / "log").read_bytes()
    names = named(data)
    # The workers start beside it and may be first; of requests and what follows from them, this one is.
    assert next(name for name in names if not name.startswith("Worker")) == "RequestEnqueued"
    assert names[-1] == "SystemStopping"
    assert {"RequestRetrying", "FirstByte", "RequestCompleted", "Committed", "CacheComplete"} <= set(names)
    assert b"s3cret" not in data
    assert Tail(capsys, tmp_path / "log").status == 0


def test_a_new_log_is_its_owners_alone_and_stays_when_the_download_fails(origin: Origin, tmp_path: Path) -> None:
    done = get(tmp_path, "--events", "log", origin.add("/a.mp3", Resource(10, always=Fault(status=404))))
    assert done.returncode == 1
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert "RequestFailed" in named((tmp_path / "log").read_bytes())
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_events_on_the_standard_output(origin: Origin, tmp_path: Path) -> None:
    done = get(tmp_path, "-q", "--events", "-", origin.add("/a.mp3", Resource(1000)))
    assert (done.returncode, done.stderr) == (0, b"")
    assert named(done.stdout)[-1] == "SystemStopping"


def test_a_full_disk_ends_the_log_and_not_the_download(origin: Origin, tmp_path: Path) -> None:
    done = get(tmp_path, "-q", "--events", "/dev/full", origin.add("/a.mp3", Resource(1000)))
    assert done.returncode == 0
    assert (tmp_path / "a.mp3").stat().st_size == 1000
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("kithara: no more events are written to /dev/full: No space left on device; make room")


def test_a_reader_of_events_who_goes_ends_nothing_else(origin: Origin, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        url = origin.add("/a.mp3", Resource(1000))
        done = get(tmp_path, "-q", "--events", "-", url, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert done.returncode == 0
    assert done.stderr.decode().count("no more events are written to the standard output: Broken pipe") == 1
    assert (tmp_path / "a.mp3").stat().st_size == 1000


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["--events", "-", "--json"], 2, "share the standard output"),
        (["--events", "-", "-o", "-"], 2, "share the standard output"),
        (["--events", "a.mp3"], 2, "--events and -o name the same file"),
        (["--events", "a.mp3.part"], 2, "--events and -o name the same file"),
        (["--events", ""], 2, "the FILE of --events is empty"),
        (["--events", "no/log"], 1, "cannot write the events to no/log: No such file or directory; check the path"),
        (["--events", "."], 1, "cannot write the events to .: Is a directory; name a file"),
    ],
)
def test_events_that_can_go_nowhere(
    origin: Origin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    why: str,
) -> None:
    """Found out before anything is asked for."""
    monkeypatch.chdir(tmp_path)
    assert main(["get", *arguments, origin.add("/a.mp3", Resource(1000))]) == status
    assert why in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert origin.requests == []
