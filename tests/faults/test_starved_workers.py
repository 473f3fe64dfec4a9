"""F22 and F23: no room, no descriptors, no processes, no threads."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from host_kit import run, until
from pool_handlers import said
from pool_kit import HANG, descriptors, pool_of
from worker_hosts_kit import ran

from actors.actor import pool_keeper
from actors.actor.calls import WorkerCalls
from actors.actor.pool import PoolSettings, WorkerPool
from actors.actor.process import WorkerProcess
from actors.clock import monotonic
from actors.errors import WorkerStartError
from actors.logic.restarts import RESOURCE_DELAY
from kithara_actors import ActorSystem
from kithara_actors.errors import StorageFull
from kithara_actors.testing.origin import Origin, Resource, body

MIB = 1024 * 1024


@pytest.fixture
def base() -> Iterator[str]:
    with Origin() as origin:
        origin.add("/small", Resource(MIB, seed=1))
        origin.add("/large", Resource(16 * MIB, seed=2))
        yield origin.base


# --- F22

READ = """
import os, sys, zlib
from kithara_actors import ActorSystem
from kithara_actors.errors import StorageFull
from kithara_actors.testing.origin import body
base, cache = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
MIB = 1024 * 1024
"""


def test_f22_file_beyond_the_memory_limit_ends_alone(base: str) -> None:
    with ActorSystem.start(workers=1, memory_limit=2 * MIB) as system:
        before = system.workers()
        with system.open(base + "/large") as large, system.open(base + "/small") as small:
            with pytest.raises(StorageFull):
                large.read()
            assert small.read() == body(1, 0, MIB)
            # What had landed is still served.
            assert large.read_at(0, MIB) == body(2, 0, MIB)
        assert system.workers() == before


def test_f22_limit_on_the_size_of_files_is_storage_full(base: str) -> None:
    """It holds for memfds too, and its signal would end a process that does not ignore it."""
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MIB, 4 * MIB))
with ActorSystem.start(workers=1) as system:
    before = system.workers()
    with system.open(base + "/large") as stream:
        try:
            stream.read()
        except StorageFull:
            print("full")
        print(stream.read_at(0, MIB) == body(2, 0, MIB))
    with system.open(base + "/small") as stream:
        print(stream.read() == body(1, 0, MIB), system.workers() == before)
"""
    assert run(READ + code, base) == (0, "full\nTrue\nTrue True\n", "")


def mounted(code: str, base: str, folder: Path) -> tuple[int, str, str]:
    """Run the code where `/dev/shm` is full and `folder` has room for 4 MiB, in a mount namespace of its own."""
    script = folder.parent / "program.py"
    script.write_text(READ + code)
    shell = folder.parent / "shell"
    shell.write_text(
        f"""#!/bin/sh
set -e
mount -t tmpfs -o size=4m tmpfs /dev/shm
dd if=/dev/zero of=/dev/shm/full bs=1M count=5 2>&- || true
mount -t tmpfs -o size=4m tmpfs {folder}
exec {sys.executable} "$@"
"""
    )
    shell.chmod(0o755)
    python = folder.parent / "python"
    python.write_text(f'#!/bin/sh\nexec unshare --mount {shell} "$@"\n')
    python.chmod(0o755)
    return run(script, base, str(folder), python=str(python))


@pytest.mark.root
def test_f22_full_shared_memory_concerns_nobody(base: str, tmp_path: Path) -> None:
    code = """
with ActorSystem.start(workers=1) as system, system.open(base + "/large") as stream:
    print(os.statvfs("/dev/shm").f_bavail, zlib.crc32(stream.read()) == zlib.crc32(body(2, 0, 16 * MIB)))
"""
    folder = tmp_path / "cache"
    folder.mkdir()
    assert mounted(code, base, folder) == (0, "0 True\n", "")


@pytest.mark.root
def test_f22_full_disk_is_storage_full_and_over_when_there_is_room(base: str, tmp_path: Path) -> None:
    code = """
with ActorSystem.start(workers=1, cache_dir=cache) as system:
    before = system.workers()
    with system.open(base + "/large") as stream:
        try:
            stream.read()
        except StorageFull:
            print("full")
        print(stream.read_at(0, MIB) == body(2, 0, MIB))
    with system.open(base + "/small") as stream:
        try:
            print(stream.read() == body(1, 0, MIB))
        except StorageFull:
            print("still full")
    for root, _, names in os.walk(cache):
        for name in names:
            if name.endswith(".part"):
                os.unlink(os.path.join(root, name))
    with system.open(base + "/small?again") as stream:
        print(stream.read() == body(1, 0, MIB), system.workers() == before)
"""
    folder = tmp_path / "cache"
    folder.mkdir()
    status, output, errors = mounted(code, base, folder)
    lines = output.splitlines()
    assert (status, lines[:2], lines[-1], errors) == (0, ["full", "True"], "True True", "")


# --- F23


@contextmanager
def room_for(more: int) -> Iterator[None]:
    """At most so many descriptors beyond those that are open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.memfd_create("probe")
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_f23_hundred_starts_without_descriptors_leave_nothing() -> None:
    before = descriptors()
    for number in range(100):
        # With five it would start: the two ends of the channel, one of them again, and two to hear of the exec.
        with room_for(number % 5), pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            WorkerProcess(1, sys.executable, 0.0)
        assert descriptors() == before


def test_f23_pool_without_descriptors_waits_a_second_between_starts_and_recovers() -> None:
    """What runs goes on meanwhile, and nothing half-made is counted."""
    starts: list[float] = []
    made = WorkerProcess

    def record(*arguments: object) -> WorkerProcess:
        starts.append(monotonic())
        return made(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, pool_of(size=2) as (pool, heard):
        patch.setattr(pool_keeper, "WorkerProcess", record)
        with room_for(0):
            os.kill(pool.workers()[1], signal.SIGKILL)
            assert until(lambda: len(starts) == 2)
            pool.send(2, said("echo", "going on"))
            heard.wait("echo")
            assert [status.worker for status in pool.status()] == [2]
            assert until(lambda: len(starts) == 3)
        lifted = monotonic()
        assert heard.wait("ready", 3)[0] == 3
        assert monotonic() - lifted < 8.0
        gaps = [after - before for before, after in pairwise(starts)]
        assert min(gaps) >= RESOURCE_DELAY
        assert len(heard.of("lost")) == 1


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_f23_other_wants_are_of_the_same_class(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[float] = []
    made = WorkerProcess

    def fail_once(*arguments: object) -> WorkerProcess:
        starts.append(monotonic())
        if len(starts) == 1:
            raise OSError(number, os.strerror(number))
        return made(*arguments)  # type: ignore[arg-type]

    with pool_of() as (pool, heard):
        monkeypatch.setattr(pool_keeper, "WorkerProcess", fail_once)
        os.kill(pool.workers()[1], signal.SIGKILL)
        heard.wait("ready", 2)
        first, second = starts
        assert second - first >= RESOURCE_DELAY


def test_f23_no_thread_to_start_with_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = descriptors()
    calls, pool = WorkerCalls(1), WorkerPool(PoolSettings("pool_handlers:Echo"))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        calls.start()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.start()
    assert calls.stop() == pool.stop() == []
    assert descriptors() == before


def test_f23_no_descriptors_to_start_with_leaves_nothing() -> None:
    before = descriptors()
    for more in (0, 3):
        with room_for(more), pytest.raises((OSError, WorkerStartError)):
            WorkerCalls(2).start(HANG)
        assert descriptors() == before


@pytest.mark.root
def test_f23_no_process_to_be_had(tmp_path: Path) -> None:
    """As a user whose limit of processes holds; root has none."""
    python = tmp_path / "python"
    python.write_text(
        f"""#!/bin/sh
exec setpriv --reuid 54321 --regid 54321 --clear-groups --bounding-set -sys_resource,-sys_admin \\
    --inh-caps +dac_override,+dac_read_search --ambient-caps +dac_override,+dac_read_search {sys.executable} "$@"
"""
    )
    python.chmod(0o755)
    code = """
import os, resource, signal, threading
from actors import WorkerCalls
calls = WorkerCalls(2, heartbeat=0.1).start()
before = calls.workers()
soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
os.kill(before[1], signal.SIGKILL)
pause = threading.Event()
while 1 in calls.workers():
    pause.wait(0.01)
for number in range(30):
    assert calls.call("call_functions:echo", number).get(timeout=60) == [number]
    pause.wait(0.05)
print(sorted(calls.workers()), len(os.listdir("/proc/self/fd")) < 20)
resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
while len(calls.workers()) < 2:
    pause.wait(0.01)
print(sorted(calls.workers()), calls.stop())
"""
    assert ran(code, python=str(python)) == (0, "[2] True\n[2, 3] []\n", "")
