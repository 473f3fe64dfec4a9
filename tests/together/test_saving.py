"""Two downloads never write one file: not of one path, and not of one asset in a shared cache directory."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from kithara_actors import ActorSystem, StreamError
from kithara_actors.testing.origin import Fault, Origin, Resource, body

SIZE = 300_000
HANG = 30.0


def test_a_second_save_to_the_same_path_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with Origin() as origin, ActorSystem.start(workers=1) as one, ActorSystem.start(workers=1) as other:
        gate = threading.Event()
        script = [Fault(cut_after=1_000), Fault(hold=gate)]
        first = origin.add("/first.mp3", Resource(SIZE, seed=1, script=script))
        second = origin.add("/second.mp3", Resource(SIZE, seed=2))
        with one.save(first, path) as kept:
            assert kept.read1(1) == body(1, 0, 1)
            for system in (one, other):
                with system.save(second, path) as refused:
                    with pytest.raises(StreamError, match=r"another download is writing it \(.*song\.mp3\.part\)"):
                        refused.read(1)
            gate.set()
            assert kept.wait_complete(HANG)
        assert path.read_bytes() == body(1, 0, SIZE)
        with other.save(second, path) as later:
            assert later.wait_complete(HANG)
        assert path.read_bytes() == body(2, 0, SIZE)
    assert sorted(tmp_path.iterdir()) == [path]


def test_what_a_dead_download_left_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    (tmp_path / "song.mp3.part").write_bytes(b"left by somebody who was killed" * 20_000)
    with Origin() as origin, ActorSystem.start(workers=1) as system:
        with system.save(origin.add("/song.mp3", Resource(SIZE)), path) as stream:
            assert stream.wait_complete(HANG)
    assert path.read_bytes() == body(0, 0, SIZE)
    assert sorted(tmp_path.iterdir()) == [path]


def test_two_systems_on_one_cache_directory_do_not_write_one_file(tmp_path: Path) -> None:
    with Origin() as origin:
        url = origin.add("/song.mp3", Resource(SIZE, rate=600_000))
        with ActorSystem.start(workers=1, cache_dir=tmp_path) as one:
            with ActorSystem.start(workers=1, cache_dir=tmp_path) as other:
                with one.open(url) as first, other.open(url) as second:
                    assert first.read(100) == second.read(100) == body(0, 0, 100)
                    assert first.wait_complete(HANG)
                    assert second.wait_complete(HANG)
                    for stream in (first, second):
                        assert stream.path is not None
                        assert stream.path.read_bytes() == body(0, 0, SIZE)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("mode", ["memory", "disk"])
def test_a_closed_download_leaves_no_file(tmp_path: Path, mode: str) -> None:
    cache = tmp_path if mode == "disk" else None
    with Origin() as origin, ActorSystem.start(workers=1, cache_dir=cache) as system:
        with system.open(origin.add("/song.mp3", Resource(SIZE, rate=50_000))) as stream:
            assert stream.read(10) == body(0, 0, 10)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_who_may_read_a_file_is_not_changed_by_replacing_it(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with Origin() as origin, ActorSystem.start(workers=1) as system:
        with system.save(origin.add("/song.mp3", Resource(SIZE)), path) as stream:
            assert stream.wait_complete(HANG)
    assert path.read_bytes() == body(0, 0, SIZE)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"d\xe9")
    folder.mkdir()
    path = folder / os.fsdecode(b"g\xe9.mp3")
    with Origin() as origin, ActorSystem.start(workers=1) as system:
        with system.save(origin.add("/song.mp3", Resource(SIZE)), path) as stream:
            assert stream.wait_complete(HANG)
        with system.open(path) as stream:
            assert stream.read() == body(0, 0, SIZE)
