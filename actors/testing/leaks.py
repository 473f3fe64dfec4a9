"""Finds what code left behind: threads, processes, descriptors, names in `/dev/shm`, temporary files.

    before = snapshot()
    ...
    assert compare(before) == []

Linux only, standard library only. Call `mark()` once, before anything is started, so that a process whose own
parent has died is still recognised as ours.
"""

from __future__ import annotations

import gc
import os
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from actors.clock import monotonic

__all__ = ["MARK", "Snapshot", "compare", "mark", "snapshot"]

MARK = "ACTORS_LEAKS_MARK"
"""Environment variable by which an orphaned process is traced to the process that called `mark()`."""

_PROC = Path("/proc")
_SHARED_MEMORY = Path("/dev") / "shm"
_POLL_SECONDS = 0.01
_EXEC_LOOKS = 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was there at one moment. Opaque: made by `snapshot()`, read by `compare()`."""

    threads: frozenset[threading.Thread]
    processes: frozenset[int]
    """Every process of the machine, ours or not: what is new is judged only when it is found."""
    descriptors: Mapping[int, tuple[int, int]]
    """Number to device and inode: an inode stays the same when its file is renamed or unlinked."""
    names: Mapping[Path, frozenset[str]]
    """Directory to the entries in it."""


def mark() -> None:
    """Marks the processes started from now on, through their environment, as this process's own.

    A nested call, in a child that marks its own children, keeps the outer mark too.
    """
    outer = os.environ.get(MARK)
    own = uuid.uuid4().hex
    os.environ[MARK] = f"{outer}:{own}" if outer else own


def snapshot() -> Snapshot:
    """Records what exists now, for `compare()`. Does not block."""
    return Snapshot(
        threads=frozenset(threading.enumerate()),
        processes=frozenset(_pids()),
        descriptors=_descriptors(),
        names={place: _entries(place) for place in {_SHARED_MEMORY, Path(tempfile.gettempdir())}},
    )


def compare(
    before: Snapshot, deadline_seconds: float = 2.0, *, ignore: Callable[[str], bool] | None = None
) -> list[str]:
    """Names everything that exists now and did not exist at `before`, one line each; empty if all is clean.

    What is ending already may take a moment to be gone, so this blocks, and looks again, until all is clean
    or the deadline has passed. Unreachable objects are collected once before anything is called a leak.

    Files count if they belong to this user and no foreign process holds them; pytest's own base directory
    never counts. A line for which `ignore` returns true is neither waited for nor returned.
    """
    found = _left_behind(before, ignore)
    if found:
        gc.collect()
        found = _left_behind(before, ignore)
    end = monotonic() + deadline_seconds
    pause = threading.Event()
    while found and monotonic() < end:
        pause.wait(_POLL_SECONDS)
        found = _left_behind(before, ignore)
    return found


def _left_behind(before: Snapshot, ignore: Callable[[str], bool] | None) -> list[str]:
    found = chain(
        _new_threads(before.threads),
        _new_processes(before.processes),
        _new_descriptors(before.descriptors),
        _new_names(before.names),
    )
    return [line for line in found if ignore is None or not ignore(line)]


def _new_threads(before: frozenset[threading.Thread]) -> Iterator[str]:
    for thread in threading.enumerate():
        # A thread that C code started and ended stays listed as a dummy: the kernel knows better.
        alive = thread.native_id is None or (_PROC / f"self/task/{thread.native_id}").exists()
        if thread not in before and alive:
            yield f"thread {thread.name!r}{' (daemon)' if thread.daemon else ''}"


def _new_processes(before: frozenset[int]) -> Iterator[str]:
    for pid in sorted(set(_pids()) - before):
        state = _state(pid) if _is_ours(pid) else None
        if state is not None:
            command = _read(_PROC / f"{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
            zombie = " (zombie)" if state.letter == "Z" else ""
            yield f"process {pid}: {command or f'[{state.name}]'}{zombie}"


def _new_descriptors(before: Mapping[int, tuple[int, int]]) -> Iterator[str]:
    for number, identity in sorted(_descriptors().items()):
        if before.get(number) != identity:
            try:
                target = str(Path(f"/proc/self/fd/{number}").readlink())
            except OSError:
                continue
            yield f"descriptor {number} -> {target}"


def _new_names(before: Mapping[Path, frozenset[str]]) -> Iterator[str]:
    for place, known in sorted(before.items()):
        for name in sorted(_entries(place) - known):
            path = place / name
            if name.startswith("pytest-of-") or not _owned(path) or _held_only_by_others(path):
                continue
            # Unlinked while the holders were sought, it would seem to have had none.
            if os.path.lexists(path):
                yield str(path)


@dataclass(frozen=True, slots=True)
class _State:
    name: str
    letter: str
    parent: int
    kernel: bool


def _state(pid: int) -> _State | None:
    # The name is in parentheses and may itself hold parentheses and spaces; what follows it may not.
    head, _, tail = _read(_PROC / f"{pid}/stat").decode(errors="replace").rpartition(")")
    if not head:
        return None
    # proc_pid_stat(5): flags are the ninth field; PF_KTHREAD marks a thread of the kernel.
    letter, parent, _, _, _, _, flags, *_ = tail.split()
    return _State(head.partition("(")[2], letter, int(parent), bool(int(flags) & 0x00200000))


def _is_ours(pid: int) -> bool:
    """Whether the process descends from this one, or from one that did and was marked."""
    own = os.getpid()
    if pid == own:
        return False
    token = os.environ.get(MARK, "").rpartition(":")[2]
    if token and token.encode() in _environment(pid):
        return True
    ancestor = pid
    while ancestor > 1:
        state = _state(ancestor)
        if state is None:
            return False
        ancestor = state.parent
        if ancestor == own:
            return True
    return False


def _environment(pid: int) -> bytes:
    """What the process was started with. In the middle of its exec it shows none, so that is looked at again."""
    pause = threading.Event()
    for _ in range(_EXEC_LOOKS):
        found = _read(_PROC / f"{pid}/environ")
        state = _state(pid)
        if found or state is None or state.letter in "ZX" or state.kernel:
            return found
        pause.wait(0.001)
    return b""


def _descriptors() -> dict[int, tuple[int, int]]:
    found = {}
    for entry in _entries(_PROC / "self/fd"):
        try:
            status = os.fstat(int(entry))
        except OSError:  # the descriptor of this listing itself
            continue
        found[int(entry)] = (status.st_dev, status.st_ino)
    return found


def _owned(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def _held_only_by_others(path: Path) -> bool:
    """Whether a foreign process, and none of ours, has the file (or something below the directory) open."""
    foreign = False
    for pid in _pids():
        if _holds(pid, path):
            if pid == os.getpid() or _is_ours(pid):
                return False
            foreign = True
    return foreign


def _holds(pid: int, path: Path) -> bool:
    targets = []
    descriptors = _PROC / f"{pid}/fd"
    for link in (_PROC / f"{pid}/cwd", *(descriptors / number for number in _entries(descriptors))):
        try:
            targets.append(link.readlink())
        except OSError:
            continue
    if any(target == path or path in target.parents for target in targets):
        return True
    mapped = (line.split(maxsplit=5) for line in _read(_PROC / f"{pid}/maps").splitlines())
    return any(len(fields) == 6 and fields[5] == os.fsencode(path) for fields in mapped)


def _pids() -> list[int]:
    return [int(name) for name in _entries(_PROC) if name.isdecimal()]


def _entries(directory: Path) -> frozenset[str]:
    try:
        return frozenset(entry.name for entry in directory.iterdir())
    except OSError:
        return frozenset()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
