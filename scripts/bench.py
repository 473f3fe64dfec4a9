#!/usr/bin/env python3
"""Measures the whole system against its rivals on this machine: `bench.py single` is one large body, read to the end.

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
import dataclasses
import gc
import io
import json
import mmap
import os
import platform
import random
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import requests

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kithara_actors import ActorSystem

MIB = 1024 * 1024
GIB = 1024 * MIB
TMPFS = Path("/dev/shm")
BODY = "body.bin"
SAMPLE = 8
IDLE_WITHIN = 30.0
IDLE_SHARE = 0.15
"""Of one processor: what may be busy while nothing is measured."""
DISTURBED = 0.15
"""Of all processors: a sample during which others used more is taken again."""
AGAIN = 5
"""How often, for one sample."""


# --- The server


class Nginx:
    """nginx with two processes on a port of loopback, serving `folder`/www. Stopped by `stop`."""

    def __init__(self, folder: Path) -> None:
        self.www = folder / "www"
        self.www.mkdir()
        self._folder = folder
        for _ in range(5):
            self.port = _free_port()
            self._process = self._start()
            if self._answers():
                break
            self.stop()
        else:
            raise SystemExit(f"nginx does not start:\n{(folder / 'error.log').read_text()}")
        self.pids = [self._process.pid, *_children(self._process.pid)]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        folder = self._folder
        places = "\n".join(
            f"    {name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = folder / "nginx.conf"
        config.write_text(
            f"""\
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
{places}
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 600;
    keepalive_requests 1000000;
    server {{
        listen 127.0.0.1:{self.port};
        root {self.www};
    }}
}}
"""
        )
        command = ["nginx", "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def _answers(self) -> bool:
        for _ in range(200):
            if self._process.poll() is not None:
                return False
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return len(_children(self._process.pid)) >= 2
            time.sleep(0.02)
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# --- The body


class Body:
    """`size` bytes in a file of tmpfs: random, with the number of its page at the head of each page."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        block = bytearray(random.Random(size).randbytes(MIB))
        with path.open("wb") as file:
            for at in range(0, size, MIB):
                for page in range(0, MIB, 4096):
                    block[page : page + 8] = (at + page).to_bytes(8, "little")
                file.write(block[: size - at])
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
        self._view = memoryview(self._map)

    def close(self) -> None:
        self._view.release()
        self._map.close()

    def check(self, source: io.BufferedIOBase | io.RawIOBase) -> None:
        """Compare every byte that `source` gives. Raises SystemExit."""
        buffer = bytearray(MIB)
        view, at = memoryview(buffer), 0
        while count := source.readinto(buffer):
            if view[:count] != self._view[at : at + count]:
                raise SystemExit(f"wrong bytes between {at} and {at + count}")
            at += count
        self.check_length(at)

    def check_length(self, count: int) -> None:
        if count != self.size:
            raise SystemExit(f"{count} bytes instead of {self.size}")

    def check_samples(self, samples: Sequence[bytes], offset: int) -> None:
        """Compare what was taken at `offset` in each MiB."""
        ends = range(offset, self.size - SAMPLE + 1, MIB)
        if len(samples) < len(ends):
            raise SystemExit(f"{len(samples)} samples instead of {len(ends)}")
        for at, sample in zip(ends, samples, strict=False):
            if sample != self._view[at : at + SAMPLE]:
                raise SystemExit(f"wrong bytes at {at}")


def drain(source: io.BufferedIOBase | io.RawIOBase, buffer: bytearray, offset: int) -> tuple[int, list[bytes]]:
    """Read to the end as an application does, keeping a few bytes of each piece: the length and these."""
    readinto, total = source.readinto, 0
    samples: list[bytes] = []
    while count := readinto(buffer):
        total += count
        samples.append(bytes(buffer[offset : offset + SAMPLE]))
    return total, samples


# --- The subjects


@dataclass(frozen=True, slots=True)
class Sample:
    """One body. CPU in seconds: of the client with all its processes, and of nginx."""

    seconds: float
    client: float
    server: float
    others: float
    """CPU seconds that nobody of ours used meanwhile, as far as the kernel's ticks tell."""
    around: float
    """For curl the time around the process; else the same as `seconds`."""

    @property
    def others_share(self) -> float:
        """What others used of all processors meanwhile."""
        return self.others / self.around / (os.cpu_count() or 1)


class Meter:
    """Looks at the clocks when a subject begins and when it has its last byte."""

    def __init__(self, client: Sequence[int], server: Sequence[int]) -> None:
        self._client = client
        self._server = server
        self.sample: Sample | None = None

    def start(self) -> None:
        self._before = self._cpu()
        self._began = time.perf_counter()

    def stop(self) -> None:
        around = time.perf_counter() - self._began
        busy, client, server = (now - then for now, then in zip(self._cpu(), self._before, strict=True))
        self.sample = Sample(around, client, server, max(0.0, busy - client - server), around)

    def take(self, seconds: float) -> None:
        """Put a better figure in place of the seconds."""
        if self.sample is not None:
            self.sample = dataclasses.replace(self.sample, seconds=seconds)

    def _cpu(self) -> tuple[float, float, float]:
        return machine_busy(), own_cpu() + cpu_of(self._client), cpu_of(self._server)


@dataclass(frozen=True, slots=True)
class Place:
    """What a subject is given for one body. `full`: compare every byte, the timing does not count."""

    url: str
    scratch: Path
    buffer: bytearray
    offset: int
    full: bool


class Subject(Protocol):
    name: str

    def pids(self) -> Sequence[int]:
        """Processes beside this one that work for the subject."""

    def run(self, place: Place, meter: Meter) -> None:
        """Take the body once, between `meter.start()` and `meter.stop()`, then check it. Leaves nothing on tmpfs."""


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


# --- Measuring


def cpu_of(pids: Sequence[int]) -> float:
    """CPU seconds that processes have used so far, their ended threads included (clock_getcpuclockid(3))."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def own_cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def machine_busy() -> float:
    """CPU seconds that the whole machine has used so far, in steps of a tick."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def wait_idle() -> bool:
    """Wait until nobody uses the machine much; False if that does not happen soon."""
    deadline = time.monotonic() + IDLE_WITHIN
    while time.monotonic() < deadline:
        before, began = machine_busy(), time.monotonic()
        time.sleep(0.1)
        if machine_busy() - before <= IDLE_SHARE * (time.monotonic() - began):
            return True
    return False


def wait_free(pages: int) -> None:
    """Wait until tmpfs has about `pages` free pages again: a file goes when its last descriptor is closed."""
    deadline = time.monotonic() + 2.0
    while os.statvfs(TMPFS).f_bfree < pages - 1024 and time.monotonic() < deadline:
        time.sleep(0.005)


def touch_memory(size: int) -> None:
    """Have the hypervisor back that much memory, and leave it at the head of the kernel's free lists."""
    mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def measure(subject: Subject, place: Place, body: Body, nginx: Nginx) -> Sample:
    """One body through one subject, on a quiet machine."""
    gc.collect()
    free = os.statvfs(TMPFS).f_bfree
    if not wait_idle():
        print(" (somebody else keeps the machine busy)", end="", file=sys.stderr, flush=True)
    touch_memory(body.size + body.size // 2)
    meter = Meter(subject.pids(), nginx.pids)
    subject.run(place, meter)
    wait_free(free)
    assert meter.sample is not None
    return meter.sample


@dataclass(slots=True)
class Taken:
    """All samples by subject, round by round, and those that had to be taken again."""

    samples: dict[str, list[Sample]]
    dropped: dict[str, list[Sample]]


def run_rounds(subjects: Sequence[Subject], body: Body, nginx: Nginx, folder: Path, rounds: int, seed: int) -> Taken:
    """All subjects in each round, shuffled; the warm-up is left out of what is returned."""
    chance = random.Random(seed)
    buffer = bytearray(MIB)
    taken = Taken({subject.name: [] for subject in subjects}, {subject.name: [] for subject in subjects})
    for number in range(rounds + 1):
        print(f"round {number}:" if number else "warm-up:", end="", file=sys.stderr)
        for subject in chance.sample(subjects, len(subjects)):
            for go in range(AGAIN + 1):
                place = Place(
                    nginx.url(f"{BODY}?n={number}-{go}-{subject.name}"),
                    folder / f"{subject.name}.bin",
                    buffer,
                    chance.randrange(min(MIB, body.size) - SAMPLE),
                    number == 0,
                )
                sample = measure(subject, place, body, nginx)
                again = number > 0 and go < AGAIN and sample.others_share > DISTURBED
                print(
                    f" {subject.name} {sample.seconds:.3f}{'!' if again else ''}", end="", file=sys.stderr, flush=True
                )
                if not again:
                    break
                taken.dropped[subject.name].append(sample)
            if number:
                taken.samples[subject.name].append(sample)
        print(file=sys.stderr)
    return taken


# --- Telling


@dataclass(frozen=True, slots=True)
class Goal:
    """How many times as fast as a rival ours has to be."""

    rival: str
    least: float
    words: str


SINGLE_GOALS = (
    Goal("raw", 0.9, "at least 0.9 of raw"),
    Goal("curl", 1.0, "not slower than curl"),
    Goal("requests", 1.0, "not slower than requests"),
)


Samples = Mapping[str, Sequence[Sample]]


def median_of(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.seconds for sample in samples)


def print_table(samples: Samples, size: int) -> None:
    rivals = [name for name in samples if name != "ours"]
    heads = ["median s", "min", "max", "GiB/s", *(f"x {rival}" for rival in rivals), "CPU s/GiB", "nginx s/GiB"]
    print(f"{'':12}" + "".join(f"{head:>12}" for head in heads))
    for name, taken in samples.items():
        median = median_of(taken)
        seconds = [sample.seconds for sample in taken]
        cells = [f"{median:.3f}", f"{min(seconds):.3f}", f"{max(seconds):.3f}", f"{size / GIB / median:.2f}"]
        cells += [f"{median_of(samples[rival]) / median:.2f}" for rival in rivals]
        for field in ("client", "server"):
            used = statistics.median(getattr(sample, field) for sample in taken)
            cells.append(f"{used * GIB / size:.2f}")
        print(f"{name:12}" + "".join(f"{cell:>12}" for cell in cells))


def print_verdicts(samples: Samples, ours: str = "ours") -> bool:
    """One line a goal, from the ratio of the medians, with the ratios round by round behind it."""
    good = True
    for goal in SINGLE_GOALS:
        ratio = median_of(samples[goal.rival]) / median_of(samples[ours])
        reached = ratio >= goal.least
        good = good and reached
        pairs = zip(samples[goal.rival], samples[ours], strict=True)
        each = sorted(rival.seconds / own.seconds for rival, own in pairs)
        print(
            f"{goal.words}: {'yes' if reached else 'no'} ({ratio:.3f})"
            f"  [round by round {statistics.median(each):.2f}, {each[0]:.2f} to {each[-1]:.2f}]"
        )
    return good


def print_disturbance(taken: Taken) -> None:
    every = [sample for samples in taken.samples.values() for sample in samples]
    share = statistics.mean(sample.others_share for sample in every)
    again = ", ".join(f"{len(dropped)} of {name}" for name, dropped in taken.dropped.items() if dropped)
    left = sum(sample.others_share > DISTURBED for sample in every)
    print(
        f"CPU of the machine that others used meanwhile: {share:.0%}; samples taken again for that: {again or 'none'}"
        f"{f', and {left} left as they are: A DISTURBED RUN' if left else ''}"
    )


def _plain(samples: Samples) -> dict[str, list[dict[str, float]]]:
    return {name: [dataclasses.asdict(sample) for sample in taken] for name, taken in samples.items()}


def write_json(path: Path, taken: Taken, arguments: argparse.Namespace) -> None:
    told = {
        "command": arguments.command,
        "size": arguments.size * MIB,
        "rounds": arguments.rounds,
        "seed": arguments.seed,
        "machine": {
            "kernel": platform.release(),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "requests": requests.__version__,
        },
        "medians": {name: median_of(samples) for name, samples in taken.samples.items()},
        "samples": _plain(taken.samples),
        "dropped": _plain(taken.dropped),
    }
    path.write_text(json.dumps(told, indent=1) + "\n")


# --- The command


def single(arguments: argparse.Namespace) -> int:
    """One large body; 1 if a goal is missed."""
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
        taken = run_rounds(subjects, body, nginx, folder, arguments.rounds, arguments.seed)
    print(
        f"one body of {arguments.size} MiB, {arguments.rounds} rounds, {os.cpu_count()} CPUs, "
        f"Linux {platform.release()}, Python {platform.python_version()}; the ratios are of speed, above 1 is faster"
    )
    print_table(taken.samples, size)
    print_disturbance(taken)
    if arguments.json is not None:
        write_json(arguments.json, taken, arguments)
    if arguments.no_verdict:
        return 0
    return 0 if print_verdicts(taken.samples) else 1


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("single", help="one large body from a warm system, against raw, curl and requests")
    one.add_argument("--size", type=_positive, default=512, metavar="MIB", help="of the body (default 512)")
    one.add_argument("--rounds", type=_positive, default=9, help="counted ones, after one that is not (default 9)")
    one.add_argument("--workers", type=_positive, default=2, help="processes of ours (default 2)")
    one.add_argument("--seed", type=int, default=None, help="of the shuffling (default: another each time)")
    one.add_argument("--json", type=Path, default=None, metavar="FILE", help="where every sample is written")
    one.add_argument("--no-verdict", action="store_true", help="only report; exit with 0")
    one.set_defaults(run=single)
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = random.randrange(1 << 32)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
