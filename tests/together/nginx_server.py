"""A real nginx on loopback, run as the current user, with everything it writes in one directory."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from actors.clock import monotonic

__all__ = ["NginxServer", "Request"]

_SLOW = "/slow/"
_LIMIT_SECONDS = 10.0
_WORKERS = 2
_DIES_WITH_US = ("setpriv", "--pdeathsig", "TERM")
_TEMPORARY = ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")


@dataclass(frozen=True, slots=True)
class Request:
    """One line of the access log, written by nginx when the answer has ended."""

    line: str
    path: str
    status: int
    range: str | None
    if_range: str | None
    body_bytes: int
    """Bytes of the body that were sent, without the header; fewer than the length if the client went away."""
    connection: int
    """Serial number of the TCP connection: equal numbers mean that it was reused."""


class NginxServer:
    """Serves the files of `root`; a context manager, stopped and removed entirely at its end.

    `rates` maps a location (`"/slow/"`) to nginx's `limit_rate` for each of its answers (`"250k"` is
    250 KiB/s, near 2 Mbit/s); under each location the same files are served. Everything else is unlimited.
    nginx lets one second's worth through at once, then keeps the rate.

    `held` maps a location to how much of each answer is sent (`"512k"`): then comes a byte a second, so the
    rest of a larger file never does.
    """

    def __init__(
        self,
        rates: Mapping[str, str] | None = None,
        *,
        held: Mapping[str, str] | None = None,
        parent: Path | None = None,
    ) -> None:
        self._rates = dict({_SLOW: "250k"} if rates is None else rates)
        self._rates.update({place: f"1; limit_rate_after {size}" for place, size in (held or {}).items()})
        self._parent = parent if parent is not None else _fast_directory()
        self._home = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._held = -1
        self._place: socket.socket | None = None
        self.port = 0
        self.root = Path()

    def __enter__(self) -> Self:
        binary = _binary()
        self._home = Path(tempfile.mkdtemp(prefix="kithara-nginx-", dir=self._parent))
        # Held open, the directory is seen to be this run's by the leak check of another run on the machine.
        self._held = os.open(self._home, os.O_RDONLY | os.O_DIRECTORY)
        self.root = self._home / "files"
        try:
            self.root.mkdir()
            # Bound and never listening, it keeps the port ours while nginx is down: connections are refused then.
            self._place = socket.socket()
            self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._place.bind(("127.0.0.1", 0))
            self.port = self._place.getsockname()[1]
            self._start(binary)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def url(self, path: str) -> str:
        """The unlimited address of a file, given its path below `root`."""
        return f"http://127.0.0.1:{self.port}/{path.lstrip('/')}"

    def slow_url(self, path: str) -> str:
        """The address of the same file at the rate of `/slow/`."""
        return self.url(_SLOW + path.lstrip("/"))

    def log(self, path: str | None = None, *, at_least: int = 0) -> list[Request]:
        """The requests that have ended so far, oldest first; `path` as the client sent it keeps only its own.

        nginx writes a line after the client has read the answer: with `at_least` this blocks until so many
        are there, and raises TimeoutError after 10 seconds.
        """
        end = monotonic() + _LIMIT_SECONDS
        pause = threading.Event()
        while True:
            text = (self._home / "access.log").read_text(encoding="utf-8")
            requests = [_request(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
            chosen = [request for request in requests if path is None or request.path == path]
            if len(chosen) >= at_least:
                return chosen
            if monotonic() > end:
                raise TimeoutError(f"{len(chosen)} of {at_least} requests in the access log")
            pause.wait(0.005)

    def restart(self) -> None:
        """Ends nginx with every open transfer, and starts it again on the same port, with files and log kept."""
        self._end()
        self._start(_binary())

    def stop(self) -> None:
        """Ends nginx and its workers at once, open transfers too, and removes its directory; idempotent."""
        self._end()
        if self._place is not None:
            self._place.close()
            self._place = None
        if self._held >= 0:
            shutil.rmtree(self._home)
            os.close(self._held)
            self._held = -1

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_LIMIT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, binary: str) -> None:
        configuration = self._home / "nginx.conf"
        # nginx adopts a listening socket named in NGINX, as it does when its binary is replaced under load:
        # no free port to guess, and connections wait in the queue until it is ready.
        with socket.create_server(("127.0.0.1", self.port), backlog=511) as listener:
            # Left as it is by nginx: two of its workers race for a connection, and the slower one would block.
            listener.setblocking(False)
            configuration.write_text(self._configuration(binary), encoding="utf-8")
            number = listener.fileno()
            self._process = subprocess.Popen(
                [
                    *_DIES_WITH_US,
                    binary,
                    "-e",
                    f"{self._home}/error.log",
                    "-p",
                    f"{self._home}/",
                    "-c",
                    configuration,
                ],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "NGINX": f"{number};"},
                pass_fds=[number],
            )
        try:
            with urllib.request.urlopen(self.url("/-/ready"), timeout=_LIMIT_SECONDS) as answer:
                answer.read()
            self._await_workers(self._process.pid)
        except OSError as error:
            said = self._home / "error.log"
            raise RuntimeError(
                f"nginx did not start (exit code {self._process.poll()}): "
                f"{said.read_text(encoding='utf-8') if said.exists() else 'no error log'}"
            ) from error

    def _await_workers(self, master: int) -> None:
        """One answers while the other is still to come, which would be taken for something that a test left behind."""
        end = monotonic() + _LIMIT_SECONDS
        pause = threading.Event()
        while len(Path(f"/proc/{master}/task/{master}/children").read_text().split()) < _WORKERS:
            if monotonic() > end:
                raise TimeoutError("nginx has not started all of its workers")
            pause.wait(0.005)

    def _configuration(self, binary: str) -> str:
        built = subprocess.run([binary, "-V"], capture_output=True, text=True, check=True).stderr
        temporary = "\n    ".join(
            f"{name}_temp_path {self._home}/{name};"
            for name in _TEMPORARY
            if f"--without-http_{name}_module" not in built
        )
        locations = "\n        ".join(
            f"location {place} {{ alias {self.root}/; limit_rate {rate}; }}" for place, rate in self._rates.items()
        )
        # Started by root, the workers would give up root and could not read a directory of root's.
        user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
        return f"""
{user}
daemon off;
worker_processes {_WORKERS};
pid {self._home}/nginx.pid;
error_log {self._home}/error.log warn;
events {{ worker_connections 2048; }}
http {{
    {temporary}
    log_format requests escape=json '{{"line": "$request", "path": "$request_uri", "status": $status,'
        ' "range": "$http_range", "if_range": "$http_if_range", "body_bytes": $body_bytes_sent,'
        ' "connection": $connection}}';
    access_log {self._home}/access.log requests;
    default_type application/octet-stream;
    types {{
        audio/aac aac; audio/flac flac; audio/mp4 m4a; audio/mpeg mp3; audio/ogg ogg opus; audio/wav wav;
        text/html html; video/mp4 mp4; video/webm webm;
    }}
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    lingering_close off;
    server {{
        listen 127.0.0.1:{self.port};
        root {self.root};
        location = /-/ready {{ access_log off; return 204; }}
        {locations}
    }}
}}
"""


def _binary() -> str:
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise FileNotFoundError("nginx is not installed: apt-get install nginx-light")
    return found


def _fast_directory() -> Path:
    """Memory if it can be written: the disk then has no part in what is measured or timed."""
    memory = Path(os.environ.get("KITHARA_TESTS_MEMORY", "/dev/shm"))
    return memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


def _request(line: str) -> Request:
    fields = json.loads(line)
    return Request(**{**fields, "range": fields["range"] or None, "if_range": fields["if_range"] or None})
