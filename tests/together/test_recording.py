"""A running system on record: what it decides is decided again, whatever happened to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_kit import ROOT, run, running, until
from recorder_kit import frames, replayed
from stream_kit import HANG, watching

from actors.testing.sabotage import sabotage
from actors.testing.saboteur import Saboteur, Trap
from kithara_actors import ActorSystem, FetchCommand, RetryExhausted
from kithara_actors.events import ActorRestarted
from kithara_actors.messages.frames import Event
from kithara_actors.testing.origin import Fault, Origin, Resource, body
from kithara_actors.traces import read_trace

SIZE = 400_000


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as made:
        yield made


def test_what_a_system_decides_is_decided_again(origin: Origin, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    song = origin.add("/song", Resource(SIZE, seed=1, script=[Fault(status=503), Fault(cut_after=50_000)]))
    gone = origin.add("/gone", Resource(SIZE, always=Fault(status=503)))
    with ActorSystem.start(record=path, workers=1, retry_base=0.01, max_retries=2) as system:
        with system.open(song) as stream:
            stream.seek(300_000)
            assert stream.read(1000) == body(1, 300_000, 301_000)
            stream.seek(0)
            assert stream.read() == body(1, 0, SIZE)
        with system.open(gone) as stream, pytest.raises(RetryExhausted):
            stream.read()
        assert system.execute(FetchCommand.get(song), HANG).body == body(1, 0, SIZE)
        # Readable while it is written.
        assert not read_trace(path).damage
    replay = replayed(path)
    assert not replay.passed
    assert {"root", "sources", "downloader", "source-1", "source-2"} <= set(replay.replayed)
    assert all(count > 0 for count in replay.replayed.values())


def test_an_actor_that_begins_anew_is_recorded_anew(origin: Origin, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    saboteur = Saboteur()
    with sabotage(saboteur):
        system = ActorSystem.start(record=path, workers=1)
    with system, watching(system) as watch:
        assert system.execute(FetchCommand.get(origin.add("/first", Resource(100))), HANG).status == 200
        for name in ("downloader", "registry", "source-3"):
            saboteur.set(Trap(name))
            with system.open(origin.add(f"/{name}", Resource(SIZE, seed=2))) as stream:
                assert stream.read() == body(2, 0, SIZE)
                watch.first(ActorRestarted, lambda event, name=name: event.name == name)  # type: ignore[misc]
    replay = replayed(path)
    assert not replay.passed
    incarnations = {(frame.actor, frame.incarnation) for frame in frames(path) if isinstance(frame, Event)}
    assert {("downloader", 1), ("downloader", 2)} <= incarnations


def test_files_that_cannot_be_recorded_to_are_refused_at_the_start(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_text("keep me")
    with pytest.raises(ValueError, match=f"^record: {notes} exists and is not a trace: name another file$"):
        ActorSystem.start(record=notes)
    with pytest.raises(FileNotFoundError) as caught:
        ActorSystem.start(record=tmp_path / "none" / "trace")
    assert caught.value.filename == str(tmp_path / "none" / "trace")
    assert notes.read_text() == "keep me"


def test_two_systems_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    with ActorSystem.start(record=path, workers=1):
        with pytest.raises(ValueError, match=f"^record: another system records to {path}: name another file$"):
            ActorSystem.start(record=path, workers=1)
    assert replayed(path).replayed["root"]
    with ActorSystem.start(record=path, workers=1):
        pass


def test_without_the_setting_nothing_stands_between() -> None:
    code = """
import sys
from kithara_actors import ActorSystem
with ActorSystem.start(workers=1) as system:
    print(system._assembly.recorded("registry", system) is system, "kithara_actors.recorder" in sys.modules)
"""
    assert run(code) == (0, "True False\n", "")


HOST = """
import os, sys
from kithara_actors import ActorSystem
url, path = sys.argv[1:]
system = ActorSystem.start(workers=1, record=path)
def load():
    number = 0
    while True:
        with system.open(f"{url}?{number}") as stream:
            stream.seek(50_000)
            stream.read(1000)
            stream.seek(0)
            stream.read()
        number += 1
        yield number
"""
KILLED = """
for number in load():
    if number == 3:
        print("ready")
"""
FORKS = """
next(load())
child = os.fork()
if child == 0:
    names = [f"/proc/self/fd/{number}" for number in range(256)]
    os._exit(path in [os.readlink(name) for name in names if os.path.islink(name)])
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
next(load())
print(system.stop())
"""


def test_record_of_a_host_that_was_killed(origin: Origin, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    url = origin.add("/song", Resource(100_000))
    with running(HOST + KILLED, url, str(path)) as host:
        assert host.line() == "ready"
        host.kill()
    trace = read_trace(path)
    # The last frame may be torn.
    assert len(trace.damage) <= 1
    if not trace.damage:
        assert replayed(path).replayed["downloader"] > 5
    with ActorSystem.start(record=path, workers=1):
        pass  # the lock went with the host


def test_child_of_a_fork_leaves_the_record_alone(origin: Origin, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    url = origin.add("/song", Resource(100_000))
    assert run(HOST + FORKS, url, str(path)) == (0, "0\n[]\n", "")
    assert not replayed(path).passed


def test_command_records_by_its_settings(origin: Origin, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    url = origin.add("/song.mp3", Resource(SIZE, content_type="audio/mpeg"))
    command = [sys.executable, "-W", "error", "-m", "kithara_actors"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KITHARA_RECORD": str(path)}

    def kithara(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG * 2,
        )

    done = kithara("get", "-q", "-o", "song.mp3", url + "?key=s3cret")
    assert (done.returncode, done.stderr) == (0, "")
    assert b"s3cret" not in path.read_bytes()
    done = kithara("trace", str(path), "--replay")
    assert (done.returncode, done.stderr) == (0, "")
    assert "decisions as recorded" in done.stdout
    # Who looks at what is wrong does not write over it.
    before = path.read_bytes()
    done = kithara("doctor")
    assert "working" in done.stdout or "workers" in done.stdout
    assert path.read_bytes() == before


@pytest.mark.root
def test_full_disk_ends_the_record_and_not_the_system(
    origin: Origin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=True)
    try:
        url = origin.add("/song", Resource(100_000, seed=4))
        with ActorSystem.start(record=small / "trace", workers=1) as system:
            number = 0

            def ended() -> list[str]:
                return [line.getMessage() for line in caplog.records if "the recording to" in line.getMessage()]

            def more() -> bool:
                nonlocal number
                number += 1
                with system.open(f"{url}?{number}") as stream:
                    assert stream.read() == body(4, 0, 100_000)
                return bool(ended())

            assert until(more)
            assert ended() == [f"the recording to {small / 'trace'} has ended: No space left on device"]
            more()
        assert replayed_upto(small / "trace")
    finally:
        subprocess.run(["umount", str(small)], check=True)


def replayed_upto(path: Path) -> int:
    """Frames before the tear that a full disk has left."""
    return sum(len(lap.frames) for lap in read_trace(path).laps)
