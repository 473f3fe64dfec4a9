"""F5: a worker in a system call that the kernel does not end, so that even SIGKILL has to wait."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from host_kit import state_of, until

from actors.actor import process
from actors.actor.calls import WorkerCalls
from actors.actor.errors import WorkerTimeoutError
from actors.clock import monotonic

pytestmark = pytest.mark.root
HANG = 30.0


def command(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True, timeout=HANG)


class Freezer:
    """A small file system of our own, on which writing blocks while it is frozen."""

    def __init__(self, folder: Path) -> None:
        image, self.root = folder / "image", folder / "mounted"
        with image.open("wb") as file:
            file.truncate(8 << 20)
        self.root.mkdir()
        command("mkfs.ext4", "-q", image)
        command("mount", "-o", "loop", image, self.root)

    def freeze(self) -> None:
        command("fsfreeze", "--freeze", self.root)

    def thaw(self) -> None:
        with suppress(subprocess.CalledProcessError):
            command("fsfreeze", "--unfreeze", self.root)

    def close(self) -> None:
        self.thaw()
        assert until(lambda: subprocess.run(["umount", self.root], capture_output=True, check=False).returncode == 0)


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Freezer]:
    freezer = Freezer(tmp_path)
    try:
        freezer.freeze()
        yield freezer
    finally:
        freezer.close()


def stuck_in(calls: WorkerCalls, frozen: Freezer) -> int:
    """Has a worker write there; its pid, when its call has ended and it has not."""
    future = calls.call("call_functions:write_file", str(frozen.root / "file"), "text", deadline=1.5)
    with pytest.raises(WorkerTimeoutError) as caught:
        future.get(timeout=HANG)
    pid = caught.value.pid
    assert until(lambda: blocked(pid))
    return pid


def blocked(pid: int) -> bool:
    """Whether one of its threads is in disk sleep; the others, the first one too, may have died."""

    def state(task: Path) -> str:
        with suppress(OSError):  # it has gone meanwhile
            return (task / "status").read_text()
        return ""

    return any("\nState:\tD" in state(task) for task in Path(f"/proc/{pid}/task").iterdir())


def test_f05_place_of_an_unkillable_worker_is_filled_and_it_is_reaped_when_it_goes(frozen: Freezer) -> None:
    with WorkerCalls(2, heartbeat=0.1) as calls:
        pid = stuck_in(calls, frozen)
        # Nobody waits for it: the other worker answers, and then the one that has its place.
        assert calls.call("call_functions:echo", 1).get(timeout=HANG) == [1]
        assert until(lambda: len(calls.workers()) == 2 and pid not in calls.workers().values())
        assert [status.state for status in calls.status() if status.pid == pid] == ["unreapable"]
        assert blocked(pid)
        for number in range(20):
            assert calls.call("call_functions:echo", number).get(timeout=HANG) == [number]
        frozen.thaw()
        assert until(lambda: state_of(pid) == "")
        assert until(lambda: [status.state for status in calls.status()] == ["ready"] * 2)


@pytest.mark.parametrize("given_up", [False, True], ids=["at once", "after it was given up"])
def test_f05_stop_does_not_wait_for_an_unkillable_worker(frozen: Freezer, given_up: bool) -> None:
    with WorkerCalls(2, heartbeat=0.1) as calls:
        pid = stuck_in(calls, frozen)
        if given_up:
            assert until(lambda: any(status.state == "unreapable" for status in calls.status()))
        began = monotonic()
        assert calls.stop(2.0) == [f"worker {pid}"]
        assert monotonic() - began < 8.0
        assert calls.stop() == [f"worker {pid}"]
    frozen.thaw()
    assert until(lambda: state_of(pid) == "Z" and len(list(Path(f"/proc/{pid}/task").iterdir())) == 1)
    # It is reaped when this process starts its next worker.
    with WorkerCalls(1):
        assert state_of(pid) == ""
    assert process._left == []
