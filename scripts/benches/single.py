"""`bench.py single`: one large body through the whole system, read to the end, against its rivals.

A real nginx on loopback serves the body from tmpfs; whatever is stored goes to tmpfs too. The subjects take turns
in every round, in an order shuffled anew, after a warm-up round that is not counted and in which every byte is
compared. In each round the length and eight bytes of every MiB are checked. The figures to trust are the ratios:
the memory of a virtual machine differs by 2x between runs, hardly within one.

What is timed, and where:

* raw, requests and ours run in this process, in the main thread; nothing else runs in it but the system's own
  threads, which sleep. curl is a process of its own by nature. A fresh interpreter for each would only add noise:
  its start would have to be left out of the timing anyway.
* raw: `recv_into` of at most 1 MiB on a new connection, as curl makes one, straight into a fresh private anonymous
  mapping. raw-warm is the same on a kept connection, whose window has grown, as that of ours and requests has: 0 to
  15 % faster. It is shown, the goal was set against raw.
* curl: `curl -s -o FILE`. Its own clock (`time_total`) is taken, which leaves out the start of the process, since
  ours leaves out the start of the system; `curl+exec` in the JSON is the time around the process.
* requests: `iter_content` of 1 MiB on a warm session, written to a file, which is then read back with `readinto`.
* ours: from `system.open` of a URL never seen before to the last byte out of `readinto`, on a warm system.

Files are removed and mappings undone outside the timing; the next subject starts when tmpfs has its pages back and
nobody else uses the machine. Just before, memory half as large again as the body is touched and given back: else
whoever is first to use pages that the kernel has lent to the hypervisor pays for getting them back, by chance. A
sample during which others took much of the processors is taken again, whatever its figure; the report says how many.
CPU seconds come from the kernel's clock of each process (clock_gettime(2)), those of curl from wait4(2).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import mmap
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import requests

from benches.bodies import BODY, MIB, SAMPLE, Body, drain
from benches.machine import TMPFS
from benches.options import Commands, common, positive
from benches.report import (
    Goal,
    machine_line,
    plain,
    print_disturbance,
    print_table,
    print_verdicts,
    write_json,
)
from benches.rounds import Meter, Place, Rounds, Subject
from benches.servers import Nginx
from kithara_actors import ActorSystem

__all__ = ["add"]

GOALS = (
    Goal("raw", 0.9, "at least 0.9 of raw"),
    Goal("curl", 1.0, "not slower than curl"),
    Goal("requests", 1.0, "not slower than requests"),
)


def add(commands: Commands) -> None:
    """The sub-command and its options."""
    one = commands.add_parser(
        "single",
        help="one large body from a warm system, against raw, curl and requests",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("--size", type=positive, default=512, metavar="MIB", help="of the body (default 512)")
    one.add_argument("--workers", type=positive, default=2, help="processes of ours (default 2)")
    common(one, rounds=9)
    one.set_defaults(run=run)


class Raw:
    """A socket, a loop and fresh memory. `warm`: on one connection for all bodies."""

    def __init__(self, body: Body, port: int, *, warm: bool) -> None:
        self.name = "raw-warm" if warm else "raw"
        self._body = body
        self._port = port
        self._warm = warm
        self._sock: socket.socket | None = None

    def pids(self) -> Sequence[int]:
        return ()

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def run(self, place: Place, meter: Meter) -> None:
        size = self._body.size
        path = place.url.removeprefix(f"http://127.0.0.1:{self._port}")
        meter.start()
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        view = memoryview(memory)
        sock = self._sock = self._sock or socket.create_connection(("127.0.0.1", self._port))
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        head, _, rest = head.partition(b"\r\n\r\n")
        view[: len(rest)] = rest
        at = len(rest)
        while at < size:
            count = sock.recv_into(view[at : at + MIB])
            if not count:
                break
            at += count
        meter.stop()
        if not self._warm:
            self.close()
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"nginx said {head[:40]!r}")
        self._body.check_length(at)
        view.release()
        if place.full:
            self._body.check(io.BytesIO(memory))
        else:
            ends = range(place.offset, size - SAMPLE + 1, MIB)
            self._body.check_samples([memory[end : end + SAMPLE] for end in ends], place.offset)
        memory.close()


class Curl:
    """`curl -s -o FILE`."""

    name = "curl"

    def __init__(self, body: Body) -> None:
        self._body = body

    def pids(self) -> Sequence[int]:
        return ()

    def run(self, place: Place, meter: Meter) -> None:
        command = ["curl", "-s", "-q", "--noproxy", "*", "-o", str(place.scratch), "-w", "%{time_total}", place.url]
        meter.start()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
        meter.stop()
        meter.take(float(done.stdout))
        with place.scratch.open("rb", buffering=0) as file:
            if place.full:
                self._body.check(file)
            else:
                self._body.check_length(os.fstat(file.fileno()).st_size)
                ends = range(place.offset, self._body.size - SAMPLE + 1, MIB)
                self._body.check_samples([os.pread(file.fileno(), SAMPLE, end) for end in ends], place.offset)
        place.scratch.unlink()


class Requests:
    """Requests: the body to a file, then the file to the application."""

    name = "requests"

    def __init__(self, body: Body) -> None:
        self._body = body
        self._session = requests.Session()
        self._session.trust_env = False

    def pids(self) -> Sequence[int]:
        return ()

    def close(self) -> None:
        self._session.close()

    def run(self, place: Place, meter: Meter) -> None:
        meter.start()
        with (
            self._session.get(place.url, stream=True) as response,
            place.scratch.open("wb", buffering=0) as file,
        ):
            response.raise_for_status()
            for piece in response.iter_content(MIB):
                file.write(piece)
        with place.scratch.open("rb", buffering=0) as file:
            total, samples = drain(file, place.buffer, place.offset)
        meter.stop()
        self._body.check_length(total)
        self._body.check_samples(samples, place.offset)
        if place.full:
            with place.scratch.open("rb", buffering=0) as file:
                self._body.check(file)
        place.scratch.unlink()


class Ours:
    """The whole system, started before and stopped afterwards."""

    name = "ours"

    def __init__(self, body: Body, system: ActorSystem) -> None:
        self._body = body
        self._system = system

    def pids(self) -> Sequence[int]:
        return list(self._system.workers().values())

    def run(self, place: Place, meter: Meter) -> None:
        meter.start()
        with self._system.open(place.url) as stream:
            total, samples = drain(stream, place.buffer, place.offset)
            meter.stop()
            self._body.check_length(total)
            self._body.check_samples(samples, place.offset)
            if not stream.wait_complete(10.0) or stream.path is None:
                raise SystemExit("the asset was not committed")
            path = stream.path
            if place.full:
                stream.seek(0)
                self._body.check(stream)
        path.unlink()


def run(arguments: argparse.Namespace) -> int:
    """One large body; 1 if a goal is missed."""
    if arguments.smoke:
        arguments.size = 2
    size = arguments.size * MIB
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="kithara-bench-", dir=TMPFS))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        if shutil.disk_usage(folder).free < 3 * size:
            raise SystemExit(f"{TMPFS} needs {3 * arguments.size} MiB of room")
        nginx = Nginx(folder)
        stack.callback(nginx.stop)
        body = Body(nginx.www / BODY, size)
        stack.callback(body.close)
        rival = Requests(body)
        stack.callback(rival.close)
        system = stack.enter_context(ActorSystem.start(cache_dir=folder / "cache", workers=arguments.workers))
        raw, warm = Raw(body, nginx.port, warm=False), Raw(body, nginx.port, warm=True)
        stack.callback(warm.close)
        subjects: list[Subject] = [raw, warm, Curl(body), rival, Ours(body, system)]
        rounds = Rounds(
            lambda words: nginx.url(f"{BODY}?n={words}"),
            nginx.pids,
            folder,
            size,
            arguments.rounds,
            arguments.seed,
            patient=not arguments.smoke,
        )
        taken = rounds.run(subjects)
    print(
        f"one body of {arguments.size} MiB, {arguments.rounds} rounds, {machine_line()}; "
        "the ratios are of speed, above 1 is faster"
    )
    print_table(taken.samples, size)
    print_disturbance(taken)
    if arguments.json is not None:
        write_json(arguments.json, arguments, {"size": size, **plain(taken)})
    if arguments.no_verdict:
        return 0
    return 0 if print_verdicts(taken.samples, GOALS) else 1
