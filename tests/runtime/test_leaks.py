"""Each kind of leak is named, what is ended is not, and what others made is not."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pool_kit import until

from actors.testing import leaks

SHARED_MEMORY = Path("/dev/shm")
SOON = 0.05


@pytest.fixture
def before() -> leaks.Snapshot:
    return leaks.snapshot()


@contextmanager
def blocked_thread(name: str, *, daemon: bool = False) -> Iterator[threading.Thread]:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name=name, daemon=daemon)
    thread.start()
    try:
        yield thread
    finally:
        release.set()
        thread.join()


@contextmanager
def orphan(script: str, *, marked: bool) -> Iterator[int]:
    """A shell whose parent is gone; it has run `script` and stopped itself."""
    run = f"exec sh -c {shlex.quote(script + '; kill -STOP $$')}"
    forget = "" if marked else f"unset {leaks.MARK}; "
    outer = subprocess.run(
        ["sh", "-c", f"{forget}({run}) <&- >&- 2>&- & echo $!"], capture_output=True, text=True, check=True
    )
    pid = int(outer.stdout)
    try:
        wait_for_state(pid, "T")
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        wait_for_state(pid, "Z")


def wait_for_state(pid: int, letter: str) -> None:
    """Returns once the process is in the state, or gone."""
    for _ in range(1000):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return
        if stat.rpartition(")")[2].split()[0] == letter:
            return
        threading.Event().wait(0.005)
    raise TimeoutError(f"process {pid} never came to {letter}")


def test_clean_run_is_clean(before: leaks.Snapshot, tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"x")
    with blocked_thread("ended"), tempfile.TemporaryDirectory(), tempfile.TemporaryFile():
        subprocess.run(["true"], check=True)
        left, right = socket.socketpair()
        left.close()
        right.close()
    assert leaks.compare(before) == []


def test_thread_is_named(before: leaks.Snapshot) -> None:
    with blocked_thread("forgotten"), blocked_thread("behind", daemon=True):
        assert set(leaks.compare(before, SOON)) == {"thread 'forgotten'", "thread 'behind' (daemon)"}
    assert leaks.compare(before) == []


def test_descriptor_is_named_with_its_target(before: leaks.Snapshot, tmp_path: Path) -> None:
    number = os.open(tmp_path / "open", os.O_CREAT | os.O_RDWR)
    try:
        assert leaks.compare(before, SOON) == [f"descriptor {number} -> {tmp_path}/open"]
    finally:
        os.close(number)
    assert leaks.compare(before) == []


def test_memfd_is_named(before: leaks.Snapshot) -> None:
    number = os.memfd_create("media")
    try:
        assert leaks.compare(before, SOON) == [f"descriptor {number} -> /memfd:media (deleted)"]
    finally:
        os.close(number)


def test_descriptor_number_used_again_is_named() -> None:
    number = os.memfd_create("first")
    spare = os.memfd_create("second")
    try:
        before = leaks.snapshot()
        os.dup2(spare, number)
        assert leaks.compare(before, SOON) == [f"descriptor {number} -> /memfd:second (deleted)"]
    finally:
        os.close(number)
        os.close(spare)


def test_renamed_file_is_the_same_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "part").open("wb"):
        before = leaks.snapshot()
        (tmp_path / "part").rename(tmp_path / "whole")
        (tmp_path / "whole").unlink()
        assert leaks.compare(before, SOON) == []


def test_child_process_is_named_with_its_command(before: leaks.Snapshot) -> None:
    child = subprocess.Popen(["sleep", "1234"])
    try:
        assert leaks.compare(before, SOON) == [f"process {child.pid}: sleep 1234"]
    finally:
        child.kill()
        child.wait()
    assert leaks.compare(before) == []


def test_grandchild_is_named(before: leaks.Snapshot) -> None:
    child = subprocess.Popen(["sh", "-c", "sleep 4321 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        # Until then it is another shell.
        assert until(lambda: Path(f"/proc/{grandchild}/cmdline").read_bytes() == b"sleep\x004321\x00")
        assert f"process {grandchild}: sleep 4321" in leaks.compare(before, SOON)
    finally:
        os.kill(grandchild, signal.SIGKILL)
        child.communicate()
    assert leaks.compare(before) == []


def test_zombie_is_named(before: leaks.Snapshot) -> None:
    child = subprocess.Popen(["true"])
    try:
        wait_for_state(child.pid, "Z")
        assert leaks.compare(before, SOON) == [f"process {child.pid}: [true] (zombie)"]
    finally:
        child.wait()
    assert leaks.compare(before) == []


def test_orphan_is_named(before: leaks.Snapshot) -> None:
    with orphan("true", marked=True) as pid:
        assert [line.partition(":")[0] for line in leaks.compare(before, SOON)] == [f"process {pid}"]
    assert leaks.compare(before) == []


def test_foreign_process_is_not(before: leaks.Snapshot) -> None:
    with orphan("true", marked=False):
        assert leaks.compare(before, SOON) == []


def test_shared_memory_name_is_named(before: leaks.Snapshot) -> None:
    path = SHARED_MEMORY / f"kithara-leak-{uuid.uuid4().hex}"
    # Held open, the name is foreign to other runs on this machine, and no leak of theirs.
    with path.open("wb") as file:
        try:
            assert leaks.compare(before, SOON) == [f"descriptor {file.fileno()} -> {path}", str(path)]
        finally:
            path.unlink()
    assert leaks.compare(before) == []


def test_shared_memory_name_held_by_a_foreign_process_is_not(before: leaks.Snapshot) -> None:
    path = SHARED_MEMORY / f"kithara-foreign-{uuid.uuid4().hex}"
    with orphan(f"exec 9>{path}", marked=False):
        try:
            assert path.exists()
            assert leaks.compare(before, SOON) == []
        finally:
            path.unlink()


def test_temporary_file_is_named(before: leaks.Snapshot) -> None:
    number, path = tempfile.mkstemp()
    os.close(number)
    try:
        assert leaks.compare(before, SOON) == [path]
    finally:
        Path(path).unlink()
    assert leaks.compare(before) == []


def test_all_are_named_at_once(before: leaks.Snapshot) -> None:
    with blocked_thread("one of many"), tempfile.NamedTemporaryFile() as file:
        expected = ["thread 'one of many'", f"descriptor {file.fileno()} -> {file.name}", file.name]
        assert leaks.compare(before, SOON) == expected


def test_what_ends_in_time_is_no_leak(before: leaks.Snapshot) -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, args=(0.1,), name="ending")
    thread.start()
    assert leaks.compare(before) == []
    thread.join()


def test_unreachable_cycle_is_no_leak(before: leaks.Snapshot, tmp_path: Path) -> None:
    class Holder:
        def __init__(self) -> None:
            self.itself = self
            self.number = os.open(tmp_path, os.O_RDONLY)

        def __del__(self) -> None:
            os.close(self.number)

    Holder()
    assert leaks.compare(before, 0) == []


def test_nested_mark_keeps_the_outer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(leaks.MARK, raising=False)
    leaks.mark()
    outer = os.environ[leaks.MARK]
    leaks.mark()
    assert os.environ[leaks.MARK].startswith(f"{outer}:")


def test_a_process_that_shows_no_environment_for_a_moment_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the middle of its exec, when its parent has ended already."""
    read = leaks._read
    looks = 0

    def blank_at_first(path: Path) -> bytes:
        nonlocal looks
        if path.name != "environ":
            return read(path)
        looks += 1
        return b"" if looks < 4 else read(path)

    before = leaks.snapshot()
    with subprocess.Popen(["sh", "-c", "sleep 1000 & echo $!"], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
        shell.wait()
        monkeypatch.setattr(leaks, "_read", blank_at_first)
        left = leaks.compare(before, 0.0, ignore=lambda line: line.startswith("descriptor "))
        monkeypatch.undo()
        os.kill(pid, signal.SIGKILL)
    assert [line for line in left if line.startswith(f"process {pid}")]
