"""A server of OpenSSL that renews its keys, or negotiates anew, in the middle of an answer."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest
from transport_kit import HANG, Bench, Papers, bench, media, papers

from kithara_actors.errors import ConnectError
from kithara_actors.worker import body as byte_path
from kithara_actors.worker import framing

__all__ = ["bench", "papers"]

pytestmark = pytest.mark.servers

DATA = media(60_000).hex().encode()


@contextmanager
def s_server(papers: Papers, *options: str) -> Iterator[tuple[int, IO[bytes], IO[bytes]]]:
    """Port, input and output of `openssl s_server`: lines go to the client, some of one letter are commands."""
    issued = papers.ca.issue_cert("127.0.0.1")
    pem = papers.folder / "server.pem"
    pem.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", str(pem), "-naccept", "1", *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(until(process.stdout, b"ACCEPT").rpartition(b":")[2])
        yield port, process.stdin, process.stdout
    finally:
        process.kill()
        process.wait(HANG)
        process.stdout.close()
        process.stdin.close()


def until(output: IO[bytes], text: bytes) -> bytes:
    """The next line with that in it."""
    for line in output:
        if text in line:
            return line
    raise AssertionError(f"the server ended before it said {text!r}")


def until_read(pipe: IO[bytes]) -> None:
    """Until the other end has taken what was written: polled, as a pipe does not tell."""
    gate = threading.Event()
    for _ in range(int(HANG / 0.002)):
        if int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder) == 0:
            return
        gate.wait(0.002)
    raise AssertionError("the server does not read")


@pytest.mark.parametrize(
    ("version", "command", "goes_on"),
    [("-tls1_3", b"k", True), ("-tls1_3", b"K", True), ("-tls1_2", b"r", True), ("-tls1_2", b"R", None)],
)
@pytest.mark.parametrize("way", ["buffered", "public"])
def test_new_keys_within_a_body(
    bench: Bench,
    papers: Papers,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    command: bytes,
    goes_on: bool | None,
    way: str,
) -> None:
    """R asks for a certificate as well, which we have not: the server may break off."""
    if way == "public":
        monkeypatch.setattr(byte_path, "framing_of", lambda response, *_: framing._Public(response))
    half = len(DATA) // 2
    with s_server(papers, version) as (port, says, hears):
        via = bench.transport(verify=papers.bundle)
        fetch = bench.fetch(via, f"https://127.0.0.1:{port}/")
        # A command must come in a piece of its own.
        landed = threading.Event()
        fetch.sink.publish = lambda at: landed.set() if at > half else None
        fetch.start()
        until(hears, b"Accept: ")
        says.write(b"HTTP/1.1 200 OK\nContent-Length: %d\n\n%b" % (len(DATA) + 2, DATA[:half] + b"\n"))
        says.flush()
        assert landed.wait(HANG)
        says.write(command + b"\n")
        says.flush()
        until_read(says)
        says.write(DATA[half:] + b"\n")
        says.flush()
        fetch.join()
        if goes_on or fetch.error is None:
            assert fetch.error is None, repr(fetch.error)
            assert fetch.bytes() == DATA[:half] + b"\n" + DATA[half:] + b"\n"
        else:
            assert isinstance(fetch.error, ConnectError)
            assert (DATA[:half] + b"\n" + DATA[half:] + b"\n").startswith(fetch.bytes())
        via.close()
