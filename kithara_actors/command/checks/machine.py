"""Python, the kernel, descriptors and memory."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from kithara_actors.command.checks.finding import Finding, State
from kithara_actors.command.text import amount
from kithara_actors.config import Config
from kithara_actors.errors import UnsupportedPlatform
from kithara_actors.system import check_platform

__all__ = ["STREAM_DESCRIPTORS", "descriptors", "memory", "python", "system"]

STREAM_DESCRIPTORS = 5
"""What an open stream of an asset of its own costs the process: its data twice, its progress twice, its wake-up."""
_OTHERS = 64
"""Descriptors for the rest of the process: standard streams, workers, and a little of what else it does."""
_FEW_DESCRIPTORS, _SOME_DESCRIPTORS, _ENOUGH_DESCRIPTORS = 256, 1024, 4096
_KERNEL = (5, 4)
_PROCESS_MEMORY = 48 * 1024 * 1024
"""Measured: 28 MB in the process of the system, 44 MB in a worker, of which a third is shared."""


def python(level: str = sys.version_info.releaselevel) -> Finding:
    """Which Python runs this, and whether it is a released one."""
    finding = f"{platform.python_implementation()} {platform.python_version()}, {sys.executable or 'embedded'}"
    if sys.implementation.name != "cpython":
        return Finding("python", State.NOTE, finding, "the library is tested with CPython only")
    if level != "final":
        return Finding("python", State.NOTE, f"{finding}: a version for trial", "use a released Python for daily work")
    return Finding("python", State.OK, finding)


def system(release: str | None = None) -> Finding:
    """The kernel, and whether it grants what the library stands on: a sandbox may refuse what Python has."""
    release = platform.release() if release is None else release
    finding = f"{platform.system()} {release}, {platform.machine()}"
    try:
        check_platform()
    except UnsupportedPlatform as error:
        return Finding("system", State.PROBLEM, finding, str(error))
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if numbers is not None and (int(numbers[1]), int(numbers[2])) < _KERNEL:
        return Finding("system", State.PROBLEM, finding, "Linux 5.4 or later is needed: update the kernel")
    calls: dict[str, Callable[[], int]] = {
        "memfd_create": lambda: os.memfd_create("kithara-check", os.MFD_CLOEXEC),
        "eventfd": lambda: os.eventfd(0, os.EFD_CLOEXEC),
        "pidfd_open": lambda: os.pidfd_open(os.getpid()),
    }
    for name, call in calls.items():
        try:
            os.close(call())
        except OSError as error:
            finding += f": {name} fails: {error.strerror}"
            return Finding("system", State.PROBLEM, finding, "allow it in the sandbox (seccomp) that this runs in")
    return Finding("system", State.OK, finding)


def descriptors() -> Finding:
    """How many files and sockets the process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Finding("descriptors", State.OK, "no limit")
    streams = max(0, soft - _OTHERS) // STREAM_DESCRIPTORS
    most = "no hard limit" if hard == resource.RLIM_INFINITY else f"hard limit {hard:,}"
    finding = f"limit {soft:,} ({most}), for about {streams:,} open streams"
    if soft >= _SOME_DESCRIPTORS:
        return Finding("descriptors", State.OK, finding)
    wanted = _ENOUGH_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH_DESCRIPTORS)
    raised = f"ulimit -n {wanted} before the command, " if wanted > soft else ""
    remedy = f"{raised}LimitNOFILE={_ENOUGH_DESCRIPTORS} in a systemd unit"
    return Finding("descriptors", State.PROBLEM if soft < _FEW_DESCRIPTORS else State.NOTE, finding, remedy)


def memory(config: Config, root: Path = Path("/")) -> Finding:
    """What is free, within the limits of the control group, against what the settings let the system take."""
    available = _available(root)
    if available is None:
        return Finding("memory", State.NOTE, "unknown", "mount /proc for this to be checked")
    free, limit = available
    within = "" if limit is None else f" within the limit of {amount(limit)} that is set for this process"
    processes = (config.workers + 2) * _PROCESS_MEMORY
    finding = f"{amount(free)} free{within}; {config.workers + 2} processes take about {amount(processes)}"
    if free < processes:
        return Finding("memory", State.PROBLEM, finding, "free memory, raise the limit, or use fewer workers")
    if config.cache_path is not None:
        return Finding("memory", State.OK, finding)
    finding += f", assets up to {amount(config.memory_limit)}"
    if free < processes + config.memory_limit:
        return Finding(
            "memory", State.NOTE, finding, f"set memory_limit to less than {amount(free - processes)}, or set cache_dir"
        )
    return Finding("memory", State.OK, finding)


def _available(root: Path) -> tuple[int, int | None] | None:
    """Bytes that can be had, and the limit of a control group where that is what decides."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _read(root / "proc/meminfo"), re.MULTILINE)
    if found is None:
        return None
    free, decides = int(found[1]) * 1024, None
    for folder in _groups(root):
        for limit_name, usage_name, cached_name in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, usage = _read(folder / limit_name).strip(), _read(folder / usage_name).strip()
            if not limit.isdecimal() or not usage.isdecimal():
                continue
            # Pages of files count as used, and are given back when they are needed.
            cached = re.search(rf"^{cached_name} (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
            left = max(0, int(limit) - int(usage) + (0 if cached is None else int(cached[1])))
            if left < free:
                free, decides = left, int(limit)
    return free, decides


def _groups(root: Path) -> list[Path]:
    """The control groups that hold this process, of version 2 and 1, from the innermost outwards."""
    found = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        group = top / path.lstrip("/")
        found += [folder for folder in (group, *group.parents) if folder == top or top in folder.parents]
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
