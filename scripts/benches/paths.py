"""`bench.py paths`: the ways by which a body can get from a connection into an asset's file, at several sizes.

nginx serves the bodies from tmpfs, plainly and by TLS. Every way sends its request by the package's own transport on
a kept connection and stores each body in a new file, a memfd or one on disk without a name; it differs only in what
moves the bytes:

* pwrite: read into one hot buffer per thread, written from there (the package's framing and sink).
* splice: from socket to file by way of a pipe, in the kernel (the same, splicing whatever the size). Plain only.
* ours: what the package does: one or the other, by size and connection.
* mapping: `readinto1` of the reader under the response, straight into a mapping of the file.
* urllib3: `response.read`, then `pwrite`.

A sample is one body of the largest size, or so many smaller ones that it takes a moment; files are closed after the
timing. The ways take turns in every round, shuffled anew. The figures to trust are the ratios: of CPU, user and
system of this process, to that of the cheapest way, and of the time. Ours has to be within 15 % of the cheaper of
pwrite and splice, in CPU, at every size that nobody disturbed; --chunks compares sizes of the hot buffer instead.
"""

from __future__ import annotations

import argparse
import contextlib
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from benches.bodies import GIB, MIB, SAMPLE, Body
from benches.machine import TMPFS
from benches.options import Commands, common
from benches.report import machine_line, plain, print_disturbance, write_json
from benches.rounds import Meter, Place, Rounds, Sample, Subject, Taken
from benches.servers import Authority, Nginx
from kithara_actors.worker import body as shipped
from kithara_actors.worker import framing
from kithara_actors.worker.http import Attempt, Transport, TransportSettings
from kithara_actors.worker.sink import Sink

__all__ = ["add", "within"]

KIB = 1024
SIZES = (16 * KIB, 256 * KIB, 512 * KIB, MIB, 4 * MIB, 512 * MIB)
CHUNKS = (64 * KIB, 256 * KIB, MIB, 4 * MIB)
WITHIN = 1.15
_PER_SAMPLE = 64 * MIB
_BODIES_AT_MOST = 400
"""In one sample: each is a descriptor."""
_UNITS = {"K": KIB, "M": MIB, "G": GIB}


def add(commands: Commands) -> None:
    """The sub-command and its options."""
    one = commands.add_parser(
        "paths",
        help="the ways from a connection into a file, by size: CPU and time",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sizes = ",".join(map(_said, SIZES))
    one.add_argument("--sizes", type=_sizes, default=SIZES, metavar="LIST", help=f"of the bodies (default {sizes})")
    one.add_argument("--only", choices=("plain", "tls"), default=None, help="one kind of connection (default both)")
    one.add_argument("--files", choices=("memfd", "disk"), default=None, help="one kind of file (default both)")
    one.add_argument("--disk", type=Path, default=None, metavar="DIR", help="of the file on disk (default: TMPDIR)")
    one.add_argument("--chunks", action="store_true", help=f"compare {', '.join(map(_said, CHUNKS))} of hot buffer")
    common(one, rounds=7)
    one.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class Files:
    """Makes a new file without a name, in memory or on disk."""

    name: str
    folder: Path | None

    def new(self) -> int:
        if self.folder is None:
            return os.memfd_create("bench", os.MFD_CLOEXEC)
        return os.open(self.folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


class Way:
    """One way, for one size: `fetch` takes one body into a file."""

    def __init__(
        self,
        name: str,
        fetch: Callable[[Transport, str, int, int], None],
        transport: Transport,
        body: Body,
        files: Files,
        count: int,
    ) -> None:
        self.name = name
        self._fetch = fetch
        self._transport = transport
        self._body = body
        self._files = files
        self._count = count

    def pids(self) -> Sequence[int]:
        return ()

    def run(self, place: Place, meter: Meter) -> None:
        fds: list[int] = []
        size = self._body.size
        try:
            meter.start()
            for _ in range(self._count):
                fds.append(self._files.new())
                self._fetch(self._transport, place.url, fds[-1], size)
            meter.stop()
            for fd in fds:
                self._check(fd, place)
        finally:
            for fd in fds:
                os.close(fd)

    def _check(self, fd: int, place: Place) -> None:
        if place.full:
            with open(fd, "rb", buffering=0, closefd=False) as file:
                file.seek(0)
                self._body.check(file)
            return
        self._body.check_length(os.fstat(fd).st_size)
        ends = range(place.offset, self._body.size - SAMPLE + 1, MIB)
        self._body.check_samples([os.pread(fd, SAMPLE, end) for end in ends], place.offset)


def _own(splice_from: int | None, chunk: int = framing.CHUNK) -> Callable[[Transport, str, int, int], None]:
    """The package's way: as it is, or splicing from so many bytes on; with a hot buffer of `chunk`."""

    def fetch(transport: Transport, url: str, fd: int, size: int) -> None:
        attempt = Attempt()
        sink = Sink(fd, lambda _: None)
        response = transport.open(attempt, url, {"Accept-Encoding": "identity"})
        shipped.store(response, attempt, sink, 0, size, 0, 30.0)

    if splice_from is None and chunk == framing.CHUNK:
        return fetch

    def changed(transport: Transport, url: str, fd: int, size: int) -> None:
        with contextlib.ExitStack() as stack:
            if splice_from is not None:
                stack.enter_context(mock.patch.object(shipped, "_SPLICE_FROM", splice_from))
            if chunk != framing.CHUNK:
                for module in (framing, shipped):
                    stack.enter_context(mock.patch.object(module, "CHUNK", chunk))
                if len(framing._scratch.buffer or ()) != chunk:  # noqa: SLF001 - one for each thread, kept
                    framing._scratch.buffer = None  # noqa: SLF001
            fetch(transport, url, fd, size)

    return changed


def _mapping(transport: Transport, url: str, fd: int, size: int) -> None:
    attempt = Attempt()
    response = transport.open(attempt, url, {"Accept-Encoding": "identity"})
    inner: Any = getattr(response, "_fp", None)
    os.ftruncate(fd, size)
    at = 0
    with mmap.mmap(fd, size) as memory, memoryview(memory) as view:
        while at < size:
            with view[at : at + MIB] as piece:
                count = inner.fp.readinto1(piece)
            if not count:
                break
            at += count
    inner.close()
    response.release_conn()
    attempt.unbind()


def _urllib3(transport: Transport, url: str, fd: int, _size: int) -> None:
    attempt = Attempt()
    response = transport.open(attempt, url, {"Accept-Encoding": "identity"})
    at = 0
    while data := response.read(MIB, decode_content=False):
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, at)
            view, at = view[written:], at + written
    response.release_conn()
    attempt.unbind()


def count_of(size: int, *, smoke: bool) -> int:
    """How many bodies one sample takes."""
    return 2 if smoke else max(1, min(_BODIES_AT_MOST, _PER_SAMPLE // size))


def run(arguments: argparse.Namespace) -> int:
    """1 if ours is not within reach of the cheaper of its two ways, at some size."""
    if arguments.smoke:
        arguments.sizes = (16 * KIB, MIB)
    missed: list[str] = []
    undecided: list[str] = []
    told: dict[str, object] = {}
    disk = arguments.disk or Path(tempfile.gettempdir())
    with _served(arguments) as (nginx, transport, bodies, folder):
        schemes = [scheme for scheme in ("plain", "tls") if arguments.only in (None, scheme)]
        if arguments.chunks:
            bodies = bodies[-1:]
        print(f"{arguments.rounds} rounds, {machine_line()}; disk is {disk} ({_file_system(disk)})")
        kinds = [kind for kind in (Files("memfd", None), Files("disk", disk)) if arguments.files in (None, kind.name)]
        for files in kinds:
            for scheme in schemes:
                for body in bodies:
                    count = count_of(body.size, smoke=arguments.smoke)
                    title = f"{files.name}, {scheme}, {_said(body.size)}"
                    ways = _ways(transport, body, files, count, secure=scheme == "tls", chunks=arguments.chunks)
                    rounds = _rounds(nginx, body, folder, count, arguments, secure=scheme == "tls")
                    print(title, end=" ", file=sys.stderr)
                    taken = rounds.run(ways)
                    told[title] = plain(taken)
                    print_ways(title, taken, body.size * count, count)
                    if not arguments.chunks and not within(taken):
                        (undecided if taken.disturbed else missed).append(title)
    if arguments.json is not None:
        write_json(arguments.json, arguments, {"groups": told})
    if arguments.chunks or arguments.no_verdict:
        return 0
    verdict = f"no: {'; '.join(missed)}" if missed else "yes"
    print(f"ours within {WITHIN - 1:.0%} of the cheaper of pwrite and splice: {verdict}")
    if undecided:
        print(f"undecided, for others disturbed it: {'; '.join(undecided)}")
    return 1 if missed else 0


@contextlib.contextmanager
def _served(arguments: argparse.Namespace) -> Iterator[tuple[Nginx, Transport, list[Body], Path]]:
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="kithara-bench-", dir=TMPFS))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        if shutil.disk_usage(folder).free < 3 * max(arguments.sizes):
            raise SystemExit(f"{TMPFS} needs {_said(3 * max(arguments.sizes))} of room")
        authority = Authority(folder)
        nginx = Nginx(folder, authority)
        stack.callback(nginx.stop)
        transport = Transport(TransportSettings(verify=str(authority.ca), trust_env=False))
        stack.callback(transport.close)
        bodies = [Body(nginx.www / f"{size}.bin", size) for size in sorted(arguments.sizes)]
        for body in bodies:
            stack.callback(body.close)
        yield nginx, transport, bodies, folder


def _ways(transport: Transport, body: Body, files: Files, count: int, *, secure: bool, chunks: bool) -> list[Subject]:
    if chunks:
        return [Way(f"pwrite {_said(chunk)}", _own(1 << 62, chunk), transport, body, files, count) for chunk in CHUNKS]
    fetches = {"ours": _own(None), "pwrite": _own(1 << 62), "splice": _own(1), "mapping": _mapping, "urllib3": _urllib3}
    if secure:
        del fetches["pwrite"], fetches["splice"]
    return [Way(name, fetch, transport, body, files, count) for name, fetch in fetches.items()]


def _rounds(
    nginx: Nginx, body: Body, folder: Path, count: int, arguments: argparse.Namespace, *, secure: bool
) -> Rounds:
    return Rounds(
        lambda words: nginx.url(f"{body.path.name}?n={words}", secure=secure),
        nginx.pids,
        folder,
        body.size * count,
        arguments.rounds,
        arguments.seed,
        patient=not arguments.smoke,
    )


def cpu_of_sample(samples: Sequence[Sample]) -> float:
    """The median of the CPU seconds of this process."""
    return statistics.median(sample.client for sample in samples)


def within(taken: Taken) -> bool:
    """Whether ours takes little more CPU than the cheaper of the two ways it has."""
    own = [cpu_of_sample(taken.samples[name]) for name in ("pwrite", "splice") if name in taken.samples]
    return not own or cpu_of_sample(taken.samples["ours"]) <= WITHIN * min(own)


def print_ways(title: str, taken: Taken, size: int, count: int) -> None:
    """The group as a table; `size` bytes in `count` bodies were one sample."""
    cpu = {name: cpu_of_sample(samples) for name, samples in taken.samples.items()}
    seconds = {name: statistics.median(each.seconds for each in samples) for name, samples in taken.samples.items()}
    heads = ("CPU s/GiB", "x cheapest", "GiB/s", "of fastest", "CPU us each")
    print(f"\n{title:24}" + "".join(f"{head:>12}" for head in heads))
    for name in cpu:
        cells = (
            f"{cpu[name] * GIB / size:.2f}",
            f"{cpu[name] / min(cpu.values()):.2f}",
            f"{size / GIB / seconds[name]:.2f}",
            f"{min(seconds.values()) / seconds[name]:.2f}",
            f"{cpu[name] / count * 1e6:.0f}",
        )
        print(f"{name:24}" + "".join(f"{cell:>12}" for cell in cells))
    print_disturbance(taken)


def _file_system(folder: Path) -> str:
    done = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _said(size: int) -> str:
    unit = next((unit for unit in "GMK" if size % _UNITS[unit] == 0), "")
    return f"{size // _UNITS[unit]}{unit}" if unit else str(size)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part[:-1]) * _UNITS[part[-1]] for part in text.upper().split(","))
    except (KeyError, ValueError, IndexError):
        raise argparse.ArgumentTypeError(f"must be like {','.join(map(_said, SIZES))}, not {text!r}") from None
    if min(sizes) < 16 * KIB:
        raise argparse.ArgumentTypeError("bodies have at least 16K")
    return sizes
