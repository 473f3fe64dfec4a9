"""Servers that the world runs, each on a loopback port with files of its own: lighttpd with TLS, Python's own."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from nginx_server import NginxServer

__all__ = ["Authority", "ContraryNginx", "LighttpdServer", "python_server"]

_LIMIT_SECONDS = 10.0

_ADOPT = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Hands a listening socket to a program in the way of systemd: as descriptor 3, named by the process's own id."""


class ContraryNginx(NginxServer):
    """nginx that compresses whatever its client takes; with `/coded/`, which says so of what was not compressed,
    `/page/`, where all is HTML, and `/bare/`, without validators."""

    def _configuration(self, binary: str) -> str:
        text = super()._configuration(binary)
        compress = "gzip on; gzip_types *; gzip_min_length 0; gzip_proxied any;"
        coded = f"location /coded/ {{ alias {self.root}/; add_header Content-Encoding gzip; }}"
        page = f"location /page/ {{ alias {self.root}/; types {{ }} default_type text/html; }}"
        bare = f'location /bare/ {{ alias {self.root}/; etag off; add_header Last-Modified ""; }}'
        return text.replace("sendfile on;", f"sendfile on; {compress}").replace(
            "location = /-/ready", f"{coded} {page} {bare} location = /-/ready"
        )


class Authority:
    """A private certificate authority in `folder`, by the `openssl` command: `path` is what its clients trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "ca.pem"
        self._key = folder / "ca.key"
        self._openssl(
            "req", "-x509", *self._new(self._key), "-out", self.path, "-days", "2", "-subj", "/CN=Test authority"
        )

    def issue(self, name: str) -> Path:
        """A file with the key and the certificate of a host: `localhost`, or an address."""
        key, request, out = (self._folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        self._openssl("req", *self._new(key), "-out", request, "-subj", f"/CN={name}")
        extra = self._folder / f"{name}.ext"
        kind = "IP" if name[0].isdigit() else "DNS"
        extra.write_text(f"subjectAltName={kind}:{name}\n")
        signed = ["-CA", self.path, "-CAkey", self._key, "-CAcreateserial", "-days", "2", "-extfile", extra]
        self._openssl("x509", "-req", "-in", request, "-out", out, *signed)
        out.write_text(key.read_text() + out.read_text())
        return out

    @staticmethod
    def _new(key: Path) -> list[str | Path]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key]

    @staticmethod
    def _openssl(*arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=_LIMIT_SECONDS)


class LighttpdServer:
    """lighttpd on the files of `root`, with TLS by a file of `Authority.issue`; a context manager.

    Under `/down/` it redirects to the address given by `down`.
    """

    def __init__(self, certificate: Path, down: str = "http://localhost/") -> None:
        self._certificate = certificate
        self._down = down
        self._home = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.root = Path()

    def __enter__(self) -> Self:
        self._home = Path(tempfile.mkdtemp(prefix="kithara-lighttpd-"))
        self.root = self._home / "files"
        self.root.mkdir()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def url(self, path: str, host: str = "localhost") -> str:
        return f"https://{host}:{self.port}/{path.lstrip('/')}"

    def stop(self) -> None:
        """End it with every open transfer, and remove its files; idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_LIMIT_SECONDS)
        shutil.rmtree(self._home, ignore_errors=True)

    def _start(self) -> None:
        binary = shutil.which("lighttpd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if binary is None:
            raise FileNotFoundError("lighttpd is not installed: apt-get install lighttpd lighttpd-mod-openssl")
        # It takes a listening socket from its parent: no free port to guess, and connections wait until it is ready.
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            self.port = listener.getsockname()[1]
            configuration = self._home / "lighttpd.conf"
            configuration.write_text(
                f"""
server.modules = ("mod_openssl", "mod_redirect")
server.document-root = "{self.root}"
server.bind = "127.0.0.1"
server.systemd-socket-activation = "enable"
server.port = {self.port}
server.errorlog = "{self._home}/error.log"
ssl.engine = "enable"
ssl.pemfile = "{self._certificate}"
mimetype.assign = (".mp3" => "audio/mpeg")
url.redirect = ("^/down/(.*)$" => "{self._down}$1")
"""
            )
            command = [binary, "-D", "-f", str(configuration)]
            self._process = subprocess.Popen(
                [
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                    sys.executable,
                    "-IS",
                    "-c",
                    _ADOPT,
                    str(listener.fileno()),
                    *command,
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
            )


@contextmanager
def python_server(root: Path) -> Iterator[str]:
    """The address of Python's own http.server on `root`: HTTP/1.0, whole files, whatever Range asks for."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Nothing: what a test prints is for its failures."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = False

        def handle_error(self, *arguments: object) -> None:
            """A client that leaves in the middle is what is tested."""

    with Server(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="http.server")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(_LIMIT_SECONDS)
