"""WorkerProcess: one process and its channel, without a keeper."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pool_handlers import said
from pool_kit import HANG, descriptors, pool_of, until

from actors.actor.process import WorkerProcess, search_path
from actors.errors import FrameTooLong, WorkerStartError
from actors.messages.codec import Codec
from actors.messages.control import CONTROL, FRAME_LIMIT, Heartbeat, Hello, Ready, StopWorker

CODEC = Codec(CONTROL)


@contextmanager
def started(*frames: bytes, python: str = sys.executable) -> Iterator[WorkerProcess]:
    """A process that was sent `frames`; killed and buried at the end."""
    process = WorkerProcess(7, python, 0.0)
    try:
        for frame in frames:
            assert process.send(frame)
        yield process
    finally:
        process.signal(signal.SIGKILL)
        assert process.gone(HANG)
        process.bury()


def hello(process: WorkerProcess, handler: str = "pool_handlers:Echo") -> bytes:
    return CODEC.encode(Hello(7, process.token, handler, b"", 0.1))


def heard(process: WorkerProcess) -> bytes:
    """The next frame."""
    found: list[bytes] = []

    def look() -> bool:
        data = process.receive()
        if data is not None:
            found.append(data)
        return data is not None

    assert until(look)
    return found[0]


def test_dialogue_of_a_worker() -> None:
    with started(search_path()) as process:
        process.send(hello(process))
        heard(process)  # of the handler: it was made
        ready = CODEC.decode(heard(process))
        assert ready == Ready(process.token, process.pid)
        assert isinstance(CODEC.decode(heard(process)), Heartbeat)
        assert not process.gone(0)
        process.send(CODEC.encode(StopWorker()))
        assert process.gone(HANG)
        assert process.bury() == "exited with status 0"
        assert process.bury() == "already buried"
        assert process.gone(0)
        process.signal(signal.SIGKILL)  # no effect, and on nobody else
        assert not process.send(b"x")


@pytest.mark.parametrize("after", ["nothing", "the path", "ready"])
def test_worker_leaves_quietly_when_its_channel_ends(after: str, capfd: pytest.CaptureFixture[str]) -> None:
    with started() as process:
        if after != "nothing":
            process.send(search_path())
        if after == "ready":
            process.send(hello(process))
            heard(process)
        process.hang_up()
        process.hang_up()
        assert process.gone(HANG)
        assert process.bury() == "exited with status 0"
    assert capfd.readouterr().err == ""


def test_first_frame_that_is_no_hello_ends_the_worker() -> None:
    with started(search_path(), CODEC.encode(StopWorker())) as process:
        assert process.gone(HANG)
        assert process.bury() == "exited with status 0"


def test_worker_sees_none_of_the_hosts_descriptors() -> None:
    fd = os.memfd_create("mine", 0)  # even one that is inheritable
    os.set_inheritable(fd, True)
    try:
        with started(search_path()) as process:
            process.send(hello(process))
            heard(process)
            assert not any("mine" in target for target in descriptors(process.pid).values())
    finally:
        os.close(fd)


def test_worker_has_a_group_of_its_own() -> None:
    with started() as process:
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)


def test_program_that_cannot_be_run_leaves_nothing() -> None:
    with pytest.raises(WorkerStartError, match="worker_python"):
        WorkerProcess(1, "/nowhere/python", 0.0)


def test_pidfd_that_cannot_be_had_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.EMFILE, "no more")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="no more"):
        WorkerProcess(1, sys.executable, 0.0)


def test_search_path_is_absolute_and_holds_the_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "relative", "/there", "/there", b"/bytes", None])
    entries = search_path().decode().split("\0")
    assert entries[:3] == [str(tmp_path), str(tmp_path / "relative"), "/there"]
    assert (Path(entries[3]) / "actors").is_dir()
    assert len(entries) == 4


def test_search_path_too_long_for_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [f"/{number:0100}" for number in range(700)])
    with pytest.raises(WorkerStartError, match=str(FRAME_LIMIT)):
        search_path()


def test_a_frame_that_is_too_long_is_refused_and_the_worker_is_well() -> None:
    with started(search_path()) as process:
        process.send(hello(process))
        before = process.frames
        with pytest.raises(
            FrameTooLong, match=f"{FRAME_LIMIT + 1} bytes for worker .*at most {FRAME_LIMIT} .*descriptor"
        ):
            process.send(bytes(FRAME_LIMIT + 1))
        assert process.frames == before
        heard(process)  # of the handler: it was made
        assert isinstance(CODEC.decode(heard(process)), Ready)
        process.send(CODEC.encode(StopWorker()))
        assert process.gone(HANG)
        assert process.bury() == "exited with status 0"


def full(process: WorkerProcess) -> int:
    """Stop the process and send until frames have to wait. How many were sent."""
    os.kill(process.pid, signal.SIGSTOP)
    count = 0
    while not process.backlog:
        assert process.send(bytes(1000))
        count += 1
    return count


def test_what_waits_is_sent_in_order_by_flush() -> None:
    with started() as process:
        mine = process.channel
        process.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mine.close()
        process.channel.setblocking(False)
        sent = 0
        while sent < 10 or not process.backlog:
            assert process.send(b"%d" % sent)
            sent += 1
        for number in range(sent, sent + 50):
            assert process.send(b"%d" % number)
        got: list[bytes] = []
        while len(got) < sent + 50:
            got.append(theirs.recv(100))
            process.flush()
        assert got == [b"%d" % number for number in range(sent + 50)]
        assert not process._outbox
        theirs.close()
        assert not process.send(b"gone")


def test_descriptors_that_cannot_be_kept_are_not_leaked() -> None:
    with started() as process:
        full(process)
        fd = os.memfd_create("test")
        before = descriptors()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Room for two of the three copies.
        taken = [os.dup(fd) for _ in range(2)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
        for copy in taken:
            os.close(copy)
        try:
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                process.send(b"frame", (fd, fd, fd))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert descriptors() == before
        os.close(fd)


def test_outbox_of_a_dead_worker_is_emptied_by_its_burial() -> None:
    with started() as process:
        full(process)
        fd = os.memfd_create("test")
        before = len(descriptors())
        assert process.send(b"frame", (fd, fd))
        assert len(descriptors()) == before + 2
        os.close(fd)
        os.kill(process.pid, signal.SIGKILL)
        assert process.gone(HANG)
        assert process.bury() == "killed by SIGKILL"
        assert len(descriptors()) == before - 1 - 4  # the test's, the channel, the pidfd, the counter and its mapping


def test_threads_that_send_at_once_do_not_mix() -> None:
    with pool_of() as (pool, told):

        def send(first: int) -> None:
            for number in range(first, first + 100):
                assert pool.send(1, said("echo", number))

        threads = [threading.Thread(target=send, args=(1000 * index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG)
        told.wait("echo", 400)
        got = [event[2] for event in told.of("echo")]
        for index in range(4):
            assert [n for n in got if n // 1000 == index] == list(range(1000 * index, 1000 * index + 100))


def test_worker_is_closed_only_when_it_has_handled_all_that_it_was_sent() -> None:
    """A heartbeat that says idle may be older than the last frame: that frame would be lost with the worker."""
    with started() as process:
        assert process.send(b"first")
        assert process.send(b"second")
        assert not process.close_if_idle(1)
        assert process.send(b"third")
        assert not process.close_if_idle(2)
        assert process.close_if_idle(3)
        assert not process.close_if_idle(3)
        assert not process.send(b"too late")
        assert not process.close()
