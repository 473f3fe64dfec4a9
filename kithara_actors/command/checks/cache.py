"""The directory of `cache_dir`: whether it can be written, on what it is, and how much room it has."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from kithara_actors.command.checks.finding import Finding, State
from kithara_actors.command.text import amount
from kithara_actors.config import Config

__all__ = ["cache", "file_system"]

_GIB = 1024**3
_REMOTE = re.compile(
    "9p|afs|beegfs|ceph|cifs|coda|gfs2|glusterfs|lustre|nfs4?|ocfs2|orangefs|smb3|smbfs"
    "|fuse[.](?:ceph|glusterfs|rclone|s3fs|sshfs).*"
)


def cache(config: Config) -> Finding:
    """Tries it out: makes the directory if need be, writes a file there, and takes both away again."""
    path = config.cache_path
    if path is None:
        return Finding("cache", State.OK, "none: cache_dir is not set, assets are kept in memory")
    try:
        _try(path)
    except OSError as error:
        what = error.strerror or str(error)
        return Finding("cache", State.PROBLEM, f"{path}: {what}", "set cache_dir to a directory that you can write")
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    room = os.statvfs(existing)
    free, size = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    kind = file_system(existing)
    finding = f"{path}: writable, {amount(free)} free{f' on {kind}' if kind else ''}"
    reserve = min(_GIB, size // 20) if config.min_free_bytes is None else config.min_free_bytes
    if free <= reserve:
        return Finding(
            "cache", State.PROBLEM, finding, f"make room: {amount(reserve)} of that are to stay free (min_free_bytes)"
        )
    if kind is not None and _REMOTE.fullmatch(kind):
        return Finding("cache", State.NOTE, f"{finding}, over the network", "set cache_dir to a directory on a disk")
    if free < config.max_bytes + reserve:
        return Finding(
            "cache",
            State.NOTE,
            finding,
            f"make room: the cache may take {amount(config.max_bytes)} (max_bytes), with {amount(reserve)} left free",
        )
    return Finding("cache", State.OK, finding)


def _try(path: Path) -> None:
    """Raises OSError for a place where nothing can be written."""
    made: list[Path] = []
    try:
        for folder in reversed((path, *path.parents)):
            if not folder.exists():
                folder.mkdir(mode=0o700)
                made.append(folder)
        with tempfile.NamedTemporaryFile(dir=path, prefix=".kithara-check-") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    finally:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The type of the file system that `path` is on, as the kernel names it; None where it does not say."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        real = path.resolve()
    except OSError:
        return None
    best: tuple[int, str] | None = None
    for line in lines:
        first, separator, second = line.partition(" - ")
        fields = first.split()
        if not separator or len(fields) < 5:
            continue
        place = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        # The last of several mounts over one place is the one that is seen.
        if place in (real, *real.parents) and (best is None or len(place.parts) >= best[0]):
            best = len(place.parts), second.split()[0]
    return None if best is None else best[1]
