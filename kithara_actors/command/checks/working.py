"""The library at work on this machine, with the user's settings: start, read, look at a file, stop."""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
import sys
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from actors.clock import monotonic
from kithara_actors.command.checks.finding import Finding, State, broken
from kithara_actors.command.interrupts import Interrupts
from kithara_actors.config import Config
from kithara_actors.errors import StorageFull
from kithara_actors.system import ActorSystem
from kithara_actors.testing.origin import Origin, Resource
from kithara_actors.values import MediaDetails

__all__ = ["working"]

_RATE = 22_050
_LIMIT = 10.0
_PIECE = 4096


def working(settings: dict[str, Any], interrupts: Interrupts) -> list[Finding]:
    """Two findings, `workers` and `parsing`. Blocks for about half a second; each step has a limit.

    Nothing is written to the cache, and proxies are left out: other checks look at these.
    """
    recording = _recording()
    threads, descriptors = set(threading.enumerate()), _descriptors()
    parsing: Finding | None = None
    try:
        with _unproxied(), Origin() as origin:
            url = origin.add("/check.wav", Resource(data=recording, content_type="audio/wav"))
            start = monotonic()
            system = ActorSystem.start(
                Config(
                    **{
                        **settings,
                        "cache_dir": None,
                        "proxies": None,
                        # What is there may be what it is to help with.
                        "record": None,
                        "read_timeout": _LIMIT,
                        "max_retries": 0,
                    }
                )
            )
            started = monotonic() - start
            try:
                with interrupts.armed(), system.open(url) as stream:
                    start = monotonic()
                    at = len(recording) // 2
                    piece = stream.read_at(at, _PIECE)
                    read = monotonic() - start
                    parsing = _judged(lambda: stream.inspect(_LIMIT))
            finally:
                start = monotonic()
                survivors = system.stop()
                stopped = monotonic() - start
        if piece != recording[at : at + _PIECE]:
            workers = Finding("workers", State.PROBLEM, "what was read is not what was sent", "report it")
        else:
            left = survivors + sorted(
                thread.name for thread in set(threading.enumerate()) - threads if thread.is_alive()
            )
            more = len(_descriptors() - descriptors)
            left += [f"{more} descriptors"] if more else []
            workers = _told(system.config, started, read, stopped, left)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        workers = _failed(error, settings)
    return [
        workers,
        parsing or Finding("parsing", State.NOTE, "not tried, since the system did not work", "see workers"),
    ]


def _told(config: Config, started: float, read: float, stopped: float, left: list[str]) -> Finding:
    count = f"{config.workers} worker{'s' if config.workers > 1 else ''}"
    finding = (
        f"{count} ready after {started * 1000:.0f} ms, bytes from a server here after {read * 1000:.0f} ms, "
        f"stopped after {stopped * 1000:.0f} ms"
    )
    if left:
        return Finding("workers", State.PROBLEM, f"{finding}, with {', '.join(left)} left behind", "report it")
    return Finding("workers", State.OK, finding)


def _failed(error: Exception, settings: dict[str, Any]) -> Finding:
    if isinstance(error, StorageFull):
        # The file of this check is a few kilobytes, and is kept in memory.
        remedy = f"raise memory_limit, which is {Config(**settings).memory_limit:,} bytes: a file in memory must fit"
    elif settings.get("worker_python", sys.executable) != sys.executable:
        remedy = "check worker_python: it names a Python 3.11+ in which the packages of this one are installed"
    else:
        remedy = "see descriptors and memory; a sandbox may forbid processes or the loopback network"
    return Finding("workers", State.PROBLEM, broken("workers", error).finding, remedy)


def _judged(inspect: Callable[[], MediaDetails]) -> Finding:
    try:
        start = monotonic()
        details = inspect()
        took = monotonic() - start
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return Finding("parsing", State.PROBLEM, broken("parsing", error).finding, "report it")
    info = details.info
    if info.sample_rate != _RATE or info.channels != 1:
        said = details.remark or f"{info.sample_rate} Hz, {info.channels} channels"
        finding = f"a WAV file of {_RATE} Hz, 1 channel is taken for: {said}"
        return Finding("parsing", State.PROBLEM, finding, "report it")
    return Finding("parsing", State.OK, f"a WAV file was understood after {took * 1000:.0f} ms")


def _recording() -> bytes:
    """A second of a tone."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(_RATE)
        tone = (round(20_000 * math.sin(2 * math.pi * 440 * at / _RATE)) for at in range(_RATE))
        out.writeframes(struct.pack(f"<{_RATE}h", *tone))
    return file.getvalue()


@contextlib.contextmanager
def _unproxied() -> Iterator[None]:
    """Workers that start meanwhile go to the loopback address without a proxy."""
    names = ("no_proxy", "NO_PROXY")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "127.0.0.1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _descriptors() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of this listing
            found.add(f"{entry.name} -> {entry.readlink()}")
    return found
