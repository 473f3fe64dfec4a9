"""The servers that bodies come from: nginx, with or without TLS, and whom its clients have to trust."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

from benches.machine import children

__all__ = ["Authority", "Nginx"]


class Authority:
    """A private certificate authority in `folder`, by the openssl command; issues for 127.0.0.1.

    `ca` is what clients trust, `certificate` the server's key and certificate in one file.
    """

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        self.certificate = folder / "server.pem"
        ca_key, key, asked, extra = (folder / name for name in ("ca.key", "server.key", "server.csr", "server.ext"))
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout")
        _openssl("req", "-x509", *new, ca_key, "-out", self.ca, "-days", "2", "-subj", "/CN=Bench authority")
        _openssl("req", *new, key, "-out", asked, "-subj", "/CN=127.0.0.1")
        extra.write_text("subjectAltName=IP:127.0.0.1\n")
        signing = ("-CA", self.ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2", "-extfile", extra)
        _openssl("x509", "-req", "-in", asked, "-out", self.certificate, *signing)
        self.certificate.write_text(key.read_text() + self.certificate.read_text())


def _openssl(*arguments: str | Path) -> None:
    if shutil.which("openssl") is None:
        raise SystemExit("the openssl command is not installed: apt-get install openssl")
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)


class Nginx:
    """nginx with two processes on a port of loopback, serving `folder`/www. Stopped by `stop`.

    With `authority` a second port, `secure_port`, serves the same by TLS.
    """

    def __init__(self, folder: Path, authority: Authority | None = None) -> None:
        if shutil.which("nginx") is None:
            raise SystemExit("nginx is not installed: apt-get install nginx-light")
        self.www = folder / "www"
        self.www.mkdir()
        self._folder = folder
        self._authority = authority
        for _ in range(5):
            self.port = _free_port()
            self.secure_port = 0 if authority is None else _free_port()
            self._process = self._start()
            if self._answers():
                break
            self.stop()
        else:
            raise SystemExit(f"nginx does not start:\n{(folder / 'error.log').read_text()}")
        self.pids = [self._process.pid, *children(self._process.pid)]

    def url(self, name: str, *, secure: bool = False) -> str:
        return f"https://127.0.0.1:{self.secure_port}/{name}" if secure else f"http://127.0.0.1:{self.port}/{name}"

    def context(self) -> ssl.SSLContext:
        """What a client of `secure_port` needs."""
        return ssl.create_default_context(cafile=None if self._authority is None else self._authority.ca)

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
        secure = ""
        if self._authority is not None:
            pem = self._authority.certificate
            secure = (
                f"listen 127.0.0.1:{self.secure_port} ssl; ssl_certificate {pem}; ssl_certificate_key {pem};"
                " ssl_protocols TLSv1.2 TLSv1.3;"
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
        {secure}
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
                return len(children(self._process.pid)) >= 2
            time.sleep(0.02)
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
