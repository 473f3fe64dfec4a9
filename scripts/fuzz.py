#!/usr/bin/env python
"""Feeds what a server may send to the code that reads it: only the package's own errors may come out.

    scripts/fuzz.py                     # every target for 10 s, at random
    scripts/fuzz.py --seconds 300 head  # one target; guided by coverage where atheris is installed
    scripts/fuzz.py --runs 5000 --seed 7 --random

Prints executions per second. Ends with status 1 and the input, as a Python literal, on the first finding.
"""

from __future__ import annotations

import argparse
import http.client
import importlib
import io
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import urllib3.exceptions

from actors.clock import monotonic
from kithara_actors.errors import KitharaError
from kithara_actors.logic.naming import canonical_url, redact
from kithara_actors.logic.response import (
    Accepted,
    Asked,
    Reask,
    check,
    http_date,
    redirect,
    request_headers,
    strong_validator,
)
from kithara_actors.values import Validator
from kithara_actors.worker.attempt import Attempt
from kithara_actors.worker.connections import _Response
from kithara_actors.worker.http import translate

__all__ = ["SEEDS", "TARGETS", "main"]

_CAUGHT: Final = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)
"""What the transport takes for a bad answer; anything else would pass it by."""

_DATE: Final = "Wed, 21 Oct 2015 07:28:00 GMT"

SEEDS: Final[tuple[bytes, ...]] = (
    b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 100\r\n\r\n",
    b'HTTP/1.1 206 Partial Content\r\nETag: "one"\r\nContent-Range: bytes 8-15/100\r\nContent-Length: 8\r\n\r\n',
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-99/*\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */100\r\n\r\n",
    b"HTTP/1.1 503 Slow Down\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\nDate: " + _DATE.encode() + b"\r\n\r\n",
    b"HTTP/1.1 429 Too Many\r\nRetry-After: 120\r\nContent-Encoding: gzip, identity\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: //other.example:8080/a%20b?c=d#e\r\n\r\n",
    b"HTTP/1.1 307 Temporary Redirect\r\nLocation: ../x\xc3\xa9y?\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
    b"HTTP/1.0 200\r\nContent-Type: text/html;charset=x\r\nLast-Modified: Wednesday, 21-Oct-15 07:28:00 GMT\r\n\r\n",
    b"Wed Oct 21 07:28:00 2015",
    b"Wed, 21 Oct 2015 07:28:60 +9999",
    b"https://user:pass@[::1]:99999/a/../b?token=x",
    b"http://xn--a.example./%zz",
)


class _Wire:
    """A socket that has received all it ever will."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self._data))

    def gettimeout(self) -> None:
        """It never waits."""


def _asked(data: bytes) -> Asked:
    """A question that follows from the first bytes of the answer."""
    one, two, three = (*data[:3], 0, 0, 0)[:3]
    validators = (
        None,
        Validator('"one"'),
        Validator('W/"one"'),
        Validator(None, _DATE, "Wed, 21 Oct 2015 07:29:00 GMT"),
    )
    start = (0, 0, 8, 1 << 62)[one % 4]
    return Asked(
        start,
        (None, start + 8, start + 100)[two % 3],
        ranged=two % 5 != 0,
        total=(None, 100)[three % 2],
        validator=validators[three % 4],
        refuse_html=one % 3 != 0,
        identity=one % 5 != 0,
    )


def _sound(asked: Asked, answer: Accepted | Reask) -> None:
    if isinstance(answer, Reask):
        assert asked.ranged, "asked again without a Range that was not sent"
        return
    assert answer.start == (asked.start if answer.partial else 0), "accepted another place"
    if answer.end is not None:
        assert answer.start <= answer.end, "accepted a reversed interval"
        assert answer.total is not None, "accepted an end without a total"
        assert answer.end <= answer.total < 1 << 63, "accepted bytes behind the total"
    if answer.partial:
        assert answer.end is not None, "accepted a part without an end"
        assert asked.end is None or answer.end <= asked.end, "accepted more than was asked for"


def _check(asked: Asked, status: int, headers: Mapping[str, str]) -> None:
    try:
        request_headers(asked)
        _sound(asked, check(asked, status, headers))
    except KitharaError:
        pass


def _redirect(url: str, status: int, location: str | None) -> None:
    try:
        following = redirect(
            url, status, location, allow_downgrade=False, headers={"Authorization": "x", "Accept": "y"}
        )
    except KitharaError:
        return
    if following is None:
        return
    target, kept = following
    assert target.isascii(), "a URL with characters that no request line can have"
    assert target.startswith(("http://", "https://")), "led out of http"
    assert not any(byte <= 0x20 or byte == 0x7F for byte in target.encode()), "a control character in a URL"
    assert not (url.startswith("https:") and target.startswith("http:")), "led from https to http"
    assert canonical_url(target) == target, "not canonical"
    if "Authorization" in kept:
        assert target.split("/")[:3] == canonical_url(url).split("/")[:3], "a credential for another origin"


def head(data: bytes) -> None:
    """The bytes of a response's head, through http.client as the worker has it, then through every check."""
    response = _Response(_Wire(data), method="GET")
    try:
        response.begin()
    except _CAUGHT as error:
        attempt = Attempt()
        attempt.where = "origin.example:80"
        told = translate(error, attempt, 1.0)
        assert isinstance(told, KitharaError), f"translated to {told!r}"
        assert "\n" not in str(told), "an error text of several lines"
        return
    finally:
        response.close()
    headers = dict(response.getheaders())
    _check(_asked(data[9:]), response.status, headers)
    _redirect("https://origin.example/a/b?token=x", response.status, response.getheader("location"))


def fields(data: bytes) -> None:
    """Header fields as text, one a line, each name with any value."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    headers = {name: value for name, _, value in (line.partition(":") for line in lines)}
    for status in (200, 206, 416, 503, int.from_bytes(data[:2], "big")):
        _check(_asked(data), status, headers)
    strong_validator(Validator(headers.get("ETag"), headers.get("Last-Modified"), headers.get("Date")))


def location(data: bytes) -> None:
    """A Location, as the bytes of a header are decoded and as any text."""
    for text in (data.decode("latin-1"), data.decode("utf-8", "replace")):
        for base in ("http://origin.example/a", "https://[2001:db8::1]:8443/x/y?token=z", "HTTP://origin.example"):
            _redirect(base, 302, text)
        redact(text)


def date(data: bytes) -> None:
    """An HTTP-date."""
    moment = http_date(data.decode("latin-1"))
    assert moment is None or moment.tzinfo is not None, "a date without a zone"


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "head": head,
    "fields": fields,
    "location": location,
    "date": date,
}

_WORDS: Final = tuple(
    {word for seed in SEEDS for word in seed.replace(b"\r\n", b" ").split(b" ") if word}
    | {
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b",",
        b":",
        b"-1",
        b"18446744073709551616",
        b"9" * 30,
        b"\xff\xfe",
        b"\xe2\x80\xa8",
    }
)


def _mutated(source: random.Random) -> bytes:
    data = bytearray(source.choice(SEEDS))
    for _ in range(source.randrange(6)):
        at = source.randrange(len(data) + 1)
        end = min(len(data), at + source.randrange(12))
        match source.randrange(5):
            case 0:
                data[at:end] = b""
            case 1:
                data[at:at] = source.choice(_WORDS)
            case 2:
                data[at:end] = source.randbytes(source.randrange(4))
            case 3:
                data[at:at] = data[at:end] * source.choice((1, 2, 50))
            case _:
                data[at:end] = source.choice(_WORDS)
    return bytes(data)


def _at_random(name: str, seed: int, runs: int | None, seconds: float) -> bool:
    """Whether nothing was found."""
    target, source = TARGETS[name], random.Random(f"{name} {seed}")
    began = monotonic()
    done = 0
    while done < runs if runs is not None else monotonic() < began + seconds:
        data = _mutated(source)
        done += 1
        try:
            target(data)
        except Exception as error:  # noqa: BLE001 - any is a finding
            print(f"{name}: finding after {done} executions: {error!r}\n  input: {data!r}")
            return False
    took = max(monotonic() - began, 1e-9)
    print(f"{name}: no finding in {done} executions, {done / took:.0f} a second (random, seed {seed})")
    return True


def _guided(name: str, seed: int, runs: int | None, seconds: float) -> bool:
    """The same by coverage, in a process of its own: libFuzzer ends the process that it runs in."""
    limit = f"-runs={runs}" if runs is not None else f"-max_total_time={max(1, round(seconds))}"
    command = [sys.executable, os.path.abspath(__file__), "--inside", name, limit, f"-seed={seed + 1}"]  # noqa: PTH100
    print(f"{name}: guided by coverage", flush=True)
    return subprocess.run(command).returncode == 0


def _inside(name: str, flags: list[str]) -> None:
    atheris = importlib.import_module("atheris")
    target = TARGETS[name]

    def one(data: bytes) -> None:
        try:
            target(data)
        except Exception as error:
            print(f"{name}: finding: {error!r}\n  input: {data!r}", flush=True)
            raise

    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(SEEDS):
            Path(folder, str(number)).write_bytes(seed)
        # A fork is what libFuzzer ends; the folder outlives it.
        child = os.fork()
        if child == 0:
            atheris.instrument_all()
            atheris.Setup([sys.argv[0], *flags, "-max_len=4096", f"-artifact_prefix={folder}/", folder], one)
            atheris.Fuzz()
            os._exit(0)
        sys.exit(1 if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) else 0)


def _has_atheris() -> bool:
    try:
        importlib.import_module("atheris")
    except ImportError:
        return False
    return True


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0, or 1 for a finding."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--inside"]:
        _inside(arguments[1], arguments[2:])
        return 0
    parser = argparse.ArgumentParser(description="Fuzz the code that reads what servers send.")
    parser.add_argument("target", nargs="*", help=f"of {', '.join(TARGETS)}; all if none is named")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target (10)")
    parser.add_argument("--runs", type=int, help="executions of each target, instead of seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random", action="store_true", help="without coverage, even where atheris is installed")
    options = parser.parse_args(arguments)
    unknown = set(options.target) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    fuzz = _at_random if options.random or not _has_atheris() else _guided
    # Every one is run, also behind a finding.
    clean = [fuzz(name, options.seed, options.runs, options.seconds) for name in options.target or TARGETS]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
