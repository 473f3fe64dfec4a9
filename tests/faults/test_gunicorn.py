"""F20 with a real pre-fork server: systems are started after the fork; one from before it refuses, and goes on."""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from host_kit import GONE, HANG, ROOT, Host, until

from kithara_actors.testing.origin import Origin, Resource, body

pytestmark = pytest.mark.servers

SIZE = 3_000_000

SETTINGS = """
bind = "127.0.0.1:0"
workers = 2
graceful_timeout = 10
control_socket_disable = True

def when_ready(server):
    print("port", server.LISTENERS[0].getsockname()[1], flush=True)
"""

APP = """
import os
from kithara_actors import ActorSystem, SystemStopped

systems = {}

def system():
    if os.getpid() not in systems:
        systems[os.getpid()] = ActorSystem.start(workers=1)
    return systems[os.getpid()]

def app(environ, start_response):
    if environ["PATH_INFO"] == "/pids":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{os.getpid()} {' '.join(map(str, system().workers().values()))}".encode()]
    stream = system().open(os.environ["ORIGIN"] + environ["PATH_INFO"])
    stream.seekable()
    start_response("200 OK", [("Content-Type", "audio/mpeg"), ("Content-Length", str(stream.length))])
    return stream  # gunicorn closes what it is given
"""

# In the master: a system, and a stream of it that is read before the fork and after.
PRELOADED = """
import hashlib, os, threading
from kithara_actors import ActorSystem, SystemStopped

system = ActorSystem.start(workers=1)
stream = system.open(os.environ["ORIGIN"] + "/slow")
first = stream.read(1000)
pids = system.workers()

def app(environ, start_response):
    refusals = []
    for call in (lambda: system.open(os.environ["ORIGIN"] + "/whole"), lambda: stream.read(10), system.wait):
        try:
            call()
        except SystemStopped as error:
            refusals.append(str(error))
    start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
    return ["; ".join(refusals).encode()]

def finish():
    rest = stream.read()
    digest = hashlib.sha256(first + rest).hexdigest()
    print("master", digest, system.workers() == pids, system.stop(), flush=True)
"""
FINISH = """
def on_exit(server):
    import media
    media.finish()
"""


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with Origin() as origin:
        origin.add("/whole", Resource(SIZE, seed=1))
        origin.add("/slow", Resource(SIZE, seed=2, rate=1_500_000.0))
        yield origin.base


class Gunicorn:
    """A master with its workers, and requests to it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        while not (line := host.line()).startswith("port"):
            assert host.process.poll() is None, host.process.communicate()
        self.port = int(line.split()[1])

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def workers(self) -> list[int]:
        """Its own, which serve."""
        children = Path(f"/proc/{self.host.process.pid}/task/{self.host.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def stop(self) -> tuple[int, str, str]:
        self.host.process.send_signal(signal.SIGTERM)
        return self.host.end()


@contextmanager
def gunicorn(folder: Path, app: str, settings: str, base: str, *options: str) -> Iterator[Gunicorn]:
    (folder / "media.py").write_text(app)
    (folder / "settings.py").write_text(settings)
    path = os.pathsep.join((str(ROOT), str(folder)))
    arguments = ("-m", "gunicorn", "-c", str(folder / "settings.py"), *options, "media:app")
    host = Host(None, *arguments, flags=(), env={"PYTHONPATH": path, "ORIGIN": base}, cwd=folder)
    try:
        yield Gunicorn(host)
        assert until(lambda: host.alive() == [], GONE), f"left running: {host.alive()}"
        assert host.names() == []
    finally:
        host.close()


KINDS = {"sync": ("-k", "sync"), "gthread": ("-k", "gthread", "--threads", "4")}


@pytest.mark.parametrize("kind", KINDS)
def test_f20_gunicorn_whose_workers_start_a_system_each(tmp_path: Path, base: str, kind: str) -> None:
    with gunicorn(tmp_path, APP, SETTINGS, base, *KINDS[kind]) as server, ThreadPoolExecutor(8) as pool:
        paths = [f"/whole?{number}" for number in range(12)] + ["/slow"] * 4
        for path, (status, data) in zip(paths, pool.map(server.get, paths), strict=True):
            assert status == 200
            assert data == body(2 if path == "/slow" else 1, 0, SIZE)
        # One of its workers is killed with a system in it: another takes its place, and starts its own.
        _, told = server.get("/pids")
        serving, *fetching = map(int, told.split())
        os.kill(serving, signal.SIGKILL)
        assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in fetching), GONE)
        assert until(lambda: len(server.workers()) == 2, GONE)
        assert server.get("/whole") == (200, body(1, 0, SIZE))
        status, _, errors = server.stop()
        assert status == 0
        assert "Traceback" not in errors


@pytest.mark.parametrize("kind", KINDS)
def test_f20_gunicorn_that_has_loaded_a_system_before_the_fork(tmp_path: Path, base: str, kind: str) -> None:
    with gunicorn(tmp_path, PRELOADED, SETTINGS + FINISH, base, "--preload", *KINDS[kind]) as server:
        with ThreadPoolExecutor(4) as pool:
            for status, text in pool.map(server.get, ["/"] * 8):
                assert status == 503
                assert text.decode() == "; ".join(
                    ["this system runs in the process that forked this one; start one after the fork"] * 3
                )
        # Children come and go; the master's system does not mind.
        before = server.workers()
        os.kill(before[0], signal.SIGTERM)
        assert until(lambda: before[0] not in server.workers() and server.get("/")[0] == 503, GONE)
        status, output, errors = server.stop()
        digest = hashlib.sha256(body(2, 0, SIZE)).hexdigest()
        assert status == 0
        assert output.splitlines()[-1] == f"master {digest} True []"
        assert "Traceback" not in errors
